"""Pixels -> closed contours, and back by two rules: even-odd (ours) and winding numbers (written here)."""

from __future__ import annotations

import numpy as np
import pytest
from contourpy import contour_generator
from drawn import HOLE
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medsam.io.contours import enclosed
from medsam.io.outlines import outlines


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[[pixel == "#" for pixel in row] for row in rows]])


def drawn(mask: np.ndarray, keyhole: bool = False) -> list[list[tuple[float, float]]]:
    """The loops of a single slice as lists of (column, row)."""
    return [
        [tuple(point) for point in loop.points.tolist()]
        for _, loops in outlines(mask, keyhole=keyhole)
        for loop in loops
    ]


def winding_numbers(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """How often the loops run clockwise round each pixel's centre."""
    columns, turns = np.arange(shape[1]), np.zeros(shape, dtype=int)
    for loop in loops:
        for (x0, y0), (x1, y1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            for row in range(max(0, int(np.ceil(min(y0, y1)))), min(shape[0], int(np.ceil(max(y0, y1))))):
                crossing = x0 + (row - y0) * (x1 - x0) / (y1 - y0)
                turns[row] += np.where(columns > crossing, 1 if y1 < y0 else -1, 0)
    return turns


ISLAND = (
    "#########",
    "#.......#",
    "#.#####.#",
    "#.#.#.#.#",
    "#.#####.#",
    "#.......#",
    "#########",
)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
masks = shapes.flatmap(lambda shape: arrays(bool, shape))


@pytest.mark.parametrize("keyhole", [False, True])
@settings(max_examples=150, deadline=None)
@given(mask=masks)
@example(mask=np.ones((2, 3, 4), bool))
@example(mask=mask_of("#"))
@example(mask=mask_of(*HOLE))
@example(mask=mask_of(*ISLAND))
@example(mask=np.indices((1, 9, 9)).sum(axis=0) % 2 == 0)
def test_outlines_enclose_the_mask_and_nothing_else_by_both_rules(mask, keyhole):
    even_odd, winding = np.zeros_like(mask), np.zeros_like(mask)
    for k, loops in outlines(mask, keyhole=keyhole):
        points = [loop.points for loop in loops]
        assert all(len(loop) >= 4 for loop in points)
        assert all((loop != np.roll(loop, 1, axis=0)).any(axis=1).all() for loop in points)
        found = enclosed(points, mask.shape[1:])
        assert (found.repeated, found.overlapping) == (0, 0)
        even_odd[k] = found.pixels
        turns = winding_numbers(points, mask.shape[1:])
        assert set(np.unique(turns)) <= {0, 1}
        winding[k] = turns == 1
        assert not (keyhole and any(loop.hole for loop in loops))
    assert np.array_equal(even_odd, mask)
    assert np.array_equal(winding, mask)


@settings(max_examples=100, deadline=None)
@given(mask=masks)
def test_outlines_are_contourpys_where_no_pixels_meet_at_a_corner_alone(mask):
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    quads = [padded[:, y : y - 1 or None, x : x - 1 or None] for y, x in ((0, 0), (1, 1), (0, 1), (1, 0))]
    corner = (quads[0] == quads[1]) & (quads[2] == quads[3]) & (quads[0] != quads[2])
    ours = dict(outlines(mask))
    for k in np.flatnonzero(~corner.any(axis=(1, 2))):
        lines = contour_generator(z=padded[k].astype(float)).lines(0.5)
        loops = ours.get(k, [])
        assert len(lines) == len(loops)
        theirs = {frozenset(map(tuple, (line - 1).tolist())): line for line in lines}
        for loop in loops:
            line = next(line for points, line in theirs.items() if set(map(tuple, loop.points.tolist())) <= points)
            assert area(loop.points) == pytest.approx(area(line))


def area(loop: np.ndarray) -> float:
    """Signed: above 0 for clockwise loops, rows running down."""
    x, y = loop.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_a_single_pixel_is_a_diamond():
    assert drawn(mask_of("...", ".#.", "...")) == [[(1, 0.5), (1.5, 1), (1, 1.5), (0.5, 1)]]


def test_a_full_slice_is_outlined_beyond_its_border():
    assert drawn(mask_of("##", "##")) == [
        [(0, -0.5), (1, -0.5), (1.5, 0), (1.5, 1), (1, 1.5), (0, 1.5), (-0.5, 1), (-0.5, 0)]
    ]


def test_straight_runs_and_even_stairs_keep_their_ends_alone():
    triangle = [(0, -0.5), (4, -0.5), (4.5, 0), (0, 4.5), (-0.5, 4), (-0.5, 0)]
    assert drawn(np.add.outer(range(5), range(5))[None] < 5) == [triangle]


def test_pixels_that_meet_at_a_corner_are_one_region_and_holes_that_do_are_two():
    assert len(drawn(mask_of("#..", ".#.", "..#"))) == 1
    assert len(drawn(mask_of("####", "#.##", "##.#", "####"))) == 3


def test_a_loop_follows_those_it_lies_in_and_holes_run_the_other_way():
    (k, loops), *others = outlines(mask_of(*ISLAND))
    assert (k, others) == (0, [])
    assert [loop.hole for loop in loops] == [False, True, False, True, True]
    assert [area(loop.points) > 0 for loop in loops] == [True, False, True, False, False]
    assert sum(area(loop.points) for loop in loops[:2]) == pytest.approx(62.5 - 34.5)


def test_a_keyhole_is_one_loop_a_region_whose_channels_meet_no_row_of_centres():
    loops = drawn(mask_of(*ISLAND), keyhole=True)
    assert len(loops) == 2
    for loop in loops:
        steps = zip(loop, [*loop[1:], loop[0]], strict=True)
        channels = [(a, b) for a, b in steps if (b, a) in zip(loop, [*loop[1:], loop[0]], strict=True)]
        assert channels
        assert all(a[1] == b[1] and a[1] % 1 == 0.5 for a, b in channels)


def test_slices_without_pixels_have_no_loops_and_many_slices_come_in_order():
    mask = np.zeros((40, 400, 300), dtype=bool)
    assert list(outlines(mask)) == []
    mask[3::9, 100:120, 50:70] = True
    assert [k for k, _ in outlines(mask)] == [3, 12, 21, 30, 39]
