"""Names of structures: one spelling, their DICOM codes and colours, and the tolerance each is allowed.

`names` brings spellings together, `languages` knows them in four languages, `structures` knows codes (on the `table`
beside it), `tolerances` millimetres.
"""

from __future__ import annotations

from medsam.labels.languages import english, english_phrases, nameable, named, nearest, sides_agree
from medsam.labels.names import canonical_name, has_words, side_of
from medsam.labels.structures import (
    CATEGORIES,
    SIDES,
    UNKNOWN_CATEGORY,
    UNKNOWN_TYPE,
    Code,
    Structure,
    rt_type,
    structure,
    structure_of_code,
    structures,
)
from medsam.labels.tolerances import DEFAULT_TOLERANCE_MM, Tolerance, tolerance, tolerance_mm

__all__ = [
    "CATEGORIES",
    "DEFAULT_TOLERANCE_MM",
    "SIDES",
    "UNKNOWN_CATEGORY",
    "UNKNOWN_TYPE",
    "Code",
    "Structure",
    "Tolerance",
    "canonical_name",
    "english",
    "english_phrases",
    "has_words",
    "nameable",
    "named",
    "nearest",
    "rt_type",
    "side_of",
    "sides_agree",
    "structure",
    "structure_of_code",
    "structures",
    "tolerance",
    "tolerance_mm",
]
