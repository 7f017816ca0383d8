"""Strokes found again in the pixels that they were drawn on: viewers send a label map of what a pen has marked.

A line is laid through the middle of each piece of it, from one far end to the other, and through what is left of it
(branches, crossings) until every pixel is near a line. A line never leaves the pixels: none says of a pixel what the
user did not.

Letters: h, w rows and columns; n pixels of a piece.
"""

from __future__ import annotations

import itertools

import numpy as np

from medsam.prompts.values import Position

# lines through one piece: the first are the long ones
_LINES = 8
# a pixel as far from a line as the pen is wide there belongs to it
_NEAR = 1.5
# of a piece: a region that was filled is no stroke, and costs time
_MOST = 200_000


def traced(mask: np.ndarray) -> list[tuple[Position, ...]]:
    """The lines through what is marked. mask: bool (h, w). Returns positions (x, y), pixel numbers, for each line."""
    from scipy import ndimage  # takes its time to import, and few prompts need it

    pieces, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    found = list[tuple[Position, ...]]()
    for number, part in enumerate(ndimage.find_objects(pieces, count), start=1):
        piece = np.pad(pieces[part] == number, 1)
        y, x = (one.start - 1 for one in part)
        found += [tuple((float(column + x), float(row + y)) for row, column in line) for line in _lines(piece)]
    return found


def _lines(piece: np.ndarray) -> list[list[tuple[int, int]]]:
    """Through one piece, which no border cuts: (row, column) of each line's corners."""
    from scipy import ndimage
    from scipy.sparse.csgraph import dijkstra

    depth = ndimage.distance_transform_edt(piece)
    rows, columns = piece.nonzero()
    if len(rows) > _MOST:
        # the middle of it says enough
        middle = np.argmax(depth[rows, columns])
        return [[(int(rows[middle]), int(columns[middle]))]]
    graph = _graph(piece, depth, rows, columns)
    deepest = int(np.argmax(depth[rows, columns]))
    from_deepest = dijkstra(graph, indices=deepest)
    start = int(np.argmax(from_deepest))
    cost, before = dijkstra(graph, indices=start, return_predecessors=True)
    left, lines = np.ones(len(rows), dtype=bool), list[list[tuple[int, int]]]()
    while left.any() and len(lines) < _LINES:
        at, line = int(np.argmax(np.where(left, cost, -1.0))), list[int]()
        while at >= 0:
            line.append(at)
            at = int(before[at])
            if at >= 0 and not left[at] and lines:
                # it joins a line that there is
                line.append(at)
                break
        lines.append(_corners([(int(rows[one]), int(columns[one])) for one in line]))
        for one in line:
            near = (rows - rows[one]) ** 2 + (columns - columns[one]) ** 2 <= (
                depth[rows[one], columns[one]] + _NEAR
            ) ** 2
            left &= ~near
    return lines


def _graph(piece: np.ndarray, depth: np.ndarray, rows: np.ndarray, columns: np.ndarray):  # type: ignore[no-untyped-def]
    """Steps between neighbouring pixels, dearer the nearer they are to the border of the piece."""
    from scipy.sparse import csr_matrix

    numbers = np.full(piece.shape, -1)
    numbers[rows, columns] = np.arange(len(rows))
    starts, ends, costs = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # a piece has a border of nothing
        others = numbers[rows + down, columns + right]
        there = others >= 0
        here = np.flatnonzero(there)
        to = others[there]
        way = np.hypot(down, right) / np.minimum(depth[rows[here], columns[here]], depth[rows[to], columns[to]])
        starts.append(here)
        ends.append(to)
        costs.append(way)
    values = np.concatenate(costs)
    both = np.concatenate([*starts, *ends]), np.concatenate([*ends, *starts])
    return csr_matrix((np.concatenate([values, values]), both), shape=(len(rows), len(rows)))


def _corners(line: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A line without the pixels that lie straight between two others."""
    if len(line) < 3:
        return line
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(line)]
    turns = [point for point, (one, other) in zip(line[1:], itertools.pairwise(steps), strict=False) if one != other]
    return [line[0], *turns, line[-1]]
