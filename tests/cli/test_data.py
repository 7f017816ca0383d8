"""`medsam data`: what it prints, where, what it writes, and its exit status."""

from __future__ import annotations

import json

import pytest
import tiny_sets as scans
from tiny_training import shapes

from medsam.cli import main as door
from medsam.cli.data import parse_labels
from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError


@pytest.fixture
def medsam(monkeypatch, capsys):
    """Runs a command; returns its exit status, stdout and stderr."""
    monkeypatch.setitem(door.COMMANDS, "data", ("medsam.cli.data", "lists of cases, made and checked"))

    def run(*words: object) -> tuple[int, str, str]:
        status = door.main(["data", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_check_of_a_sound_manifest(medsam, tmp_path):
    path = scans.manifest(tmp_path)
    status, out, err = medsam("check", path)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{path}: 2 cases, 0 errors, 0 warnings",
        "  patients: 2 cases without `patient`, each counted as one of its own",
    ]


def test_check_prints_a_table_and_exits_with_2(medsam, tmp_path):
    path = scans.manifest(tmp_path, 3)
    scans.label(tmp_path / "labels/a1.nii.gz", (1, 9))
    scans.label(tmp_path / "labels/a2.nii.gz", ())
    status, out, err = medsam("check", path)
    assert status == 2
    assert err == "InputError: 1 error and 1 warning in 1 manifest.\n"
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert rows[2] == "level problem case file what"
    assert rows[3].startswith("error unknown-label a1 a1.nii.gz a1.nii.gz holds unknown label values 9 (1 voxel)")
    assert rows[4] == "warning empty-label a2 a2.nii.gz its label is empty: no structure is in it."


def test_warnings_alone_are_no_failure(medsam, tmp_path):
    path = scans.manifest(tmp_path)
    scans.label(tmp_path / "labels/a1.nii.gz", ())
    assert medsam("check", path)[0] == 0


def test_check_of_several_as_json(medsam, tmp_path):
    good = scans.manifest(tmp_path / "good")
    bad = scans.manifest(tmp_path / "bad", 1)
    (tmp_path / "bad/images/a0.nii.gz").unlink()
    status, out, _ = medsam("check", good, bad, tmp_path / "none.json", "--json")
    report = json.loads(out)
    assert status == 2
    assert (report["errors"], report["warnings"]) == (2, 0)
    first, second, third = report["manifests"]
    assert (first["name"], first["cases"], first["problems"]) == ("tiny", 2, [])
    assert first["present"] == {"liver": 2, "spleen": 2}
    problem = second["problems"][0]
    assert (problem["level"], problem["kind"], problem["case"]) == ("error", "missing-file", "a0")
    assert problem["file"] == str(tmp_path / "bad/images/a0.nii.gz")
    assert (third["cases"], third["problems"][0]["kind"]) == (None, "manifest")


def test_index_writes_a_manifest_that_checks(medsam, tmp_path):
    scans.manifest(tmp_path / "set", 3)
    (tmp_path / "set/manifest.json").unlink()
    out = tmp_path / "m.json"
    status, said, _ = medsam(
        "index", tmp_path / "set", "--out", out, "--labels", "liver=1,spleen=2", "--modality", "MRI"
    )
    assert (status, said) == (0, f"wrote {out}: 3 cases of 3 patients, 3 with a label\n")
    found = read_manifest(out)
    assert (found.name, found.modality, found.labels) == ("set", "MR", {"liver": 1, "spleen": 2})
    assert medsam("check", out)[0] == 0


def test_index_tells_what_it_guessed(medsam, tmp_path):
    scans.scan(tmp_path / "set/a.nii.gz")
    scans.label(tmp_path / "set/a_seg.nii.gz", (3,))
    _, _, err = medsam("index", tmp_path / "set", "--out", tmp_path / "m.json")
    assert "label values are named label_N, for N = 3; edit the manifest, or pass --labels" in err


def test_split_by_shares(medsam, tmp_path):
    path, out = scans.manifest(tmp_path, 10), tmp_path / "split.json"
    status, said, _ = medsam("split", path, "--out", out, "--seed", 7)
    assert status == 0
    assert said == (f"wrote {out}: train 7 cases (7 patients), val 1 case (1 patient), test 2 cases (2 patients)\n")
    first = out.read_bytes()
    medsam("split", path, "--out", out, "--seed", 7)
    assert out.read_bytes() == first


def test_split_says_how_it_grouped(medsam, tmp_path):
    cases = []
    for patient in ("STS_1", "STS_2", "STS_3"):
        for kind in ("CT", "PET"):
            scans.scan(tmp_path / patient / f"{kind}.nii.gz")
            label = scans.label(tmp_path / patient / f"{kind}_seg.nii.gz")
            cases.append(
                {"id": f"{patient}{kind}", "image": f"{patient}/{kind}.nii.gz", "label": f"{patient}/{label.name}"}
            )
    path = scans.write(tmp_path / "m.json", {"labels": {"liver": 1, "spleen": 2}, "cases": cases})
    status, said, err = medsam("split", path, "--out", tmp_path / "s.json", "--test", 0.3, "--val", 0.3)
    assert (status, said.partition(": ")[2]) == (
        0,
        "train 2 cases (1 patient), val 2 cases (1 patient), test 2 cases (1 patient)\n",
    )
    assert err == (
        "6 cases joined by their folder to 3 patients, e.g. STS_1: STS_1CT, STS_1PET; where that is wrong, write "
        "`patient` into the manifest\n"
    )
    assert medsam("check", tmp_path / "s.json")[1].endswith("0 warnings\n  patients: 3, by `patient`\n")
    cases[0]["patient"], cases[1]["patient"] = "one", "another"
    _, _, err = medsam(
        "split", scans.write(path, {**json.loads(path.read_text()), "cases": cases}), "--out", path.with_name("t.json")
    )
    assert "1 person, by folder and name, counted as several patients" in err


def test_a_manifest_edited_by_hand_is_not_overwritten(medsam, tmp_path):
    path, out = scans.manifest(tmp_path / "set", 10), tmp_path / "m.json"
    path.unlink()
    card = tmp_path / "card.yaml"
    card.write_text(
        "{name: mine, title: Mine, modality: CT, labels: {liver: 1}, source: {citation: me}, licence: CC0,\n"
        'cases: one, recipe: [{image: "images/{n}.nii.gz", unlabelled: true}]}\n'
    )
    source = tmp_path / "source.json"
    assert medsam("index", tmp_path / "set", "--out", source)[0] == 0
    for words in (
        ["index", tmp_path / "set"],
        ["split", source, "--seed", 3],
        ["recipe", "--card", card, "--root", tmp_path / "set"],
    ):
        out.unlink(missing_ok=True)
        assert medsam(*words, "--out", out)[0] == 0
        first = out.read_bytes()
        assert medsam(*words, "--out", out)[0] == 0  # the same again
        edited = first.replace(b'"patient": "a0"', b'"patient": "mine"')
        assert edited != first
        out.write_bytes(edited)
        status, said, err = medsam(*words, "--out", out)
        assert (status, said) == (2, "")
        assert f"{out} is there already and holds something else, perhaps edited by hand" in err
        assert out.read_bytes() == edited
        assert medsam(*words, "--out", out, "--force")[0] == 0
        assert out.read_bytes() == first
    scan = scans.scan(tmp_path / "scan.nii.gz")
    before = scan.read_bytes()
    status, _, err = medsam("index", tmp_path / "set", "--out", scan, "--force")
    assert (status, scan.read_bytes()) == (2, before)
    assert "--force overwrites manifests" in err


def test_one_bad_label_is_named_and_does_not_stop_the_others(medsam, tmp_path):
    path = scans.manifest(tmp_path, 10)
    (tmp_path / "labels/a2.nii.gz").write_bytes(b"no label")
    status, said, err = medsam("split", path, "--out", tmp_path / "s.json")
    assert (status, said.count("7 cases")) == (0, 1)
    assert "1 label that cannot be read is spread by patient alone: Case a2, label:" in err
    assert len(read_manifest(tmp_path / "s.json").cases) == 10


def test_split_by_folds(medsam, tmp_path):
    path, tested = scans.manifest(tmp_path, 6), []
    for fold in range(3):
        out = tmp_path / f"{fold}.json"
        assert medsam("split", path, "--out", out, "--folds", 3, "--fold", fold, "--stratify", "none")[0] == 0
        tested += [case.id for case in read_manifest(out).in_split("test")]
    assert sorted(tested) == [f"a{n}" for n in range(6)]


def test_split_mends_a_patient_in_two_parts(medsam, tmp_path):
    path = scans.manifest(tmp_path, 6)
    content = json.loads(path.read_text())
    for n, case in enumerate(content["cases"]):
        case |= {"patient": f"p{n // 2}", "split": "train" if n % 2 else "test"}
    scans.write(path, content)
    assert medsam("check", path)[0] == 2
    assert medsam("split", path, "--out", path, "--test", 0.34, "--val", 0)[0] == 2
    assert medsam("split", path, "--out", path, "--test", 0.34, "--val", 0, "--force")[0] == 0
    assert medsam("check", path)[0] == 0
    assert len(read_manifest(path).in_split("test")) == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--folds", "3"], "--folds K and --fold N go together"),
        (["--folds", "3", "--fold", "0", "--test", "0.2"], "--test does not go with --folds"),
        (["--test", "2"], "--test is 2"),
    ],
)
def test_split_refuses_what_contradicts(medsam, tmp_path, words, why):
    path = scans.manifest(tmp_path)
    status, _, err = medsam("split", path, "--out", tmp_path / "out.json", *words)
    assert status == 2
    assert why in err
    assert not (tmp_path / "out.json").exists()


def test_recipe_lists_the_cards(medsam):
    status, out, _ = medsam("recipe")
    assert status == 0
    assert any(line.startswith("msd_hippocampus_mr") and "CC BY-SA 4.0" in line for line in out.splitlines())


def test_recipe_of_a_card_of_ones_own(medsam, tmp_path):
    scans.scan(tmp_path / "set/a.nii.gz")
    card = tmp_path / "card.yaml"
    card.write_text(
        "{name: mine, title: Mine, modality: CT, labels: {liver: 1}, source: {citation: me}, licence: CC0,\n"
        'cases: one, recipe: [{image: "{n}.nii.gz", unlabelled: true}]}\n'
    )
    out = tmp_path / "m.json"
    status, said, _ = medsam("recipe", "--card", card, "--root", tmp_path / "set", "--out", out)
    assert (status, said) == (0, f"wrote {out}: 1 case of 1 patient\n")
    assert medsam("recipe", "mine", "--card", card)[0] == 2
    assert "--root DIR" in medsam("recipe", "--card", card)[2]


def test_recipe_all_of_the_real_data_from_a_relative_root_into_a_new_folder(medsam, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data.parent)
    status, out, err = medsam("recipe", "--all", "--root", data.name, "--out", tmp_path / "new" / "manifests")
    assert (status, err) == (0, "")
    written = sorted((tmp_path / "new" / "manifests").glob("*.json"))
    assert len(out.splitlines()) == len(written) == 19
    monkeypatch.chdir(tmp_path)
    for manifest in written:
        assert read_manifest(manifest).cases[0].image.exists()
    assert medsam("recipe", "--all", "--root", tmp_path, "--out", tmp_path)[0] == 2


def test_fetch_decathlon_checks_its_arguments_first(medsam, tmp_path):
    status, _, err = medsam("fetch-decathlon", "Task11_Ear", "--root", tmp_path)
    assert status == 2
    assert "'Task11_Ear' is no Decathlon task. There are: Task01_BrainTumour" in err
    assert "does not exist" in medsam("fetch-decathlon", "Task04_Hippocampus", "--root", tmp_path / "none")[2]


def test_fetch_decathlon_finds_what_is_there(medsam, tmp_path):
    scans.write(tmp_path / "Task04_Hippocampus/dataset.json", {})
    assert medsam("fetch-decathlon", "Task04_Hippocampus", "--root", tmp_path) == (
        0,
        f"{tmp_path / 'Task04_Hippocampus'}\n",
        "",
    )


def test_labels_on_the_command_line():
    assert parse_labels("a=1, b c=2") == {"a": 1, "b c": 2}
    for text in ("a", "a=x", "=1", "a=0", "a=1,a=2", "a=1,b=1", ""):
        with pytest.raises(InputError, match="--labels"):
            parse_labels(text)


@pytest.mark.slow
def test_a_check_shared_by_two_processes_says_the_same(tmp_path, capsys):
    manifest = shapes(tmp_path / "set")
    (tmp_path / "set" / "c1.nii.gz").write_bytes(b"damaged")
    said = []
    for more in ([], ["--processes", "2"]):
        assert door.main(["data", "check", str(manifest), "--json", *more]) == 2
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert said[0]["errors"] == 1
