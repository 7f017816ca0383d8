"""All metrics of one structure at once, and what each of them means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsam.masks import bounding_box
from medsam.metrics.overlap import check_masks, overlap
from medsam.metrics.surface import surface_distances

# One sentence each, for reports. The keys are those of `measure`.
DEFINITIONS: dict[str, str] = {
    "dice": "Dice similarity: twice the shared voxels over the voxels of both masks; 0 when one mask is empty.",
    "iou": "Intersection over union: the shared voxels over the voxels in either mask; 0 when one mask is empty.",
    "nsd": (
        "Normalised surface Dice: the share of both surfaces, weighed by area in mm² (contour length in mm for a "
        "slice), that lies within the stated tolerance of the other surface, limit included (Nikolov et al. 2021); "
        "0 when one mask is empty."
    ),
    "hd95_mm": (
        "Hausdorff distance, 95th percentile: in each direction the smallest distance that at least 95 % of the "
        "surface's area does not exceed, then the larger of the two directions (Nikolov et al. 2021); infinite "
        "when one mask is empty."
    ),
    "assd_mm": (
        "Average symmetric surface distance: the mean distance to the other surface over the area of both surfaces "
        "together; infinite when one mask is empty."
    ),
    "volume_ml": "Volume of the prediction: its voxels times the volume of a voxel.",
    "volume_ref_ml": "Volume of the reference: its voxels times the volume of a voxel.",
    "volume_error_ml": "Volume of the prediction minus that of the reference; positive is too much.",
    "volume_error_percent": (
        "Volume error in percent of the reference (of a slice: area error); infinite when only the reference is empty."
    ),
}

EMPTY_RULE = (
    "A structure that is in neither the reference nor the prediction has no score (nan) and is left out; one that is "
    "in only one of them scores 0 in overlap and has infinite surface distances."
)


def measure(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float = 2.0
) -> dict[str, float]:
    """Every metric of `DEFINITIONS`, by name.

    reference, prediction: bool (K, J, I), or (h, w) for a slice, on the same grid.
    spacing_mm: pitch along the array's axes, in their order. For an uncalibrated picture pass ones: mm are pixels.
    tolerance_mm: of the NSD, >= 0; per-organ values live in `labels`.
    Scores are nan when both masks are empty (volumes are 0 then); a slice has no volume (nan).
    Raises InputError when masks, spacing or tolerance do not fit.
    """
    check_masks(reference, prediction)
    # one look at the whole scan; everything else happens in the box
    box = bounding_box(reference, prediction) or (slice(0),) * reference.ndim
    reference, prediction = reference[box], prediction[box]
    counts = overlap(reference, prediction, spacing_mm)
    distances = surface_distances(reference, prediction, spacing_mm)
    return {
        "dice": counts.dice,
        "iou": counts.iou,
        "nsd": distances.nsd(tolerance_mm),
        "hd95_mm": distances.hd95(),
        "assd_mm": distances.assd(),
        "volume_ml": counts.volume_ml,
        "volume_ref_ml": counts.volume_ref_ml,
        "volume_error_ml": counts.volume_error_ml,
        "volume_error_percent": counts.volume_error_percent,
    }
