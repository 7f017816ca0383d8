"""Tasks: who works on which scan. Two people never get one, and one that is left comes back.

A task is taken in the transaction that finds it, and transactions that write come one after the other. Who holds it
gives signs of life; without one it is open again when its time is over, for whoever asks next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, false, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from medsam.errors import InputError
from medsam.store.annotations import append_annotations, replace_standing, take_approval_back
from medsam.store.part import Part, new_key, now
from medsam.store.people import LOCAL
from medsam.store.project_records import (
    MAKING,
    REVIEWED,
    REVIEWERS,
    NewAnnotation,
    NewTask,
    Task,
    TaskChange,
    TaskEvent,
    TaskKind,
    TaskState,
)
from medsam.store.project_tables import TaskEvents, Tasks
from medsam.store.readers import Reader, Role
from medsam.store.tables import Users

# a task, and when it was handed in
HandedIn = tuple[Task, datetime]


class TasksPart(Part):
    """The queue of a project. Everything that happens is a row of `task_events`."""

    # -- made and ordered ---------------------------------------------------------------------------------------------

    def add_tasks(self, tasks: Sequence[NewTask]) -> list[Task]:
        """All at once, open."""
        moment = now()
        with self._database.write() as connection:
            made = []
            for task in tasks:
                row = {"public_id": new_key(), "scan_id": task.scan, "kind": task.kind, "stage": task.stage}
                row |= {"structures": list(task.structures), "priority": task.priority, "state": "open"}
                row |= {"slices": None if task.slices is None else list(task.slices), "made_at": moment}
                row |= {"reader_id": task.reader, "after_id": task.after}
                made.append(connection.execute(insert(Tasks).values(row).returning(Tasks.id)).scalar_one())
            _tell(connection, made, "made", None, moment)
            return [_task_where(connection, Tasks.id == one) for one in made]

    def order_tasks(self, priorities: Mapping[int, float]) -> None:
        """id -> priority, of tasks that are open; the highest come first."""
        with self._database.write() as connection:
            for task, priority in priorities.items():
                here = (Tasks.id == task) & (Tasks.state == "open")
                connection.execute(update(Tasks).where(here).values(priority=priority))

    def withdraw_tasks(self, tasks: Sequence[int], why: str) -> int:
        """Nobody is to do them any more, those that are open: how many."""
        moment = now()
        with self._database.write() as connection:
            query = select(Tasks.id).where(Tasks.id.in_(tasks), Tasks.state == "open")
            gone = list(connection.execute(query).scalars())
            _set(connection, gone, "withdrawn")
            _tell(connection, gone, "withdrawn", None, moment, why=why)
        return len(gone)

    # -- worked on ----------------------------------------------------------------------------------------------------

    def next_task(self, reader: Reader, lease: float, kinds: Collection[TaskKind] | None = None) -> Task | None:
        """The one that this reader holds, else the first that is open and may be theirs; None where there is none.

        lease: seconds until it comes back without a sign of life. kinds: only these. What reviewers decide goes to
        reviewers; a second reading to nobody who did the first, a decision to nobody who did either, unless there is no
        other reviewer: then the event "taken" says `own`.
        """
        moment = now()
        with self._database.write() as connection:
            _expire(connection, moment, lease)
            wanted = [] if kinds is None else [Tasks.kind.in_(list(kinds))]
            mine = select(Tasks.id).where(Tasks.state == "taken", Tasks.holder_id == reader.id, *wanted)
            found = connection.execute(mine.order_by(Tasks.id).limit(1)).scalar()
            if found is None:
                query = select(Tasks.id).where(Tasks.state == "open", _for(reader), *wanted)
                query = query.order_by(Tasks.priority.desc(), Tasks.id).limit(1)
                found = connection.execute(query).scalar()
                if found is None:
                    return None
                _tell(connection, [found], "taken", reader, moment, **_own(connection, found, reader))
            _hold(connection, found, reader, moment, lease)
            return _task_where(connection, Tasks.id == found)

    def take_task(self, task: int, reader: Reader, lease: float) -> Task:
        """This one, which is open. Raises InputError where it is not, or not this reader's to take."""
        moment = now()
        with self._database.write() as connection:
            _expire(connection, moment, lease)
            mine = (Tasks.state == "taken") & (Tasks.holder_id == reader.id)
            query = select(Tasks.state).where(Tasks.id == task, or_((Tasks.state == "open") & _for(reader), mine))
            state = connection.execute(query).scalar()
            if state is None:
                raise InputError("This task is somebody else's, or done.", parameter="task")
            if state == "open":
                _tell(connection, [task], "taken", reader, moment, **_own(connection, task, reader))
            _hold(connection, task, reader, moment, lease)
            return _task_where(connection, Tasks.id == task)

    def keep_task(self, task: int, reader: Reader, lease: float) -> Task:
        """A sign of life. Raises InputError where the task is no longer this reader's, as all that works on it."""
        moment = now()
        with self._database.write() as connection:
            _held(connection, task, reader)
            _hold(connection, task, reader, moment, lease)
            return _task_where(connection, Tasks.id == task)

    def open_task(self, task: int, reader: Reader, reading: str, last: int | None = None) -> Task:
        """It is worked on in this session (its key) from now on. last: id of the last annotation that this saw."""
        with self._database.write() as connection:
            _held(connection, task, reader)
            connection.execute(update(Tasks).where(Tasks.id == task).values(reading=reading))
            _tell(connection, [task], "opened", reader, now(), reading=reading, last=last)
            return _task_where(connection, Tasks.id == task)

    def leave_task(self, task: int, reader: Reader, details: Mapping[str, Any] | None = None) -> None:
        """It is open again, for anybody."""
        with self._database.write() as connection:
            _held(connection, task, reader)
            _set(connection, [task], "open")
            _tell(connection, [task], "left", reader, now(), **(details or {}))

    def skip_task(self, task: int, reader: Reader, why: str, details: Mapping[str, Any] | None = None) -> None:
        """It cannot be done; nobody gets it again, unless somebody reopens it. Raises InputError without a reason."""
        if not why.strip():
            raise InputError("Say why the task is skipped.", parameter="why")
        with self._database.write() as connection:
            _held(connection, task, reader)
            _set(connection, [task], "skipped", holder=reader.id)
            _tell(connection, [task], "skipped", reader, now(), why=why.strip(), **(details or {}))

    def submit_task(
        self,
        task: int,
        reader: Reader,
        annotations: Sequence[NewAnnotation],
        details: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Its masks, all of them, as they are to be: ids of their rows.

        What stood on its slices before and is not among them is rejected, proposals that were not taken as well.
        Nothing is stored where this raises.
        """
        moment = now()
        with self._database.write() as connection:
            held = _held(connection, task, reader)
            if any(one.scan != held.scan or one.structure not in held.structures for one in annotations):
                raise InputError("These masks are of another scan or structure than the task.", parameter="structures")
            if held.slices is not None and any(one.slice not in held.slices for one in annotations):
                raise InputError("These masks are on slices that the task does not ask for.", parameter="slices")
            rows = list(annotations)
            if held.kind in MAKING:
                rows += replace_standing(connection, held, annotations)
            made = append_annotations(connection, rows, moment, reader.id, task)
            _set(connection, [task], "submitted", holder=reader.id)
            _tell(connection, [task], "submitted", reader, moment, **(details or {}))
        return made[: len(annotations)]

    def review_task(
        self, task: int, by: Reader, verdict: str, note: str = "", annotations: Sequence[NewAnnotation] = ()
    ) -> None:
        """A reviewer approves what was submitted, or returns it to who did it; what was approved can be returned, too.

        annotations: rows "approved" about the masks that are. What was approved and is returned stands as it was handed
        in. Raises InputError for a verdict that is none, for what is not submitted (or approved, to return it), one's
        own work, and for who is no reviewer.
        """
        if verdict not in ("approved", "returned"):
            raise InputError('A `verdict` is "approved" or "returned".', parameter="verdict")
        if by.role < Role.REVIEWER:
            raise InputError("Reviewers approve and return.", parameter="verdict")
        moment = now()
        with self._database.write() as connection:
            found = _task_where(connection, Tasks.id == task)
            if found.state not in REVIEWED[verdict]:
                told = "approve" if verdict == "approved" else "return"
                raise InputError(f"This task is {found.state}, so there is nothing to {told}.", parameter="task")
            if found.holder == by.id:
                raise InputError("Nobody reviews what they did themselves: another reviewer does.", parameter="verdict")
            if verdict == "approved":
                append_annotations(connection, annotations, moment, by.id, task)
                _set(connection, [task], "approved", holder=found.holder)
            else:
                if found.state == "approved":
                    take_approval_back(connection, found, moment)
                # to who did it, and to nobody else (`_for`)
                values = {"state": "open", "holder_id": None, "until": None, "reader_id": found.holder}
                connection.execute(update(Tasks).where(Tasks.id == task).values(values))
            _tell(connection, [task], cast(TaskChange, verdict), by, moment, note=note)

    def reopen_task(self, task: int, by: Reader | None, why: str) -> None:
        """What was skipped, withdrawn or left for good is open again, for anybody."""
        with self._database.write() as connection:
            found = _task_where(connection, Tasks.id == task)
            if found.state not in ("skipped", "withdrawn"):
                raise InputError("Only what was skipped or withdrawn is opened again.", parameter="task")
            _set(connection, [task], "open")
            _tell(connection, [task], "reopened", by, now(), why=why)

    # -- looked at ----------------------------------------------------------------------------------------------------

    def task(self, key: str) -> Task | None:
        """By its key of URLs."""
        with self._database.read() as connection:
            row = connection.execute(select(Tasks).where(Tasks.public_id == key)).first()
        return None if row is None else _task(row)

    def task_of(self, task: int) -> Task:
        """By its id. Raises InputError where there is none."""
        with self._database.read() as connection:
            return _task_where(connection, Tasks.id == task)

    def tasks(
        self,
        states: Collection[TaskState] | None = None,
        kinds: Collection[TaskKind] | None = None,
        *,
        scan: int | None = None,
        holder: int | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[Task]:
        """In order of their ids; those whose time is over are still taken here. holder: id of who works on it, or did.
        after: id to go on from."""
        query = select(Tasks).order_by(Tasks.id).limit(limit)
        for column, values in ((Tasks.state, states), (Tasks.kind, kinds)):
            if values is not None:
                query = query.where(column.in_(list(values)))
        if scan is not None:
            query = query.where(Tasks.scan_id == scan)
        if holder is not None:
            query = query.where(Tasks.holder_id == holder)
        if after is not None:
            query = query.where(Tasks.id > after)
        with self._database.read() as connection:
            return [_task(row) for row in connection.execute(query)]

    def second_readings(self, states: Collection[TaskState]) -> list[tuple[HandedIn, HandedIn]]:
        """First and second reading of a scan, both in one of these states, as they were handed in last: by the second
        one's id."""
        here = Tasks.state.in_(list(states))
        seconds = select(Tasks).where(Tasks.kind == "second", here).order_by(Tasks.id)
        firsts = select(Tasks).where(Tasks.id.in_(seconds.with_only_columns(Tasks.after_id).order_by(None)), here)
        with self._database.read() as connection:
            tasks = {row.id: _task(row) for query in (firsts, seconds) for row in connection.execute(query)}
            both = [(tasks[one.after], one) for one in tasks.values() if one.kind == "second" and one.after in tasks]
            wanted = [query.with_only_columns(Tasks.id).order_by(None) for query in (firsts, seconds)]
            told = select(TaskEvents.task_id, TaskEvents.at).where(or_(*map(TaskEvents.task_id.in_, wanted)))
            told = told.where(TaskEvents.kind == "submitted")
            at = dict(connection.execute(told.order_by(TaskEvents.id)).all())
        return [((first, at[first.id]), (second, at[second.id])) for first, second in both]

    def task_counts(self) -> dict[tuple[TaskKind, TaskState], int]:
        """How many there are of each."""
        query = select(Tasks.kind, Tasks.state, func.count()).group_by(Tasks.kind, Tasks.state)
        with self._database.read() as connection:
            rows = connection.execute(query)
            return {(cast(TaskKind, kind), cast(TaskState, state)): count for kind, state, count in rows}

    def nobodys_tasks(self, readers: Sequence[Reader]) -> dict[int, TaskKind]:
        """Open tasks (id -> kind) that none of these may take, as a second reading by who did the first."""
        theirs = or_(false(), *map(_for, readers))
        with self._database.read() as connection:
            rows = connection.execute(select(Tasks.id, Tasks.kind).where(Tasks.state == "open", ~theirs))
            return {task: cast(TaskKind, kind) for task, kind in rows}

    def count_for(self, reader: Reader) -> int:
        """Open tasks that are this reader's to take."""
        query = select(func.count(Tasks.id)).where(Tasks.state == "open", _for(reader))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def count_to_review(self, readers: Sequence[Reader]) -> int:
        """Submitted tasks that one of these may review: a reviewer, and not what they did themselves. An audit is a
        verdict itself."""
        theirs = [Tasks.holder_id != one.id for one in readers if one.role >= Role.REVIEWER]
        query = select(func.count(Tasks.id)).where(Tasks.state == "submitted", Tasks.kind != "audit")
        with self._database.read() as connection:
            return connection.execute(query.where(or_(false(), *theirs))).scalar_one()

    def task_events(
        self,
        task: int | None = None,
        kinds: Collection[TaskChange] | None = None,
        after: int = 0,
        by: int | None = None,
    ) -> list[TaskEvent]:
        """In the order in which they happened. task: id, of one alone. after: id of an event to go on from. by: id of
        the only user wanted."""
        query = select(TaskEvents).where(TaskEvents.id > after).order_by(TaskEvents.id)
        if task is not None:
            query = query.where(TaskEvents.task_id == task)
        if kinds is not None:
            query = query.where(TaskEvents.kind.in_(list(kinds)))
        if by is not None:
            query = query.where(TaskEvents.by_id == by)
        with self._database.read() as connection:
            return [
                TaskEvent(row.task_id, row.at, row.by_id, cast(TaskChange, row.kind), row.details)
                for row in connection.execute(query)
            ]


def _for(reader: Reader) -> ColumnElement[bool]:
    """Of open tasks: this reader's to take.

    A second reading is for nobody who handed the first one in, also while that was returned and has no holder, and
    where two readings differ neither of their readers decides, unless every reviewer is one of them. What waits for a
    reader who may not come in any more is anybody's, but for their gold tasks, which are about them.
    """
    told = (TaskEvents.by_id == reader.id, TaskEvents.kind == "submitted")
    did = select(TaskEvents.id).where(TaskEvents.task_id == Tasks.after_id, *told).exists()
    may = or_(Tasks.reader_id.is_(None), Tasks.reader_id == reader.id, _GONE)
    may &= or_(Tasks.kind != "second", ~did) & or_(Tasks.kind != "adjudicate", ~_drew_one(reader.id), _ALL_DREW)
    return may if reader.role >= Role.REVIEWER else may & Tasks.kind.not_in(REVIEWERS)


def _drew_one(user: Any) -> ColumnElement[bool]:
    """Of decisions: the user of this id handed in one of the two readings."""
    return select(_EVENT.id).where(_OF_READINGS, _EVENT.by_id == user).exists()


# What depends on no reader is made once: that takes as long as an answer.
_SECOND, _EVENT = aliased(Tasks), aliased(TaskEvents)
_SECONDS = select(_SECOND.id).where(_SECOND.kind == "second", _SECOND.after_id == Tasks.after_id)
# Of decisions: one of the two readings was handed in.
_OF_READINGS = (_EVENT.kind == "submitted") & or_(_EVENT.task_id == Tasks.after_id, _EVENT.task_id.in_(_SECONDS))
# Of tasks: for a reader who may not come in any more; the local one of a server without users has gone once others ask.
_GONE = Tasks.reader_id.in_(select(Users.id).where(or_(~Users.active, Users.kind == LOCAL))) & (Tasks.kind != "gold")
_REVIEWER = aliased(Users)
# Of decisions: no reviewer is left who handed in neither reading.
_ALL_DREW = ~(
    select(_REVIEWER.id)
    .where(_REVIEWER.active, _REVIEWER.kind != LOCAL, _REVIEWER.role >= Role.REVIEWER, ~_drew_one(_REVIEWER.id))
    .exists()
)


def _own(connection: Connection, task: int, reader: Reader) -> dict[str, Any]:
    """What is written down of a decision that one of the two readers takes."""
    query = select(Tasks.id).where(Tasks.id == task, Tasks.kind == "adjudicate", _drew_one(reader.id))
    return {} if connection.execute(query).first() is None else {"own": True}


def _expire(connection: Connection, moment: datetime, lease: float) -> None:
    """Open what nobody gave a sign of life of in time. None is taken for longer than a lease from now, as one whose
    holder left before the clock was put back."""
    latest = moment + timedelta(seconds=lease)
    late = (Tasks.state == "taken") & (Tasks.until > latest)
    connection.execute(update(Tasks).where(late).values(until=latest))
    query = select(Tasks.id).where(Tasks.state == "taken", Tasks.until < moment)
    gone = list(connection.execute(query).scalars())
    _set(connection, gone, "open")
    _tell(connection, gone, "expired", None, moment)


def _hold(connection: Connection, task: int, reader: Reader, moment: datetime, lease: float) -> None:
    values = {"state": "taken", "holder_id": reader.id, "until": moment + timedelta(seconds=lease)}
    connection.execute(update(Tasks).where(Tasks.id == task).values(values))


def _held(connection: Connection, task: int, reader: Reader) -> Task:
    """A task that this reader holds; also where its time is over, as long as nobody else has it."""
    found = _task_where(connection, Tasks.id == task)
    if found.state != "taken" or found.holder != reader.id:
        raise InputError("This task is no longer yours: it was left, or done. Ask for the next one.", parameter="task")
    return found


def _set(connection: Connection, tasks: Sequence[int], state: TaskState, holder: int | None = None) -> None:
    if tasks:
        values = {"state": state, "holder_id": holder, "until": None}
        connection.execute(update(Tasks).where(Tasks.id.in_(tasks)).values(values))


def _tell(
    connection: Connection,
    tasks: Sequence[int],
    kind: TaskChange,
    by: Reader | None,
    moment: datetime,
    **details: Any,
) -> None:
    row = {"at": moment, "by_id": None if by is None else by.id, "kind": kind, "details": details}
    if tasks:
        connection.execute(insert(TaskEvents), [{**row, "task_id": task} for task in tasks])


def _task_where(connection: Connection, which: ColumnElement[bool]) -> Task:
    row = connection.execute(select(Tasks).where(which)).first()
    if row is None:
        raise InputError("There is no such task.", parameter="task")
    return _task(row)


def _task(row: Any) -> Task:
    return Task(
        row.id,
        row.public_id,
        row.scan_id,
        cast(TaskKind, row.kind),
        row.stage,
        tuple(row.structures),
        None if row.slices is None else tuple(row.slices),
        row.priority,
        cast(TaskState, row.state),
        row.holder_id,
        row.until,
        row.reading,
        row.reader_id,
        row.after_id,
    )
