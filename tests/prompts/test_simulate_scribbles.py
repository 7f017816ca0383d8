"""Scribbles from reference masks: where they may lie, how far they reach, and that chance favours no orientation."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medsam.errors import PromptError
from medsam.prompts.simulate_scribbles import ScribbleKind, next_scribble, scribble_in, scribble_near
from medsam.prompts.strokes import Scribble

KINDS = get_args(ScribbleKind)
SQUARE_MM = (1.0, 1.0)
ROWS, COLUMNS = np.mgrid[:80, :100]


def disc(x, y, radius):
    return (COLUMNS - x) ** 2 + (ROWS - y) ** 2 <= radius**2


DISC, RING = disc(45, 40, 24), disc(45, 40, 30) & ~disc(45, 40, 20)
ROD = np.zeros((80, 100), bool)
ROD[38:45, 10:90] = True
TWO = disc(20, 20, 12) | disc(65, 50, 20)
SHAPES = {"disc": DISC, "ring": RING, "rod": ROD, "two": TWO, "at the border": disc(0, 0, 25)}


def under(strokes, shape=(80, 100)):
    """The pixels under strokes."""
    drawn = np.zeros(shape, bool)
    for stroke in strokes:
        drawn |= stroke.to_mask(shape, SQUARE_MM)
    return drawn


regions = array_shapes(min_dims=2, max_dims=2, max_side=14).flatmap(
    lambda shape: arrays(bool, shape, elements=st.booleans())
)


@settings(deadline=None)
@given(regions, st.integers(0, 99), st.sampled_from(KINDS), st.sampled_from(("clean", "noisy")))
def test_every_pixel_under_a_stroke_is_of_its_region_and_a_seed_draws_it_again(region, seed, kind, noise):
    if not region.any():
        with pytest.raises(PromptError, match="empty"):
            scribble_in(region, np.random.default_rng(seed), kind=kind, noise=noise)
        return
    strokes = scribble_in(region, np.random.default_rng(seed), kind=kind, noise=noise)
    assert 1 <= len(strokes) <= 3
    assert all(stroke.inside and stroke.points for stroke in strokes)
    drawn = under(strokes, region.shape)
    assert drawn.any()
    assert not (drawn & ~region).any()
    assert strokes == scribble_in(region, np.random.default_rng(seed), kind=kind, noise=noise)


@pytest.mark.parametrize("noise", ["clean", "noisy"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_strokes_stay_where_they_belong_and_have_few_corners(shape, kind, noise):
    region = SHAPES[shape]
    for seed in range(3):
        strokes = scribble_in(region, np.random.default_rng(seed), kind=kind, noise=noise)
        assert not (under(strokes) & ~region).any()
        assert sum(len(stroke.points) for stroke in strokes) <= 80
        near = scribble_near(region, np.random.default_rng(seed), noise=noise)
        assert near
        assert not any(stroke.inside for stroke in near)
        assert not (under(near) & region).any()


def test_a_pixel_gets_a_dot():
    pixel = np.zeros((9, 9), bool)
    pixel[4, 6] = True
    for kind in KINDS:
        (stroke,) = scribble_in(pixel, np.random.default_rng(0), kind=kind, inside=False)
        assert stroke == Scribble(stroke.points, inside=False)
        assert np.array(stroke.points) == pytest.approx(np.array([[6, 4]]), abs=0.3)


def test_where_all_is_object_nothing_is_near_it():
    assert scribble_near(np.ones((5, 6), bool), np.random.default_rng(0)) == ()
    with pytest.raises(PromptError, match="empty"):
        scribble_near(np.zeros((5, 6), bool), np.random.default_rng(0))


def test_a_centre_line_runs_along_the_middle_of_a_rod_and_round_a_ring():
    for seed in range(10):
        drawn = under(scribble_in(ROD, np.random.default_rng(seed), kind="centre"))
        rows, columns = np.nonzero(drawn)
        assert abs(rows - 41).max() <= 3
        # broken for a third at most, of that three pieces are kept
        assert np.ptp(columns) > 30
        rows, columns = np.nonzero(under(scribble_in(RING, np.random.default_rng(seed), kind="centre")))
        assert abs(np.hypot(rows - 40, columns - 45) - 25).max() <= 4.5


def test_a_contour_runs_between_three_and_seven_tenths_of_the_depth():
    for seed in range(10):
        rows, columns = np.nonzero(under(scribble_in(DISC, np.random.default_rng(seed), kind="contour")))
        radii = np.hypot(rows - 40, columns - 45)
        # 0.3 and 0.7 of a radius of 24, and a shaky hand on both sides
        assert 5 < radii.mean() < 18
        angles = np.arctan2(rows - 40, columns - 45)
        assert len(np.unique(np.round(angles))) >= 4, "it goes round"


def test_the_larger_of_two_parts_is_drawn_in():
    for kind in KINDS:
        drawn = under(scribble_in(TWO, np.random.default_rng(1), kind=kind))
        assert drawn[disc(65, 50, 20)].any()
        assert not drawn[disc(20, 20, 12)].any()


def test_noise_shakes_and_breaks_a_line():
    def pixels(noise):
        drawn = [under(scribble_in(ROD, np.random.default_rng(n), kind="centre", noise=noise)) for n in range(20)]
        off = np.concatenate([abs(np.nonzero(one)[0] - 41) for one in drawn])
        return sum(np.count_nonzero(one) for one in drawn), off.mean()

    clean, noisy = pixels("clean"), pixels("noisy")
    assert noisy[0] < 0.8 * clean[0]
    assert noisy[1] > 1.5 * clean[1]


def test_a_correction_says_inside_where_it_was_missed_and_outside_where_it_is_too_much():
    rng = np.random.default_rng
    strokes = next_scribble(DISC, None, rng(0))
    assert all(stroke.inside for stroke in strokes)
    assert not (under(strokes) & ~DISC).any()
    # a half is missed, and a smaller disc apart is too much
    answer = (DISC & (COLUMNS < 45)) | disc(85, 10, 8)
    strokes = next_scribble(DISC, answer, rng(0))
    assert all(stroke.inside for stroke in strokes)
    assert not (under(strokes) & ~(DISC & ~answer)).any()
    strokes = next_scribble(DISC, DISC | disc(85, 10, 8), rng(0))
    assert not any(stroke.inside for stroke in strokes)
    assert not (under(strokes) & ~disc(85, 10, 8)).any()
    assert next_scribble(DISC, DISC, rng(0)) == ()
    with pytest.raises(PromptError, match="one slice"):
        next_scribble(DISC, DISC[1:], rng(0))


def test_with_noise_the_second_largest_error_is_drawn_in_now_and_then():
    small = disc(85, 10, 8)
    answer = small.copy()
    drawn = [next_scribble(DISC, answer, np.random.default_rng(n), noise="noisy")[0].inside for n in range(100)]
    assert 0.1 < 1 - np.mean(drawn) < 0.32


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_lying_down_is_drawn_in_as_one_standing(kind):
    """As much of it, and as near to its ends: over many draws neither rows nor columns are favoured."""

    def drawn(region, turned):
        masks = [under(scribble_in(region, np.random.default_rng(n), kind=kind), region.shape) for n in range(50)]
        upright = [mask.T[:, ::-1] if turned else mask for mask in masks]
        mean = np.mean(upright, axis=0)
        rows, columns = np.nonzero(mean)
        weight = mean[rows, columns]
        return weight.sum(), np.average(rows, weights=weight), np.average(columns, weights=weight)

    lying = np.zeros((80, 100), bool)
    lying[30:50, 10:80] = True
    one, other = drawn(lying, False), drawn(np.ascontiguousarray(lying[:, ::-1].T), True)
    assert other[0] == pytest.approx(one[0], rel=0.35)
    assert other[1:] == pytest.approx(one[1:], abs=6)
