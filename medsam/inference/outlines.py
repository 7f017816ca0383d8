"""How far pixels are from the outline of a mask.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def signed_distance(mask: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """From a mask's outline, in mm, positive inside; the outline runs between pixels. mask: (h, w), not empty."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    inner = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outer = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    half = min(spacing_mm) / 2
    result: np.ndarray = np.where(mask, inner - half, half - outer)
    return result
