"""Cases of folders in the store, over restarts of the server and of the process that looks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dicom_files
import pytest

from medsam.errors import InputError
from medsam.io.dicom.tree import image_header
from medsam.server.cases import rooms
from medsam.server.cases.folder import Folder
from medsam.server.cases.index import CaseIndex, distinct
from medsam.server.cases.watch import Watcher
from medsam.store.readers import Reader, Role
from medsam.store.store import Store

READER = Reader(1, "local", Role.ADMINISTRATOR)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, uid in (("one", "1.2.3.1"), ("two", "1.2.3.2")):
        dicom_files.series(tmp_path / "data" / name, dicom_files.slices(3), SeriesInstanceUID=uid, Modality="MR")
    for path in (tmp_path / "data").rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "store") as store:
        yield store


class Index(CaseIndex):
    """Told what a folder holds, without a process."""

    def look(self, root: Path) -> None:
        for delta in Folder(root).look():
            self._heard(root, delta)


def begun(store: Store, *roots: Path) -> Index:
    index = Index(store, roots, (), 5.0, lambda key: None)
    index.adopt()
    return index


def keys(store: Store) -> dict[str, str]:
    return {case.details["scan"]["path"]: case.key for case in store.cases(READER)}


def test_ids_are_the_same_after_a_restart_and_in_another_place_of_the_folder(store, root):
    begun(store, root).look(root)
    first = keys(store)
    assert set(first) == {"one", "two"}
    (root / "one").rename(root / "moved")
    begun(store, root).look(root)
    assert keys(store) == {"moved": first["one"], "two": first["two"]}


def test_what_went_while_the_server_was_away_has_vanished_and_comes_back(store, root):
    begun(store, root).look(root)
    first = keys(store)
    (root / "one").rename(root.parent / "away")
    again = begun(store, root)
    assert keys(store) == first  # until it is looked at
    again.look(root)
    assert keys(store) == {"two": first["two"]}
    assert store.case(READER, first["one"]).vanished_at is not None
    (root.parent / "away").rename(root / "one")
    begun(store, root).look(root)
    assert keys(store) == first
    # a folder that the server is no longer told
    begun(store)
    assert keys(store) == {}


def test_folders_in_folders_count_once(tmp_path, root):
    (tmp_path / "link").symlink_to(root)
    assert distinct([root, root / "one", tmp_path / "link"]) == (root.resolve(),)
    with pytest.raises(InputError, match="no folder"):
        rooms._checked_roots((tmp_path / "nowhere",))


def test_the_first_images_of_many_series_in_one_folder_are_found_in_one_reading(tmp_path, monkeypatch):
    for number in range(3):
        files = sorted(
            dicom_files.series(tmp_path / "in", dicom_files.slices(3), SeriesInstanceUID=f"1.2.{number}").iterdir()
        )
        (tmp_path / "all").mkdir(exist_ok=True)
        for file in files:
            file.rename(tmp_path / "all" / f"{number}-{file.name}")
    (tmp_path / "all" / "0").write_bytes(bytes(128) + b"DICM damaged")
    read: list[Path] = []
    monkeypatch.setattr(rooms, "image_header", lambda path: read.append(path) or image_header(path))
    first = rooms._FirstImages(tmp_path / "all")
    assert [first.of(uid).name[0] for uid in ("1.2.0", "1.2.2", "1.2.1")] == ["0", "2", "1"]
    assert first.of(None) == first.of("1.2.0") == read[1]
    assert len(read) == len(set(read)) == 1 + 3 + 3 + 1
    assert first.of("1.2.9") is None


def test_a_process_that_dies_is_started_again(root, monkeypatch):
    monkeypatch.setattr("medsam.server.cases.watch._FIRST_PAUSE", 0.05)
    found: list[set[str]] = []
    watcher = Watcher(
        (root,), lambda place, delta: found[-1].update(case.path for case in delta.found), every=0.1,
        started=lambda: found.append(set()),
    )  # fmt: skip
    try:
        for life in (1, 2):
            until = time.monotonic() + 30
            while len(found) < life or found[-1] != {"one", "two"}:
                assert time.monotonic() < until
                time.sleep(0.02)
            if life == 1:
                os.kill(watcher.process.pid, signal.SIGKILL)
    finally:
        watcher.close()
    assert watcher.deaths == 1
