"""Boxes on slices -> objects in three dimensions, and boxes for the slices between.

Boxes on slices that are neighbours, or have a few without a box between them, are one object when they overlap by an
IoU of at least a threshold; a box goes to the object it overlaps most, the best pair first, and an object has one box a
slice. Boxes are half-open (x0, y0, x1, y1) in stored pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from medsam.metrics.detection import box_iou
from medsam.prompts.prompt import Box

# Boxes change fast from slice to slice where these are thick, and are not exact: a guess, not measured.
_LEAST_IOU = 0.2
# slices without a box that an object may cross
_MOST_MISSED = 2
# of so many best slices the scores are an object's confidence; a lone box in a volume counts half
_COUNTED = 2


@dataclass
class BoxTrack:
    """One object. boxes, scores: by slice."""

    boxes: dict[int, Box] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.boxes)

    def add(self, index: int, box: Box, score: float) -> None:
        self.boxes[index], self.scores[index] = box, score

    def confidence(self, slices: int) -> float:
        """[0, 1]: the mean of its best scores. slices: of the scan."""
        counted = min(_COUNTED, slices)
        return sum(sorted(self.scores.values(), reverse=True)[:counted]) / counted

    def filled(self) -> BoxTrack:
        """With boxes on the slices that were crossed, between those of their neighbours."""
        found = BoxTrack()
        known = sorted(self.boxes)
        for index in range(known[0], known[-1] + 1):
            if index in self.boxes:
                found.add(index, self.boxes[index], self.scores[index])
                continue
            below, above = max(n for n in known if n < index), min(n for n in known if n > index)
            share = (index - below) / (above - below)
            between = (1 - share) * np.array(self.boxes[below]) + share * np.array(self.boxes[above])
            x0, y0, x1, y1 = between.tolist()
            found.add(index, (x0, y0, x1, y1), min(self.scores[below], self.scores[above]))
        return found


def tracked(by_slice: Mapping[int, Iterable[tuple[Box, float]]]) -> list[BoxTrack]:
    """(box, score) by slice, of one class -> its objects, in order of their first slice."""
    tracks: list[BoxTrack] = []
    for index in sorted(by_slice):
        boxes = list(by_slice[index])
        near = [track for track in tracks if index - track.last <= _MOST_MISSED + 1]
        pairs = sorted(
            (
                (box_iou(track.boxes[track.last], box), one, other)
                for one, track in enumerate(near)
                for other, (box, _) in enumerate(boxes)
            ),
            reverse=True,
        )
        taken: dict[int, BoxTrack] = {}
        for iou, one, other in pairs:
            if iou < _LEAST_IOU:
                break
            if other not in taken and all(near[one] is not track for track in taken.values()):
                taken[other] = near[one]
        for other, (box, score) in enumerate(boxes):
            if other not in taken:
                taken[other] = BoxTrack()
                tracks.append(taken[other])
            taken[other].add(index, box, score)
    return tracks


def best_path(by_slice: Mapping[int, Iterable[tuple[Box, float]]], least: float = 0.0) -> BoxTrack | None:
    """(box, score) by slice, of what a scan has once -> that object: at most one box a slice, so that they come nearest
    to what was seen; None where nothing was.

    Of all ways from slice to slice that leave out at most `_MOST_MISSED` in a row, and on which each box comes as near
    to the next as half a side, the one whose scores exceed `least` by most in sum: linked one after the other, a
    doubtful box would lead astray where slices are thick. Source: tubes of actions through the frames of a film,
    Gkioxari and Malik 2015 (arXiv 1411.6031), which are found so.
    """
    places = [(index, box, score) for index in sorted(by_slice) for box, score in by_slice[index]]
    if not places:
        return None
    sums, before = list[float](), list[int | None]()
    for number, (index, box, score) in enumerate(places):
        ways = [
            one
            for one, (earlier, other, _) in enumerate(places[:number])
            if 0 < index - earlier <= _MOST_MISSED + 1 and _near(other, box)
        ]
        best = max(ways, key=sums.__getitem__, default=None)
        sums.append(score - least + (0.0 if best is None else sums[best]))
        before.append(best)
    path, at = BoxTrack(), cast("int | None", int(np.argmax(sums)))
    while at is not None:
        path.add(*places[at])
        at = before[at]
    return path


def _near(one: Box, other: Box) -> bool:
    """Whether two boxes overlap or are apart by half a side at most, across and down."""
    return all(
        max(one[low], other[low]) - min(one[high], other[high]) <= (one[high] - one[low] + other[high] - other[low]) / 4
        for low, high in ((0, 2), (1, 3))
    )


def clipped(box: Sequence[float], shape: tuple[int, int]) -> Box | None:
    """A box inside a slice (h, w); None where less than a pixel of it is left in a direction."""
    x0, x1 = (min(max(float(edge), 0.0), shape[1]) for edge in (box[0], box[2]))
    y0, y1 = (min(max(float(edge), 0.0), shape[0]) for edge in (box[1], box[3]))
    return (x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None
