"""What those who wait for a propagation are told, and may say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from medsam.inference.usage import Usage
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback

# given an object's name, a slice and its mask (h, w) there
FoundCallback = Callable[[Any, int, CompactMask], None]


class WalkProgress:
    """Slices done, for the caller, and what was run for them. found, wanted: see `propagate_all`."""

    def __init__(
        self,
        total: int,
        progress: ProgressCallback | None,
        found: FoundCallback | None,
        wanted: Callable[[], bool] | None,
    ) -> None:
        self.done, self.total, self.progress = 0, total, progress
        self.found = found
        self.wanted = wanted or (lambda: True)
        self.usage = Usage()
        self.no_contrast: set[int] = set()

    def __call__(self) -> None:
        self.check()
        self.done += 1

    def check(self) -> None:
        """Let the caller cancel, between slices that are asked for once more and do not count."""
        if self.progress is not None:
            self.progress(self.done, self.total)

    def spend(self, index: int, usages: Sequence[Usage], no_contrast: bool) -> None:
        self.usage = sum(usages, self.usage)
        if no_contrast:
            self.no_contrast.add(index)

    def finish(self) -> None:
        if self.progress is not None:
            self.progress(self.total, self.total)
