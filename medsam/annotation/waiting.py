"""What waits in a project, in the order in which it is given out, and why each stands where it does.

The store has the order alone; PROJECT/queue.json has the words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from medsam.annotation.project import AnnotationProject
from medsam.files import write_text
from medsam.store.project_records import StoredScan, Task

# added to what an order says, from 0 to 1: scans to be measured on
FROZEN = 10.0
# a second reading comes before new scans, so that both are done by the same standard; what a reviewer decides, and a
# scan whose reference is known, before both
SECOND, FIRST = 20.0, 30.0


@dataclass(frozen=True)
class Placed:
    """A task in the queue. why: it stands there."""

    task: Task
    scan: StoredScan
    why: str


def queue_of(project: AnnotationProject, limit: int | None = None) -> list[Placed]:
    """Open tasks of all kinds in the order in which they are given out."""
    store = project.store
    scans = {scan.id: scan for scan in store.scans()}
    why = _why(project)
    tasks = sorted(store.tasks(states=["open"]), key=lambda task: (-task.priority, task.id))[:limit]
    return [Placed(task, scans[task.scan], _said(task, scans[task.scan], why)) for task in tasks]


def keep_why(project: AnnotationProject, why: Mapping[str, str]) -> None:
    """Key of a task -> why it stands where it does, for `queue_of`."""
    write_text(project.folder / "queue.json", json.dumps({"why": why}, indent=1) + "\n")


def _why(project: AnnotationProject) -> Mapping[str, str]:
    try:
        found = json.loads((project.folder / "queue.json").read_text(encoding="utf-8"))["why"]
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _said(task: Task, scan: StoredScan, why: Mapping[str, str]) -> str:
    kinds = {
        "gold": "its reference is known: how good is the reader",
        "second": "somebody else drew it, too: how far do they agree",
        "adjudicate": "two readers differ",
        "audit": "a sample of what the model made alone",
    }
    if task.kind in kinds:
        return kinds[task.kind]
    said = why.get(task.key, "not ordered yet")
    return f"frozen, to be measured on; {said}" if scan.side == "test" else said
