"""The slice that a reader looks at is embedded at once, its neighbours while the device has nothing else to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.worker import Job, Priority, Worker

# how far ahead, and how far back
_AHEAD, _BACK = 3, 1


class View:
    """Of one reading. key: of the reading; a newer view takes the place of the one before.

    seen: called on the worker's thread with a slice that is embedded now.
    """

    def __init__(self, worker: Worker, scan_encoder: ScanEncoder, key: str, seen: Callable[[int], None]) -> None:
        self.slice: int | None = None
        self._worker, self._scan_encoder, self._key, self._seen = worker, scan_encoder, key, seen
        self._jobs: list[Job[Any]] = []

    def look(self, index: int) -> None:
        """Slice `index` is on screen."""
        forward = self.slice is None or index >= self.slice
        self.slice = index
        self.leave()
        self._jobs = [
            self._worker.submit(lambda _: self._embed([index]), priority=Priority.SLICE, replaces=("view", self._key)),
            self._worker.submit(
                lambda _: self._embed(self._neighbours(index, 1 if forward else -1)),
                priority=Priority.PREFETCH,
                replaces=("view", self._key),
            ),
        ]

    def leave(self) -> None:
        """Nobody looks any more: what has not begun is not wanted."""
        for job in self._jobs:
            job.cancel()
        self._jobs = []

    def _neighbours(self, index: int, step: int) -> list[int]:
        """The way the reader is going first."""
        ahead = [index + step * n for n in range(1, _AHEAD + 1)]
        back = [index - step * n for n in range(1, _BACK + 1)]
        return [n for n in (*ahead[:1], *back[:1], *ahead[1:], *back[1:]) if 0 <= n < self._scan_encoder.plane.count]

    def _embed(self, indices: list[int]) -> Iterator[None]:
        for index in indices:
            self._scan_encoder.encode(index)
            self._seen(index)
            yield
