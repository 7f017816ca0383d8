"""What the session of a task begins from, and what is compared with it when it is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsam.errors import InputError
from medsam.geometry import SlicePlane
from medsam.inference.whole_objects import packed
from medsam.masks import CompactMask
from medsam.store.annotations import DONE
from medsam.store.project_records import MAKING, Annotation, Status, Task
from medsam.store.readers import Reader
from medsam.store.store import Store

# structure and slice
Place = tuple[str, int]


def is_returned(store: Store, task: Task) -> bool:
    """Whether a reviewer gave it back, and it was not handed in since."""
    told = store.task_events(task.id, ("submitted", "returned"))
    return bool(told) and told[-1].kind == "returned"


def begun_by(store: Store, task: Task, reader: Reader) -> str | None:
    """The last session (its key) that a reader began for it since it was last handed in or given back.

    There may be work in it, also where somebody else has had the task since.
    """
    for one in reversed(store.task_events(task.id, ("opened", "submitted", "returned"))):
        if one.kind != "opened":
            return None
        if one.by == reader.id:
            return str(one.details.get("reading"))
    return None


def before(store: Store, task: Task, axis: str) -> dict[Place, Annotation]:
    """The masks that a task begins from, on slices along `axis`.

    Of the work itself, and of an audit: what stands, and what is proposed. Of a gold task: what is proposed, as in the
    work. Of a second reading: nothing, so that it is one. Of what was returned: what was handed in.
    """
    found: list[Annotation] = []
    if task.kind in MAKING or task.kind == "audit":
        statuses: tuple[Status, ...] = (*DONE, "proposed")
        found = list(store.standing(task.scan, statuses, structures=task.structures))
    elif task.kind == "gold":
        found = list(store.standing(task.scan, ["proposed"], structures=task.structures))
    if task.kind not in MAKING and is_returned(store, task):
        # the last of each place
        found = [one for one in store.annotations_of(task.id) if one.status in DONE]
    return {
        (one.structure, one.slice): one
        for one in found
        if one.axis == axis and (task.slices is None or one.slice in task.slices)
    }


def as_start(
    masks: Mapping[Place, Annotation], plane: SlicePlane, shape: tuple[int, int, int]
) -> dict[str, dict[str, Any]]:
    """Masks as `Opening.masks` takes them. Raises InputError for those of another grid than the scan has now."""
    by_structure: dict[str, dict[int, CompactMask]] = {}
    for (structure, index), one in masks.items():
        if one.mask.shape != plane.shape or not 0 <= index < plane.count:
            raise InputError(
                f"The mask of {structure!r} on slice {index} is of another grid than this scan: its files have changed."
            )
        if one.mask:
            by_structure.setdefault(structure, {})[index] = one.mask
    found = packed(by_structure, plane, shape)
    return {name: found.compact(name).to_dict() for name in found}
