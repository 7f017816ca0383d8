"""How large an object is, and what the scan has in it: volume, longest diameter in a slice, values.

The diameter is the longest straight line from outer edge to outer edge of one piece of the object on one slice, as
RECIST measures its long axis: exact, between corners of pixels, in the patient's millimetres. Pixels that touch at a
corner are of one piece.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from medsam.geometry import SlicePlane
from medsam.masks import CompactMask
from medsam.volume import Volume

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Diameter:
    """mm: None on a scan without millimetres. slice: where it is. ends: (x, y) each, edges in stored pixels, 0 being
    the outer edge of the first one."""

    mm: float | None
    slice: int
    ends: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Values:
    """Of the voxels inside that are finite, as the scan stores them. std: of these, not of a sample."""

    mean: float
    std: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Measures:
    """volume_ml: None on a scan without millimetres. diameter, values: None of an empty object; values of a scan in
    colour, too."""

    voxels: int
    volume_ml: float | None
    diameter: Diameter | None
    values: Values | None


def measures(scan: Volume, plane: SlicePlane, masks: Mapping[int, CompactMask]) -> Measures:
    """Of an object by its masks (h, w) on the slices of a plane."""
    there = {index: mask for index, mask in masks.items() if mask}
    voxels, geometry = sum(mask.area for mask in there.values()), scan.geometry
    return Measures(
        voxels,
        voxels * geometry.voxel_ml if geometry.calibrated else None,
        diameter(plane, there, calibrated=geometry.calibrated),
        None if scan.is_colour else _values(scan, plane, there),
    )


def diameter(plane: SlicePlane, masks: Mapping[int, CompactMask], *, calibrated: bool = True) -> Diameter | None:
    """The longest on any slice, see the top; None where there is nothing. Of equal ones that on the first slice."""
    pitch = plane.spacing_mm if calibrated else (1.0, 1.0)
    best, where = 0.0, (0, np.zeros((2, 2)))
    # the longest that there can be first, so that most slices need not be looked at
    for bound, index in sorted(
        ((_diagonal(mask, pitch), -index) for index, mask in masks.items() if mask), reverse=True
    ):
        if bound <= best:
            break
        for length, ends in _of_pieces(masks[-index].crop, pitch, best):
            best, where = length, (-index, ends + [part.start for part in masks[-index].part])
    if not best:
        return None
    index, ends = where
    (y0, x0), (y1, x1) = ends.tolist()
    return Diameter(best if calibrated else None, index, ((x0, y0), (x1, y1)))


def _diagonal(mask: CompactMask, pitch: tuple[float, float]) -> float:
    rows, columns = (stop - start for start, stop in mask.bounds)
    return math.hypot(rows * pitch[0], columns * pitch[1])


def _of_pieces(mask: np.ndarray, pitch: tuple[float, float], best: float) -> Iterator[tuple[float, np.ndarray]]:
    """Length and ends (2, 2), edges as (row, column), of each piece of a mask that is longer than all before."""
    length, ends = _farthest(mask, pitch)
    if length <= best:
        return
    pieces, count = ndimage.label(mask, _EIGHT)
    if count == 1:
        yield length, ends
        return
    for number, part in enumerate(ndimage.find_objects(pieces), start=1):
        length, ends = _farthest(pieces[part] == number, pitch)
        if length > best:
            best = length
            yield length, ends + [one.start for one in part]


def _farthest(mask: np.ndarray, pitch: tuple[float, float]) -> tuple[float, np.ndarray]:
    """The two corners of pixels that lie farthest apart, and how far. mask: (h, w), not empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    past = mask.shape[1] - mask[rows][:, ::-1].argmax(axis=1)
    corners = np.concatenate([np.stack([rows + down, x], axis=1) for down in (0, 1) for x in (first, past)])
    points = corners * np.array(pitch)
    outermost = ConvexHull(points).vertices
    hull = points[outermost]
    apart = ((hull[:, None] - hull[None]) ** 2).sum(axis=-1)
    one, other = np.unravel_index(int(apart.argmax()), apart.shape)
    return math.sqrt(float(apart[one, other])), corners[outermost[[one, other]]].astype(float)


def _values(scan: Volume, plane: SlicePlane, masks: Mapping[int, CompactMask]) -> Values | None:
    count, mean, squares = 0, 0.0, 0.0
    low, high = math.inf, -math.inf
    for index, mask in masks.items():
        stored = plane.take(scan.array, index)[mask.part][mask.crop]
        inside = stored.astype(np.float64)
        inside = inside[np.isfinite(inside)] if stored.dtype.kind == "f" else inside
        if not inside.size:
            continue
        # slices joined one by one, exact also where the mean is far from 0
        here, gap = float(inside.mean()), float(inside.mean()) - mean
        squares += float(((inside - here) ** 2).sum()) + gap**2 * count * inside.size / (count + inside.size)
        count += inside.size
        mean += gap * inside.size / count
        low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    return Values(mean, math.sqrt(squares / count), low, high) if count else None
