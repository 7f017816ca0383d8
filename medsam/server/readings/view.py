"""The slice that a reader looks at is made ready at once; its neighbours are embedded while the reader does nothing.

Ready: what all prompts on it share is made, too, so that the first waits for its decode alone. That takes the memory of
several embeddings; a neighbour gets it when it is looked at.

To embed a slice takes as long as several clicks, and a click does not interrupt it. So neighbours wait until the reader
has been quiet for a moment, and no longer are wanted when the next click or slice comes; what is left of them waits for
the next moment.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.worker import Job, Priority, Worker

# how far ahead, and how far back
_AHEAD, _BACK = 3, 1
# seconds after which a reader is taken to look, not to act
QUIET = 1.0


class View:
    """Of one reading. key: of the reading; a newer view takes the place of the one before.

    seen: a method, called on the worker's thread with a slice that is embedded now; held weakly, since a circle of
    references would keep the scan of a reading that is gone. All else happens on the event loop.
    """

    def __init__(self, worker: Worker, scan_encoder: ScanEncoder, key: str, seen: Callable[[int], None]) -> None:
        self.slice: int | None = None
        self._worker, self._scan_encoder, self._key = worker, scan_encoder, key
        self._seen = weakref.WeakMethod(seen)
        self._now: Job[Any] | None = None
        self._soon: Job[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # neighbours that are not embedded yet, the next one first; each is taken out on the worker's thread
        self._neighbours: list[int] = []

    def look(self, index: int) -> None:
        """Slice `index` is on screen."""
        step = 1 if self.slice is None or index >= self.slice else -1
        self.leave()
        self.slice = index
        self._now = self._worker.submit(
            lambda _: self._embed([index], self._scan_encoder.make_ready),
            priority=Priority.SLICE,
            replaces=("view", self._key),
        )
        ahead = [index + step * n for n in range(1, _AHEAD + 1)]
        back = [index - step * n for n in range(1, _BACK + 1)]
        in_turn = (*ahead[:1], *back[:1], *ahead[1:], *back[1:])
        self._neighbours = [n for n in in_turn if 0 <= n < self._scan_encoder.plane.count]
        self.act()

    def act(self) -> None:
        """The reader has done something: neighbours wait."""
        if self._soon is not None:
            self._soon.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._soon = self._timer = None
        if self._neighbours:
            self._timer = asyncio.get_running_loop().call_later(QUIET, self._go_on)

    def leave(self) -> None:
        """Nobody looks any more: what has not begun is not wanted."""
        self._neighbours = []
        self.act()
        if self._now is not None:
            self._now.cancel()

    def _go_on(self) -> None:
        neighbours = self._neighbours
        self._soon = self._worker.submit(
            lambda _: self._embed(neighbours, self._scan_encoder.encode),
            priority=Priority.PREFETCH,
            replaces=("view", self._key),
        )

    def _embed(self, indices: list[int], embed: Callable[[int], object]) -> Iterator[None]:
        while indices:
            index = indices[0]
            embed(index)
            if (seen := self._seen()) is not None:
                seen(index)
                del seen
            indices.remove(index)
            yield
