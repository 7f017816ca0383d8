"""What a series says of the machine, the examination and the person, for statistics of groups.

Only what cannot name anybody is read: codes and numbers, and those texts of a scanner in which a model or a kernel
stands (`TEXTS`). Names, numbers of patients and of examinations, dates, UIDs, descriptions and private elements are
refused, whatever they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import dictionary_is_retired, dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword
from pydicom.tag import Tag

from medsam.errors import InputError
from medsam.io.dicom.read import files_below, is_dicom, quiet, read_dataset
from medsam.io.dicom.tags import known_non_scan, named, numbers, sequence_items, text, uid_of

# texts that a scanner writes about itself
TEXTS = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "FilterType", "SequenceName"),
    *("ReceiveCoilName", "TransmitCoilName", "PulseSequenceName", "CollimatorGridName"),
)
_CODES = ("CS",)
_CODE = r"[A-Z0-9_ ]{0,16}"
_IDENTITY = ("SOPClassUID", "SeriesInstanceUID", "Rows", "Modality")
_NUMBERS = ("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV")
# what is read to tell something else by, and never returned
_INSTITUTION, _AGE = "InstitutionName", ("PatientAge", "PatientBirthDate", "StudyDate", "AcquisitionDate")
# beside these: whether contrast was given
_AGENT = ("ContrastBolusAgent", "ContrastBolusAgentSequence")

AGE, CONTRAST, INSTITUTION = "age", "contrast", "institution"
_TOLD_AS = {"PatientAge": AGE, _AGENT[0]: CONTRAST, _INSTITUTION: INSTITUTION}
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def keyword_of(tag: str) -> str:
    """The keyword of a tag that is given as one, as "0018,0050" or as "(0018,0050)"; of the patient's age, a contrast
    agent and the institution `AGE`, `CONTRAST` and `INSTITUTION`.

    Raises InputError for what is no element of the standard, and for one that may name somebody.
    """
    digits = re.fullmatch(r"\(?\s*([0-9a-fA-F]{4})\s*,\s*([0-9a-fA-F]{4})\s*\)?", tag.strip())
    keyword = keyword_for_tag(Tag(int(digits[1], 16), int(digits[2], 16))) if digits else _spelled(tag.strip())
    if not keyword or tag_for_keyword(keyword) is None or dictionary_is_retired(keyword):
        raise InputError(f"{tag!r} is no element of the DICOM standard; give a keyword as SliceThickness or 0018,0050.")
    if keyword in _TOLD_AS:
        return _TOLD_AS[keyword]
    kind = dictionary_VR(keyword)
    if kind not in (*_CODES, *_NUMBERS) and keyword not in TEXTS:
        why = {"DA": "a date", "DT": "a date", "TM": "a time", "PN": "a name", "UI": "a UID", "SQ": "a sequence"}
        what = why.get(kind, "a text that may name a person, a place or an examination")
        raise InputError(f"{named(keyword)} is {what}: it may tell who somebody is, and makes no group.")
    return keyword


def _spelled(keyword: str) -> str:
    """A keyword in whatever case, as the standard writes it."""
    return _keywords().get(keyword.lower(), keyword)


@lru_cache(maxsize=1)
def _keywords() -> dict[str, str]:
    return {keyword.lower(): keyword for keyword in keyword_dict}


def series_attributes(path: Path, series: str | None, wanted: Iterable[str]) -> dict[str, str | float]:
    """What the first image of a series says. path: a file or a folder. series: its UID, where there are several.

    wanted: keywords that `keyword_of` lets pass, and `AGE` (in whole years), `CONTRAST` ("yes"), `INSTITUTION` (a
    text that the caller must not show). What is missing is left out; of several numbers the first is taken.
    Returns nothing for what is no DICOM, and where it cannot be read: whoever reads the scan reports that.
    """
    wanted = list(wanted)
    extra = {AGE: _AGE, CONTRAST: _AGENT, INSTITUTION: (_INSTITUTION,)}
    keywords = [keyword for one in wanted for keyword in extra.get(one, (one,))]
    try:
        with quiet():
            dataset = _first(path, series, keywords)
            if dataset is None:
                return {}
            found = {one: _value(dataset, one, path.name) for one in wanted}
            if _GROUPS[0] in dataset and None in found.values():
                # an enhanced image states the rest frame by frame; that of the first will do
                dataset = _first(path, series, [*keywords, _GROUPS[1]]) or dataset
                found |= {one: _value(dataset, one, path.name) for one, value in found.items() if value is None}
    except InputError:
        return {}
    return {one: value for one, value in found.items() if value is not None}


def _first(path: Path, series: str | None, keywords: Iterable[str]) -> Dataset | None:
    """The header of the first image of a series, with the elements that are asked for."""
    tags = [*_IDENTITY, _GROUPS[0], *keywords]
    if path.is_dir() and series is not None:
        # a folder of many series is read once for all of them; a file that has changed meanwhile is read for nothing
        file = _first_files(path).get(series)
        found = None if file is None or not file.is_file() else _image(file, tags)
        if found is not None and uid_of(found, "SeriesInstanceUID") == series:
            return found
    for file in files_below(path) if path.is_dir() else [path]:
        found = _image(file, tags)
        if found is not None and series in (None, uid_of(found, "SeriesInstanceUID")):
            return found
    return None


@lru_cache(maxsize=4)
def _first_files(folder: Path) -> dict[str, Path]:
    """Series -> its first image in a folder."""
    first: dict[str, Path] = {}
    for file in files_below(folder):
        try:
            dataset = _image(file, _IDENTITY)
        except InputError:  # a damaged file, which is another's
            continue
        if dataset is not None:
            first.setdefault(uid_of(dataset, "SeriesInstanceUID"), file)
    return first


def _image(file: Path, tags: Iterable[str]) -> Dataset | None:
    if not is_dicom(file):
        return None
    dataset = read_dataset(file, file.name, stop_before_pixels=True, specific_tags=list(tags))
    return dataset if "Rows" in dataset and not known_non_scan(dataset) else None


def _value(dataset: Dataset, one: str, name: str) -> str | float | None:
    if one == AGE:
        return _age(dataset)
    if one == CONTRAST:
        agents = sequence_items(dataset, _AGENT[1], name)
        return "yes" if agents or (text(dataset, _AGENT[0]) or "none").casefold() not in ("none", "no") else None
    if one == INSTITUTION:
        return text(dataset, _INSTITUTION)
    home = _home(dataset, one, name)
    if home is None:
        return None
    if dictionary_VR(one) in _NUMBERS:
        found = numbers(home, one, name)
        return found[0] if found else None
    return _words(home, one)


def _words(home: Dataset, keyword: str) -> str | None:
    """A code or a text, several of them with "\\" between; None for a code that is none."""
    stated = home.get(keyword)
    several = [stated] if isinstance(stated, str) or not hasattr(stated, "__len__") else list(stated)
    parts = [" ".join(str(each or "").split()) for each in several]
    # PS3.5 6.2; what is no code is a text that found its way into one, and may name somebody
    if (
        dictionary_VR(keyword) in _CODES
        and keyword != "PatientSex"
        and not all(re.fullmatch(_CODE, part) for part in parts)
    ):
        return None
    return "\\".join(filter(None, parts)) or None


def _home(dataset: Dataset, keyword: str, name: str) -> Dataset | None:
    """The data set that holds an element: the header, or a functional group of all frames or of the first."""
    if keyword in dataset:
        return dataset
    for groups in (item for one in _GROUPS for item in sequence_items(dataset, one, name)[:1]):
        for group in groups:
            for item in sequence_items(groups, group.keyword, name) if group.VR == "SQ" and group.keyword else ():
                if keyword in item:
                    return item
    return None


def _age(dataset: Dataset) -> float | None:
    """In whole years: (0010,1010) Patient's Age, else from the date of birth to that of the study."""
    stated = re.fullmatch(r"(\d{1,3})([DWMY])", (text(dataset, "PatientAge") or "").upper())
    if stated:
        return float(int(stated[1]) * {"D": 1, "W": 7, "M": 30.4375, "Y": 365.25}[stated[2]] // 365.25)
    born = _date(text(dataset, "PatientBirthDate"))
    day = _date(text(dataset, "StudyDate")) or _date(text(dataset, "AcquisitionDate"))
    if born is None or day is None or not 0 <= day.year - born.year <= 130:
        return None
    return float(max(0, day.year - born.year - ((day.month, day.day) < (born.month, born.day))))


def _date(stated: str | None) -> date | None:
    digits = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)", stated or "")
    try:
        return date(*map(int, digits.groups())) if digits else None
    except ValueError:
        return None


def sidecar_values(content: Mapping[str, object], wanted: Iterable[str]) -> dict[str, str | float]:
    """What the JSON that a converter (dcm2niix, BIDS) wrote beside a NIfTI says under DICOM's keywords."""
    names = {"ManufacturerModelName": "ManufacturersModelName"}
    found: dict[str, str | float] = {}
    for one in wanted:
        value = content.get(one, content.get(names.get(one, one)))
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            found[one] = float(value)
        elif isinstance(value, str) and value.strip():
            found[one] = " ".join(value.split())
    return found
