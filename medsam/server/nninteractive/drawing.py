"""What was drawn in an array, as boxes, strokes and loops of a slice.

Arrays are (K, J, I). Axis k has slices of rows j and columns i, axis j of rows k and columns i, axis i of rows k and
columns j: the order of the array without the slice's own axis. Positions on a slice are (x, y) = (column, row).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import Axis
from medsam.io.outlines import outlines
from medsam.masks import bounding_box
from medsam.prompts.prompt import Box
from medsam.prompts.traced import traced
from medsam.prompts.values import Position

# of the array's axes
KJI: tuple[Axis, Axis, Axis] = ("k", "j", "i")

Range = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Voxels in an array of `shape` (K, J, I). start: where `crop`, bool, lies in it; there is one at least."""

    crop: np.ndarray
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, crop: np.ndarray, start: Sequence[int], shape: tuple[int, int, int]) -> Drawn:
        """What is not zero. Raises PromptError where there is nothing."""
        marked = crop != 0
        part = bounding_box(marked)
        if part is None:
            raise PromptError("There is nothing in what was drawn: no voxel of it is set.")
        k, j, i = (int(first) + one.start for first, one in zip(start, part, strict=True))
        return cls(marked[part], (k, j, i), shape)

    @classmethod
    def of_box(cls, ranges: Sequence[Range], shape: tuple[int, int, int]) -> Drawn:
        """All voxels of a box."""
        k, j, i = (low for low, _ in ranges)
        return cls(np.ones([high - low for low, high in ranges], bool), (k, j, i), shape)

    @property
    def flat(self) -> tuple[Axis, ...]:
        """The axes that it lies on one slice of."""
        return tuple(axis for axis, length in zip(KJI, self.crop.shape, strict=True) if length == 1)

    def on_slices(self, axis: Axis) -> Iterator[tuple[int, np.ndarray, tuple[int, int]]]:
        """Each slice of an axis that it lies on: number, voxels bool (rows, columns), (row, column) of the first."""
        number = KJI.index(axis)
        row, column = (one for n, one in enumerate(self.start) if n != number)
        for n in range(self.crop.shape[number]):
            pixels = np.take(self.crop, n, axis=number)
            if pixels.any():
                yield self.start[number] + n, pixels, (row, column)

    def slice_mask(self, pixels: np.ndarray, start: tuple[int, int], axis: Axis) -> np.ndarray:
        """Those of one slice, as a mask of the whole slice."""
        rows, columns = (length for one, length in zip(KJI, self.shape, strict=True) if one != axis)
        mask = np.zeros((rows, columns), bool)
        mask[start[0] : start[0] + pixels.shape[0], start[1] : start[1] + pixels.shape[1]] = pixels
        return mask


def box_of(ranges: Sequence[Range], axis: Axis) -> tuple[int, Box]:
    """The slice of an axis that a flat box lies on, and its box there."""
    number = KJI.index(axis)
    (y0, y1), (x0, x1) = (one for n, one in enumerate(ranges) if n != number)
    return ranges[number][0], (float(x0), float(y0), float(x1), float(y1))


def voxel_of(at: Sequence[float]) -> tuple[int, int, int]:
    """The voxel that a point (k, j, i) lies in: whole numbers, halves up."""
    k, j, i = (math.floor(one + 0.5) for one in at)
    return k, j, i


def position_of(at: Sequence[float], axis: Axis) -> tuple[int, Position]:
    """The slice of an axis that a point lies on, and where on it."""
    voxel, number = voxel_of(at), KJI.index(axis)
    y, x = (one for n, one in enumerate(voxel) if n != number)
    return voxel[number], (float(x), float(y))


def strokes(pixels: np.ndarray, start: tuple[int, int]) -> list[tuple[Position, ...]]:
    """The lines of a pen through what it has drawn on a slice. pixels: bool; start: (row, column) of the first."""
    return [tuple((x + start[1], y + start[0]) for x, y in line) for line in traced(pixels)]


def loop(pixels: np.ndarray, start: tuple[int, int]) -> tuple[Position, ...]:
    """The loop round what a lasso was drawn as, filled or its line alone. Raises PromptError for several."""
    from scipy import ndimage  # takes its time to import

    filled = ndimage.binary_fill_holes(pixels)
    (_, found), *_ = outlines(filled[None])
    if len(found) > 1:
        raise PromptError(
            f"A lasso is one loop, and this one is of {len(found)} pieces. Draw them one after the other."
        )
    return tuple((x + start[1], y + start[0]) for x, y in found[0].points.tolist())
