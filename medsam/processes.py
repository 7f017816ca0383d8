"""Processes of our own, beside the one that the user started, and the memory that they share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """A process that is started inside gets no Ctrl-C, also while it still imports; this one does afterwards.

    In a terminal it reaches every process, but the first one says what becomes of the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # it is started before the first process, and unblocks Ctrl-C
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_it_ended(code: int) -> str:
    """In words, of the exit code of a process as `multiprocessing` tells it."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process could still take without others having to give any up; None where nobody says.

    Linux: what the machine has free, and what a container may take beside what it holds (cgroup 2). root: for tests.
    """
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))))
    with suppress(OSError, ValueError):  # ValueError: "max"
        group = root / "sys/fs/cgroup"
        most = int((group / "memory.max").read_text(encoding="ascii"))
        found.append(max(0, most - int((group / "memory.current").read_text(encoding="ascii"))))
    return min(found, default=None)


def all_memory(root: Path = Path("/")) -> int | None:
    """Bytes of this machine, or of what a container may take of it; None where nobody says. root: for tests."""
    found = []
    group = root / "sys/fs/cgroup"
    # cgroup 2, and 1
    for path in (group / "memory.max", group / "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # ValueError: "max"
            found.append(int(path.read_text(encoding="ascii")))
    with suppress(AttributeError, OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)
