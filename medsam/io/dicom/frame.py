"""What a DICOM file says of each of its images: its place, its size in millimetres, what its numbers mean.

Source: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups), C.8.5.5 (ultrasound regions), C.11.1 and
C.7.6.16.2.11 (modality and real-world values), C.11.2 (window).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydicom import Dataset

from medsam.errors import InputError
from medsam.io.dicom.header import Header
from medsam.io.dicom.tags import MACROS, digest_of, named, number, numbers, sequence_items, text, whole_number

# what Rescale Type may call Hounsfield units
_HOUNSFIELD = {"HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "[HNSF'U]"}
# other units, of which a message may speak: (0028,1054) Rescale Type, (0054,1001) Units, UCUM of real-world values
_UNITS = frozenset(
    (
        *("US", "OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT", "CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS"),
        *("BQML", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML", "PROPCNTS", "PROPCPS", "MLMINML", "MLML"),
        *("GML", "STDDEV", "SUV", "UNSPECIFIED", "NORMALIZED", "1", "%", "S", "MS", "MM2/S", "UM2/S", "10-3.MM2/S"),
        *("CM/S", "MM", "BQ/ML", "KBQ/ML", "G/ML{SUVBW}", "{SUVBW}G/ML", "MG/ML", "[PH]", "{RATIO}"),
    )
)


@dataclass(frozen=True, eq=False)
class ImageFrame:
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

    @cached_property
    def identity(self) -> tuple[str, int | None]:
        """(0008,0018) SOP Instance UID of its file, "" for none; its number there, from 1, or None."""
        number = self.index + 1 if self.header.layout.frames > 1 or self.groups else None
        return text(self.header.dataset, "SOPInstanceUID") or "", number

    def _home(self, keyword: str) -> Dataset | None:
        """The data set that holds `keyword` for this frame."""
        for group in self.groups:
            for macro in MACROS.get(keyword, ()):
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
            spatial = whole_number(region, "RegionSpatialFormat") == 1
            units = [whole_number(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
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

        A CT that states no units is in HU when it has a slope and an intercept (PS3.3 C.8.2.1.1.2), else it is unknown.
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
        if stated.upper() in _UNITS:
            return stated.upper()
        # others are free text, which is told apart and never shown
        return f"unit {digest_of(stated)[:8]}"

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


def frames_of(header: Header) -> list[ImageFrame]:
    """One `ImageFrame` a frame, in stored order. Raises InputError when the functional groups are of another number."""
    count = header.layout.frames
    shared = sequence_items(header.dataset, "SharedFunctionalGroupsSequence", header.name)[:1]
    each = sequence_items(header.dataset, "PerFrameFunctionalGroupsSequence", header.name)
    if each and len(each) != count:
        raise InputError(
            f"{header.name}: {named('NumberOfFrames')} is {count}, but "
            f"{named('PerFrameFunctionalGroupsSequence')} has {len(each)} items. Export the file again."
        )
    return [ImageFrame(header, n, (*each[n : n + 1], *shared)) for n in range(count)]
