"""What happened in a reading, for those who watch it: a ring of events that every watcher reads at its own pace.

A watcher is a number, that of the last event it was given, and takes no memory. The ring keeps the latest events; who
reads more slowly than they come, or was away for too long, gets one "resync" instead of what it missed: the masks and
objects of now are to be asked for (`changes`), and the events go on from there.

Everything here happens on the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["mask", "refined", "objects", "job", "progress", "error", "resync"]

# of a reading; an event takes some hundred bytes
KEPT = 1024
# Seconds after which a silent connection is told that it stands: proxies cut those that say nothing.
ALIVE = 15.0


@dataclass(frozen=True)
class Event:
    """revision: of the reading, once this had happened. changes: whether a mask or an object is another one since.

    more: what else is to be said of it: object, slice, status, job, state, done, total, detail.
    """

    kind: Kind
    revision: int
    changes: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"revision": self.revision, "kind": self.kind, **self.more}

    def to_text(self) -> str:
        """As a server-sent event. Its id is the revision, so that a lost connection goes on after it."""
        return f"id: {self.revision}\ndata: {json.dumps(self.to_dict(), separators=(',', ':'))}\n\n"


class Events:
    """The latest events of a reading. revision: of the reading when the ring was made; of what was before it knows
    nothing."""

    def __init__(self, revision: int, kept: int = KEPT) -> None:
        self.watchers = 0
        self._ring: deque[tuple[int, Event]] = deque(maxlen=kept)
        self._number = 0
        # of the last change that the ring does not hold any more
        self._forgotten = revision
        self._news = asyncio.Event()
        self._closed = False

    @property
    def revision(self) -> int:
        """Of the last event."""
        return self._ring[-1][1].revision if self._ring else self._forgotten

    def publish(self, event: Event) -> None:
        """Tell all who watch."""
        if len(self._ring) == self._ring.maxlen:
            oldest = self._ring[0][1]
            self._forgotten = oldest.revision if oldest.changes else self._forgotten
        self._number += 1
        self._ring.append((self._number, event))
        self._wake()

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Until something happens; False when nothing did."""
        if self._closed:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
            return not self._closed
        return False

    async def watch(self, since: int | None = None, alive: float = ALIVE) -> AsyncGenerator[Event | None, None]:
        """Events as they come, from those of revision `since` on (None: from now on); None when nothing came for
        `alive` seconds. Ends when the reading is closed."""
        self.watchers += 1
        try:
            number = self._number if since is None else self._after(since)
            while not self._closed:
                first = self._ring[0][0] if self._ring else self._number + 1
                if number + 1 < first:
                    number = self._number
                    yield Event("resync", self.revision)
                    continue
                if number == self._number:
                    if not await self.wait(alive) and not self._closed:
                        yield None
                    continue
                number += 1
                yield self._ring[number - first][1]
        finally:
            self.watchers -= 1

    def _after(self, since: int) -> int:
        """The number of the last event that somebody with revision `since` needs not be told.

        Many events may be of one revision, such as those of a step on many slices and the end of their job: a
        connection that was lost between two of them is told all of them once more.
        """
        if not self._forgotten <= since <= self.revision:
            # not in the ring: what was missed is not known
            return -1
        return next((number - 1 for number, event in self._ring if event.revision >= since), self._number)
