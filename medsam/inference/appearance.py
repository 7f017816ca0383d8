"""What a pixel's brightness says of its belonging to an object.

Source: the appearance term of GrabCut (Rother et al. 2004).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Smoothing of the histograms, in bins.
_SIGMA = 1.5
# Smoothing of a slice against noise, in pixels.
_NOISE = 0.7


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Pixels (h, w) or (h, w, 3) as (h, w): colours are averaged."""
    return pixels if pixels.ndim == 2 else np.asarray(pixels.mean(axis=2))


def smoothed(grey: np.ndarray) -> np.ndarray:
    """A slice (h, w) less noisy, and the same to the bit however it is stored: sums are not the same in any order."""
    one, other = (
        ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(grey, _NOISE, axis=axis), _NOISE, axis=1 - axis)
        for axis in (0, 1)
    )
    smooth: np.ndarray = (one + other) / 2
    return smooth


def histogram(levels: np.ndarray, where: np.ndarray, bins: int) -> np.ndarray:
    """How many pixels have each brightness level, (bins,), smoothed. levels, where: as in `log_odds`."""
    there = where > 0
    counts = np.bincount(levels[there], weights=where[there], minlength=bins)
    return np.asarray(ndimage.gaussian_filter1d(counts, _SIGMA, mode="nearest"))


def log_odds(
    levels: np.ndarray, inside: np.ndarray, outside: np.ndarray, *, bins: int, floor: float, limit: float
) -> np.ndarray:
    """Log-likelihood ratio (bins,) of each brightness level, inside against outside, within [-limit, limit].

    levels: integers in [0, bins). inside, outside: bool or weights of the same shape, neither empty. floor: share that
    all levels have together on either side beforehand, so that what was never seen says nothing.
    """
    shares = []
    for where in (inside, outside):
        smooth = histogram(levels, where, bins)
        shares.append(smooth / smooth.sum() + floor / bins)
    return np.clip(np.log(shares[0] / shares[1]), -limit, limit)
