"""How far two readers agree on a scan, where they differ, and what a reviewer has to decide.

A second reading is compared with the first one when both are handed in: Dice over all slices that both were asked for,
slice by slice, and the distance between the surfaces. Where a structure's Dice lies below the project's `differ`, a
reviewer gets the task to adjudicate, and what they draw stands.

Masks are compared as they were handed in the last time. What came of it is kept in PROJECT/agreement.json under the
hand-ins that it is of, so it never has to be declared out of date; a file that is lost is made again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medsam.annotation.project import AnnotationProject
from medsam.errors import InputError
from medsam.files import write_text
from medsam.masks import CompactMask
from medsam.metrics.surface import surface_distances
from medsam.progress import ProgressCallback
from medsam.store.project_records import Annotation, NewTask, Task, TaskEvent, TaskKind, TaskState

# before what is drawn; for reviewers alone
PRIORITY = 30.0
_HANDED_IN: tuple[TaskState, ...] = ("submitted", "approved")
_ADJUDICATE: tuple[TaskKind, ...] = ("adjudicate",)


@dataclass(frozen=True)
class Agreed:
    """A structure in two readings of a scan.

    dice: over all slices that both were asked for; None where neither has it. slices: (slice, Dice) of those on which
    one has it, the worst first. hd95_mm: None where it was not asked for, or one has nothing; of a choice of slices it
    is the mean of theirs.
    """

    structure: str
    dice: float | None
    slices: tuple[tuple[int, float], ...]
    hd95_mm: float | None = None


@dataclass(frozen=True)
class Pair:
    """Two readings of a scan. first, second: tasks. readers: names, of the first and the second."""

    first: Task
    second: Task
    readers: tuple[str, str]
    agreed: tuple[Agreed, ...]


def compare_tasks(
    project: AnnotationProject, first: Task, second: Task, *, distances: bool = False
) -> tuple[Agreed, ...]:
    """What two tasks of a scan have in common, structure by structure. distances: also HD95, for which it is read.

    Raises InputError where one was not handed in, or the scan cannot be read.
    """
    ours, theirs = _handed_in(project, first), _handed_in(project, second)
    wanted = _common(first, second)
    spacing_mm = _spacing_mm(project, first) if distances else None
    return tuple(
        _agreed(name, ours.get(name, {}), theirs.get(name, {}), wanted, spacing_mm)
        for name in first.structures
        if name in second.structures
    )


def pairs(
    project: AnnotationProject, *, distances: bool = False, progress: ProgressCallback | None = None
) -> list[Pair]:
    """All scans that two people have drawn, compared; only what was not compared before takes time.

    distances: of scans that can be read. progress: called with (done, in all).
    """
    store = project.store
    both = store.second_readings(_HANDED_IN)
    if not both:
        return []
    people = {user.id: user.name for user in store.users()}
    known, found, changed = _known(project), [], False
    for number, ((first, first_at), (second, second_at)) in enumerate(both):
        if progress is not None:
            progress(number, len(both))
        key = f"{first.id} {first_at.isoformat()} {second.id} {second_at.isoformat()}"
        agreed = known.get(key)
        if agreed is None or (distances and any(one.hd95_mm is None and one.dice for one in agreed)):
            agreed = _compared(project, first, second, distances)
            known[key], changed = agreed, True
        readers = people.get(first.holder or 0, "?"), people.get(second.holder or 0, "?")
        found.append(Pair(first, second, readers, agreed))
    if changed:
        _keep(project, known)
    return found


def agreement(
    project: AnnotationProject,
    *,
    distances: bool = False,
    places: int = 0,
    progress: ProgressCallback | None = None,
) -> list[dict[str, Any]]:
    """By structure and pair of readers: Dice of scans (mean and least), HD95 where there are distances (mean), and of
    how many scans and masks (slices on which one of the two has something).

    places: with so many slices on which the two differ most, by the names of their scans. progress: see `pairs`.
    """
    groups: dict[tuple[str, tuple[str, str]], list[tuple[int, Agreed]]] = {}
    for pair in pairs(project, distances=distances, progress=progress):
        both = (min(pair.readers), max(pair.readers))
        for one in pair.agreed:
            if one.dice is not None:
                groups.setdefault((one.structure, both), []).append((pair.first.scan, one))
    names = {scan.id: scan.name for scan in project.store.scans()} if places and groups else {}
    lines = []
    for (structure, both), found in sorted(groups.items()):
        line = {"structure": structure, "readers": list(both), **_summary([one for _, one in found])}
        if places:
            worst = sorted((value, names[scan], index) for scan, one in found for index, value in one.slices)
            line["places"] = [{"scan": scan, "slice": index, "dice": value} for value, scan, index in worst[:places]]
        lines.append(line)
    return lines


def _summary(found: Sequence[Agreed]) -> dict[str, Any]:
    dice = [one.dice for one in found if one.dice is not None]
    far = [one.hd95_mm for one in found if one.hd95_mm is not None]
    return {
        "dice": float(np.mean(dice)),
        "dice_min": min(dice),
        "hd95_mm": float(np.mean(far)) if far else None,
        "scans": len(found),
        "masks": sum(len(one.slices) for one in found),
    }


def decisions(project: AnnotationProject) -> dict[str, int]:
    """How many were taken between two readings, and how many of these by one of the two readers."""
    taken = {event.task: bool(event.details.get("own")) for event in project.store.task_events(kinds=["taken"])}
    done = [taken.get(task.id, False) for task in project.store.tasks(_HANDED_IN, _ADJUDICATE)]
    return {"decisions": len(done), "own": sum(done)}


def disagreements(project: AnnotationProject) -> list[tuple[Pair, Agreed, Task | None]]:
    """Structures on which two readers differ by more than the project allows, the worst first, with the task in which
    a reviewer decides."""
    settings = project.settings
    deciding = {task.after: task for task in project.store.tasks(kinds=_ADJUDICATE) if task.state != "withdrawn"}
    found = [
        (pair, one, deciding.get(pair.first.id))
        for pair in pairs(project)
        for one in pair.agreed
        if one.dice is not None and not settings.agrees(one.dice)
    ]
    return sorted(found, key=lambda each: (each[1].dice or 0.0, each[0].first.id))


def adjudicate(project: AnnotationProject, first: Task, second: Task) -> Task | None:
    """The task for a reviewer, where two readings of a scan differ and there is none yet; else None."""
    store = project.store
    there = store.tasks(kinds=_ADJUDICATE, scan=first.scan)
    if any(task.after == first.id and task.state != "withdrawn" for task in there):
        return None
    agreed = compare_tasks(project, first, second)
    settings = project.settings
    apart = tuple(one.structure for one in agreed if one.dice is not None and not settings.agrees(one.dice))
    if not apart:
        return None
    wanted = _common(first, second)
    slices = None if wanted is None else tuple(sorted(wanted))
    new = NewTask(first.scan, apart, "adjudicate", first.stage, slices, PRIORITY, after=first.id)
    return store.add_tasks([new])[0]


def gold_results(project: AnnotationProject) -> list[dict[str, Any]]:
    """Of each reader, how many gold tasks were handed in and the mean Dice with the references."""
    store = project.store
    gold = {task.id for task in store.tasks(_HANDED_IN, kinds=["gold"])}
    if not gold:
        return []
    people = {user.id: user.name for user in store.users()}
    last: dict[int, TaskEvent] = {}
    for event in store.task_events(kinds=["submitted"]):
        if event.task in gold:
            last[event.task] = event
    found: dict[str, list[float]] = {}
    for event in last.values():
        if values := [float(one) for one in (event.details.get("dice") or {}).values()]:
            found.setdefault(people.get(event.by or 0, "?"), []).append(float(np.mean(values)))
    return [
        {"reader": name, "tasks": len(values), "dice": float(np.mean(values))} for name, values in sorted(found.items())
    ]


# -- how ------------------------------------------------------------------------------------------------------------

Masks = dict[str, dict[int, CompactMask]]


def _compared(project: AnnotationProject, first: Task, second: Task, distances: bool) -> tuple[Agreed, ...]:
    """Without distances where the scan cannot be read any more: what was drawn can still be compared."""
    if distances:
        with suppress(InputError):
            return compare_tasks(project, first, second, distances=True)
    return compare_tasks(project, first, second)


def _handed_in(project: AnnotationProject, task: Task) -> Masks:
    """Structure -> slice -> mask, of the last time that a task was handed in."""
    events = project.store.task_events(task.id, ["submitted"])
    if not events:
        raise InputError("A task is compared when it was handed in, and this one was not.", parameter="task")
    # rows of one hand-in have one time
    found: Masks = {}
    for one in project.store.annotations_of(task.id):
        if one.at == events[-1].at and _drawn(one):
            found.setdefault(one.structure, {})[one.slice] = one.mask
    return found


def _drawn(one: Annotation) -> bool:
    return one.status in ("accepted", "edited") and bool(one.mask)


def _common(first: Task, second: Task) -> Collection[int] | None:
    """Slices that both were asked for; None: all."""
    if first.slices is None or second.slices is None:
        return first.slices if second.slices is None else second.slices
    return set(first.slices) & set(second.slices)


def _agreed(
    structure: str,
    ours: Mapping[int, CompactMask],
    theirs: Mapping[int, CompactMask],
    wanted: Collection[int] | None,
    spacing_mm: tuple[float, float, float] | None,
) -> Agreed:
    there = sorted(n for n in {*ours, *theirs} if wanted is None or n in wanted)
    if not there:
        return Agreed(structure, None, ())
    shared, total, slices = 0, 0, []
    planes: list[tuple[np.ndarray, np.ndarray]] = []
    for n in there:
        shape = (ours.get(n) or theirs[n]).shape
        one, other = (
            ours.get(n, CompactMask.empty(shape)).to_array(),
            theirs.get(n, CompactMask.empty(shape)).to_array(),
        )
        both, each = int(np.count_nonzero(one & other)), int(np.count_nonzero(one)) + int(np.count_nonzero(other))
        shared, total = shared + both, total + each
        slices.append((n, 2 * both / each))
        planes.append((one, other))
    far = None if spacing_mm is None else _hd95(there, planes, spacing_mm, whole=wanted is None)
    return Agreed(structure, 2 * shared / total, tuple(sorted(slices, key=lambda each: (each[1], each[0]))), far)


def _hd95(
    there: list[int], planes: list[tuple[np.ndarray, np.ndarray]], spacing_mm: tuple[float, float, float], whole: bool
) -> float | None:
    """In mm. whole: the slices are neighbours, and the surfaces those of a volume."""
    if whole:
        shape = (there[-1] - there[0] + 1, *planes[0][0].shape)
        one, other = np.zeros(shape, bool), np.zeros(shape, bool)
        for n, (mine, yours) in zip(there, planes, strict=True):
            one[n - there[0]], other[n - there[0]] = mine, yours
        far = [surface_distances(one, other, spacing_mm).hd95()]
    else:
        far = [surface_distances(one, other, spacing_mm[1:]).hd95() for one, other in planes]
    finite = [value for value in far if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _spacing_mm(project: AnnotationProject, task: Task) -> tuple[float, float, float] | None:
    """Across slices, rows, columns; None for a picture without millimetres."""
    geometry = project.case(project.store.scan(task.scan)).load_image().geometry
    if not geometry.calibrated:
        return None
    plane = geometry.plane(project.settings.axis)
    return (float(geometry.spacing_mm["kji".index(plane.axis)]), *plane.spacing_mm)


# -- what is kept ---------------------------------------------------------------------------------------------------


def _known(project: AnnotationProject) -> dict[str, tuple[Agreed, ...]]:
    try:
        document = json.loads((project.folder / "agreement.json").read_text(encoding="utf-8"))
        return {key: tuple(_of(one) for one in found) for key, found in document.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _of(document: Mapping[str, Any]) -> Agreed:
    found = Agreed(**document)
    return replace(found, slices=tuple((int(n), float(value)) for n, value in found.slices))


def _keep(project: AnnotationProject, known: Mapping[str, tuple[Agreed, ...]]) -> None:
    document = {key: [asdict(one) for one in found] for key, found in known.items()}
    write_text(project.folder / "agreement.json", json.dumps(document, indent=1) + "\n")
