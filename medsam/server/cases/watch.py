"""A process that watches folders, and its end in the server.

Headers are read there, for parsing them holds Python's lock; what is found comes through a pipe to a thread here. When
the process dies (a file may be the cause) it is started again, later each time; what it then finds is compared with
what is known, so that nothing is lost or doubled.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from medsam.processes import without_ctrl_c
from medsam.server.cases.folder import Delta, Folder

_LOG = logging.getLogger("medsam.server")

# a look takes at most this share of the time
_SHARE = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0


class Watcher:
    """Watches folders until it is closed.

    heard: called on a thread with a folder and what is new there. started: called before a process begins anew, with
    nothing known. excluded: folders that are not looked into. every: seconds between looks.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        heard: Callable[[Path, Delta], None],
        *,
        excluded: Sequence[Path] = (),
        every: float = 5.0,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._roots, self._excluded, self._every = tuple(roots), tuple(excluded), every
        self._heard, self._started = heard, started
        self._closed = threading.Event()
        # the one that looks now
        self.process: SpawnProcess | None = None
        self._thread = threading.Thread(target=self._follow, name="index", daemon=True)
        self.deaths = 0
        if self._roots:
            self._thread.start()

    def close(self) -> None:
        """End the process and the thread."""
        self._closed.set()
        if self._roots:
            self._thread.join()

    def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.is_set():
            begun = time.monotonic()
            try:
                self._started()
                self._listen()
            # a full disk, a store that is locked: looking begins anew, and finds the same
            except Exception as error:
                # brings FastAPI, which the process has no use for
                from medsam.server.errors import places

                _LOG.error("the index begins anew: %s", places(error))
            if not self._closed.is_set():
                self.deaths += 1
            pause = _FIRST_PAUSE if time.monotonic() - begun > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
            self._closed.wait(pause)

    def _listen(self) -> None:
        """One life of the process."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=watch, args=(there, self._roots, self._excluded, self._every), name="index", daemon=True
        )
        with without_ctrl_c():
            process.start()
        self.process = process
        there.close()
        try:
            while not self._closed.is_set():
                if not here.poll(0.25):
                    continue
                place, delta = here.recv()
                self._heard(self._roots[place], delta)
        except (EOFError, OSError):
            pass
        finally:
            here.close()
            process.kill()
            process.join()


def watch(connection: Connection, roots: Sequence[Path], excluded: Sequence[Path], every: float) -> None:
    """What the process does until the other end of `connection` is closed."""
    # scans are read beside it
    with suppress(OSError, AttributeError):
        os.nice(5)
    folders = [Folder(root, (*excluded, *(other for other in roots if other != root))) for root in roots]
    with suppress(EOFError, OSError):
        while True:
            begun = time.monotonic()
            for place, folder in enumerate(folders):
                for delta in folder.look():
                    connection.send((place, delta))
            took = time.monotonic() - begun
            # nothing is ever sent here: either time passes, or the server has gone
            if connection.poll(max(every, took / _SHARE)):
                connection.recv()
