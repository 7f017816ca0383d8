"""Processes of this machine that share cases.

They are started afresh (spawn, the only way that is safe beside threads and CUDA), each with its own copy of the work,
its share of the processor's threads and, where there are GPUs, one of them by turns. A process that dies (memory, a
crash in a native library) costs the case it was at.

Ending early: after Ctrl-C, a defect, or what `tell` raises (`Cancelled`), every process ends where it next calls its
own progress: `Cancelled` is raised there and unwinds, so no file is left half written. One that does not come to that
within `GRACE` seconds is killed. A process whose parent has gone ends in the same way.
"""

from __future__ import annotations

import multiprocessing
import pickle
import platform
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from medsam.errors import Cancelled, InputError
from medsam.inference.job_queue import CaseWork, Ended, Waiting, tried
from medsam.processes import how_it_ended, without_ctrl_c

# seconds that a worker may take to reach its next slice once the job has been ended
GRACE = 15.0


@dataclass
class _Child:
    """A process, the way to talk to it, and the number of the case it is at, or what it is doing instead.

    _STARTING: not ready for the first. _IDLE: no case has room. _ENDED: none is left. since: on the clock, it is there.
    """

    process: SpawnProcess
    connection: Connection
    at: int
    since: float = field(default_factory=time.perf_counter)

    @property
    def busy(self) -> bool:
        """Whether it has something to say."""
        return self.at >= 0 or self.at == _STARTING


_STARTING, _IDLE, _ENDED = -1, -2, -3


def shared_out(
    cases: Sequence[Any],
    waiting: Waiting,
    work: CaseWork[Any, Any],
    tell: Callable[[], None],
    processes: int,
    threads: int | None = None,
) -> Generator[tuple[int, Ended]]:
    """(number, what became of it) of every case that waits, as they end. tell: called at least once a slice."""
    # once for all; not by torch's own pickling for processes, which takes a file descriptor a tensor
    content = pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)
    threads = threads or max(1, torch.get_num_threads() // processes)
    with _children() as children:
        for place in range(processes):
            children[place] = _started(threads, place)
        for child in children.values():
            # they read it once they have imported torch, all at the same time
            _send_work(child, content)
        while busy := {child.connection: place for place, child in children.items() if child.busy}:
            for connection in wait([*busy]):
                place = busy[connection]  # type: ignore[index]
                child = children[place]
                number = child.at
                try:
                    kind, about = child.connection.recv()
                except (EOFError, OSError):
                    # OSError: it ended in the middle of a message
                    ended = _death(child, number)
                    if waiting:
                        children[place] = _started(threads, place)
                        _send_work(children[place], content)
                    waiting.give_back(number)
                    yield number, ended
                    continue
                if kind == "slice":
                    tell()
                elif kind == "defect":
                    raise defect(*about)
                else:
                    child.at = _IDLE
                    waiting.give_back(number)
                    for one in children.values():
                        if one.at == _IDLE:
                            _give_next(one, cases, waiting)
                    if kind == "done":
                        yield number, about


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


def _give_next(child: _Child, cases: Sequence[Any], waiting: Waiting) -> None:
    """The next case that there is room for; where no case is left, the process ends."""
    number = waiting.take()
    if number is None and waiting:
        return
    child.at, child.since = _ENDED if number is None else number, time.perf_counter()
    with suppress(OSError):
        child.connection.send(None if number is None else (cases[number],))


def _death(child: _Child, number: int) -> Ended:
    """What a process that has ended by itself leaves behind. Raises InputError where it had not begun."""
    child.process.join()
    how = how_it_ended(child.process.exitcode or 0)
    if number == _STARTING:
        raise InputError(
            f"A process ended by itself before its first case ({how}). Its memory may have been "
            'full: try fewer. A script has to start its work under if __name__ == "__main__".'
        ) from None
    child.connection.close()
    child.at = _ENDED
    why = f"The process that worked on it ended by itself ({how}). Its memory may have been full."
    return Ended(None, why, time.perf_counter() - child.since, platform.node())


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
        until = time.monotonic() + GRACE
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
            send("done", tried(work, given[0], lambda done, total: send("slice")))
    except _ParentGone:
        return
    except BaseException as error:
        with suppress(_ParentGone):
            send("defect", (picklable(error), traceback.format_exc()))


def picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def defect(error: BaseException, where: str) -> BaseException:
    """An exception of another process, with its traceback there."""
    error.add_note(f"In another process:\n{where}")
    return error
