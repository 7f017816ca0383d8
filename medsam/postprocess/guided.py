"""Smooth a map along the edges of the picture under it, and not across them.

Source: the guided filter (He, Sun and Tang 2010): in every small rectangle the map is a line of the brightness. The
lines of large rectangles change slowly, so they are found on a coarser grid (the fast guided filter, He and Sun 2015).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

# Coarser pixels in the reach of a rectangle.
_COARSE = 4


def guided_mean(values: np.ndarray, guide: np.ndarray, radius: tuple[int, int], flat: float) -> np.ndarray:
    """`values` (h, w) averaged over rectangles of 2 * radius + 1 (rows, columns), as far as `guide` is even there.

    guide: (h, w), any units, without nan. flat: the variance, in that of the whole guide, from which on a rectangle
    counts as uneven. A guide without contrast leaves a plain mean, twice over. Returns (h, w) float32.
    """
    # in float64, because squares of float16 overflow
    scale = float(guide.std(dtype=np.float64))
    even = ((guide - guide.mean(dtype=np.float64)) / (scale or 1.0)).astype(np.float32)
    steps = tuple(max(1, side // _COARSE) for side in radius)
    coarse = tuple(-(-side // step) for side, step in zip(values.shape, steps, strict=True))
    size = tuple(2 * round(side / step) + 1 for side, step in zip(radius, steps, strict=True))

    def mean(part: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.uniform_filter(part, size, mode="nearest"))

    small_guide = resized(even, coarse, "area").astype(np.float64)
    small_values = resized(values.astype(np.float32), coarse, "area").astype(np.float64)
    mean_guide, mean_values = mean(small_guide), mean(small_values)
    variance = np.maximum(mean(small_guide * small_guide) - mean_guide**2, 0)
    slope = (mean(small_guide * small_values) - mean_guide * mean_values) / (variance + flat)
    offset = mean(mean_values - slope * mean_guide)
    return resized(mean(slope), values.shape, "bilinear") * even + resized(offset, values.shape, "bilinear")


def resized(part: np.ndarray, shape: tuple[int, ...], mode: str) -> np.ndarray:
    """A map (h, w) on a grid of another shape, float32. mode: "area" (means) to fewer pixels, "bilinear" to more."""
    if part.shape == shape:
        return part.astype(np.float32)
    corners = None if mode == "area" else False
    resized = F.interpolate(
        torch.from_numpy(part.astype(np.float32))[None, None], shape, mode=mode, align_corners=corners
    )
    return np.asarray(resized[0, 0])
