"""Names of segments and regions: those of anatomy are kept, all others get letters in their place.

People type a region's name, and "GTV Smith 12.3." is a name, too.
"""

from __future__ import annotations

import re

from medsam.io.dicom.deidentify.keys import Pseudonyms
from medsam.labels import structure

# target volumes of radiotherapy (ICRU 83) with their numbers, and what planning systems add
_TARGETS = re.compile(
    r"(I?GTV|CTV|PTV|ITV|IMTV)[ _-]?([TNMPL]|LN|TUMOU?R|NODES?)?([ _-]?\d{1,4}|[ _-]?\d{1,2}[ _-]\d{2,4})?"
    r"|(BODY|EXTERNAL|SKIN|COUCH(SURFACE|INTERIOR|OUTER|INNER)?|BOLUS|ISOCENT(ER|RE)|TUMOU?R|LESION|NODULE|MASS|EDEMA"
    r"|CYST|NECROSIS|SEGMENT|BACKGROUND|ROI)[ _-]?\d{0,2}",
    re.I,
)


_TARGET = re.compile(r"\W*I?[GCP]?TV|\W*IMTV", re.I)


def is_known(name: str) -> bool:
    """Whether a name is one of anatomy or of a target, with a side or a number, and nothing else."""
    name = name.strip()
    if _TARGETS.fullmatch(name):
        return True
    # what follows GTV may be anything, and a number of three digits is none of a lesion
    if not re.search(r"[^\W\d_]", name) or len(name) > 64 or re.search(r"\d{3}", name) or _TARGET.match(name):
        return False
    return any(structure(one) is not None for one in (name, re.sub(r"[ _-]*\d{1,2}$", "", name)))


class StructureNames:
    """Names of structures: the same name is the same again in all files, in whatever element; other names differ.

    Numbers would begin anew in each file, and what is read from several files would be taken for one structure.
    """

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms

    def name(self, original: str) -> str:
        """`original` where it is known; else "structure" with six letters, together 16 characters."""
        original = original.strip()
        if is_known(original) or not original:
            return original
        return f"structure {self._pseudonyms.name('structure', original.casefold())[:6]}"
