"""Names of structures, and how many millimetres of surface deviation each is allowed.

A name is canonical when it is in lower case, its words joined by "_", the side last: "kidney_right". That is how
TotalSegmentator spells most of its classes. Data sets spell the same organ in many ways ("Right Kidney", "RK",
"kidney_r", "Kidney-Rt"); `canonical_name` brings the common ones together and leaves unknown ones readable.

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
import re
from dataclasses import dataclass

from medsam.errors import InputError

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

# Other spellings, without side, in canonical form.
_SYNONYMS: dict[str, str] = {
    "kidneys": "kidney",
    "lungs": "lung",
    "ivc": "inferior_vena_cava",
    "vena_cava_inferior": "inferior_vena_cava",
    "postcava": "inferior_vena_cava",
    "adrenal": "adrenal_gland",
    "adrenals": "adrenal_gland",
    "adrenalgland": "adrenal_gland",
    "adrenal_glands": "adrenal_gland",
    "suprarenal_gland": "adrenal_gland",
    "glnd_adrenal": "adrenal_gland",
    "gall_bladder": "gallbladder",
    "oesophagus": "esophagus",
    "brain_stem": "brainstem",
    "opticnerve": "optic_nerve",
    "optic_nrv": "optic_nerve",
    "parotid": "parotid_gland",
    "parotids": "parotid_gland",
    "glnd_parotid": "parotid_gland",
    "bone_mandible": "mandible",
    "bladder": "urinary_bladder",
    "spinalcord": "spinal_cord",
}

# Abbreviations that carry the side (FLARE). Not BTCV's "lad" and "rad": in radiotherapy LAD is a coronary artery.
_ABBREVIATIONS: dict[str, str] = {
    "rk": "kidney_right",
    "lk": "kidney_left",
    "rkid": "kidney_right",
    "lkid": "kidney_left",
    "rag": "adrenal_gland_right",
    "lag": "adrenal_gland_left",
}

_SIDES: dict[str, str] = {"left": "left", "lt": "left", "right": "right", "rt": "right"}
# A single letter names a side only at either end: "Kidney_L", "r kidney", but not the L of "vertebra L 4".
_LETTERS: dict[str, str] = {"l": "left", "r": "right"}


def canonical_name(name: str) -> str:
    """The name in the spelling of this project, e.g. "Right Kidney", "RK" and "kidney-rt" -> "kidney_right".

    Case, separators, camel case and the place of the side do not matter; common synonyms are replaced. Unknown names
    come back tidied, and a name that is already canonical comes back as it is. Raises InputError for a name without
    a letter or digit.
    """
    # "SpinalCord_L" has a seam between a small and a capital letter
    words = re.findall(r"\w+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower())
    if not words:
        raise InputError(f"A structure needs a name with at least one letter or digit, {name!r} has none.")
    if len(words) == 1 and words[0] in _ABBREVIATIONS:
        return _ABBREVIATIONS[words[0]]
    ends = (0, len(words) - 1)
    sides = [n for n, word in enumerate(words) if word in _SIDES or (word in _LETTERS and n in ends)]
    side = None
    # with two sides there is no telling which is meant, and a side alone is a name
    if len(sides) == 1 and len(words) > 1:
        word = words.pop(sides[0])
        side = _SIDES.get(word) or _LETTERS[word]
    organ = "_".join(words)
    organ = _SYNONYMS.get(organ, organ)
    return f"{organ}_{side}" if side else organ


def tolerance(name: str, default_mm: float = DEFAULT_TOLERANCE_MM) -> Tolerance:
    """The published tolerance of a structure with its source, or `default_mm` when there is none.

    name: in any spelling `canonical_name` understands. Raises InputError when the default is negative or not finite.
    """
    if not (math.isfinite(default_mm) and default_mm >= 0):
        raise InputError(f"The surface tolerance must be 0 mm or more, not {default_mm}.")
    organ = re.sub("_(left|right)$", "", canonical_name(name))
    chosen = f"default ({default_mm:g} mm, chosen by the user)"
    source = _DEFAULT_SOURCE if default_mm == DEFAULT_TOLERANCE_MM else chosen
    return _TOLERANCES.get(organ, Tolerance(float(default_mm), source))


def tolerance_mm(name: str, default: float = DEFAULT_TOLERANCE_MM) -> float:
    """Millimetres only; see `tolerance`."""
    return tolerance(name, default).mm
