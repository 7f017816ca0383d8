"""`medsam segment-many` as its user runs it: results by case, failures in one table, and going on."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_training import drawn, tiny_model, write_case, write_manifest

from medsam.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture
def scans(tmp_path) -> Path:
    """A manifest of three cases in a folder, with a prompts file for each."""
    folder = tmp_path / "set"
    folder.mkdir()
    cases = [write_case(folder, f"c{n}", *drawn(n), "test" if n else "train") for n in range(3)]
    for n in range(3):
        prompts = [{"label": "bar", "box": [4, 14, 20, 17], "slice": k} for k in range(n + 1)]
        (folder / f"c{n}.prompts.json").write_text(json.dumps({"axis": "k", "prompts": prompts}))
    return write_manifest(folder, cases)


@pytest.fixture
def words(scans, model, tmp_path) -> list[str]:
    plain = ["--model", model, "--device", "cpu", "--engine", "torch"]
    prompts = ["--prompts", str(scans.parent / "{id}.prompts.json")]
    return ["segment-many", str(scans), "--out", str(tmp_path / "out"), *prompts, *plain]


def rows(table: Path) -> dict[str, dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files but the table of seconds and hosts."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "jobs.csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_each_scan_has_the_mask_of_medsam_segment_and_a_failure_costs_itself_alone(
    words, scans, model, tmp_path, capsys
):
    out, missing = tmp_path / "out", scans.parent / "c1.prompts.json"
    aside = missing.rename(scans.parent / "aside.json")
    assert main([*words, "--json", "--previews"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["cases"], report["done"], report["already_there"]) == (3, 2, 0)
    assert [one["case"] for one in report["failed"]] == ["c1"]
    assert "1 of 3 cases could not be segmented:\n  c1: " in said.err
    table = rows(out / "jobs.csv")
    assert {name: row["state"] for name, row in table.items()} == {"c0": "done", "c1": "failed", "c2": "done"}
    assert "c1.prompts.json" in table["c1"]["reason"]
    assert float(table["c0"]["seconds"]) > 0
    assert table["c0"]["host"]
    made = ["cases/c0.json", "cases/c2.json", "masks/c0.json", "masks/c0.nii.gz", "masks/c2.json", "masks/c2.nii.gz"]
    assert sorted(bytes_of(out)) == [*made, "previews/c0.png", "previews/c2.png", "run.json"]

    one = tmp_path / "one.nii.gz"
    plain = ["--model", model, "--device", "cpu", "--engine", "torch", "--out", str(one), "--json"]
    plain += ["--prompts", str(scans.parent / "c2.prompts.json")]
    assert main(["segment", str(scans.parent / "c2.nii.gz"), *plain]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert one.read_bytes() == (out / "masks" / "c2.nii.gz").read_bytes()
    kept = json.loads((out / "cases" / "c2.json").read_text())
    assert kept["out"] == "masks/c2.nii.gz"
    same = ("labels", "prompts", "window", "weights", "notes")
    assert {key: kept[key] for key in same} == {key: alone[key] for key in same}

    # the same command again does what is missing, and a scan whose prompts have changed
    aside.rename(missing)
    before = {path: path.stat().st_mtime_ns for path in (out / "cases").iterdir()}
    assert main([*words, "--json", "--previews"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["done"], report["already_there"], report["failed"]) == (1, 2, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {row["state"] for row in rows(out / "jobs.csv").values()} == {"done"}
    assert rows(out / "jobs.csv")["c0"] == table["c0"], "what was known of an earlier run stays"
    missing.write_text(missing.read_text().replace("[4, 14", "[3, 14"))
    assert main([*words, "--json", "--previews"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1

    assert main([*words, "--zoom", "off", "--previews"]) == 2
    assert "holds a job with other options: zoom 'auto' there, 'off' here" in capsys.readouterr().err


@pytest.mark.slow
def test_any_number_of_workers_and_parts_of_a_queue_give_the_same_bytes(words, tmp_path, capsys):
    assert main([*words, "--threads", "1"]) == 0
    out = words.index("--out") + 1
    words[out] = str(tmp_path / "two")
    assert main([*words, "--threads", "1", "--processes", "2"]) == 0
    words[out] = str(tmp_path / "parts")
    for part in ("0/2", "1/2"):
        assert main([*words, "--threads", "1", "--part", part]) == 0
    assert sorted(rows(tmp_path / "parts" / "jobs.0-of-2.csv")) == ["c0", "c2"]
    assert main([*words, "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["already_there"] == 3
    for table in (tmp_path / "parts").glob("jobs.*-of-*.csv"):
        table.unlink()
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "two") == bytes_of(tmp_path / "parts")


def test_a_folder_of_scans_needs_no_manifest_and_a_reference_can_be_the_prompt(model, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    scan, labels = drawn(0)
    for name, array in (("a", scan), ("b", scan), ("a_mask", labels)):
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([1.0, 1, 3, 1])), folder / f"{name}.nii.gz")
    plain = ["--model", model, "--device", "cpu", "--engine", "torch", "--out", str(tmp_path / "out")]
    assert main(["segment-many", str(folder), "--box", "1:4,14,20,17=bar", *plain]) == 0
    assert {row["state"] for row in rows(tmp_path / "out" / "jobs.csv").values()} == {"done"}
    plain[-1] = str(tmp_path / "refined")
    assert main(["segment-many", str(folder), "--prompts", "{label}", *plain]) == 2
    said = capsys.readouterr().err
    assert "of the case b there is {id}, {patient}, {name}, {folder}, and nothing else" in said
    assert (tmp_path / "refined" / "masks" / "a.nii.gz").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prompts", "{nobody}.json"], "there is {id}, {patient}, {name}, {folder}, {label}, and nothing else"),
        (["--part", "3/3"], "--part takes I/N with I from 0 to N - 1, not '3/3'"),
        (["--processes", "0"], "--processes takes a whole number from 1, not 0"),
        (["--memory", "0"], "--memory takes GiB above 0, not 0.0"),
        (["--limit", "0"], "--limit takes a whole number from 1, not 0"),
        (["--split", "val"], "has no case in the split 'val'"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_made(words, more, message, tmp_path, capsys):
    assert main([*words, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_left_alone(words, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main(words) == 2
    assert "is not empty and holds no job of segment-many" in capsys.readouterr().err


def test_without_ray_the_extra_is_named(words, monkeypatch, capsys):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else there(name))
    assert main([*words, "--ray", "auto"]) == 2
    assert "needs ray, which is not installed: pip install 'medsam-framework[ray]'" in capsys.readouterr().err


def test_every_mask_of_many_scans(scans, model, tmp_path):
    out = tmp_path / "all"
    plain = ["--model", model, "--device", "cpu", "--engine", "torch", "--out", str(out), "--limit", "2"]
    few = ["--points-per-side", "2", "--pred-iou-thresh", "0", "--stability-score-thresh", "0"]
    assert main(["everything-many", str(scans), "--label-maps", *few, *plain]) == 0
    assert {row["state"] for row in rows(out / "jobs.csv").values()} == {"done"}
    kept = json.loads((out / "cases" / "c1.json").read_text())
    assert kept["masks"] == len(json.loads((out / kept["out"]).read_text())["annotations"])
    assert nib.load(out / kept["labels"]).shape == (24, 20, 4)
