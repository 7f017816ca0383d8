"""What a reading stores, in the order in which it happened, one after the other, each before anybody is told.

Everything here happens on the event loop, but for the writing itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from medsam.store.store import Calls

_LOG = logging.getLogger("medsam.server")
_AGAIN = "This was not stored. Ask again: the session is read from the store anew."


@dataclass(frozen=True)
class _Entry:
    write: Callable[[], Any] | None
    then: Callable[[Any], None]
    stored: asyncio.Future[None]


class Ledger:
    """broken: why something could not be stored; from then on nothing is, and memory is ahead of the disk."""

    def __init__(self, calls: Calls) -> None:
        self.broken: BaseException | None = None
        self._closed = False
        self._calls = calls
        self._queue: asyncio.Queue[_Entry | None] = asyncio.Queue()
        self._writing: _Entry | None = None
        self._writer = asyncio.create_task(self._write_all())

    @property
    def idle(self) -> bool:
        """Whether everything is stored."""
        return self._queue.empty() and self._writing is None

    def put(self, write: Callable[[], Any] | None, then: Callable[[Any], None]) -> asyncio.Future[None]:
        """Store something when its turn comes: `write` runs in a thread, then `then` here, with what that returned.

        The future says when both were done. It raises what they raised, and HTTPException 503 once the ledger is
        broken. It may be given up: what was put is stored all the same.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # nobody may be there any more to see why
        stored.add_done_callback(lambda future: future.cancelled() or future.exception())
        if self._closed:
            stored.set_exception(HTTPException(503, _AGAIN))
        else:
            self._queue.put_nowait(_Entry(write, then, stored))
        return stored

    def fail(self, error: BaseException) -> None:
        """Memory is ahead of the disk, and will stay so."""
        self.broken = self.broken or error
        _LOG.error("a reading is dropped from memory: %s", type(error).__name__)

    async def settled(self) -> None:
        """Until all that was put so far is stored."""
        await self.put(None, lambda _: None)

    async def close(self) -> None:
        """Store what was put, and end: what comes later is not stored, and who waits for it is told so."""
        self._closed = True
        self._queue.put_nowait(None)
        await self._writer

    async def _write_all(self) -> None:
        while (entry := await self._queue.get()) is not None:
            self._writing = entry
            try:
                await self._one(entry)
            except Exception as error:
                self.fail(error)
                if not entry.stored.done():
                    entry.stored.set_exception(error)
            else:
                if not entry.stored.done():
                    entry.stored.set_result(None)
            self._writing = None

    async def _one(self, entry: _Entry) -> None:
        if self.broken is not None:
            raise HTTPException(503, _AGAIN)
        entry.then(None if entry.write is None else await self._calls(entry.write))
