"""Distances between two surfaces in mm, found once: NSD, HD95 and ASSD read them off.

A surface is seen where Nikolov et al. see it: at the corners between voxels. A corner whose 8 voxels (4 pixels in
2D) do not all agree carries a piece of surface, of the area in mm² (length in mm) that marching cubes with vertices
at half-way would give it. Its distance to the other surface is the one to the nearest corner that carries a piece
of that. Everything outside the array is background, so a mask that touches the border ends there with a surface.

Letters: N pieces of one surface.
  distances  (N,) float64, mm
  areas      (N,) float64, mm² (3D) or mm (2D)

Source: Nikolov et al. 2021, "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy", J Med
Internet Res 23(7):e26151; the numbers are those of its public implementation, surface-distance. That package is not
used: its only release needs numpy 1 (np.Inf), sorts in interpreted Python, and makes a full distance map for each
mask. The cases of marching cubes are those of Lorensen and Cline 1987, figure 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from medsam.errors import InputError
from medsam.masks import bounding_box
from medsam.metrics.overlap import check_masks, check_spacing

# A distance may exceed the tolerance by this share and still lie within: headers keep spacings as float32 and
# affines have rounded directions, and five steps of "0.4 mm" must be 2 mm whatever the last digits say.
_SLACK = 1e-6

# The cases of marching cubes. Corners of the unit cube that lie inside -> the flat parts of the surface between,
# each as its shadows on the faces of the cube across axes 0, 1 and 2, in eighths of a face. Turning and mirroring the
# cube, and swapping inside with outside, give all 254 others. With a spacing (a, b, c) a part with shadows
# (x, y, z) has the area |(x bc, y ac, z ab)| / 8.
_CASES: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...] = (
    ("111", ((1, 1, 1),)),
    ("110 111", ((4, 4, 0),)),
    ("101 110", ((2, 2, 2),)),
    ("011 100", ((2, 2, 2),)),
    ("101 110 111", ((4, 0, 0), (3, 3, 3))),
    ("011 100 111", ((0, 4, 4), (1, 1, 1))),
    ("011 101 110", ((3, 3, 3),)),
    ("100 101 110 111", ((8, 0, 0),)),
    ("011 101 110 111", ((6, 6, 6),)),
    ("010 011 100 101", ((8, 8, 0),)),
    ("011 100 110 111", ((0, 2, 2), (2, 0, 2), (4, 4, 4))),
    ("011 100 101 110", ((4, 0, 0), (4, 4, 4))),
    ("001 010 100 111", ((4, 4, 4),)),
)


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Both surfaces, piece by piece, with the way to the other one.

    reference_mm, reference_area: the reference's pieces, their distance to the prediction's surface, their size.
    prediction_mm, prediction_area: the same from the prediction to the reference.
    A mask without voxels has no pieces, and the distances to it are inf.

    Emptiness: with both masks empty every answer is nan: there was nothing to find, the caller skips the case. With
    one empty NSD is 0 and the distances are inf, so that a missed structure sorts behind every found one in medians,
    quantiles and rank tests, and is distinct from a skipped one. A mean of distances is only defined over the finite
    ones; state how many there were. (A finite penalty such as the image diagonal would depend on the field of
    view; nan would reward the miss.)
    """

    reference_mm: np.ndarray
    reference_area: np.ndarray
    prediction_mm: np.ndarray
    prediction_area: np.ndarray

    def nsd(self, tolerance_mm: float = 2.0) -> float:
        """Share of both surfaces that lies within `tolerance_mm` of the other one (surface Dice), [0, 1].

        Areas are weighed, not voxels counted. A piece at exactly the tolerance counts as within.
        tolerance_mm: >= 0; per-organ values live in `labels`. Raises InputError when negative or not finite.
        """
        if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise InputError(f"The surface tolerance must be 0 mm or more, not {tolerance_mm}.")
        if not self._total:
            return math.nan
        limit = tolerance_mm * (1 + _SLACK)
        within = self.reference_area[self.reference_mm <= limit].sum()
        within += self.prediction_area[self.prediction_mm <= limit].sum()
        return float(within / self._total)

    def hd(self, percentile: float = 95.0) -> float:
        """The larger of the two directed distances that `percentile` % of a surface's area does not exceed, in mm.

        It is a distance that occurs: nothing is interpolated. Raises InputError unless 0 < percentile <= 100.
        """
        if not 0 < percentile <= 100:
            raise InputError(f"A percentile lies above 0 and at or below 100, {percentile} does not.")
        if not self._total:
            return math.nan
        return max(
            _percentile(self.reference_mm, self.reference_area, percentile),
            _percentile(self.prediction_mm, self.prediction_area, percentile),
        )

    def hd95(self) -> float:
        """Hausdorff distance, 95th percentile, in mm. See `hd`."""
        return self.hd(95.0)

    def assd(self) -> float:
        """Mean distance to the other surface over the area of both surfaces together, in mm."""
        if not self._total:
            return math.nan
        if not (self.reference_area.size and self.prediction_area.size):
            return math.inf
        ways = self.reference_mm @ self.reference_area + self.prediction_mm @ self.prediction_area
        return float(ways / self._total)

    @property
    def _total(self) -> float:
        return float(self.reference_area.sum() + self.prediction_area.sum())


def surface_distances(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Find both surfaces and the distances between them.

    reference, prediction: bool (K, J, I), or (h, w) for a slice, on the same grid.
    spacing_mm: pitch along the array's axes, in their order.
    Work and memory grow with the box around both masks, not with the scan.
    Raises InputError when the masks are not boolean, of unequal shape, or the spacing does not fit.
    """
    check_masks(reference, prediction)
    spacing = check_spacing(spacing_mm, reference.ndim)
    box = bounding_box(reference, prediction)
    if box is None:
        return SurfaceDistances(*(np.empty(0) for _ in range(4)))
    area = _area_of_code(spacing)
    codes = [_codes(mask[box]) for mask in (reference, prediction)]
    surfaces = [(code != 0) & (code != area.size - 1) for code in codes]
    ways = _nearest(surfaces[0], surfaces[1], spacing), _nearest(surfaces[1], surfaces[0], spacing)
    areas = [area[code[surface]] for code, surface in zip(codes, surfaces, strict=True)]
    return SurfaceDistances(ways[0], areas[0], ways[1], areas[1])


def _codes(mask: np.ndarray) -> np.ndarray:
    """Which of the voxels around each corner are inside, one bit each: uint8, one longer than `mask` on each axis."""
    code: np.ndarray = np.pad(mask.view(np.uint8), 1)
    for step, axis in enumerate(reversed(range(mask.ndim))):
        before = code[(slice(None),) * axis + (slice(None, -1),)]
        after = code[(slice(None),) * axis + (slice(1, None),)]
        # the bits of the axes seen so far stay together: 1, 2, then 4 of them move up
        code = before | (after << (1 << step))
    return code


def _area_of_code(spacing: tuple[float, ...]) -> np.ndarray:
    """Area (3D, mm²) or length (2D, mm) of the surface at a corner, by its code: (256,) or (16,)."""
    if len(spacing) == 2:
        diagonal = math.hypot(*spacing) / 2
        # bit 1 lies at (0, 0), 2 at (0, 1), 4 at (1, 0), 8 at (1, 1)
        table = np.full(16, diagonal)
        table[[0b0000, 0b1111]] = 0
        table[[0b0011, 0b1100]] = spacing[1]
        table[[0b0101, 0b1010]] = spacing[0]
        table[[0b0110, 0b1001]] = 2 * diagonal
        return table
    a, b, c = spacing
    return np.linalg.norm(_shadows() * (b * c, a * c, a * b), axis=-1).sum(axis=-1)


@lru_cache(maxsize=1)
def _shadows() -> np.ndarray:
    """(256, 3, 3): by code, up to three flat parts of the surface, and their shadows as shares of a voxel face."""
    table = np.zeros((256, 3, 3))
    for corners, parts in _CASES:
        inside = [tuple(int(digit) for digit in corner) for corner in corners.split()]
        for order, flips in product(permutations(range(3)), product((0, 1), repeat=3)):
            code = 0
            for corner in inside:
                k, j, i = (corner[axis] ^ flip for axis, flip in zip(order, flips, strict=True))
                code |= 1 << (4 * k + 2 * j + i)
            shadows = np.array(parts)[:, order] / 8
            table[code, : len(parts)] = table[255 - code, : len(parts)] = shadows
    table.setflags(write=False)
    return table


def _nearest(start: np.ndarray, goal: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From each corner in `start` to the nearest in `goal`: (N,) mm, in the order of `start[start]`."""
    distance = np.zeros(np.count_nonzero(start))
    if not goal.any():
        distance[:] = np.inf
        return distance
    # where both surfaces run through the same corner the way is 0, and nothing has to be searched
    left = np.flatnonzero(~goal[start])
    corners = np.argwhere(start & ~goal)
    # A tree of the surface answers near neighbours in about 1 µs, but far ones, as from the middle of a ball, in
    # 10 to 30 µs; a map of the whole box costs 0.1 µs a corner. So: the tree for the near ones, and for the few far.
    if left.size and left.size < start.size / 8:
        tree = cKDTree(np.argwhere(goal) * spacing, balanced_tree=False, compact_nodes=False)
        for reach in (10 * min(spacing), np.inf):
            if reach == np.inf and left.size > start.size / 130:
                break
            distance[left] = tree.query(corners * spacing, distance_upper_bound=reach)[0]
            far = np.isinf(distance[left])
            left, corners = left[far], corners[far]
    if left.size:
        # asked for corners, not distances, it needs 12 bytes a corner instead of some 80
        nearest = distance_transform_edt(~goal, sampling=spacing, return_distances=False, return_indices=True)
        ways = nearest[(slice(None), *corners.T)].T - corners
        distance[left] = np.linalg.norm(ways * spacing, axis=-1)
    return distance


def _percentile(distance: np.ndarray, area: np.ndarray, percentile: float) -> float:
    """The smallest distance that at least `percentile` % of the area does not exceed; inf without pieces."""
    if not distance.size:
        return math.inf
    order = np.argsort(distance, kind="stable")
    reached = np.cumsum(area[order])
    # sums of areas carry rounding; a share of exactly 95 % must not depend on the order of summation
    index = np.searchsorted(reached, reached[-1] * (percentile / 100 - 1e-9))
    return float(distance[order][min(int(index), distance.size - 1)])
