"""How much of two masks is shared: Dice, IoU and volumes.

Masks are boolean arrays on the same grid, (K, J, I) or a slice (h, w). Everything here follows from three counts,
so it is exact up to one division.

Emptiness: with both masks empty there is nothing to score, and the answer is nan, never 1; the caller skips such a
case. With one of them empty Dice and IoU are 0.

Source: Dice 1945; Jaccard 1912; volume error as in Taha and Hanbury 2015 (with sign).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsam.errors import InputError


@dataclass(frozen=True)
class Overlap:
    """Three counts, and what follows from them.

    reference, prediction, common: elements (voxels or pixels) in the reference, the prediction and both.
    element_ml: volume of a voxel in ml; nan for a slice, which has none.
    """

    reference: int
    prediction: int
    common: int
    element_ml: float = math.nan

    @property
    def dice(self) -> float:
        """2 |A ∩ B| / (|A| + |B|); nan when both are empty."""
        return _ratio(2 * self.common, self.reference + self.prediction)

    @property
    def iou(self) -> float:
        """|A ∩ B| / |A ∪ B|; nan when both are empty."""
        return _ratio(self.common, self.reference + self.prediction - self.common)

    @property
    def volume_ml(self) -> float:
        """Of the prediction; nan for a slice."""
        return self.prediction * self.element_ml

    @property
    def volume_ref_ml(self) -> float:
        """Of the reference; nan for a slice."""
        return self.reference * self.element_ml

    @property
    def volume_error_ml(self) -> float:
        """Prediction minus reference: positive is too much. nan when both are empty, and for a slice."""
        if not self.reference and not self.prediction:
            # 0 ml would enter a mean as a perfect score where nothing was to be found
            return math.nan
        return (self.prediction - self.reference) * self.element_ml

    @property
    def volume_error_percent(self) -> float:
        """Error in percent of the reference (of a slice: of its area); inf for an empty reference that got a
        prediction, nan when both are empty."""
        if not self.reference:
            return math.inf if self.prediction else math.nan
        return 100 * (self.prediction - self.reference) / self.reference


def overlap(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float] | None = None) -> Overlap:
    """Count two masks.

    reference, prediction: bool, (K, J, I) or (h, w).
    spacing_mm: pitch along the array's axes; without it, and for a slice, volumes are nan.
    Raises InputError when the masks are not boolean, of unequal shape, or the spacing does not fit.
    """
    check_masks(reference, prediction)
    element_ml = math.nan
    if spacing_mm is not None:
        pitch = check_spacing(spacing_mm, reference.ndim)
        if reference.ndim == 3:
            element_ml = math.prod(pitch) / 1000
    return Overlap(
        int(np.count_nonzero(reference)),
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference & prediction)),
        element_ml,
    )


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Dice similarity, [0, 1]; nan when both masks are empty, 0 when one is. See `overlap`."""
    return overlap(reference, prediction).dice


def iou(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Intersection over union (Jaccard), [0, 1]; nan when both masks are empty, 0 when one is. See `overlap`."""
    return overlap(reference, prediction).iou


def check_masks(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Raise InputError unless both are boolean, of one shape, and 2D or 3D."""
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != bool:
            raise InputError(
                f"The {name} mask holds {mask.dtype}, metrics take bool: compare a label map with one id first "
                "(labels == id)."
            )
    if reference.shape != prediction.shape:
        raise InputError(
            f"The reference mask is {reference.shape} and the prediction {prediction.shape}: both must lie on the "
            "same grid. Write the prediction on the grid of the scan."
        )
    if reference.ndim not in (2, 3):
        raise InputError(f"A mask has 2 or 3 axes, this one has {reference.ndim} (shape {reference.shape}).")


def check_spacing(spacing_mm: Sequence[float], ndim: int) -> tuple[float, ...]:
    """The spacing as floats; InputError unless there is one positive number per axis."""
    pitch = tuple(float(value) for value in spacing_mm)
    if len(pitch) != ndim or not all(math.isfinite(value) and value > 0 for value in pitch):
        raise InputError(f"The spacing must be {ndim} positive numbers in mm, one per axis of the mask, not {pitch}.")
    return pitch


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
