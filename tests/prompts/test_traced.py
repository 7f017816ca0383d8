"""Strokes found in the pixels that they were drawn on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medsam.prompts.strokes import Scribble, crossed
from medsam.prompts.traced import traced

SHAPE = (24, 30)
corners = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 23)), min_size=1, max_size=5)


@given(corners, st.sampled_from([None, 3.0, 5.0]))
def test_a_stroke_is_found_where_it_was_drawn_and_nowhere_else(points, width):
    drawn = Scribble(tuple((float(x), float(y)) for x, y in points), width_px=width).to_mask(SHAPE, (1.0, 1.0))
    lines = traced(drawn)
    found = np.zeros(SHAPE, dtype=bool)
    for line in lines:
        found |= crossed(line, SHAPE)
    assert found.any()
    assert not (found & ~drawn).any()


@given(st.integers(0, 2**32 - 1))
def test_no_line_leaves_any_mask(seed):
    mask = np.random.default_rng(seed).random(SHAPE) < 0.6
    for line in traced(mask):
        assert not (crossed(line, SHAPE) & ~mask).any()


def test_a_thick_stroke_is_one_line_along_it_and_a_cross_has_more():
    bar = np.zeros(SHAPE, dtype=bool)
    bar[8:13, 3:27] = True
    (line,) = traced(bar)
    xs = [x for x, _ in line]
    assert max(xs) - min(xs) >= 20
    assert np.median(np.argwhere(crossed(line, SHAPE))[:, 0]) == 10
    cross = bar.copy()
    cross[1:22, 13:18] = True
    lines = traced(cross)
    assert len(lines) == 2 or len(lines) == 3
    reached = np.argwhere(np.any([crossed(one, SHAPE) for one in lines], axis=0))
    assert np.ptp(reached[:, 0]) >= 16
    assert np.ptp(reached[:, 1]) >= 20


def test_nothing_and_apart():
    mask = np.zeros(SHAPE, dtype=bool)
    assert traced(mask) == []
    mask[2, 3] = mask[20, 25] = True
    assert traced(mask) == [((3.0, 2.0),), ((25.0, 20.0),)]
