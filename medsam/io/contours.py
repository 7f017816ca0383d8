"""Closed contours of one plane -> the pixels they enclose.

The centre of a pixel decides: it is in when it lies inside the outline. A centre on the outline (to 1/1000 pixel)
is in on the sides of lower index and out on the sides of higher index, so that two regions sharing an edge share no
pixel and leave no gap. (PS3.3 C.8.8.6.3 counts points on the path as inside; a pixel is no point.)

One loop is filled by the even-odd rule, so a hole reached through a "keyhole" (one loop that runs in, round and back
along its own way) comes out right. Several loops of one region:
  - the same outline again (another first point, the other way round, closed by a repeated point, rounded otherwise;
    to a tenth of a pixel) counts once;
  - a loop wholly inside another is a hole, one inside a hole an island, and so on;
  - loops that partly overlap are united: two strokes at one structure.
The standard knows two techniques for holes, the keyhole and contours of the type CLOSEDPLANAR_XOR. Most writers put
a hole as a second CLOSED_PLANAR contour, and most readers take all contours by exclusive or, which agrees with the
above but for partial overlaps, where it leaves an undrawn gap. Contours of type CLOSEDPLANAR_XOR get just that.

Why not a library: PIL and OpenCV round vertices to whole pixels and paint the outline; matplotlib's point
test leaves centres on an outline undefined and asks every pixel about every edge.

Letters: N points of a loop, as (column, row) with pixel centres at integers.
Source: DICOM PS3.3 C.8.8.6.1 and C.8.8.6.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsam.errors import InputError

_SNAP = 1e-3
# outlines this near to each other, in pixels, are one: rounding to 0.1 mm or to four digits moves points less
_SAME = 0.1
# No drawing has more: crossings of edges with rows, loops of a plane, pairs of them that nearly agree,
# pairs that may overlap, and pixels to compare.
_MOST_CROSSINGS = 5 * 10**6
MOST_LOOPS = 10_000
_MOST_ALIKE = 2_000
_MOST_PAIRS = 20_000
_MOST_COMPARED = 2 * 10**9
_CHUNK = 2**21


@dataclass(frozen=True)
class Enclosed:
    """pixels: bool (rows, columns). repeated: loops that were there before. overlapping: loops joined with another."""

    pixels: np.ndarray
    repeated: int = 0
    overlapping: int = 0


def enclosed(loops: list[np.ndarray], shape: tuple[int, int], *, exclusive: bool = False) -> Enclosed:
    """What the loops of one region enclose on one plane; see the module.

    loops: each (N, 2), N >= 3; may reach beyond the picture. shape: (rows, columns).
    exclusive: they are CLOSEDPLANAR_XOR.
    Raises InputError when there are so many loops or points that they cannot have been drawn by hand.
    """
    if len(loops) == 1:
        return Enclosed(fill(loops, shape))
    if len(loops) > MOST_LOOPS:
        raise InputError(f"{len(loops)} contours lie on one plane; more than {MOST_LOOPS} are not read.")
    low, high = (np.array([pick(loop, axis=0) for loop in loops]) for pick in (np.min, np.max))
    kept = _first_of_each(loops, low, high)
    repeated = len(loops) - len(kept)
    loops, low, high = [loops[n] for n in kept], low[kept], high[kept]
    pairs = [] if exclusive else _boxes_that_meet(low, high)
    if not pairs:
        return Enclosed(fill(loops, shape), repeated)
    pixels, overlapping = _nested(loops, pairs, low, high, shape)
    return Enclosed(pixels, repeated, overlapping)


def fill(loops: list[np.ndarray], shape: tuple[int, int], *, winding: bool = False) -> np.ndarray:
    """Pixels whose centre lies inside closed polygons combined by the even-odd rule.

    loops: each (N, 2), N >= 3, as (column, row), pixel centres at integers; may reach beyond the picture.
    shape: (rows, columns). Returns bool of that shape. Centres on an outline: see the module.
    winding: by the non-zero winding rule, so that what a loop runs round twice is in, too.
    Raises InputError when the outlines cross the rows so often that they cannot have been drawn by hand.
    """
    rows, columns = shape
    # Coordinates went through decimal strings and an affine; without snapping, an outline drawn through pixel
    # centres would fall to either side at random.
    snapped = [np.round(loop / _SNAP) * _SNAP for loop in loops]
    begin = np.concatenate(snapped)
    end = np.concatenate([np.roll(loop, -1, axis=0) for loop in snapped])
    # nothing is inside beyond the outlines
    left, right = np.clip([begin[:, 0].min() - 1, begin[:, 0].max() + 2], 0, columns).astype(int)
    swap = begin[:, 1] > end[:, 1]
    begin[swap], end[swap] = end[swap], begin[swap]
    turn = np.where(swap, -1, 1)
    # an edge crosses the centre lines of rows first .. last - 1
    first = np.clip(np.ceil(begin[:, 1] - _SNAP / 2), 0, rows).astype(int)
    last = np.clip(np.ceil(end[:, 1] - _SNAP / 2), 0, rows).astype(int)
    count = last - first
    upto = np.cumsum(count)
    if upto[-1] > _MOST_CROSSINGS:
        raise InputError(f"its outline of {len(begin)} points crosses the rows {upto[-1]} times: it is no drawing.")
    inside = np.zeros(shape, dtype=bool)
    if not upto[-1]:
        return inside
    top, bottom = first[count > 0].min(), last[count > 0].max()
    width = right - left + 1
    crossings = np.zeros((bottom - top) * width, dtype=np.int64)
    # some edges at a time: long ones, repeated for every row, would fill the memory
    cuts = np.searchsorted(upto, np.arange(_CHUNK, upto[-1] + _CHUNK, _CHUNK), side="right")
    for part in np.split(np.arange(len(count)), np.unique(cuts)):
        edge = np.repeat(part, count[part])
        if len(edge):
            row = np.arange(len(edge)) - np.repeat(np.cumsum(count[part]) - count[part], count[part]) + first[edge]
            rise = (end - begin)[edge]
            x = begin[edge, 0] + (row - begin[edge, 1]) * rise[:, 0] / rise[:, 1]
            column = np.clip(np.ceil(x - _SNAP / 2), left, right).astype(int)
            # every crossing turns all pixels to its right over
            weights = turn[edge] if winding else None
            found = np.bincount((row - top) * width + column - left, weights, minlength=len(crossings))
            crossings += found.astype(np.int64, copy=False)
    turns = np.cumsum(crossings.reshape(-1, width)[:, :-1], axis=1)
    inside[top:bottom, left:right] = turns != 0 if winding else turns & 1
    return inside


# -- the same outline again ---------------------------------------------------------------------------------


def _first_of_each(loops: list[np.ndarray], low: np.ndarray, high: np.ndarray) -> list[int]:
    """The numbers of the loops that are not the outline of an earlier one."""
    kept: list[int] = []
    compared = 0
    for n, loop in enumerate(loops):
        alike = np.abs(low[kept] - low[n]).max(axis=1) <= _SAME
        alike &= np.abs(high[kept] - high[n]).max(axis=1) <= _SAME
        candidates = [kept[m] for m in np.flatnonzero(alike)]
        if any(_same_points(loop, loops[m]) for m in candidates):
            continue
        compared += len(candidates)
        _check_pairs(compared, _MOST_ALIKE)
        if not any(_same_outline(loop, loops[m]) for m in candidates):
            kept.append(n)
    return kept


def _same_points(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two loops are the same points in the same order, but for where and which way round they begin."""
    if one.shape != other.shape:
        return False
    for begin in np.flatnonzero((other == one[0]).all(axis=1))[:4]:
        turned = np.roll(other, -begin, axis=0)
        if np.array_equal(turned, one) or np.array_equal(turned[1:], one[:0:-1]):
            return True
    return False


def _same_outline(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether every point of each loop lies on the other's outline, to `_SAME`."""
    from scipy.spatial import cKDTree

    for points, outline in ((one, _along(other)), (other, _along(one))):
        # points along an outline lie _SAME apart, so the nearest may be half of that further than the outline
        far, _ = cKDTree(outline).query(points, distance_upper_bound=_SAME * np.sqrt(1.25))
        if not np.isfinite(far).all():
            return False
    return True


def _along(loop: np.ndarray) -> np.ndarray:
    """Points along an outline, `_SAME` apart or nearer; only its own where it is too long to be one."""
    ahead = np.roll(loop, -1, axis=0) - loop
    steps = np.maximum(1, np.ceil(np.linalg.norm(ahead, axis=1) / _SAME))
    if steps.sum() > 1_000_000:
        return loop
    count = steps.astype(int)
    edge = np.repeat(np.arange(len(loop)), count)
    part = (np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)) / steps[edge]
    return loop[edge] + part[:, None] * ahead[edge]


def _check_pairs(count: int, most: int) -> None:
    if count > most:
        raise InputError(f"more than {most} pairs of contours lie over each other on one plane: no drawing.")


# -- loops in loops -----------------------------------------------------------------------------------------


def _boxes_that_meet(low: np.ndarray, high: np.ndarray) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for n in range(1, len(low)):
        meet = (low[:n] <= high[n]).all(axis=1) & (low[n] <= high[:n]).all(axis=1)
        pairs += [(int(m), n) for m in np.flatnonzero(meet)]
        _check_pairs(len(pairs), _MOST_PAIRS)
    return pairs


@dataclass(frozen=True)
class _Part:
    """What one loop encloses: pixels (h, w) whose first is (row, column) of the picture. size: how many are in."""

    row: int
    column: int
    pixels: np.ndarray
    size: int

    @classmethod
    def of(cls, loop: np.ndarray, low: np.ndarray, high: np.ndarray, shape: tuple[int, int]) -> _Part:
        # a pixel more all round, so that what lies just outside can be asked for
        column, row = (int(v) for v in np.clip(np.floor(low) - 1, 0, shape[::-1]))
        right, bottom = (int(v) for v in np.clip(np.ceil(high) + 2, 0, shape[::-1]))
        size = max(0, bottom - row), max(0, right - column)
        pixels = fill([loop - (column, row)], size) if all(size) else np.zeros(size, dtype=bool)
        return cls(row, column, pixels, int(np.count_nonzero(pixels)))

    def common(self, other: _Part) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of both in the window both have."""
        top, left = max(self.row, other.row), max(self.column, other.column)
        bottom = min(self.row + self.pixels.shape[0], other.row + other.pixels.shape[0])
        right = min(self.column + self.pixels.shape[1], other.column + other.pixels.shape[1])
        cut = [
            part.pixels[
                top - part.row : max(top, bottom) - part.row, left - part.column : max(left, right) - part.column
            ]
            for part in (self, other)
        ]
        return cut[0], cut[1]


def _nested(
    loops: list[np.ndarray],
    pairs: list[tuple[int, int]],
    low: np.ndarray,
    high: np.ndarray,
    shape: tuple[int, int],
) -> tuple[np.ndarray, int]:
    """Pixels of loops of which `pairs` may lie over each other, and how many partly overlap another."""
    involved = sorted({n for pair in pairs for n in pair})
    alone = [loop for n, loop in enumerate(loops) if n not in set(involved)]
    pixels = fill(alone, shape) if alone else np.zeros(shape, dtype=bool)
    parts = {n: _Part.of(loops[n], low[n], high[n], shape) for n in involved}
    if sum(min(parts[a].pixels.size, parts[b].pixels.size) for a, b in pairs) > _MOST_COMPARED:
        raise InputError("too many large contours lie over each other on one plane: no drawing.")
    over: dict[int, list[int]] = {n: [] for n in involved}
    for a, b in pairs:
        inner, outer = (a, b) if parts[a].size < parts[b].size else (b, a)
        over[inner].append(outer)
    depth, overlapping = _depths(parts, over)
    for n in sorted(involved, key=lambda n: depth[n]):
        part = parts[n]
        here = pixels[part.row : part.row + part.pixels.shape[0], part.column : part.column + part.pixels.shape[1]]
        here[part.pixels] = depth[n] % 2 == 0
    return pixels, len(overlapping)


def _depths(parts: Mapping[int, _Part], over: Mapping[int, Sequence[int]]) -> tuple[dict[int, int], set[int]]:
    """How many others each part lies inside of, and which partly overlap another. over: those not smaller, by part."""
    depth: dict[int, int] = {}
    overlapping: set[int] = set()
    for n in sorted(parts, key=lambda n: -parts[n].size):
        depth[n] = 0
        for outer in over[n] if parts[n].size else ():
            relation = _relation(parts[n], parts[outer])
            if relation == "inside":
                depth[n] = max(depth[n], depth[outer] + 1)
            elif relation == "overlap":
                overlapping |= {n, outer}
    return depth, overlapping


def _relation(inner: _Part, outer: _Part) -> str:
    """Whether the smaller one lies "inside" the other, "apart" from it, or they "overlap"."""
    mine, theirs = inner.common(outer)
    shared = int(np.count_nonzero(mine & theirs))
    if not shared:
        return "apart"
    if inner.size == outer.size:  # neither is the smaller one, so the order in the file would decide
        return "overlap"
    if shared == inner.size:
        return "inside"
    if 2 * shared > inner.size:
        from scipy.ndimage import binary_dilation

        # a hole that touches the rim may cross it by the error of drawing
        wider = binary_dilation(theirs, np.ones((3, 3), dtype=bool))
        if int(np.count_nonzero(mine & wider)) == inner.size:
            return "inside"
    return "overlap"
