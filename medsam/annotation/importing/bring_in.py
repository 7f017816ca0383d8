"""`import_masks(project, path)`: masks from elsewhere as rows of the project, scan by scan.

A scan's masks come in all at once or not at all. What stands on a place and is the same stays; what differs is followed
by a further row, as with all that is drawn. Nothing is guessed: what fits no scan or no structure is said.

A task is done with that where its structures all came, on all of the slices that it asks for. Otherwise it stays, and
its session begins from what came. While somebody works on it nothing comes: what they hand in would end it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from medsam.annotation.importing.label_sources import SliceMask, Source
from medsam.annotation.importing.matching import Scans
from medsam.annotation.importing.sources import ImportFormat, sources_at
from medsam.annotation.project import AnnotationProject
from medsam.errors import InputError, counted, listed
from medsam.io.structure_names import plain_name
from medsam.progress import ProgressCallback
from medsam.store.annotations import DONE
from medsam.store.project_records import MAKING, NewAnnotation, StoredScan
from medsam.store.readers import Reader


@dataclass(frozen=True)
class ImportRequest:
    """path, layout, numbers: see `sources.sources_at`. structures: only these; None: all of the project's.

    status: "accepted": they stand, as if drawn here. "proposed": a person is asked about them. replace_approved: they
    also follow masks that a reviewer approved, which else stay.
    """

    path: Path
    layout: ImportFormat = "auto"
    numbers: Mapping[str, int] | None = None
    structures: tuple[str, ...] | None = None
    status: Literal["accepted", "proposed"] = "accepted"
    replace_approved: bool = False


@dataclass
class Imported:
    """What came in. same: masks that were there already. replaced: those that stood and differed. approved: those that
    a reviewer approved, and that stay although what came differs. withdrawn: tasks that nobody has to do any more.
    remarks: sentences on what did not fit."""

    scans: int = 0
    masks: int = 0
    same: int = 0
    replaced: int = 0
    approved: int = 0
    withdrawn: int = 0
    remarks: list[str] = field(default_factory=list)


def import_masks(
    project: AnnotationProject,
    request: ImportRequest,
    by: Reader | None = None,
    progress: ProgressCallback | None = None,
) -> Imported:
    """progress: called with (labels done, labels). by: who drew them.

    Raises InputError for a path without labels, a structure that the project does not have, and a label that does not
    fit its scan; scans that came before that are kept, and the same call goes on.
    """
    asked = _asked(project, request)
    only = next(iter(asked.values())) if request.structures is not None and len(asked) == 1 else None
    sources = list(
        sources_at(
            request.path,
            request.layout,
            numbers=request.numbers,
            structure=only,
            original=request.status == "proposed",
        )
    )
    found, told = _by_scan(Scans(project), sources), Imported()
    elsewhere = [source.where for scan, some in found if scan is None for source in some]
    if elsewhere:
        told.remarks.append(f"{counted(len(elsewhere), 'label')} of no scan of this project: {listed(elsewhere, 5)}.")
    unknown: Counter[str] = Counter()
    for number, (scan, some) in enumerate(found):
        if progress is not None:
            progress(number, len(found))
        if scan is None:
            continue
        if (why := _left_out(project, scan)) is not None:
            told.remarks.append(why)
            continue
        masks = _read(project, scan, some, asked, unknown)
        _store(project, scan, masks, request, by, told)
        told.withdrawn += _withdraw(project, scan, masks, request, all(source.whole for source in some))
    for name, count in unknown.items():
        told.remarks.append(f"{name!r} is no structure of this project: {counted(count, 'scan')} had it.")
    if told.approved:
        told.remarks.append(
            f"{counted(told.approved, 'mask')} that a reviewer approved differ from what came, and stay; it follows "
            "them where `replace_approved` is asked for."
        )
    _check_some(told, request)
    return told


def _check_some(told: Imported, request: ImportRequest) -> None:
    """Raises InputError where nothing came in."""
    if not told.masks and not told.same:
        reasons = " ".join(told.remarks) or "There was no mask in it."
        parameter = "replace_approved" if told.approved else ()
        raise InputError(f"Nothing of {request.path.name} came in. {reasons}", parameter=parameter)


def _asked(project: AnnotationProject, request: ImportRequest) -> dict[str, str]:
    """Plain name -> structure, of those that are let in."""
    there = {plain_name(name): name for name in project.labels}
    if request.structures is None:
        return there
    unknown = [name for name in request.structures if plain_name(name) not in there]
    if unknown:
        raise InputError(
            f"The project has no structure {unknown[0]!r}; it has: {', '.join(project.labels)}.", parameter="structures"
        )
    return {plain_name(name): there[plain_name(name)] for name in request.structures}


def _by_scan(scans: Scans, sources: Sequence[Source]) -> list[tuple[StoredScan | None, list[Source]]]:
    """Labels of a scan together, in the order in which they come."""
    found: dict[int | None, tuple[StoredScan | None, list[Source]]] = {}
    for source in sources:
        scan = scans.find(source.image, source.names, source.series)
        found.setdefault(None if scan is None else scan.id, (scan, []))[1].append(source)
    return list(found.values())


def _read(
    project: AnnotationProject,
    scan: StoredScan,
    sources: Sequence[Source],
    asked: Mapping[str, str],
    unknown: Counter[str],
) -> list[SliceMask]:
    """The masks of a scan by the project's names, each place once."""
    case = project.case(scan)
    volume = case.load_image()
    joined: dict[tuple[str, str, int], SliceMask] = {}
    others = set[str]()
    for source in sources:
        for one in source.masks(volume, project.settings.axis):
            if (name := asked.get(plain_name(one.name))) is None:
                others.add(one.name)
                continue
            place = name, one.axis, one.slice
            mask = joined[place].mask | one.mask if place in joined else one.mask
            joined[place] = SliceMask(name, one.axis, one.slice, mask)
    unknown.update(name for name in others if plain_name(name) not in {plain_name(one) for one in project.labels})
    return list(joined.values())


def _store(
    project: AnnotationProject,
    scan: StoredScan,
    masks: Sequence[SliceMask],
    request: ImportRequest,
    by: Reader | None,
    told: Imported,
) -> None:
    """The rows of a scan."""
    store = project.store
    statuses = (*DONE, "proposed") if request.status == "proposed" else DONE
    there = {(row.structure, row.axis, row.slice): row for row in store.standing(scan.id, statuses)}
    rows = []
    for one in masks:
        row = there.get((one.name, one.axis, one.slice))
        if row is not None and row.mask == one.mask:
            told.same += 1
            continue
        if row is not None and row.status != "proposed":
            if request.status == "proposed":
                continue  # somebody's word stands
            if row.status == "approved" and not request.replace_approved:
                told.approved += 1
                continue
            told.replaced += 1
        rows.append(NewAnnotation(scan.id, one.name, one.axis, one.slice, request.status, one.mask))
    if rows:
        store.add_annotations(rows, by)
    told.masks += len(rows)
    told.scans += bool(masks)


def _left_out(project: AnnotationProject, scan: StoredScan) -> str | None:
    """Why nothing comes in for a scan now; None where it does."""
    if scan.labelled:
        return f"Scan {scan.name} came with a reference, which stands: its labels are left out."
    tasks = project.store.tasks(["taken"], MAKING, scan=scan.id)
    if any(task.until is None or task.until > datetime.now(UTC) for task in tasks):
        return f"Somebody is drawing on scan {scan.name}: its labels are left out. Import them when it is handed in."
    return None


def _withdraw(
    project: AnnotationProject, scan: StoredScan, masks: Sequence[SliceMask], request: ImportRequest, whole: bool
) -> int:
    """No task for what these masks answer, where they stand: how many there were. whole: see `Source`."""
    if request.status == "proposed":
        return 0
    drawn, slices = {one.name for one in masks}, {one.slice for one in masks}
    tasks = [
        task for task in project.store.tasks(["open"], ["draw"], scan=scan.id) if drawn.issuperset(task.structures)
    ]
    done = [task.id for task in tasks if whole or (task.slices is not None and slices.issuperset(task.slices))]
    return project.store.withdraw_tasks(done, "Its masks came from elsewhere.") if done else 0
