"""Which elements of DICOM files are read, and how: numbers, codes and sequences that may be damaged.

A message names file, tag and name; it never quotes free text, which may hold a patient's name.

Source of tags and their meaning: DICOM PS3.3 (C.7.6.2 image plane, C.7.6.16 functional groups, C.8.5.5 regions
of an ultrasound image, C.11.1 rescale) and PS3.6.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from medsam.errors import InputError, counted

PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}

# what may tell apart images that lie at the same place, the plainest first
DISTINGUISHING = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "InversionTime",
    "FlipAngle",
    "KVP",
    "ComplexImageComponent",
    "FrameType",
    "ImageType",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "StackID",
)

# the functional group of an enhanced image in which an attribute lives
MACROS = {
    "ImagePositionPatient": ("PlanePositionSequence",),
    "ImageOrientationPatient": ("PlaneOrientationSequence",),
    "PixelSpacing": ("PixelMeasuresSequence",),
    "SpacingBetweenSlices": ("PixelMeasuresSequence",),
    "SliceThickness": ("PixelMeasuresSequence",),
    "RescaleSlope": ("PixelValueTransformationSequence",),
    "RescaleIntercept": ("PixelValueTransformationSequence",),
    "RescaleType": ("PixelValueTransformationSequence",),
    "WindowCenter": ("FrameVOILUTSequence",),
    "WindowWidth": ("FrameVOILUTSequence",),
    "TemporalPositionIndex": ("FrameContentSequence",),
    "StackID": ("FrameContentSequence",),
    "EffectiveEchoTime": ("MREchoSequence",),
    "DiffusionBValue": ("MRDiffusionSequence",),
    "NominalCardiacTriggerDelayTime": ("CardiacSynchronizationSequence",),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence",),
    "ComplexImageComponent": ("MRImageFrameTypeSequence",),
    "FrameType": ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"),
}

WANTED = [
    Tag(keyword)
    for keyword in (
        *DISTINGUISHING,
        *(keyword for keyword in MACROS if keyword not in DISTINGUISHING),
        *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
        *("Modality", "SeriesNumber", "InstanceNumber", "NumberOfFrames"),
        *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
        *("ModalityLUTSequence", "RealWorldValueMappingSequence", "Units"),
        *(f"{kind}PixelPadding{part}" for kind in ("", "Float", "DoubleFloat") for part in ("Value", "RangeLimit")),
        *(
            name.format(kind)
            for kind in ("Shutter", "Collimator")
            for name in (
                *("{}Shape", "{}LeftVerticalEdge", "{}RightVerticalEdge"),
                *("{}UpperHorizontalEdge", "{}LowerHorizontalEdge"),
                *("CenterOfCircular{}", "RadiusOfCircular{}", "VerticesOfThePolygonal{}"),
            )
        ),
        "CollimatorShapeSequence",
        *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "SequenceOfUltrasoundRegions"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
        *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
        *(
            f"{segmented}{colour}PaletteColorLookupTable{part}"
            for colour in ("Red", "Green", "Blue")
            for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
        ),
    )
]
# where in the words of the pixels overlays lie, in files of before 2004; there may be 16
OVERLAY_BITS = [Tag(group, 0x0102) for group in range(0x6000, 0x6020, 2)]

WANTED += OVERLAY_BITS

# objects that carry rows and columns but are no scan
NON_SCANS = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, an index of other files",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose grid (RTDOSE)",
    "1.2.840.10008.5.1.4.1.1.4.2": "MR spectroscopy",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a whole-slide microscopy image",
}

# what makes an object (PS3.3 C.7.3.1.1.1), retired ones too
MODALITIES = frozenset(
    (
        *("ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CFM", "CR", "CT", "CTPROTOCOL", "DD", "DF"),
        *("DG", "DM", "DMS", "DOC", "DS", "DX", "EC", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FA", "FID"),
        *("FS", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LP", "LS", "M3D", "MA"),
        *("MG", "MR", "MS", "NM", "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS"),
        *("OT", "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE"),
        *("RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SMR"),
        *("SR", "SRF", "ST", "STAIN", "TEXTUREMAP", "TG", "US", "VA", "VF", "XA", "XAPROTOCOL", "XC"),
    )
)
_UID = re.compile(r"[0-9.]{1,64}")

# where the standard's own UIDs begin
STANDARD_ROOT = "1.2.840.10008."


def named(keyword: str) -> str:
    """A tag as messages show it: "(0028,0010) Rows"."""
    tag = Tag(keyword)
    return f"({tag.group:04X},{tag.element:04X}) {dictionary_description(tag)}"


def numbers(group: Dataset, keyword: str, file: str, count: int | None = None) -> tuple[float, ...] | None:
    """The finite numbers of an element, or None when it is absent or empty.

    Raises InputError when they are not `count` finite numbers.
    """
    try:
        value = group.get(keyword)
        if value is None or value == "":
            return None
        found = tuple(float(v) for v in (value if hasattr(value, "__len__") else [value]))
    except Exception as error:
        raise InputError(f"{file}: {named(keyword)} cannot be read as a number. Export the file again.") from error
    if not found:
        return None
    if not np.isfinite(found).all() or (count is not None and len(found) != count):
        wanted = "finite numbers" if count is None else counted(count, "finite number")
        raise InputError(
            f"{file}: {named(keyword)} must hold {wanted}, but holds {', '.join(f'{v:g}' for v in found[:8])}. "
            "Export the file again."
        )
    return found


def number(group: Dataset, keyword: str, file: str) -> float | None:
    """The first number of an element, or None when it is absent or empty."""
    found = numbers(group, keyword, file)
    return found[0] if found else None


def text(group: Dataset, keyword: str) -> str | None:
    """A code or an identifier; None when it is absent, empty, unreadable or no text but a sequence."""
    try:
        value = group.get(keyword)
        # items are parsed when they are looked at
        return None if value is None or isinstance(value, Sequence) else str(value).strip() or None
    except Exception:
        return None


def modality_of(dataset: Dataset) -> str | None:
    """(0008,0060) Modality, where it is a code of the standard; anything else is free text, which is never shown."""
    code = (text(dataset, "Modality") or "").upper()
    return code if code in MODALITIES else None


def uid_of(group: Dataset, keyword: str) -> str:
    """A UID, "" where there is none. One that is no UID may be any text: a digest stands for it, the same each time."""
    found = text(group, keyword) or ""
    if _UID.fullmatch(found) or not found:
        return found
    return f"no-uid-{digest_of(found)[:12]}"


def digest_of(stated: str) -> str:
    """Hexadecimal sha256 of a text that is told apart from others and never shown."""
    return hashlib.sha256(stated.encode(errors="surrogatepass")).hexdigest()


def whole_number(group: Dataset, keyword: str) -> int | None:
    try:
        found = number(group, keyword, "")
    except InputError:
        return None
    return int(found) if found is not None else None


def sequence_items(group: Dataset, keyword: str, file: str) -> list[Dataset]:
    """The items of a sequence, or none when it is absent or empty. file: its name, for messages.

    Raises InputError when the element is no sequence, or damaged.
    """
    try:
        value = group.get(keyword)
    except Exception as error:  # an element is parsed when it is asked for
        raise InputError(f"{file}: {named(keyword)} is damaged ({type(error).__name__}). Export it again.") from error
    if value and not isinstance(value, Sequence):
        raise InputError(f"{file}: {named(keyword)} is no sequence of items: the file is damaged. Export it again.")
    return list(value or ())


def sop_class(dataset: Dataset) -> UID:
    """What kind of object a data set is: (0008,0016), or (0002,0002) where that is missing or cut off; else ""."""
    meta = getattr(dataset, "file_meta", Dataset())
    stated = [UID(text(dataset, "SOPClassUID") or ""), UID(text(meta, "MediaStorageSOPClassUID") or "")]
    known = [uid for uid in stated if uid and uid.name != uid]
    return (known or [uid for uid in stated if uid] or [UID("")])[0]


def known_non_scan(dataset: Dataset) -> str | None:
    """What a data set is that has rows and columns as scans have, but is none; else None."""
    if text(dataset, "Modality") == "SEG":
        return NON_SCANS["1.2.840.10008.5.1.4.1.1.66.4"]
    return NON_SCANS.get(sop_class(dataset))
