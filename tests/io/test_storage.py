"""Folders by path and by URL: the same names, and results that are there whole or not at all."""

from __future__ import annotations

import uuid
from contextlib import suppress

import fsspec
import pytest

from medsam.errors import InputError
from medsam.io.storage import Mirror, Storage, is_url


@pytest.fixture(params=["path", "memory"])
def storage(request, tmp_path) -> Storage:
    return Storage(tmp_path / "out" if request.param == "path" else f"memory://{uuid.uuid4().hex}/out")


def test_a_result_is_there_whole_or_not_at_all(storage):
    assert storage.is_empty()
    assert storage.read_text("cases/a.json") is None
    with suppress(ZeroDivisionError), storage.publishing("cases/a.json") as folder:
        (folder / "cases").mkdir()
        (folder / "cases" / "a.json").write_text("half")
        raise ZeroDivisionError
    assert storage.read_text("cases/a.json") is None
    with storage.publishing("cases/a.json") as folder:
        for name in ("cases", "masks"):
            (folder / name).mkdir()
        (folder / "cases" / "a.json").write_text("{}")
        (folder / "masks" / "a.txt").write_text("mask")
    assert (storage.read_text("cases/a.json"), storage.read_text("masks/a.txt")) == ("{}", "mask")
    assert not storage.is_empty()
    storage.write_text("jobs.csv", "1")
    storage.write_text("jobs.csv", "2")
    assert storage.read_text("jobs.csv") == "2"


def test_what_stands_for_a_result_comes_last(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr("medsam.io.storage.move", lambda source, target: moved.append(target.name))
    with Storage(tmp_path / "out").publishing("a.json") as folder:
        for name in ("a.json", "b.json", "z.json"):
            (folder / name).touch()
    assert moved == ["b.json", "z.json", "a.json"]


def test_a_url_of_an_unknown_kind_says_what_to_install():
    assert is_url("s3://bucket/x")
    assert not is_url("C:/scans")
    with pytest.raises(InputError, match=r"places of the kind nowhere:// cannot be read here"):
        Storage("nowhere://bucket/x")


def test_files_of_a_url_come_under_their_own_names(tmp_path):
    files, place = fsspec.filesystem("memory"), uuid.uuid4().hex
    for name in ("set/manifest.json", "set/a.nii.gz", "dicom/1.dcm", "dicom/2.dcm"):
        files.pipe_file(f"memory://{place}/{name}", name.encode())
    mirror = Mirror(f"memory://{place}/set/manifest.json", tmp_path / "all")
    assert mirror.path.read_text() == "set/manifest.json"
    beside = mirror.path.parent / "a.nii.gz"
    assert not beside.exists()
    assert mirror.fetch(beside, tmp_path / "one").read_text() == "set/a.nii.gz"
    series = mirror.fetch(mirror.path.parent.parent / "dicom", tmp_path / "one")
    assert sorted(path.name for path in series.iterdir()) == ["1.dcm", "2.dcm"]
    assert mirror.mark(beside) == mirror.mark(beside) != ()
    assert mirror.mark(mirror.path.parent / "none") == ()
    with pytest.raises(InputError, match="none cannot be fetched"):
        mirror.fetch(mirror.path.parent / "none", tmp_path)
    above = mirror.path.parent / ".." / "dicom" / "1.dcm"
    assert mirror.fetch(above, tmp_path / "two") == tmp_path / "two" / place / "dicom" / "1.dcm"


@pytest.mark.parametrize("named", ["../../../../x.txt", "/etc/hostname", "../../other/x.txt"])
def test_a_manifest_at_a_url_names_nothing_beyond_its_place(tmp_path, named):
    files, place = fsspec.filesystem("memory"), uuid.uuid4().hex
    files.pipe_file(f"memory://{place}/set/manifest.json", b"{}")
    mirror = Mirror(f"memory://{place}/set/manifest.json", tmp_path / "all")
    with pytest.raises(InputError, match="has to lie in the same place"):
        mirror.fetch(mirror.path.parent / named, tmp_path / "one" / "deep" / "er")
    assert not [*tmp_path.rglob("x.txt")]
