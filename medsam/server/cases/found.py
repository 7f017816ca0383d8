"""What a case is made of: where its voxels lie, and what is known of it before they are read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from medsam.errors import InputError, MedSAMError
from medsam.io.detached import read_layout
from medsam.io.formats import META, NIFTI, NPZ, NRRD, PICTURE, format_of

Kind = Literal["dicom", "nifti", "nrrd", "mha", "picture", "npz"]
_KINDS: dict[int, Kind] = {
    id(NIFTI): "nifti",
    id(NRRD): "nrrd",
    id(META): "mha",
    id(PICTURE): "picture",
    id(NPZ): "npz",
}
_LONGEST_NAME = 120
# the folders of an absolute path, and not those of an address
_FOLDERS = re.compile(r"(?<![\w/:.~-])/(?:[^\s/:'\"(),;]+/)+")


class ForNow(InputError):
    """A scan that could not be read this time: that says nothing of its files, so it is worth another try later.

    lasts: for how many seconds that is remembered. A failure that does not say it lasts until the files change.
    """

    lasts = 30.0


@dataclass(frozen=True)
class FoundCase:
    """A scan in a folder.

    source: what it is known by in the store, over restarts; never shown. name: for those who may see the case; of DICOM
    made of codes and numbers, for names of folders may hold a patient's. kind: of its files. modality: DICOM code.
    shape: (K, J, I) as its headers state it, unchecked. path: of the file, or of the folder of a series, below the
    root. files: of a series, below `path`; None: all that lie there. series: its UID. frame: of a file of several
    volumes. version: changes with the files. count: how many files. said: what
    somebody says in place of what they state: "modality", "spacing_mm" (i, j, k).
    """

    source: str
    name: str
    kind: Kind
    modality: str | None
    shape: tuple[int, int, int] | None
    path: str
    version: str
    files: tuple[str, ...] | None = None
    series: str | None = None
    frame: int | None = None
    count: int = 1
    said: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. Paths are quoted: a name of a file need not be a text."""
        document = asdict(self)
        if self.said is None:
            # as it was before there was any
            del document["said"]
        document["path"] = quoted(self.path)
        document["files"] = None if self.files is None else [quoted(name) for name in self.files]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> FoundCase:
        """The other way."""
        values = dict(document)
        values["path"] = unquoted(values["path"])
        values["files"] = None if values["files"] is None else tuple(map(unquoted, values["files"]))
        values["shape"] = None if values["shape"] is None else tuple(values["shape"])
        return cls(**values)


@dataclass(frozen=True)
class ScanFiles:
    """What a loader is given. root: no file outside of it is read. Everything else: as of `FoundCase`."""

    root: Path
    case: FoundCase

    @property
    def version(self) -> str:
        return self.case.version

    @property
    def path(self) -> Path:
        """The file, or the folder of the series."""
        return self.root / self.case.path

    def checked(self) -> list[Path]:
        """Every file of the scan. Raises ForNow where one is gone, is no file, or lies outside the root."""
        names = self.case.files
        files = [self.path] if names is None else [self.path / name for name in names]
        for file in files:
            self._check(file, folder=names is None and self.case.kind == "dicom")
        if self.case.kind in ("nrrd", "mha"):
            # their headers may name other files for the voxels
            for file, _ in read_layout(files[0]).files:
                self._check(file)
        return files

    def _check(self, file: Path, *, folder: bool = False) -> None:
        try:
            inside = file.resolve(strict=True).is_relative_to(self.root.resolve())
        except OSError:
            inside = False
        if not inside or not (file.is_file() or folder):
            raise ForNow(f"{file.name} is no longer there, or no file. Look at the list of cases again.")


def source_of_file(root: Path, path: str, frame: int | None) -> str:
    """The `source` of a file that is a scan."""
    return json.dumps({"root": quoted(str(root)), "path": quoted(path), "frame": frame})


def source_of_series(root: Path, series: str, person: str, path: str) -> str:
    """The `source` of a series: it may move within the root. path: tells those without a UID apart."""
    document = {"root": quoted(str(root)), "series": series, "person": person[:16]}
    return json.dumps(document if series else document | {"path": quoted(path)})


def kind_of(path: Path) -> Kind | None:
    """What a file is by its name; None for what may be DICOM, and for what is nothing alone."""
    # .hdr and .img go with one another, and neither says alone what it is
    found = None if path.name.lower().endswith((".hdr", ".img")) else format_of(path)
    return None if found is None else _KINDS[id(found)]


def shown_name(text: str) -> str:
    """A name as any screen and file takes it."""
    clean = "".join(char if char.isprintable() else "_" for char in text.replace("\\", "/").rpartition("/")[2])
    return clean.strip()[:_LONGEST_NAME] or "scan"


def without_folders(error: MedSAMError, *folders: Path) -> MedSAMError:
    """The same error, in which files are called by their names alone: where they lie is nobody's concern."""
    text = str(error)
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return type(error)(_FOLDERS.sub("", text), parameter=error.parameters)


def as_shown(error: MedSAMError, files: ScanFiles) -> MedSAMError:
    """The same error about a scan, for whoever may open it.

    A file that was uploaded is called as it came, and not as it lies here. Names of DICOM files and their folders are
    often patients' names: they are "the series", and files by their number in the order of their names.
    """
    text = str(without_folders(error, files.root))
    if files.case.kind == "dicom":
        text = _without_names(text, files)
    elif files.path.name.startswith("scan."):
        text = text.replace(files.path.name, files.case.name.partition(", volume ")[0])
    return type(error)(text, parameter=error.parameters)


def _without_names(text: str, files: ScanFiles) -> str:
    folder = files.path if files.path.is_dir() else files.path.parent
    names = files.case.files or sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    called = {name: f"file {number} of {len(names)}" for number, name in enumerate(names, start=1)}
    called |= {PurePath(name).name: number for name, number in called.items()}
    # a name of a letter or two says nobody's, and stands in other words
    words = [re.escape(name) for name in sorted(called, key=len, reverse=True) if len(name) > 3]
    if words:
        text = re.sub(rf"(?<![\w.])(?:{'|'.join(words)})(?![\w])", lambda match: called[match[0]], text)
    text = re.sub(rf"^{re.escape(folder.name)}(?=[ :/])/?", "The series", text)
    return text.replace(f"{folder.name}/", "").replace("The seriesfile", "file")


def quoted(path: str) -> str:
    return quote_from_bytes(os.fsencode(path))


def unquoted(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text))
