"""What waits in a project, in the order in which it is given out, and why each stands where it does.

The store has the order alone; PROJECT/queue.json has the words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsam.annotation.project import AnnotationProject
from medsam.files import write_text
from medsam.store.project_records import StoredScan, Task, TaskKind

# added to what an order says, from 0 to 1: scans to be measured on
FROZEN = 10.0
# a second reading comes before new scans, so that both are done by the same standard; what a reviewer decides, and a
# scan whose reference is known, before both
SECOND, FIRST = 20.0, 30.0
_QUEUE = "queue.json"
# kind of a task that nobody may take now -> who could; a gold task is about its reader, who has left
WHOM: Mapping[TaskKind, str] = {
    "second": "another reader",
    "adjudicate": "a reviewer",
    "audit": "a reviewer",
    "gold": "its reader, who has left",
}


@dataclass(frozen=True)
class Placed:
    """A task in the queue. why: it stands there. nobodys: nobody who may come in now may take it."""

    task: Task
    scan: StoredScan
    why: str
    nobodys: bool = False


def queue_of(project: AnnotationProject, limit: int | None = None) -> list[Placed]:
    """Open tasks of all kinds in the order in which they are given out; those that nobody may take come last."""
    store = project.store
    scans = {scan.id: scan for scan in store.scans()}
    why = why_of(project)
    nobodys = store.nobodys_tasks(store.readers())
    order = sorted(store.tasks(states=["open"]), key=lambda task: (task.id in nobodys, -task.priority, task.id))
    return [
        Placed(task, scans[task.scan], _said(task, scans[task.scan], why, task.id in nobodys), task.id in nobodys)
        for task in order[:limit]
    ]


def keep_why(project: AnnotationProject, why: Mapping[str, str], apart: float | None) -> None:
    """why: key of a task -> why it stands where it does. apart: see `diversity`."""
    keep(project, _QUEUE, {"why": why, "apart": apart})


def diversity(project: AnnotationProject) -> float | None:
    """How far the waiting scans lie from what is done, as it was when the queue was ordered by a model last.

    The mean distance to the nearest scan that is done; 1 is that between any two scans. None where it is not known.
    """
    found = kept(project, _QUEUE).get("apart")
    return float(found) if isinstance(found, int | float) else None


def why_of(project: AnnotationProject) -> Mapping[str, str]:
    """Key of a task -> why it stands where it does, of those that were ordered."""
    found = kept(project, _QUEUE).get("why")
    return found if isinstance(found, dict) else {}


def kept(project: AnnotationProject, name: str) -> dict[str, Any]:
    """What a JSON file of the project's folder says; nothing where there is none. It can be done without."""
    try:
        found = json.loads((project.folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def keep(project: AnnotationProject, name: str, document: Mapping[str, Any]) -> None:
    """The other way."""
    write_text(project.folder / name, json.dumps(document, indent=1) + "\n")


def _said(task: Task, scan: StoredScan, why: Mapping[str, str], nobodys: bool) -> str:
    kinds = {
        "gold": "its reference is known: how good is the reader",
        "second": "somebody else drew it, too: how far do they agree",
        "adjudicate": "two readers differ",
        "audit": "a sample of what the model made alone",
    }
    if nobodys:
        return f"{kinds.get(task.kind, task.kind)}; waits for {WHOM.get(task.kind, 'somebody else')}"
    if task.kind in kinds:
        return kinds[task.kind]
    said = why.get(task.key, "not ordered yet")
    return f"frozen, to be measured on; {said}" if scan.side == "test" else said
