import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.prompts.simulate import inscribed_ellipse, tight_box


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
def test_the_ellipse_touches_its_box_and_covers_about_pi_quarters(width, height):
    ellipse = inscribed_ellipse((2, 3, 2 + width, 3 + height), (50, 50))
    x0, y0, x1, y1 = tight_box(ellipse, 1)
    assert (x0, y0, x1, y1) == (2, 3, 2 + width, 3 + height)
    assert ellipse.sum() == pytest.approx(np.pi / 4 * width * height, rel=0.35 if min(width, height) < 6 else 0.1)
