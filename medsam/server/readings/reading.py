"""One reading: the session of a reader on a case, live. What runs where: see the top of this room (`__init__`)."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from anyio import to_thread
from fastapi import HTTPException

from medsam.errors import Cancelled, MedSAMError, PromptError
from medsam.inference.session import Session
from medsam.inference.worker import Job, Priority, Worker
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Prompt
from medsam.server.readers import Reader
from medsam.server.readings.answers import Answer, label_map, made, probabilities_of, prompts_file
from medsam.server.readings.events import Event, Events
from medsam.server.readings.follow import Following
from medsam.server.readings.journal import Delta, Kind
from medsam.server.readings.ledger import Ledger
from medsam.server.readings.objects import (
    checked_colour,
    checked_name,
    checked_new,
    in_readers_words,
    label_of,
    locking,
)
from medsam.server.readings.opening import Resumed
from medsam.server.readings.refining import Refining, over
from medsam.server.readings.slate import Compared, Place, Slate
from medsam.server.readings.view import View
from medsam.server.readings.walk import touched, walk
from medsam.server.readings.writer import Writer
from medsam.server.store.records import StoredObject, StoredReading
from medsam.server.store.store import Calls, Store
from medsam.volume import LabelVolume

_LOG = logging.getLogger("medsam.server")
# propagations that have ended, and are still told of
_ENDED_JOBS = 16
# seconds between two looks whether who waits for changes is still there
_THERE = 1.0


@dataclass(frozen=True)
class Tools:
    """What every reading works with. most_prompts: of one reading."""

    store: Store
    calls: Calls
    worker: Worker
    most_prompts: int = 20_000


class Reading:
    """owner: its reader. objects: as they stand, by number. revision: of what is stored and drawn. limits: of the
    session, but for what is locked. Made by `Readings`."""

    def __init__(self, tools: Tools, resumed: Resumed, stored: StoredReading, owner: Reader, revision: int) -> None:
        self.tools, self.stored, self.owner, self.limits = tools, stored, owner, resumed.limits
        self.objects = {one.number: one for one in resumed.objects}
        self.objects_revision = max((one.revision for one in resumed.objects), default=0)
        self.revision = revision
        self.scan_encoder = resumed.session.scan_encoder
        plane = self.scan_encoder.plane
        self.slate = Slate(plane.axis, plane.shape)
        self.events = Events(revision)
        self.jobs: dict[str, Following] = {}
        self.view = View(tools.worker, self.scan_encoder, stored.key, self._seen)
        self.used = time.monotonic()
        # how many steps can be undone and redone
        self.undo = self.redo = 0
        # prompts, as far as they bear on how long it takes to come back
        self._asked = resumed.asked
        # touched on the worker's thread alone
        self._session, self._journal = resumed.session, resumed.journal
        self._refining = Refining(tools.worker, stored.key, self._whole, self._later, self._tell_unrefined)
        self._running: dict[Job[None], Following] = {}
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._ledger, self._rows = Ledger(tools.calls), Writer(tools.store, stored, owner, resumed.steps_of)
        self._begin(resumed)

    def _begin(self, resumed: Resumed) -> None:
        """Draw what there is, each mask with the revision that made it, so that a client goes on with what it has."""
        delta = resumed.delta
        for place in dict.fromkeys((*resumed.seen, *delta.drawn)):
            self.slate.update(resumed.seen.get(place, self.revision), {place: delta.drawn.get(place)}, gone=True)
        self.undo, self.redo = delta.undo, delta.redo
        self._refining.want(delta.incomplete, Priority.PREFETCH)

    @property
    def key(self) -> str:
        """The reading's name in URLs."""
        return self.stored.key

    @property
    def busy(self) -> bool:
        """Whether something of it is under way."""
        return self._lock.locked() or not self._ledger.idle or bool(self._running)

    @property
    def broken(self) -> bool:
        """Whether the store refused something: this reading is to be read from it again."""
        return self._ledger.broken is not None

    async def close(self) -> None:
        """End what is under way and store what it found. Nothing can be asked any more."""
        for job in self.jobs.values():
            job.stop()
        self.view.leave()
        self._refining.close()
        async with self._lock:
            while under_way := [*self._running, *self._refining.jobs]:
                await over(under_way)
                # their last words are on their way
                await asyncio.sleep(0)
            await self._ledger.close()
        self.events.close()

    # -- what readers ask for -----------------------------------------------------------------------------------------

    async def prompt(self, number: int, entry: dict[str, Any], since: int | None, match: int | None) -> Answer:
        """A step: an entry of a prompts file, without its label, about an object. The first answer, stored.

        since: the revision that the client has; default: that before the step. match: the one that there has to be.
        Raises PromptError for what cannot be answered, and HTTPException: 404, 412, 423 and 429.
        """
        async with self._turn(match):
            self._unlocked(number)
            if self._asked >= self.tools.most_prompts:
                raise HTTPException(429, "This session has too many steps. Close it and begin from its masks.")
            before, shape = self.revision, self.scan_encoder.scan.geometry.shape
            read = partial(Prompt.from_dict, {**entry, "label": label_of(number)}, shape=shape)
            with self._words():
                prompt = await to_thread.run_sync(read)
                self._asked += 1
                delta = await self._step("prompt", lambda session: session.prompt(prompt), number, entry)
            places = delta.places if delta else frozenset({(number, entry.get("slice") or 0)})
            return await self._answer(before if since is None else since, places)

    async def walk(self, kind: Kind, since: int | None, match: int | None) -> Answer:
        """undo, redo or reset; where there is nothing to be done nothing is. 423 where it would change what is
        locked. A propagation of what it is about ends first, so that it is what is undone, and does not come after."""
        async with self._turn(match):
            before = self.revision
            await self._end_followings(kind)
            locked = {label_of(one.number): one.name for one in self.objects.values() if one.locked}
            with self._words():
                delta = await self._step(kind, partial(walk, kind, locked))
            return await self._answer(before if since is None else since, delta.places if delta else frozenset())

    async def changes(
        self, since: int, seconds: float = 0.0, gone: Callable[[], Awaitable[bool]] | None = None
    ) -> Answer:
        """All that changed after revision `since`. seconds: how long to wait for something, where there is nothing.

        gone: whether nobody waits any more; asked now and then.
        """
        until = time.monotonic() + seconds
        while self.revision == since and (left := until - time.monotonic()) > 0:
            if await self.events.wait(min(left, _THERE)):
                continue
            if self.events.closed or (gone is not None and await gone()):
                break
        return await self._answer(since, frozenset())

    async def add_object(self, name: str, colour: str | None, match: int | None = None) -> StoredObject:
        """One more object. Raises InputError for a name or colour that cannot be one."""
        async with self._turn(match):
            name, colour = checked_new(self.objects.values(), name, colour)
            return await self._object(partial(self.tools.store.add_object, self.stored.id, self.owner, name, colour))

    async def change_object(self, number: int, match: int | None = None, **changes: Any) -> StoredObject:
        """name, colour, visible, locked: those that are given. Raises as `add_object`, and 404."""
        async with self._turn(match):
            there = self._there(number)
            given = {name: value for name, value in changes.items() if value is not None}
            if "name" in given:
                others = [one for one in self.objects.values() if one is not there]
                given["name"] = checked_name(given["name"], others)
            if "colour" in given:
                given["colour"] = checked_colour(given["colour"])
            change = partial(self.tools.store.change_object, self.stored.id, self.owner, number, **given)
            changed = await self._object(change)
            if changed.locked != there.locked:
                for job in self.jobs.values():
                    if changed.locked and job.object == number and job.runs:
                        job.stop()
                limits = locking(self.limits, self.objects.values())
                await self.tools.worker.run(lambda _: setattr(self._session, "limits", limits), priority=Priority.CLICK)
            return changed

    def look(self, index: int) -> None:
        """A slice is on screen. Raises PromptError for one that there is not."""
        plane = self.scan_encoder.plane
        if not 0 <= index < plane.count:
            raise PromptError(
                f"There is no `slice` {index}: axis {plane.axis} has the slices 0 ... {plane.count - 1}.",
                parameter="slice",
            )
        self.used = time.monotonic()
        self.view.look(index)

    async def propagate(self, number: int, max_mm: float, match: int | None = None) -> Following:
        """Follow an object through the volume, as a job. Raises PromptError for one without a mask, and HTTPException:
        404, 409 where that is under way, 412 and 423."""
        async with self._turn(match):
            one = self._unlocked(number)
            if any(job.runs and job.object == number for job in self.jobs.values()):
                raise HTTPException(409, f"{one.name!r} is being propagated.")
            if math.isfinite(max_mm) and not self.scan_encoder.scan.geometry.calibrated:
                raise PromptError("`max_mm` needs a scan with millimetres: leave it out.", parameter="max_mm")
            if not self.slate.has(number):
                raise PromptError(f"There is no prompt of {one.name!r} to propagate: give it one on some slice.")
            job = Following(secrets.token_urlsafe(9), number)
            ended = [key for key, other in self.jobs.items() if not other.runs]
            for key in ended[:-_ENDED_JOBS]:
                del self.jobs[key]
            self.jobs[job.id] = job
            self._tell_job(job)
            self._background(job, max_mm)
            return job

    def job(self, job_id: str) -> Following:
        """A propagation. 404 for one there is not."""
        if job_id not in self.jobs:
            raise HTTPException(404, "There is no such job.")
        return self.jobs[job_id]

    def stop(self, job_id: str) -> Following:
        """End a propagation; what it has found stays, as a step. Raises as `job`."""
        job = self.job(job_id)
        job.stop()
        self._tell_job(job)
        return job

    async def probabilities(self, number: int, index: int) -> np.ndarray:
        """What the network says of an object on a slice, float16 (h, w). 404 where it was not asked there."""
        self._there(number)

        def ask(_: ProgressCallback) -> np.ndarray | None:
            state = self._session.states.get(label_of(number), {}).get(index)
            if state is None or state.untouched:
                return None
            found = self._session.result(index, label_of(number))
            return None if found is None else found.logits

        logits = await self.tools.worker.run(ask, priority=Priority.SLICE)
        if logits is None:
            raise HTTPException(404, "There is no prompt of this object on this slice.")
        return await to_thread.run_sync(probabilities_of, logits)

    async def prompts(self) -> str:
        """What was asked, as a prompts file that `medsam segment --prompts` reads (docs/prompts.md)."""
        given = await self.tools.worker.run(lambda _: self._session.prompts, priority=Priority.CLICK)
        names = {label_of(one.number): one.name for one in self.objects.values()}
        return await to_thread.run_sync(prompts_file, given, names, self.scan_encoder.plane.axis)

    async def labels(self) -> LabelVolume:
        """The label map of all objects, by their numbers and names, once every first answer is refined.

        Raises HTTPException 503 where that fails.
        """
        await self._refining.all(self._ledger.settled)
        state = await self.tools.worker.run(lambda _: self._session.state, priority=Priority.CLICK)
        return await to_thread.run_sync(label_map, state, self.scan_encoder, dict(self.objects))

    # -- how, on the event loop ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, match: int | None) -> AsyncIterator[None]:
        """One request at a time that changes it. 412 when the revision is not `match`."""
        self.used = time.monotonic()
        async with self._lock:
            if match is not None and match != self.revision:
                raise HTTPException(
                    412,
                    f"This session has moved on: it is at revision {self.revision}, not {match}.",
                    {"X-Medsam-Revision": str(self.revision)},
                )
            self.view.act()
            yield
        self.view.act()
        self.used = time.monotonic()

    @contextmanager
    def _words(self) -> Iterator[None]:
        """Errors of the session name objects as the reader does."""
        try:
            yield
        except Cancelled:
            raise
        except MedSAMError as error:
            raise in_readers_words(error, self.objects.values()) from error

    def _there(self, number: int) -> StoredObject:
        if number not in self.objects:
            raise HTTPException(404, "There is no such object in this session.")
        return self.objects[number]

    def _unlocked(self, number: int) -> StoredObject:
        one = self._there(number)
        if one.locked:
            raise HTTPException(423, f"{one.name!r} is locked. Unlock it first.")
        return one

    async def _step(
        self, kind: Kind, work: Callable[[Session], object], number: int | None = None, prompts: Any = None
    ) -> Delta | None:
        """Have something done to the session, and store what it changed; None where that is nothing."""
        stored: asyncio.Future[Delta | None] = self._loop.create_future()

        def step(_: ProgressCallback) -> None:
            begun = time.perf_counter()
            work(self._session)
            self._later(self._put, self._taken(kind, number, prompts, time.perf_counter() - begun), stored)

        await self.tools.worker.run(step, priority=Priority.CLICK)
        return await stored

    async def _end_followings(self, kind: Kind) -> None:
        """Those of what undo, redo or reset would change."""
        if not self._running:
            return
        labels = await self.tools.worker.run(lambda _: touched(kind, self._session), priority=Priority.CLICK)
        ending = []
        for submitted, job in list(self._running.items()):
            if label_of(job.object) in labels and job.runs:
                job.stop()
                # one that has not begun will not
                ending += [submitted] if job.runs else []
        if ending:
            await over(ending)
            await self._ledger.settled()

    def _put(self, delta: Delta | None, stored: asyncio.Future[Delta | None] | None = None) -> None:
        """Store and then show what the session has become. stored: who waits for that."""
        if delta is None:
            if stored is not None and not stored.done():
                stored.set_result(None)
            return
        written = self._ledger.put(partial(self._write, delta), partial(self._show, delta))

        def tell(future: asyncio.Future[None]) -> None:
            if stored is None or stored.done():
                return
            if (error := future.exception()) is not None:
                stored.set_exception(error)
            else:
                stored.set_result(delta)

        written.add_done_callback(tell)

    def _write(self, delta: Delta) -> tuple[int, Compared]:
        """In the ledger's thread: its revision, and what it changes on the slate, which nothing else does meanwhile."""
        return self._rows.write(delta), self.slate.compared(delta.drawn)

    def _show(self, delta: Delta, written: tuple[int, Compared]) -> None:
        revision, compared = written
        self.revision = revision
        self.undo, self.redo = (self.undo, self.redo) if delta.kind == "following" else (delta.undo, delta.redo)
        self.slate.put(revision, compared)
        for (number, index), drawn in delta.drawn.items():
            more = {"object": number, "slice": index, "status": "removed" if drawn is None else drawn.status}
            self.events.publish(
                Event("refined" if delta.kind == "refined" else "mask", revision, changes=True, more=more)
            )
        if delta.kind != "following":
            self._refining.want(delta.incomplete)

    async def _object(self, change: Callable[[], StoredObject]) -> StoredObject:
        changed: list[StoredObject] = []

        def show(one: StoredObject) -> None:
            changed.append(one)
            if one.revision <= self.revision:
                return
            self.objects[one.number] = one
            self.revision = self.objects_revision = one.revision
            self.events.publish(Event("objects", one.revision, changes=True, more={"object": one.number}))

        await self._ledger.put(change, show)
        return changed[0]

    async def _answer(self, since: int, places: frozenset[Place]) -> Answer:
        # one from another life of the store knows nothing of this one
        frames = self.slate.frames(since if since <= self.revision else 0, places)
        revision, objects_revision = self.revision, self.objects_revision
        return Answer(revision, objects_revision, await made(frames))

    def _tell_unrefined(self, place: Place) -> None:
        more = {"object": place[0], "slice": place[1], "detail": "The first answer could not be refined."}
        self.events.publish(Event("error", self.revision, more=more))

    def _background(self, job: Following, max_mm: float) -> None:
        submitted = self.tools.worker.submit(
            partial(self._follow, job, max_mm), priority=Priority.PROPAGATE, progress=partial(self._progress, job)
        )
        self._running[submitted] = job
        # without the job of the worker: it would hold itself, and with it this reading
        submitted.future.add_done_callback(partial(self._later, self._ended, job))

    def _ended(self, job: Following, future: Any) -> None:
        """After its last masks were put: told of once they are stored."""
        error = future.exception()

        def show(_: None) -> None:
            job.state = "stopped" if not job.wanted else "done" if error is None else "failed"
            if error is not None and not isinstance(error, Cancelled):
                known = isinstance(error, MedSAMError)
                job.detail = str(in_readers_words(error, self.objects.values())) if known else "A defect in medsam."
                if not known:
                    _LOG.error("a propagation failed: %s", type(error).__name__)
            self._tell_job(job)

        self._ledger.put(None, show)
        self._running = {submitted: one for submitted, one in self._running.items() if one is not job}

    def _tell_job(self, job: Following) -> None:
        told = job.to_dict()
        self.events.publish(Event("job", self.revision, more={"job": told.pop("id"), **told}))

    def _tell_seen(self, index: int) -> None:
        self.events.publish(Event("progress", self.revision, more={"slice": index, "state": "embedded"}))

    # -- on the worker's thread ---------------------------------------------------------------------------------------

    def _later(self, call: Callable[..., object], *arguments: Any) -> None:
        """Have something done on the event loop, in the order of these calls."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _seen(self, index: int) -> None:
        self._later(self._tell_seen, index)

    def _taken(
        self, kind: Kind, number: int | None, prompts: Any, seconds: float, follows: str | None = None
    ) -> Delta | None:
        try:
            return self._journal.take(kind, number, prompts, seconds, follows)
        except Exception as error:
            self._later(self._ledger.fail, error)
            raise

    def _whole(self, place: Place, progress: ProgressCallback) -> None:
        number, index = place
        if (label_of(number), index) in self._session.incomplete:
            begun = time.perf_counter()
            # a click may come in between: what it left stands, and is refined in its turn
            self._session.refine(index, label_of(number), progress=progress)
            self._later(self._put, self._taken("refined", number, None, time.perf_counter() - begun))

    def _follow(self, job: Following, max_mm: float, progress: ProgressCallback) -> None:
        if not job.begin():
            raise Cancelled
        begun = time.perf_counter()
        kind: Kind = "ended"
        try:
            self._session.propagate(
                label_of(job.object),
                max_mm=max_mm,
                found=partial(self._found, job),
                wanted=lambda: job.wanted,
                progress=progress,
            )
            kind = "propagate"
        finally:
            stated = {"object": job.object, **({"max_mm": max_mm} if math.isfinite(max_mm) else {})}
            seconds = time.perf_counter() - begun
            self._later(self._put, self._taken(kind, job.object, stated, seconds, job.id))

    def _found(self, job: Following, index: int, mask: CompactMask) -> None:
        self._later(self._put, self._journal.of_slice(job.object, index, mask, job.id))

    def _progress(self, job: Following, done: int, total: int | None) -> None:
        job.done, job.total = done, total
        self._later(self._tell_job, job)
