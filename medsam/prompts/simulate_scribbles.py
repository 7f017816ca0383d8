"""Scribbles drawn from reference masks: strokes of a pen inside an object, near it, or in what an answer has wrong.

Three kinds, all equally likely, each then shaky and broken:

line        straight from one random pixel of the region to another, and perhaps on to a third
centre      along the middle of the region, from one of its ends to the other
contour     round the region, at a part of its greatest depth inside its outline

They come as strokes that a person could hand in: polylines of few corners. Every pixel under a stroke is a pixel of its
region; where a stroke would leave it, the pen is lifted.

Letters: h, w rows and columns of a stored slice; N positions, (x, y) pixel numbers.
Source: the line, centre-line and contour scribbles of ScribblePrompt (Wong et al. 2024, arXiv 2312.07381, section 3.2),
written from their description. There they are drawn as masks, and a centre line follows the whole skeleton.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from medsam.errors import PromptError
from medsam.io.outlines import outlines
from medsam.masks import bounding_box
from medsam.prompts.shaky import SmoothNoise, shaken
from medsam.prompts.simulate import Noise, depth_of, error_regions, radius_of, surroundings
from medsam.prompts.strokes import Scribble, crossed

ScribbleKind = Literal["line", "centre", "contour"]

# Of what a stroke is drawn through, the longer side in blocks: a path along the middle needs no more.
_BLOCKS = 96
# a stroke that is broken leaves at most so many pieces, the longest
_PIECES = 3
# pixels that a chord may lie off the drawn line, and the same as a share of the region's radius
_STRAIGHT_PX, _STRAIGHT = 0.4, 0.02
# how near an object a stroke outside of it is drawn, in radii of the object, at least in pixels
_NEAR, _NEAR_PX = 1.0, 8.0


@dataclass(frozen=True)
class _Hand:
    """shake: a stroke's displacement in radii of its region. gaps: shares of it that may be missing, from and to."""

    shake: float
    gaps: tuple[float, float]


_HANDS: dict[Noise, _Hand] = {"clean": _Hand(0.05, (0.0, 0.3)), "noisy": _Hand(0.2, (0.2, 0.6))}


def scribble_in(
    region: np.ndarray,
    rng: np.random.Generator,
    *,
    inside: bool = True,
    kind: ScribbleKind | None = None,
    noise: Noise = "clean",
) -> tuple[Scribble, ...]:
    """One stroke in the largest connected piece of a region, bool (h, w): the parts that it was broken into, at most 3.

    inside: what the stroke says. kind: None draws one. The same state of `rng` draws the same.
    Raises PromptError for an empty region.
    """
    region = np.asarray(region, dtype=bool)
    part = bounding_box(region)
    if part is None:
        raise PromptError("There is no place for a scribble in an empty region.")
    corner = np.array([part[1].start, part[0].start])
    piece = _largest(region[part])
    depth, radius, hand = depth_of(piece), radius_of(piece), _HANDS[noise]
    drawn = kind or get_args(ScribbleKind)[int(rng.integers(3))]
    line = {"line": _random_line, "centre": _centre_line, "contour": _contour}[drawn](depth, rng)
    broken = _broken(_moved(line, depth, radius, hand, rng), hand, radius, rng)
    tolerance = max(_STRAIGHT_PX, _STRAIGHT * radius)
    pieces = [chords for run in broken for chords in _chords(np.round(run, 2) + corner, piece, corner, tolerance)]
    longest = sorted(range(len(pieces)), key=lambda n: -_length(pieces[n]))[:_PIECES]
    strokes = [pieces[n] for n in sorted(longest) if len(pieces[n]) > 1] or [pieces[longest[0]]]
    return tuple(Scribble(tuple(map(tuple, stroke.tolist())), inside) for stroke in strokes)


def scribble_near(truth: np.ndarray, rng: np.random.Generator, *, noise: Noise = "clean") -> tuple[Scribble, ...]:
    """A stroke outside an object (h, w), in the background within about its radius; () where there is none of that.

    Raises PromptError for an empty mask.
    """
    truth = np.asarray(truth, dtype=bool)
    if not truth.any():
        raise PromptError("There is no place for a scribble near an empty mask.")
    reach = max(_NEAR * radius_of(truth), _NEAR_PX)
    around = surroundings(truth, reach)
    away = ndimage.distance_transform_edt(~truth[around])
    near = np.zeros_like(truth)
    near[around] = (away > 1) & (away <= reach)
    return scribble_in(near, rng, inside=False, noise=noise) if near.any() else ()


def next_scribble(
    truth: np.ndarray, answer: np.ndarray | None, rng: np.random.Generator, *, noise: Noise = "clean"
) -> tuple[Scribble, ...]:
    """The stroke that corrects the largest connected error of an answer, (h, w) both; () when there is none.

    It says inside where that was missed, and outside where it is too much. answer None: nothing yet.
    With noise, one time in five it is drawn in the second largest.
    Raises PromptError on unequal shapes.
    """
    wrong = error_regions(truth, answer)
    sizes = np.bincount(wrong.ravel())[1:]
    if not len(sizes):
        return ()
    order = np.argsort(-sizes, kind="stable")
    chosen = order[min(int(noise == "noisy" and rng.random() < 0.2), len(order) - 1)] + 1
    region = wrong == chosen
    return scribble_in(region, rng, inside=bool(np.asarray(truth)[region][0]), noise=noise)


# -- what the pen follows, from the depth (h, w) of a piece ----------------------------------------------------------


def _random_line(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through two or three random pixels, the deeper the likelier. Positions (N, 2) less than a pixel apart."""
    chance = (depth / depth.sum()).ravel()
    pixels = rng.choice(depth.size, size=int(rng.integers(2, 4)), p=chance)
    rows, columns = np.divmod(pixels, depth.shape[1])
    return _dense(np.stack([columns, rows], axis=1).astype(float))


def _centre_line(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Along the ridge of the depth, between the two places that are farthest from each other; its ends left out."""
    rows, columns, graph, length = _ridge_graph(depth)
    deepest = int(np.argmax(depth[rows, columns]))
    here = _farthest(length, deepest)
    there = _farthest(length, here)
    _, before = csgraph.dijkstra(graph, directed=False, indices=here, return_predecessors=True)
    way = [there]
    while way[-1] != here:
        way.append(int(before[way[-1]]))
    along = depth[rows[way], columns[way]]
    middle = np.flatnonzero(along >= np.median(along) / 2)
    kept = way[middle[0] : middle[-1] + 1]
    return _dense(np.stack([columns[kept], rows[kept]], axis=1).astype(float))


def _contour(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round a piece at 0.3 to 0.7 of its depth, from anywhere on it; a piece too thin for that has a centre line."""
    level = rng.uniform(0.3, 0.7) * depth.max()
    if level < 1:
        return _centre_line(depth, rng)
    ((_, loops),) = outlines((depth > level)[None])
    closed = _dense(max((np.concatenate([one.points, one.points[:1]]) for one in loops), key=_length))
    # an outline runs along the pixels' edges, in stairs; a pen does not
    smooth = ndimage.uniform_filter1d(closed[:-1], size=min(9, len(closed) - 1), axis=0, mode="wrap")
    begun = np.roll(smooth, -int(rng.integers(len(smooth))), axis=0)
    return np.concatenate([begun, begun[:1]])


def _ridge_graph(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, sparse.csr_array, sparse.csr_array]:
    """Rows and columns (N,) of the deepest pixel of each block, and what joins those of neighbouring blocks.

    The two graphs (N, N): what a way costs, the more the farther it lies from the ridge, and how long it is.
    """
    step = max(1, math.ceil(max(depth.shape) / _BLOCKS))
    size = [-(-length // step) for length in depth.shape]
    padded = np.zeros((size[0] * step, size[1] * step))
    padded[: depth.shape[0], : depth.shape[1]] = depth
    blocks = padded.reshape(size[0], step, size[1], step).swapaxes(1, 2).reshape(*size, -1)
    place = blocks.argmax(axis=2)
    number = np.full(size, -1)
    filled = blocks.max(axis=2) > 0
    number[filled] = np.arange(np.count_nonzero(filled))
    block_rows, block_columns = np.nonzero(filled)
    rows = block_rows * step + place[filled] // step
    columns = block_columns * step + place[filled] % step
    pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    pairs += [(number[:-1, :-1], number[1:, 1:]), (number[:-1, 1:], number[1:, :-1])]
    a, b = (np.concatenate([pair[end].ravel() for pair in pairs]) for end in (0, 1))
    a, b = a[(a >= 0) & (b >= 0)], b[(a >= 0) & (b >= 0)]
    length = np.hypot(rows[a] - rows[b], columns[a] - columns[b])
    shallow = np.minimum(depth[rows[a], columns[a]], depth[rows[b], columns[b]])
    shape = (len(rows), len(rows))
    cost = length * (depth.max() / shallow) ** 2
    graphs = [sparse.coo_array((values, (a, b)), shape=shape).tocsr() for values in (cost, length)]
    return rows, columns, graphs[0], graphs[1]


def _farthest(length: sparse.csr_array, node: int) -> int:
    """The node to which the shortest way from another is longest."""
    far = csgraph.dijkstra(length, directed=False, indices=node)
    return int(np.argmax(np.where(np.isfinite(far), far, -1)))


# -- how it is drawn -------------------------------------------------------------------------------------------------


def _moved(line: np.ndarray, depth: np.ndarray, radius: float, hand: _Hand, rng: np.random.Generator) -> np.ndarray:
    """What of a line (N, 2) lies in a piece, shaky; who draws in it takes care not to cross its outline."""
    line = line[_depth_at(line, depth) > 0]
    way = shaken(line, hand.shake * radius, radius, rng) - line
    # a pixel outside is reached, at its corner, 0.71 nearer than its centre is
    off_centre = np.linalg.norm(line - np.floor(line + 0.5), axis=1)
    most = np.maximum(0.9 * (_depth_at(line, depth) - math.sqrt(0.5) - off_centre), 0)
    moved: np.ndarray = line + way * np.minimum(1, most / np.maximum(np.linalg.norm(way, axis=1), 1e-9))[:, None]
    return moved


def _broken(line: np.ndarray, hand: _Hand, radius: float, rng: np.random.Generator) -> list[np.ndarray]:
    """The runs of a line (N, 2) that the pen has left."""
    strength = SmoothNoise.draw(line, max(radius, 2), rng).at(line)[:, 0]
    kept = strength >= np.quantile(strength, rng.uniform(*hand.gaps))
    runs = np.split(np.arange(len(line)), np.flatnonzero(np.diff(kept)) + 1)
    return [line[run] for run in runs if kept[run[0]]]


def _chords(line: np.ndarray, region: np.ndarray, corner: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """A line (N, 2) with few corners, in pieces where it leaves the region; it lies no farther from it than told.

    region: bool, a part of the slice that begins at `corner` (x, y). Source: Ramer 1972.
    """
    corners, lifted, todo = {0, len(line) - 1}, set(), [(0, len(line) - 1)]
    while todo:
        first, last = todo.pop()
        if first == last:
            continue
        away = _away(line[first : last + 1])
        farthest = int(np.argmax(away))
        if away[farthest] <= tolerance and _lies_in(line[first], line[last], region, corner):
            continue
        if last - first == 1:
            lifted.add(last)
            continue
        middle = first + farthest if 0 < farthest < last - first else (first + last) // 2
        corners.add(middle)
        todo += [(first, middle), (middle, last)]
    ordered = sorted(corners)
    cuts = [ordered.index(n) for n in sorted(lifted)]
    return [line[ordered[a:b]] for a, b in itertools.pairwise([0, *cuts, len(ordered)])]


def _away(line: np.ndarray) -> np.ndarray:
    """Distance of each of the positions (N, 2) to the straight line from the first to the last."""
    way = line[-1] - line[0]
    length = float(np.hypot(*way))
    offset = line - line[0]
    if length == 0:
        return np.linalg.norm(offset, axis=1)
    distance: np.ndarray = np.abs(way[0] * offset[:, 1] - way[1] * offset[:, 0]) / length
    return distance


def _lies_in(a: np.ndarray, b: np.ndarray, region: np.ndarray, corner: np.ndarray) -> bool:
    """Whether all pixels that a chord crosses are of a region, which begins at `corner`."""
    low = np.floor(np.minimum(a, b)).astype(int) - 1
    columns, rows = np.ceil(np.maximum(a, b)).astype(int) - low + 2
    stroke = crossed((tuple(a - low), tuple(b - low)), (int(rows), int(columns)))
    y, x = np.nonzero(stroke)
    y, x = y + low[1] - corner[1], x + low[0] - corner[0]
    there = (y >= 0) & (x >= 0) & (y < region.shape[0]) & (x < region.shape[1])
    return bool(there.all() and region[y, x].all())


def _depth_at(points: np.ndarray, depth: np.ndarray) -> np.ndarray:
    columns, rows = np.floor(points + 0.5).astype(int).T
    there = (rows >= 0) & (columns >= 0) & (rows < depth.shape[0]) & (columns < depth.shape[1])
    found = np.zeros(len(points))
    found[there] = depth[rows[there], columns[there]]
    return found


def _dense(corners: np.ndarray) -> np.ndarray:
    """Positions along a polyline (N, 2), its corners among them, at most half a pixel apart."""
    parts = [corners[:1]]
    for a, b in itertools.pairwise(corners):
        count = math.ceil(2 * float(np.linalg.norm(b - a)))
        parts.append(a + np.linspace(0, 1, count + 1)[1:, None] * (b - a))
    return np.concatenate(parts)


def _length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _largest(region: np.ndarray) -> np.ndarray:
    """The largest of its connected pieces."""
    pieces, count = ndimage.label(region)
    return region if count == 1 else pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
