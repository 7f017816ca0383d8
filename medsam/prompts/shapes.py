"""What is drawn round or across an object, as masks and boxes: lassos, ellipses, and the axes that are measured.

Which box a line gives is measured in docs/prompts.md, "Measurements of a PACS".
Letters: h, w rows and columns of a stored slice; x, y its pixels, as pixel numbers or as edges, see each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsam.io.contours import fill
from medsam.prompts.strokes import crossed, near
from medsam.prompts.values import Box, Line, Position

# A pixel's centre that is this near to a lasso, in pixels, is on it.
_ON_LASSO = 1e-3
# Short axis of an object of which the long one is known, in long ones (docs/prompts.md).
_WIDTH = 0.5


def lassoed(corners: tuple[Position, ...], shape: tuple[int, int]) -> np.ndarray:
    """Bool (h, w): pixels whose centre a lasso runs round, or over. One too thin to hold any gives those it crosses.

    corners: pixel numbers; the last joins the first. What a lasso that crosses itself runs round more than once
    is inside, too: hands overshoot where a loop closes.
    """
    loop = (*corners, corners[0])
    inside = fill([np.array(corners, dtype=float)], shape, winding=True)
    # `fill` has half of the centres that lie on the outline, which half depends on how the slice is stored
    inside |= near(loop, shape, (1.0, 1.0), _ON_LASSO)
    return inside if inside.any() else crossed(loop, shape)


def has_area(corners: tuple[Position, ...]) -> bool:
    """Whether the corners do not all lie on one line."""
    placed = np.array(corners, dtype=float)
    # halved, as what differs by more than a number holds is far outside of any slice
    offset = placed / 2 - placed[0] / 2
    return int(np.linalg.matrix_rank(offset, tol=1e-6 * max(1.0, float(np.abs(offset).max())))) == 2


def cross(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two lines (2, 2) meet at an angle: each has its ends on both sides of the other, or on it."""
    (a0, a1), (b0, b1) = one, other
    along, across = a1 - a0, b1 - b0
    # of lines one behind the other all ends lie on both
    if abs(_side(np.zeros(2), along, across)) <= 1e-6:
        return False
    return all(
        _side(start, way, first) * _side(start, way, last) <= 1e-6
        for start, way, first, last in ((a0, along, b0, b1), (b0, across, a0, a1))
    )


def length_mm(line: np.ndarray, spacing: np.ndarray) -> float:
    """Of a line (2, 2). spacing: (x, y) mm of a pixel."""
    return float(np.linalg.norm((line[1] - line[0]) * spacing))


def line_box(line: np.ndarray, spacing: np.ndarray) -> Box:
    """The square in mm, as pixel edges, whose side is the length of a line, round its middle.

    An object is nowhere wider than its longest diameter, so this box holds the most of it that can be known.
    line: (2, 2) edges. spacing: (x, y) mm of a pixel.
    """
    half = length_mm(line, spacing) / 2 / spacing
    return box_of(line.mean(axis=0) - half, line.mean(axis=0) + half)


def axes_box(long: np.ndarray, short: np.ndarray) -> Box:
    """The box of two axes, (2, 2) edges each: of their ends, and of the ellipse with these axes."""
    centre = long.mean(axis=0)
    half = np.sqrt(((long[1] - long[0]) / 2) ** 2 + ((short[1] - short[0]) / 2) ** 2)
    ends = np.concatenate([long, short])
    return box_of(np.minimum(ends.min(axis=0), centre - half), np.maximum(ends.max(axis=0), centre + half))


def lines_box(lines: Sequence[np.ndarray], spacing: np.ndarray) -> Box:
    """Of a long axis alone or of a long and a short one, see `line_box` and `axes_box`."""
    return line_box(lines[0], spacing) if len(lines) == 1 else axes_box(lines[0], lines[1])


def axes_ellipse(lines: Sequence[Line], shape: tuple[int, int], pitch_mm: tuple[float, float]) -> np.ndarray:
    """Bool (h, w): pixels whose centre lies in the ellipse with these axes, of one alone in the circle, in mm.

    lines: the long axis, and the short one if there are two, which is taken at a right angle to it; pixel numbers.
    An ellipse between the centres has the pixels that its long axis crosses. pitch_mm: (row, column) of a pixel.
    """
    step = np.array([pitch_mm[1], pitch_mm[0]])
    long = np.array(lines[0]) * step
    half = [float(np.linalg.norm(np.subtract(*np.array(line) * step))) / 2 for line in lines]
    along = (long[1] - long[0]) / (2 * half[0]) if half[0] else np.array([1.0, 0.0])
    y, x = np.mgrid[: shape[0], : shape[1]]
    offset = np.stack([x, y], axis=-1) * step - long.mean(axis=0)
    ways = np.stack([offset @ along, offset @ np.array([-along[1], along[0]])])
    mask: np.ndarray = (ways[0] / max(half[0], 1e-9)) ** 2 + (ways[1] / max(half[-1], 1e-9)) ** 2 <= 1
    return mask if mask.any() else crossed(lines[0], shape)


def axes_distance(
    lines: Sequence[Line], origin: tuple[int, int], shape: tuple[int, int], pitch_mm: tuple[float, float]
) -> np.ndarray:
    """(h, w): the square of the distance from the centre, in half-axes; 1 on the ellipse that has the lines as axes.

    lines: one or two, pixel numbers, the long one first; of one alone the ellipse is `_WIDTH` as wide.
    origin: (x, y) of the first of the pixels. pitch_mm: (row, column) of a pixel.
    """
    pitch = np.array(pitch_mm[::-1])
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = (np.stack([x, y], axis=-1) + origin) * pitch
    (start, end), *others = (np.array(line) * pitch for line in lines)
    long = float(np.linalg.norm(end - start)) / 2
    along = (end - start) / (2 * long)
    across = np.array([-along[1], along[0]])
    centre, short = (start + end) / 2, long * _WIDTH
    for a, b in others:
        centre = centre + across * float(((a + b) / 2 - centre) @ across)
        short = max(abs(float((b - a) @ across)) / 2, min(pitch_mm) / 2)
    offset = pixels - centre
    # rounded: a slice that is stored turned over differs in the last digit
    square: np.ndarray = np.round(((offset @ along) / long) ** 2 + ((offset @ across) / short) ** 2, 9)
    return square


def box_of(low: np.ndarray, high: np.ndarray) -> Box:
    """Of its lower and its upper corner, (x, y) each."""
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    return x0, y0, x1, y1


def on_slice(box: Box, shape: tuple[int, int]) -> Box | None:
    """The part of a box that lies on its slice (h, w), of a pixel at least; None where there is none."""
    rows, columns = shape
    low, high = np.array(box[:2]), np.array(box[2:])
    middle, least = (low + high) / 2, np.maximum((high - low) / 2, 0.5)
    size = np.array([columns, rows], dtype=float)
    low, high = np.clip(middle - least, 0, size), np.clip(middle + least, 0, size)
    return None if (high - low <= 0).any() else box_of(low, high)


def _side(start: np.ndarray, way: np.ndarray, point: np.ndarray) -> float:
    """On which side of a line a point lies, by sign."""
    offset = point - start
    return float(way[0] * offset[1] - way[1] * offset[0])
