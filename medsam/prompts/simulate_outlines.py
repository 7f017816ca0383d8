"""A lasso, a line across and an ellipse, drawn from reference masks as a person would draw them.

Letters: h, w rows and columns of a stored slice; N corners, (x, y) pixel numbers: the centre of column n is n.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from medsam.errors import PromptError
from medsam.io.outlines import outlines
from medsam.prompts.shaky import shaken
from medsam.prompts.simulate import Noise, radius_of, surroundings
from medsam.prompts.values import Line, Position

Polygon = tuple[Position, ...]

# Of a lasso: how far outside of the object it runs, from and to, and how far its corners stray, in radii of the object;
# the least margin in pixels; how far its corners lie apart, in radii and at least in pixels; and how many it has.
_MARGIN: dict[Noise, tuple[float, float]] = {"clean": (0.05, 0.15), "noisy": (0.0, 0.25)}
_STRAY: dict[Noise, float] = {"clean": 0.02, "noisy": 0.07}
_LEAST_MARGIN_PX, _SIDE, _SIDE_PX, _CORNERS = 0.75, 0.3, 3.0, (8, 60)
# how far the ends of a noisy line move, and the edges of a noisy ellipse, in lengths of the long axis
_END = 0.05


def lasso(truth: np.ndarray, rng: np.random.Generator, noise: Noise = "clean") -> tuple[Polygon, ...]:
    """What is drawn round an object, bool (h, w), by hand: a closed polygon of 8 to 60 corners.

    r is the radius of the disc of the same area. The polygon runs outside of the object by 0.05 to 0.15 r, shaky by
    0.02 r; on a disc the Dice of what it encloses is about 0.9. With noise it runs by 0 to 0.25 r outside, shaky by
    0.07 r, and cuts into the object here and there. Parts that lie farther than that from each other get one each.
    The same state of `rng` draws the same. Raises PromptError for an empty mask.
    """
    truth = np.asarray(truth, dtype=bool)
    if not truth.any():
        raise PromptError("There is no lasso round an empty mask.")
    radius = radius_of(truth)
    margin = max(rng.uniform(*_MARGIN[noise]) * radius, _LEAST_MARGIN_PX)
    # beyond the slice, too: a hand does not stop at its border, and the corners are moved back afterwards
    beyond = math.ceil(margin) + 2
    around = surroundings(truth, 0)
    away = ndimage.distance_transform_edt(~np.pad(truth[around], beyond))
    corner = np.array([around[1].start, around[0].start]) - beyond
    ((_, loops),) = outlines((away <= margin + 0.5)[None])
    found = []
    for loop in loops:
        if not loop.hole:
            side = max(_SIDE * radius, _SIDE_PX)
            moved = shaken(_corners_along(loop.points, side), _STRAY[noise] * radius, radius, rng) + corner
            high = np.array(truth.shape[::-1]) - 0.5
            found.append(tuple(map(tuple, np.clip(moved, -0.5, high).tolist())))
    return tuple(found)


def diameters(
    truth: np.ndarray,
    pitch_mm: tuple[float, float] = (1.0, 1.0),
    rng: np.random.Generator | None = None,
) -> tuple[Line, Line]:
    """RECIST's axes of an object, bool (h, w): the longest line across, and the longest one at a right angle to it.

    From the outer edge of one pixel to that of another: half a pixel beyond their centres. pitch_mm: (row, column) of a
    pixel; right angles and lengths are those in millimetres. rng: moves each end, normally distributed, by a twentieth
    of the long axis. Raises PromptError for an empty mask.
    Source: Eisenhauer et al. 2009 (RECIST 1.1); exact over pixels.
    """
    rows, columns = np.nonzero(truth)
    if not len(rows):
        raise PromptError("There is no line across an empty mask.")
    pitch = np.array([pitch_mm[1], pitch_mm[0]])
    centres = np.stack([columns, rows], axis=1) * pitch
    a, b = _farthest_two(centres)
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length if length else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    long = np.stack([a - along * _half(along, pitch), b + along * _half(along, pitch)])
    # how far the object reaches on both sides, in strips a pixel wide across the long axis
    at, side = (centres - a) @ along, (centres - a) @ across
    strips = np.floor(at / min(pitch) + 0.5).astype(int)
    strips -= strips.min()
    low, high = np.full((2, strips.max() + 1), np.nan)
    np.fmin.at(low, strips, side)
    np.fmax.at(high, strips, side)
    widest = int(np.nanargmax(high - low))
    foot = a + along * float(at[strips == widest].mean())
    reach = _half(across, pitch)
    short = np.stack([foot + across * (low[widest] - reach), foot + across * (high[widest] + reach)])
    if rng is not None:
        sigma = _END * float(np.linalg.norm(long[1] - long[0]))
        long, short = long + rng.normal(0, sigma, (2, 2)), short + rng.normal(0, sigma, (2, 2))
    return _line(long / pitch, truth.shape), _line(short / pitch, truth.shape)


def ellipse_box(truth: np.ndarray, rng: np.random.Generator | None = None) -> tuple[float, float, float, float]:
    """The box (x0, y0, x1, y1) of the upright ellipse that has an object's centre and spread, (h, w), on the slice.

    An ellipse is its own. rng: moves each edge, normally distributed, by a twentieth of the longer side.
    Raises PromptError for an empty mask.
    """
    rows, columns = np.nonzero(truth)
    if not len(rows):
        raise PromptError("There is no ellipse of an empty mask.")
    edges = []
    for places in (columns, rows):
        # a filled ellipse of half axis a has the variance a^2 / 4; a pixel has 1/12 of its own
        half = 2 * math.sqrt(float(places.var()) + 1 / 12)
        edges.append((places.mean() + 0.5 - half, places.mean() + 0.5 + half))
    (x0, x1), (y0, y1) = edges
    box = np.array([x0, y0, x1, y1])
    if rng is not None:
        box += rng.normal(0, _END * max(x1 - x0, y1 - y0), 4)
    size = np.array([truth.shape[1], truth.shape[0]] * 2)
    low, high = np.clip(box[:2], 0, size[:2] - 1), np.clip(box[2:], 1, size[2:])
    low, high = np.minimum(low, (low + high - 1) / 2), np.maximum(high, (low + high + 1) / 2)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _corners_along(loop: np.ndarray, side: float) -> np.ndarray:
    """About so many corners as a closed outline (N, 2) has sides of that length, at equal distances along it."""
    closed = np.concatenate([loop, loop[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = int(np.clip(round(along[-1] / side), *_CORNERS))
    places = np.arange(count) * along[-1] / count
    return np.stack([np.interp(places, along, closed[:, n]) for n in (0, 1)], axis=1)


def _farthest_two(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of positions (N, 2), two that are farthest from each other."""
    if np.linalg.matrix_rank(centres - centres[0]) == 2:
        centres = centres[ConvexHull(centres).vertices]
    else:
        # on one line, whose ends are the first and the last however it runs
        order = np.lexsort(centres.T)
        centres = centres[order[[0, -1]]]
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    first, second = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return centres[first], centres[second]


def _half(way: np.ndarray, pitch: np.ndarray) -> float:
    """Half a pixel in mm along a direction of length 1."""
    return float(np.linalg.norm(way * pitch)) / 2


def _line(ends: np.ndarray, shape: tuple[int, ...]) -> Line:
    (x0, y0), (x1, y1) = np.clip(ends, -0.5, np.array(shape[::-1]) - 0.5).tolist()
    return (x0, y0), (x1, y1)
