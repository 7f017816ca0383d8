"""`export(project, request, folder)`: masks as a data set, scan by scan.

What is written of a scan is noted in DIR/.parts/SCAN.json once its files are whole, so that an export that ended early
goes on with the next one; DIR/.parts/.request.json says of what, up to which annotation. When all is done the notes go.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medsam.annotation.exporting.card import Card, marks_of
from medsam.annotation.exporting.content import Asked, ExportRequest, Layout, contents, numbers_of
from medsam.annotation.exporting.folders import DecathlonLayout, ManifestLayout, NiftiLayout, NnunetLayout, SegLayout
from medsam.annotation.exporting.slices import CocoLayout, Sa1bLayout
from medsam.annotation.exporting.table import TableLayout
from medsam.annotation.project import AnnotationProject
from medsam.errors import InputError
from medsam.files import write_text
from medsam.io.files import read_json
from medsam.io.save import check_folder
from medsam.progress import ProgressCallback
from medsam.store.project_records import StoredScan

LAYOUTS: dict[str, Callable[[], Layout]] = {
    "manifest": ManifestLayout,
    "nifti": NiftiLayout,
    "seg": SegLayout,
    "nnunet": NnunetLayout,
    "decathlon": DecathlonLayout,
    "coco": CocoLayout,
    "sa1b": Sa1bLayout,
    "csv": TableLayout,
}


def export(
    project: AnnotationProject, request: ExportRequest, folder: Path, progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Write the masks that are asked for to `folder`, which is empty or holds what is left of the same export.

    progress: called with (scans done, scans). Returns how many scans, patients and masks there are, and remarks:
    sentences on what the layout cannot say of them.
    Raises InputError for a layout that cannot hold a scan, for nothing to export, and for a folder that holds other
    things.
    """
    layout, numbers = LAYOUTS[request.layout](), numbers_of(project, request)
    asked = Asked(project, request, numbers, _begin(project, request, folder))
    scans = project.store.scans(request.side)
    notes = folder / ".parts"
    try:
        done = _write(layout, asked, scans, folder, progress)
    except InputError:
        if not any(notes.glob("[!.]*.json")):  # nothing to go on with
            shutil.rmtree(notes)
        raise

    def noted() -> Iterator[dict[str, Any]]:
        for scan in scans:
            if (path := notes / f"{scan.name}.json").is_file():
                yield json.loads(path.read_text(encoding="utf-8"))

    remarks = layout.finish((one["part"] for one in noted()), asked, folder)
    card = Card(asked, remarks)
    for one in noted():
        card.add(one["card"])
    write_text(folder / "README.md", card.text())
    shutil.rmtree(notes)
    return {"scans": done, "patients": len(card.patients), "masks": card.by_structure.total(), "remarks": remarks}


def _write(
    layout: Layout, asked: Asked, scans: Sequence[StoredScan], folder: Path, progress: ProgressCallback | None
) -> int:
    """The files of all scans that are not written yet. Returns how many scans there are with a mask."""
    done = 0
    for number, scan in enumerate(scans):
        if progress is not None:
            progress(number, len(scans))
        note = folder / ".parts" / f"{scan.name}.json"
        if not note.is_file():
            for content in contents(asked, [scan]):
                layout.suits(scan, content.case)
                part = layout.write(content, folder)
                write_text(note, json.dumps({"part": part, "card": marks_of(content)}))
        done += note.is_file()
    if not done:
        raise InputError("There is no mask to export: nothing of what is asked for was drawn.")
    return done


def _begin(project: AnnotationProject, request: ExportRequest, folder: Path) -> int:
    """Make the folder, or make sure that it holds the beginning of this export: the last annotation that it sees."""
    check_folder(folder)
    told = json.loads(json.dumps(asdict(request)))
    note = folder / ".parts" / ".request.json"
    if note.is_file():
        before = read_json(note)
        if not isinstance(before, dict) or before.get("request") != told or not isinstance(before.get("last"), int):
            raise InputError(f"{folder} holds the beginning of another export. Name another folder.", parameter="out")
        return before["last"]
    if folder.is_dir() and any(path.name != ".parts" for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty. Name another folder.", parameter="out")
    note.parent.mkdir(parents=True, exist_ok=True)
    last = project.store.last_annotation()
    write_text(note, json.dumps({"request": told, "last": last}))
    return last
