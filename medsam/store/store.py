"""The store: readers, cases, sessions, masks and the audit of a server, and a data engine's project, in one folder.

Everything here is synchronous and may be called from any thread; on an event loop, `Calls` keeps it off the loop.
What a method that writes has returned is on the disk: it survives a killed process and a power cut.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import anyio
from anyio import to_thread

from medsam.store.annotations import AnnotationsPart
from medsam.store.cases import CasesPart
from medsam.store.chances import ChancesPart
from medsam.store.opening import open_database
from medsam.store.people import People
from medsam.store.projects import ProjectsPart
from medsam.store.provenance import Provenance
from medsam.store.readings import ReadingsPart
from medsam.store.tasks import TasksPart
from medsam.store.upkeep import Upkeep

P = ParamSpec("P")
R = TypeVar("R")
# of one writer at a time and some who read
_THREADS = 8


class Store(People, CasesPart, ReadingsPart, Provenance, ProjectsPart, TasksPart, AnnotationsPart, ChancesPart, Upkeep):
    """See the top of this file, and its parts for what they keep."""

    @classmethod
    def open(cls, folder: Path, serving: bool = True, url: str | None = None) -> Self:
        """The store in `folder`, made where there is none, for its owner alone, and brought up to date.

        serving: a server runs on it, which no second may; False for a command beside it, such as a backup.
        url: of a database of PostgreSQL that holds the tables, `postgresql://USER@HOST/NAME`, which stores of other
        folders may share; the folder knows it from then on, but for its password. None: what the folder knows, else a
        file in it.
        Raises InputError (`parameter` "store" or "database") when another server runs on it, the folder cannot be used,
        the database cannot be reached, is damaged, another's, or of a newer medsam.
        """
        return cls(open_database(folder, serving, url))

    @property
    def folder(self) -> Path:
        """Where it lies; files of cases may lie in folders of it."""
        return self._database.folder

    @property
    def site(self) -> str:
        """Who this store is among those that share its tables; "" where none do."""
        return self._database.site

    def close(self) -> None:
        """Nothing can be called any more. What was confirmed is on the disk already."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class Calls:
    """Calls of the store, or of what else waits for a disk, off the event loop: `await calls(store.masks, reading)`.

    They have threads of their own, so they wait for each other alone. A call that has begun ends, also when who waits
    for it is cancelled: what it wrote is whole.
    """

    def __init__(self, threads: int = _THREADS) -> None:
        self._limiter = anyio.CapacityLimiter(threads)

    async def __call__(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._limiter)
