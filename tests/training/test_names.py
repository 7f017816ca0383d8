"""Names are learnt by `medsam fit` as its user runs it, and answered by `medsam segment --text`."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny_training import shapes, tiny_model

from medsam.cli.main import main
from medsam.errors import InputError
from medsam.labels import english_phrases, nameable
from medsam.models.build import load_model
from medsam.models.heads import find_head
from medsam.models.name_bank import name_bank
from medsam.models.specs import tiny_spec
from medsam.training.names import threshold_of, volume_dice
from medsam.training.names_data import NamesDataModule, absent_names
from medsam.transforms.augment import AugmentSettings

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "train" / "names.yaml"
NAMES = {"disc": "left kidney", "bar": "Milz"}


def test_absent_names_are_apart_from_what_is_there_and_halved():
    learn = absent_names(["kidney_left"], ["brain"])
    test = absent_names(["kidney_left"], ["brain"], "test")
    assert not set(learn) & set(test)
    clear = [name for name in nameable() if "kidney" not in name.split("_") and not name.startswith("brain")]
    assert sorted([*learn, *test]) == sorted(clear)
    assert 0.4 < len(learn) / len(clear) < 0.6
    assert "lung_left" in clear  # "left" alone is nothing that they share


def test_a_threshold_loses_a_twentieth_of_what_is_there():
    presence, there = np.arange(100.0), np.arange(100) >= 59
    assert (presence[there] >= threshold_of(presence, there)).mean() == pytest.approx(0.95, abs=0.03)
    assert threshold_of(presence, np.zeros(100, bool)) == 0.0


def test_dice_of_volumes_empties_slices_below_the_threshold():
    rows = [(0, "a", True, 5.0, 10, (12, 14)), (0, "a", False, -5.0, 0, (40, 0)), (0, "b", False, -5.0, 0, (3, 0))]
    assert volume_dice(rows, 0.0) == pytest.approx(20 / 26)
    assert volume_dice(rows, -9.0) == pytest.approx((20 / 66 + 0) / 2)


def test_a_slice_is_asked_for_what_is_there_and_for_one_that_is_nowhere(tmp_path):
    path = shapes(tmp_path, ("train", "val"))
    data = NamesDataModule([str(path)], names=NAMES, names_per_slice=3, negatives=0.0)
    data.prepare(tiny_spec())
    assert data.classes == ("spleen", "kidney_left")
    assert data.names_said() == {"bar": "spleen", "disc": "left kidney"}
    samples, bank = data.train_dataloader().dataset, name_bank()
    known = {tuple(row.tolist()) for name in data.classes for row in bank.of(name)}
    seen = set()
    for draw in range(12):
        batch = samples[1, draw]
        assert batch.present.tolist() == [[True, True, False]]
        assert batch.targets[0, :2].flatten(1).any(1).all()
        assert not batch.targets[0, 2].any()
        assert sorted(batch.numbers[0].tolist()) == [-1, 0, 1]
        rows = [tuple(row.tolist()) for row in batch.names[0]]
        assert set(rows[:2]) <= known
        assert rows[2] not in known
        seen |= set(rows[:2])
        assert batch.places[0, 0].tolist() == [0.375, 0, 0, 1]
    # by all of their phrases
    assert len(seen) == len(english_phrases("spleen")) + len(english_phrases("kidney_left"))
    # the usual phrase in validation, and a name that training may show as absent
    scored = data.val_dataloader().dataset[0]
    assert torch.equal(scored.names[0, 0], bank.of("spleen")[0])
    assert scored.present.tolist() == [[True, True, False]]


def test_flips_and_labels_that_are_no_names_are_refused(tmp_path):
    path = shapes(tmp_path, ("train", "val"))
    nothing = (None, None, "auto", 3, None)
    with pytest.raises(InputError, match="'left kidney' would then be shown on the right one"):
        NamesDataModule([str(path)], *nothing, AugmentSettings(flip_columns=True), names=NAMES)
    data = NamesDataModule([str(path)], names={"disc": "spleen"})
    data.prepare(tiny_spec())
    with pytest.raises(InputError, match=r"data.names says what label 'bar' is called"):
        _ = data.classes


@pytest.mark.slow
def test_a_run_leaves_a_head_that_answers_to_its_names(tmp_path, capsys):
    manifest = shapes(tmp_path / "data", ("train",) * 4 + ("val", "test"))
    model = tiny_model(tmp_path / "model.safetensors", "tiny_vit")
    out = tmp_path / "out"
    words = ["--config", str(CONFIG), "--model.model", str(model), "--data.manifests", f"[{manifest}]"]
    words += ["--data.names", json.dumps(NAMES), "--model.embeddings", str(tmp_path / "embeddings"), "--out", str(out)]
    words += ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--model.stride", "1", "--model.rank", "16"]
    words += ["--trainer.max_epochs", "6", "--model.optimiser.lr", "5e-3", "--trainer.check_val_every_n_epoch", "6"]
    words += ["--model.engine", "torch", "--model.licence", "CC0", "--model.name", "shapes", "--data.slice_step", "1"]
    assert main(["fit", *words]) == 0
    told = capsys.readouterr()
    assert f"wrote {out / 'head.safetensors'}" in told.out
    card = find_head(str(out / "head.safetensors"), load_model(str(model)), "names").card
    assert (card.classes, card.licence, card.untested) == (("spleen", "kidney_left"), "CC0", ("spleen", "kidney_left"))
    assert card.recipe["labels"] == {"bar": "spleen", "disc": "left kidney"}
    assert {"val/score/spleen", "val/score/kidney_left"} <= card.recipe["metrics"].keys()
    assert card.thresholds.keys() == {"spleen", "kidney_left"}

    scan, mask = tmp_path / "data" / "c5.nii.gz", tmp_path / "mask.nii.gz"
    command = [
        "segment",
        str(scan),
        "--engine",
        "torch",
        "--model",
        str(model),
        "--text",
        "비장",
        "--head",
        str(out / "head.safetensors"),
    ]
    assert main([*command, "--out", str(mask)]) == 2
    assert "--untested" in capsys.readouterr().err
    assert main([*command, "--out", str(mask), "--untested", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [label["name"] for label in said["labels"]] == ["비장 (untested)"]
    assert any("UNTESTED: spleen by shapes" in note for note in said["notes"])
    assert nib.load(mask).shape == nib.load(scan).shape
    assert "untested" in mask.with_name("mask.json").read_text(encoding="utf-8")
