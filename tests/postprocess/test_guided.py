"""Smoothing along the edges of a picture."""

import numpy as np
import pytest

from medsam.postprocess.guided import guided_mean

SIDE = np.zeros((40, 60))
SIDE[:, 30:] = 100.0


@pytest.mark.parametrize("radius", [(2, 2), (9, 9)])
def test_noise_goes_and_the_edge_of_the_picture_stays(radius):
    noise = np.random.default_rng(0).normal(size=SIDE.shape)
    values = np.where(SIDE > 0, 3.0, -3.0) + noise
    smooth = guided_mean(values, SIDE, radius, 0.05)
    assert np.abs(smooth - np.where(SIDE > 0, 3.0, -3.0)).max() < 0.4 * np.abs(noise).max()
    # a plain mean has 0 at the edge
    assert np.abs(smooth[:, 29:31]).min() > 2


def test_a_guide_without_contrast_leaves_a_plain_mean_twice_over():
    values = np.zeros((9, 9))
    values[4, 4] = 81.0
    smooth = guided_mean(values, np.full((9, 9), 7.0), (1, 1), 0.05)
    np.testing.assert_allclose(smooth[4], [0, 0, 3, 6, 9, 6, 3, 0, 0], atol=1e-4)


@pytest.mark.parametrize("radius", [(0, 0), (1, 2), (13, 9)])
def test_it_does_not_depend_on_units_or_on_how_the_picture_is_stored(radius):
    rng = np.random.default_rng(1)
    values, guide = rng.normal(size=(2, 41, 59))
    smooth = guided_mean(values, guide, radius, 0.05)
    np.testing.assert_allclose(guided_mean(values, 3 * guide - 1024, radius, 0.05), smooth, atol=1e-4)
    np.testing.assert_allclose(guided_mean(values[::-1], guide[::-1], radius, 0.05)[::-1], smooth, atol=1e-5)
    np.testing.assert_allclose(guided_mean(values.T, guide.T, radius[::-1], 0.05).T, smooth, atol=1e-5)
    if radius == (0, 0):
        np.testing.assert_allclose(smooth, values, atol=1e-5)
