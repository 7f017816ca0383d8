"""`medsam organs` with a random head: what is offered, what is said, and the statistics."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import torch
from organ_heads import detector_head

from medsam.cli.main import main
from medsam.models.build import build_model, load_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.heads import Head, HeadCard, changes_of, encoder_digest, save_head
from medsam.models.name_head import NameHead, NameSizes
from medsam.models.specs import tiny_spec


def files(folder, modalities=("MR",)):
    """A tiny model, a head that knows three structures and was measured on one, and a scan."""
    torch.manual_seed(0)
    save_checkpoint(build_model(tiny_spec()), folder / "model.safetensors")
    sam, trained = (load_model(folder / "model.safetensors") for _ in range(2))
    with torch.no_grad():
        trained.mask_decoder.iou_token.weight += 0.1
    changes, about = changes_of(sam, trained)
    network = NameHead(NameSizes(width=32))
    card = HeadCard(
        "names", "three", ("spleen", "kidney_left", "liver"), sam.spec.name, encoder_digest(sam),
        network.sizes.to_dict(), "CC0", measured={"spleen": {"patients": 3, "dice": 0.8}}, modalities=modalities,
        thresholds={"spleen": -1e6, "kidney_left": 1e6, "liver": -1e6}, decoder=about,
    )  # fmt: skip
    save_head(Head(card, network.state_dict(), changes), folder / "head.safetensors")
    array = np.random.default_rng(1).normal(100, 30, (30, 20, 3)).clip(0).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), folder / "scan.nii.gz")
    return ["organs", str(folder / "scan.nii.gz"), "--model", str(folder / "model.safetensors"), "--engine", "torch",
            "--head", str(folder / "head.safetensors"), "--out", str(folder / "mask.nii.gz")]  # fmt: skip


def test_what_was_measured_is_found_and_counted(tmp_path, capsys):
    command = [*files(tmp_path), "--statistics", str(tmp_path / "s.csv")]
    assert main([*command, "--json"]) == 0
    told = capsys.readouterr()
    # what it was never seen to leave out says nothing of where in the body this is
    assert "spleen: three was never measured on scans without it." in told.err
    assert "Body part: not guessed." in told.err
    assert "Modality: MR (guessed: a volume whose values do not go below 0). Looking for: spleen." in told.err
    said = json.loads(told.out)
    mask = np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj)
    (row,) = csv.DictReader((tmp_path / "s.csv").read_text(encoding="utf-8").splitlines())
    columns = ("structure", "head", "tested_on_patients", "tested_dice", "tested_scans_without")
    assert [row[column] for column in columns] == ["spleen", "three", "3", "0.8", "0"]
    assert int(row["voxels"]) == np.count_nonzero(mask) == said["labels"][0]["voxels"]
    assert float(row["ml"]) == np.count_nonzero(mask) * 0.002
    assert said["organs"]["modality"] == "MR"

    assert main([*command, "--untested"]) == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["label"] for row in rows] == ["spleen", "left kidney (untested)", "liver (untested)"]
    assert [row["found"] for row in rows][1] == "False"
    assert "UNTESTED: liver by three" in capsys.readouterr().err


def test_a_head_of_another_modality_is_not_asked(tmp_path, capsys):
    assert main([*files(tmp_path), "--modality", "CT"]) == 2
    assert "The heads here learnt from MR, and this scan is CT" in capsys.readouterr().err
    assert not (tmp_path / "mask.nii.gz").exists()
    assert main([*files(tmp_path), "--statistics", str(tmp_path / "s.txt")]) == 2
    assert "ends in .csv" in capsys.readouterr().err


def test_a_detector_is_asked_beside_heads_that_answer_names(tmp_path, capsys):
    command = files(tmp_path, modalities=())
    sam = load_model(tmp_path / "model.safetensors")
    measured = {"Spleen": {"patients": 7, "dice": 0.9, "scans_without": 2}}
    boxes = detector_head(tmp_path / "boxes.safetensors", sam, measured=measured)
    command += ["--head", str(boxes), "--statistics", str(tmp_path / "s.csv")]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "Found by the head boxes (licence of its weights: CC BY-SA 4.0)." in told
    assert "Body part, by what was found: spleen." in told
    (row,) = csv.DictReader((tmp_path / "s.csv").read_text(encoding="utf-8").splitlines())
    assert [row[column] for column in ("structure", "found", "head", "tested_dice")] == [
        "spleen",
        "True",
        "boxes",
        "0.9",
    ]
    assert int(row["voxels"]) == np.count_nonzero(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj)) > 0
    # a head is no place to write to
    assert main([*command, "--out", str(boxes)]) == 2
