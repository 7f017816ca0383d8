"""Codes: a value of a public vocabulary says nothing about a person, its meaning is a text as any other.

A meaning is taken from the dictionary of pydicom; where that does not know the code, the value stands in its place. A
code of a private vocabulary, or one that its vocabulary cannot hold, becomes a dummy; the name of a known structure
stays its meaning.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydicom import Dataset

from medsam.io.dicom.deidentify.structures import is_known
from medsam.io.dicom.deidentify.tags import words as keywords
from medsam.io.dicom.tags import text

# vocabulary (PS3.16 table 8-1) -> what its values look like
_VOCABULARIES = {
    "SCT": r"\d{6,18}",
    "SRT": r"[A-Z]\d?-[0-9A-F]{4,5}",
    "99SDM": r"[A-Z]\d?-[0-9A-F]{4,5}",
    "SNM3": r"[A-Z]\d?-[0-9A-F]{4,5}",
    "DCM": r"\d{5,6}",
    "LN": r"\d{1,6}-\d",
    "UCUM": r"[A-Za-z0-9%{}\[\]/.*^'-]{1,16}",
    "RADLEX": r"RID\d{1,6}",
    "FMA": r"\d{1,7}",
    "NCIt": r"C\d{1,7}",
    "UMLS": r"C\d{7}",
    "MSH": r"[DC]\d{6,9}",
    "I10": r"[A-Z]\d\d(\.\w{1,3})?",
    "I9C": r"\d{3}(\.\d{1,2})?",
    "IBSI": r"[0-9A-Z]{4}",
    "MDC": r"\d{1,6}",
    "RXNORM": r"\d{1,8}",
    "PUBCHEM_CID": r"\d{1,9}",
    "ISO3166_1": r"[A-Z]{2,3}",
    "RFC5646": r"[A-Za-z]{2,3}(-[A-Za-z]{2,4})?",
}
VALUES = ("CodeValue", "LongCodeValue")
# all that may stand in an item beside its value (PS3.3 table 8.8-1)
FIELDS = keywords(
    "CodeValue LongCodeValue URNCodeValue CodingSchemeDesignator CodingSchemeVersion CodeMeaning ContextIdentifier "
    "ContextUID MappingResource MappingResourceUID MappingResourceName ContextGroupVersion ContextGroupExtensionFlag "
    "ContextGroupLocalVersion ContextGroupExtensionCreatorUID EquivalentCodeSequence"
)


# what reports ask about the patient: sex and age, height, weight and surface (DCM, SNOMED CT, LOINC)
_PERSONAL = frozenset(
    keywords(
        "121032 121033 397669002 424144002 46098-0 30525-0 50373000 27113001 8302-2 3137-7 29463-7 3141-9 8277-6 3140-1"
    )
)


@cache
def _dictionary() -> dict[tuple[str, str], str]:
    """(vocabulary, value) -> meaning."""
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    everything: dict[str, dict[str, Any]] = dict(concepts)
    found: dict[tuple[str, str], str] = {}
    for scheme, named in everything.items():
        for values in named.values():
            for value, (meaning, _) in values.items():
                # of several, the plainest: "Liver", not "Liver structure (body structure)"
                known = found.get((scheme, value))
                if known is None or len(meaning) < len(known):
                    found[scheme, value] = meaning
    return found | {("SRT", old): found["SCT", new] for old, new in mapping["SRT"].items() if ("SCT", new) in found}


def is_code(item: Dataset) -> bool:
    """Whether an item of a sequence is a code."""
    return "CodeMeaning" in item or any(keyword in item for keyword in VALUES) or "URNCodeValue" in item


def about_person(item: Dataset) -> bool:
    """Whether an item of a report says how old, tall or heavy the patient is, or of which sex."""
    try:
        named = item.get("ConceptNameCodeSequence") or []
        return any((text(one, "CodeValue") or "") in _PERSONAL for one in named)
    except Exception:  # a damaged sequence
        return False


def cleaned_code(item: Dataset) -> tuple[Dataset, bool]:
    """A code without what a person may have typed, and whether it is still the same code."""
    scheme = text(item, "CodingSchemeDesignator") or ""
    for keyword in VALUES:
        value = text(item, keyword) or ""
        # DCM has words among its values, such as SEG
        meaning = _dictionary().get((scheme, value)) or _dictionary().get(("SRT", value))
        known = scheme == "DCM" and meaning is not None
        if value and (known or re.fullmatch(_VOCABULARIES.get(scheme, r"(?!)"), value)):
            if scheme == "UCUM" and meaning is None:
                break
            return code_item(keyword, value, scheme, meaning or value), True
    meaning = text(item, "CodeMeaning") or ""
    return dummy_code(meaning if is_known(meaning) else "REMOVED"), False


def dummy_code(meaning: str = "REMOVED") -> Dataset:
    """A code that stands for none."""
    return code_item("CodeValue", "REMOVED", "99REMOVED", meaning)


def code_item(keyword: str, value: str, scheme: str, meaning: str) -> Dataset:
    """keyword: the element that holds the value, one of `VALUES`."""
    found = Dataset()
    setattr(found, keyword, value)
    found.CodingSchemeDesignator = scheme
    found.CodeMeaning = meaning
    return found
