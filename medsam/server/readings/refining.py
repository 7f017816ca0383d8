"""First answers are made whole behind the steps that readers wait for: which are still to be, and which failed."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from fastapi import HTTPException

from medsam.errors import Cancelled
from medsam.inference.session import Session
from medsam.inference.worker import Job, Priority, Worker
from medsam.progress import ProgressCallback
from medsam.server.readings.slate import Place

_LOG = logging.getLogger("medsam.server")


async def over(jobs: Iterable[Job[None]]) -> None:
    """Until jobs have ended, however they did. Whoever waits may be cancelled; they are not."""
    futures = [asyncio.wrap_future(job.future) for job in jobs]
    for future in futures:
        # how it ended is told elsewhere
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    if futures:
        await asyncio.wait(futures)


def refine_all(session: Session, progress: ProgressCallback) -> None:
    """Make the first answers of a session whole, on the worker's thread. What cannot be refined stays the first."""
    for label, index in session.incomplete:
        try:
            session.refine(index, label, progress=progress)
        except Cancelled:
            raise
        except Exception as error:
            _LOG.error("a refinement failed: %s", type(error).__name__)


class Refining:
    """Of one reading. refine: makes the mask of a place whole, on the worker's thread; nothing where it is. later: has
    something done on the event loop, where all else happens. failed: told of a place whose answer stays the first.
    They are methods, held weakly: see `View`.
    """

    def __init__(
        self,
        worker: Worker,
        key: str,
        refine: Callable[[Place, ProgressCallback], None],
        later: Callable[..., None],
        failed: Callable[[Place], None],
    ) -> None:
        self._worker, self._key = worker, key
        self._refine, self._failed = weakref.WeakMethod(refine), weakref.WeakMethod(failed)
        self._later = weakref.WeakMethod(later)
        self._jobs: dict[Place, Job[None]] = {}
        # as far as they are drawn, and those of them that could not be refined
        self._incomplete: tuple[Place, ...] = ()
        self._given_up: set[Place] = set()
        self._closed = False

    @property
    def jobs(self) -> list[Job[None]]:
        """What is under way, or will be."""
        return list(self._jobs.values())

    def want(self, incomplete: tuple[Place, ...], priority: Priority = Priority.SLICE) -> None:
        """All the first answers there are now."""
        self._incomplete = incomplete
        self._submit(incomplete, priority)

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        for job in self.jobs:
            job.cancel()

    async def all(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Until there is no first answer any more. settled: until what was refined is drawn.

        Raises HTTPException 503 for one that could not be refined, also when tried once more, or that will not be:
        the reading has left memory meanwhile.
        """
        await settled()
        self._submit([place for place in self._incomplete if place in self._given_up], Priority.SLICE)
        while self._jobs:
            await over(self.jobs)
            await settled()
        if self._incomplete:
            raise HTTPException(503, "A first answer could not be refined. Ask again, or undo it.")

    def _submit(self, places: Iterable[Place], priority: Priority) -> None:
        for place in places:
            if place in self._jobs or self._closed:
                continue

            job = self._worker.submit(
                partial(self._work, place), priority=priority, replaces=("refine", self._key, place)
            )
            self._jobs[place] = job
            job.future.add_done_callback(partial(self._told, place))

    def _work(self, place: Place, progress: ProgressCallback) -> None:
        if (refine := self._refine()) is not None:
            refine(place, progress)

    def _told(self, place: Place, future: Any) -> None:
        """On the worker's thread."""
        if (later := self._later()) is not None:
            later(self._ended, place, future)

    def _ended(self, place: Place, future: Any) -> None:
        self._jobs.pop(place, None)
        error = future.exception()
        if error is None:
            self._given_up.discard(place)
            # a click came in between, whose answer is to be refined in its turn
            self._submit([place] if place in self._incomplete else [], Priority.SLICE)
        elif not isinstance(error, Cancelled):
            self._given_up.add(place)
            _LOG.error("a refinement failed: %s", type(error).__name__)
            if (failed := self._failed()) is not None:
                failed(place)
