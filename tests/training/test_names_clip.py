"""Names learnt from CLIP's pictures of masks by `medsam fit`, and asked by its phrases with `medsam segment`."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from tiny_clip import WIDTH, tiny_clip
from tiny_training import shapes, tiny_model

from medsam.cli.main import main
from medsam.models.build import load_model
from medsam.models.clip import load_clip
from medsam.models.heads import find_head

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "train" / "names_clip.yaml"
NAMES = {"disc": "left kidney", "bar": "Milz"}


class Run(NamedTuple):
    """words: of the command. model, clip: what it learnt beside. scan: that it never saw."""

    words: list[str]
    out: Path
    model: Path
    clip: Path
    scan: Path

    def segment(self, out: Path, *more: str) -> list[str]:
        head = ["--model", str(self.model), "--engine", "torch", "--head", str(self.out / "head.safetensors")]
        return ["segment", str(self.scan), "--text", "비장", "--untested", "--out", str(out), *head, *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    manifest = shapes(folder / "data", ("train",) * 4 + ("val", "test"))
    model, clip = tiny_model(folder / "model.safetensors", "tiny_vit"), tiny_clip(folder / "clip")
    out = folder / "out"
    words = ["fit", "--config", str(CONFIG), "--model.model", str(model), "--data.manifests", f"[{manifest}]"]
    words += ["--data.names", json.dumps(NAMES), "--model.embeddings", str(folder / "kept"), "--out", str(out)]
    words += ["--trainer.accelerator", "cpu", "--model.engine", "torch", "--model.stride", "1", "--model.rank", "16"]
    words += ["--trainer.max_epochs", "4", "--model.optimiser.lr", "5e-3", "--trainer.check_val_every_n_epoch", "4"]
    words += [
        "--trainer.logger",
        "lightning.pytorch.loggers.CSVLogger",
        "--trainer.logger.save_dir",
        str(folder / "log"),
    ]
    words += ["--trainer.log_every_n_steps", "1", "--data.slice_step", "1", "--model.licence", "CC0"]
    made = Run(words, out, model, clip, folder / "data" / "c5.nii.gz")
    assert main([*words, "--model.clip", str(clip)]) == 0
    return made


def test_a_run_learns_from_pictures_and_says_with_what(run, capsys):
    (log,) = (run.out.parent / "log").rglob("metrics.csv")
    with log.open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 16
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    card = find_head(str(run.out / "head.safetensors"), load_model(str(run.model)), "names").card
    assert card.text_encoder == {"kind": "clip", "digest": load_clip(run.clip).digest}
    assert card.sizes["embedding"] == WIDTH
    assert card.classes == ("spleen", "kidney_left")
    assert card.recipe["crops"]["pictures"] == 4
    assert "val/score/spleen" in card.recipe["metrics"]
    assert str(run.clip.parent) not in json.dumps(card.to_dict()), "a card names no folder"
    assert main(["models", "info", str(run.out / "head.safetensors")]) == 0
    assert f"reads names by CLIP, digest {load_clip(run.clip).digest[:12]}" in capsys.readouterr().out


def test_a_phrase_is_answered_on_the_scans_grid(run, tmp_path, monkeypatch, capsys):
    mask = tmp_path / "mask.nii.gz"
    assert main(run.segment(mask, "--clip", str(run.clip))) == 0
    found, scan = nib.load(mask), nib.load(run.scan)
    assert found.shape == scan.shape
    np.testing.assert_allclose(found.affine, scan.affine)
    assert found.get_fdata().any()
    monkeypatch.setenv("MEDSAM_CLIP", str(run.clip))
    assert main(run.segment(tmp_path / "again.nii.gz")) == 0
    assert np.array_equal(nib.load(tmp_path / "again.nii.gz").get_fdata(), found.get_fdata())
    organs = ["organs", str(run.scan), "--untested", "--model", str(run.model), "--engine", "torch"]
    capsys.readouterr()
    words = ["--head", str(run.out / "head.safetensors"), "--out", str(tmp_path / "all.nii.gz"), "--json"]
    assert main([*organs, *words, "--clip", str(run.clip)]) == 0
    assert len(json.loads(capsys.readouterr().out)["organs"]["structures"]) == 2


def test_without_its_clip_or_with_another_a_head_does_not_answer(run, tmp_path, monkeypatch, capsys):
    mask = tmp_path / "mask.nii.gz"
    monkeypatch.delenv("MEDSAM_CLIP", raising=False)
    assert main(run.segment(mask)) == 2
    assert "Say in which folder it lies: --clip, or the environment variable MEDSAM_CLIP" in capsys.readouterr().err
    other = tiny_clip(tmp_path / "other", seed=1)
    assert main(run.segment(mask, "--clip", str(other))) == 2
    assert f"learnt with another CLIP (digest {load_clip(run.clip).digest[:12]})" in capsys.readouterr().err
    assert main(run.segment(mask, "--clip", str(tmp_path / "none"))) == 2
    assert "it lacks config.json" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(run.segment(mask, "--clip", str(run.clip))) == 2
    assert "pip install 'medsam-framework[clip]'" in capsys.readouterr().err
    assert main([*run.words, "--out", str(tmp_path / "out"), "--model.clip", str(run.clip)]) == 2
    assert "pip install 'medsam-framework[clip]'" in capsys.readouterr().err
    assert not mask.exists()


def test_a_run_goes_on_with_the_clip_it_began_with(run, tmp_path, capsys):
    other = tiny_clip(tmp_path / "other", seed=1)
    assert main([*run.words, "--ckpt_path", "last", "--model.clip", str(other)]) == 2
    assert "model.clip has to be the same" in capsys.readouterr().err


def test_masks_that_are_too_small_are_refused_before_anything_is_written(run, tmp_path, capsys):
    words = [*run.words, "--out", str(tmp_path / "out"), "--model.clip", str(run.clip)]
    assert main([*words, "--data.crops.min_side", "315"]) == 2
    assert "No mask of spleen has 315^2 pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
