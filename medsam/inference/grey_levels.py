"""Whether grey levels are an object's or its surroundings', learnt from a mask.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medsam.inference.appearance import log_odds
from medsam.masks import CompactMask, grown

# Grey levels of the window, binned to tell object from surroundings.
_BINS = 32
# The most one pixel's grey level may say, in log-odds.
MOST_ODDS = 3.0
# Surroundings: this far round the object, in its radii, and at least so many pixels.
_AROUND, _AROUND_PX = 0.5, 4.0
# Fewer pixels than this tell nothing of grey levels.
_ENOUGH = 5
# Noise flips single pixels: smoothing of a map of log-odds, in pixels.
_SMOOTH = 0.7


@dataclass(frozen=True, eq=False)
class GreyLevels:
    """Log-odds of each grey level, the object's against its surroundings'. table: (bins,)."""

    table: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, mask: CompactMask, spacing_mm: tuple[float, float]) -> GreyLevels | None:
        """From a mask that is not empty; None when it is too small to tell. pixels: (h, w) in 0 ... 255."""
        pixel = min(spacing_mm)
        around = max(_AROUND * radius_mm(mask, spacing_mm), _AROUND_PX * pixel)
        part = grown(mask.part, [math.ceil(around / pitch) + 1 for pitch in spacing_mm], mask.shape)
        inside = mask.to_array()[part]
        distance = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
        # the pixels of the outline itself are half of each
        outside = (distance > 1.5 * pixel) & (distance <= around)
        if min(np.count_nonzero(inside), np.count_nonzero(outside)) < _ENOUGH:
            return None
        return cls(log_odds(_bins(pixels[part]), inside, outside, bins=_BINS, floor=0.02, limit=MOST_ODDS))

    def mixed(self, other: GreyLevels | None) -> GreyLevels:
        """Half of each; all of this when there is no other."""
        return self if other is None else GreyLevels((self.table + other.table) / 2)

    def odds(self, pixels: np.ndarray) -> np.ndarray:
        """A map (h, w) of log-odds that pixels are the object's, a little smoothed."""
        smooth: np.ndarray = ndimage.gaussian_filter(self.table[_bins(pixels)], _SMOOTH)
        return smooth

    def mean_odds(self, pixels: np.ndarray, mask: np.ndarray) -> float:
        """Mean log-odds that the pixels of a mask (h, w), not empty, are the object's."""
        return float(self.table[_bins(pixels[mask])].mean())


def radius_mm(mask: CompactMask, spacing_mm: tuple[float, float]) -> float:
    """Of the disc of the same area."""
    return math.sqrt(mask.area * spacing_mm[0] * spacing_mm[1] / math.pi)


def _bins(grey: np.ndarray) -> np.ndarray:
    return np.clip(grey * (_BINS / 256), 0, _BINS - 1).astype(np.intp)
