"""The receiver's folder, which is its whole state.

    series/STUDY/SERIES/instances/UID.dcm   as they came, file meta information in front; readable alone
    series/STUDY/SERIES/results/N/          what round N made of them
    series/STUDY/SERIES/series.json         the rounds: which instances, what ran, how it ended, what was sent
    failed/ID.json                          rounds and sendings that failed; a file that is removed is tried again
    status.json                             numbers, for a monitor
    .incoming/, .work/                      of this moment; emptied at each start

Only UIDs become names, and only after they were looked at: digits and dots. The folder is the owner's alone (0700): it
holds patients' images. Files appear under their names whole. Nothing is synced to the disk: after a power cut the
archive, which a receiver is not, has to send again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medsam.errors import InputError
from medsam.files import move, write_text
from medsam.io.files import read_json
from medsam.pacs.listen.incoming import Part, Space
from medsam.pacs.listen.names import SeriesKey, short
from medsam.pacs.uids import is_uid

_RECORD = "series.json"
# a receiver that was killed while it started a command leaves its lock to that for a moment
_LOCK_WAIT_S = 3.0


@dataclass
class Round:
    """What was done with a series at one time.

    instances: how many it had. digest: of their UIDs. state: "done", "failed", or "none" where no rule matched.
    message: why it failed, or what else is to be known; no patient in it. rule: its name. seconds: of the job.
    results: {"file" in `results/N`, "instance": its UID}. send: where to, and how that stands: {"server", "state":
    "waiting", "sent", "failed" or "obsolete", "attempts", "next": seconds since 1970, "message"}; None where nothing
    is to be sent.
    ended: seconds since 1970.
    """

    number: int
    instances: int
    digest: str
    state: str
    rule: str | None = None
    message: str = ""
    seconds: float = 0.0
    results: list[dict[str, str]] = field(default_factory=list)
    send: dict[str, Any] | None = None
    ended: float = 0.0


@dataclass(frozen=True)
class SeriesFolder:
    """One series in the folder."""

    key: SeriesKey
    path: Path

    @property
    def instances(self) -> Path:
        return self.path / "instances"

    def files(self) -> list[Path]:
        """Its instances, sorted."""
        with suppress(OSError):
            return sorted(path for path in self.instances.iterdir() if path.suffix == ".dcm")
        return []

    def results(self, number: int) -> Path:
        return self.path / "results" / str(number)

    def rounds(self) -> list[Round]:
        """As recorded. A record that cannot be read counts as none: the series is looked at again."""
        try:
            document = read_json(self.path / _RECORD)
            known = {one.name for one in fields(Round)}
            # a later version may know more
            return [Round(**{key: one[key] for key in known & one.keys()}) for one in document["rounds"]]
        except (InputError, KeyError, TypeError, AttributeError):
            return []

    def record(self, rounds: list[Round]) -> None:
        """Write the rounds, whole. Raises OSError."""
        document = {"rounds": [vars(one) for one in rounds]}
        write_text(self.path / _RECORD, json.dumps(document, indent=1) + "\n")


def digest_of(files: list[Path]) -> str:
    """Of the instances of a series, by their names."""
    return hashlib.sha256("\n".join(path.stem for path in files).encode()).hexdigest()


class Spool:
    """The folder. For all threads; one process at a time, which `close` ends.

    quota, keep_free: see `Space`. Raises InputError when the folder cannot be used or another receiver uses it.
    """

    def __init__(self, folder: Path, quota: int, keep_free: int) -> None:
        self.folder = folder
        self.space = Space(folder, quota, keep_free)
        self._number = 0
        # guards names: of two senders of one instance the second finds the first's
        self._lock = threading.Lock()
        # held while a record is read and written
        self.records = threading.Lock()
        try:
            for name in ("", "series", "failed", ".incoming", ".work"):
                _private_folder(folder / name)
        except OSError as error:
            raise InputError(
                f"The receiver's `folder` {folder} cannot be used: {error.strerror or error}.", parameter="folder"
            ) from error
        self._file_lock = FileLock(folder / ".lock", timeout=_LOCK_WAIT_S)
        try:
            self._file_lock.acquire()
        except Timeout:
            raise InputError(
                f"Another receiver is using the folder {folder}. Stop that one, or name another `folder`.",
                parameter="folder",
            ) from None
        for name in (".incoming", ".work"):
            _empty(folder / name)
        # what `files.write_whole` was about to write
        for pattern in (".medsam-*", "failed/.medsam-*", "series/*/*/.medsam-*"):
            for left in folder.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        self.space.add(_size_of(folder))

    def close(self) -> None:
        """Let another receiver use the folder."""
        self._file_lock.release()

    # -- instances ----------------------------------------------------------------------------------------------------

    def part_path(self) -> Path:
        """A new name for a data set that arrives."""
        with self._lock:
            self._number += 1
            return self.folder / ".incoming" / f"{self._number}.part"

    def place(self, part: Part, key: SeriesKey, instance: str) -> Path | None:
        """Give an instance that is complete its name. None when it has been taken; else the file that has the name.

        All three UIDs have been found to be some. Raises OSError.
        """
        target = self._series_path(key) / "instances" / f"{instance}.dcm"
        with self._lock:
            if target.exists():
                return target
            _private_folder(target.parent)
            # nobody writes into what has come: jobs are given links to it
            part.path.chmod(0o400)
            move(part.path, target)
            part.kept()
        return None

    def series(self) -> Iterator[SeriesFolder]:
        """Every series that has an instance."""
        for study in _folders(self.folder / "series"):
            if is_uid(study.name):
                yield from (series for series in self.study(study.name) if series.files())

    def study(self, uid: str) -> Iterator[SeriesFolder]:
        """The series of a study."""
        for series in _folders(self.folder / "series" / uid):
            if is_uid(series.name):
                yield SeriesFolder(SeriesKey(uid, series.name), series)

    def find(self, key: SeriesKey) -> SeriesFolder:
        return SeriesFolder(key, self._series_path(key))

    def _series_path(self, key: SeriesKey) -> Path:
        if not (is_uid(key.study) and is_uid(key.series)):
            raise ValueError("what is no UID never becomes a name")
        return self.folder / "series" / key.study / key.series

    def remove(self, series: SeriesFolder, digest: str) -> int | None:
        """Remove a series with all that was made of it. Returns the bytes. Raises OSError.

        digest: of its instances as they are known; when more have come, nothing is removed, and None returned.
        """
        # what was counted as it came; records never were
        size = _size_of(series.instances) + _size_of(series.path / "results")
        # out of the way at once: what is killed in the middle leaves no half of a series
        doomed = self.work_folder()
        with self._lock:
            if digest_of(series.files()) != digest:
                doomed.rmdir()
                return None
            move(series.path, doomed / "series")
            with suppress(OSError):
                series.path.parent.rmdir()
        shutil.rmtree(doomed)
        self.failure(series.key).unlink(missing_ok=True)
        self.space.give(size)
        return size

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def has_room_for(self, folder: Path) -> bool:
        """Whether what a job has written so far, which is not counted yet, would fit."""
        return self.space.has_room(_size_of(folder))

    def count_folder(self, folder: Path) -> None:
        """Count what a job made, which stays."""
        self.space.add(_size_of(folder))

    def discard_folder(self, folder: Path) -> None:
        """Remove what a job made, if it is there, and count it no more."""
        if folder.is_dir():
            self.space.give(_size_of(folder))
            shutil.rmtree(folder, ignore_errors=True)

    def work_folder(self) -> Path:
        """A new folder for a job. Raises OSError."""
        with self._lock:
            self._number += 1
            path = self.folder / ".work" / str(self._number)
        path.mkdir(mode=0o700)
        return path

    def failure(self, key: SeriesKey) -> Path:
        """The file that says that something failed with a series, and is there as long as it is not tried again."""
        return self.folder / "failed" / f"{short(key.study + key.series)}.json"

    def failures(self) -> list[Path]:
        return sorted((self.folder / "failed").glob("*.json"))


def _private_folder(path: Path) -> None:
    """Make a folder, and those above it in ours, for the owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(one for one in path.iterdir() if one.is_dir() and not one.is_symlink())
    except OSError:
        return []


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _size_of(folder: Path) -> int:
    """Bytes of the files below, each file once however many names it has."""
    total, seen = 0, set()
    for here, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found = Path(here, name).lstat()
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_size
    return total
