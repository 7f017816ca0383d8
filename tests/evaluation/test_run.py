"""`medsam evaluate` as its user runs it: small scans, real weights; a tiny network where runs are ended and go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from phantoms import block
from tiny_training import tiny_model

from medsam.cli.evaluate import named_cases
from medsam.cli.main import main
from medsam.data.manifest_json import read_manifest
from medsam.errors import Cancelled, InputError
from medsam.evaluation.protocol import Protocol
from medsam.evaluation.run import EvaluationRun, differences
from medsam.evaluation.run import evaluate as evaluate_cases
from medsam.evaluation.tables import COLUMNS, TRUST
from medsam.inference.predictor import Predictor
from medsam.models.build import load_model
from medsam.models.checkpoint import save_checkpoint

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Four noisy blocks of two patients, and one case whose structure is too small to ask for."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    cases = []
    for n in range(5):
        box = (5 + n, 6, 0, 25, 20 + n, 2) if n < 4 else (5, 6, 0, 7, 8, 2)
        scan, mask = block((2, 32, 40), box)
        affine = np.diag([1.0, 1, 3, 1])
        noisy = (scan.array + rng.normal(0, 20, scan.array.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(noisy.transpose(2, 1, 0), affine), folder / f"{n}.nii.gz")
        nib.save(nib.Nifti1Image(mask.transpose(2, 1, 0).astype(np.uint8), affine), folder / f"{n}-label.nii.gz")
        cases.append({"id": f"case{n}", "patient": f"p{n % 2}", "image": f"{n}.nii.gz", "label": f"{n}-label.nii.gz"})
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "blocks", "modality": "MR", "labels": {"lesion": 1}, "cases": cases}))
    return path


@pytest.fixture(scope="module")
def finished(manifest, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    assert main(["evaluate", "--manifest", str(manifest), "--out", str(out), "--save-masks", "--no-timing"]) == 0
    return out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> list[str]:
    """What asks for a network that answers at once."""
    return ["--model", str(tiny_model(tmp_path_factory.mktemp("models") / "tiny.safetensors")), "--engine", "torch"]


@pytest.fixture(scope="module")
def tables(manifest, tiny, tmp_path_factory) -> dict[str, bytes]:
    """What its run writes that nothing ends."""
    out = tmp_path_factory.mktemp("whole") / "out"
    arguments = ["--manifest", str(manifest), "--out", str(out), "--save-masks", "--no-timing"]
    assert main(["evaluate", *arguments, *tiny]) == 0
    return written(out)


def written(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("metrics.csv", "slices.csv")}


def test_the_folder_holds_what_the_contract_says(finished):
    metrics, slices = pd.read_csv(finished / "metrics.csv"), pd.read_csv(finished / "slices.csv")
    assert tuple(metrics.columns) == COLUMNS
    assert tuple(slices.columns) == (*COLUMNS, "slice", *TRUST)
    assert metrics["model"].value_counts().to_dict() == {"filled-box": 4, "inscribed-ellipse": 4, "litemedsam": 4}
    assert "case4" not in set(metrics["case"]), "a structure below ten pixels is skipped, never scored"
    assert len(slices) == 4 * 2 * 3
    summary = json.loads((finished / "summary.json").read_text())
    overall = summary["litemedsam"]["overall"]
    assert overall["dice"]["mean"] == pytest.approx(metrics[metrics["model"] == "litemedsam"]["dice"].mean())
    assert 0.7 < overall["dice"]["mean"] < 1
    assert summary["filled-box"]["structures"]["lesion"]["dice"]["mean"] == 1
    assert summary["protocol"]["prompt"] == "box"
    assert summary["environment"]["torch"]
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert "lesion" in report
    assert len(report) < 5_000_000


def test_written_masks_score_what_the_table_says(finished, manifest):
    metrics = pd.read_csv(finished / "metrics.csv").query("model == 'litemedsam'").set_index("case")
    for n in range(4):
        mask = nib.load(finished / "masks" / f"case{n}.litemedsam.nii.gz")
        truth = nib.load(manifest.parent / f"{n}-label.nii.gz")
        assert mask.affine.tobytes() == truth.affine.tobytes()
        a, b = np.asarray(mask.dataobj) == 1, np.asarray(truth.dataobj) == 1
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) == pytest.approx(metrics.loc[f"case{n}", "dice"], abs=1e-6)


# stops at the third case, however slow whoever ends it is to come
_HELD = """
import sys, time
from medsam.cli.main import main
from medsam.evaluation import run
measure, cases = run.evaluate_case, []

def held(*arguments, **options):
    cases.append(1)
    while len(cases) > 2:
        time.sleep(0.1)
    return measure(*arguments, **options)

run.evaluate_case = held
sys.exit(main(sys.argv[1:]))
"""


def held(*arguments: str) -> subprocess.Popen:
    """An evaluation that does two cases and comes to no end."""
    command = [sys.executable, "-c", _HELD, "evaluate", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_raising_from_progress_ends_a_run_at_a_slice_with_nothing_half_written(tables, tiny, manifest, tmp_path):
    out, cases = tmp_path / "out", named_cases([read_manifest(manifest)], None, None)
    seen = []

    def progress(done, total):
        assert total == 5
        seen.append(done)
        if seen.count(1) == 4:  # told that it is done, of its start, and of its two slices
            raise Cancelled

    run = EvaluationRun(out, Protocol(), keep_masks=True, timing=False)
    models = {"tiny": Predictor(tiny[1], "cpu", engine="torch")}
    with pytest.raises(Cancelled):
        evaluate_cases(run, cases, models, progress=progress)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "case0.json",
        "case0.npz",
        "case0.tiny.json",
        "case0.tiny.nii.gz",
        "jobs.csv",
        "run.json",
    ]
    evaluate_cases(run, cases, models)
    assert written(out) == tables


def test_two_versions_in_one_folder_never_mix_their_tables(tables, tiny, manifest, tmp_path, monkeypatch):
    out, cases = tmp_path / "out", named_cases([read_manifest(manifest)], None, None)
    run = EvaluationRun(out, Protocol(), keep_masks=True, timing=False)
    models = {"tiny": Predictor(tiny[1], "cpu", engine="torch")}

    def progress(done, total):
        # before our last case is done, the other has measured all of them, and ours again
        if done == 4 and not (out / "metrics.csv").exists():
            with monkeypatch.context() as patch:
                patch.setattr("medsam.evaluation.run.__version__", "0.0.1")
                evaluate_cases(run, cases, models)

    with pytest.raises(InputError, match="case0 was measured by another version of medsam"):
        evaluate_cases(run, cases, models, progress=progress)
    evaluate_cases(run, cases, models)
    assert written(out) == tables


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tables, tiny, manifest, tmp_path):
    out = tmp_path / "out"
    arguments = ["--manifest", str(manifest), "--out", str(out), "--save-masks", "--no-timing", *tiny]
    first = held(*arguments)
    while not list((out / "cases").glob("*.json")):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = sorted((out / "cases").glob("*.json"))
    assert 1 <= len(done) <= 2
    assert not (out / "metrics.csv").exists()
    before = {path: path.stat().st_mtime_ns for path in done}

    assert main(["evaluate", *arguments]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == before, "finished cases are not measured again"
    assert written(out) == tables


def test_two_processes_share_the_cases_and_end_in_the_same_bytes(tables, tiny, manifest, tmp_path):
    out = tmp_path / "out"
    # what a run leaves that found a full disk before its first file
    (out / "cases").mkdir(parents=True)
    arguments = ["--manifest", str(manifest), "--out", str(out), "--save-masks", "--no-timing", *tiny]
    assert main(["evaluate", *arguments, "--devices", "2"]) == 0
    assert written(out) == tables


def test_a_folder_of_another_evaluation_is_not_mixed_up(finished, manifest, capsys):
    before = (finished / "metrics.csv").read_bytes()
    arguments = ["evaluate", "--manifest", str(manifest), "--out", str(finished), "--save-masks", "--no-timing"]
    for other, differs in (
        (["--jitter-px", "5"], "jitter px [0] there, [5] here"),
        (["--zoom", "off"], 'zoom "auto" there, "off" here'),
        (["--prompt", "box", "point"], 'prompt "box" there, "box point" here'),
    ):
        assert main([*arguments, *other]) == 2
        assert f"holds an evaluation with another protocol: {differs}. Name another" in capsys.readouterr().err
    assert (finished / "metrics.csv").read_bytes() == before


def test_the_same_weights_whose_masks_end_elsewhere_are_another_evaluation(manifest, tmp_path, capsys):
    out, usual = tmp_path / "out", tiny_model(tmp_path / "usual.safetensors")
    sam = load_model(str(usual))
    sam.spec = replace(sam.spec, mask_threshold=-1.0)
    shifted = tmp_path / "shifted" / "usual.safetensors"
    shifted.parent.mkdir()
    save_checkpoint(sam, shifted)
    arguments = ["evaluate", "--manifest", str(manifest), "--limit", "1", "--out", str(out), "--no-timing"]
    assert main([*arguments, "--engine", "torch", "--model", str(usual)]) == 0
    assert main([*arguments, "--engine", "torch", "--model", str(shifted)]) == 2
    assert 'mask thresholds null there, {"usual": -1.0} here' in capsys.readouterr().err


def test_what_two_evaluations_differ_in_is_named_with_both_values():
    there = {"protocol": {"zoom": "auto", "seed": 0}, "models": {"a": "1"}, "engines": {"a": "torch"}, "timing": True}
    here = {"protocol": {"zoom": "off", "seed": 0}, "models": {"a": "2"}, "engines": {"a": "openvino"}, "timing": True}
    assert differences(there, there) == []
    assert differences(there, here) == [
        'zoom "auto" there, "off" here',
        "other weights of a",
        'a "torch" there, "openvino" here',
    ]
    assert differences(there, {**there, "models": {"a": "1", "b": "3"}}) == ["models a there, a, b here"]


def test_results_by_group_measure_nothing_again_and_leave_the_tables_as_they_were(finished, manifest, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (out / "cases").iterdir()}
    content = json.loads(manifest.read_text())
    for n, case in enumerate(content["cases"]):
        case["attributes"] = {"sex": "FM"[n % 2], "age": 30 + 20 * n}
    changed = manifest.with_name("attributes.json")
    changed.write_text(json.dumps(content))
    run = ["evaluate", "--out", str(out), "--save-masks", "--no-timing"]
    assert main([*run, "--manifest", str(changed), "--by", "sex,slice_spacing", "--by", "age", "--by", "kernel"]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (out / "cases").iterdir()} == before
    assert (out / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()
    summary = json.loads((out / "summary.json").read_text())
    assert {name: list(groups) for name, groups in summary["groups"].items()} == {
        "sex": ["F", "M"],
        "slice_spacing": ["3 mm"],
        "age": ["18 to under 40 years", "40 to under 60 years", "60 to under 80 years", "80 years or more"],
        "kernel": ["unknown"],
    }
    parts = [summary["groups"]["sex"][sex]["litemedsam"]["overall"]["dice"] for sex in "FM"]
    whole = summary["litemedsam"]["overall"]["dice"]
    assert sum(part["n"] * part["mean"] for part in parts) / whole["n"] == pytest.approx(whole["mean"])
    table = pd.read_csv(out / "groups.csv")
    assert list(table.columns) == ["case", "sex", "slice_spacing", "age", "kernel"]
    assert len(table) == 5
    said = capsys.readouterr()
    assert "no case states kernel" in said.err
    assert "(few)" in said.out
    assert main([*run, "--manifest", str(manifest)]) == 0
    assert "groups" not in json.loads((out / "summary.json").read_text())
    assert not (out / "groups.csv").exists()
    assert main([*run, "--manifest", str(changed), "--by", "PatientName"]) == 2
    assert "it may tell who somebody is" in capsys.readouterr().err


def test_json_on_stdout_is_the_summary_and_nothing_else(finished, manifest, capsys):
    arguments = ["evaluate", "--manifest", str(manifest), "--out", str(finished), "--save-masks", "--no-timing"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((finished / "summary.json").read_text())


def test_a_changed_reference_is_measured_again(manifest, tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(manifest.parent, data)
    arguments = ["evaluate", "--manifest", str(data / "manifest.json"), "--out", str(tmp_path / "out"), "--limit", "2"]
    arguments += tiny
    assert main([*arguments, "--no-timing"]) == 0
    before = pd.read_csv(tmp_path / "out" / "metrics.csv")
    label = nib.load(data / "0-label.nii.gz")
    changed = np.asarray(label.dataobj).copy()
    changed[:15] = 0
    nib.save(nib.Nifti1Image(changed, label.affine), data / "0-label.nii.gz")
    untouched = (tmp_path / "out" / "cases" / "case1.json").stat().st_mtime_ns
    assert main([*arguments, "--no-timing"]) == 0
    after = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert (before["volume_ref_ml"] != after["volume_ref_ml"]).tolist() == [True] * 3 + [False] * 3
    assert (tmp_path / "out" / "cases" / "case1.json").stat().st_mtime_ns == untouched


def test_a_broken_case_is_named_at_the_end_and_the_others_are_kept(manifest, tiny, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(manifest.parent, data)
    (data / "0.nii.gz").write_bytes((data / "0.nii.gz").read_bytes()[:200])
    arguments = ["evaluate", "--manifest", str(data / "manifest.json"), "--out", str(tmp_path / "out"), "--limit", "2"]
    arguments += tiny
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "1 of 2 cases could not be measured" in error
    assert "case0: Case case0, image: 0.nii.gz cannot be read: it is truncated" in error
    assert (tmp_path / "out" / "cases" / "case1.json").exists()
    assert not (tmp_path / "out" / "metrics.csv").exists()


def test_files_that_are_missing_are_told_before_anything_is_loaded(manifest, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(manifest.parent, data)
    (data / "3-label.nii.gz").unlink()
    assert main(["evaluate", "--manifest", str(data / "manifest.json"), "--out", str(tmp_path / "out")]) == 2
    assert "1 file of the manifest is missing: case3:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_is_130_and_keeps_what_is_done(manifest, tiny, tmp_path):
    out = tmp_path / "out"
    run = held("--manifest", str(manifest), "--out", str(out), *tiny)
    while not list((out / "cases").glob("*.json")):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate()
    assert run.returncode == 130, errors
    assert "Interrupted." in errors


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--prompt", "scribbled"], "no prompt 'scribbled'"),
        (["--prompt", "point", "--jitter-px", "5"], "moves boxes"),
        (["--jitter-px", "-1"], "whole numbers"),
        (["--limit", "0"], "from 1"),
        (["--devices", "0"], "from 1"),
        (["--split", "holdout"], "no case with a reference in the split 'holdout'"),
        (["--model", "none.pth"], "No checkpoint at none.pth"),
        (["--window", "bones"], "no window 'bones'"),
        (["--seed", "-1"], "--seed"),
        (["--model", "filled-box"], "cannot be called filled-box"),
    ],
)
def test_what_cannot_be_run_is_said_and_leaves_no_table(manifest, tmp_path, capsys, extra, message):
    assert main(["evaluate", "--manifest", str(manifest), "--out", str(tmp_path / "out"), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "metrics.csv").exists()
