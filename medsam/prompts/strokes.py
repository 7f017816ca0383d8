"""What is drawn on a slice with a pen: scribbles, and where they and clicks say what is inside and what is not.

Positions are pixel numbers of the stored slice, as those of clicks: the centre of column n is n.
Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# (x, y), pixel numbers
Position = tuple[float, float]

# Samples a pixel along a stroke: none of the pixels that it crosses by more than a corner is missed.
_SAMPLES = 4


@dataclass(frozen=True)
class Scribble:
    """A stroke of a pen. points: its corners; a single one is a dot. inside: whether the object is under it.

    width_mm, width_px: of the pen, at most one of them; neither: a pixel wide.
    """

    points: tuple[Position, ...]
    inside: bool = True
    width_mm: float | None = None
    width_px: float | None = None

    def to_mask(self, shape: tuple[int, int], pitch_mm: tuple[float, float]) -> np.ndarray:
        """Bool (h, w): every pixel that the stroke crosses, and those whose centre is within half its width.

        pitch_mm: (row, column) of a pixel.
        """
        mask = np.zeros(shape, dtype=bool)
        corners = np.array(self.points, dtype=float).reshape(-1, 2)
        along = np.concatenate([_between(a, b) for a, b in itertools.pairwise(corners)] or [corners])
        columns, rows = np.floor(along + 0.5).astype(int).T
        there = (columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0])
        mask[rows[there], columns[there]] = True
        half = (self.width_mm or 0.0) / 2, (self.width_px or 0.0) / 2
        reach = max(half[0], half[1] * min(pitch_mm))
        if reach <= min(pitch_mm) / 2:
            return mask
        step = np.array([pitch_mm[1], pitch_mm[0]])
        margin = np.ceil(reach / step).astype(int) + 1
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - margin, 0)
        x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + margin + 1, (shape[1], shape[0]))
        y, x = np.mgrid[y0:y1, x0:x1]
        pixels = np.stack([x, y], axis=-1) * step
        near = np.zeros(x.shape, dtype=bool)
        for a, b in itertools.pairwise(corners) if len(corners) > 1 else [(corners[0], corners[0])]:
            near |= _distance(pixels, a * step, b * step) <= reach + 1e-9
        mask[y0:y1, x0:x1] |= near
        return mask


def marks(
    points: Iterable[tuple[float, float, int]],
    scribbles: Iterable[Scribble],
    shape: tuple[int, int],
    pitch_mm: tuple[float, float],
) -> np.ndarray:
    """int8 (h, w): 1 where clicks and scribbles say inside, -1 where they say outside, 0 where nothing is said.

    Of scribbles that cross the later one counts, and a click counts before any.
    """
    said = np.zeros(shape, dtype=np.int8)
    for scribble in scribbles:
        said[scribble.to_mask(shape, pitch_mm)] = 1 if scribble.inside else -1
    for x, y, inside in points:
        row, column = (min(max(math.floor(at + 0.5), 0), length - 1) for at, length in zip((y, x), shape, strict=True))
        said[row, column] = 1 if inside else -1
    return said


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Positions (N, 2) from a to b, both among them, closer than a pixel to each other."""
    count = math.ceil(float(np.abs(b - a).max()) * _SAMPLES) + 1
    return a + np.linspace(0, 1, count)[:, None] * (b - a)


def _distance(pixels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of pixels (h, w, 2) from the segment a to b, in their unit."""
    way = b - a
    length = float(way @ way)
    share = np.clip(((pixels - a) @ way) / length, 0, 1)[..., None] if length else 0.0
    distance: np.ndarray = np.linalg.norm(pixels - (a + share * way), axis=-1)
    return distance
