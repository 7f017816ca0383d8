"""What the session of a task begins from, and what is compared with it when it is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsam.annotation.proposing import box_of
from medsam.errors import InputError
from medsam.geometry import SlicePlane
from medsam.inference.whole_objects import packed
from medsam.masks import CompactMask
from medsam.server.readings.opening import Answered
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


def seen_last(store: Store, task: Task, reading: str | None) -> int | None:
    """Id of the last annotation that there was when a session (its key) of a task began; None where nobody knows."""
    opened = store.task_events(task.id, ["opened"])
    told = [one.details.get("last") for one in opened if one.details.get("reading") == reading]
    return told[-1] if told else None


def before(store: Store, task: Task, axis: str, last: int | None = None) -> dict[Place, Annotation]:
    """The masks that a task begins from, on slices along `axis`. last: as it was when this annotation had just come, so
    that what is proposed while somebody draws is not taken for what they began from.

    Of the work itself, and of an audit: what stands, and what is proposed. Of a gold task: what is proposed, as in the
    work. Of a second reading: nothing, so that it is one. Of what was returned: what was handed in.

    Raises InputError for masks along another axis: they would not be seen, and be taken away by handing in.
    """
    found: list[Annotation] = []
    if task.kind in MAKING or task.kind == "audit":
        statuses: tuple[Status, ...] = (*DONE, "proposed")
        found = list(store.standing(task.scan, statuses, last=last, structures=task.structures))
    elif task.kind == "gold":
        found = list(store.standing(task.scan, ["proposed"], last=last, structures=task.structures))
    if task.kind not in MAKING and is_returned(store, task):
        # the last of each place
        found = [one for one in store.annotations_of(task.id) if one.status in DONE]
    if across := {one.axis for one in found} - {axis}:
        raise InputError(
            f"This scan has masks on slices across axis {min(across)}, and is drawn on across {axis}: export them as a "
            "label map, and import that."
        )
    return {(one.structure, one.slice): one for one in found if task.slices is None or one.slice in task.slices}


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


def as_answers(store: Store, masks: Mapping[Place, Annotation]) -> dict[str, dict[int, Answered]]:
    """Those that models gave for boxes, or with how likely each pixel is, as `Opening.answers` takes them."""
    found: dict[str, dict[int, Answered]] = {}
    likely = store.chances([one.id for one in masks.values() if one.by is None])
    for (structure, index), one in masks.items():
        if one.by is not None or one.model is None or one.weights is None:
            continue
        answer = Answered(one.mask, one.model, one.weights, box_of(one), likely.get(one.id))
        if answer.box is not None or answer.likely is not None:
            found.setdefault(structure, {})[index] = answer
    return found
