"""One piece of work for many cases: in this process or in several, and what is done stays done.

    found = run_cases(cases, work, processes=4, is_done=lambda case: (folder / case.id).exists())
    found.raise_failures([case.id for case in cases], "be measured", "The others are kept.")

A case that fails (a `MedSAMError`: a broken file, a prompt that does not fit) does not stop the others; they are all
named at the end. Anything else is a defect of ours and stops the job at once. Results come in the order of the cases,
in whatever order and by whatever process they were made.

Processes: started afresh (spawn, the only way that is safe beside threads and CUDA), each with its own copy of `work`,
its share of the processor's threads and, where there are GPUs, one of them by turns. A process is given one case at a
time, so long cases delay no others. One that dies (memory, a crash in a native library) costs the case it was at.

Ending early: after Ctrl-C, a defect, or what `progress` raises (`Cancelled`), every process ends where it next calls
its own progress: `Cancelled` is raised there and unwinds, so no file is left half written. One that does not come to
that within `_GRACE` seconds is killed. A process whose parent has gone ends in the same way.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Protocol, TypeVar

import torch

from medsam.errors import Cancelled, InputError, MedSAMError, counted
from medsam.processes import how_it_ended, without_ctrl_c
from medsam.progress import ProgressCallback

Case = TypeVar("Case")
Result = TypeVar("Result")
_Case = TypeVar("_Case", contravariant=True)
_Result = TypeVar("_Result", covariant=True)

# how long a process may take to reach its next slice once the job has been ended
_GRACE = 15.0
# failed cases that are listed by name
_LISTED = 20


class JobFailed(MedSAMError):
    """What would befall every further case, too, such as a full disk: raised by the work, it ends the whole job."""


class CaseWork(Protocol[_Case, _Result]):
    """What is done with a case. For several processes it is pickled, as are its cases and results."""

    def __call__(self, case: _Case, progress: ProgressCallback, /) -> _Result:
        """progress: to be called once a slice.

        Raises MedSAMError where the case is at fault, JobFailed where going on makes no sense.
        """
        ...


@dataclass(frozen=True)
class CaseResults(Generic[Result]):
    """What became of each case.

    results: in the order of the cases; None for one that failed or was done before. failures: number of the case ->
    why, ascending.
    """

    results: tuple[Result | None, ...]
    failures: Mapping[int, str]

    def raise_failures(self, names: Sequence[str], what: str, others: str) -> None:
        """Raise InputError that names the failed cases, if there are any.

        names: of all cases. what: "be measured", what they could not. others: a sentence on the rest.
        """
        if not self.failures:
            return
        listed = "\n".join(f"  {names[number]}: {why}" for number, why in [*self.failures.items()][:_LISTED])
        more = f"\n  and {len(self.failures) - _LISTED} more" if len(self.failures) > _LISTED else ""
        raise InputError(
            f"{len(self.failures)} of {counted(len(names), 'case')} could not {what}:\n{listed}{more}\n"
            f"  {others} Fix these, or take them out of the manifest, and run the same command again."
        )


def run_cases(
    cases: Sequence[Case],
    work: CaseWork[Case, Result],
    *,
    processes: int = 1,
    is_done: Callable[[Case], bool] | None = None,
    progress: ProgressCallback | None = None,
    case_progress: ProgressCallback | None = None,
) -> CaseResults[Result]:
    """Do `work` with every case that is not done yet.

    is_done: asked once a case before anything starts; a job that was ended goes on where it was.
    progress: called with (cases done, cases to do), also once a slice, so that raising ends the job there.
    case_progress: called with (slices done, slices) of the present case; only where one process does the work.
    Raises what `progress` raises, KeyboardInterrupt, JobFailed, and every exception of `work` that is no MedSAMError.
    """
    todo = [number for number, case in enumerate(cases) if is_done is None or not is_done(case)]
    tell = _Progress(len(todo), progress, case_progress)
    results: list[Result | None] = [None for _ in cases]
    failures: dict[int, str] = {}
    alone = min(processes, len(todo)) <= 1
    outcomes = _one_by_one(cases, todo, work, tell) if alone else _shared_out(cases, todo, work, tell, processes)
    # closed here, not whenever its traceback is forgotten: that ends the processes
    with closing(outcomes):
        for number, result, failure in outcomes:
            if failure is None:
                results[number] = result
            else:
                failures[number] = failure
            tell.case_done()
    return CaseResults(tuple(results), dict(sorted(failures.items())))


class _Progress:
    """Cases done, for the caller."""

    def __init__(self, total: int, cases: ProgressCallback | None, slices: ProgressCallback | None) -> None:
        self.done, self.total, self._cases, self._slices = 0, total, cases, slices
        self.repeat()

    def case_done(self) -> None:
        self.done += 1
        self.repeat()

    def repeat(self) -> None:
        if self._cases is not None:
            self._cases(self.done, self.total)

    def slices(self, done: int, total: int | None) -> None:
        """Slices of the present case."""
        self.repeat()
        if self._slices is not None:
            self._slices(done, total)


# number of the case, its result, and why it failed
_Outcome = tuple[int, Any, str | None]


def _one_by_one(
    cases: Sequence[Case], todo: Sequence[int], work: CaseWork[Case, Result], tell: _Progress
) -> Generator[_Outcome]:
    for number in todo:
        tell.slices(0, None)
        yield number, *_tried(work, cases[number], tell.slices)


def _tried(work: CaseWork[Case, Result], case: Case, progress: ProgressCallback) -> tuple[Result | None, str | None]:
    try:
        return work(case, progress), None
    except (Cancelled, JobFailed):
        raise
    except MedSAMError as error:
        return None, str(error)


# -- several processes ------------------------------------------------------------------------------------------


@dataclass
class _Child:
    """A process, the way to talk to it, and the number of the case it is at; _STARTING before the first."""

    process: SpawnProcess
    connection: Connection
    at: int | None


_STARTING = -1


def _shared_out(
    cases: Sequence[Case], todo: Sequence[int], work: CaseWork[Case, Result], tell: _Progress, processes: int
) -> Generator[_Outcome]:
    waiting = deque(todo)
    processes = min(processes, len(todo))
    # once for all; not by torch's own pickling for processes, which takes a file descriptor a tensor
    content = pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)
    threads = max(1, torch.get_num_threads() // processes)
    with _children() as children:
        for place in range(processes):
            children[place] = _started(threads, place)
        for child in children.values():
            # they read it once they have imported torch, all at the same time
            _send_work(child, content)
        while busy := {child.connection: place for place, child in children.items() if child.at is not None}:
            for connection in wait([*busy]):
                place = busy[connection]  # type: ignore[index]
                child = children[place]
                number = child.at
                if number is None:
                    continue
                try:
                    kind, about = child.connection.recv()
                except (EOFError, OSError):
                    # OSError: it ended in the middle of a message
                    ended = _how_it_ended(child)
                    if number == _STARTING:
                        raise InputError(
                            f"A process ended by itself before its first case ({ended}). Its memory may have been "
                            'full: try fewer. A script has to start its work under if __name__ == "__main__".'
                        ) from None
                    child.connection.close()
                    child.at = None
                    if waiting:
                        child = children[place] = _started(threads, place)
                        _send_work(child, content)
                    why = f"The process that worked on it ended by itself ({ended}). Its memory may have been full."
                    yield number, None, why
                    continue
                if kind == "slice":
                    tell.repeat()
                elif kind == "defect":
                    raise _defect(*about)
                else:
                    _give_next(child, cases, waiting)
                    if kind == "done":
                        yield number, *about


def _started(threads: int, place: int) -> _Child:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, threads, place), name=f"cases {place}", daemon=True)
    with without_ctrl_c():
        process.start()
    there.close()
    return _Child(process, here, _STARTING)


def _send_work(child: _Child, content: bytes) -> None:
    # one that has died already is noticed where its answers are read
    with suppress(OSError):
        child.connection.send_bytes(content)


def _give_next(child: _Child, cases: Sequence[Case], waiting: deque[int]) -> None:
    """The next case; where there is none, the process ends."""
    child.at = waiting.popleft() if waiting else None
    with suppress(OSError):
        child.connection.send(None if child.at is None else (cases[child.at],))


def _how_it_ended(child: _Child) -> str:
    child.process.join()
    return how_it_ended(child.process.exitcode or 0)


@contextmanager
def _children() -> Iterator[dict[int, _Child]]:
    """Processes by place. They have all ended when this does: by themselves, on request, or by force."""
    children: dict[int, _Child] = {}
    try:
        yield children
    finally:
        for child in children.values():
            # that is how a process learns that its result is no longer needed
            child.connection.close()
        until = time.monotonic() + _GRACE
        try:
            for child in children.values():
                child.process.join(max(0.0, until - time.monotonic()))
        finally:
            # also when Ctrl-C comes a second time
            for child in children.values():
                if child.process.is_alive():
                    child.process.kill()
                child.process.join()


class _ParentGone(Cancelled):
    """Results are no longer read."""


def _serve(connection: Connection, threads: int, place: int) -> None:
    """What a process does: case after case, until there is none or the other end of `connection` is closed."""
    # where it could not be blocked, see `without_ctrl_c`
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())

    @contextmanager
    def spoken() -> Iterator[None]:
        # errors of the pipe alone: the work may raise EOFError or ConnectionError of its own
        try:
            yield
        except (EOFError, OSError):
            raise _ParentGone from None

    def send(kind: str, about: Any = None) -> None:
        with spoken():
            connection.send((kind, about))

    try:
        with spoken():
            content = connection.recv_bytes()
        work = pickle.loads(content)
        send("ready")
        while True:
            with spoken():
                given = connection.recv()
            if given is None:
                return
            send("done", _tried(work, given[0], lambda done, total: send("slice")))
    except _ParentGone:
        return
    except BaseException as error:
        with suppress(_ParentGone):
            send("defect", (_picklable(error), traceback.format_exc()))


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _defect(error: BaseException, where: str) -> BaseException:
    """An exception of another process, with its traceback there."""
    error.add_note(f"In another process:\n{where}")
    return error
