"""What is drawn on a slice with a pen: scribbles, and where they and clicks say what is inside and what is not.

Positions are pixel numbers of the stored slice, as those of clicks: the centre of column n is n.
Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from medsam.errors import PromptError
from medsam.prompts.values import Point, Position, finite, positions

# Samples a pixel along a stroke: none of the pixels that it crosses by more than a corner is missed.
_SAMPLES = 4
# Clicks that a stroke becomes at most for a network that knows no strokes.
_CLICKS = 8
# Nearer than this to the border between two pixels, in pixels, a stroke is on it, and crosses both.
_ON_BORDER = 1e-6


@dataclass(frozen=True)
class Scribble:
    """A stroke of a pen. points: its corners; a single one is a dot. inside: whether the object is under it.

    width_mm, width_px: of the pen, at most one of them; neither: a pixel wide. Where pixels are not square, a pen so
    many pixels wide is round in millimetres, and its pixels are the smaller side's.
    Raises PromptError for points that are none or not finite, and a width that is no positive number.
    """

    points: tuple[Position, ...]
    inside: bool = True
    width_mm: float | None = None
    width_px: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", positions(self.points, "The points of a scribble", 1))
        if self.inside not in (0, 1):
            raise PromptError(f"A scribble is inside (True) or outside (False), not {str(self.inside)[:20]!r}.")
        object.__setattr__(self, "inside", bool(self.inside))
        if self.width_mm is not None and self.width_px is not None:
            raise PromptError(f"{self} has both a width in mm and one in pixels. Leave one out.")
        for name in ("width_mm", "width_px"):
            if (width := getattr(self, name)) is not None:
                object.__setattr__(self, name, _width(width))

    def __str__(self) -> str:
        first = " ".join(f"{x:g},{y:g}" for x, y in self.points[:3])
        more = f" ... ({len(self.points)} points)" if len(self.points) > 3 else ""
        return f"The scribble {first}{more}{'' if self.inside else ' outside'}"

    def to_mask(self, shape: tuple[int, int], pitch_mm: tuple[float, float]) -> np.ndarray:
        """Bool (h, w): every pixel that the stroke crosses, and those whose centre is within half its width.

        On the border of two pixels it crosses both, so that a slice that is stored turned over has the same.
        pitch_mm: (row, column) of a pixel.
        """
        mask = crossed(self.points, shape)
        reach = max((self.width_mm or 0.0) / 2, (self.width_px or 0.0) / 2 * min(pitch_mm))
        if reach > min(pitch_mm) / 2:
            mask |= near(self.points, shape, pitch_mm, reach)
        return mask


def crossed(points: tuple[Position, ...], shape: tuple[int, int]) -> np.ndarray:
    """Bool (h, w): every pixel that a line through the points crosses by more than a corner."""
    mask = np.zeros(shape, dtype=bool)
    corners = np.array(points, dtype=float)
    along = np.concatenate([_between(a, b) for a, b in itertools.pairwise(corners)] or [corners])
    low, high = np.ceil(along - 0.5 - _ON_BORDER).astype(int), np.floor(along + 0.5 + _ON_BORDER).astype(int)
    at_corner = (low < high).all(axis=1)
    if not at_corner.all():
        low, high = low[~at_corner], high[~at_corner]
    last = np.array(shape[::-1]) - 1
    for columns, rows in itertools.product((low[:, 0], high[:, 0]), (low[:, 1], high[:, 1])):
        there = (columns >= 0) & (columns <= last[0]) & (rows >= 0) & (rows <= last[1])
        mask[rows[there], columns[there]] = True
    return mask


def near(
    points: tuple[Position, ...], shape: tuple[int, int], pitch_mm: tuple[float, float], reach_mm: float
) -> np.ndarray:
    """Bool (h, w): pixels whose centre is within `reach_mm` of a line through the points."""
    mask = np.zeros(shape, dtype=bool)
    step = np.array([pitch_mm[1], pitch_mm[0]])
    corners, margin = np.array(points, dtype=float), np.ceil(reach_mm / step).astype(int) + 1
    for a, b in itertools.pairwise(corners) if len(corners) > 1 else [(corners[0], corners[0])]:
        x0, y0 = np.maximum(np.floor(np.minimum(a, b)).astype(int) - margin, 0)
        x1, y1 = np.minimum(np.ceil(np.maximum(a, b)).astype(int) + margin + 1, (shape[1], shape[0]))
        y, x = np.mgrid[y0:y1, x0:x1]
        mask[y0:y1, x0:x1] |= _distance(np.stack([x, y], axis=-1) * step, a * step, b * step) <= reach_mm + 1e-9
    return mask


def marks(
    points: Iterable[Point],
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


def as_clicks(points: Iterable[Point], scribbles: Iterable[Scribble], shape: tuple[int, int]) -> tuple[Point, ...]:
    """The points, and some along each stroke, ends among them: for a network that knows clicks and no strokes.

    At most `_CLICKS` of a stroke, at equal distances in pixels; none where a later stroke or a point has the last word.
    """
    given, strokes = tuple(points), tuple(scribbles)
    said = marks(given, strokes, shape, (1.0, 1.0))
    found = list(given)
    for scribble in strokes:
        corners = np.array(scribble.points)
        steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
        at = np.linspace(0, steps[-1], min(_CLICKS, 1 + round(float(steps[-1]))))
        for x, y in zip(*(np.round(np.interp(at, steps, line), 6).tolist() for line in corners.T), strict=True):
            row, column = (
                min(max(math.floor(n + 0.5), 0), length - 1) for n, length in zip((y, x), shape, strict=True)
            )
            if said[row, column] == (1 if scribble.inside else -1):
                found.append((x, y, int(scribble.inside)))
    return tuple(found)


def spots(points: Iterable[Point], scribbles: Iterable[Scribble], shape: tuple[int, int]) -> tuple[Point, ...]:
    """The points, and every pixel that the strokes cross as a point of its own: all that a user has said, as clicks."""
    lines = [replace(scribble, width_mm=None, width_px=None) for scribble in scribbles]
    said = marks((), lines, shape, (1.0, 1.0))
    rows, columns = said.nonzero()
    sides = (said[rows, columns] > 0).astype(int)
    return (*points, *zip(columns.tolist(), rows.tolist(), sides.tolist(), strict=True))


def _width(value: object) -> float:
    width = finite(value)
    if width is None or width <= 0:
        raise PromptError(f"The width of a scribble is a number above 0, not {str(value)[:20]!r}.")
    return width


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
