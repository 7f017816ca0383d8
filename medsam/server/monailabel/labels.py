"""Labels that readers submitted, as files: one by one, none in place of another.

    labels/CASE/000001.nii.gz    as it came
    labels/CASE/000001.json      whose it is, its tag, what its numbers are called, when it came

Of a reader and a tag the last one counts. Others see what a reader submitted if they may see all (reviewers), under
TAG@NAME. One that is withdrawn is no longer listed; its file stays.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medsam.errors import InputError, MedSAMError
from medsam.files import move, sync, write_whole
from medsam.geometry import VolumeGeometry
from medsam.io.labels import load_labels
from medsam.store.readers import Reader

FINAL, ORIGINAL = "final", "original"
_TAG = re.compile(r"[A-Za-z0-9 _.-]{1,64}")
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


class NoLabel(MedSAMError):
    """There is none of that tag that this reader may see."""

    status = 404


@dataclass(frozen=True)
class Submitted:
    """number: of its file. names: what its numbers mean."""

    case: str
    number: int
    reader: int
    user: str
    tag: str
    suffix: str
    names: Mapping[str, int]
    at: str
    withdrawn: bool = False

    @property
    def file(self) -> str:
        return f"{self.number:06d}{self.suffix}"


class SubmittedLabels:
    """In a folder. Methods block; any thread may call them."""

    def __init__(self, folder: Path) -> None:
        # the event loop looks at what is known: files are written under a lock of their own
        self._folder, self._lock, self._writing = folder, threading.Lock(), threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        self._known: dict[str, list[Submitted]] = {
            place.name: _read(place) for place in folder.iterdir() if place.is_dir()
        }

    def put(self, case: str, reader: Reader, tag: str, path: Path, suffix: str, names: Mapping[str, int]) -> Submitted:
        """Keep a file, which is moved here and on the disk when this returns. Raises InputError for a tag."""
        if not _TAG.fullmatch(tag):
            raise InputError("A `tag` has up to 64 letters, digits, blanks and . _ -", parameter="tag")
        with self._writing:
            place = self._folder / case
            place.mkdir(mode=0o700, exist_ok=True)
            known = self._known.get(case, [])
            number = 1 + max((one.number for one in known), default=0)
            at = datetime.now(UTC).isoformat(timespec="seconds")
            label = Submitted(case, number, reader.id, reader.name, tag, suffix, dict(names), at)
            move(path, place / label.file)
            sync(place / label.file)
            self._tell(label)
            with self._lock:
                self._known.setdefault(case, []).append(label)
            return label

    def of(self, case: str, reader: Reader) -> dict[str, Submitted]:
        """What a reader sees of a case, by tag."""
        with self._lock:
            found = dict[str, Submitted]()
            for one in self._known.get(case, ()):
                if one.reader != reader.id and not reader.sees_all:
                    continue
                tag = one.tag if one.reader == reader.id else f"{one.tag}@{one.user}"
                found[tag] = one
            return {tag: one for tag, one in found.items() if not one.withdrawn}

    def get(self, case: str, reader: Reader, tag: str) -> Submitted:
        """Raises NoLabel."""
        found = self.of(case, reader).get(tag)
        if found is None:
            raise NoLabel(f"There is no label {tag[:64]!r} of this image.", parameter="tag")
        return found

    def path(self, label: Submitted) -> Path:
        """Its file."""
        return self._folder / label.case / label.file

    def change(self, label: Submitted, **changes: Any) -> None:
        """withdrawn, names."""
        with self._writing:
            known = self._known[label.case]
            # as it is now: somebody else may have been faster
            place = next(n for n, one in enumerate(known) if one.number == label.number)
            after = replace(known[place], **changes)
            self._tell(after)
            with self._lock:
                known[place] = after

    def _tell(self, label: Submitted) -> None:
        path = self._folder / label.case / f"{label.number:06d}.json"
        with write_whole(path) as part:
            part.write_text(json.dumps({key: value for key, value in vars(label).items() if key != "case"}))
        sync(path)
        sync(path.parent)


def _read(place: Path) -> list[Submitted]:
    found = []
    for path in sorted(place.glob("*.json")):
        label = Submitted(case=place.name, **json.loads(path.read_text()))
        if (place / label.file).is_file():
            found.append(label)
    return found


def suffix_in(name: str) -> str:
    """Of a file that a client sends. Raises InputError for what no label map is read from."""
    lower = name.lower()
    for suffix in _SUFFIXES:
        if lower.endswith(suffix):
            return suffix
    raise InputError(f"A label comes as {', '.join(_SUFFIXES)}.", parameter="label")


def check_label(path: Path, geometry: VolumeGeometry) -> list[str]:
    """Read a label, in a process: the names or numbers in it. Raises InputError for one of another grid."""
    return list(load_labels(path, geometry))
