"""How a command ends on a bad day, and what is wrong with that and with what it left; see `bad_days`."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kill import Kind, begun, ended

PATIENCE = 240.0


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit status (None: it did not within `PATIENCE`, and was killed), and what it said."""

    status: int | None
    said: str

    def faults(self, allowed: tuple[int, ...]) -> list[str]:
        """What is wrong with that."""
        found = []
        if self.status not in allowed:
            found.append(f"exit status {self.status}: {self.said[-300:]}")
        if "Traceback" in self.said:
            found.append(f"a traceback: {self.said[-300:]}")
        # a round says what to do about a command that it ran, which said itself what was wrong
        errors = re.findall(r"^\w*Error: (?!.* ended with exit status 2; what it said stands above)", self.said, re.M)
        if self.status == 2 and len(errors) != 1:
            found.append(f"{len(errors)} messages: {self.said[-300:]}")
        return found


def told(
    words: list[str],
    log: Path,
    before: Callable[[], None] | None = None,
    meanwhile: Callable[[int], None] | None = None,
) -> Ending:
    """How a command ends. before: called in its process. meanwhile: called with that, before it is waited for.

    What it says comes through a pipe, for files may not grow.
    """
    log.unlink(missing_ok=True)
    os.mkfifo(log)
    pipe = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    said = b""
    try:
        child = begun(words, log, before)
        if meanwhile is not None:
            meanwhile(child)
        until, status = time.monotonic() + PATIENCE, None
        while status is None and time.monotonic() < until:
            status = ended(child, 0.2)
            # it must not wait for us
            with suppress(BlockingIOError):
                said += os.read(pipe, 2**16)
        if status is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with suppress(BlockingIOError):
            said += os.read(pipe, 2**16)
        return Ending(status, said.decode(errors="replace"))
    finally:
        os.close(pipe)
        log.unlink()


def of_results(kind: Kind, out: Path, right: dict[str, str], status: int | None, left: bool = True) -> list[str]:
    """What is wrong with a folder after a command. left: whether it could clean up."""
    found = kind.results(out)
    faults = [f"half written, or another: {name}" for name, sha in found.items() if right.get(name) != sha]
    if status == 0 and found != right:
        faults.append("it says that it is done, and is not")
    if left:
        faults += [f"left behind: {path.name}" for path in out.rglob(".medsam-*")]
    return faults


def of_good_day(kind: Kind, out: Path, right: dict[str, str]) -> list[str]:
    """What is wrong with the same command once nothing is in its way."""
    ending = told(kind.words(out), out.parent / "log")
    if ending.status == 0 and kind.results(out) == right:
        return []
    return [f"on a good day, it ends with {ending.status}: {ending.said[-300:]}"]
