"""Which DICOM objects can be de-identified: by (0008,0016) SOP Class UID, from what a class holds."""

from __future__ import annotations

from enum import StrEnum

from pydicom import Dataset
from pydicom.uid import UID

from medsam.io.dicom.deidentify.texts import plain
from medsam.io.dicom.tags import sop_class, text, whole_number

_STORAGE = "1.2.840.10008.5.1.4.1.1."


class Kind(StrEnum):
    IMAGE = "image"
    RISKY = "picture"
    OBJECT = "object"
    REPORT = "report"


# pictures a scanner computes: text in them is the exception
_IMAGES = (
    *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "20"),
    *("128", "128.1", "130", "30", "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", "4.2", "481.1"),
)
# pictures that people write on, or that show people
_RISKY = (
    *("3", "3.1", "6", "6.1", "6.2", "5", "7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.1.1", "12.2", "12.2.1"),
    *("12.3", "14.1", "14.2", "77.1.1", "77.1.2", "77.1.3", "77.1.4", "77.1.5.1", "77.1.5.2", "77.1.5.4"),
    *("77.1.5.5", "77.1.5.6", "77.1.5.7", "77.1.5.8", "77.1.6", "77.1.7", "77.1.8"),
)
_OBJECTS = ("66.1", "66.3", "66.4", "66.5", "66.7", "67", "481.2", "481.3", "481.5", "481.8")
# trees of content whose texts can go without the rest losing its sense
_REPORTS = ("88.22", "88.33", "88.34", "88.59", "88.67", "88.68", "88.71", "88.73", "88.76")
_KINDS = {
    _STORAGE + one: kind
    for kind, several in (
        (Kind.IMAGE, _IMAGES),
        (Kind.RISKY, _RISKY),
        (Kind.OBJECT, _OBJECTS),
        (Kind.REPORT, _REPORTS),
    )
    for one in several
}
_REFUSED = {
    "104.": "an encapsulated document: nobody can tell what its pages show",
    "11.": "a presentation state: what is drawn and written on an image is free text",
    "9.": "a waveform: its annotations are free text",
    "88.": "a report of free text",
    "66": "raw data of a manufacturer",
    "77.1.": "a video: its stream may hold texts of its own",
}
_HEADS = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "ORBIT", "JAW", "SINUS", "MAXILL", "IAC", "TMJ", "WHOLEBODY")
_SPOKEN_HEADS = ("head", "brain", "skull", "face", "facial", "neck", "orbit", "cranium", "cranial", "schadel", "kopf")
_SPOKEN_MORE = ("cerebral", "crane", "tete", "cerebro", "craneo", "hirn", "neuro", "mprage", "sinus", "whole body")
_SCREENS = ("SCREEN", "SAVE", "CAPTURE", "REPORT", "DOSE_INFO")
_SCANS = ("CT", "MR", "PT", "NM")


def kind_of(dataset: Dataset) -> Kind | str:
    """The kind of a data set; for one that is refused, why."""
    uid = sop_class(dataset)
    if uid in _KINDS:
        return _KINDS[uid]
    if not uid:
        return "(0008,0016) SOP Class UID is missing: what the file holds is unknown"
    for start, why in _REFUSED.items():
        if uid.startswith(_STORAGE + start):
            return why
    # only names of the dictionary: an unknown UID may be anything
    name = UID(uid).name
    return f"no rules for {name}" if name != uid else "an object of a kind that is not in the standard, or too new"


def why_text_may_show(dataset: Dataset, kind: Kind) -> str | None:
    """Why text may be burned into the pixels; None where nothing speaks for it. Never the words of an element."""
    if (text(dataset, "BurnedInAnnotation") or "").upper() == "YES":
        return "(0028,0301) Burned In Annotation is YES"
    if kind == Kind.RISKY:
        return f"{sop_class(dataset).name}: such pictures carry text, or show people"
    return _why_captured(dataset) if kind == Kind.IMAGE else None


def _why_captured(dataset: Dataset) -> str | None:
    """Why an image of a scanner may be none, but a copy of a screen or a film."""
    image_type = [one.strip().upper() for one in several(dataset, "ImageType")]
    if text(dataset, "ConversionType") or text(dataset, "DateOfSecondaryCapture"):
        return "captured or digitised (0008,0064): film and screens carry names"
    if any(word in one for one in image_type for word in _SCREENS):
        return "(0008,0008) Image Type says that it is a copy of a screen"
    if (whole_number(dataset, "SamplesPerPixel") or 1) > 1:
        return "a picture in colour of a modality without: maps and screens carry text"
    placed = "ImagePositionPatient" in dataset or "SharedFunctionalGroupsSequence" in dataset
    if "SECONDARY" in image_type[:2] and not placed:
        return "(0008,0008) Image Type is SECONDARY, and it lies nowhere in the patient: likely a copy of a screen"
    return None


def several(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an element of several texts; none where it cannot be read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # damaged
        return []
    if value is None or isinstance(value, str):
        return [value] if value else []
    return [str(one) for one in value]


def shows_head(dataset: Dataset) -> bool | None:
    """Whether a scan shows a head, by body part and descriptions; None where it does not say what it shows.

    Only of modalities whose volumes show a face when they are rendered.
    """
    if text(dataset, "Modality") not in _SCANS:
        return False
    if (text(dataset, "RecognizableVisualFeatures") or "").upper() == "YES":
        return True
    part = (text(dataset, "BodyPartExamined") or "").upper().replace(" ", "").replace("_", "")
    if any(head in part for head in _HEADS):
        return True
    keywords = ("StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription")
    said = plain(" ".join(text(dataset, keyword) or "" for keyword in keywords))
    if any(word in said for word in (*_SPOKEN_HEADS, *_SPOKEN_MORE)):
        return True
    return False if part or said.strip() else None
