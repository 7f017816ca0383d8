"""`medsam embed` as its user runs it: what it encodes, what it skips, what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_training import tiny_model

from medsam.cli.main import main
from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.predictor import Predictor

SHAPE = (5, 24, 32)  # K, J, I


def write_set(folder: Path, *, slices: int = 5, window: str | None = None) -> Path:
    """Two noisy scans with a block: a0 has it on slices 1 and 2 (on 3 it is under ten pixels); b0 has no label."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 1, 3, 1])
    mask = np.zeros((slices, *SHAPE[1:]), np.uint8)
    mask[1:3, 6:18, 4:20] = 1
    mask[3, 6:9, 4:7] = 1
    for name in ("a0", "b0"):
        array = (20 + 180 * mask + rng.normal(0, 20, mask.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(mask.transpose(2, 1, 0), affine), folder / "a0-label.nii.gz")
    cases = [
        {"id": "a0", "image": "a0.nii.gz", "label": "a0-label.nii.gz", "split": "test"},
        {"id": "b0", "image": "b0.nii.gz", "split": "train"},
    ]
    if window:
        cases[0]["window"] = window
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "blocks", "modality": "MR", "labels": {"lesion": 1}, "cases": cases}))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A checkpoint of a network that is quick; its weights are random, which encoding does not mind."""
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture
def words(model, manifest, tmp_path) -> list[str]:
    out = tmp_path / "embeddings"
    return ["embed", "--manifest", str(manifest), "--out", str(out), "--model", model, "--device", "cpu"]


@pytest.fixture
def manifest(tmp_path) -> Path:
    return write_set(tmp_path / "set")


@pytest.fixture
def embed(capsys, model):
    """Runs the command with --json; returns the report."""

    def run(manifest: Path, out: Path, *more: str) -> dict:
        words = ["--manifest", str(manifest), "--out", str(out), "--model", model, "--device", "cpu", "--json"]
        assert main(["embed", *words, *more]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "jobs.csv")


def test_slices_the_evaluation_prompts_are_encoded_and_nothing_twice(embed, manifest, tmp_path, model):
    out = tmp_path / "embeddings"
    report = embed(manifest, out)
    assert {key: report[key] for key in ("model", "cases", "slices", "encoded", "already_there", "failed", "out")} == {
        "model": "tiny-vit",
        "cases": 1,
        "slices": 2,
        "encoded": 2,
        "already_there": 0,
        "failed": [],
        "out": str(out),
    }
    assert report["seconds"] > 0
    assert report["bytes_written"] == sum(path.stat().st_size for path in files(out))
    before = {path: path.stat().st_mtime_ns for path in files(out)}

    again = embed(manifest, out)
    assert (again["slices"], again["encoded"], again["already_there"], again["bytes_written"]) == (2, 0, 2, 0)
    assert {path: path.stat().st_mtime_ns for path in files(out)} == before

    # and the predictor finds them
    predictor = Predictor(model, "cpu", cache=EmbeddingCache(folder=out))
    scan_encoder = predictor.encoder_for(read_manifest(manifest).cases[0].load_image())
    assert [scan_encoder.encode(index).usage.encoded for index in (1, 2, 3)] == [0, 0, 1]


def test_all_slices_need_no_reference_and_a_split_is_obeyed(embed, manifest, tmp_path):
    out = tmp_path / "embeddings"
    report = embed(manifest, out, "--all-slices", "--split", "train")
    assert (report["cases"], report["slices"], report["encoded"]) == (1, 5, 5)
    report = embed(manifest, out, "--split", "test", "--prompted-only")
    assert (report["cases"], report["slices"], report["encoded"]) == (1, 2, 2)


def test_window_and_axis_are_those_that_will_be_asked_for(embed, manifest, tmp_path):
    out = tmp_path / "embeddings"
    assert embed(manifest, out)["encoded"] == 2
    assert embed(manifest, out, "--window", "100,50")["encoded"] == 2
    # the case's own window comes first, as in the evaluation
    own = write_set(tmp_path / "own", window="100,50")
    assert embed(own, out)["already_there"] == 2
    # the block reaches over 16 columns, each with 24 pixels of it
    assert embed(manifest, out, "--axis", "i", "--limit", "1")["slices"] == 16


def test_a_damaged_file_is_encoded_again(embed, manifest, tmp_path):
    out = tmp_path / "embeddings"
    embed(manifest, out)
    victim = files(out)[0]
    victim.write_bytes(victim.read_bytes()[:1000])
    report = embed(manifest, out)
    assert (report["encoded"], report["already_there"]) == (1, 1)


def test_without_json_it_is_one_line_and_stderr_is_quiet(words, tmp_path, capsys):
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"wrote {tmp_path / 'embeddings'}: 2 slices encoded, 0 already there, ")
    assert said.out.count("\n") == 1
    assert said.err == ""


def test_one_bad_scan_does_not_stop_the_others(words, manifest, capsys):
    (manifest.parent / "a0.nii.gz").write_bytes(b"no scan")
    assert main([*words, "--all-slices", "--json"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["cases"], report["encoded"]) == (1, 5)
    assert [entry["case"] for entry in report["failed"]] == ["a0"]
    assert said.err.startswith("InputError: 1 of 2 cases could not be read:\n  a0: Case a0, image: ")


def test_a_folder_that_cannot_be_written_ends_the_run(words, monkeypatch, capsys):
    tried = []

    def full(cache, folder, key, features):
        tried.append(key)
        raise InputError("The disk is full.")

    monkeypatch.setattr(EmbeddingCache, "_write", full)
    assert main([*words, "--all-slices"]) == 2
    assert capsys.readouterr() == ("", "InputError: The disk is full.\n")
    assert len(tried) == 1, "of two cases"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--window", "bone-dry"], "no window 'bone-dry'"),
        (["--limit", "0"], "--limit takes a whole number from 1"),
        (["--split", "val"], "no case with a reference in the split 'val'"),
        (["--split", "train"], "--all-slices needs no reference"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(words, tmp_path, capsys, more, message):
    assert main([*words, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "embeddings").exists()


def test_missing_files_are_named(words, manifest, capsys):
    (manifest.parent / "a0-label.nii.gz").unlink()
    assert main(words) == 2
    assert "1 file of the manifest is missing: a0: " in capsys.readouterr().err
    assert main([*words, "--all-slices"]) == 0, "which the label has no part in"


def test_an_out_that_is_a_file_is_refused(words, tmp_path, capsys):
    out = tmp_path / "embeddings"
    out.write_text("mine")
    assert main(words) == 2
    assert "is a file. Name a folder" in capsys.readouterr().err
    assert out.read_text() == "mine"


# stops before the sixth slice is written, however slow whoever interrupts it is to come
_HELD = """
import sys, time
from medsam.cli.main import main
from medsam.inference.embeddings import EmbeddingCache
write, kept = EmbeddingCache._write, []

def held(*arguments):
    kept.append(1)
    while len(kept) > 5:
        time.sleep(0.1)
    write(*arguments)

EmbeddingCache._write = held
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="interrupts a process")
def test_ctrl_c_is_130_and_the_next_run_goes_on(embed, words, tmp_path):
    manifest, out = write_set(tmp_path / "set", slices=20), tmp_path / "embeddings"
    command = [sys.executable, "-c", _HELD, *words, "--all-slices", "--limit", "1"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len([*out.rglob("*.safetensors")]) < 3:
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate()
    assert (running.returncode, said) == (130, "")
    # on a slow machine after lines of progress
    assert errors.endswith("Interrupted.\n")
    assert "Traceback" not in errors
    there = files(out)
    assert 3 <= len(there) <= 5
    assert {path.suffix for path in there} == {".safetensors"}

    report = embed(manifest, out, "--all-slices", "--limit", "1")
    assert (report["slices"], report["encoded"], report["already_there"]) == (20, 20 - len(there), len(there))
