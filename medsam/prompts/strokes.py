"""What is drawn on a slice with a pen: scribbles, and where they and clicks say what is inside and what is not.

Positions are pixel numbers of the stored slice, as those of clicks: the centre of column n is n.
Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from medsam.errors import PromptError
from medsam.masks import CompactMask
from medsam.prompts.values import Point, Position, finite, pixel_at, positions

# Samples a pixel along a stroke: none of the pixels that it crosses by more than a corner is missed.
_SAMPLES = 4
# Clicks that a stroke becomes at most for a network that knows no strokes.
_CLICKS = 8
# Nearer than this to the border between two pixels, in pixels, a stroke is on it, and crosses both.
_ON_BORDER = 1e-6
# Ways between corners of a stroke that are followed at once, and samples of all of them at most.
_AT_ONCE, _MOST_SAMPLES = 1000, 500_000
# No pen is wider, mm; the width is squared.
_MOST_REACH = 1e6
# Strokes whose pixels are kept: each step of a session asks several times for those of all before it.
_KEPT = 128


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
        return _drawn(self, tuple(shape), tuple(pitch_mm)).to_array()


ClickOrStroke = Point | Scribble


@lru_cache(maxsize=_KEPT)
def _drawn(scribble: Scribble, shape: tuple[int, int], pitch_mm: tuple[float, float]) -> CompactMask:
    """See `Scribble.to_mask`."""
    mask = crossed(scribble.points, shape)
    reach = max((scribble.width_mm or 0.0) / 2, (scribble.width_px or 0.0) / 2 * min(pitch_mm))
    if reach > min(pitch_mm) / 2:
        mask |= near(scribble.points, shape, pitch_mm, min(reach, _MOST_REACH))
    return CompactMask.of(mask)


def crossed(points: tuple[Position, ...], shape: tuple[int, int]) -> np.ndarray:
    """Bool (h, w): every pixel that a line through the points crosses by more than a corner."""
    mask = np.zeros(shape, dtype=bool)
    corners = np.array(points, dtype=float)
    away = False
    # not all at once: thousands of long ways have more positions than fit
    for first in range(0, max(len(corners) - 1, 1), _AT_ONCE):
        here = corners[first : first + _AT_ONCE + 1]
        low, high = _pixels_at(np.concatenate([_between(a, b) for a, b in itertools.pairwise(here)] or [here]))
        by_more = ~(low < high).all(axis=1)
        away |= bool(by_more.any())
        _set(mask, low[by_more], high[by_more])
    if not away:
        # it never leaves a corner
        _set(mask, *_pixels_at(corners[:1]))
    return mask


def near(
    points: tuple[Position, ...], shape: tuple[int, int], pitch_mm: tuple[float, float], reach_mm: float
) -> np.ndarray:
    """Bool (h, w): pixels whose centre is within `reach_mm` of a line through the points."""
    from scipy.spatial import KDTree  # takes its time to import, and few prompts need it

    mask = np.zeros(shape, dtype=bool)
    step, size = np.array([pitch_mm[1], pitch_mm[0]]), np.array(shape[::-1])
    corners = np.array(points, dtype=float) * step
    low = np.clip(np.floor((corners.min(axis=0) - reach_mm) / step), 0, size).astype(int)
    high = np.clip(np.ceil((corners.max(axis=0) + reach_mm) / step) + 1, 0, size).astype(int)
    if (low >= high).any():
        return mask
    starts, ends = (corners[:-1], corners[1:]) if len(corners) > 1 else (corners, corners)
    samples, of, gap = _sampled(starts, ends, min(pitch_mm) / _SAMPLES)
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
    pixels = np.stack([x, y], axis=-1) * step
    tree = KDTree(samples)
    nearest, _ = tree.query(pixels.reshape(-1, 2), distance_upper_bound=reach_mm + gap)
    nearest = nearest.reshape(x.shape)
    part = mask[low[1] : high[1], low[0] : high[0]]
    part |= nearest <= reach_mm
    # the way itself may be nearer than its samples, by so much at most
    farthest = math.hypot(reach_mm, gap) * (1 + 1e-9) + 1e-9
    for row, column in np.argwhere(~part & (nearest <= farthest)).tolist():
        ways = np.unique(of[tree.query_ball_point(pixels[row, column], farthest)])
        part[row, column] = _distances(pixels[row, column], starts[ways], ends[ways]).min() <= reach_mm + 1e-9
    return mask


def marked(mark: ClickOrStroke, shape: tuple[int, int], pitch_mm: tuple[float, float]) -> tuple[np.ndarray, bool]:
    """The pixels of a click or stroke, bool (h, w), and whether they are inside."""
    if isinstance(mark, Scribble):
        return mark.to_mask(shape, pitch_mm), mark.inside
    x, y, inside = mark
    where = np.zeros(shape, dtype=bool)
    where[pixel_at((x, y), shape)] = True
    return where, bool(inside)


def marks(given: Iterable[ClickOrStroke], shape: tuple[int, int], pitch_mm: tuple[float, float]) -> np.ndarray:
    """int8 (h, w): 1 where clicks and scribbles say inside, -1 where they say outside, 0 where nothing is said.

    given: in their order; where they cross the later one counts.
    """
    said = np.zeros(shape, dtype=np.int8)
    for one in given:
        where, inside = marked(one, shape, pitch_mm)
        said[where] = 1 if inside else -1
    return said


def as_clicks(given: Iterable[ClickOrStroke], shape: tuple[int, int]) -> tuple[Point, ...]:
    """The points, and some along each stroke, ends among them: for a network that knows clicks and no strokes.

    At most `_CLICKS` of a stroke, at equal distances in pixels; none where what came later has the last word.
    """
    ordered = tuple(given)
    said = marks(ordered, shape, (1.0, 1.0))
    found = [point for one in ordered for point in (_along(one) if isinstance(one, Scribble) else (one,))]
    return tuple(dict.fromkeys(point for point in found if _holds(said, point)))


def spots(given: Iterable[ClickOrStroke], shape: tuple[int, int]) -> tuple[Point, ...]:
    """The points, and every pixel that the strokes cross as a point of its own: all that a user has said, as clicks.

    Of a pixel that was said to be inside and outside the later counts.
    """
    thin = [replace(one, width_mm=None, width_px=None) if isinstance(one, Scribble) else one for one in given]
    said = marks(thin, shape, (1.0, 1.0))
    points = [one for one in thin if not isinstance(one, Scribble) and _holds(said, one)]
    rows, columns = said.nonzero()
    sides = (said[rows, columns] > 0).astype(int)
    return (*points, *zip(columns.tolist(), rows.tolist(), sides.tolist(), strict=True))


def _holds(said: np.ndarray, point: Point) -> bool:
    """Whether nothing later took back what a point says. said: see `marks`."""
    return bool(said[pixel_at(point[:2], said.shape)] == (1 if point[2] else -1))


def _along(scribble: Scribble) -> list[Point]:
    """At most `_CLICKS` points of a stroke, at equal distances in pixels."""
    corners = np.array(scribble.points)
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    at = np.linspace(0, steps[-1], min(_CLICKS, 1 + round(float(steps[-1]))))
    rows = (np.round(np.interp(at, steps, line), 6).tolist() for line in corners.T)
    return [(x, y, int(scribble.inside)) for x, y in zip(*rows, strict=True)]


def _width(value: object) -> float:
    width = finite(value)
    if width is None or width <= 0:
        raise PromptError(f"The width of a scribble is a number above 0, not {str(value)[:20]!r}.")
    return width


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Positions (N, 2) from a to b, both among them, closer than a pixel to each other."""
    count = math.ceil(float(np.abs(b - a).max()) * _SAMPLES) + 1
    return a + np.linspace(0, 1, count)[:, None] * (b - a)


def _pixels_at(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest pixel (N, 2) that each position touches; two where it lies on their border."""
    low, high = np.ceil(positions - 0.5 - _ON_BORDER), np.floor(positions + 0.5 + _ON_BORDER)
    return low.astype(int), high.astype(int)


def _set(mask: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Set those of the pixels (N, 2) that are on the slice, and those between them."""
    last = np.array(mask.shape[::-1]) - 1
    for columns, rows in itertools.product((low[:, 0], high[:, 0]), (low[:, 1], high[:, 1])):
        there = (columns >= 0) & (columns <= last[0]) & (rows >= 0) & (rows <= last[1])
        mask[rows[there], columns[there]] = True


def _sampled(starts: np.ndarray, ends: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions (N, 2) along ways (S, 2), all ends among them, of which way each is, and their largest distance.

    gap: that is asked for; it is larger where there would be too many of them.
    """
    lengths = np.linalg.norm(ends - starts, axis=1)
    gap = max(gap, float(lengths.sum()) / _MOST_SAMPLES)
    counts = np.maximum(np.ceil(lengths / gap).astype(int), 1)
    of = np.repeat(np.arange(len(counts)), counts)
    share = (np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[of]
    samples = starts[of] + share[:, None] * (ends - starts)[of]
    return np.concatenate([samples, ends[-1:]]), np.append(of, len(counts) - 1), gap


def _distances(pixel: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Of a pixel (2,) from ways (S, 2), in their unit."""
    ways = ends - starts
    squares = (ways**2).sum(axis=1)
    along = ((pixel - starts) * ways).sum(axis=1)
    share = np.clip(np.divide(along, squares, out=np.zeros_like(along), where=squares > 0), 0, 1)
    distances: np.ndarray = np.linalg.norm(pixel - (starts + share[:, None] * ways), axis=1)
    return distances
