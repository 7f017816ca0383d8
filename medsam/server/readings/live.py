"""A session that is live: what is done to it, stored, drawn and told of, in this order. See the top of this room."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import HTTPException

from medsam.errors import Cancelled, MedSAMError
from medsam.inference.by_name import NameReader
from medsam.inference.organs import OrganReader
from medsam.inference.segmentation import algorithm_of
from medsam.inference.session import Session
from medsam.inference.worker import Job, Priority, Worker
from medsam.io.algorithm import Algorithm
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.server.readings.answers import Answer, made
from medsam.server.readings.events import Event, Events
from medsam.server.readings.follow import Following
from medsam.server.readings.journal import Delta, Kind
from medsam.server.readings.ledger import Ledger
from medsam.server.readings.measured import Measuring
from medsam.server.readings.objects import (
    in_readers_words,
    label_of,
    locking,
)
from medsam.server.readings.opening import Resumed, same_model
from medsam.server.readings.refining import Refining, over
from medsam.server.readings.slate import Compared, Place, Slate
from medsam.server.readings.view import View
from medsam.server.readings.writer import Writer
from medsam.store.readers import Reader
from medsam.store.records import StoredObject, StoredReading
from medsam.store.store import Calls, Store

Result = TypeVar("Result")

_LOG = logging.getLogger("medsam.server")

# jobs that have ended, and are still told of
_ENDED_JOBS = 16


@dataclass(frozen=True)
class Tools:
    """What every reading works with. most_prompts: changes of one reading, of whatever kind. names, organs: who answers
    names, and who looks for structures without a prompt, made when first asked, on the worker's thread."""

    store: Store
    calls: Calls
    worker: Worker
    names: Callable[[], NameReader]
    organs: Callable[[], OrganReader]
    most_prompts: int = 20_000


class Live:
    """owner: its reader. case: key of its case. objects: as they stand, by number. revision: of what is stored and
    drawn. limits: of the session, but for what is locked. Made by `Readings`."""

    def __init__(
        self, tools: Tools, resumed: Resumed, stored: StoredReading, owner: Reader, case: str, revision: int
    ) -> None:
        self.tools, self.stored, self.owner, self.case = tools, stored, owner, case
        self.limits = resumed.limits
        self.objects = {one.number: one for one in resumed.objects}
        # of what is said of objects and limits
        self.objects_revision = resumed.listed
        self.revision = revision
        self.scan_encoder = resumed.session.scan_encoder
        plane = self.scan_encoder.plane
        self.slate = Slate(plane.axis, plane.shape)
        self.measuring = Measuring(self.scan_encoder.scan, plane)
        self.events = Events(revision)
        self.jobs: dict[str, Following] = {}
        self.view = View(tools.worker, self.scan_encoder, stored.key, self._seen)
        self.used = time.monotonic()
        # how many steps can be undone and redone
        self.undo = self.redo = 0
        # numbers of objects that were removed
        self.gone: frozenset[int] = frozenset()
        # changes, as far as they bear on how long it takes to come back
        self._asked = resumed.asked
        # touched on the worker's thread alone
        self._session, self._journal = resumed.session, resumed.journal
        self._refining = Refining(tools.worker, stored.key, self._whole, self._later, self._tell_unrefined)
        self._running: dict[Job[Any], Following] = {}
        # what draws the organs that were found
        self._drawing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._ledger, self._rows = Ledger(tools.calls), Writer(tools.store, stored, owner, resumed.steps_of)
        if self.closed:
            # nothing happens in it any more
            self._refining.close()
            self.events.close()
        self._begin(resumed)

    def _begin(self, resumed: Resumed) -> None:
        """Draw what there is, each mask with the revision that made it, so that a client goes on with what it has."""
        delta = resumed.delta
        for place in dict.fromkeys((*resumed.seen, *delta.drawn)):
            self.slate.update(resumed.seen.get(place, self.revision), {place: delta.drawn.get(place)}, gone=True)
        self.undo, self.redo, self.gone = delta.undo, delta.redo, delta.gone
        self._refining.want(delta.incomplete, Priority.PREFETCH)

    @property
    def key(self) -> str:
        """The reading's name in URLs."""
        return self.stored.key

    @property
    def closed(self) -> bool:
        """Whether its reader is done with it: it can be looked at."""
        return self.stored.closed_at is not None

    @property
    def same_model(self) -> bool:
        """Whether its masks are of the model that answers now; of one that is closed they need not be."""
        return same_model(self.scan_encoder.image_predictor, self.stored)

    @property
    def algorithm(self) -> Algorithm:
        """The model that its masks are of, as DICOM names it."""
        if self.same_model:
            return algorithm_of(self.scan_encoder.image_predictor)
        return Algorithm(self.stored.model, digest=self.stored.weights)

    @property
    def listed(self) -> list[StoredObject]:
        """The objects but those that were removed."""
        return [one for one in self.objects.values() if one.number not in self.gone]

    @property
    def busy(self) -> bool:
        """Whether something of it is under way."""
        return self._lock.locked() or not self._ledger.idle or bool(self._running or self._drawing)

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
        # they see that they are not wanted any more
        await asyncio.gather(*self._drawing)
        self.events.close()

    async def ask(self, work: Callable[[Session], Result], priority: Priority = Priority.CLICK) -> Result:
        """What `work` says of the session, on the worker's thread; it changes nothing."""
        return await self.tools.worker.run(lambda _: work(self._session), priority=priority)

    async def asked(
        self, work: Callable[[Session], Result], priority: Priority = Priority.CLICK
    ) -> tuple[Result, Answer]:
        """`ask`, and the revisions of the session that this was said of, as an answer without frames."""
        stored: list[asyncio.Future[None]] = []
        told: list[Answer] = []

        def note(_: None) -> None:
            told.append(Answer(self.revision, self.objects_revision))

        def ask(session: Session) -> Result:
            # once all that is in the session by now is stored; a click may come in between later
            self._later(lambda: stored.append(self._ledger.put(None, note)))
            return work(session)

        found = await self.ask(ask, priority)
        await stored[0]
        return found, told[0]

    async def refined(self) -> None:
        """Until every first answer is refined. Raises HTTPException 503 where that fails.

        One that is closed is as it is: what could be refined was when it came from the store.
        """
        if not self.closed:
            await self._refining.all(self._ledger.settled)

    # -- how, on the event loop ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, match: int | None) -> AsyncIterator[None]:
        """One request at a time that changes it. 412 when the revision is not `match`, 429 after too many."""
        self.used = time.monotonic()
        async with self._lock:
            if match is not None and match != self.revision:
                raise HTTPException(
                    412,
                    f"This session has moved on: it is at revision {self.revision}, not {match}.",
                    {"X-Medsam-Revision": str(self.revision)},
                )
            if self._asked >= self.tools.most_prompts:
                raise HTTPException(429, "This session has too many steps. Close it and begin from its masks.")
            self.view.act()
            yield
            self._asked += 1
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

    def there(self, number: int) -> StoredObject:
        """An object. 404 where there is none, or it was removed: undo alone brings it back."""
        if number not in self.objects or number in self.gone:
            raise HTTPException(404, "There is no such object in this session.")
        return self.objects[number]

    def _unlocked(self, number: int) -> StoredObject:
        one = self.there(number)
        if one.locked:
            raise HTTPException(423, f"{one.name!r} is locked. Unlock it first.")
        return one

    async def _stepped(
        self,
        kind: Kind,
        work: Callable[[Session], object],
        since: int | None,
        number: int | None = None,
        said: Any = None,
        here: Place | None = None,
        priority: Priority = Priority.CLICK,
    ) -> Answer:
        """`_step`, answered. since: default: the revision before. here: a place to be told of where nothing changed."""
        before = self.revision
        with self._words():
            delta = await self._step(kind, work, number, said, priority)
        places = delta.places if delta else frozenset(() if here is None else (here,))
        return await self._answer(before if since is None else since, places)

    async def _step(
        self,
        kind: Kind,
        work: Callable[[Session], object],
        number: int | None = None,
        prompts: Any = None,
        priority: Priority = Priority.CLICK,
    ) -> Delta | None:
        """Have something done to the session, and store what it changed; None where that is nothing."""
        stored: asyncio.Future[Delta | None] = self._loop.create_future()

        def step(_: ProgressCallback) -> None:
            begun = time.perf_counter()
            work(self._session)
            self._later(self._put, self._taken(kind, number, prompts, time.perf_counter() - begun), stored)

        await self.tools.worker.run(step, priority=priority)
        return await stored

    async def _limit(self) -> None:
        """Have the session keep to the limits and locks of now."""
        limits = locking(self.limits, self.objects.values())

        def keep(session: Session) -> None:
            session.keep_to(limits)
            self._journal.again()

        await self.ask(keep)

    async def _end_followings(self, labels: Iterable[str]) -> None:
        """Those of what would be changed."""
        ending = []
        for submitted, job in list(self._running.items()):
            if job.object is not None and label_of(job.object) in labels and job.runs:
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
        if delta.kind != "following" and delta.gone != self.gone:
            self.gone, self.objects_revision = delta.gone, revision
            self.events.publish(Event("objects", revision, changes=True))
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

    def _new_job(self, number: int | None) -> Following:
        """A job that is to be begun, told of already. number: of the object that it is about."""
        job = Following(secrets.token_urlsafe(9), number)
        ended = [key for key, other in self.jobs.items() if not other.runs]
        for key in ended[:-_ENDED_JOBS]:
            del self.jobs[key]
        self.jobs[job.id] = job
        self._tell_job(job)
        return job

    def _background(self, job: Following, number: int, max_mm: float) -> None:
        submitted = self.tools.worker.submit(
            partial(self._follow, job, number, max_mm),
            priority=Priority.PROPAGATE,
            progress=partial(self._progress, job),
        )
        self._running[submitted] = job
        # without the job of the worker: it would hold itself, and with it this reading
        submitted.future.add_done_callback(partial(self._later, self._ended, job))

    def _ended(self, job: Following, future: Any) -> None:
        """After its last masks were put: told of once they are stored."""
        error = future.exception()

        def show(_: None) -> None:
            self._tell_ended(job, error)

        self._ledger.put(None, show)
        self._running = {submitted: one for submitted, one in self._running.items() if one is not job}

    def _tell_ended(self, job: Following, error: BaseException | None) -> None:
        """Tell that a job has ended. error: what it raised."""
        # a search that was drawn already is not stopped any more
        stopped = not job.wanted and job.structures is None
        job.state = "stopped" if stopped else "done" if error is None else "failed"
        if isinstance(error, HTTPException):
            job.detail = str(error.detail)
        elif isinstance(error, MedSAMError):
            job.detail = None if isinstance(error, Cancelled) else str(in_readers_words(error, self.objects.values()))
        elif error is not None:
            job.detail = "A defect in medsam."
            _LOG.error("a job of a session failed: %s", type(error).__name__)
        self._tell_job(job)

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

    def _follow(self, job: Following, number: int, max_mm: float, progress: ProgressCallback) -> None:
        if not job.begin():
            raise Cancelled
        begun = time.perf_counter()
        kind: Kind = "ended"
        try:
            spread = self._session.propagate(
                label_of(number),
                max_mm=max_mm,
                found=partial(self._found, job, number),
                wanted=lambda: job.wanted,
                progress=progress,
            )
            kind, job.stopped = "propagate", dict(spread.stop_reasons)
        finally:
            stated = {"object": number, **({"max_mm": max_mm} if math.isfinite(max_mm) else {})}
            seconds = time.perf_counter() - begun
            self._later(self._put, self._taken(kind, number, stated, seconds, job.id))

    def _found(self, job: Following, number: int, index: int, mask: CompactMask) -> None:
        self._later(self._put, self._journal.of_slice(number, index, mask, job.id))

    def _progress(self, job: Following, done: int, total: int | None) -> None:
        job.done, job.total = done, total
        self._later(self._tell_job, job)
