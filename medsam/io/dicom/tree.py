"""What lies in a folder of DICOM files: scans, SEG and RTSTRUCT, and which belong together.

Patients are distinguished by (0010,0020) Patient ID and (0010,0010) Patient's Name, which are compared and forgotten:
what leaves this module is a number in order of first appearance.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from medsam.errors import InputError
from medsam.io.dicom.read import files_below, is_dicom, read_dataset
from medsam.io.dicom.rtstruct import RTSTRUCT_CLASSES, regions_of
from medsam.io.dicom.seg import SEG_CLASSES, segments_of
from medsam.io.dicom.tags import known_non_scan, sequence_items, sop_class, text

Kind = Literal["image", "seg", "rtstruct", "other"]

_WANTED = [
    "SOPClassUID",
    "Modality",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "PatientID",
    "PatientName",
    "Rows",
    "NumberOfFrames",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "SegmentationType",
    "PixelPaddingValue",
    "SegmentSequence",
    "StructureSetROISequence",
]


# what takes the place of a name when a scan is made anonymous
_PLACEHOLDERS = frozenset(
    (
        *("", "anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "unknown", "none", "na", "x"),
        *("xxx", "patient", "patientid", "noid", "noname", "removed", "unnamed", "test"),
    )
)


@dataclass
class TreeSeries:
    """One series: a scan, a SEG or an RTSTRUCT.

    kind: what it is. uid: (0020,000E). patient: 1, 2, ... in order of first appearance. study: 1, 2, ... likewise.
    files: of a scan its images; a SEG or RTSTRUCT is one file and one entry each. modality: DICOM code or None.
    structures: segment or region names. refers_to: (0020,000E) of the scans it says it was drawn on.
    """

    kind: Kind
    uid: str
    patient: int
    study: int
    modality: str | None
    frame_of_reference: str | None
    files: list[Path] = field(default_factory=list)
    structures: list[str] = field(default_factory=list)
    refers_to: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.files[0].parent


def dicom_kind(path: Path) -> Kind | None:
    """What a DICOM file holds, or None for a file that is not DICOM. Raises InputError for a damaged one."""
    dataset = _header(path, path.name)
    return None if dataset is None else _kind(dataset)


def structure_names(path: Path) -> list[str]:
    """The structures of a SEG or RTSTRUCT as its reader names them, without its masks.

    Raises InputError for other files, and for damaged ones.
    """
    dataset = _header(path, path.name)
    if dataset is None or _kind(dataset) not in ("seg", "rtstruct"):
        raise InputError(f"{path.name} is neither a DICOM SEG nor an RTSTRUCT.")
    return _structures(dataset, path.name)


def patient_digest(path: Path) -> str | None:
    """A digest of whose scan a DICOM file, or the first in a folder, says it is; None where it does not say.

    For comparing: equal digests are one person. A word such as "anonymous" is no identity.
    """
    try:
        first = next((file for file in files_below(path) if is_dicom(file)), None) if path.is_dir() else path
        dataset = None if first is None or not first.is_file() else _header(first, first.name)
    except (InputError, OSError):  # reading it as a scan reports it
        return None
    who = None if dataset is None else _stated_person(dataset)
    return None if who is None else _digest(who)


@dataclass(frozen=True)
class Tree:
    """series: in order of file names. refused: a sentence for every DICOM file that is damaged."""

    series: tuple[TreeSeries, ...]
    refused: tuple[str, ...]


def list_tree(folder: Path) -> Tree:
    """Every series below `folder`. Files that are not DICOM and hidden ones are ignored.

    Raises InputError when a folder cannot be read; a file that cannot is among the refused.
    """
    patients: dict[str, int] = {}
    studies: dict[str, int] = {}
    series: dict[object, TreeSeries] = {}
    refused: list[str] = []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        structures: list[str] = []
        refers_to: set[str] = set()
        try:
            dataset = _header(path, name)
            kind = "other" if dataset is None else _kind(dataset)
            if dataset is None or kind == "other":
                continue
            if kind != "image":
                structures, refers_to = _structures(dataset, name), set(_referenced(dataset, name))
        except InputError as error:
            refused.append(str(error))
            continue
        study = text(dataset, "StudyInstanceUID") or str(path.parent)
        key = _digest(_stated_person(dataset) or study)
        uid = text(dataset, "SeriesInstanceUID") or ""
        found = series.get((key, uid)) if kind == "image" else None
        if found is None:
            found = TreeSeries(
                kind=kind,
                uid=uid,
                patient=patients.setdefault(key, len(patients) + 1),
                study=studies.setdefault(study, len(studies) + 1),
                modality=text(dataset, "Modality"),
                frame_of_reference=text(dataset, "FrameOfReferenceUID"),
                structures=structures,
                refers_to=refers_to,
            )
            series[(key, uid) if kind == "image" else path] = found
        found.files.append(path)
    return Tree(tuple(series.values()), tuple(refused))


def _header(path: Path, name: str) -> Dataset | None:
    """What this module asks of a DICOM file, `name` in messages; None for other files, InputError for damaged ones."""
    if not is_dicom(path):
        return None
    return read_dataset(path, name, stop_before_pixels=True, specific_tags=list(_WANTED))


def _stated_person(dataset: Dataset) -> str | None:
    """(0010,0020) Patient ID, else (0010,0010) Patient's Name, unless it is a placeholder."""
    for keyword in ("PatientID", "PatientName"):
        who = text(dataset, keyword)
        if who and re.sub(r"[\W\d_]+", "", who).casefold() not in _PLACEHOLDERS:
            return who
        if who and re.sub(r"[^\W\d_]+", "", who).strip("0-_ ^."):  # ANON0012 is one of several
            return who
    return None


def _digest(who: str) -> str:
    return hashlib.sha256(who.encode(errors="surrogatepass")).hexdigest()


def _kind(dataset: Dataset) -> Kind:
    uid = sop_class(dataset)
    if uid in SEG_CLASSES:
        return "seg"
    if uid in RTSTRUCT_CLASSES:
        return "rtstruct"
    return "image" if "Rows" in dataset and not known_non_scan(dataset) else "other"


def _structures(dataset: Dataset, name: str) -> list[str]:
    if _kind(dataset) == "seg":
        return list(dict.fromkeys(segment.structure for segment in segments_of(dataset, name)))
    return list(dict.fromkeys(structure for _, structure in regions_of(dataset, name)))


def _referenced(dataset: Dataset, name: str) -> Iterator[str]:
    for item in sequence_items(dataset, "ReferencedSeriesSequence", name):
        if uid := text(item, "SeriesInstanceUID"):
            yield uid
    for frame in sequence_items(dataset, "ReferencedFrameOfReferenceSequence", name):
        for study in sequence_items(frame, "RTReferencedStudySequence", name):
            for item in sequence_items(study, "RTReferencedSeriesSequence", name):
                if uid := text(item, "SeriesInstanceUID"):
                    yield uid
