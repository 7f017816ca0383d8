"""What there is at a path, in whichever layout: `sources_at`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from medsam.annotation.importing.label_sources import (
    DATASTORE,
    Source,
    datastore_sources,
    file_sources,
    manifest_sources,
)
from medsam.annotation.importing.slice_sources import coco_sources, sa1b_sources
from medsam.errors import InputError
from medsam.io.dicom.tree import dicom_kind
from medsam.io.files import read_json
from medsam.io.formats import FORMATS, format_of

ImportFormat = Literal["auto", "manifest", "labels", "coco", "sa1b", "monailabel"]
IMPORT_FORMATS: tuple[ImportFormat, ...] = get_args(ImportFormat)


def sources_at(
    path: Path,
    layout: ImportFormat = "auto",
    *,
    numbers: Mapping[str, int] | None = None,
    structure: str | None = None,
    original: bool = False,
) -> Iterator[Source]:
    """Labels at a path, none of them read yet.

    layout: "manifest" is also nnU-Net's and the Decathlon's; "labels" are files of scans, NIfTI, SEG and all others
    that are read. numbers: structure -> value in label maps without names. structure: see `sa1b_sources`. original: see
    `datastore_sources`. Raises InputError for a path at which there is none of that.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist.", parameter="from")
    chosen = _layout_of(path) if layout == "auto" else layout
    if chosen == "manifest":
        return manifest_sources(path)
    if chosen == "monailabel":
        return datastore_sources(path / DATASTORE if path.is_dir() else path, original, numbers)
    if chosen == "coco":
        return coco_sources(path / "annotations.json" if path.is_dir() else path)
    if chosen == "sa1b":
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        return sa1b_sources([file for file in files if not path.is_dir() or _kind_of_json(file) == "sa1b"], structure)
    return file_sources(label_files(path), numbers)


def label_files(path: Path) -> list[Path]:
    """The files below a path that hold labels. Raises InputError where there is none."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    found = [
        one for one in files if not any(part.startswith(".") for part in one.relative_to(path).parts) and _is_label(one)
    ]
    if not found:
        suffixes = ", ".join(suffix for one in FORMATS for suffix in one.suffixes)
        raise InputError(f"{path} holds no labels: {suffixes} or DICOM SEG and RTSTRUCT.", parameter="from")
    return found


def _is_label(path: Path) -> bool:
    if format_of(path) is not None:
        return True
    return path.suffix.lower() in ("", ".dcm") and dicom_kind(path) in ("seg", "rtstruct")


def _layout_of(path: Path) -> ImportFormat:
    if path.is_dir():
        if (path / DATASTORE).is_file():
            return "monailabel"
        if any((path / name).is_file() for name in ("manifest.json", "dataset.json")):
            return "manifest"
        if (path / "annotations.json").is_file():
            return "coco"
        first = next(iter(sorted(path.glob("*.json"))), None)
        return "sa1b" if first is not None and _kind_of_json(first) == "sa1b" else "labels"
    if path.suffix.lower() != ".json":
        return "labels"
    found = _kind_of_json(path)
    if found is None:
        raise InputError(f"{path.name} is of no layout that is known: name it with `format`.", parameter="format")
    return found


def _kind_of_json(path: Path) -> ImportFormat | None:
    try:
        document = read_json(path)
    except InputError:
        return None
    if not isinstance(document, dict):
        return None
    keys = document.keys()
    if {"images", "annotations", "categories"} <= keys:
        return "coco"
    if {"image", "annotations"} <= keys:
        return "sa1b"
    if "objects" in keys:
        return "monailabel"
    return "manifest" if keys & {"cases", "training", "channel_names"} else None
