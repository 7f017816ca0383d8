"""An object's interactions one after the other: each is answered in time, with what is new of the mask.

A step is asked at once; what comes of it is followed through the volume behind everybody's steps. A client waits for
that as long as it can, gets what was found so far, and with its next call what was found since. The next step ends a
following that is under way, keeps what it found, and has the object followed anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medsam.errors import Cancelled, InputError, MedSAMError
from medsam.geometry import Axis
from medsam.inference.worker import Job, Priority, Worker
from medsam.masks import bounding_box
from medsam.progress import ProgressCallback
from medsam.server.heavy import heavy
from medsam.server.nninteractive.outlining import Image, Mark, Outlining
from medsam.server.nninteractive.packed import packed

_LOG = logging.getLogger("medsam.server")

# of what making the last answer took, that is kept for making the next one
_MARGIN = 2.0
# said of an object, on the worker's thread
Step = Callable[[Outlining], None]


@dataclass(frozen=True)
class Diff:
    """What changed of a mask. ran: whether anything was done. bounds: [low, high] along each axis, None for nothing.

    block: the mask in there, packed. dtype, shape: of the block.
    """

    ran: bool
    bounds: list[list[int]] | None = None
    block: bytes = b""
    dtype: str = "uint8"
    shape: tuple[int, ...] = ()


@dataclass
class _Following:
    """An object on its way through the volume."""

    wanted: bool = True
    begun: bool = False
    job: Job[None] | None = None
    ended: asyncio.Future[None] | None = None

    def end(self) -> None:
        """At its next slice, with what it has found."""
        self.wanted = False
        if self.job is not None and not self.begun:
            self.job.cancel()


class Interactions:
    """Of one image. For the event loop, one call at a time; `stop` at any time."""

    def __init__(self, image: Image, worker: Worker) -> None:
        self.image, self._worker = image, worker
        self._object = Outlining(image)
        self._queue: list[Step] = []
        self._before: tuple[Outlining, Mark] | None = None
        self._following: list[_Following] = []
        # the mask as the client has it, and as it was before a following
        self._shown: np.ndarray | None = None
        self._solid: np.ndarray | None = None
        # what making an answer took the last time: of a large image on a busy machine, seconds
        self._making = 0.0
        self._dtype = np.dtype(np.uint8)

    def set_buffer(self, shape: Sequence[int], dtype: str) -> None:
        """The array that a client keeps the mask in, empty. Raises InputError."""
        if tuple(shape) != self.image.shape:
            raise InputError(f"The target buffer is of the shape {tuple(shape)}, the image of {self.image.shape}.")
        try:
            found = np.dtype(dtype)
        except (TypeError, ValueError):
            found = np.dtype(object)
        if found.kind not in "biu":
            raise InputError("The target buffer has to be of whole numbers or bool, as it holds 0 and 1.")
        self._shown, self._dtype = np.zeros(self.image.shape, bool), found

    async def add(self, step: Step, run: bool, until: float) -> Diff:
        """Say something of the object, and answer where `run`. until: of the loop's time.

        Raises PromptError where it cannot be said; then nothing has changed, and what waited to be said is dropped.
        """
        self._buffer()
        self._queue.append(step)
        return await self.predict(until) if run else Diff(ran=False)

    async def predict(self, until: float) -> Diff:
        """Answer to what was said so far; with nothing new, bring what was found since the last answer."""
        self._buffer()
        steps, self._queue = self._queue, []
        if not steps:
            return await self._answer(until) if self._following else Diff(ran=False)
        await self._halt()
        try:
            said = partial(_said, self._object, steps)
            mark, self._solid, self._making = await self._worker.run(said, priority=Priority.CLICK)
        finally:
            self._follow()
        self._before = self._object, mark
        return await self._answer(until)

    async def begin(self, mask: np.ndarray) -> None:
        """Forget what was said, and begin from a mask, bool (K, J, I), which the client has in its buffer already."""
        self._buffer()
        await self._halt()
        last, fresh = self._object, Outlining(self.image)
        mark = await self._worker.run(lambda _: last.mark(), priority=Priority.CLICK)
        if mask.any():
            await self._worker.run(lambda _: fresh.start(mask), priority=Priority.CLICK)
        self._object, self._queue, self._before, self._shown = fresh, [], (last, mark), mask

    async def undo(self, until: float) -> Diff:
        """Take back what was done last; of that there is one step."""
        self._buffer()
        if self._queue:
            self._queue.pop()
            return Diff(ran=True)
        if self._before is None:
            return Diff(ran=False)
        await self._halt()
        (self._object, mark), self._before = self._before, None
        found = self._object
        self._solid = await self._worker.run(partial(_taken_back, found, mark), priority=Priority.CLICK)
        self._follow()
        return await self._answer(until)

    async def reset(self) -> None:
        """Forget the object."""
        await self._halt()
        self._object, self._queue, self._before = Outlining(self.image), [], None
        if self._shown is not None:
            self._shown = np.zeros(self.image.shape, bool)

    def stop(self) -> None:
        """End what is under way."""
        for one in self._following:
            one.end()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _buffer(self) -> None:
        if self._shown is None:
            raise InputError("There is no target buffer: set one first.")

    def _follow(self) -> None:
        """Begin, or begin anew, along each axis that is still to be followed."""
        for axis in sorted(self._object.pending):
            one = _Following()
            one.job = self._worker.submit(partial(_followed, self._object, axis, one), priority=Priority.PROPAGATE)
            one.ended = asyncio.wrap_future(one.job.future)
            one.ended.add_done_callback(_tell_defect)
            self._following.append(one)

    async def _halt(self) -> None:
        """Until nothing is under way."""
        self.stop()
        await self._over(None)
        self._following = []

    async def _over(self, seconds: float | None) -> None:
        """Until what is under way has ended, for so long at most."""
        futures = [one.ended for one in self._following if one.ended is not None]
        if futures:
            _, under_way = await asyncio.wait(futures, timeout=seconds)
            if not under_way:
                self._following = []

    async def _answer(self, until: float) -> Diff:
        clock, found = asyncio.get_running_loop().time, self._object
        await self._over(max(0.0, until - clock() - _MARGIN * self._making))
        begun = clock()
        try:
            return await self._made(found)
        finally:
            self._making = clock() - begun

    async def _made(self, found: Outlining) -> Diff:
        if self._following and self._solid is not None:
            # without the worker, whose next slice may be long in coming
            return await heavy(self._diff, await heavy(found.so_far, self._solid))
        solid = await self._worker.run(lambda _: found.solid(), priority=Priority.CLICK)
        return await heavy(self._diff, solid)

    def _diff(self, solid: np.ndarray) -> Diff:
        assert self._shown is not None  # noqa: S101 `_buffer` was asked
        part = bounding_box(solid != self._shown)
        self._shown = solid
        if part is None:
            return Diff(ran=True)
        block = solid[part].astype(self._dtype)
        bounds = [[one.start, one.stop] for one in part]
        return Diff(True, bounds, packed(block), self._dtype.name, block.shape)


def _said(found: Outlining, steps: Sequence[Step], progress: ProgressCallback) -> tuple[Mark, np.ndarray, float]:
    """On the worker's thread: say it all, or nothing; returns where the object stood before, the mask after, and the
    seconds that making one mask takes."""
    mark = found.mark()
    try:
        for step in steps:
            step(found)
    except BaseException:
        found.back_to(mark)
        raise
    begun = time.monotonic()
    solid = found.solid()
    return mark, solid, time.monotonic() - begun


def _taken_back(found: Outlining, mark: Mark, progress: ProgressCallback) -> np.ndarray:
    found.back_to(mark)
    return found.solid()


def _followed(found: Outlining, axis: Axis, following: _Following, progress: ProgressCallback) -> None:
    following.begun = True
    found.follow(axis, lambda: following.wanted, progress)


def _tell_defect(future: asyncio.Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, Cancelled):
        known = isinstance(error, MedSAMError)
        _LOG.error("an object could not be followed: %s", error if known else type(error).__name__)
