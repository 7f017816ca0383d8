"""Whose scan a DICOM file is, for a person who may know: read when that person asks, and kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from medsam.errors import printable
from medsam.io.dicom.read import is_dicom, quiet, read_dataset
from medsam.io.dicom.tags import text

_KEYWORDS = ("PatientName", "PatientID", "StudyDate", "StudyDescription", "SeriesDescription")
_LONGEST = 200


@dataclass(frozen=True)
class Identity:
    """As the file states it; "" where it does not. Texts can be printed, and are in no `repr`.

    name: (0010,0010), its parts with ^ between. number: (0010,0020). study_date: YYYYMMDD. descriptions: of the study
    and of the series, in which anything may be written.
    """

    name: str = field(repr=False)
    number: str = field(repr=False)
    study_date: str = field(repr=False)
    study_description: str = field(repr=False)
    series_description: str = field(repr=False)


@quiet()
def identity_of(path: Path) -> Identity | None:
    """Of a DICOM file; None for any other file. Raises InputError for a damaged one."""
    if not is_dicom(path):
        return None
    tags = ["SpecificCharacterSet", *_KEYWORDS]
    dataset = read_dataset(path, path.name, stop_before_pixels=True, specific_tags=tags)
    return Identity(*(printable(text(dataset, keyword) or "")[:_LONGEST] for keyword in _KEYWORDS))
