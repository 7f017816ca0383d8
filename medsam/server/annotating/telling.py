"""Tasks and the project as clients are told of them. All of this asks the store, in its threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.server.annotating.schemas import Contribution, Counts, ProjectInfo, StructureInfo, TaskInfo
from medsam.server.readings.objects import usual_colour
from medsam.store.project_records import StoredModel, Task, TaskChange, TaskKind
from medsam.store.readers import Reader
from medsam.store.store import Store

_WAITING = ("open", "taken")
# of what was handed in
_DONE = ("masks", "untouched", "expected_dice", "difficulty")
# scans that are asked for one by one; more of them at once
_FEW = 4


def told_of_project(
    project: AnnotationProject,
    reader: Reader,
    cases: Mapping[int, str],
    stored: StoredModel,
    model: str,
    weights: str,
) -> ProjectInfo:
    """cases: id of a scan -> key of its case. stored, model, weights: of the model that answers here."""
    asked = project.asked
    settings = Settings.from_dict(asked.settings)
    store = project.store
    nobodys = Counter(store.nobodys_tasks(store.readers()).values())
    counts = Counter(mine=store.count_for(reader), to_review=store.count_to_review([reader]), second=nobodys["second"])
    for (kind, state), count in store.task_counts().items():
        is_open = state == "open"
        counts["audits" if is_open and kind == "audit" else state] += count - is_open * nobodys[kind]
    return ProjectInfo(
        name=asked.name,
        structures=[
            StructureInfo(name=one, colour=usual_colour(one, n)) for n, one in enumerate(asked.structures, start=1)
        ],
        stage=settings.stage,
        order=settings.order,
        round=stored.round,
        weights=weights,
        model=model,
        me=_told_of_reader(store, reader, cases),
        counts=Counts(**{name: counts[name] for name in Counts.model_fields}),
        reviewer=reader.sees_all,
    )


def _told_of_reader(store: Store, reader: Reader, cases: Mapping[int, str]) -> Contribution:
    taken = store.tasks(["taken"], holder=reader.id, limit=1)
    events = store.task_events(kinds=["submitted"], by=reader.id)
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    # handed in once more is one task
    today = {event.task: int(event.details.get("masks", 0)) for event in events if event.at >= midnight}
    gold = [dice for event in events for dice in (event.details.get("dice") or {}).values()]
    return Contribution(
        task=taken[0].key if taken else None,
        case=cases.get(taken[0].scan) if taken else None,
        done=len({event.task for event in events}),
        today=len(today),
        masks=sum(today.values()),
        gold=fmean(gold) if gold else None,
    )


@dataclass(frozen=True)
class _Known:
    """What tasks are told with. scans, people: names by id. about: keys of the tasks that others are about, by id.
    proposed: places. notes: what reviewers said of those that they returned. skipped, handed_in: what was said of those
    that are. decisions: of those, as they were taken. All by id."""

    scans: Mapping[int, str]
    people: Mapping[int, str]
    about: Mapping[int, str]
    proposed: Sequence[tuple[int, str, int]]
    notes: Mapping[int, Mapping[str, Any]]
    skipped: Mapping[int, Mapping[str, Any]]
    handed_in: Mapping[int, Mapping[str, Any]]
    decisions: Mapping[int, Mapping[str, Any]]

    @classmethod
    def of(cls, store: Store, reader: Reader, tasks: Sequence[Task]) -> _Known:
        waiting = [task for task in tasks if task.state in _WAITING]
        return cls(
            _names(store, {task.scan for task in tasks}),
            {user.id: user.name for user in store.users()},
            {task.after: store.task_of(task.after).key for task in tasks if task.after is not None},
            store.proposed_places({task.scan for task in waiting}),
            _last(store, "returned", [task.id for task in waiting]),
            _last(store, "skipped", [task.id for task in tasks if task.state == "skipped"]),
            _last(store, "submitted", [task.id for task in tasks if reader.sees_all and task not in waiting]),
            _last(store, "taken", [task.id for task in tasks if task.kind == "adjudicate"]),
        )


def _names(store: Store, scans: Collection[int]) -> dict[int, str]:
    some = map(store.scan, scans) if len(scans) <= _FEW else store.scans()
    return {one.id: one.name for one in some}


def told_of_tasks(store: Store, reader: Reader, tasks: Sequence[Task], cases: Mapping[int, str]) -> list[TaskInfo]:
    """cases: id of a scan -> key of its case."""
    known = _Known.of(store, reader, tasks)
    return [_told(reader, task, cases[task.scan], known) for task in tasks]


def _told(reader: Reader, task: Task, case: str, known: _Known) -> TaskInfo:
    theirs, taken = task.holder == reader.id, task.state == "taken"
    note, done = known.notes.get(task.id), known.handed_in.get(task.id, {})
    waits = task.state in _WAITING and task.kind != "second"
    return TaskInfo(
        id=task.key,
        scan=known.scans[task.scan],
        case=case,
        kind=_kind_told(reader, task),
        stage=task.stage,
        structures=list(task.structures),
        slices=None if task.slices is None else list(task.slices),
        state=task.state,
        session=task.reading if theirs or reader.sees_all else None,
        until=task.until if taken else None,
        proposals=_proposals(task, known.proposed) if waits else 0,
        note=None if note is None else str(note.get("note") or ""),
        why=known.skipped.get(task.id, {}).get("why"),
        mine=theirs and taken,
        # the reader of a server without users is none of them
        holder=None if task.holder is None else reader.name if theirs else known.people.get(task.holder, ""),
        own=bool(known.decisions.get(task.id, {}).get("own")),
        after=None if task.after is None else known.about[task.after],
        **{name: done.get(name) for name in _DONE},
    )


def _kind_told(reader: Reader, task: Task) -> TaskKind:
    """A gold task is to be drawn like any other, and so is not told from them before it is handed in."""
    return "draw" if task.kind == "gold" and task.state in _WAITING and not reader.sees_all else task.kind


def kinds_meant(reader: Reader, kinds: Sequence[TaskKind] | None) -> Sequence[TaskKind] | None:
    """Of the next task: to a reader a gold one is to be drawn like any other, and cannot be asked for or left out."""
    if kinds is None or reader.sees_all:
        return kinds
    known: list[TaskKind] = [one for one in kinds if one != "gold"]
    return [*known, "gold"] if "draw" in known else known


def _proposals(task: Task, proposed: Collection[tuple[int, str, int]]) -> int:
    return sum(
        scan == task.scan and structure in task.structures and (task.slices is None or index in task.slices)
        for scan, structure, index in proposed
    )


def _last(store: Store, kind: TaskChange, tasks: Collection[int]) -> dict[int, Mapping[str, Any]]:
    """What was said of tasks when that happened to them last."""
    if not tasks:
        return {}
    one, wanted = next(iter(tasks)) if len(tasks) == 1 else None, set(tasks)
    return {event.task: event.details for event in store.task_events(one, [kind]) if event.task in wanted}
