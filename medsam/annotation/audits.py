"""A sample of what a model made alone, looked at by people.

A mask of the sample is a task to audit: a reviewer sees it, and says whether it is good or wrong, or draws the right
one. Where they do not say, what they drew decides, as between two people (`Settings.agrees`): a mask that is as near to
theirs as two readings of a scan have to be is good. What they drew stands from then on; a wrong mask without a better
one is rejected. Where one was wrong the scan is to be drawn again. The share of masks that are right is told with its
interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medsam.annotation.project import AnnotationProject
from medsam.annotation.waiting import FIRST
from medsam.metrics.overlap import dice
from medsam.store.project_records import Annotation, NewAnnotation, NewTask, Task


def sample(project: AnnotationProject, count: int) -> list[Task]:
    """Tasks to audit so many masks that a model was left alone with, drawn by the seed; none is audited twice."""
    store = project.store
    had = {(task.scan, task.structures[0], task.slices[0]) for task in store.tasks(kinds=["audit"]) if task.slices}
    there = [one for one in made_alone(project) if (one.scan, one.structure, one.slice) not in had]
    rng = np.random.default_rng([project.settings.seed, len(had)])
    chosen = sorted(rng.permutation(len(there))[:count].tolist())
    return store.add_tasks(
        [
            NewTask(one.scan, (one.structure,), "audit", 3, (one.slice,), FIRST)
            for one in (there[place] for place in chosen)
        ]
    )


def made_alone(project: AnnotationProject) -> Sequence[Annotation]:
    """Masks that stand and no person has seen."""
    return [one for one in project.store.standing(statuses=["accepted"]) if one.by is None]


def audited(project: AnnotationProject, task: Task) -> str | None:
    """The verdict on the mask of an audit that was handed in, stored with what follows; None where the mask is gone.

    Called again, it goes on where it was: what follows the mask comes last, for then nobody finds what it was about.
    """
    store, judged = project.store, _judged(project, task)
    if judged is None:
        return None
    verdict, value = _said(project, task, judged)
    by = next((user.reader for user in store.users() if user.id == task.holder), None)
    if all(one.annotation != judged.id for one in store.verdicts()):
        store.add_verdict(judged.id, by, verdict, value)
    if verdict == "wrong":
        for one in store.tasks(["withdrawn"], ["draw"], scan=task.scan):
            store.reopen_task(one.id, by, "an audit found a mask of it wrong")
    place, drawn = (judged.structure, judged.axis, judged.slice), _drawn(project, task)
    if drawn is not None and drawn.mask != judged.mask:
        model, weights = drawn.model, drawn.weights
        new = NewAnnotation(task.scan, *place, "edited", None, drawn.stage, drawn.id, model, weights)
        store.add_annotations([new], by)
    elif verdict == "wrong":
        store.add_annotations([NewAnnotation(task.scan, *place, "rejected", None, judged.stage, judged.id)], by)
    return verdict


def _drawn(project: AnnotationProject, task: Task) -> Annotation | None:
    """The mask that an audit ended with; None where it ended without one."""
    found = [one for one in project.store.annotations_of(task.id) if one.status in ("accepted", "edited") and one.mask]
    return found[-1] if found else None


def _said(project: AnnotationProject, task: Task, judged: Annotation) -> tuple[str, float | None]:
    """The verdict of an audit, and the Dice of the mask with what was drawn.

    None: it is wrong as it is, and nobody drew a better one.
    """
    events = project.store.task_events(task.id, ["submitted"])
    said = events[-1].details if events else {}
    drawn = _drawn(project, task)
    if said.get("verdict") == "wrong" and drawn is None and said.get("untouched"):
        return "wrong", None
    ours = np.zeros(judged.mask.shape, bool) if drawn is None else drawn.mask.to_array()
    value = dice(judged.mask.to_array(), ours)
    return said.get("verdict") or ("good" if project.settings.agrees(value) else "wrong"), value


def _judged(project: AnnotationProject, task: Task) -> Annotation | None:
    """The mask that an audit is about, where it still stands as a model made it."""
    if task.slices is None:
        return None
    there = project.store.standing(task.scan, structures=task.structures)
    return next((one for one in there if one.slice == task.slices[0] and one.by is None), None)


def audit_of(project: AnnotationProject) -> dict[str, Any]:
    """What auditors said so far. right: share of good masks, with the interval that holds it in 19 of 20 cases."""
    said = [one.verdict for one in project.store.verdicts()]
    good = said.count("good")
    counts = project.store.task_counts()
    low, high = wilson(good, len(said))
    return {
        "masks": len(made_alone(project)),
        "asked": sum(count for (kind, _), count in counts.items() if kind == "audit"),
        "waiting": counts.get(("audit", "open"), 0) + counts.get(("audit", "taken"), 0),
        "good": good,
        "wrong": len(said) - good,
        "right": good / len(said) if said else None,
        "low": low,
        "high": high,
    }


def wilson(good: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of a share, (0, 1) where nothing was counted. Source: Wilson 1927."""
    if not count:
        return 0.0, 1.0
    share, part = good / count, z * z / count
    middle = (share + part / 2) / (1 + part)
    reach = z / (1 + part) * math.sqrt(share * (1 - share) / count + part / (4 * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)
