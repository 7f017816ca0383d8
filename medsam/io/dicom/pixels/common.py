"""What reading pixels is decided by: the decoder of an encoding, what numbers become, the type of the array.

An array is as small as it can be without losing anything: uint8, int16, int32 or int64 while every slope and
intercept is a whole number and the range that Bits Stored allows fits, float32 otherwise.

Source: DICOM PS3.3 C.7.6.3 (image pixels), C.11.1 (modality LUT), PS3.5 8 and annex A (encodings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medsam.errors import InputError
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.header import Header
from medsam.io.dicom.tags import named
from medsam.io.growth import most_pixels

# One each: a second, more forgiving decoder would turn damage into grey values.
DECODERS: dict[UID, str] = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",  # 8 bits a sample; for 12 see _decode_12_bit_jpeg
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    # not pylibjpeg: on damaged data it panics, past any except, and prints its stack
    RLELossless: "pydicom",
}

# modalities whose values are physical quantities; there MONOCHROME1 only asks for an inverted display
_QUANTITATIVE = {"CT", "PT"}

_INTEGERS = tuple(np.dtype(t) for t in ("uint8", "int16", "int32", "int64"))


@dataclass(frozen=True)
class Values:
    """How stored numbers of one frame become values: slope, intercept, then mirrored about the range or not.

    lowest, highest: the values of the extremes of the stored range.
    """

    slope: float
    intercept: float
    lowest: float
    highest: float
    inverted: bool

    @classmethod
    def of(cls, frame: ImageFrame) -> Values:
        layout = frame.header.layout
        # float pixels are never MONOCHROME1: PS3.3 C.7.6.24
        mirrored = layout.photometric == "MONOCHROME1" and not layout.is_float
        inverted = mirrored and frame.header.modality not in _QUANTITATIVE
        if frame.modality_table is not None:
            # PS3.3 C.11.1.1: the third number of the descriptor is the depth of the table's entries
            descriptor = frame.modality_table.ModalityLUTSequence[0].LUTDescriptor
            return cls(1.0, 0.0, 0.0, float(2 ** int(descriptor[2]) - 1), inverted)
        slope, intercept = frame.rescale
        ends = sorted(end * slope + intercept for end in (layout.lowest, layout.highest))
        return cls(slope, intercept, ends[0], ends[1], inverted)

    @property
    def whole(self) -> bool:
        return self.slope.is_integer() and self.intercept.is_integer()

    def window(self, window: tuple[float, float] | None) -> tuple[float, float] | None:
        """(level, width) for the values made here, from the one in the file."""
        if window is None or not self.inverted:
            return window
        return self.lowest + self.highest - window[0], window[1]


@dataclass(frozen=True)
class Pixels:
    """array: (K, J, I), or (K, J, I, 3) uint8 in colour. no_signal: as in `Volume`. notes: for the user."""

    array: np.ndarray
    no_signal: np.ndarray | None
    notes: tuple[str, ...]


def by_gdcm(header: Header) -> bool:
    """Whether GDCM decodes the pixels of a file. It does so in a process of its own: damage makes it crash."""
    is_deep = header.syntax == JPEGExtended12Bit and header.layout.bits_stored > 8
    return DECODERS.get(header.syntax) == "gdcm" or is_deep


def check_supported(header: Header) -> None:
    """Raise InputError for an encoding that no decoder here reads."""
    if header.is_encapsulated and header.syntax not in DECODERS:
        # an unknown UID is free text; the dictionary's name is not
        kind = header.syntax.name if header.syntax.is_transfer_syntax else "an unknown encoding"
        raise InputError(
            f"{header.name}: {named('TransferSyntaxUID')} is {kind}, which is not supported. Export the scan "
            "uncompressed, or as JPEG 2000, JPEG-LS, lossless JPEG or RLE."
        )


def check_size(frames: Sequence[ImageFrame], source: str) -> None:
    """Raise InputError when compressed frames call for more pixels than compression can do: a few damaged bytes may
    claim any number.
    """
    sizes = {frame.header: frame.header.size for frame in frames if frame.header.syntax.is_compressed}
    needed = sum(frame.header.layout.frame_bytes for frame in frames if frame.header in sizes)
    if needed > most_pixels(sum(sizes.values())):
        raise InputError(
            f"{source}: {named('Rows')} x {named('Columns')} x frames call for {needed / 2**30:.1f} GiB of "
            f"pixels from {sum(sizes.values())} compressed bytes, which no image does. Export it again."
        )


def smallest_type(frames: Sequence[ImageFrame], values: Sequence[Values]) -> np.dtype:
    """Of the array of grey frames: the smallest that loses nothing, see the module."""
    if any(frame.header.layout.is_float for frame in frames):
        double = any(frame.header.pixel_keyword == "DoubleFloatPixelData" for frame in frames)
        return np.dtype(np.float64 if double else np.float32)
    lowest, highest = min(v.lowest for v in values), max(v.highest for v in values)
    if all(v.whole for v in values):
        for kind in _INTEGERS:
            if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
                return kind
    return np.dtype(np.float32)


def damaged(name: str, syntax: UID, error: Exception) -> InputError:
    """What to raise for the pixels of a file or frame `name` that a decoder does not take."""
    # the decoder's own words may quote the file
    return InputError(
        f"{name}: the pixel data cannot be decoded ({syntax.name}, {type(error).__name__}): "
        f"{named('PixelData')} is damaged or truncated. Copy or export the file again."
    )


def is_plain(header: Header) -> bool:
    """Whether the pixels lie in the file as an array of grey integers; anything less plain is left to pydicom."""
    layout = header.layout
    return (
        header.pixel_keyword == "PixelData"
        and header.pixel_offset is not None
        and header.syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
        and layout.samples == 1
        and layout.photometric in ("MONOCHROME1", "MONOCHROME2")
        # bytes of a big-endian file may lie in swapped pairs; bits are packed
        and layout.bits_allocated in ((16, 32) if header.syntax == ExplicitVRBigEndian else (8, 16, 32))
    )
