"""Who a data set is about, as words; and whether a text that would be kept holds one of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydicom import DataElement, Dataset

from medsam.io.dicom.deidentify.table import listed, vrs
from medsam.io.dicom.deidentify.tags import words as keywords
from medsam.io.dicom.deidentify.values import is_several

# numbers and addresses that stand for a person
_IDENTIFIERS = keywords(
    "PatientID OtherPatientIDs AccessionNumber AdmissionID ServiceEpisodeID MedicalRecordLocator MilitaryRank "
    "PatientAddress PatientTelephoneNumbers InsurancePlanIdentification IssuerOfPatientID StudyID "
    "InstitutionName InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber "
    "RequestingService ResponsibleOrganization ClinicalTrialSubjectID ClinicalTrialSubjectReadingID "
    "PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest RequestedProcedureID "
    "ScheduledProcedureStepID PerformedProcedureStepID PersonAddress PersonTelephoneNumbers"
)
_BIRTH = keywords("PatientBirthDate")
# words that name nobody, though a patient may have been given one as a name
_NOBODY = frozenset(
    keywords(
        "anonymous anonymized anonymised anonym anon deidentified removed unknown none null patient test phantom name "
        "subject case study series scan image abdomen chest thorax head neck brain breast liver lung lungs kidney "
        "spleen pancreas heart aorta pelvis prostate bladder spine knee hip shoulder foot hand whole body primary "
        "original derived secondary axial left right gtv ctv ptv tumor tumour lesion nodule mass lobe hospital "
        "university clinic center centre medical department radiology institute"
    )
)
# functional groups, contours
_NAMELESS = (0x52009229, 0x52009230, 0x30060039)
_SHORTEST = 3
_SHORTEST_INSIDE = 5
_SHORTEST_NUMBER = 4
# a date, a number of many digits, an address of mail: taken out of descriptions
_TELLING = re.compile(
    r"\S*@\S*|\b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b|\S*\d{5,}\S*|\b(mr|mrs|ms|dr|prof|herr|frau|mme|sig)\b\.?\s*\S*", re.I
)
# letters that Unicode does not take apart, and what keyboards without them write
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_WRITTEN_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})


def plain(text: str) -> str:
    """Small letters without accents, so that spellings of a name meet."""
    letters = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    return "".join(one for one in letters if not unicodedata.combining(one))


def _spellings(name: str) -> Iterator[str]:
    """A name as it is, and with Müller for Mueller and the other way round."""
    yield name
    composed = unicodedata.normalize("NFC", name.casefold())
    yield composed.translate(_WRITTEN_OUT)
    yield re.sub(r"(?<=[aou])e|(?<=a)a", "", composed)


def _orders(date: str) -> Iterator[str]:
    """A date (YYYYMMDD) as people write it: year, day or month first."""
    if re.fullmatch(r"\d{8}", date):
        year, month, day = date[:4], date[4:6], date[6:]
        yield from (year + month + day, day + month + year, month + day + year)


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", plain(text))


class Identity:
    """The words of one data set that say who it is about, or who has made it.

    may_stay: tags that an option keeps, the words of which are no secret then.
    """

    def __init__(self, dataset: Dataset, may_stay: frozenset[int] = frozenset()) -> None:
        self._words: set[str] = set()
        for name in _names(dataset):
            self._words |= {word for one in _spellings(name) for word in words(one) if _is_telling(word)}
        for identifier in _identifiers(dataset, may_stay):
            joined = "".join(words(identifier))
            if len(joined) >= _SHORTEST_NUMBER and joined not in _NOBODY:
                self._words.add(joined)
        self._words |= {written for date in _births(dataset) for written in _orders(date)}
        # shorter ones stand in other words by chance
        self._inside = {word for word in self._words if len(word) >= _SHORTEST_INSIDE or _is_syllables(word)}
        self.in_text = lru_cache(maxsize=10_000)(self._in_text)

    def _in_text(self, text: str) -> bool:
        """Whether a text holds a name or a number of `dataset`."""
        found = words(text)
        if not self._words.isdisjoint(found):
            return True
        joined = "".join(found)
        return any(word in joined for word in self._inside)

    def cleaned(self, text: str) -> str:
        """A description without names, numbers and dates; "" where too little is left to trust the rest."""
        if "^" in text:
            return ""
        text = _TELLING.sub(" ", text)
        kept = [word for word in text.split() if not self._in_text(word)]
        text = " ".join(kept)
        # a name that was written in two words, or with its letters apart
        return "" if self._in_text(text) else text


def _is_telling(word: str) -> bool:
    if word in _NOBODY or word.isdigit():
        return False
    return len(word) >= _SHORTEST or (len(word) == 2 and _is_syllables(word))


def _is_syllables(word: str) -> bool:
    """Whether a word is Chinese, Japanese or Korean: two signs are a name there, and words are not set apart."""
    return ord(word[0]) > 0x2E80


def _names(dataset: Dataset) -> Iterator[str]:
    """Every person's name, at any depth."""
    for element in _elements(dataset, frozenset()):
        if element.VR == "PN":
            yield from _values(element.value)


def _identifiers(dataset: Dataset, may_stay: frozenset[int]) -> Iterator[str]:
    wanted = listed(_IDENTIFIERS) - may_stay
    for element in _elements(dataset, wanted):
        if element.tag in wanted:
            yield from _values(element.value)


def _births(dataset: Dataset) -> Iterator[str]:
    for element in _elements(dataset, listed(_BIRTH)):
        if element.tag in listed(_BIRTH):
            yield from (one.strip().replace(".", "") for one in _values(element.value))


def _elements(dataset: Dataset, wanted: frozenset[int]) -> Iterator[DataElement]:
    """The names in a data set, and the elements that are wanted, at any depth; no other is parsed."""
    for tag in list(dataset.keys()):
        # frames by the thousand name nobody, and contours do not, either
        if tag in _NAMELESS or not (tag in wanted or {dataset.get_item(tag).VR, *vrs(tag)} & {"PN", "SQ"}):
            continue
        try:
            element = dataset[tag]
        except Exception:  # a damaged element is not kept, either
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item, wanted)
        else:
            yield element


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    # the parts of a name in other scripts are words, too
    return [str(one) for one in value] if is_several(value) else [str(value)]
