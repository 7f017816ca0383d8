"""DICOM files: which there are, and of each its header without its pixels and what it says about its frames.

A header is read once, up to the pixels, and only the elements named here. Numbers are checked when they are
asked for, so a damaged file beside a sound series does no harm. A message names file, tag and name; it never
quotes free text, which may hold a patient's name.

Source of tags and their meaning: DICOM PS3.3 (C.7.6.2 image plane, C.7.6.16 functional groups, C.8.5.5 regions
of an ultrasound image, C.11.1 rescale) and PS3.6.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_description
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from medsam.errors import InputError, counted
from medsam.silence import Rule, silence

_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_UNDEFINED = 0xFFFFFFFF

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
_MACRO = {
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

_WANTED = [
    Tag(keyword)
    for keyword in (
        *DISTINGUISHING,
        *(keyword for keyword in _MACRO if keyword not in DISTINGUISHING),
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
_OVERLAY_BITS = [Tag(group, 0x0102) for group in range(0x6000, 0x6020, 2)]
_WANTED += _OVERLAY_BITS

# more than any clip has, and few enough to be counted before they are looked at
_MOST_FRAMES = 100_000
# the shortest a compressed frame can be, with its item: a header of RLE is 64 bytes
_LEAST_ENCODED = {RLELossless: 72}

# what Rescale Type may call Hounsfield units
_HOUNSFIELD = {"HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "[HNSF'U]"}

# objects that carry rows and columns but are no scan
_NOT_SCANS = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, an index of other files",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose grid (RTDOSE)",
    "1.2.840.10008.5.1.4.1.1.4.2": "MR spectroscopy",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a whole-slide microscopy image",
}

# where the standard's own UIDs begin
_STANDARD = "1.2.840.10008."

_PYDICOM = Rule(module=r"pydicom(\.|$)")
_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg")

# what nearly every header fits in; one read of this much is cheaper than hundreds of a few bytes
_START = 2**16


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's remarks on headers it can read all the same from the user."""
    # a decoder that fails is reported by our error; these would also log its traceback
    with silence(_PYDICOM, loggers=_LOGGERS):
        yield


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
    """A code or an identifier; None when it is absent, empty or unreadable."""
    try:
        value = group.get(keyword)
    except Exception:
        return None
    return str(value).strip() or None if value is not None else None


def _whole(group: Dataset, keyword: str) -> int | None:
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
        return _NOT_SCANS["1.2.840.10008.5.1.4.1.1.66.4"]
    return _NOT_SCANS.get(sop_class(dataset))


@dataclass(frozen=True)
class PixelLayout:
    """How the pixels of a file are stored: (0028,xxxx), checked.

    overlay_bits: those of a word that hold overlays, as set bits. frame_bytes: one decoded frame.
    lowest, highest: the range `bits_stored` allows.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    overlay_bits: int
    signed: bool
    photometric: str
    planar: int
    is_float: bool

    @property
    def frame_bytes(self) -> float:
        return self.rows * self.columns * self.samples * self.bits_allocated / 8

    @property
    def lowest(self) -> int:
        return -(1 << self.bits_stored - 1) if self.signed else 0

    @property
    def highest(self) -> int:
        return (1 << self.bits_stored - self.signed) - 1


@dataclass(frozen=True, eq=False)
class Header:
    """A DICOM file up to its pixels.

    name: the file as messages call it, relative to what the user passed. size: bytes on disk.
    pixel_keyword: which of the three pixel elements it holds, or None. pixel_offset: where their value starts in
    the file; None when deflated. pixel_length: as the element says; None when undefined (encapsulated).
    """

    path: Path
    name: str
    size: int
    dataset: Dataset
    syntax: UID
    pixel_keyword: str | None
    pixel_vr: str | None
    pixel_offset: int | None
    pixel_length: int | None

    @property
    def is_encapsulated(self) -> bool:
        """Whether pixels come as compressed frames; so do those of unknown encodings, which are refused later."""
        return not self.syntax.is_transfer_syntax or self.syntax.is_encapsulated

    @cached_property
    def sop_class(self) -> UID:
        return sop_class(self.dataset)

    @cached_property
    def not_a_scan(self) -> str | None:
        """What the file is when it is no scan; None for a scan. Raises InputError when it does not say."""
        if known := known_non_scan(self.dataset):
            return known
        shaped = self.pixel_keyword or "Rows" in self.dataset or "Columns" in self.dataset
        if shaped or "Image Storage" in self.sop_class.name:
            return None
        is_known = self.sop_class.name != self.sop_class
        standard = self.sop_class.startswith(_STANDARD) or _STANDARD.startswith(self.sop_class)
        if not self.sop_class or (standard and not is_known and not self.series):
            state = "cut off" if self.sop_class else "missing"
            raise InputError(
                f"{self.name} is a DICOM file, but {named('SOPClassUID')} is {state}, so what it holds is "
                "unknown: it is damaged or truncated. Copy or export it again."
            )
        # only names of the standard's dictionary: an unknown UID is free text
        return f"of the kind {self.sop_class.name}" if is_known else "not an image"

    @cached_property
    def series(self) -> str:
        return text(self.dataset, "SeriesInstanceUID") or ""

    @cached_property
    def modality(self) -> str | None:
        code = text(self.dataset, "Modality")
        # a code string of the standard; anything else is free text
        return code if code and len(code) <= 16 and code.replace("_", "").isalnum() else None

    @property
    def series_number(self) -> int | None:
        return _whole(self.dataset, "SeriesNumber")

    @property
    def shape(self) -> tuple[int | None, int | None]:
        """Rows and columns as stated, unchecked."""
        return _whole(self.dataset, "Rows"), _whole(self.dataset, "Columns")

    @property
    def frame_count(self) -> int:
        """Frames as stated, unchecked; a file without the element holds one."""
        return max(_whole(self.dataset, "NumberOfFrames") or 1, 1)

    def without_pixels(self) -> InputError:
        return InputError(
            f"{self.name}: no pixel data: (7FE0,0010) Pixel Data is missing. "
            "Was the export cut off, or only the headers exported? Export the series again."
        )

    @cached_property
    def layout(self) -> PixelLayout:
        """Raises InputError when the pixels cannot be what the header says."""
        if self.pixel_keyword is None:
            raise self.without_pixels()
        is_float = self.pixel_keyword != "PixelData"
        depths = {"PixelData": (1, 8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}
        allocated = self._checked("BitsAllocated", depths[self.pixel_keyword])
        stored = allocated if is_float else self._checked("BitsStored", range(1, allocated + 1))
        layout = PixelLayout(
            rows=self._checked("Rows", range(1, 65536)),
            columns=self._checked("Columns", range(1, 65536)),
            samples=self._checked("SamplesPerPixel", (1, 3), 1),
            frames=self._checked("NumberOfFrames", range(1, _MOST_FRAMES + 1), 1),
            bits_allocated=allocated,
            bits_stored=stored,
            high_bit=stored - 1 if is_float else self._checked("HighBit", range(stored - 1, allocated), stored - 1),
            overlay_bits=0 if is_float else self._overlay_bits(),
            signed=not is_float and bool(self._checked("PixelRepresentation", (0, 1), 0)),
            photometric=self._photometric(),
            planar=self._checked("PlanarConfiguration", (0, 1), 0),
            is_float=is_float,
        )
        if (layout.samples == 3) == layout.photometric.startswith(("MONO", "PALETTE")):
            raise InputError(
                f"{self.name}: {named('SamplesPerPixel')} is {layout.samples}, which does not fit "
                f"{named('PhotometricInterpretation')} {layout.photometric}. Export the file again."
            )
        if layout.photometric == "PALETTE COLOR":
            self._check_palette()
        if self.is_encapsulated:
            held = self.size - (self.pixel_offset or 0)
            if layout.frames > 1 and held < layout.frames * _LEAST_ENCODED.get(self.syntax, 16):
                raise InputError(
                    f"{self.name}: {named('NumberOfFrames')} is {layout.frames}, but {named('PixelData')} has {held} "
                    "bytes, too few for so many. Copy or export the file again."
                )
            return layout
        if self.pixel_length is None:
            raise InputError(
                f"{self.name}: the pixel data are compressed, but {named('TransferSyntaxUID')} says they are "
                "not, so nobody can tell how. Export the file again."
            )
        held = self.pixel_length
        if self.pixel_offset is not None:
            held = min(held, self.size - self.pixel_offset)
        self.check_length(layout, held)
        return layout

    def check_length(self, layout: PixelLayout, held: int) -> None:
        """Raises InputError when `held` bytes of uncompressed pixels are too few, or hold more than the header states.

        A byte of padding is the rule, and some writers fill a block with zeros.
        """
        full, half = (int(layout.frame_bytes * layout.frames * share) for share in (1, 2 / 3))
        needed = half if layout.photometric == "YBR_FULL_422" else full
        pixels = named(self.pixel_keyword or "PixelData")
        # the length of what would be the other kind of colour
        other = full + half - needed
        if layout.samples == 3 and layout.bits_allocated == 8 and 0 <= held - other <= 1:
            raise InputError(
                f"{self.name}: {named('PhotometricInterpretation')} is {layout.photometric}, which needs {needed} "
                f"bytes, but {pixels} has {held}, as {'RGB' if other == full else 'YBR_FULL_422'} would need: the "
                "photometric interpretation is wrong. Export the file again."
            )
        if held < needed:
            raise InputError(
                f"{self.name} is truncated: {layout.frames} x {layout.rows} x {layout.columns} pixels need "
                f"{needed} bytes, but {pixels} has {max(held, 0)}. "
                "Copy or export the file again."
            )
        if held - needed >= max(needed / layout.frames, 2) or self._holds_more(needed, held):
            raise InputError(
                f"{self.name}: {layout.frames} x {layout.rows} x {layout.columns} pixels need {needed} bytes, but "
                f"{pixels} has {held}: {named('NumberOfFrames')}, {named('Rows')} or {named('Columns')} is wrong. "
                "Copy or export the file again."
            )

    def _holds_more(self, needed: int, held: int) -> bool:
        """Whether what follows `needed` bytes of pixels, but for one byte of padding, is more than zeros."""
        if held - needed < 2 or self.pixel_offset is None:
            return False
        try:
            with self.path.open("rb") as file:
                file.seek(self.pixel_offset + needed)
                return any(file.read(held - needed))
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def _overlay_bits(self) -> int:
        found = {self.dataset[tag].value for tag in _OVERLAY_BITS if tag in self.dataset}
        # 0: the overlay lies in an element of its own
        return sum(1 << place for place in found if isinstance(place, int) and 0 < place < 32)

    def _check_palette(self) -> None:
        """Raises InputError when the three tables of a palette are not alike and 8 or 16 bits deep."""
        found = [
            numbers(self.dataset, f"{colour}PaletteColorLookupTableDescriptor", self.name, 3)
            for colour in ("Red", "Green", "Blue")
        ]
        if None in found or len(set(found)) > 1 or (found[0] or (0, 0, 0))[2] not in (8, 16):
            raise InputError(
                f"{self.name}: {named('RedPaletteColorLookupTableDescriptor')} and those of green and blue must be "
                "there, alike, and of 8 or 16 bits. Export the file again."
            )

    def _photometric(self) -> str:
        value = text(self.dataset, "PhotometricInterpretation")
        if value is None:
            # float pixels have none: PS3.3 C.7.6.24
            return "MONOCHROME2"
        allowed = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422")
        if value not in (*allowed, "YBR_ICT", "YBR_RCT"):
            raise InputError(
                f"{self.name}: {named('PhotometricInterpretation')} is not supported (supported: "
                f"{', '.join(allowed)}). Export the file as RGB or MONOCHROME2."
            )
        return value

    def _checked(self, keyword: str, allowed: range | tuple[int, ...], default: int | None = None) -> int:
        found = number(self.dataset, keyword, self.name)
        if found is None:
            if default is not None:
                return default
            raise InputError(f"{self.name}: {named(keyword)} is missing. Export the file again.")
        # a range is searched for a fraction, number by number
        if not found.is_integer() or int(found) not in allowed:
            is_span = isinstance(allowed, range) and len(allowed) > 1
            span = f"{allowed[0]} to {allowed[-1]}" if is_span else ", ".join(str(a) for a in allowed)
            raise InputError(f"{self.name}: {named(keyword)} is {found:g}; expected {span}. Export the file again.")
        return int(found)

    def frames(self) -> list[Frame]:
        """One `Frame` a frame, in stored order."""
        count = self.layout.frames
        shared = sequence_items(self.dataset, "SharedFunctionalGroupsSequence", self.name)[:1]
        each = sequence_items(self.dataset, "PerFrameFunctionalGroupsSequence", self.name)
        if each and len(each) != count:
            raise InputError(
                f"{self.name}: {named('NumberOfFrames')} is {count}, but "
                f"{named('PerFrameFunctionalGroupsSequence')} has {len(each)} items. Export the file again."
            )
        return [Frame(self, n, (*each[n : n + 1], *shared)) for n in range(count)]


@dataclass(frozen=True, eq=False)
class Frame:
    """One two-dimensional image: a whole file, or a frame of one.

    index: 0-based, in the file. groups: its functional groups, its own before those all frames share; empty for
    an image that has none.
    """

    header: Header
    index: int
    groups: tuple[Dataset, ...]

    @property
    def name(self) -> str:
        several = self.header.layout.frames > 1
        return f"{self.header.name} frame {self.index + 1}" if several else self.header.name

    def _home(self, keyword: str) -> Dataset | None:
        """The data set that holds `keyword` for this frame."""
        for group in self.groups:
            for macro in _MACRO.get(keyword, ()):
                for item in sequence_items(group, macro, self.header.name)[:1]:
                    if keyword in item:
                        return item
        return self.header.dataset if keyword in self.header.dataset else None

    def numbers(self, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
        home = self._home(keyword)
        return None if home is None else numbers(home, keyword, self.name, count)

    def value(self, keyword: str) -> str | None:
        home = self._home(keyword)
        return None if home is None else text(home, keyword)

    @cached_property
    def position(self) -> np.ndarray | None:
        """(3,) LPS mm of the centre of the first pixel, or None."""
        if self.header.layout.frames > 1 and not self.groups:
            # the one position of a classic multi-frame image says nothing about its other frames
            return None
        found = self.numbers("ImagePositionPatient", 3)
        if found is not None and max(map(abs, found)) > 1e6:
            raise InputError(
                f"{self.name}: {named('ImagePositionPatient')} lies more than a kilometre away. Export the file again."
            )
        return None if found is None else np.array(found)

    @cached_property
    def orientation(self) -> np.ndarray | None:
        """(2, 3) unit LPS directions in which columns and rows grow, or None."""
        found = self.numbers("ImageOrientationPatient", 6)
        if found is None:
            return None
        axes = np.reshape(found, (2, 3))
        lengths = np.linalg.norm(axes, axis=1)
        # cosines are often rounded to 3 digits
        if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
            raise InputError(
                f"{self.name}: {named('ImageOrientationPatient')} is not two perpendicular unit vectors "
                f"(lengths {lengths[0]:.4g} and {lengths[1]:.4g}, scalar product {axes[0] @ axes[1]:.4g}), so "
                "its pixels have no place in space. Export the file again."
            )
        return axes / lengths[:, None]

    @cached_property
    def spacing(self) -> tuple[float, float] | None:
        """(row, column) pitch in mm, or None."""
        return self._spacing("PixelSpacing")

    @cached_property
    def projected_spacing(self) -> tuple[float, float] | None:
        """The same for images without a place in space: radiographs (at the detector), film, ultrasound."""
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            if found := self._spacing(keyword):
                return found
        return self._ultrasound_spacing()

    def _spacing(self, keyword: str) -> tuple[float, float] | None:
        found = self.numbers(keyword, 2)
        if found is None:
            return None
        if not 1e-6 < min(found) <= max(found) < 1e4:
            raise InputError(
                f"{self.name}: {named(keyword)} is {found[0]:g} x {found[1]:g} mm; both must be positive. "
                "Export the file again."
            )
        return found[0], found[1]

    def _ultrasound_spacing(self) -> tuple[float, float] | None:
        largest, spacing = 0.0, None
        for region in sequence_items(self.header.dataset, "SequenceOfUltrasoundRegions", self.name):
            spatial = _whole(region, "RegionSpatialFormat") == 1
            units = [_whole(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
            if not spatial or units != [3, 3]:  # 1: a 2D image; 3: centimetres. PS3.3 C.8.5.5.1
                continue
            delta = [number(region, f"PhysicalDelta{axis}", self.name) for axis in "YX"]
            corners = [
                number(region, f"RegionLocation{corner}", self.name) or 0.0
                for corner in ("MinX0", "MinY0", "MaxX1", "MaxY1")
            ]
            area = (corners[2] - corners[0] + 1) * (corners[3] - corners[1] + 1)
            if delta[0] and delta[1] and area > largest:
                largest, spacing = area, (abs(delta[0]) * 10, abs(delta[1]) * 10)
        return spacing if spacing and 1e-6 < min(spacing) <= max(spacing) < 1e4 else None

    @cached_property
    def slice_thickness(self) -> float:
        """Extent of a lone slice in mm: spacing between slices, else thickness, else 1."""
        for keyword in ("SpacingBetweenSlices", "SliceThickness"):
            found = self.numbers(keyword)
            if found and 1e-6 < abs(found[0]) < 1e4:
                return abs(found[0])
        return 1.0

    @cached_property
    def _value_map(self) -> Dataset | None:
        """The linear real-world value map that stands in for a rescale; None where there is a rescale."""
        if self._home("RescaleSlope") is None and self._home("RescaleIntercept") is None:
            for group in (*self.groups, self.header.dataset):
                maps = sequence_items(group, "RealWorldValueMappingSequence", self.name)
                if len(maps) == 1 and "RealWorldValueSlope" in maps[0]:
                    return maps[0]
        return None

    @cached_property
    def rescale(self) -> tuple[float, float]:
        """(slope, intercept): stored value * slope + intercept is the value, e.g. HU.

        The modality's rescale; a linear real-world value map only where there is none (parametric maps).
        """
        names, home = ("RescaleSlope", "RescaleIntercept"), self._value_map
        if home is None:
            slope, intercept = (self.numbers(keyword) for keyword in names)
        else:
            names = "RealWorldValueSlope", "RealWorldValueIntercept"
            slope, intercept = (numbers(home, keyword, self.name) for keyword in names)
        pair = slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
        if not 1e-20 < abs(pair[0]) < 1e20 or abs(pair[1]) > 1e20:
            raise InputError(
                f"{self.name}: {named(names[0])} {pair[0]:g} and {named(names[1])} {pair[1]:g} cannot turn "
                "stored values into a scan. Export the file again."
            )
        return pair

    @cached_property
    def modality_table(self) -> Dataset | None:
        """The table (0028,3000) that takes the place of a rescale, or None. Raises InputError for one of no use."""
        tables = [] if self.groups else sequence_items(self.header.dataset, "ModalityLUTSequence", self.name)
        if not tables:
            return None
        entries, _, bits = numbers(tables[0], "LUTDescriptor", self.name, 3) or (0, 0, 0)
        try:
            data = tables[0].get("LUTData")
            held = len(data) // 2 if isinstance(data, bytes) else len(data)
        except Exception:
            held = -1
        # 0 stands for 65536: PS3.3 C.11.1.1
        if bits not in (8, 16) or held != (entries or 65536):
            raise InputError(
                f"{self.name}: {named('LUTDescriptor')} in {named('ModalityLUTSequence')} states {entries:g} entries "
                f"of {bits:g} bits, but {named('LUTData')} holds {max(held, 0)}, or the bits are neither 8 nor 16. "
                "Export the file again."
            )
        return self.header.dataset

    @cached_property
    def transform(self) -> str:
        """By what stored numbers become values, in words; equal in all images of a series."""
        if self.modality_table is not None:
            return "a modality table"
        if self._value_map is not None:
            return "a real-world value map"
        there = [word for word in ("slope", "intercept") if self.numbers(f"Rescale{word.capitalize()}") is not None]
        return {0: "no rescale", 1: f"a rescale {''.join(there)} alone", 2: "slope and intercept"}[len(there)]

    @cached_property
    def units(self) -> str | None:
        """What the values are measured in: "HU", "BQML", ...; "US" for unspecified; None when the file says nothing.

        A CT without a word is in HU when it has a slope and an intercept (PS3.3 C.8.2.1.1.2), else nobody knows.
        """
        if self.modality_table is not None:
            stated = text(self.header.dataset.ModalityLUTSequence[0], "ModalityLUTType")
        elif self._value_map is not None:
            codes = sequence_items(self._value_map, "MeasurementUnitsCodeSequence", self.name)
            stated = text(codes[0], "CodeValue") if codes else None
        else:
            stated = self.value("RescaleType")
        if self.header.modality == "PT":
            stated = text(self.header.dataset, "Units") or stated
        if self.header.modality == "CT":
            if self.transform in ("no rescale", "a rescale slope alone", "a rescale intercept alone"):
                return "US"
            stated = stated or ("HU" if self.transform == "slope and intercept" else "US")
        if stated is None:
            return None
        if stated.upper() in _HOUNSFIELD:
            return "HU"
        # a code; anything longer is free text
        return stated.upper() if len(stated) <= 16 else "another unit"

    @cached_property
    def window(self) -> tuple[float, float] | None:
        """(level, width) of the first window, or None."""
        try:
            level, width = self.numbers("WindowCenter"), self.numbers("WindowWidth")
        except InputError:
            # a recommendation for a display; the scan is sound without
            return None
        if not level or not width or width[0] <= 0:
            return None
        if self._value_map is None:
            return level[0], width[0]
        # a display knows nothing of real-world values: its window is one of stored numbers
        slope, intercept = self.rescale
        return level[0] * slope + intercept, width[0] * abs(slope)


def has_preamble(file: BinaryIO) -> bool:
    """Whether the file starts as DICOM files do. Leaves the file at its start."""
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def _bare(file: BinaryIO) -> bool:
    """Whether a file without preamble is a DICOM data set all the same: it must name its SOP class first."""
    start = file.read(8)
    file.seek(0)
    # group 2 or 8, little or big endian, as the first element
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    try:
        found = read_partial(
            file, lambda tag, vr, length: tag > 0x00080018, force=True, specific_tags=[Tag("SOPClassUID")]
        )
        return (text(found, "SOPClassUID") or "").startswith(_STANDARD)
    except OSError:
        raise
    except Exception:
        return False
    finally:
        file.seek(0)


def is_dicom(path: Path) -> bool:
    """Whether `path` is a DICOM file: by its preamble or, lacking one, because it parses as a data set.

    A folder and what is not there are none. Raises InputError when the file cannot be opened or read.
    """
    try:
        with path.open("rb") as file:
            if has_preamble(file):
                return True
            with quiet():
                return _bare(file)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path.name, error) from error


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, but hidden ones, those in hidden folders, and indices (DICOMDIR).

    Links to files count, even when they lead nowhere; links to folders are not followed. Raises InputError when a
    folder cannot be read: what lies in it may be missed.
    """

    def fail(error: OSError) -> NoReturn:
        where = Path(os.fsdecode(error.filename or folder))
        inside = where.is_relative_to(folder) and where != folder
        raise _unreadable(where.relative_to(folder).as_posix() if inside else folder.name, error) from error

    found = []
    for here, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(here, name)
            if name.startswith(".") or name.upper() == "DICOMDIR":
                continue
            try:
                # neither pipes nor sockets: opening one may wait for ever
                if file.is_file() or (file.is_symlink() and not file.exists()):
                    found.append(file)
            except OSError as error:
                fail(error)
    return sorted(found)


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(f"{name} cannot be read: {error.strerror or type(error).__name__}.")


def read_header(path: Path, name: str) -> Header | None:
    """Read a file up to its pixels; None when it is not DICOM. Opens the file once.

    Raises InputError, calling the file `name`, when it starts as DICOM but cannot be read.
    """
    try:
        with path.open("rb") as file:
            if header := _from_start(file, path, name):
                return header
            file.seek(0)
            if not has_preamble(file) and not _bare(file):
                return None
            return _parse(file, path, name)
    except InputError:
        raise
    except OSError as error:
        raise _unreadable(name, error) from error
    # whatever a damaged file makes the parser do, it is the file's fault
    except Exception as error:
        raise InputError(
            f"{name} is a DICOM file but its header cannot be read ({type(error).__name__}): it is damaged or "
            "truncated. Copy or export it again."
        ) from error


def _from_start(file: BinaryIO, path: Path, name: str) -> Header | None:
    """The header when the first bytes hold all of it: its pixels begin in them. None says nothing about the file."""
    try:
        # closed, for the data set keeps it
        with BytesIO(file.read(_START)) as start:
            if has_preamble(start) or _bare(start):
                header = _parse(start, path, name)
                return header if header.pixel_keyword else None
    # what the end of these bytes makes the parser do; the whole file is the judge
    except Exception:
        return None
    return None


def _parse(file: BinaryIO, path: Path, name: str) -> Header:
    size = path.stat().st_size
    pixels: list[tuple[str, str | None, int]] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            pixels.append((_PIXELS[tag], vr, length))
            return True
        return False

    check_inflated(file, name, size)
    try:
        dataset = read_partial(file, at_pixels, force=True, specific_tags=list(_WANTED))
    except InvalidDicomError as error:
        raise InputError(f"{name} is not a DICOM file.") from error
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if not syntax:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
    keyword, vr, length = pixels[0] if pixels else (None, None, 0)
    offset = None
    if syntax != DeflatedExplicitVRLittleEndian:
        # the parser stops before the element: tag, then VR and length in 12 bytes, or length in 8
        offset = file.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    return Header(
        path=path,
        name=name,
        size=size,
        dataset=dataset,
        syntax=UID(str(syntax)),
        pixel_keyword=keyword,
        pixel_vr=vr,
        pixel_offset=offset,
        pixel_length=None if length == _UNDEFINED else length,
    )


def read_dataset(path: Path, name: str, **options: Any) -> Dataset:
    """`pydicom.dcmread`, also of files without the preamble. name: for messages. options: as of `dcmread`.

    Raises InputError when the file cannot be opened, is damaged or would fill the memory.
    """
    try:
        with path.open("rb") as file, quiet():
            check_inflated(file, name, path.stat().st_size)
            # force: some planning systems write files without the preamble
            return dcmread(file, force=True, **options)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or 'the file ends too early'}.") from error
    except Exception as error:  # pydicom raises what it likes on damaged files
        raise InputError(
            f"{name} is a damaged or cut off DICOM file ({type(error).__name__}); copy or export it again."
        ) from error


def check_inflated(file: BinaryIO, name: str, size: int) -> None:
    """Raises InputError when a deflated file would fill the memory. Leaves the file at its start."""
    if not _at_deflated(file):
        file.seek(0)
        return
    limit = 256 * 2**20 + 200 * size
    inflater, done = zlib.decompressobj(-zlib.MAX_WBITS), 0
    rest = file.read(2**20)
    while rest and not inflater.eof:
        done += len(inflater.decompress(rest, 2**24))
        rest = inflater.unconsumed_tail or file.read(2**20)
        if done > limit:
            raise InputError(
                f"{name}: its deflated content grows from {size} to more than {limit} bytes, which no scan "
                "does. It is damaged, or made to fill the memory."
            )
    file.seek(0)


def _at_deflated(file: BinaryIO) -> bool:
    """Move behind the file meta information; whether it announces a deflated data set.

    Group 2 is always explicit little endian; its stated length may be wrong, so its elements are walked.
    """
    deflated = False
    file.seek(132)
    while len(start := file.read(8)) == 8:
        group, element, vr, length = struct.unpack("<HH2sH", start)
        if group != 2:
            file.seek(-8, 1)
            return deflated
        if vr.decode("latin-1") in EXPLICIT_VR_LENGTH_32:
            (length,) = struct.unpack("<L", file.read(4))
        if element == 0x10:
            deflated = file.read(length).rstrip(b"\0 ") == DeflatedExplicitVRLittleEndian.encode()
        else:
            file.seek(length, 1)
    return False
