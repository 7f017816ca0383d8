"""Which scan of a project a label belongs to: by the image's file, by its series, or by its name; never by a guess."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from medsam.annotation.project import AnnotationProject
from medsam.errors import InputError
from medsam.io.formats import suffix_of
from medsam.store.project_records import StoredScan

Key = TypeVar("Key", Path, str)


class Scans:
    """The scans of a project, to be found."""

    def __init__(self, project: AnnotationProject) -> None:
        self._cases = {scan.name: (scan, project.case(scan)) for scan in project.store.scans()}

    def find(self, image: Path | None, names: Iterable[str], series: frozenset[str] = frozenset()) -> StoredScan | None:
        """image: the file or folder that a label says it is of. names: what it is called, the surest first. series:
        UIDs that it cites. None where none of them leads to one scan alone."""
        if image is not None and (found := self._by_file.get(image.resolve())) is not None:
            return found
        by_series = {uid: found for uid in series if (found := self._by_series.get(uid)) is not None}
        if len(by_series) == 1:
            return next(iter(by_series.values()))
        for name in names:
            if name in self._cases:
                return self._cases[name][0]
            if (found := self._by_stem.get(name)) is not None:
                return found
        return None

    @cached_property
    def _by_file(self) -> dict[Path, StoredScan]:
        return _alone((case.image.resolve(), scan) for scan, case in self._cases.values())

    @cached_property
    def _by_stem(self) -> dict[str, StoredScan]:
        """File names without their suffix, of those that only one scan has."""
        return _alone((stem_of(case.image), scan) for scan, case in self._cases.values())

    @cached_property
    def _by_series(self) -> dict[str, StoredScan]:
        """Read from one file of each DICOM scan, when it is needed."""
        return _alone((uid, scan) for scan, case in self._cases.values() if (uid := case.series or _series(case.image)))


def stem_of(path: Path) -> str:
    """A file's name without its suffix, of which .nii.gz is one."""
    return path.name.removesuffix(suffix_of(path)) if suffix_of(path) else path.name


def _series(image: Path) -> str | None:
    from medsam.io.dicom.tree import image_header

    files = sorted(path for path in image.rglob("*") if path.is_file()) if image.is_dir() else [image]
    for path in files:
        try:
            header = image_header(path)
        except InputError:
            continue
        if header is not None:
            return header.series or None
    return None


def _alone(found: Iterable[tuple[Key, StoredScan]]) -> dict[Key, StoredScan]:
    """Keys that one scan has."""
    scans: dict[Key, StoredScan] = {}
    twice: set[Key] = set()
    for key, scan in found:
        if key in scans:
            twice.add(key)
        scans[key] = scan
    return {key: scan for key, scan in scans.items() if key not in twice}
