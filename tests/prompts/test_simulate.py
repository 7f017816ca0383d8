import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.prompts.simulate import inscribed_ellipse, jittered, tight_box


def test_the_tight_box_is_half_open_and_spans_all_components():
    mask = np.zeros((10, 12), bool)
    mask[2:4, 3:8] = True
    mask[7, 10] = True
    assert tight_box(mask) == (3, 2, 11, 8)


def test_a_sliver_of_nine_pixels_gets_no_box_and_ten_do():
    mask = np.zeros((5, 20), bool)
    mask[0, :9] = True
    assert tight_box(mask) is None
    mask[0, 9] = True
    assert tight_box(mask) == (0, 0, 10, 1)
    assert tight_box(np.zeros((5, 5), bool), min_pixels=0) is None


@given(st.integers(3, 40), st.integers(3, 40))
def test_the_ellipse_fills_its_box_from_side_to_side_and_covers_about_pi_quarters(width, height):
    ellipse = inscribed_ellipse((2, 3, 2 + width, 3 + height), (50, 50))
    x0, y0, x1, y1 = tight_box(ellipse, 1)
    # between an even number of columns no pixel centre lies on the axis, so the tip may end a pixel short
    assert x0 in (2, 3)
    assert y0 in (3, 4)
    assert x1 in (1 + width, 2 + width)
    assert y1 in (2 + height, 3 + height)
    # whole pixels miss the outline by up to about half a pixel along it
    assert ellipse.sum() == pytest.approx(np.pi / 4 * width * height, abs=(width + height) / 2)


@given(
    most=st.integers(0, 30),
    seed=st.integers(0, 1000),
    x=st.integers(0, 20),
    y=st.integers(0, 20),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
)
def test_jitter_only_grows_a_box_by_whole_pixels_inside_the_slice(most, seed, x, y, width, height):
    box = (x, y, x + width, y + height)
    moved = jittered(box, most, (42, 44), np.random.default_rng(seed))
    assert all(isinstance(edge, int) for edge in moved)
    assert all(0 <= before - after <= most for before, after in zip(box[:2], moved[:2], strict=True))
    assert all(0 <= after - before <= most for before, after in zip(box[2:], moved[2:], strict=True))
    assert min(moved) >= 0
    assert moved[2] <= 44
    assert moved[3] <= 42
    assert moved == jittered(box, most, (42, 44), np.random.default_rng(seed))
