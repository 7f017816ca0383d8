"""What is done with a series: the first rule of the settings that matches it."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from medsam.errors import InputError, counted
from medsam.io.algorithm import DicomFormat
from medsam.io.dicom.read import read_dataset
from medsam.io.dicom.tags import named, text
from medsam.pacs.listen.names import SeriesKey

# (0008,0060) of objects about images: a rule that names neither them nor their SOP class does not mean them, so that
# a result which an archive forwards to us is not worked on again
_ABOUT_IMAGES = frozenset(
    (
        *("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "SR", "KO", "PR", "DOC", "FID", "RWV", "AU"),
        *("ECG", "HD", "OT"),
    )
)
_WHO = ("PatientID", "PatientName", "PatientBirthDate")
_WANTED = (
    *("Modality", "SOPClassUID", "SOPInstanceUID", "BodyPartExamined", "SeriesDescription", "FrameOfReferenceUID"),
    *_WHO,
)


@dataclass(frozen=True)
class Facts:
    """What rules and checks ask of a series. Never written or logged.

    instances: UIDs. sop_classes, calling: all that occur. frames: of reference. person: a digest of each element that
    says who the patient is, by its keyword.
    """

    key: SeriesKey
    instances: frozenset[str]
    modality: str
    sop_classes: frozenset[str]
    calling: frozenset[str]
    body_part: str
    description: str
    frames: frozenset[str]
    person: tuple[tuple[str, str], ...]


def read_facts(key: SeriesKey, files: Sequence[Path]) -> Facts:
    """Read the headers of a series. Raises InputError for a damaged file, and when it is of several patients."""
    headers = [
        read_dataset(path, "an instance", stop_before_pixels=True, specific_tags=list(_WANTED)) for path in files
    ]
    person = person_of(headers[0])
    for header in headers[1:]:
        for (keyword, digest), (_, other) in zip(person, person_of(header), strict=True):
            if digest != other:
                raise InputError(
                    f"The instances of the series differ in {named(keyword)}: it is of several patients, or one was "
                    "renamed on the way. Correct that where it came from, and send the series again."
                )
    metas = [header.file_meta for header in headers]
    return Facts(
        key=key,
        instances=frozenset(path.stem for path in files),
        modality=text(headers[0], "Modality") or "",
        sop_classes=frozenset(text(header, "SOPClassUID") or "" for header in headers),
        calling=frozenset(text(meta, "SourceApplicationEntityTitle") or "" for meta in metas),
        body_part=text(headers[0], "BodyPartExamined") or "",
        description=text(headers[0], "SeriesDescription") or "",
        frames=frozenset(text(header, "FrameOfReferenceUID") or "" for header in headers),
        person=person,
    )


def person_of(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """A digest of each element that says who the patient is; names without what fills them up."""
    found = []
    for keyword in _WHO:
        value = (text(dataset, keyword) or "").rstrip("^= ")
        found.append((keyword, hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()))
    return tuple(found)


@dataclass(frozen=True)
class Match:
    """Which series a rule means: those that meet every condition it states. Empty conditions are met.

    description, body_part: patterns with * and ?, whatever the case. at_least: instances.
    """

    modality: tuple[str, ...] = ()
    sop_class: tuple[str, ...] = ()
    calling_aet: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    description: tuple[str, ...] = ()
    at_least: int = 1

    def __call__(self, facts: Facts) -> bool:
        if not self.modality and not self.sop_class and facts.modality in _ABOUT_IMAGES:
            return False
        return (
            (not self.modality or facts.modality in self.modality)
            and (not self.sop_class or facts.sop_classes <= set(self.sop_class))
            and (not self.calling_aet or bool(facts.calling & set(self.calling_aet)))
            and (not self.body_part or _like(facts.body_part, self.body_part))
            and (not self.description or _like(facts.description, self.description))
            and len(facts.instances) >= self.at_least
        )


def _like(value: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(value.casefold(), pattern.casefold()) for pattern in patterns)


@dataclass(frozen=True)
class Command:
    """A program and its arguments, as they are: no shell reads them.

    In each, {folder}, {out}, {study} and {series} stand for the instances, an empty folder for results, and the UIDs.
    """

    words: tuple[str, ...]

    def filled(self, folder: Path, out: Path, key: SeriesKey) -> list[str]:
        values = {"folder": str(folder), "out": str(out), "study": key.study, "series": key.series}
        return [word.format_map(values) for word in self.words]


@dataclass(frozen=True)
class ModelRun:
    """Our own model.

    model: as of `Predictor`. prompts: a file of any kind that holds some; None: what was measured on the series and
    came with its study. propagate: through the volume. format: of the
    result.
    """

    model: str
    prompts: Path | None
    propagate: bool = False
    window: str = "auto"
    format: DicomFormat = "seg"


@dataclass(frozen=True)
class Rule:
    """name: for logs. send_to: the server that gets the result, None when it stays in the folder."""

    name: str
    match: Match
    action: Command | ModelRun
    send_to: str | None = None
    timeout_s: float = 3600.0


def first_match(rules: Sequence[Rule], facts: Facts) -> Rule | None:
    """The rule for a series."""
    return next((rule for rule in rules if rule.match(facts)), None)


def described(rules: Sequence[Rule]) -> str:
    """For the log at the start."""
    return f"{counted(len(rules), 'rule')}: {', '.join(rule.name for rule in rules)}" if rules else "no rules"
