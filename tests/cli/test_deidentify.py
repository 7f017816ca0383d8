"""`medsam data deidentify`: what it prints, writes and refuses."""

from __future__ import annotations

import json

import pytest
from dicom_files import numbered, slices, write
from markers import MARKER, NAME, found_below, found_in
from pydicom.uid import SecondaryCaptureImageStorage

from medsam.cli import main as door


@pytest.fixture
def deidentify(capsys):
    """Runs the command; returns its exit status, stdout and stderr, in which no name is."""

    def run(*words: object) -> tuple[int, str, str]:
        status = door.main(["data", "deidentify", *map(str, words)])
        said = capsys.readouterr()
        assert found_in((said.out + said.err).encode()) == []
        return status, said.out, said.err

    return run


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    numbered(folder / MARKER, f"{MARKER}{{}}.dcm", 3)
    write(folder / "brain" / "1.dcm", slices(1)[0], PatientName=NAME, BodyPartExamined="BRAIN", SeriesInstanceUID="1.9")
    return folder


def test_a_run_and_its_report(deidentify, source, tmp_path):
    target, key = tmp_path / "out", tmp_path / "key"
    status, out, err = deidentify(source, target, "--new-key", key)
    assert (status, err) == (0, "")
    assert ["written", "4"] in [line.split() for line in out.splitlines()]
    assert "1 series: the head is in the picture" in out
    assert "wrote" in out
    assert "look through it before you give it away" in out
    assert found_below(target) == {}
    report = json.loads((target / "report.json").read_text())
    assert report["files"] == {"written": 4}
    assert report["complete"] is True
    assert key.stat().st_mode & 0o077 == 0
    # the same again, as one document
    status, out, err = deidentify(source, target, "--key", key, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["files"] == {"copied before": 4}


def test_files_that_are_not_copied_are_told_by_number_and_by_exit_status(deidentify, source, tmp_path):
    write(source / f"z{MARKER}.dcm", slices(1)[0], SOPClassUID=SecondaryCaptureImageStorage)
    status, out, err = deidentify(source, tmp_path / "out")
    assert status == 2
    assert "InputError: 1 DICOM file of 5 not copied" in err
    row = next(line for line in out.splitlines() if line.startswith("text may be burned in"))
    assert row.split()[-2:] == ["1", "5"]


def test_without_a_key_a_folder_is_made_once(deidentify, source, tmp_path):
    assert deidentify(source, tmp_path / "out")[0] == 0
    status, _, err = deidentify(source, tmp_path / "out")
    assert status == 2
    assert "use --key from the start" in err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--keep", "names"), "--keep knows dates, patient"),
        (("--keep", "dates", "--shift-dates"), "--shift-dates"),
        (("--new-key", "{in}/key"), "lies with the data"),
        (("--key", "{in}/../nokey"), "cannot be read"),
        (("--masks", "{in}/../norules"), "cannot be read"),
        (("--names", "{out}/names.tsv"), "lies with the data"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(deidentify, source, tmp_path, words, why):
    target = tmp_path / "out"
    given = [word.replace("{in}", str(source)).replace("{out}", str(target)) for word in words]
    status, out, err = deidentify(source, target, *given)
    assert (status, out) == (2, "")
    assert why in err
    assert not target.exists()


def test_the_list_of_files_is_never_written_over_the_key(deidentify, source, tmp_path):
    key, names = tmp_path / "key", tmp_path / "names"
    assert deidentify(source, tmp_path / "out", "--new-key", key, "--names", names)[0] == 0
    held = key.read_text()
    for words in (("--key", key, "--names", key), ("--names", key)):
        status, _, err = deidentify(source, tmp_path / "other", *words)
        assert (status, key.read_text()) == (2, held)
        assert "--names" in err or "list" in err
    # a list of an earlier run makes room for the next, whoever might read it
    names.chmod(0o644)
    assert deidentify(source, tmp_path / "out", "--key", key, "--names", names)[0] == 0
    assert names.stat().st_mode & 0o077 == 0


def test_a_target_that_cannot_be_written_is_no_defect(deidentify, source, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in (tmp_path / "file" / "out", tmp_path / "link"):
        status, _, err = deidentify(source, target)
        assert status == 2
        assert "cannot be written" in err


def test_a_folder_without_dicom_and_one_that_is_not_there(deidentify, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("none")
    assert "holds no DICOM file" in deidentify(tmp_path / "in", tmp_path / "out")[2]
    assert "is not there" in deidentify(tmp_path / "nowhere", tmp_path / "out2")[2]
