"""Regions that nobody drew: large enough, in one piece, apart from each other, and where the picture has edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medsam.training.pseudo_masks import regions


def picture(seed: int = 0) -> np.ndarray:
    """(80, 96): a bright disc and a grey square on a dark ground, with noise."""
    y, x = np.mgrid[:80, :96]
    grey = np.full((80, 96), 0.1)
    grey[(x - 30) ** 2 + (y - 40) ** 2 <= 15**2] = 0.9
    grey[20:60, 60:85] = 0.5
    return np.clip(grey + np.random.default_rng(seed).normal(0, 0.02, grey.shape), 0, 1)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_each_is_one_piece_inside_the_picture_and_unlike_the_others(seed):
    found = regions(picture(), 128, 6, np.random.default_rng(seed))
    assert found.shape[1:] == (128, 128)
    assert len(found) <= 6
    for number, one in enumerate(found):
        assert 60 <= np.count_nonzero(one) <= 0.7 * 80 * 96
        assert not one[80:].any()
        assert not one[:, 96:].any()
        assert ndimage.label(one)[1] <= 1 + int(np.count_nonzero(one) > 0)
        for other in found[:number]:
            assert np.count_nonzero(one & other) <= 0.8 * np.count_nonzero(one | other)


def test_what_stands_out_is_found_in_some_draw():
    y, x = np.mgrid[:128, :128]
    disc = (x - 30) ** 2 + (y - 40) ** 2 <= 15**2
    best = 0.0
    for seed in range(10):
        for one in regions(picture(), 128, 12, np.random.default_rng(seed)):
            best = max(best, 2 * np.count_nonzero(one & disc) / (np.count_nonzero(one) + np.count_nonzero(disc)))
    assert best > 0.95


def test_the_same_numbers_give_the_same_regions():
    one, other = (regions(picture(), 128, 4, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, other)
    assert len(one)


@pytest.mark.parametrize("flat", [np.zeros((80, 96)), np.random.default_rng(0).random((8, 200))])
def test_a_picture_without_edges_or_room_has_none(flat):
    assert regions(flat, 256, 4, np.random.default_rng(0)).shape == (0, 256, 256)
