"""What lies in a folder of DICOM files: scans, SEG and RTSTRUCT, and which belong together.

Patients are told apart by (0010,0020) Patient ID and (0010,0010) Patient's Name, which are compared and forgotten:
what leaves this module is a number in order of first appearance.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medsam.errors import InputError
from medsam.io.dicom_file import files_below, is_dicom, known_non_scan, quiet, sop_class, text
from medsam.io.dicom_seg import SEG_CLASSES, unique_names
from medsam.io.rtstruct import RTSTRUCT_CLASSES

if TYPE_CHECKING:
    from pydicom import Dataset

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
    "SegmentSequence",
    "StructureSetROISequence",
]


# what takes the place of a name when a scan is made anonymous
_NOBODY = frozenset(
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
    """What a DICOM file holds, or None for a file that is not DICOM."""
    dataset = _header(path)
    return None if dataset is None else _kind(dataset)


def structure_names(path: Path) -> list[str]:
    """Segment or region names of a SEG or RTSTRUCT, without its masks. Raises InputError for other files."""
    dataset = _header(path)
    if dataset is None or _kind(dataset) not in ("seg", "rtstruct"):
        raise InputError(f"{path.name} is neither a DICOM SEG nor an RTSTRUCT.")
    return _structures(dataset)


def patient_digest(path: Path) -> str | None:
    """A digest of whose scan a DICOM file, or the first in a folder, says it is; None where it does not say.

    For comparing: what is equal is one person. A word such as "anonymous" tells nobody apart.
    """
    try:
        first = next((file for file in files_below(path) if is_dicom(file)), None) if path.is_dir() else path
        dataset = None if first is None or not first.is_file() else _header(first)
    except (InputError, OSError):  # told by whoever reads it as a scan
        return None
    who = None if dataset is None else _stated_person(dataset)
    return None if who is None else _digest(who)


def list_tree(folder: Path) -> list[TreeSeries]:
    """Every series below `folder`, in order of file names. Files that are not DICOM and hidden ones are passed over.

    Raises InputError when a file or a folder cannot be read.
    """
    patients: dict[str, int] = {}
    studies: dict[str, int] = {}
    series: dict[object, TreeSeries] = {}
    for path in files_below(folder):
        dataset = _header(path)
        if dataset is None:
            continue
        kind = _kind(dataset)
        if kind == "other":
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
                structures=[] if kind == "image" else _structures(dataset),
                refers_to=set() if kind == "image" else set(_referenced(dataset)),
            )
            series[(key, uid) if kind == "image" else path] = found
        found.files.append(path)
    return list(series.values())


def _header(path: Path) -> Dataset | None:
    import pydicom

    if not is_dicom(path):
        return None
    try:
        with quiet():
            return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_WANTED))
    except Exception:  # pydicom raises what it likes on damaged files; reading one as a scan words the error
        return None


def _stated_person(dataset: Dataset) -> str | None:
    """(0010,0020) Patient ID, else (0010,0010) Patient's Name, unless it stands for nobody in particular."""
    for keyword in ("PatientID", "PatientName"):
        who = text(dataset, keyword)
        if who and re.sub(r"[\W\d_]+", "", who).casefold() not in _NOBODY:
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


def _structures(dataset: Dataset) -> list[str]:
    segments = dataset.get("SegmentSequence") or []
    regions = dataset.get("StructureSetROISequence") or []
    names = [str(item.get("SegmentLabel") or "") for item in segments]
    return unique_names(names + [str(item.get("ROIName") or "") for item in regions])


def _referenced(dataset: Dataset) -> Iterator[str]:
    for item in dataset.get("ReferencedSeriesSequence") or []:
        if item.get("SeriesInstanceUID"):
            yield str(item.SeriesInstanceUID)
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for item in study.get("RTReferencedSeriesSequence") or []:
                if item.get("SeriesInstanceUID"):
                    yield str(item.SeriesInstanceUID)
