"""The pixels of a slice -> closed contours round them: the inverse of `contours`.

An outline runs half-way between the centres of pixels inside and those of their neighbours outside (the contour of
0.5 of a mask of 0 and 1). No centre lies nearer to it than 0.35 pixel, so whoever asks which centres are enclosed
gets the mask back, by the even-odd rule and by winding numbers, and rounding a coordinate does no harm. Outlines
through the centres of border pixels, which some writers use, take half a pixel off every structure.

Pixels that touch at a corner are one region, so that a thin oblique structure does not fall into dots. Loops never
touch. The inside is on the right of who follows a loop, as a slice is drawn (columns right, rows down): outer loops
run clockwise, holes the other way. Points within straight runs are left out, which moves no outline.

A keyhole joins the holes of a region to its outer loop by channels without width: one loop, for readers that fill
holes. A channel runs midway between two rows, where no centre lies; what goes in along it comes out along it.

Letters: n slices of a mask (n, J, I); N points of a loop, as (column, row) with pixel centres at integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Directions are 0 right, 1 down, 2 left, 3 up. Of the four pixels round a corner, by (row, column) from the upper left
# one: those ahead of who arrives in each direction, on the left and on the right.
_AHEAD_LEFT = np.array([(0, 1), (1, 1), (1, 0), (0, 0)])
_AHEAD_RIGHT = np.array([(1, 1), (1, 0), (0, 0), (0, 1)])
# pixels looked at together; each takes some 20 bytes
_CHUNK = 2**21


@dataclass(frozen=True, eq=False)
class Outline:
    """A closed loop. points: (N, 2), N >= 4; the first is not repeated. hole: whether it bounds a hole."""

    points: np.ndarray
    hole: bool = False


def outlines(mask: np.ndarray, *, keyhole: bool = False) -> Iterator[tuple[int, list[Outline]]]:
    """The loops of each slice that has any, slices ascending; a loop comes after those it lies in.

    mask: bool (n, J, I). keyhole: the holes of a region are joined to its outer loop.
    """
    step = max(1, _CHUNK // max(1, mask.shape[1] * mask.shape[2]))
    for first in range(0, len(mask), step):
        part = mask[first : first + step]
        if part.any():
            for n, loops in _Cracks.of(part).by_slice(keyhole):
                yield first + n, loops


@dataclass(frozen=True, eq=False)
class _Cracks:
    """The cracks between a pixel inside and a neighbour outside, which outlines cross at their middle.

    inside: bool (n, rows, columns), the mask with a pixel outside all round. Pixels are counted through it.
    below, right: the pixels with a crack to the next row and to the next column, ascending. Cracks are numbered in
        that order, those below first.
    direction: (cracks,) 0 ... 3, with the inside on the right. after: (cracks,) the crack that follows each.
    """

    inside: np.ndarray
    below: np.ndarray
    right: np.ndarray
    direction: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> _Cracks:
        inside = np.zeros((len(mask), mask.shape[1] + 2, mask.shape[2] + 2), dtype=bool)
        inside[:, 1:-1, 1:-1] = mask
        flat, down = inside.reshape(-1), inside.shape[2]
        below = np.flatnonzero(flat[:-down] != flat[down:])
        right = np.flatnonzero(flat[:-1] != flat[1:])
        direction = np.concatenate([np.where(flat[below], 2, 0), np.where(flat[right], 1, 3)])
        # a corner has the number of the pixel above and left of it
        lower_right = np.concatenate([below, right])
        upper_left = np.concatenate([below - 1, right - down])
        ahead = direction < 2
        begin, end = np.where(ahead, upper_left, lower_right), np.where(ahead, lower_right, upper_left)
        on_left, on_right = (flat[end + (side @ (down, 1))[direction]] for side in (_AHEAD_LEFT, _AHEAD_RIGHT))
        # to the left first, so that pixels with a common corner stay together
        turned = (direction + np.where(on_left, 3, np.where(on_right, 0, 1))) % 4
        number = np.empty(4 * len(flat), dtype=np.int32)
        number[4 * begin + direction] = np.arange(len(direction), dtype=np.int32)
        return cls(inside, below, right, direction, number[4 * end + turned])

    def by_slice(self, keyhole: bool) -> Iterator[tuple[int, list[Outline]]]:
        """The loops of each slice that has any."""
        order, begins = _cycles(self.after.tolist(), range(len(self.below)))
        # A loop begins with its uppermost crack, of those the leftmost; so it comes after the loops round it.
        first = np.array(order)[begins]
        hole = self.inside.reshape(-1)[self.below[first]]
        chain = _Chain.of(self)
        if keyhole and hole.any():
            chain = chain.joined(self, first[hole])
            first = first[~hole]
            hole = np.zeros(len(first), dtype=bool)
            order, begins = _cycles(chain.after.tolist(), first.tolist())
        places = np.array(order)
        kept = chain.bends[places]
        points = chain.points[places[kept]]
        ends = np.concatenate([[0], np.cumsum(kept)])[[*begins[1:], len(places)]]
        loops = np.split(points, ends[:-1])
        slices = self.below[first] // self.inside[0].size
        for n in np.unique(slices):
            mine = range(*np.searchsorted(slices, [n, n + 1]))
            yield int(n), [Outline(loops[loop], bool(hole[loop])) for loop in mine]


@dataclass(frozen=True, eq=False)
class _Chain:
    """Points in the order in which they are drawn.

    points: (P, 2). after: (P,) the number of the point that follows each. bends: (P,), false where one may be left out.
    """

    points: np.ndarray
    after: np.ndarray
    bends: np.ndarray

    @classmethod
    def of(cls, cracks: _Cracks) -> _Chain:
        """The middles of cracks, by their numbers."""
        _, rows, columns = cracks.inside.shape
        pixels = np.concatenate([cracks.below, cracks.right])
        points = np.stack([pixels % columns, pixels // columns % rows], axis=1) - 1.0
        points[: len(cracks.below), 1] += 0.5
        points[len(cracks.below) :, 0] += 0.5
        # straight on through three cracks, or in even stairs
        bends = np.ones(len(pixels), dtype=bool)
        bends[cracks.after] = cracks.direction != cracks.direction[cracks.after[cracks.after]]
        return cls(points, cracks.after, bends)

    def joined(self, cracks: _Cracks, holes: np.ndarray) -> _Chain:
        """With each hole drawn on the way past what lies to the left of its first point. holes: (H,) first cracks."""
        flat, down = cracks.inside.reshape(-1), cracks.inside.shape[2]
        pixels = cracks.below[holes]
        # the first place to the left where the rows above and below are not both inside
        ends = np.flatnonzero(~(flat[:-down] & flat[down:]))
        found = ends[np.searchsorted(ends, pixels) - 1]
        # an outline has a point there, or it runs straight up, half a pixel before and from a row below
        at_point = flat[found] != flat[found + down]
        upward = len(cracks.below) + np.searchsorted(cracks.right, found + down)
        door = np.where(at_point, np.searchsorted(cracks.below, found), upward)
        opening = self.points[door] - np.where(at_point[:, None], 0, (0.0, 0.5))
        # door -> in -> hole, its points, hole again -> out -> what came after the door
        into, again, out = len(self.points) + np.arange(3 * len(holes)).reshape(3, -1)
        after = np.concatenate([self.after, holes, out, out])
        last = np.empty_like(self.after)
        last[self.after] = np.arange(len(last))
        after[last[holes]] = again
        after[out] = after[door]
        after[door] = into
        bends = np.concatenate([self.bends, np.ones(3 * len(holes), dtype=bool)])
        bends[holes] = True
        bends[door[at_point]] = False
        return _Chain(np.concatenate([self.points, opening, self.points[holes], opening]), after, bends)


def _cycles(after: list[int], starts: Iterable[int]) -> tuple[list[int], list[int]]:
    """What follows each of `starts` until it comes round, unless it was passed before; and where each cycle begins."""
    seen = bytearray(len(after))
    order: list[int] = []
    begins: list[int] = []
    for start in starts:
        if not seen[start]:
            begins.append(len(order))
            at = start
            while not seen[at]:
                seen[at] = 1
                order.append(at)
                at = after[at]
    return order, begins
