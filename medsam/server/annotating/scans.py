"""A project's scans as cases of the server. Their files stay where the manifest found them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from medsam.annotation.project import AnnotationProject
from medsam.server.cases.found import FoundCase, kind_of, quoted, shown_name
from medsam.server.cases.index import PROJECT
from medsam.store.project_records import StoredScan
from medsam.store.records import NewCase

# what the source of all of them begins with
SOURCES = f'{{"{PROJECT}": '


def as_case(project: AnnotationProject, scan: StoredScan, *, look: bool = False) -> NewCase:
    """A scan as a case that all readers may open, under its name in the manifest.

    look: whether its files are looked at, for what tells them from what they were. Raises InputError for a document
    that is none.
    """
    case = project.case(scan)
    # links may lead anywhere, and no file outside of the root is read
    image = case.image.resolve()
    folder = image.is_dir()
    root, path = (image, ".") if folder else (image.parent, image.name)
    files = list(_files(image)) if look else []
    said = {"modality": case.modality, "spacing_mm": None if case.spacing_mm is None else list(case.spacing_mm)}
    found = FoundCase(
        source=json.dumps({PROJECT: scan.key, "root": quoted(str(root))}),
        name=shown_name(scan.name),
        kind="dicom" if folder else kind_of(image) or "dicom",
        modality=scan.modality or case.modality,
        shape=None,
        path=path,
        version=hashlib.sha256(repr(files).encode(errors="surrogateescape")).hexdigest()[:24] if files else "",
        series=case.series,
        frame=case.frame,
        count=len(files) or 1,
        said={name: value for name, value in said.items() if value is not None} or None,
    )
    details = {"scan": found.to_dict(), PROJECT: scan.key}
    return NewCase(found.source, "data", found.name, None, found.modality, details)


def scan_of(source: str) -> str:
    """The key of the scan that a case's source names."""
    return str(json.loads(source)[PROJECT])


def _files(image: Path) -> Iterator[tuple[str, int, int]]:
    """(path, size, time) of the file, or of all below the folder."""
    below = sorted(image.rglob("*")) if image.is_dir() else [image]
    for path in below:
        with suppress(OSError):
            state = path.stat()
            if path.is_file():
                yield str(path.relative_to(image.parent)), state.st_size, state.st_mtime_ns
