"""Progress of long work: how it is reported, and how it is drawn, on stderr: stdout belongs to the answer.

Every long job of the package takes a `ProgressCallback` and calls it at least once a slice (or case, or batch of
clicks). That call is also the way out: what it raises ends the job, and `medsam.errors.Cancelled` is there to be
raised. A job that ends so has written no file by half and changed nothing that the caller holds, so it can be started
again.

On a terminal a bar, gone when the work is done. Elsewhere (a log, a queue, a notebook) lines: the first once the work
has lasted `_FIRST` seconds, so that short commands stay silent, then one about every `_EVERY`, and one at the end.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol

_FIRST, _EVERY = 5.0, 30.0


class ProgressCallback(Protocol):
    """Called with (done, total); total is None while it is not known. What it raises ends the job, see `Cancelled`."""

    def __call__(self, done: int, total: int | None, /) -> None: ...


def on_terminal() -> bool:
    """Whether stderr is a terminal that a person watches."""
    from rich.console import Console

    return Console(stderr=True).is_terminal


@contextmanager
def progress_bars(*names: str) -> Iterator[tuple[ProgressCallback, ...]]:
    """One callback a name, which moves its bar. Of several, each counts parts of one step of the bar before it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        with progress_lines(*names) as callbacks:
            yield callbacks
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def callback(name: str) -> ProgressCallback:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield tuple(callback(name) for name in names)


@contextmanager
def status(text: str) -> Iterator[None]:
    """A line that is there while something is being done that takes a time that is not known."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        with _writing(Lines([text], first=0)):
            yield
        return
    with console.status(text):
        yield


@contextmanager
def progress_lines(*names: str) -> Iterator[tuple[ProgressCallback, ...]]:
    """`progress_bars` away from a terminal."""
    log = Lines(names)
    with _writing(log):
        yield tuple(partial(log.update, name) for name in names)


class Lines:
    """Lines of a log about work: when one is due, and what it says.

    names: as of `progress_bars`. first: seconds until the first line, by default `_FIRST`. write: takes a line. clock:
    seconds from anywhere.
    """

    def __init__(
        self,
        names: Sequence[str],
        first: float | None = None,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts: dict[str, tuple[int, int | None]] = dict.fromkeys(names, (0, None))
        self._write, self._clock = write or _to_stderr, clock
        self._started = clock()
        self._due = self._started + (_FIRST if first is None else first)
        self._written = False

    def update(self, name: str, done: int, total: int | None) -> None:
        """`done` of `total` steps of `name` are done."""
        self._counts[name] = done, total

    @property
    def wait(self) -> float:
        """Seconds until a line is due."""
        return max(0.0, self._due - self._clock())

    def write_due(self) -> None:
        """Write a line if one is due."""
        now = self._clock()
        if now >= self._due:
            self._due, self._written = now + _EVERY, True
            self._write("; ".join(filter(None, (self._what(), self._times(now - self._started)))))

    def end(self) -> None:
        """Write that the work is done, where a line was written before and the work took a while."""
        spent = self._clock() - self._started
        if self._written and spent >= _FIRST:
            self._write(f"{self._what()}; done in {_duration(spent)}")

    def _what(self) -> str:
        counted = (
            name if total is None and not done else f"{name}: {done}" if total is None else f"{name}: {done} of {total}"
            for name, (done, total) in self._counts.items()
        )
        return ", ".join(counted)

    def _times(self, spent: float) -> str:
        if spent < 1:
            return ""
        share = self._share()
        left = f", about {_duration(spent * (1 - share) / share)} left" if 0 < share < 1 else ""
        return f"{_duration(spent)} so far{left}"

    def _share(self) -> float:
        """How much is done, 0 to 1: of steps of the first name, of which the next one's are parts, and so on."""
        share = 0.0
        for done, total in reversed(self._counts.values()):
            share = (done + share) / total if total else 0.0
        return share


@contextmanager
def _writing(log: Lines) -> Iterator[None]:
    """Lines are written whenever they are due; by a thread, since one step may take minutes."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(log.wait):
            log.write_due()

    log.write_due()
    thread = threading.Thread(target=write, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    log.end()


def _to_stderr(line: str) -> None:
    # work continues when its log is closed
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
