"""What a checkpoint expects of its input: preprocessing belongs to the weights.

Source: the three published recipes. SAM pads the long side and standardises 0..255 pixels; MedSAM stretches to
1024 and scales to [0, 1]; LiteMedSAM pads at 256 and scales each slice to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocess:
    """From an intensity-scaled slice (0..255) to model input.

    size: side of the square input in pixels.
    fit: "pad" scales the long side to `size` and pads right and bottom with zeros; "stretch" scales both sides.
    scale: "minmax" maps each slice to [0, 1]; "standardise" subtracts `mean` and divides by `std` (per channel).
        Padding happens after scaling, so it is zero in model units.
    interpolation: how pixels are resampled; the kernel widens when shrinking. LiteMedSAM's own script uses OpenCV's
        INTER_AREA, which is rougher in both directions and scores lower (docs/results/README.md).
    """

    size: int
    fit: Literal["pad", "stretch"]
    scale: Literal["minmax", "standardise"]
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
