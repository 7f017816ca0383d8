"""How far pixels are from the outline of a mask, and outlines between two of them.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

import numpy as np
from scipy import ndimage

from medsam.masks import CompactMask, grown


def masks_between(
    one: CompactMask,
    other: CompactMask,
    slices: tuple[int, int],
    spacing_mm: tuple[float, float],
    skip: Container[int] = (),
) -> Iterator[tuple[int, float, np.ndarray]]:
    """Each slice between two that have a mask, neither empty: its number, how near it is to the first of them, in
    (0, 1), and its mask (h, w), see `between`; but where there is nothing. slices: the numbers of the two. skip: those
    that are left out.
    """
    first, last = slices
    wanted = [index for index in range(first + 1, last) if index not in skip]
    # the two are as far from a pixel on every slice: looked at once
    if not wanted:
        return
    way = _Way(one, other, spacing_mm)
    for index in wanted:
        share = (last - index) / (last - first)
        if (mask := way.at(share)).any():
            yield index, share, mask


def signed_distance(mask: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """From a mask's outline, in mm, positive inside; the outline runs between pixels. mask: (h, w), not empty."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    inner = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outer = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    half = min(spacing_mm) / 2
    result: np.ndarray = np.where(mask, inner - half, half - outer)
    return result


def between(one: CompactMask, other: CompactMask, share: float, spacing_mm: tuple[float, float]) -> np.ndarray:
    """The mask (h, w) `share`, in (0, 1), of the way from `other` to `one`, neither empty.

    Signed distances to both outlines, averaged; nothing where they lie far apart.
    Source: shape-based interpolation (Raya and Udupa 1990).
    """
    return _Way(one, other, spacing_mm).at(share)


class _Way:
    """From one mask to another, neither empty; see `between`."""

    def __init__(self, one: CompactMask, other: CompactMask, spacing_mm: tuple[float, float]) -> None:
        spans = [slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one.part, other.part, strict=True)]
        self._shape, self._part = one.shape, grown(spans, [1, 1], one.shape)
        self._ends = [signed_distance(mask.to_array()[self._part], spacing_mm) for mask in (one, other)]

    def at(self, share: float) -> np.ndarray:
        result = np.zeros(self._shape, dtype=bool)
        result[self._part] = share * self._ends[0] + (1 - share) * self._ends[1] > 0
        return result
