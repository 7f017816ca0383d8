"""`medsam evaluate` with prompts other than boxes; how runs resume and share is in tests/evaluation/test_run.py."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from phantoms import block

from medsam.cli.main import main
from medsam.evaluation.tables import COLUMNS

pytestmark = pytest.mark.weights


@pytest.fixture
def manifest(tmp_path) -> Path:
    """A single noisy slice, then a volume of three."""
    rng = np.random.default_rng(0)
    cases = []
    for name, count in (("flat", 1), ("deep", 3)):
        scan, mask = block((count, 32, 40), (8, 6, 0, 28, 24, count))
        noisy = (scan.array + rng.normal(0, 10, scan.array.shape)).astype(np.float32)
        affine = np.diag([1.0, 1, 3, 1])
        nib.save(nib.Nifti1Image(noisy.transpose(2, 1, 0), affine), tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(mask.transpose(2, 1, 0).astype(np.uint8), affine), tmp_path / f"{name}-label.nii.gz")
        cases.append({"id": name, "patient": name, "image": f"{name}.nii.gz", "label": f"{name}-label.nii.gz"})
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"name": "blocks", "modality": "MR", "labels": {"lesion": 1}, "cases": cases}))
    return path


def test_every_kind_of_prompt_in_one_run(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    prompts = ["propagate", "point", "points:2", "box", "box+points:1", "mask"]
    arguments = ["evaluate", "--manifest", str(manifest), "--out", str(out), "--zoom", "off", "--no-timing"]
    assert main([*arguments, "--prompt", *prompts]) == 0
    captured = capsys.readouterr()
    metrics = pd.read_csv(out / "metrics.csv")
    assert tuple(metrics.columns) == COLUMNS
    # the first case has no third dimension, and yet the first prompt is the primary one
    assert list(dict.fromkeys(metrics["prompt"])) == prompts
    assert metrics.iloc[0]["case"] == "deep"
    mine = metrics[metrics["model"] == "litemedsam"].set_index(["prompt", "case"])
    assert mine.loc[("box", "deep"), "dice"] > 0.8
    for prompt in ("point", "points:2", "box", "box+points:1", "mask"):
        assert mine.loc[(prompt, "deep"), "encoder_calls"] == 3
        assert mine.loc[(prompt, "flat"), "encoder_calls"] == 1
    assert metrics["seconds"].isna().all()
    summary = json.loads((out / "summary.json").read_text())
    assert [model for model in summary if "overall" in summary[model]] == ["litemedsam"]
    assert summary["prompts"].keys() == {"litemedsam", "filled-box", "inscribed-ellipse", "given-mask"}
    curve = summary["robustness"]["litemedsam"]
    assert [(point["prompt"], point.get("clicks"), point.get("clicks_after_box")) for point in curve] == [
        ("box", None, None),
        ("point", 1, None),
        ("points:2", 2, None),
        ("box", None, 0),
        ("box+points:1", None, 1),
    ]
    assert summary["protocol"]["prompt"] == " ".join(prompts)
    assert summary["protocol"]["zoom"] == "off"
    assert summary["protocol"]["skipped"] == [
        {"case": "flat", "structure": "lesion", "why": "not propagated: the scan has one slice only"}
    ]
    assert "points:2" in captured.out
    assert "1 structure of a case was not measured; the report lists it" in captured.err
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "through the volume from one prompt a structure" in report
    assert "past the structure's end" in report


def test_propagation_alone_needs_more_than_one_slice(manifest, tmp_path, capsys):
    arguments = ["evaluate", "--manifest", str(manifest), "--limit", "1", "--prompt", "propagate"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "of several" in capsys.readouterr().err


def test_what_is_drawn_by_hand_in_one_run_on_another_axis(manifest, tmp_path):
    prompts = ["scribbles:2", "lasso", "line", "lines+points:1", "ellipse", "scribble-pair", "box+scribbles:1"]
    arguments = ["evaluate", "--manifest", str(manifest), "--zoom", "off", "--no-timing", "--noise", "noisy"]
    arguments += ["--axis", "j", "--slices", "1", "--limit", "1", "--out", str(tmp_path / "a")]
    assert main([*arguments, "--prompt", *prompts]) == 0
    metrics = pd.read_csv(tmp_path / "a" / "metrics.csv")
    assert list(dict.fromkeys(metrics["prompt"])) == prompts
    assert set(metrics["n_slices"]) == {1}
    described = metrics.loc[metrics["model"] == "given-mask"].groupby("prompt")["dice"].min()
    assert list(described.index) == ["ellipse", "lasso", "line"]
    assert described["lasso"] > 0.3
    steps = pd.read_csv(tmp_path / "a" / "corrections.csv")
    named = ("case", "patient", "structure", "model", "prompt", "slice")
    numbers = ("step", "inside", "error_px", "removed", "kept", "harmed_px", "far_px", "dice")
    assert tuple(steps.columns) == (*named, *numbers)
    assert set(steps["prompt"]) <= {"scribbles", "lines+points", "box+scribbles"}
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["corrections"]["litemedsam"].keys() == set(steps["prompt"])
    assert (summary["protocol"]["noise"], summary["protocol"]["slices"]) == ("noisy", 1)
    report = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "slice by slice from 2 scribbles drawn from the reference" in report
