"""What is exported: which masks, and of a scan all that a layout may need, read when it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from medsam.annotation.label_files import joined_masks
from medsam.annotation.project import AnnotationProject
from medsam.data.manifest import Case
from medsam.errors import InputError
from medsam.io.label_sets import Overlap
from medsam.masks import PackedMasks
from medsam.store.annotations import DONE
from medsam.store.project_records import MAKING, Annotation, Effort, Side, Status, StoredScan
from medsam.transforms.intensity import IntensityWindow, resolve_window
from medsam.volume import Volume


@dataclass(frozen=True)
class ExportRequest:
    """layout: a key of `export.LAYOUTS`. structures, side: None for all. licence: for the card, as the user says it.

    overlap: which structure has a voxel of several where a layout has one number a voxel, in the project's order.
    """

    layout: str
    statuses: tuple[Status, ...] = DONE
    structures: tuple[str, ...] | None = None
    side: Side | None = None
    licence: str | None = None
    overlap: Overlap = "error"


@dataclass(frozen=True)
class Asked:
    """What every scan of an export has in common. numbers: structure -> its value. last: see `store.standing`."""

    project: AnnotationProject
    request: ExportRequest
    numbers: Mapping[str, int]
    last: int


@dataclass(frozen=True)
class Maker:
    """Who and what made a mask, also where the last word on it is a reviewer's. reader: id of a user."""

    reader: int | None
    model: str | None
    weights: str | None
    effort: Effort
    stage: int


def maker_of(project: AnnotationProject, row: Annotation) -> Maker:
    """Found along the rows that a row is about: an approval is about what a reader did, that about a proposal.

    What was returned and handed in again is about what it was before; it cost what all of that did.
    """
    chain = [row]
    while (parent := chain[-1].parent) is not None:
        chain.append(project.store.annotation(parent))
    did = next((one for one in chain if one.status != "approved"), row)
    reader = next((one.by for one in chain if one.status != "approved" and one.by is not None), None)
    by_model = next((one for one in chain if one.model is not None), None)
    model, weights = (None, None) if by_model is None else (by_model.model, by_model.weights)
    same = [one.effort for one in chain if one.task is not None and (one.task, one.by) == (did.task, did.by)]
    return Maker(reader, model, weights, _sum_of(same) if len(same) > 1 else did.effort, did.stage)


def _sum_of(efforts: Sequence[Effort]) -> Effort:
    """efforts: the last one first."""
    known = [one.seconds for one in efforts if one.seconds is not None]
    return Effort(
        sum(one.clicks for one in efforts),
        sum(one.boxes for one in efforts),
        sum(one.strokes for one in efforts),
        sum(known) if known else None,
        [entry for one in reversed(efforts) for entry in one.prompts or ()] or None,
    )


@dataclass(frozen=True)
class ScanContent:
    """A scan with the masks that are asked for, by structure, axis and slice; there is at least one."""

    scan: StoredScan
    case: Case
    rows: tuple[Annotation, ...]
    asked: Asked

    @cached_property
    def image(self) -> Volume:
        return self.case.load_image()

    @cached_property
    def window(self) -> IntensityWindow:
        """Through which all its slices are seen."""
        return resolve_window(self.image, self.case.window or "auto")

    @cached_property
    def masks(self) -> PackedMasks:
        """bool (K, J, I) by structure, in the project's order."""
        found = joined_masks(self.rows, self.image.geometry, self.scan.name)
        masks = PackedMasks(self.image.geometry.shape)
        for name in self.asked.numbers:
            if name in found:
                masks.add(name, found[name])
        return masks

    @cached_property
    def makers(self) -> dict[int, Maker]:
        """Of each mask, by its id."""
        return {row.id: maker_of(self.asked.project, row) for row in self.rows}

    def known_slices(self) -> frozenset[int] | None:
        """Those along the first mask's axis that somebody has looked at; None: all of them.

        A task of some slices says nothing of the others, and one that waits, or was skipped, nothing of any: masks that
        came from elsewhere or from the model alone are all that is known then.
        """
        tasks = self.asked.project.store.tasks(("submitted", "approved", "withdrawn"), MAKING, scan=self.scan.id)
        if any(task.slices is None for task in tasks):
            return None
        there = {index for task in tasks for index in task.slices or ()}
        return frozenset(there | {row.slice for row in self.rows})


class Layout(Protocol):
    """How a data set is laid out."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Raise InputError for a scan that it cannot hold."""
        ...

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        """The files of a scan, each whole; what `finish` needs to know of them, ready for JSON."""
        ...

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        """What is about all scans. parts: of each scan, in order, one at a time. Returns sentences on what the layout
        cannot say of these masks."""
        ...


def contents(asked: Asked, scans: Iterable[StoredScan]) -> Iterator[ScanContent]:
    """Scan by scan; those without a mask that is asked for are left out."""
    store, request = asked.project.store, asked.request
    for scan in scans:
        rows = store.standing(scan.id, request.statuses, last=asked.last, structures=list(asked.numbers))
        if there := tuple(row for row in rows if row.mask.area):
            yield ScanContent(scan, asked.project.case(scan), there, asked)


def numbers_of(project: AnnotationProject, request: ExportRequest) -> dict[str, int]:
    """Structure -> its value: the project's, or from 1 where only some are asked for.

    Raises InputError for a structure that the project does not have.
    """
    numbers = project.labels
    if request.structures is None:
        return numbers
    unknown = [name for name in request.structures if name not in numbers]
    if unknown:
        raise InputError(
            f"The project has no structure {unknown[0]!r}; it has: {', '.join(numbers)}.", parameter="structures"
        )
    return {name: number for number, name in enumerate((n for n in numbers if n in request.structures), start=1)}
