"""Masks on neighbouring slices -> objects in three dimensions.

Two masks on neighbouring slices are one object when each is the other's best match and they overlap by an IoU of at
least a threshold. So an object has one mask a slice and never forks: where an organ splits in two, the larger part
goes on and the other starts anew. A slice on which an object was missed ends it; what follows is another object.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsam.errors import PromptError
from medsam.masks import RLE


class SliceLinker:
    """Hand it slices in order; it remembers the last one only.

    iou_thresh: (0, 1]; lower follows objects that change fast from slice to slice, and follows wrong ones too.
    Raises PromptError for another number.
    """

    def __init__(self, iou_thresh: float = 0.5) -> None:
        if not 0 < iou_thresh <= 1:
            raise PromptError(f"The IoU to link masks by is {iou_thresh}; it must be above 0 and at most 1.")
        self.iou_thresh = iou_thresh
        self._objects = 0
        self._slice: int | None = None
        self._last: list[tuple[RLE, int]] = []

    def add(self, index: int, masks: Sequence[RLE]) -> list[int]:
        """The object of every mask on slice `index`, numbered from 1 in order of appearance."""
        previous = self._last if self._slice is not None and index == self._slice + 1 else []
        scores = iou_table([mask for mask, _ in previous], masks)
        objects = []
        for column in range(len(masks)):
            # argmax takes the first of equals, so there is one best match and it is mutual at most once
            best = int(scores[:, column].argmax()) if previous else 0
            if previous and scores[best, column] >= self.iou_thresh and int(scores[best].argmax()) == column:
                objects.append(previous[best][1])
            else:
                self._objects += 1
                objects.append(self._objects)
        self._slice, self._last = index, list(zip(masks, objects, strict=True))
        return objects


def iou_table(previous: Sequence[RLE], after: Sequence[RLE]) -> np.ndarray:
    """IoU (len(before), len(after)) of masks of one size; 0 for two empty masks."""
    table = np.zeros((len(previous), len(after)))
    for row, one in enumerate(previous):
        for column, other in enumerate(after):
            common = one.intersection(other)
            union = one.area + other.area - common
            table[row, column] = common / union if union else 0.0
    return table
