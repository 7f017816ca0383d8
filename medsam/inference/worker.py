"""One thread owns a device, and everybody who needs it stands in one queue.

A processor or a GPU is a single resource: two encodes at a time take as long as two in turn, and a click that waits
behind a propagation waits for minutes. So all work for a device goes to one `Worker`, from any number of threads or
from an event loop, and is done in the order of its priority

    click < slice < prefetch < propagate < batch

and, within one, in the order of arrival. Nothing is starved on purpose: a click takes a fifth of a second, and readers
do not click without a pause.

    worker = Worker()
    job = worker.submit(lambda progress: predictor.segment(scan, prompt, propagate=True, progress=progress),
                        priority=Priority.PROPAGATE)
    answer = worker.call(lambda _: session.click(41, 120, 88), priority=Priority.CLICK)     # waits
    answer = await worker.run(lambda _: session.undo(), priority=Priority.CLICK)            # in an event loop
    job.cancel()

How a click gets in between: long functions call their `progress` once a slice. The worker's own callback, which it
hands to the work, does everything more urgent that has come meanwhile, raises `Cancelled` if the job was cancelled, and
returns. So every long function has one form, and the stack holds at most one job of each priority. Work may also return
a generator: each `yield` is such a place, what it yields is ignored, what it returns is the result. Between two such
places nothing else runs on the thread: what only the worker's thread uses, such as a session, needs no lock.

What a click waits for is therefore the slice under way: one encode, or two where a crop is encoded too.

Locks: `_changed` guards the queue and the states of jobs and is never held while work, callbacks or futures run.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import heapq
import inspect
import itertools
import threading
import weakref
from collections.abc import Callable, Generator, Hashable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from enum import Enum, IntEnum
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, cast

from medsam.errors import Cancelled, InputError, counted
from medsam.progress import ProgressCallback

Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])
# given the callback to pass on as `progress`; a generator's return value is the result
Work = Callable[[ProgressCallback], Result | Generator[Any, None, Result]]


class Priority(IntEnum):
    """What is more urgent comes first."""

    CLICK = 0  # a step that a reader waits for
    SLICE = 1  # a slice's prompts
    PREFETCH = 2  # embeddings that will be wanted soon
    PROPAGATE = 3  # minutes, and a reader waits
    BATCH = 4  # minutes to hours, and no reader waits


class _State(Enum):
    QUEUED, RUNNING, DONE = range(3)


class Job(Generic[Result]):
    """Work that was handed to a worker. future: of its result; an exception of the work is raised by it.

    progress: (done, total) as the work last said, (0, None) before.
    """

    def __init__(
        self,
        worker: Worker,
        work: Work[Result],
        priority: Priority,
        listener: ProgressCallback | None,
        key: Hashable = None,
    ) -> None:
        self.priority = priority
        self.future: Future[Result] = Future()
        self.progress: tuple[int, int | None] = 0, None
        self._worker, self._work, self._listener, self._key = worker, work, listener, key
        self._state = _State.QUEUED
        self._cancelled = False

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result. Raises what the work raised, `Cancelled`, or TimeoutError after so many seconds.

        Not on the worker's own thread, which would wait for itself: see `Worker.call`.
        """
        if self._worker.is_here and self._state is not _State.DONE:
            raise RuntimeError("A job of a worker cannot wait for another one: use Worker.call.")
        return self.future.result(timeout)

    def cancel(self) -> bool:
        """End the job: at once while it is queued, at its next slice when it runs. False when it is done already.

        Whoever waits for the result gets `Cancelled`.
        """
        return self._worker._cancel(self)


class Worker:
    """A thread that does jobs for one device.

    device: as torch names it; only "cuda:N" makes a difference, it is made the thread's own.
    To be ended by `shutdown`, or as a context manager, which finishes what is queued, or cancels it after an exception.
    Raises InputError for a GPU that this machine does not have.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = str(device)
        if self.device.startswith("cuda:"):
            _check_gpu(self.device)
        self._changed = threading.Condition()
        self._queue: list[tuple[int, int, Job[Any]]] = []
        self._numbers = itertools.count()
        # queued jobs that a newer one may replace
        self._replaceable: dict[Hashable, Job[Any]] = {}
        # the jobs at work, each interrupted by the next
        self._running: list[Job[Any]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"worker {self.device}", daemon=True)
        self._thread.start()
        # a thread inside torch must not outlive the interpreter
        atexit.register(_shut_down, weakref.ref(self))

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.shutdown(drain=error is None)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the worker's thread."""
        return threading.current_thread() is self._thread

    def submit(
        self,
        work: Work[Result],
        *,
        priority: Priority = Priority.SLICE,
        progress: ProgressCallback | None = None,
        replaces: Hashable = None,
    ) -> Job[Result]:
        """Queue `work`; returns at once.

        progress: called with (done, total) on the worker's thread, so it has to be quick; what it raises ends the job.
        replaces: any key, such as a session's id: an older job of the same priority and key that is still queued is
            cancelled, because this one makes it pointless.
        Raises RuntimeError after `shutdown`.
        """
        key = None if replaces is None else (priority, replaces)
        job = Job(self, work, priority, progress, key)
        older = None
        with self._changed:
            if self._closed:
                raise RuntimeError("The worker has been shut down.")
            if key is not None:
                older = self._replaceable.get(key)
                self._replaceable[key] = job
            heapq.heappush(self._queue, (priority, next(self._numbers), job))
            if older is not None:
                older._state = _State.DONE
            self._changed.notify()
        if older is not None:
            _resolve_cancelled(older)
        return job

    def call(
        self, work: Work[Result], *, priority: Priority = Priority.SLICE, progress: ProgressCallback | None = None
    ) -> Result:
        """Do `work` on the worker's thread and wait for it; on that thread itself do it at once, as part of its job.

        An exception while waiting (Ctrl-C) cancels the job.
        """
        if self.is_here:
            return self._perform(Job(self, work, priority, progress), self._running[-1])
        job = self.submit(work, priority=priority, progress=progress)
        try:
            return job.result()
        finally:
            job.cancel()

    async def run(
        self,
        work: Work[Result],
        *,
        priority: Priority = Priority.SLICE,
        progress: ProgressCallback | None = None,
        replaces: Hashable = None,
    ) -> Result:
        """`submit`, and wait without blocking the event loop. Cancelling the task cancels the job."""
        job = self.submit(work, priority=priority, progress=progress, replaces=replaces)
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            job.cancel()
            raise

    def shutdown(self, *, drain: bool = False, timeout: float | None = None) -> None:
        """Take no further jobs, and wait until the thread has ended, `timeout` seconds at most.

        drain: whether queued jobs are done first; otherwise they are cancelled, and so is what runs.
        """
        with self._changed:
            self._closed = True
            left = [] if drain else [*self._running, *(job for _, _, job in self._queue)]
            self._changed.notify()
        for job in left:
            job.cancel()
        if not self.is_here:
            self._thread.join(timeout)

    @property
    def waiting(self) -> int:
        """How many jobs are queued."""
        with self._changed:
            return sum(job._state is _State.QUEUED for _, _, job in self._queue)

    # -- on any thread ------------------------------------------------------------------------------------------------

    def _cancel(self, job: Job[Any]) -> bool:
        with self._changed:
            if job._state is _State.DONE:
                return False
            job._cancelled = True
            if job._state is _State.RUNNING:
                return True
            # it stays in the queue, where it is passed over
            job._state = _State.DONE
            self._forget(job)
        _resolve_cancelled(job)
        return True

    def _forget(self, job: Job[Any]) -> None:
        """Under the lock: nothing replaces `job` any more."""
        if self._replaceable.get(job._key) is job:
            del self._replaceable[job._key]

    # -- on the worker's thread ---------------------------------------------------------------------------------------

    def _serve(self) -> None:
        if self.device.startswith("cuda:"):
            import torch

            torch.cuda.set_device(self.device)
        while (job := self._next()) is not None:
            self._do(job)
            # while there is nothing to do, the last result belongs to its caller alone
            del job

    def _next(self, than: Job[Any] | None = None) -> Job[Any] | None:
        """Take the first job from the queue. than: only one more urgent than that, without waiting for it.

        None when there is none; without `than`, when there will be none any more.
        """
        with self._changed:
            while True:
                while self._queue and self._queue[0][2]._state is _State.DONE:
                    heapq.heappop(self._queue)
                if self._queue and (than is None or self._queue[0][0] < than.priority):
                    job = heapq.heappop(self._queue)[2]
                    job._state = _State.RUNNING
                    self._forget(job)
                    self._running.append(job)
                    return job
                if than is not None or self._closed:
                    return None
                self._changed.wait()

    def _do(self, job: Job[Any]) -> None:
        # False where an event loop has given it up
        wanted = job.future.set_running_or_notify_cancel()
        try:
            result = self._perform(job, job) if wanted else None
        except BaseException as error:
            self._finished(job)
            job.future.set_exception(error)
        else:
            self._finished(job)
            if wanted:
                job.future.set_result(result)
        finally:
            # after the future's callbacks: what they call here is part of this job
            with self._changed:
                self._running.pop()

    def _finished(self, job: Job[Any]) -> None:
        with self._changed:
            job._state = _State.DONE
        # what it holds, such as a scan, is not kept as long as its result
        job._work = _nothing

    def _perform(self, job: Job[Result], turn: Job[Any]) -> Result:
        """Do a job's work. turn: the job itself or the one it is part of, whose priority and cancellation count."""

        def progress(done: int, total: int | None) -> None:
            job.progress = done, total
            if job._listener is not None:
                job._listener(done, total)
            self._give_way(turn)

        if turn._cancelled:
            raise Cancelled
        found = job._work(progress)
        if not isinstance(found, Generator):
            return found
        steps = cast(Generator[Any, None, Result], found)
        try:
            while True:
                next(steps)
                try:
                    self._give_way(turn)
                except Cancelled as cancelled:
                    # where it stands, so that it can clean up
                    steps.throw(cancelled)
        except StopIteration as end:
            return cast(Result, end.value)

    def _give_way(self, job: Job[Any]) -> None:
        """Do what is more urgent than `job`. Raises Cancelled when `job` is not wanted any more."""
        while (urgent := self._next(than=job)) is not None:
            self._do(urgent)
        if job._cancelled:
            raise Cancelled


class HasWorker(Protocol):
    """Something that may share a device with others."""

    @property
    def worker(self) -> Worker | None: ...


def through_worker(priority: Priority | Callable[[Mapping[str, Any]], Priority]) -> Callable[[Method], Method]:
    """A method that runs on the thread of its object's `worker`, where there is one, and is waited for.

    priority: a function takes the call's keywords. A keyword `progress` of the method is the job's listener.
    """

    def decorate(method: Method) -> Method:
        long = "progress" in inspect.signature(method).parameters

        @functools.wraps(method)
        def call(self: HasWorker, *arguments: Any, **keywords: Any) -> Any:
            if self.worker is None:
                return method(self, *arguments, **keywords)
            urgency = priority if isinstance(priority, Priority) else priority(keywords)
            listener = keywords.pop("progress", None)

            def work(progress: ProgressCallback) -> Any:
                return method(self, *arguments, **keywords, **({"progress": progress} if long else {}))

            return self.worker.call(work, priority=urgency, progress=listener)

        return cast(Method, call)

    return decorate


def _resolve_cancelled(job: Job[Any]) -> None:
    with suppress(InvalidStateError):  # an event loop has given it up already
        job.future.set_exception(Cancelled())
    job._work = _nothing


def _check_gpu(device: str) -> None:
    import torch

    number = device.removeprefix("cuda:")
    if not (number.isdecimal() and int(number) < torch.cuda.device_count()):
        raise InputError(
            f"This machine has no {device}: torch sees {counted(torch.cuda.device_count(), 'GPU')}.", parameter="device"
        )


def _nothing(progress: ProgressCallback) -> None:
    raise RuntimeError("A job is done once.")


def _shut_down(worker: weakref.ref[Worker]) -> None:
    if (alive := worker()) is not None:
        alive.shutdown()
