"""All readings: opened, found again, read from the store, put out of memory.

A reading in memory is what the store has of it, ready to go on: it may be dropped whenever nothing of it is under way,
and comes back when it is asked for. So a reading that nobody uses costs nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from anyio import to_thread
from fastapi import HTTPException

from medsam.errors import InputError
from medsam.inference.predictor import Predictor
from medsam.inference.session import Session
from medsam.inference.worker import Priority
from medsam.io.structure_names import plain_name
from medsam.server.chores import repeated
from medsam.server.heavy import heavy
from medsam.server.readings.answers import Labelled
from medsam.server.readings.asking import masks as masks_of
from medsam.server.readings.live import Tools
from medsam.server.readings.opening import (
    Left,
    Opening,
    Unfinished,
    begun,
    differs,
    left_of,
    refined,
    resumed,
    same_model,
    stood,
)
from medsam.server.readings.reading import Reading
from medsam.server.readings.refining import refine_all
from medsam.store.readers import Reader, Role
from medsam.store.records import ReadingLine, StoredCase, StoredReading
from medsam.store.store import Calls, Store
from medsam.volume import Volume

# seconds that a reading stays in memory after its last use, and where somebody watches it
_IDLE, _WATCHED = 600.0, 1800.0
# and where the memory for scans is full
_SPARED, _SPARED_WATCHED = 20.0, 120.0
# seconds between two looks at who is idle, and for which somebody's right to a case is believed
_REAP, _BELIEVED = 30.0, 5.0
_CLOSE_IT = "Close it (DELETE /sessions/{session}); a new one may begin from its masks: `start`."
# seconds that closing a reading waits for first answers to be refined
_REFINED = 10.0
# in a list, at most
_LISTED = 200


class Files(Protocol):
    """Of a case, as they are now. version: changes with them."""

    @property
    def version(self) -> str: ...


class Scans(Protocol):
    """Where scans come from, see `cases.scans.ScanStore`. case: the key of a `StoredCase`."""

    @property
    def files(self) -> Callable[[str], Awaitable[Files]]: ...

    async def get(self, case: str) -> Volume: ...

    def here(self, case: str, version: str) -> Volume | None: ...


@dataclass
class _Live:
    """seen: when its reader's right to it was last looked at. guest: who looks at it, where its own reader does not
    work in it: a reviewer, or that reader where it is closed."""

    reading: Reading
    seen: float
    guest: int | None = None


class Readings:
    """Made by `open`. most: readings of one reader in memory at a time; the one used longest ago makes room.

    predictor: what answers those that begin now. find: who may have another model by its digest, for readings that
    began with it; None where nobody has.
    """

    def __init__(
        self, store: Store, predictor: Predictor, scans: Scans, most: int = 8, most_prompts: int = 20_000
    ) -> None:
        if predictor.worker is None:
            raise InputError("The `predictor` of readings needs a worker.", parameter="predictor")
        self.predictor, self._scans, self._most = predictor, scans, most
        self.find: Callable[[str], Awaitable[Predictor | None]] | None = None
        # as long as a reading has one
        self._others: weakref.WeakValueDictionary[str, Predictor] = weakref.WeakValueDictionary()
        self._tools = Tools(
            store, Calls(), predictor.worker, lambda: predictor.names, lambda: predictor.organ_reader, most_prompts
        )
        self._live: dict[str, _Live] = {}
        # Of each reading and each (reader, case) one is opened at a time. A door lasts as long as somebody is at it.
        self._doors: weakref.WeakValueDictionary[object, asyncio.Lock] = weakref.WeakValueDictionary()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        store: Store,
        predictor: Predictor,
        scans: Scans,
        closing: asyncio.Event,
        most: int = 8,
        most_prompts: int = 20_000,
    ) -> AsyncIterator[Readings]:
        """Readings for as long as this block lasts. closing: see `Services`; ends all watching."""
        readings = cls(store, predictor, scans, most, most_prompts)
        # its digest is in every document
        await to_thread.run_sync(lambda: predictor.images.weights)
        reaping = repeated(_REAP, lambda: readings.reap(time.monotonic()), "putting sessions out of memory")
        tasks = [asyncio.create_task(reaping), asyncio.create_task(readings._end_watching(closing))]
        try:
            yield readings
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(live.reading.close() for live in readings._live.values()))
            readings._live.clear()

    @property
    def live(self) -> int:
        """How many are in memory."""
        return len(self._live)

    @property
    def following(self) -> int:
        """How many propagations run, or will."""
        return sum(job.runs for live in self._live.values() for job in live.reading.jobs.values())

    # -- for routes ---------------------------------------------------------------------------------------------------

    async def scan(self, reader: Reader, case_key: str) -> Volume:
        """The scan of a case; unlike `begin`, waiting for it may be given up. 404 for no such case."""
        return await self._scans.get((await self._case(reader, case_key)).key)

    async def _case(self, reader: Reader, key: str) -> StoredCase:
        case = await self._calls(self._store.case, reader, key)
        if case is None:
            raise HTTPException(404, "There is no such case.")
        return case

    async def begin(self, reader: Reader, case_key: str, opening: Opening) -> tuple[Reading, bool]:
        """A reader's reading of a case, and whether it is new: there is one at a time.

        Raises HTTPException: 404 for no such case, 409 where the one that is open is of other settings, 429 for too
        many; and what reading the scan, the start and the limits raises.
        """
        case = await self._case(reader, case_key)
        async with self._door(reader.id, case.id):
            for stored in await self._calls(self._store.readings, reader, case.id):
                try:
                    reading = (await self._again(stored, reader)).reading
                except Unfinished:
                    await self._calls(self._store.close_reading, stored.id, reader)
                    continue
                if reading.closed:
                    # while this waited at its door
                    continue
                if await heavy(differs, reading.scan_encoder, reading.stored, reading.limits, opening):
                    raise HTTPException(409, f"A session of this case is open and began otherwise. {_CLOSE_IT}")
                names = {plain_name(one.name) for one in reading.listed}
                if opening.label is not None and plain_name(opening.label) not in names:
                    await reading.add_object(opening.label, None)
                return reading, False
            return await self._new(reader, case, opening), True

    async def get(self, reader: Reader, key: str, *, change: bool = False) -> Reading:
        """A reading by its key; one that was closed can be looked at.

        change: whether it is to be changed, which only its own reader may.
        Raises HTTPException: 404 for one that there is not, is closed where it is to be changed, or is another's; 403
        where a reviewer would change it; 409 where the scan, or of an open one the model, is another one than it began
        with; 429.
        """
        live = self._live.get(key)
        if live is not None and not live.reading.broken and reader.id == live.reading.owner.id:
            if time.monotonic() - live.seen > _BELIEVED:
                await self._check(reader, live)
            # it may have left memory meanwhile
            if self._live.get(key) is live and not (change and live.reading.closed):
                if not live.reading.closed:
                    live.guest = None
                return live.reading
        stored = await self._stored(reader, key, change)
        owner = reader
        if stored.user != reader.id:
            known = await self._calls(self._store.reader, stored.user)
            # one who is no reader any more
            owner = known or Reader(stored.user, "", Role.READER)
        guest = None if owner is reader and stored.closed_at is None else reader.id
        return (await self._again(stored, owner, guest)).reading

    async def list(
        self, reader: Reader, case: str | None = None, *, closed: bool = False, everyones: bool = False
    ) -> list[ReadingLine]:
        """A reader's own, the newest first; those whose case is gone are not among them. case: key of the only one.

        closed: those that were closed, too. everyones: all that the reader may see.
        """

        def found() -> list[ReadingLine]:
            wanted = None if case is None else self._store.case(reader, case)
            if case is not None and wanted is None:
                return []
            of_case = None if wanted is None else wanted.id
            return self._store.reading_lines(reader, of_case, closed, everyones, most=_LISTED)

        return await self._calls(found)

    async def end(self, reader: Reader, key: str) -> None:
        """Close a reading: its reader is done. What was confirmed stays in the store. Raises as `get`."""
        await self._stored(reader, key, change=True)
        if (live := self._live.get(key)) is not None:
            # once it is closed nothing is stored in it, and another model could not do it later
            with suppress(HTTPException, TimeoutError):
                async with asyncio.timeout(_REFINED):
                    await live.reading.refined()
        async with self._door(key):
            # it may have been closed while this waited
            stored = await self._stored(reader, key, change=True)
            await self._drop(key)
            await self._calls(self._store.close_reading, stored.id, reader)

    async def labels(self, reader: Reader, key: str) -> Labelled:
        """The label map of a reading, refined and cleaned as `medsam segment` gives it. Raises as `get`."""
        if (live := self._live.get(key)) is not None:
            live.seen = -math.inf
        reading = await self.get(reader, key)
        revision, masks = await masks_of(reading)
        if (live := self._live.get(key)) is not None and await self._stale(live):
            raise HTTPException(409, f"The files of this case have changed. {_CLOSE_IT}")
        case = await self._case_of(reading.stored)
        made_by = replace(reading.algorithm, drawn=masks.drawn)
        return Labelled(masks, revision, case.key, reading.scan_encoder, made_by)

    async def left(self, reader: Reader, key: str, scan: Volume) -> Left:
        """What any reading that a reader may see left on a scan: also of another model or axis. Its first answers are
        refined, where it is of the model that answers now.

        Raises HTTPException 404, and InputError for one of another scan.
        """
        return await self._left(await self._stored(reader, key, change=False), scan)

    def adopt(self, predictor: Predictor) -> None:
        """Have this model answer what begins from now on; a reading that is open goes on with the one it began with.

        It works on the same worker, and its digest is known.
        """
        self._others[self.predictor.images.weights] = self.predictor
        self.predictor = predictor

    # -- how ----------------------------------------------------------------------------------------------------------

    async def _model_of(self, stored: StoredReading) -> Predictor:
        """The model that a reading began with, where it is to be had; else the one that answers now."""
        there = (self.predictor, self._others.get(stored.weights))
        if (known := next((one for one in there if one and same_model(one.images, stored)), None)) is not None:
            return known
        if (
            stored.closed_at is None
            and self.find is not None
            and (found := await self.find(stored.weights)) is not None
        ):
            self._others[stored.weights] = found
            return found
        return self.predictor

    @property
    def _store(self) -> Store:
        return self._tools.store

    @property
    def _calls(self) -> Calls:
        return self._tools.calls

    def _door(self, *key: object) -> asyncio.Lock:
        return self._doors.setdefault(key, asyncio.Lock())

    async def _stored(self, reader: Reader, key: str, change: bool) -> StoredReading:
        """A reading as the store has it. Raises HTTPException 404 and 403 as `get`."""
        stored = await self._calls(self._store.reading, reader, key)
        if stored is None:
            raise HTTPException(404, "There is no such session.")
        if change and stored.closed_at is not None:
            raise HTTPException(404, "This session is closed: it can be looked at. A new one may begin from its masks.")
        if change and stored.user != reader.id:
            raise HTTPException(403, "This session is another reader's: you may look at it.")
        return stored

    async def _case_of(self, stored: StoredReading) -> StoredCase:
        """Raises HTTPException 404 where it was removed."""
        try:
            return await self._calls(self._store.case_of, stored.case)
        except InputError:
            raise HTTPException(404, "There is no such session: its case was removed.") from None

    async def _stale(self, live: _Live) -> bool:
        """Whether the files of its case are other ones than were read."""
        files = await self._scans.files(live.reading.case)
        return self._scans.here(live.reading.case, files.version) is not live.reading.scan_encoder.scan

    async def _again(self, stored: StoredReading, owner: Reader, guest: int | None = None) -> _Live:
        """`_load`; 409 where the scan or the model is another one."""
        # what the scan has to say is said of it, not of the session
        await self._scans.get((await self._case_of(stored)).key)
        try:
            return await self._load(stored, owner, guest)
        except Unfinished:
            raise
        except InputError as error:
            raise HTTPException(409, f"{error} {_CLOSE_IT}") from error

    async def _left(self, stored: StoredReading, scan: Volume) -> Left:
        found = await self._calls(self._store.reading_state, stored.id)
        session = await heavy(stood, await self._model_of(stored), scan, found)
        await self._refine(session, stored)
        return await heavy(left_of, session, found.objects)

    async def _refine(self, session: Session, stored: StoredReading) -> bool:
        """Make the first answers of a session that nothing else is done with whole; False where there is none to be."""
        if not session.incomplete or not same_model(session.scan_encoder.image_predictor, stored):
            return False
        await self._tools.worker.run(partial(refine_all, session), priority=Priority.SLICE)
        return True

    async def _check(self, reader: Reader, live: _Live) -> None:
        """404 for a case that its reader may not see any more; out of memory where its files have changed."""
        if await self._calls(self._store.case, reader, live.reading.case) is None:
            await self._put_away(live)
            raise HTTPException(404, "There is no such session.")
        if await self._stale(live):
            await self._put_away(live)
        live.seen = time.monotonic()

    async def _new(self, reader: Reader, case: StoredCase, opening: Opening) -> Reading:
        volume = await self._scans.get(case.key)
        left = None
        if opening.reading is not None:
            other = await self._calls(self._store.reading, reader, opening.reading)
            if other is None:
                raise HTTPException(404, "There is no such session to begin from.")
            left = await self._left(other, volume)
        start = await heavy(begun, self.predictor, volume, opening, left)
        await self._make_room(reader.id, None)
        stored = await self._calls(self._store.open_reading, case.id, reader, start.document)
        for said in start.objects:
            await self._calls(self._store.add_object, stored.id, reader, *said)
        if start.masks:
            await self._calls(self._store.append_step, stored.id, reader, "start", masks=start.masks)
        live = await self._load(stored, reader)
        return live.reading

    async def _load(self, stored: StoredReading, owner: Reader, guest: int | None = None) -> _Live:
        async with self._door(stored.key):
            live = self._live.get(stored.key)
            if live is not None and not live.reading.broken and not await self._stale(live):
                if guest is None:
                    live.guest = None
                return live
            await self._drop(stored.key)
            case = await self._calls(self._store.case, owner, (await self._case_of(stored)).key)
            if case is None:
                raise HTTPException(404, "There is no such session.")
            volume = await self._scans.get(case.key)
            await self._make_room(owner.id, guest)
            found = await self._calls(self._store.reading_state, stored.id)
            predictor = await self._model_of(stored)
            again = await heavy(resumed, predictor, volume, found)
            revision, closed = found.revision, found.reading.closed_at is not None
            if closed and await self._refine(again.session, found.reading):
                again = await heavy(refined, again, revision)
            for step, masks in () if closed else again.ended:
                appended = await self._calls(
                    self._store.append_step,
                    stored.id,
                    owner,
                    "propagate",
                    object_number=step.object,
                    prompts={"object": step.object},
                    masks=masks,
                    ends=step.id,
                )
                revision = appended.revision
                # that is the revision of these masks the next time, too
                rewritten = {(mask.object, mask.slice): revision for mask in masks}
                again = replace(again, seen={**again.seen, **rewritten})
            # it may have been closed while this waited at the door
            tools = replace(self._tools, names=lambda: predictor.names, organs=lambda: predictor.organ_reader)
            reading = Reading(tools, again, found.reading, owner, case.key, revision)
            self._live[stored.key] = live = _Live(reading, time.monotonic(), guest)
            return live

    async def _make_room(self, owner: int, guest: int | None) -> None:
        """For one more of a reader, or of whom somebody looks at: what is looked at takes no reader's place."""
        wanted = _place_of(owner, guest)
        mine = sorted(
            (live for live in self._live.values() if _place_of(live.reading.owner.id, live.guest) == wanted),
            key=lambda live: live.reading.used,
        )
        while len(mine) >= self._most:
            idle = next((live for live in mine if not live.reading.busy), None)
            if idle is None:
                raise HTTPException(429, "Too many of your sessions are at work. Close one, or wait.")
            mine.remove(idle)
            await self._put_away(idle)

    async def _put_away(self, live: _Live) -> None:
        """`_drop`, once nobody opens or closes it; not what came in its place meanwhile."""
        key = live.reading.key
        async with self._door(key):
            if self._live.get(key) is live:
                await self._drop(key)

    async def _drop(self, key: str) -> None:
        """Out of memory; it is in the store. Whoever calls is at its door."""
        live = self._live.pop(key, None)
        if live is not None:
            await live.reading.close()

    async def spare(self) -> bool:
        """Put that reading out of memory that nobody has used for longest; False where all of them are in use.

        For a store of scans that is full: who goes through many cases leaves one after the other behind.
        """
        now = time.monotonic()
        left = [
            live
            for live in self._live.values()
            if not live.reading.busy
            # who is at its door may wait for the very scan that needs this room
            and not self._door(live.reading.key).locked()
            and now - live.reading.used > (_SPARED_WATCHED if live.reading.events.watchers else _SPARED)
        ]
        if not left:
            return False
        await self._put_away(min(left, key=lambda live: (live.reading.events.watchers > 0, live.reading.used)))
        return True

    async def reap(self, now: float) -> None:
        """Put out of memory what nobody uses, and what somebody watches who may not see the case any more. now: as
        `time.monotonic` says."""
        for live in list(self._live.values()):
            reading = live.reading
            watched = reading.events.watchers > 0
            idle = now - reading.used > (_WATCHED if watched else _IDLE) and not reading.busy
            if idle or (watched and await self._calls(self._store.case, reading.owner, reading.case) is None):
                await self._put_away(live)

    async def _end_watching(self, closing: asyncio.Event) -> None:
        await closing.wait()
        for live in self._live.values():
            live.reading.events.close()


def _place_of(owner: int, guest: int | None) -> tuple[int | None, int | None]:
    """Whose place a reading in memory takes: that of who looks at it, else its reader's."""
    return (owner if guest is None else None), guest
