"""What marks change of a mask of which is known how likely each pixel is in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.inference.corrections import Mark
from medsam.inference.likely_masks import corrected_odds

SHAPE, SQUARE = (60, 80), (1.0, 1.0)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
# an outline that is unsure to the right of x = 40 and sure to its left: a disc of radius 16 about (40, 30)
BEYOND = np.hypot(X - 40, Y - 30) - 16
ODDS = np.clip(np.where(X > 40, -BEYOND / 4, -2 * BEYOND), -6, 6)


def click(x: int, y: int, inside: bool) -> Mark:
    where = np.zeros(SHAPE, bool)
    where[y, x] = True
    return Mark(where, inside)


def test_a_click_moves_the_outline_where_it_was_unsure_and_leaves_it_where_it_was_sure():
    mask = ODDS > 0
    found = corrected_odds(ODDS, [click(60, 30, True)], SQUARE) > 0
    grown = found & ~mask
    assert not (mask & ~found).any()
    assert found[30, 59]
    assert np.count_nonzero(grown) > 60, "more than what lies right at the click"
    assert np.count_nonzero(grown & (X <= 40)) < 0.1 * np.count_nonzero(grown)
    again = corrected_odds(ODDS, [click(60, 30, True), click(52, 30, False)], SQUARE) > 0
    assert again[30, 60]
    assert not again[30, 52]


def test_where_the_mask_is_right_a_mark_changes_nothing_and_holds_on_to_it():
    np.testing.assert_array_equal(corrected_odds(ODDS, [], SQUARE), ODDS.astype(np.float32))
    right = [click(40, 30, True), click(5, 5, False)]
    np.testing.assert_allclose(corrected_odds(ODDS, right, SQUARE), ODDS, atol=1e-4)
    alone, held = (
        corrected_odds(ODDS, [click(60, 30, True), *more], SQUARE) > 0 for more in ([], [click(50, 46, False)])
    )
    assert np.count_nonzero(held) < np.count_nonzero(alone)


@given(
    st.lists(
        st.tuples(st.integers(0, 79), st.integers(0, 59), st.booleans()),
        min_size=1,
        max_size=8,
        unique_by=lambda m: m[:2],
    )
)
def test_every_mark_holds_in_any_order_and_what_is_far_away_stays(clicks):
    found = corrected_odds(ODDS, [click(*one) for one in clicks], SQUARE)
    assert all((found[y, x] > 0) == inside for x, y, inside in clicks)
    np.testing.assert_allclose(corrected_odds(ODDS, [click(*one) for one in clicks[::-1]], SQUARE), found, atol=1e-3)
    far = np.min([np.hypot(X - x, Y - y) for x, y, _ in clicks], axis=0) > 5 * 16
    np.testing.assert_allclose(found[far], ODDS[far], atol=0.01)


def test_what_is_said_later_counts_where_strokes_cross_and_a_stroke_is_not_the_sum_of_its_pixels():
    inside = Mark((Y == 30) & (X > 55) & (X < 65), True)
    outside = Mark((X == 60) & (Y > 25) & (Y < 35), False)
    found = corrected_odds(ODDS, [inside, outside], SQUARE)
    assert (found[outside.where] < 0).all()
    assert (found[inside.where & ~outside.where] > 0).all()
    whole = corrected_odds(ODDS, [Mark((np.hypot(X - 62, Y - 30) < 3), True)], SQUARE)
    assert whole.max() < 12
    np.testing.assert_array_equal(
        corrected_odds(ODDS, [inside, Mark(inside.where, False)], SQUARE)[inside.where] < 0, True
    )


@pytest.mark.parametrize("flip", [np.s_[::-1], np.s_[:, ::-1]])
def test_the_same_anatomy_stored_otherwise_gets_the_same_mask(flip):
    marks = [click(60, 30, True), click(45, 18, False)]
    found = corrected_odds(ODDS, marks, SQUARE)
    turned = corrected_odds(ODDS[flip], [Mark(one.where[flip], one.inside) for one in marks], SQUARE)
    np.testing.assert_allclose(turned, found[flip], atol=1e-4)
    # rows twice as far apart, of which every other one is stored
    coarse = corrected_odds(ODDS[::2], [Mark(one.where[::2], one.inside) for one in marks], (2.0, 1.0))
    assert np.mean((coarse > 0) == (found[::2] > 0)) > 0.98
    # the unit of length is no matter
    np.testing.assert_allclose(corrected_odds(ODDS, marks, (0.3, 0.3)), found, atol=1e-3)
