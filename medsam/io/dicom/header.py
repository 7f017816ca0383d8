"""What the header of a DICOM file says, checked: what it is, how its pixels are stored.

A header is read once, up to the pixels, and only the elements of `tags`. Numbers are checked when they are asked for,
so a damaged file beside a sound series does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID, RLELossless

from medsam.errors import InputError
from medsam.io.dicom.source import Source, unreadable
from medsam.io.dicom.tags import (
    OVERLAY_BITS,
    STANDARD_ROOT,
    known_non_scan,
    modality_of,
    named,
    number,
    numbers,
    sop_class,
    text,
    uid_of,
    whole_number,
)

# more than any clip has, and few enough to be counted before they are looked at
_MOST_FRAMES = 100_000
# the shortest a compressed frame can be, with its item: a header of RLE is 64 bytes
_LEAST_ENCODED = {RLELossless: 72}


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

    size: in bytes, when the header was read.
    pixel_keyword: which of the three pixel elements it holds, or None. pixel_offset: where their value starts in
    the file; None when deflated. pixel_length: as the element says; None when undefined (encapsulated).
    """

    source: Source
    size: int
    dataset: Dataset
    syntax: UID
    pixel_keyword: str | None
    pixel_vr: str | None
    pixel_offset: int | None
    pixel_length: int | None

    @property
    def name(self) -> str:
        """The file as messages call it."""
        return self.source.name

    @property
    def folder(self) -> Path | None:
        """Where the file is; None for one in memory."""
        return None if self.source.path is None else self.source.path.parent

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
        standard = self.sop_class.startswith(STANDARD_ROOT) or STANDARD_ROOT.startswith(self.sop_class)
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
        return uid_of(self.dataset, "SeriesInstanceUID")

    @cached_property
    def modality(self) -> str | None:
        return modality_of(self.dataset)

    @property
    def series_number(self) -> int | None:
        return whole_number(self.dataset, "SeriesNumber")

    @property
    def shape(self) -> tuple[int | None, int | None]:
        """Rows and columns as stated, unchecked."""
        return whole_number(self.dataset, "Rows"), whole_number(self.dataset, "Columns")

    @property
    def frame_count(self) -> int:
        """Frames as stated, unchecked; a file without the element holds one."""
        return max(whole_number(self.dataset, "NumberOfFrames") or 1, 1)

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
            with self.source.open() as file:
                file.seek(self.pixel_offset + needed)
                return any(file.read(held - needed))
        except OSError as error:
            raise unreadable(self.name, error) from error

    def _overlay_bits(self) -> int:
        found = {self.dataset[tag].value for tag in OVERLAY_BITS if tag in self.dataset}
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
