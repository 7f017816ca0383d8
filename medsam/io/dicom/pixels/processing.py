"""Stored numbers -> values or colours: bits that are no part of them, rescale, palettes.

Source: DICOM PS3.5 8.1.1 (pixel cells), PS3.3 C.11.1 (modality LUT), C.7.6.3.1.6 (palettes).
"""

from __future__ import annotations

import numpy as np
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from medsam.errors import InputError
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.header import Header, PixelLayout
from medsam.io.dicom.pixels.common import Values
from medsam.io.dicom.tags import named


class PixelWords:
    """The numbers in the words of the pixels, of which Bits Stored may use only some (PS3.5 8.1.1).

    Unused bits must be free, repeat the sign, or hold overlays that are announced: a word that says anything else has
    a wrong header, and taking its low bits would wrap it around. Where High Bit is not Bits Stored - 1 the numbers
    should lie at the upper end of the words, and often do not; the words decide, or it is an error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # frames with negative numbers that do and do not fill the unused bits with their sign
        self._sign_extended: list[str] = []
        self._zero_filled: list[str] = []

    def numbers(self, words: np.ndarray, frame: ImageFrame, padding: np.ndarray | None) -> np.ndarray:
        """The numbers of a frame, in the memory of its words where it can be. padding: words that may be anything."""
        layout = frame.header.layout
        if layout.bits_stored == layout.bits_allocated or layout.bits_allocated == 1:
            return words
        if not words.flags.writeable:
            words = words.copy()
        if layout.overlay_bits:
            self._without_overlays(words, layout)
        seen = words if padding is None else words[~padding]
        if not seen.size:
            return np.clip(words, layout.lowest, layout.highest, out=words)
        low, high = int(seen.min()), int(seen.max())
        shift = layout.high_bit + 1 - layout.bits_stored
        if shift and (low or high) and self._are_shifted(seen, (low, high), frame):
            np.right_shift(words, shift, out=words)
        elif not layout.lowest <= low <= high <= layout.highest:
            self._extend_sign(words, (low, high), frame)
        elif layout.signed and low < 0:
            self._sign_extended.append(frame.name)
        return words if padding is None else np.clip(words, layout.lowest, layout.highest, out=words)

    @staticmethod
    def _are_shifted(seen: np.ndarray, ends: tuple[int, int], frame: ImageFrame) -> bool:
        """Whether the numbers lie at the upper end of their words. Raises InputError when the words do not show it."""
        layout, (low, high) = frame.header.layout, ends
        shift = layout.high_bit + 1 - layout.bits_stored
        step = 1 << shift
        fits = layout.lowest <= low and high <= layout.highest
        are_shifted = layout.lowest * step <= low and high <= (layout.highest + 1) * step - 1
        are_shifted = are_shifted and not (seen & (step - 1)).any()
        if fits == are_shifted:
            raise InputError(
                f"{frame.name}: {named('HighBit')} is {layout.high_bit} and {named('BitsStored')} "
                f"{layout.bits_stored}, which says that the numbers lie {shift} bits up, and its pixels "
                f"({low} to {high}) do not show whether they do. Export the file again."
            )
        return are_shifted

    def _extend_sign(self, words: np.ndarray, ends: tuple[int, int], frame: ImageFrame) -> None:
        """Two's complement in the bits stored alone -> negative numbers. Raises InputError when it cannot be that."""
        layout, (low, high) = frame.header.layout, ends
        # JPEG knows the sign of its numbers
        whole_words = not frame.header.is_encapsulated or frame.header.syntax == RLELossless
        if not (layout.signed and whole_words and low >= 0 and high < 1 << layout.bits_stored):
            raise InputError(
                f"{frame.name}: {named('BitsStored')} is {layout.bits_stored} ({layout.lowest} to {layout.highest}), "
                f"but its pixels run from {low} to {high}. Export the file again."
            )
        unused = layout.bits_allocated - layout.bits_stored
        np.left_shift(words, unused, out=words)
        np.right_shift(words, unused, out=words)
        self._zero_filled.append(frame.name)

    @staticmethod
    def _without_overlays(words: np.ndarray, layout: PixelLayout) -> None:
        """Take the overlays out of the words: their bits become 0, or the sign where the other unused bits are."""
        bits = words.view(words.dtype.str.replace("i", "u"))
        every = int(np.iinfo(bits.dtype).max)
        overlays = bits.dtype.type(layout.overlay_bits & every)
        if layout.signed:
            unused = bits.dtype.type(every >> layout.bits_stored << layout.bits_stored)
            sign = (bits >> bits.dtype.type(layout.bits_stored - 1) & 1).astype(bool)
            # also where no bit is left that could repeat the sign
            filled = sign & ((bits & unused | overlays) == unused | overlays)
            np.bitwise_or(bits, overlays, out=bits, where=filled)
            np.bitwise_and(bits, ~overlays, out=bits, where=~filled)
        else:
            bits &= ~overlays

    def check(self) -> None:
        """Raises InputError when numbers below zero are written in two ways: some of them are none."""
        if self._zero_filled and self._sign_extended:
            raise InputError(
                f"{self._name}: pixels of {self._zero_filled[0]} lie above what {named('BitsStored')} allows, while "
                f"those of {self._sign_extended[0]} below zero fill the unused bits. Export the series again."
            )


def scale(stored: np.ndarray, frame: ImageFrame, values: Values, out: np.ndarray) -> None:
    """Stored numbers (J, I) -> values, written to `out`."""
    layout = frame.header.layout
    if layout.is_float:
        out[:] = stored.astype(np.float64, copy=False) * values.slope + values.intercept
        return
    if out.dtype.kind == "f":
        # double precision until the value is final
        out[:] = stored * np.float64(values.slope) + values.intercept
    else:
        # the range of the values fits; on the way to them integers may wrap around, and back
        if frame.modality_table is not None:
            out[:] = apply_modality_lut(stored, frame.modality_table)
        elif values.slope == 1:
            out[:] = stored
        else:
            np.multiply(stored, _wrapped(values.slope, out), out=out, dtype=out.dtype, casting="unsafe")
        if values.intercept:
            out += _wrapped(values.intercept, out)
    if values.inverted:
        np.subtract(_wrapped(values.lowest + values.highest, out), out, out=out)


def _wrapped(number: float, like: np.ndarray) -> np.ndarray:
    """The number as an array of no dimension of the type of `like`; integers modulo its range."""
    return np.array(number if like.dtype.kind == "f" else int(number)).astype(like.dtype)


def to_rgb(stored: np.ndarray, frame: ImageFrame) -> np.ndarray:
    """Decoded colours or palette indices -> (J, I, 3) uint8."""
    layout, depth = frame.header.layout, frame.header.layout.bits_stored
    if layout.photometric == "PALETTE COLOR":
        depth = _palette_depth(frame.header)
        stored = apply_color_lut(stored, frame.header.dataset)[..., :3]
    return (stored >> max(depth - 8, 0)).astype(np.uint8)


def _palette_depth(header: Header) -> int:
    """Bits of the colours of a palette. Some writers say 16 and give 8, which would all be black."""
    dataset = header.dataset
    depth = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    tables = [dataset.get(f"{colour}PaletteColorLookupTableData") for colour in ("Red", "Green", "Blue")]
    if depth == 16 and all(isinstance(table, bytes) and len(table) % 2 == 0 for table in tables):
        order = ">" if header.syntax == ExplicitVRBigEndian else "<"
        if all((np.frombuffer(table, f"{order}u2") < 256).all() for table in tables):
            return 8
    return depth
