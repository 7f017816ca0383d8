"""Processes of our own, beside the one that the user started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


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
