"""Strokes and loops out of the pixels that a viewer sends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from medsam.errors import PromptError
from medsam.prompts.shapes import lassoed
from medsam.prompts.strokes import crossed
from medsam.server.nninteractive.drawing import KJI, Drawn, box_of, loop, position_of, strokes

_WHOLE = (30, 40)
_PIXELS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def test_a_stroke_lies_where_it_was_drawn():
    pixels = np.zeros((6, 12), bool)
    pixels[1, 2:9] = pixels[1:5, 8] = True
    (line,) = strokes(pixels, (10, 20))
    assert sorted((line[0], line[-1])) == [(22.0, 11.0), (28.0, 14.0)]
    crossed_pixels = crossed(line, _WHOLE)
    assert not (crossed_pixels[10:16, 20:32] & ~pixels).any()
    assert crossed_pixels.sum() >= pixels.sum() - 1


@settings(max_examples=60, deadline=None)
@given(_PIXELS, st.booleans(), st.integers(0, 20), st.integers(0, 30))
def test_a_lasso_encloses_what_it_was_drawn_round_whether_it_came_filled_or_not(pixels, line, row, column):
    filled = ndimage.binary_fill_holes(pixels)
    if ndimage.label(pixels, np.ones((3, 3)))[1] != 1:
        return
    mask = np.zeros(_WHOLE, bool)
    mask[row : row + pixels.shape[0], column : column + pixels.shape[1]] = filled
    given = filled & ~ndimage.binary_erosion(filled) if line else filled
    np.testing.assert_array_equal(lassoed(loop(given, (row, column)), _WHOLE), mask)


def test_a_lasso_of_two_pieces_is_refused():
    with pytest.raises(PromptError, match="2 pieces"):
        loop(np.array([[1, 0, 1]], bool), (0, 0))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(KJI))
def test_slices_boxes_and_points_of_an_axis_are_where_the_array_has_them(data, axis):
    shape = (5, 6, 7)
    ranges = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    drawn = Drawn.of_box([(low, high) for low, high in ranges], shape)
    whole = np.zeros(shape, bool)
    whole[tuple(slice(low, high) for low, high in ranges)] = True
    number = KJI.index(axis)
    again = np.zeros(shape, bool)
    for index, pixels, start in drawn.on_slices(axis):
        again[(slice(None),) * number + (index,)] = drawn.slice_mask(pixels, start, axis)
    np.testing.assert_array_equal(again, whole)
    index, (x0, y0, x1, y1) = box_of(ranges, axis)
    rows, columns = np.nonzero(whole.take(index, number))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)
    at = [data.draw(st.integers(0, n - 1)) for n in shape]
    voxel = np.zeros(shape, bool)
    voxel[tuple(at)] = True
    index, (x, y) = position_of([one + 0.3 for one in at], axis)
    assert voxel.take(index, number)[int(y), int(x)]


def test_what_was_drawn_is_cut_to_where_it_is():
    crop = np.zeros((4, 5, 6), np.uint8)
    crop[1, 2:4, 3] = 9
    drawn = Drawn.of(crop, (10, 20, 30), (50, 50, 50))
    assert (drawn.start, drawn.crop.shape, drawn.flat) == ((11, 22, 33), (1, 2, 1), ("k", "i"))
    with pytest.raises(PromptError, match="nothing"):
        Drawn.of(np.zeros((1, 1, 1)), (0, 0, 0), (5, 5, 5))
