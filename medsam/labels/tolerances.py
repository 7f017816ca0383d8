"""How many millimetres of surface deviation a structure is allowed.

Tolerances are for the normalised surface Dice (`metrics.surface`). They say how far apart two experts' surfaces may
lie, so they are taken from published evaluations, never guessed:

  FLARE22       the per-organ tolerances in the evaluation code of the MICCAI FLARE 2022 challenge (Ma et al. 2024,
                "Unleashing the strengths of unlabelled data in deep learning-assisted pan-cancer abdominal organ
                quantification", Lancet Digital Health 6(11))
  Nikolov 2021  organs at risk of the head and neck, J Med Internet Res 23(7):e26151. Only the four that could be
                checked against a second published list are here; the paper has more.
  default       2 mm, as in the evaluation code of the CVPR 2024 "Segment Anything in Medical Images on Laptop"
                challenge, for every structure
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsam.errors import InputError
from medsam.labels.names import canonical_name, side_of

DEFAULT_TOLERANCE_MM = 2.0

_DEFAULT_SOURCE = "default (CVPR 2024 MedSAM on Laptop: 2 mm for every structure)"
_FLARE22 = "FLARE22 evaluation code"
_NIKOLOV = "Nikolov et al. 2021"


@dataclass(frozen=True)
class Tolerance:
    """How far a surface may lie off, in mm, and where that is published."""

    mm: float
    source: str


# By canonical name without its side; both sides are allowed the same.
_TOLERANCES: dict[str, Tolerance] = {
    "liver": Tolerance(5, _FLARE22),
    "kidney": Tolerance(3, _FLARE22),
    "spleen": Tolerance(3, _FLARE22),
    "pancreas": Tolerance(5, _FLARE22),
    "aorta": Tolerance(2, _FLARE22),
    "inferior_vena_cava": Tolerance(2, _FLARE22),
    "adrenal_gland": Tolerance(2, _FLARE22),
    "gallbladder": Tolerance(2, _FLARE22),
    "esophagus": Tolerance(3, _FLARE22),
    "stomach": Tolerance(5, _FLARE22),
    "duodenum": Tolerance(7, _FLARE22),
    "brainstem": Tolerance(2.5, _NIKOLOV),
    "optic_nerve": Tolerance(2.5, _NIKOLOV),
    "parotid_gland": Tolerance(2.85, _NIKOLOV),
    "mandible": Tolerance(1.01, _NIKOLOV),
}


def tolerance(name: str, default_mm: float = DEFAULT_TOLERANCE_MM) -> Tolerance:
    """The published tolerance of a structure with its source, or `default_mm` when there is none.

    name: in any spelling `canonical_name` understands. Raises InputError when the default is negative or not finite.
    """
    if not (math.isfinite(default_mm) and default_mm >= 0):
        raise InputError(f"The surface tolerance must be 0 mm or more, not {default_mm}.")
    organ, _ = side_of(canonical_name(name))
    chosen = f"default ({default_mm:g} mm, chosen by the user)"
    source = _DEFAULT_SOURCE if default_mm == DEFAULT_TOLERANCE_MM else chosen
    return _TOLERANCES.get(organ, Tolerance(float(default_mm), source))


def tolerance_mm(name: str, default: float = DEFAULT_TOLERANCE_MM) -> float:
    """Millimetres only; see `tolerance`."""
    return tolerance(name, default).mm
