"""`medsam calibrate`: what it learns of a manifest, writes, refuses; and what `medsam segment --trust` makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tiny_training import tiny_model

from medsam.cli.main import main
from medsam.inference.trust import TrustModel


def write_set(folder: Path, patients: int, name: str = "blocks") -> Path:
    """Noisy scans of 24 x 32 x 2 with a block on each slice, a patient each."""
    rng = np.random.default_rng(0)
    cases = []
    for n in range(patients):
        mask = np.zeros((2, 24, 32), np.uint8)
        mask[:, 6:18, 4 : 20 + n] = 1
        for file, array in ((f"c{n}", 20 + 180.0 * mask + rng.normal(0, 20, mask.shape)), (f"c{n}-label", mask)):
            made = nib.Nifti1Image(array.astype(np.float32).transpose(2, 1, 0), np.diag([1.0, 1, 3, 1]))
            nib.save(made, folder / f"{file}.nii.gz")
        cases.append({"id": f"c{n}", "image": f"c{n}.nii.gz", "label": f"c{n}-label.nii.gz"})
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": name, "modality": "MR", "labels": {"lesion": 1}, "cases": cases}))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


def test_a_network_of_ones_own_has_an_expected_dice_afterwards(tmp_path, model, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = write_set(tmp_path, 4)
    arguments = ["calibrate", "--manifest", str(manifest), "--model", model, "--engine", "torch", "--out", "own.json"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    # two slices a patient, three boxes each
    assert (report["answers"], report["patients"], report["auroc_before"]) == (24, 4, None)
    TrustModel.from_dict(json.loads(Path("own.json").read_text()))
    segment = ["segment", "c0.nii.gz", "--box", "0:4,6,20,18", "--model", model, "--engine", "torch", "--json"]
    assert main([*segment, "--out", "a.nii.gz"]) == 0
    assert "expected_dice" not in json.loads(capsys.readouterr().out)["prompts"][0]
    assert main([*segment, "--out", "b.nii.gz", "--trust", "own.json"]) == 0
    expected = json.loads(capsys.readouterr().out)["prompts"][0]["expected_dice"]
    assert 0 <= expected["low"] <= expected["value"] <= expected["high"] <= 1
    assert expected["unfamiliar"] is False
    # an evaluation tells by it, too, and by nothing else in the same folder
    evaluate = ["evaluate", "--manifest", "manifest.json", "--limit", "1", "--model", model, "--engine", "torch"]
    assert main([*evaluate, "--out", "out", "--trust", "own.json"]) == 0
    slices = pd.read_csv("out/slices.csv").query("model == 'tiny'")
    assert slices["expected_dice"].notna().all()
    assert main([*evaluate, "--out", "out"]) == 2
    capsys.readouterr()
    # nothing is written over, and other weights are not told by it
    assert main(arguments) == 2
    assert "own.json is there already" in capsys.readouterr().err
    document = json.loads(Path("own.json").read_text()) | {"weights": "others"}
    Path("other.json").write_text(json.dumps(document))
    assert main([*segment, "--out", "c.nii.gz", "--trust", "other.json"]) == 2
    assert "made for other weights" in capsys.readouterr().err
    assert main([*segment, "--out", "c.nii.gz", "--trust", "manifest.json"]) == 2
    assert not Path("c.nii.gz").exists()


def test_patients_of_two_lists_are_not_the_same_for_being_called_the_same(tmp_path, model, capsys):
    lists = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        lists.append(str(write_set(tmp_path / name, 2, name)))
    arguments = ["calibrate", "--manifest", *lists, "--model", model, "--engine", "torch"]
    assert main([*arguments, "--out", str(tmp_path / "own.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["patients"] == 4


def test_two_patients_are_too_few(tmp_path, model, capsys):
    manifest = write_set(tmp_path, 2)
    out = tmp_path / "own.json"
    assert (
        main(["calibrate", "--manifest", str(manifest), "--model", model, "--engine", "torch", "--out", str(out)]) == 2
    )
    assert "2 patients" in capsys.readouterr().err
    assert not out.exists()
