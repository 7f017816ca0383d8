"""What a server is asked for, and what it answers: the same over DICOMweb and DIMSE.

Answers are data from outside. UIDs are checked; a match for something else than was asked is dropped, since a server
may ignore a key that it does not know. What is about the patient is in no `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pydicom import Dataset

from medsam.errors import InputError, printable
from medsam.pacs.uids import check_uid, is_uid

Level = Literal["study", "series", "instance"]
LEVELS: tuple[Level, ...] = ("study", "series", "instance")

# key -> the level it belongs to; what may be asked for
KEYS: Mapping[str, Level] = MappingProxyType(
    {
        "PatientID": "study",
        "PatientName": "study",
        "AccessionNumber": "study",
        "StudyDate": "study",
        "StudyDescription": "study",
        "StudyInstanceUID": "study",
        "Modality": "series",
        "SeriesDescription": "series",
        "SeriesInstanceUID": "series",
        "SOPInstanceUID": "instance",
    }
)
# what is asked to be told, beside the keys
RETURNED: Mapping[Level, tuple[str, ...]] = MappingProxyType(
    {
        "study": (
            "StudyInstanceUID",
            "PatientID",
            "PatientName",
            "StudyDate",
            "StudyDescription",
            "AccessionNumber",
            "ModalitiesInStudy",
            "NumberOfStudyRelatedSeries",
            "NumberOfStudyRelatedInstances",
        ),
        "series": (
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "Modality",
            "SeriesNumber",
            "SeriesDescription",
            "NumberOfSeriesRelatedInstances",
        ),
        "instance": (
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "SOPInstanceUID",
            "SOPClassUID",
            "InstanceNumber",
            "Rows",
            "Columns",
            "NumberOfFrames",
        ),
    }
)
LIMIT = 100
# bytes of an answer that is no image, and what a server does that sends more
ANSWER_BYTES = 64 * 2**20
TOO_MUCH = "sends more than any answer of this kind can have"
# of an image of which the server does not say how large it is, and of any
_IMAGE_BYTES, _MOST_BYTES = 2**31, 2**35
# in an address as they are
_PLAIN = re.compile(r"[A-Za-z0-9._~*?-]", re.ASCII)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DATE = re.compile(r"\d{8}(-(\d{8})?)?|-\d{8}", re.ASCII)
# of these a server may answer with others, and nobody would see it: compared again, where no wildcard was asked
_COMPARED = ("PatientID", "AccessionNumber", "Modality")


@dataclass(frozen=True)
class Query:
    """One question. keys: keyword -> value, `*` and `?` are wildcards (not in UIDs). limit: most matches, or None."""

    level: Level
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    limit: int | None = LIMIT

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError("`limit` must be at least 1.", parameter="limit")
        for key, value in self.keys.items():
            _check_key(key, value, self.level)

    def of_study(self) -> Query:
        """The question which studies can hold what is asked for."""
        keys = {key: value for key, value in self.keys.items() if KEYS[key] == "study" or key == "Modality"}
        return Query("study", keys, self.limit)


def _check_key(key: str, value: str, level: Level) -> None:
    if key not in KEYS:
        raise InputError(f"A server is not asked for {key}. Known keys: {', '.join(KEYS)}.")
    if LEVELS.index(KEYS[key]) > LEVELS.index(level) and key != "Modality":
        raise InputError(f"{key} is a key of the level {KEYS[key]}, and the question is for the level {level}.")
    if key in _UIDS:
        check_uid(value, re.sub(r"([a-z])([A-Z])", r"\1 \2", key).replace("SOPInstance", "SOP Instance"))
    elif key == "StudyDate" and not _DATE.fullmatch(value):
        raise InputError("A study date is YYYYMMDD, or a range: YYYYMMDD-YYYYMMDD, YYYYMMDD-, -YYYYMMDD.")
    elif not value.strip() or "\\" in value or not value.isprintable() or len(value) > 64:
        raise InputError(f"The value of {key} must have 1 to 64 characters, and no backslash or control character.")


@dataclass(frozen=True)
class Match:
    """One study, series or instance that a server knows. Fields of other levels are empty.

    Texts are safe to print, but those about the patient and free texts belong on a screen that was asked for them.
    rows, columns, frames: as stated; 0: not stated.
    """

    study: str
    series: str = ""
    instance: str = ""
    sop_class: str = ""
    modalities: tuple[str, ...] = ()
    number: int | None = None
    series_count: int | None = None
    images: int | None = None
    rows: int = 0
    columns: int = 0
    frames: int = 0
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    date: str = field(default="", repr=False)
    description: str = field(default="", repr=False)

    @property
    def most_bytes(self) -> int:
        """How large the file of an image may be: generously, from what the server says of its size."""
        pixels = self.rows * self.columns * max(1, self.frames)
        return _IMAGE_BYTES if pixels == 0 else min(_MOST_BYTES, max(ANSWER_BYTES, 16 * pixels))


@dataclass(frozen=True)
class Found:
    """What a server answered. more: there are more than the limit. left_out: answers without valid UIDs."""

    matches: tuple[Match, ...]
    more: bool = False
    left_out: int = 0


def collect(query: Query, answers: Iterable[Dataset], also: Callable[[Match], bool] | None = None) -> Found:
    """The matches among a server's answers, each one once; reads no further than one more than the limit.

    also: what a match has to fulfil beside.
    """
    matches: dict[tuple[str, str, str], Match] = {}
    left_out = 0
    for answer in answers:
        match = _match(query, answer)
        if match is None:
            left_out += 1
            # nothing but rubbish, for ever
            if left_out > 10_000:
                raise InputError("The server answers with thousands of entries that have no valid UID.")
        elif _asked_for(query, match) and (also is None or also(match)):
            matches.setdefault((match.study, match.series, match.instance), match)
            if query.limit is not None and len(matches) > query.limit:
                break
    found = tuple(matches.values())
    more = query.limit is not None and len(found) > query.limit
    return Found(found[: query.limit] if more else found, more, left_out)


def loosened(query: Query) -> Query | None:
    """The question with wildcards in place of what an address cannot hold as it is; None when nothing has to go.

    Orthanc's plugin does not decode addresses. Its answers must be compared by `fits`.
    """
    keys = {
        key: value
        if key == "StudyDate"
        # more than one byte in UTF-8, and `?` is one
        else "".join(char if _PLAIN.match(char) else "?" if char.isascii() else "*" for char in value)
        for key, value in query.keys.items()
    }
    return None if keys == query.keys else Query(query.level, keys, query.limit)


def fits(query: Query, match: Match) -> bool:
    """Whether the texts of a match are what was asked for, wildcards and capitals aside."""
    answered = {
        "PatientID": match.patient_id,
        "PatientName": match.patient_name,
        "AccessionNumber": match.accession,
        f"{query.level.capitalize()}Description": match.description,
    }
    return all(_is_like(answered[key], value) for key, value in query.keys.items() if key in answered)


def _is_like(text: str, pattern: str) -> bool:
    parts = {"*": ".*", "?": "."}
    regex = "".join(parts.get(char) or re.escape(char) for char in pattern.strip())
    return re.fullmatch(regex, text.strip(), re.IGNORECASE) is not None


def _match(query: Query, answer: Dataset) -> Match | None:
    """What an answer says; None when it does not say which study, series or instance it is about."""
    # a server may leave out what it was asked with
    study, series, instance = (_text(answer, key) or query.keys.get(key, "") for key in _UIDS)
    needed = (study, series, instance)[: LEVELS.index(query.level) + 1]
    if not all(map(is_uid, needed)):
        return None
    depth = LEVELS.index(query.level)
    sop_class = _text(answer, "SOPClassUID")
    many = _several(answer, "ModalitiesInStudy") if query.level == "study" else _several(answer, "Modality")
    number = {"study": "", "series": "SeriesNumber", "instance": "InstanceNumber"}[query.level]
    images = "NumberOfStudyRelatedInstances" if query.level == "study" else "NumberOfSeriesRelatedInstances"
    return Match(
        study,
        series if depth > 0 else "",
        instance if depth > 1 else "",
        sop_class if is_uid(sop_class) else "",
        many,
        _whole(answer, number) if number else None,
        _whole(answer, "NumberOfStudyRelatedSeries"),
        _whole(answer, images),
        max(0, _whole(answer, "Rows") or 0),
        max(0, _whole(answer, "Columns") or 0),
        max(0, _whole(answer, "NumberOfFrames") or 0),
        _text(answer, "PatientID"),
        _text(answer, "PatientName"),
        _text(answer, "AccessionNumber"),
        _text(answer, "StudyDate"),
        _text(answer, "StudyDescription" if query.level == "study" else "SeriesDescription"),
    )


def _asked_for(query: Query, match: Match) -> bool:
    """Whether a match is what was asked for, as far as that is certain."""
    uids = dict(zip(_UIDS, (match.study, match.series, match.instance), strict=True))
    answered: dict[str, tuple[str, ...]] = {
        "PatientID": (match.patient_id,),
        "AccessionNumber": (match.accession,),
        "Modality": match.modalities,
    }
    for key, value in query.keys.items():
        if uids.get(key) and uids[key] != value:
            return False
        if key in _COMPARED and not re.search(r"[*?]", value):
            given = [one.strip().casefold() for one in answered[key] if one]
            if given and value.strip().casefold() not in given:
                return False
    return True


def _value(answer: Dataset, keyword: str) -> object:
    # a value of the wrong kind makes pydicom raise what it likes
    try:
        return answer.get(keyword)
    except Exception:
        return None


def _text(answer: Dataset, keyword: str) -> str:
    value = _value(answer, keyword)
    return "" if value is None else _shown(value)


def _several(answer: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(answer, keyword)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    return tuple(text for text in map(_shown, values[:50]) if text)


def _shown(value: object) -> str:
    try:
        return printable(str(value)).replace("\n", " ").strip()[:256]
    except Exception:
        return ""


def _whole(answer: Dataset, keyword: str) -> int | None:
    try:
        return int(str(_value(answer, keyword))[:12])
    except ValueError:
        return None
