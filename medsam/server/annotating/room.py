"""The project that readers work on, as routes ask for it. Methods are for the event loop and never block it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException

from medsam.annotation.mixing import catch_up, next_task
from medsam.annotation.mixing import handed_in as follow_up
from medsam.annotation.project import AnnotationProject
from medsam.annotation.rounds import answer_again
from medsam.errors import InputError
from medsam.server.annotating.gold import Compared, dice_with_reference
from medsam.server.annotating.handing_in import (
    Drawn,
    Said,
    approved,
    check_absent,
    check_verdict,
    drawn_for,
    handed_in,
    said_wrong,
    shown_for,
    unseen,
)
from medsam.server.annotating.models import Models
from medsam.server.annotating.numbers import apart, models, statistics
from medsam.server.annotating.scans import SOURCES, as_case, scan_of
from medsam.server.annotating.schemas import (
    Disagreement,
    ModelLine,
    Opened,
    ProjectInfo,
    Statistics,
    Submitted,
    TaskInfo,
)
from medsam.server.annotating.start import Place, as_answers, as_start, before, begun_by, seen_last
from medsam.server.annotating.telling import kinds_meant, told_of_project, told_of_tasks
from medsam.server.cases.rooms import CaseRooms
from medsam.server.heavy import heavy
from medsam.server.readings.opening import Opening
from medsam.server.readings.reading import Reading
from medsam.server.readings.registry import Readings
from medsam.store.project_records import REVIEWED, Annotation, StoredScan, Task, TaskEvent, TaskKind
from medsam.store.readers import Reader
from medsam.store.store import Calls, Store
from medsam.volume import Volume

Given = ParamSpec("Given")
Result = TypeVar("Result")


def served(folder: Path, store: Store) -> AnnotationProject:
    """The project of a folder, on the store that the server has opened. Raises InputError where there is none."""
    if store.project() is None:
        raise InputError(f"{folder} holds no project: `medsam annotate init` makes one.", parameter="project")
    return AnnotationProject(folder, store)


@dataclass
class Annotating:
    """See the top of the file. Made by `open`. models: which of the project's answers."""

    project: AnnotationProject
    rooms: CaseRooms
    readings: Readings
    models: Models
    calls: Calls = field(default_factory=Calls)
    # id of a scan -> key of its case
    _cases: dict[int, str] = field(default_factory=dict)
    # of each task one thing is done at a time; a door lasts as long as somebody is at it
    _doors: weakref.WeakValueDictionary[int, asyncio.Lock] = field(default_factory=weakref.WeakValueDictionary)

    @classmethod
    async def open(cls, project: AnnotationProject, rooms: CaseRooms, readings: Readings, models: Models) -> Annotating:
        """All scans of the project are cases then, and nothing that was handed in is without what follows from it."""
        made = cls(project, rooms, readings, models)
        await made.calls(made._know_cases)
        await made.calls(catch_up, project)
        return made

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def show(self, reader: Reader) -> ProjectInfo:
        """The project, and what the reader has done for it."""
        predictor = self.readings.predictor
        return await self.calls(
            told_of_project,
            self.project,
            reader,
            self._cases,
            self.models.stored,
            predictor.name,
            predictor.images.weights,
        )

    async def next(self, reader: Reader, kinds: Sequence[TaskKind] | None) -> TaskInfo | None:
        """The reader's next task; None where nothing is left."""
        task = await self.calls(next_task, self.project, reader, kinds_meant(reader, kinds))
        return None if task is None else await self.told(reader, task)

    async def some(
        self,
        reader: Reader,
        states: Sequence[Any] | None,
        kinds: Sequence[TaskKind] | None,
        after: str | None,
        most: int,
    ) -> tuple[list[TaskInfo], str | None]:
        """Some of the tasks, a reader's own alone but for reviewers; and the last one's id where there are more."""
        last = None if after is None else (await self.task(after)).id
        mine = None if reader.sees_all else reader.id
        # a gold task may be told as one to be drawn
        meant = None if kinds is None else {*kinds, "gold"}
        found = await self.calls(lambda: self.store.tasks(states, meant, holder=mine, after=last, limit=most + 1))
        some = found[:most]
        told = [one for one in await self._told(reader, some) if kinds is None or one.kind in kinds]
        return told, some[-1].key if len(found) > most else None

    async def task(self, key: str) -> Task:
        """By its id. 404 for one that there is not."""
        found = await self.calls(self.store.task, key)
        if found is None:
            raise HTTPException(404, "There is no such task.")
        return found

    async def look(self, reader: Reader, key: str) -> TaskInfo:
        """A task that a reader may see: their own, or one that is open. 404 for others, but for reviewers."""
        task = await self.task(key)
        if not reader.sees_all and reader.id not in (task.holder, task.reader) and task.state != "open":
            raise HTTPException(404, "There is no such task.")
        return await self.told(reader, task)

    async def told(self, reader: Reader, task: Task) -> TaskInfo:
        """As clients are told of it."""
        return (await self._told(reader, [task]))[0]

    async def keep(self, reader: Reader, key: str) -> Task:
        """A sign of life. 409 where the task is no longer this reader's, as all that works on it."""
        task = await self.task(key)
        settings = await self.calls(lambda: self.project.settings)
        return await self._theirs(self.store.keep_task, task.id, reader, settings.lease_s)

    async def open_task(self, reader: Reader, key: str) -> Opened:
        """The task's session: as it was where it is open, else a new one. Takes a task that is open.

        Raises what reading the scan raises, and HTTPException 409 for a task that is somebody else's, or done.
        """
        task = await self.task(key)
        await self.models.look()
        async with self._door(task):
            settings = await self.calls(lambda: self.project.settings)
            task = await self._theirs(self.store.take_task, task.id, reader, settings.lease_s)
            scan = await self.calls(self.store.scan, task.scan)
            case = await self._case(scan)
            reading = await self._there(reader, task)
            if reading is None:
                volume = await self.readings.scan(reader, case)
                opening, last = await self._opening(reader, task, scan, volume)
                for line in await self.readings.list(reader, case):
                    # closed meanwhile
                    with suppress(HTTPException):
                        await self.readings.end(reader, line.key)
                reading, _ = await self.readings.begin(reader, case, opening)
                task = await self._theirs(self.store.open_task, task.id, reader, reading.key, last)
            last = await self.calls(seen_last, self.store, task, reading.key)
            began = await self.calls(before, self.store, task, reading.stored.axis, last)
            return Opened(
                session=reading.key,
                task=await self.told(reader, task),
                unseen=unseen(shown_for(reading, task), began),
            )

    async def submit(self, reader: Reader, key: str, said: Said) -> Submitted:
        """Hand a task in, as its session is now; asked again, the answer is the first one.

        Raises InputError for what does not fit the task, and HTTPException: 404 and 409 for another's task or session,
        503 where a first answer could not be refined.
        """
        task = await self.task(key)
        async with self._door(task):
            task = await self.task(key)
            done = await self.calls(self._submitted, task, reader, said.session)
            if done is None:
                done = await self._submit(reader, task, said)
            # asked again, nothing is made twice
            await self.calls(follow_up, self.project, await self.task(key))
            # it is closed already where the answer was lost
            with suppress(HTTPException):
                await self.readings.end(reader, said.session)
            told = {name: done[name] for name in ("masks", "untouched", "clicks", "dice")}
            return Submitted(task=await self.told(reader, await self.task(key)), **told)

    async def leave(self, reader: Reader, key: str, seconds: float) -> TaskInfo:
        """The task is open again. Its session stays, for its reader alone."""
        task = await self.task(key)
        async with self._door(task):
            await self._theirs(self.store.leave_task, task.id, reader, {"seconds": seconds})
        return await self.told(reader, await self.task(key))

    async def skip(self, reader: Reader, key: str, why: str, seconds: float) -> TaskInfo:
        """The task cannot be done. Raises InputError without a reason."""
        task = await self.task(key)
        async with self._door(task):
            await self._theirs(self.store.skip_task, task.id, reader, why, {"seconds": seconds})
            if task.reading is not None:
                with suppress(HTTPException):
                    await self.readings.end(reader, task.reading)
        return await self.told(reader, await self.task(key))

    async def reopen(self, reader: Reader, key: str, why: str) -> TaskInfo:
        """A task that was skipped is to be done after all. 409 where it was not."""
        task = await self.task(key)
        async with self._door(task):
            await self._theirs(self.store.reopen_task, task.id, reader, why)
        return await self.told(reader, await self.task(key))

    async def review(self, reader: Reader, key: str, verdict: str, note: str) -> TaskInfo:
        """What a reviewer says of what was handed in, or approved. 409 where it is neither, 403 for one's own work."""
        task = await self.task(key)
        async with self._door(task):
            task = await self.task(key)
            if task.state in REVIEWED["returned"] and task.holder == reader.id:
                raise HTTPException(403, "Nobody reviews what they did themselves: another reviewer does.")

            def put() -> None:
                rows = approved(self.store, task) if verdict == "approved" else []
                self.store.review_task(task.id, reader, verdict, note, rows)

            await self._theirs(put)
        return await self.told(reader, await self.task(key))

    # -- numbers and models -------------------------------------------------------------------------------------------

    async def statistics(self, reader: Reader) -> Statistics:
        """What the project has cost, and how good it is."""
        return await self.calls(statistics, self.project, reader)

    async def disagreements(self) -> list[Disagreement]:
        """Where two readers differ."""
        return await self.calls(apart, self.project)

    async def all_models(self) -> list[ModelLine]:
        """All that ever answered."""
        await self.models.look()
        return await self.calls(models, self.project, self.models.stored.id)

    async def back(self, reader: Reader, number: int | None) -> list[ModelLine]:
        """Have an earlier model answer again. Raises InputError for one that there is not."""
        try:
            await self.calls(answer_again, self.project, number or 0, reader)
        except InputError as error:
            raise InputError(str(error), parameter="round") from error
        return await self.all_models()

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return self.project.store

    def _door(self, task: Task) -> asyncio.Lock:
        return self._doors.setdefault(task.id, asyncio.Lock())

    async def _theirs(self, call: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        """A call of the store about a reader's task. 409 where it is not theirs any more."""
        try:
            return await self.calls(call, *given, **named)
        except InputError as error:
            if "task" in error.parameters:
                raise HTTPException(409, str(error)) from None
            raise

    async def _told(self, reader: Reader, tasks: Sequence[Task]) -> list[TaskInfo]:
        if any(task.scan not in self._cases for task in tasks):
            # scans that were added meanwhile
            await self.calls(self._know_cases)
        return await self.calls(told_of_tasks, self.store, reader, tasks, self._cases)

    def _know_cases(self) -> None:
        known = {scan_of(row.source): row.key for row in self.store.case_sources(SOURCES)}
        scans = self.store.scans()
        new = [scan for scan in scans if scan.key not in known]
        rows = self.store.put_cases([as_case(self.project, scan) for scan in new]) if new else []
        known |= {scan_of(row.source): row.key for row in rows}
        self._cases = {scan.id: known[scan.key] for scan in scans}

    async def _case(self, scan: StoredScan) -> str:
        """The key of a scan's case, with its files as they are now."""

        def look() -> tuple[str, bool]:
            before = {row.source: row.details for row in self.store.case_sources(f'{SOURCES}"{scan.key}"')}
            case = self.store.put_case(as_case(self.project, scan, look=True))
            return case.key, before.get(case.source) != case.details

        key, changed = await self.calls(look)
        if changed:
            self.rooms.scans.forget(key)
        self._cases[scan.id] = key
        return key

    async def _there(self, reader: Reader, task: Task) -> Reading | None:
        """The session in which a reader is drawing a task; None where there is none that goes on.

        One that was handed in does not, also where a server that was killed has left it open.
        """
        if task.reading is None or await self.calls(begun_by, self.store, task, reader) != task.reading:
            return None
        try:
            return await self.readings.get(reader, task.reading, change=True)
        except HTTPException as error:
            if error.status_code not in (403, 404, 409):
                raise
            return None

    async def _opening(
        self, reader: Reader, task: Task, scan: StoredScan, volume: Volume
    ) -> tuple[Opening, int | None]:
        """How a task's session begins: from the one before, where it was left in the middle of the work; and the last
        annotation that it saw."""
        case = await self.calls(self.project.case, scan)
        settings = await self.calls(lambda: self.project.settings)
        plane = volume.geometry.plane(settings.axis)
        begun = await self.calls(begun_by, self.store, task, reader)
        stored = None if begun is None else await self.calls(self.store.reading, reader, begun)
        masks: dict[str, Any] = {}
        going_on = stored is not None and stored.axis == plane.axis
        if going_on:
            last = await self.calls(seen_last, self.store, task, begun)
        else:
            last = await self.calls(self.store.last_annotation)
        there = await self.calls(before, self.store, task, plane.axis, last)
        if not going_on:
            masks = await heavy(as_start, there, plane, volume.geometry.shape)
        opening = Opening(
            axis=plane.axis,
            window=case.window,
            masks=None if going_on else masks,
            reading=begun if going_on else None,
            objects=task.structures,
            answers=await self.calls(as_answers, self.store, there),
        )
        return opening, last

    def _submitted(self, task: Task, reader: Reader, session: str) -> dict[str, Any] | None:
        """What was answered when this session was handed in; None where it was not, or was returned since."""
        events: list[TaskEvent] = self.store.task_events(task.id, ["submitted", "returned"])
        if not events or (events[-1].kind, events[-1].by) != ("submitted", reader.id):
            return None
        details = dict(events[-1].details)
        return details if details.get("session") == session else None

    async def _submit(self, reader: Reader, task: Task, said: Said) -> dict[str, Any]:
        if task.state != "taken" or task.holder != reader.id:
            raise HTTPException(409, "This task is no longer yours: it was left, or done. Ask for the next one.")
        if task.reading != said.session:
            raise HTTPException(409, "This session is not the task's: open the task again.")
        reading = await self.readings.get(reader, said.session, change=True)
        if any(job.runs for job in reading.jobs.values()):
            raise HTTPException(409, "An object is being propagated: wait, or stop it.")
        await reading.refined()
        drawn = drawn_for(reading, task)
        # who says that a mask is wrong need not have a better one
        absent = () if said.verdict == "wrong" else check_absent(task, drawn, said.absent)
        dice = await self._gold(task, reading, drawn)

        def put() -> dict[str, Any]:
            last = seen_last(self.store, task, said.session)
            began: dict[Place, Annotation] = before(self.store, task, reading.stored.axis, last)
            check_verdict(said, task, drawn, began)
            shape = reading.scan_encoder.plane.shape
            found = handed_in(self.store, task, reader, reading.stored, drawn, began, said.seconds, shape)
            if said.verdict == "wrong":
                found = said_wrong(found)
            details = {
                **said.to_dict(),
                "absent": list(absent),
                "masks": found.masks,
                "untouched": found.untouched,
                "expected_dice": found.expected_dice,
                "clicks": found.clicks,
                "boxes": found.boxes,
                "strokes": found.strokes,
                "dice": dice,
            }
            self.store.submit_task(task.id, reader, found.annotations, details)
            return details

        return await self._theirs(put)

    async def _gold(self, task: Task, reading: Reading, drawn: dict[Place, Drawn]) -> dict[str, float] | None:
        if task.kind != "gold":
            return None
        scan = await self.calls(self.store.scan, task.scan)
        case = await self.calls(self.project.case, scan)
        masks = {place: one.mask for place, one in drawn.items()}
        asked = Compared(case, task.structures, reading.stored.axis, task.slices, masks)
        return await self.rooms.pool.beside(dice_with_reference, asked)
