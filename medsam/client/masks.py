"""The masks of a session as its client has them: frames come in, each is painted on the mask it was made for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medsam.wire import MaskFrame, Status


@dataclass(frozen=True, eq=False)
class RemoteResult:
    """An object's mask on a slice. Fields as of `medsam.wire.MaskFrame`.

    mask: bool (rows, columns) of the stored slice, read-only. predicted_iou: as the network says it, nan where it said
    nothing. status: "first" where a refined mask follows. expected_dice, with its interval, and unfamiliar: of an
    answer to a box alone.
    """

    mask: np.ndarray
    predicted_iou: float
    status: Status
    revision: int
    expected_dice: float | None = None
    confidence: float | None = None
    expected_dice_low: float | None = None
    expected_dice_high: float | None = None
    unfamiliar: bool = False

    @property
    def final(self) -> bool:
        """Whether no better answer to the same prompts follows."""
        return self.status != "first"


class RemoteMasks:
    """Results by (object, slice), up to a revision of the session. For any number of threads.

    A frame that was cut against another mask than the one that is here, since changes in between were not seen, is not
    painted: `apply` says so, and everything since `revision` has to be asked for.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._results: dict[tuple[int, int], RemoteResult] = {}
        # of the last frame about each, also where the mask is gone: what comes late is left out
        self._latest: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()

    def __getitem__(self, key: tuple[int, int]) -> RemoteResult | None:
        with self._lock:
            return self._results.get(key)

    def items(self) -> list[tuple[tuple[int, int], RemoteResult]]:
        """(object, slice) and result of all masks, in order."""
        with self._lock:
            return sorted(self._results.items(), key=lambda item: item[0])

    def forget(self) -> None:
        """Begin anew, from revision 0."""
        with self._lock:
            self.revision = 0
            self._results.clear()
            self._latest.clear()

    def apply(self, frames: Iterable[MaskFrame], revision: int) -> bool:
        """Paint everything that changed since `self.revision` up to `revision`; False where a frame could not be."""
        with self._lock:
            # each of them, also after one that could not be
            painted = [self._paint(frame) for frame in frames]
            if whole := all(painted):
                self.revision = max(self.revision, revision)
        return whole

    def _paint(self, frame: MaskFrame) -> bool:
        key = frame.object, frame.slice
        latest = self._latest.get(key, -1)
        if frame.revision <= latest:
            return True
        if frame.base not in (0, latest):
            return False
        self._latest[key] = frame.revision
        if frame.status == "removed":
            self._results.pop(key, None)
            return True
        standing = self._results.get(key)
        self._results[key] = result_of(frame, None if standing is None else standing.mask)
        return True


def result_of(frame: MaskFrame, before: np.ndarray | None = None) -> RemoteResult:
    """What a frame says. before: the mask that it was cut against, which stays what it was."""
    if before is None or not frame.base or before.shape != frame.shape:
        mask = np.zeros(frame.shape, dtype=bool)
    else:
        mask = before.copy()
    frame.paint(mask)
    mask.setflags(write=False)
    said = np.nan if frame.predicted_iou is None else frame.predicted_iou
    return RemoteResult(
        mask,
        said,
        frame.status,
        frame.revision,
        frame.expected_dice,
        frame.confidence,
        frame.expected_dice_low,
        frame.expected_dice_high,
        frame.unfamiliar,
    )
