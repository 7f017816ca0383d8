"""What is mixed into a reader's work: scans whose reference is known, and scans that somebody else has drawn.

A gold task is made when its reader asks for the next one, for that reader alone: a share of what they do, never twice
the same scan. A second reading is made when the first is handed in, and goes to anybody else. Which ones is drawn by
the seed, so a reader cannot tell beforehand, and a project run again has the same.

A server calls `next_task` where a reader asks, and `handed_in` after a hand-in. Both may be called again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress

from medsam.annotation.agreement import adjudicate
from medsam.annotation.audits import audited
from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.starting import spread_slices
from medsam.annotation.waiting import FIRST, SECOND
from medsam.errors import InputError
from medsam.store.project_records import NewTask, StoredScan, Task, TaskKind, TaskState
from medsam.store.readers import Reader

_HANDED_IN: tuple[TaskState, ...] = ("submitted", "approved")
# tasks that may have been on their way as a server was killed
_ON_THEIR_WAY = 20


def next_task(project: AnnotationProject, reader: Reader, kinds: Collection[TaskKind] | None = None) -> Task | None:
    """What this reader works on next, which is theirs then; None where nothing is left. kinds: only these."""
    settings, store = project.settings, project.store
    if settings.gold and (kinds is None or "gold" in kinds):
        _add_gold(project, settings, reader)
    return store.next_task(reader, settings.lease_s, kinds)


def handed_in(project: AnnotationProject, task: Task) -> list[Task]:
    """The tasks that follow from one that was handed in: a second reading, or a decision where two readings differ.

    Of an audit comes a verdict.
    """
    store, settings = project.store, project.settings
    if task.kind == "draw":
        second = next((one for one in store.tasks(kinds=["second"], scan=task.scan) if one.after == task.id), None)
        if second is None:
            if (
                settings.second
                and _chance(settings.seed, "second", project.store.scan(task.scan).name) < settings.second
            ):
                return store.add_tasks(
                    [NewTask(task.scan, task.structures, "second", task.stage, task.slices, SECOND, after=task.id)]
                )
            return []
        first = task
    elif task.kind == "second" and task.after is not None:
        there = store.tasks(_HANDED_IN, scan=task.scan)
        found = next((one for one in there if one.id == task.after), None)
        if found is None:
            # it was returned: its next hand-in asks again
            return []
        first, second = found, task
    else:
        if task.kind == "audit":
            audited(project, task)
        return []
    if second.state not in _HANDED_IN:
        return []
    decision = adjudicate(project, first, second)
    return [] if decision is None else [decision]


def catch_up(project: AnnotationProject) -> None:
    """What follows from the tasks that were handed in last, where a server was killed before it came to that."""
    events = project.store.task_events(kinds=["submitted"])[-_ON_THEIR_WAY:]
    for number in dict.fromkeys(event.task for event in events):
        task = project.store.task_of(number)
        if task.state == "submitted":
            with suppress(InputError):
                handed_in(project, task)


def _add_gold(project: AnnotationProject, settings: Settings, reader: Reader) -> None:
    """A gold task for this reader, where it is time for one and there is a scan for it."""
    store = project.store
    tasks = store.tasks()
    mine = [task for task in tasks if task.kind == "gold" and task.reader == reader.id]
    if not _is_time(settings, reader, tasks, mine):
        return
    had = {task.scan for task in mine}
    scans = [one for one in store.scans() if one.labelled and one.side != "test" and one.id not in had]
    for scan in sorted(scans, key=lambda one: _chance(settings.seed, "gold", reader.name, one.name)):
        # one that cannot be read is left out: of others there are more
        with suppress(InputError):
            slices, asked = _slices(project, settings, scan), project.asked.structures
            store.add_tasks([NewTask(scan.id, asked, "gold", settings.stage, slices, FIRST, reader=reader.id)])
            return


def _is_time(settings: Settings, reader: Reader, tasks: Sequence[Task], mine: Sequence[Task]) -> bool:
    """Whether a reader who asks for the next task is to have a gold one. mine: those that they had or have."""
    theirs = [task for task in tasks if task.holder == reader.id]
    if any(task.state == "taken" for task in theirs) or any(task.state == "open" for task in mine):
        return False
    done = sum(task.state in _HANDED_IN and task.kind != "gold" for task in theirs)
    return sum(_chance(settings.seed, "gold", reader.name, n) < settings.gold for n in range(1, done + 1)) > len(mine)


def _slices(project: AnnotationProject, settings: Settings, scan: StoredScan) -> tuple[int, ...] | None:
    if settings.slices is None:
        return None
    return spread_slices(project.case(scan).load_image().geometry.plane(settings.axis).count, settings.slices)


def _chance(*of: object) -> float:
    """In [0, 1), always the same for the same."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:7]) / 2**56
