"""Scribbles: which pixels they mark, how wide they are, and what counts where they cross."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import drawn

from medsam.errors import PromptError
from medsam.prompts.strokes import Scribble, as_clicks, marks, near, spots

SHAPE = (20, 30)
SQUARE = (1.0, 1.0)


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        ([(4, 3)], [(3, 4)]),
        ([(4, 3), (7, 3)], [(3, 4), (3, 5), (3, 6), (3, 7)]),
        # through corners alone it crosses none of those beside it
        ([(4, 3), (6, 5)], [(3, 4), (4, 5), (5, 6)]),
        # where it leaves one row for the next it crosses both
        ([(0, 0), (2, 1)], [(0, 0), (0, 1), (1, 1), (1, 2)]),
        # along a border, both sides
        ([(1, 2.5), (2, 2.5)], [(2, 1), (2, 2), (3, 1), (3, 2)]),
        # there and back
        ([(4, 3), (5, 3), (4, 3)], [(3, 4), (3, 5)]),
    ],
)
def test_a_stroke_marks_what_it_crosses(points, pixels):
    np.testing.assert_array_equal(Scribble(points).to_mask(SHAPE, SQUARE), drawn(*pixels))


def test_a_width_in_mm_is_that_on_pixels_of_any_form():
    # 1 mm rows, 0.5 mm columns: a pen of 4 mm reaches 2 mm, that is 2 rows and 4 columns
    dot = Scribble([(15, 10)], width_mm=4).to_mask(SHAPE, (1.0, 0.5))
    y, x = np.mgrid[:20, :30]
    np.testing.assert_array_equal(dot, ((y - 10) * 1.0) ** 2 + ((x - 15) * 0.5) ** 2 <= 4)
    line = Scribble([(5, 10), (25, 10)], width_mm=2).to_mask(SHAPE, (1.0, 0.5))
    assert line[:, 15].nonzero()[0].tolist() == [9, 10, 11]
    assert line[10].nonzero()[0].tolist() == list(range(3, 28))


def test_a_width_in_pixels_counts_the_smaller_side():
    wide = Scribble([(5, 10), (25, 10)], width_px=4)
    assert wide.to_mask(SHAPE, (0.5, 2.0))[:, 15].nonzero()[0].tolist() == [8, 9, 10, 11, 12]
    assert wide.to_mask(SHAPE, (2.0, 0.5))[:, 15].nonzero()[0].tolist() == [10]
    # a pen that is thinner than a pixel still marks what it crosses
    thin, hair = Scribble([(5, 10), (25, 12)], width_px=0.1), Scribble([(5, 10), (25, 12)])
    np.testing.assert_array_equal(thin.to_mask(SHAPE, SQUARE), hair.to_mask(SHAPE, SQUARE))


halves = st.integers(-1, 39).map(lambda n: n / 2)
strokes = st.lists(st.tuples(halves, halves), min_size=1, max_size=5)
widths = st.sampled_from([{}, {"width_mm": 3}, {"width_px": 3}])


@settings(max_examples=60, deadline=None)
@given(strokes, widths, st.booleans(), st.booleans(), st.booleans())
def test_a_stroke_is_the_same_however_the_slice_is_stored(points, width, turned, left, up):
    shape, pitch = (20, 20), (1.0, 0.7)
    stored = Scribble(points, **width).to_mask(shape, pitch)
    x, y = np.array(points).T
    if left:
        x, stored = 19 - x, stored[:, ::-1]
    if up:
        y, stored = 19 - y, stored[::-1]
    if turned:
        x, y, stored, pitch = y, x, stored.T, (0.7, 1.0)
    other = Scribble(np.stack([x, y], axis=1), **width).to_mask(shape, pitch)
    np.testing.assert_array_equal(other, stored)


@settings(max_examples=40, deadline=None)
@given(strokes, widths)
def test_a_stroke_is_one_piece_that_holds_its_corners(points, width):
    from scipy import ndimage

    mask = Scribble(points, **width).to_mask((20, 20), SQUARE)
    assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
    for x, y in points:
        # of a corner on the border of pixels one of them
        assert mask[max(math.ceil(y - 0.5), 0) : int(y + 0.5) + 1, max(math.ceil(x - 0.5), 0) : int(x + 0.5) + 1].any()


def test_where_clicks_and_strokes_cross_the_later_counts():
    across, down = Scribble([(5, 10), (15, 10)]), Scribble([(10, 5), (10, 15)], inside=False)
    said = marks([across, down, (7, 10, 0)], SHAPE, SQUARE)
    assert said[10, 5:12].tolist() == [1, 1, -1, 1, 1, -1, 1]
    assert marks([down, across], SHAPE, SQUARE)[10, 10] == 1
    assert marks([(7, 10, 0), across], SHAPE, SQUARE)[10, 7] == 1
    assert set(np.unique(said)) == {-1, 0, 1}
    assert spots([across, (7, 10, 0), (8.2, 10, 0), Scribble([(8, 10)])], SHAPE)[0] == (7, 10, 0)


def test_strokes_become_clicks_at_equal_distances_but_where_others_have_the_last_word():
    across, down = Scribble([(5, 10), (12, 10), (19, 10)]), Scribble([(9, 5), (9, 8)], inside=False, width_px=9)
    assert as_clicks([across], SHAPE) == tuple((float(x), 10.0, 1) for x in range(5, 20, 2))
    dot = Scribble([(2.5, 3)], inside=False)
    assert as_clicks([(1, 1, 1), dot], SHAPE) == ((1, 1, 1), (2.5, 3.0, 0))
    assert [x for x, _, inside in as_clicks([across, down, (19, 10, 0)], SHAPE) if inside] == [15, 17]
    assert as_clicks([(9, 6, 1), (1, 1, 0), down, (9, 5, 1)], SHAPE)[:2] == ((1, 1, 0), (9.0, 6.0, 0))
    assert [x for x, _, inside in as_clicks([down, across], SHAPE) if inside] == [*range(5, 20, 2)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"points": []}, r"are \(x, y\) each, at least 1 of them"),
        ({"points": [(1, 2, 3)]}, r"are \(x, y\) each"),
        ({"points": "1,2"}, r"are \(x, y\) each"),
        ({"points": 5}, r"are \(x, y\) each"),
        ({"points": [(1, float("nan"))]}, "not finite"),
        ({"points": np.zeros((20_001, 2))}, "at most 20000 of them"),
        ({"points": [(1, 2)], "width_mm": 2, "width_px": 3}, "both a width in mm and one in pixels. Leave one out"),
        ({"points": [(1, 2)], "width_mm": 0}, "a number above 0, not '0'"),
        ({"points": [(1, 2)], "width_px": float("inf")}, "a number above 0"),
        ({"points": [(1, 2)], "width_px": "3"}, "a number above 0"),
        ({"points": [(1, 2)], "inside": 2}, r"inside \(True\) or outside \(False\), not '2'"),
    ],
)
def test_a_scribble_that_says_nonsense_is_told(wrong, message):
    with pytest.raises(PromptError, match=message):
        Scribble(**wrong)


def test_scribbles_compare_by_what_they_say():
    assert Scribble(np.array([[1, 2], [3, 4]]), 1, width_mm=2) == Scribble(((1.0, 2.0), (3.0, 4.0)), True, 2.0)
    assert Scribble([(1, 2)]) != Scribble([(1, 2)], inside=False)
    assert str(Scribble([(1, 2), (3, 4.5)], inside=False)) == "The scribble 1,2 3,4.5 outside"


def test_a_wide_pen_with_thousands_of_corners_marks_what_is_near_its_way_at_once():
    steps = np.linspace(0, 40 * np.pi, 8000)
    spiral = np.stack([150 + steps * np.cos(steps), 150 + steps * np.sin(steps)], axis=1)
    started = time.process_time()
    mask = Scribble(spiral, width_mm=30).to_mask((300, 300), (1.0, 0.8))
    assert time.process_time() - started < 1  # some 0.1 s; corner by corner it was 3 s
    y, x = np.mgrid[:300, :300]
    part = slice(None, None, 15), slice(None, None, 15)
    # the corners lie so near to each other that those are the way
    pixels = np.stack([x[part], y[part]], axis=-1)[..., None, :] - spiral
    expected = (np.hypot(pixels[..., 0] * 0.8, pixels[..., 1]) <= 15).any(axis=-1)
    assert np.count_nonzero(mask[part] != expected) <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(halves, halves), min_size=2, max_size=4), st.sampled_from([0.5, 1.0, 2.5, 4.0]))
def test_a_pen_reaches_half_its_width_from_the_nearest_of_its_ways(points, reach):
    y, x = np.mgrid[:20, :20]
    step = np.array([0.7, 1.0])
    pixels, expected = np.stack([x, y], axis=-1) * step, np.zeros((20, 20), bool)
    for a, b in itertools.pairwise(np.array(points) * step):
        share = np.clip(((pixels - a) @ (b - a)) / max((b - a) @ (b - a), 1e-12), 0, 1)[..., None]
        expected |= np.linalg.norm(pixels - (a + share * (b - a)), axis=-1) <= reach + 1e-9
    np.testing.assert_array_equal(near(tuple(points), (20, 20), (1.0, 0.7), reach), expected)


def test_pens_wider_than_any_slice_and_ways_far_beyond_it_are_no_trouble():
    assert Scribble([(5, 5)], width_px=1e300).to_mask(SHAPE, SQUARE).all()
    assert not Scribble([(500, 500), (900, 900)], width_px=9).to_mask(SHAPE, SQUARE).any()
    # on a corner of four pixels, and never away from it
    assert Scribble([(3.5, 4.5)] * 3).to_mask(SHAPE, SQUARE).sum() == 4
