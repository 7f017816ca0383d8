"""A lasso, lines across and an ellipse from reference masks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medsam.errors import PromptError
from medsam.prompts.shapes import lassoed
from medsam.prompts.simulate import inscribed_ellipse
from medsam.prompts.simulate_outlines import diameters, ellipse_box, lasso

ROWS, COLUMNS = np.mgrid[:80, :100]


def disc(x, y, radius):
    return (COLUMNS - x) ** 2 + (ROWS - y) ** 2 <= radius**2


def filled(polygons, shape=(80, 100)):
    return np.any([lassoed(polygon, shape) for polygon in polygons], axis=0)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


masks = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: arrays(bool, shape, elements=st.booleans())
)


@pytest.mark.parametrize("radius", [12, 24])
def test_a_clean_lasso_runs_closely_round_a_disc_and_a_noisy_one_less_closely(radius):
    truth = disc(50, 40, radius)
    for noise, least in (("clean", 0.8), ("noisy", 0.65)):
        found = []
        for seed in range(20):
            (polygon,) = lasso(truth, np.random.default_rng(seed), noise)
            assert 8 <= len(polygon) <= 60
            assert polygon == lasso(truth, np.random.default_rng(seed), noise)[0]
            around = filled([polygon])
            found.append(dice(around, truth))
            if noise == "clean":
                assert (around & truth).sum() > 0.98 * truth.sum(), "it runs outside"
        assert min(found) > least
        assert np.std(found) > 0.005


def test_parts_that_lie_apart_get_a_lasso_each_and_a_ring_gets_one():
    two = disc(20, 20, 12) | disc(70, 50, 20)
    assert len(lasso(two, np.random.default_rng(0))) == 2
    ring = disc(50, 40, 25) & ~disc(50, 40, 15)
    (polygon,) = lasso(ring, np.random.default_rng(0))
    assert filled([polygon])[40, 50]


def test_a_lasso_at_the_border_stays_on_the_slice():
    (polygon,) = lasso(disc(0, 0, 20), np.random.default_rng(3), "noisy")
    assert np.array(polygon).min() == -0.5
    assert filled([polygon])[0, 0]
    with pytest.raises(PromptError, match="empty"):
        lasso(np.zeros((4, 4), bool), np.random.default_rng(0))


def test_a_pixel_can_be_lassoed():
    pixel = np.zeros((9, 9), bool)
    pixel[4, 6] = True
    around = filled(lasso(pixel, np.random.default_rng(0)), (9, 9))
    assert around[4, 6]
    assert around.sum() <= 9


def length(line):
    return np.hypot(*np.subtract(*line))


def test_the_axes_of_a_disc_are_its_diameter():
    long, short = diameters(disc(50, 40, 20))
    assert length(long) == pytest.approx(41)
    assert length(short) == pytest.approx(41)
    assert np.mean(long, axis=0) == pytest.approx([50, 40])


def test_the_axes_of_a_rod_are_its_length_and_its_width_also_in_millimetres():
    rod = np.zeros((80, 100), bool)
    rod[40, 10:91] = rod[35:46, 50] = True
    assert diameters(rod) == (((9.5, 40.0), (90.5, 40.0)), ((50.0, 34.5), (50.0, 45.5)))
    # ten times as long along columns: the cross is now longest from top to bottom
    long, short = diameters(rod, (10.0, 1.0))
    assert length(long) == pytest.approx(11)
    assert long[0][0] == long[1][0] == 50
    assert sorted(short) == [(9.5, 40.0), (90.5, 40.0)]


def test_a_pixel_is_a_pixel_long_and_wide():
    pixel = np.zeros((9, 9), bool)
    pixel[4, 6] = True
    assert diameters(pixel) == (((5.5, 4.0), (6.5, 4.0)), ((6.0, 3.5), (6.0, 4.5)))
    with pytest.raises(PromptError, match="empty"):
        diameters(np.zeros((4, 4), bool))


@settings(deadline=None)
@given(masks, st.sampled_from([(1.0, 1.0), (2.0, 0.5)]))
def test_the_long_axis_is_the_longest_of_all_and_the_short_one_is_square_to_it(mask, pitch):
    centres = np.argwhere(mask)[:, ::-1]
    if len(centres) < 2:
        return
    step = np.array(pitch[::-1])
    # what is beyond the slice's border is not there
    long, short = (np.array(line) for line in diameters(np.pad(mask, 3), pitch))
    longest = max(np.linalg.norm((a - b) * step) for a, b in itertools.combinations(centres, 2))
    along, across = (long[1] - long[0]) * step, (short[1] - short[0]) * step
    reach = np.linalg.norm(along / np.linalg.norm(along) * step)
    assert np.linalg.norm(along) == pytest.approx(longest + reach)
    assert along @ across == pytest.approx(0, abs=1e-6)


def test_a_noisy_line_has_its_ends_elsewhere_by_a_twentieth_of_its_length():
    truth = disc(50, 40, 20)
    exact = np.array(diameters(truth))
    moved = [np.array(diameters(truth, rng=np.random.default_rng(seed))) - exact for seed in range(100)]
    assert np.std(moved) == pytest.approx(41 / 20, rel=0.15)
    assert np.mean(moved) == pytest.approx(0, abs=0.3)


def test_an_ellipse_is_its_own_and_a_noisy_one_is_near_it():
    box = (20, 10, 80, 50)
    ellipse = inscribed_ellipse(box, (80, 100))
    assert ellipse_box(ellipse) == pytest.approx(box, abs=0.2)
    noisy = ellipse_box(ellipse, np.random.default_rng(0))
    assert 0.8 < dice(inscribed_ellipse(noisy, (80, 100)), ellipse) < 0.99
    with pytest.raises(PromptError, match="empty"):
        ellipse_box(np.zeros((4, 4), bool))


@given(masks, st.integers(0, 99))
def test_the_box_of_an_ellipse_lies_on_the_slice_and_is_a_pixel_wide_at_least(mask, seed):
    if not mask.any():
        return
    x0, y0, x1, y1 = ellipse_box(mask, np.random.default_rng(seed))
    assert 0 <= x0 <= x1 - 1 + 1e-9 <= mask.shape[1] - 1 + 1e-9
    assert 0 <= y0 <= y1 - 1 + 1e-9 <= mask.shape[0] - 1 + 1e-9
