"""The pixels of DICOM files -> one array of values (HU, Bq/ml, ...) or of colours.

A frame is decoded by pydicom with the one decoder named below for its encoding, so values never depend on what
else is installed (and never on a decoder under the GPL). Uncompressed grey numbers need no decoder: they are read
from their place in the file.
Frames are read in a few threads, each written to its place in the one array there is.

An array is as small as it can be without losing anything: uint8, int16, int32 or int64 while every slope and
intercept is a whole number and the range that Bits Stored allows fits, float32 otherwise.

Source: DICOM PS3.3 C.7.6.3 (image pixels), C.11.1 (modality LUT), PS3.5 8 and annex A (encodings).
"""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames, get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medsam.errors import InputError
from medsam.io.dicom_file import Frame, Header, PixelLayout, named
from medsam.io.dicom_signal import Padding, behind_collimators, behind_shutters, forget_shapes

# One each: a second, more forgiving decoder would turn damage into grey values.
_DECODERS: dict[UID, str] = {
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

_THREADS = min(4, os.cpu_count() or 1)

# Pixels of a frame from which the darkness of the signal is estimated, and the share of them, in %, that is dark.
_SAMPLE, _DARK = 1000, 0.5
# Padding of a value that the signal has, too, fills at least this share of an image, from its edge on.
_PADS = 0.01

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
    def of(cls, frame: Frame) -> Values:
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


def read_frames(frames: Sequence[Frame], source: str) -> Pixels:
    """Decode frames of equal size, in the order given.

    MONOCHROME1 is turned so that larger is brighter: the stored number s becomes lowest + highest - s of the
    range that Bits Stored and Pixel Representation allow (unsigned 12 bit: 4095 - s; signed 16 bit: -1 - s)
    before the rescale. CT and PET keep their values, which are HU and activities whatever the display.
    Padding and what shutters hide is as dark as the darkest of the signal, so that it shows as background.
    Raises InputError naming the file (and `source`, the whole) when pixels are damaged or not supported.
    """
    for header in {frame.header for frame in frames}:
        _check_supported(header)
    _check_size(frames, source)
    layout = frames[0].header.layout
    colour = layout.samples == 3 or layout.photometric == "PALETTE COLOR"
    values = [] if colour else [Values.of(frame) for frame in frames]
    shape = (len(frames), layout.rows, layout.columns)
    out = np.empty((*shape, 3), np.uint8) if colour else np.empty(shape, _smallest_type(frames, values))
    signal, words = _Signal(frames, out), _Words(source)

    def fill(pixels: Encoded | _Plain | _Child, frame: Frame, k: int) -> None:
        stored = pixels.frame(frame.index)
        try:
            hidden = signal.padding(stored, k)
            if not frame.header.layout.is_float:
                stored = words.numbers(stored, frame, hidden)
            if colour:
                out[k] = _colours(stored, frame)
            else:
                _scale(stored, frame, values[k], out[k])
            signal.mark(k, hidden)
        except InputError:
            raise
        except Exception as error:
            raise _damaged(frame.name, frame.header.syntax, error) from error

    _decode(frames, source, fill)
    words.check()
    signal.darken()
    return Pixels(out, signal.bits, tuple(signal.notes))


def _decode(
    frames: Sequence[Frame], source: str, fill: Callable[[Encoded | _Plain | _Child, Frame, int], None]
) -> None:
    """Call `fill` with what decodes a frame, the frame and its place: GDCM in a process apart, others in threads."""

    def fill_some(places: list[tuple[Frame, int]]) -> None:
        header = places[0][0].header
        with _Plain(header) if _is_plain(header) else nullcontext(Encoded(header)) as pixels:
            for frame, k in places:
                fill(pixels, frame, k)

    by_file: dict[Header, list[tuple[Frame, int]]] = {}
    for k, frame in enumerate(frames):
        by_file.setdefault(frame.header, []).append((frame, k))
    files = list(by_file.values())
    apart = [places for places in files if by_gdcm(places[0][0].header)]
    here = [places for places in files if not by_gdcm(places[0][0].header)]
    if apart:
        with _Child([[frame for frame, _ in places] for places in apart], source) as child:
            for frame, k in (place for places in apart for place in places):
                fill(child, frame, k)
    if len(here) > 1:
        _in_threads(fill_some, here)
    elif here:
        # of one file, the frames in threads
        (places,) = here
        header = places[0][0].header
        if _is_plain(header):
            _in_threads(fill_some, [places[n::_THREADS] for n in range(min(_THREADS, len(places)))])
        else:
            encoded = Encoded(header)
            _in_threads(lambda place: fill(encoded, *place), places)


class _Signal:
    """Which pixels of an array in the making carry no information about the patient.

    bits: as in `Volume`, None when there are none. notes: for the user.
    """

    def __init__(self, frames: Sequence[Frame], out: np.ndarray) -> None:
        self.notes: list[str] = []
        self._out = out
        stated = [Padding.of(frame) for frame in frames]
        # the tag is optional for an image without padding: one without it is read by the number of the others
        common = set(stated) - {None}
        self._padding = [one or next(iter(common)) for one in stated] if len(common) == 1 else stated
        self._shutters = [behind_shutters(frame) for frame in frames]
        self._collimators = [behind_collimators(frame) for frame in frames]
        forget_shapes()
        # nothing below air needs to be darker
        self._air = -1000.0 if out.ndim == 3 and frames[0].units == "HU" else -np.inf
        # of the signal of each frame
        self._lowest: list[float] = []
        self._highest: list[float] = []
        self._samples: list[np.ndarray] = []
        # what a collimator kept dark, by frame
        self._measured: dict[int, np.ndarray] = {}
        self.bits: np.ndarray | None = None
        if any(one is not None for kind in (self._padding, self._shutters, self._collimators) for one in kind):
            slices, rows, columns = out.shape[:3]
            self.bits = np.zeros((slices, rows, -(-columns // 8)), np.uint8)

    def padding(self, stored: np.ndarray, k: int) -> np.ndarray | None:
        """Where the numbers of frame k, as stored, are padding; None where none is."""
        padding = self._padding[k]
        if padding is None:
            return None
        hidden = padding.hides(stored)
        return hidden if hidden.any() else None

    def mark(self, k: int, hidden: np.ndarray | None) -> None:
        """Remember what of frame k is no signal, once its values are in their place. hidden: its padding."""
        if self.bits is None:
            return
        masks = [mask for mask in (hidden, self._shutters[k], self._collimators[k]) if mask is not None]
        values = self._out[k]
        if masks:
            nothing = np.logical_or.reduce(masks)
            if (collimator := self._collimators[k]) is not None:
                others = masks[:-1]
                measured = collimator & ~np.logical_or.reduce(others) if others else collimator
                self._measured[k] = np.packbits(measured, axis=-1)
            self.bits[k] = np.packbits(nothing, axis=-1)
            values = values[~nothing]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if values.size:
            self._lowest.append(values.min())
            self._highest.append(values.max())
            self._samples.append(values.reshape(-1)[:: max(1, values.size // _SAMPLE)])

    def darken(self) -> None:
        """Give padding and what lies behind shutters the lowest value of the signal, unless it is dark already.

        What a collimator kept dark stays: it was measured. So do numbers of padding amid the signal, which writers
        use for tissue, too (0 as padding of a CT stored in HU).
        """
        if self.bits is None or not self.bits.any():
            self.bits = None
            return
        if not self._lowest:
            self.bits = None
            self.notes.append("By its tags the whole scan is padding or lies behind a shutter; the tags are ignored.")
            return
        lowest, highest, changed = min(self._lowest), max(self._highest), 0
        # not the lowest: compression and noise go below what pads a scan
        dark = max(np.percentile(np.concatenate(self._samples), _DARK), self._air)
        for k, values in enumerate(self._out):
            if not self.bits[k].any():
                continue
            bits = self.bits[k] & ~self._measured[k] if k in self._measured else self.bits[k]
            hidden = np.unpackbits(bits, axis=-1, count=values.shape[1]).view(bool)
            if values.ndim == 2 and ((values > dark) & (values <= highest) & hidden).any():
                hidden &= (values > highest) | _from_the_edge(hidden)
            bright = (values > dark) & (hidden[..., None] if values.ndim == 3 else hidden)
            changed += int(np.count_nonzero(bright))
            values[bright] = lowest
        if changed:
            share = 100 * changed / self._out.size
            self.notes.append(
                f"{share:.2g} % of the voxels are padding ({named('PixelPaddingValue')}) or lie behind a display "
                f"shutter and are not dark: they count as background, {lowest:g}."
            )


def _from_the_edge(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask (J, I) that touch the edge of the image and are no speckles."""
    from scipy.ndimage import label  # takes its time to import, and few scans need it

    parts, count = label(mask)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    large = np.bincount(parts.ravel(), minlength=count + 1) >= _PADS * mask.size
    large[0] = False
    return (np.isin(np.arange(count + 1), edge) & large)[parts]


class _Words:
    """The numbers in the words of the pixels, of which Bits Stored may use only some (PS3.5 8.1.1).

    Unused bits must be free, repeat the sign, or hold overlays that are announced: a word that says anything else has
    a wrong header, and taking its low bits would wrap it around. Where High Bit is not Bits Stored - 1 the numbers
    should lie at the upper end of the words, and often do not; the words decide, or it is an error.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        # frames with negative numbers that do and do not fill the unused bits with their sign
        self._extended: list[str] = []
        self._bare: list[str] = []

    def numbers(self, words: np.ndarray, frame: Frame, padding: np.ndarray | None) -> np.ndarray:
        """The numbers of a frame, in the memory of its words where it can be. padding: words that may be anything."""
        layout = frame.header.layout
        lowest, highest = layout.lowest, layout.highest
        if layout.bits_stored == layout.bits_allocated or layout.bits_allocated == 1:
            return words
        if not words.flags.writeable:
            words = words.copy()
        if layout.overlay_bits:
            self._without_overlays(words, layout)
        seen = words if padding is None else words[~padding]
        if not seen.size:
            return np.clip(words, lowest, highest, out=words)
        low, high = int(seen.min()), int(seen.max())
        fits = lowest <= low and high <= highest
        is_shifted, shift = False, layout.high_bit + 1 - layout.bits_stored
        if shift and (low or high):
            step = 1 << shift
            is_shifted = lowest * step <= low and high <= (highest + 1) * step - 1 and not (seen & (step - 1)).any()
            if fits == is_shifted:
                raise InputError(
                    f"{frame.name}: {named('HighBit')} is {layout.high_bit} and {named('BitsStored')} "
                    f"{layout.bits_stored}, which says that the numbers lie {shift} bits up, and its pixels "
                    f"({low} to {high}) do not show whether they do. Export the file again."
                )
        if is_shifted:
            np.right_shift(words, shift, out=words)
        elif not fits:
            # two's complement in the bits stored alone; JPEG knows the sign of its numbers
            whole_words = not frame.header.is_encapsulated or frame.header.syntax == RLELossless
            if not (layout.signed and whole_words and low >= 0 and high < 1 << layout.bits_stored):
                raise InputError(
                    f"{frame.name}: {named('BitsStored')} is {layout.bits_stored} ({lowest} to {highest}), but its "
                    f"pixels run from {low} to {high}. Export the file again."
                )
            unused = layout.bits_allocated - layout.bits_stored
            np.left_shift(words, unused, out=words)
            np.right_shift(words, unused, out=words)
            self._bare.append(frame.name)
        elif layout.signed and low < 0:
            self._extended.append(frame.name)
        return words if padding is None else np.clip(words, lowest, highest, out=words)

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
        if self._bare and self._extended:
            raise InputError(
                f"{self._source}: pixels of {self._bare[0]} lie above what {named('BitsStored')} allows, while those "
                f"of {self._extended[0]} below zero fill the unused bits. Export the series again."
            )


def _in_threads(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        # each in a copy of the context: what is kept quiet here is there, too
        jobs = [(copy_context(), item) for item in items]
        for _ in pool.map(lambda job: job[0].run(work, job[1]), jobs):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def by_gdcm(header: Header) -> bool:
    """Whether GDCM decodes the pixels of a file. It does so in a process of its own: damage makes it crash."""
    is_deep = header.syntax == JPEGExtended12Bit and header.layout.bits_stored > 8
    return _DECODERS.get(header.syntax) == "gdcm" or is_deep


class _Child:
    """Frames that a process apart decodes (`gdcm_child`), to be taken in the order given."""

    def __init__(self, files: Sequence[Sequence[Frame]], source: str) -> None:
        self._source = source
        self._frames = iter([frame for frames in files for frame in frames])
        self._job = [
            (str(frames[0].header.path.absolute()), frames[0].header.name, [frame.index for frame in frames])
            for frames in files
        ]

    def __enter__(self) -> _Child:
        root = str(Path(__file__).parents[2])
        search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "medsam.io.gdcm_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": search},
        )
        self._answer = cast("IO[bytes]", self._process.stdout)
        # a process that has ended already is noticed at the first frame
        with suppress(OSError), cast("IO[bytes]", self._process.stdin) as there:
            there.write(json.dumps(self._job).encode())
        return self

    def frame(self, _: int) -> np.ndarray:
        """The next frame as (J, I) or (J, I, 3), as stored."""
        frame = next(self._frames)
        try:
            answer = json.loads(self._answer.readline())
            if isinstance(answer, dict):
                kind, shape = np.dtype(answer["dtype"]), answer["shape"]
                # a bytearray, for arrays of bytes cannot be written to
                words = bytearray(self._answer.read(kind.itemsize * math.prod(shape)))
                return np.frombuffer(words, kind).reshape(shape)
        except ValueError as crash:
            raise _damaged(frame.name, frame.header.syntax, ChildProcessError("the decoder has crashed")) from crash
        raise InputError(answer)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._answer.close()
        with self._said as said:
            said.seek(0)
            # its JPEG decoder fills damaged parts with something and only prints that it did
            if b"Corrupt JPEG" in said.read() and kind is None:
                raise InputError(
                    f"{self._source}: {named('PixelData')} holds a damaged or truncated JPEG image. Copy or export it "
                    "again."
                )


def _check_supported(header: Header) -> None:
    if header.is_encapsulated and header.syntax not in _DECODERS:
        # an unknown UID is free text; the dictionary's name is not
        kind = header.syntax.name if header.syntax.is_transfer_syntax else "an unknown encoding"
        raise InputError(
            f"{header.name}: {named('TransferSyntaxUID')} is {kind}, which is not supported. Export the scan "
            "uncompressed, or as JPEG 2000, JPEG-LS, lossless JPEG or RLE."
        )


def _check_size(frames: Sequence[Frame], source: str) -> None:
    """A few damaged bytes may claim any number of pixels; believe only what compression can do."""
    sizes = {frame.header: frame.header.size for frame in frames if frame.header.syntax.is_compressed}
    needed = sum(frame.header.layout.frame_bytes for frame in frames if frame.header in sizes)
    limit = 256 * 2**20 + 1000 * sum(sizes.values())
    if needed > limit:
        raise InputError(
            f"{source}: {named('Rows')} x {named('Columns')} x frames call for {needed / 2**30:.1f} GiB of "
            f"pixels from {sum(sizes.values())} compressed bytes, which no image does. Export it again."
        )


def _smallest_type(frames: Sequence[Frame], values: Sequence[Values]) -> np.dtype:
    if any(frame.header.layout.is_float for frame in frames):
        double = any(frame.header.pixel_keyword == "DoubleFloatPixelData" for frame in frames)
        return np.dtype(np.float64 if double else np.float32)
    lowest, highest = min(v.lowest for v in values), max(v.highest for v in values)
    if all(v.whole for v in values):
        for kind in _INTEGERS:
            if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
                return kind
    return np.dtype(np.float32)


def _scale(stored: np.ndarray, frame: Frame, values: Values, out: np.ndarray) -> None:
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


def _colours(stored: np.ndarray, frame: Frame) -> np.ndarray:
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


def _damaged(name: str, syntax: UID, error: Exception) -> InputError:
    # the decoder's own words may quote the file
    return InputError(
        f"{name}: the pixel data cannot be decoded ({syntax.name}, {type(error).__name__}): "
        f"{named('PixelData')} is damaged or truncated. Copy or export the file again."
    )


def _is_plain(header: Header) -> bool:
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


class _Plain:
    """The pixels of one file for which `_is_plain` holds, read frame by frame. Opens the file once; for one thread."""

    def __init__(self, header: Header) -> None:
        self.header, self.layout = header, header.layout
        order = ">" if header.syntax == ExplicitVRBigEndian else "<"
        kind = np.dtype(f"{order}{'i' if self.layout.signed else 'u'}{self.layout.bits_allocated // 8}")
        # one frame, read into over and over: it stays in the processor's cache
        self._stored = np.empty((self.layout.rows, self.layout.columns), kind)
        self._space = self._stored.data.cast("B")

    def __enter__(self) -> _Plain:
        try:
            self._file = self.header.path.open("rb", buffering=0)
        except OSError as error:
            raise _damaged(self.header.name, self.header.syntax, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` as (J, I), as stored; valid until the next call."""
        stored = self._stored
        try:
            self._file.seek((self.header.pixel_offset or 0) + index * stored.nbytes)
            done = 0
            while done < stored.nbytes and (read := self._file.readinto(self._space[done:])):
                done += read
        except OSError as error:
            raise _damaged(self.header.name, self.header.syntax, error) from error
        if done < stored.nbytes:  # cut since its header was read
            self.header.check_length(self.layout, index * stored.nbytes + done)
        return stored


class Encoded:
    """The encoded pixels of one file, in memory, decoded frame by frame. Opens the file once."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.layout = header.layout
        try:
            value = self._read()
            if header.syntax.is_encapsulated:
                self._encoded = self._split(value)
            else:
                header.check_length(self.layout, len(value))
                self._native = value
        except InputError:
            raise
        except Exception as error:
            raise _damaged(header.name, header.syntax, error) from error

    def _read(self) -> bytes:
        """The value of the pixel element; encapsulated, up to the end of the file."""
        with self.header.path.open("rb") as file:
            if self.header.syntax == DeflatedExplicitVRLittleEndian:
                return dcmread(file, force=True)[self.header.pixel_keyword or "PixelData"].value
            file.seek(self.header.pixel_offset or 0)
            return file.read(-1 if self.header.pixel_length is None else self.header.pixel_length)

    def _split(self, value: bytes) -> list[bytes]:
        dataset, wanted = self.header.dataset, self.layout.frames
        if self.header.pixel_length is None and not _is_whole(value):
            raise InputError(
                f"{self.header.name} is truncated: it ends in the middle of {named('PixelData')}. "
                "Copy or export the file again."
            )
        least, most = _count_frames(value, self.header.syntax)
        if not least <= wanted <= most:
            held = most if most < wanted else least
            raise InputError(
                f"{self.header.name}{' is truncated' if held < wanted else ''}: {named('NumberOfFrames')} is {wanted}, "
                f"but {named('PixelData')} holds {held}. Copy or export the file again."
            )
        table = None
        if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
            table = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        if wanted == 1:
            encoded = [get_frame(value, 0, number_of_frames=1, extended_offsets=table)]
        else:
            encoded = list(generate_frames(value, number_of_frames=wanted, extended_offsets=table))
        if len(encoded) != wanted:  # by its offset table
            raise InputError(
                f"{self.header.name}: {named('NumberOfFrames')} is {wanted}, but the offset table of "
                f"{named('PixelData')} lists {len(encoded)}. Copy or export the file again."
            )
        return encoded

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` as (J, I) or (J, I, 3), as stored: not rescaled. Colours are RGB."""
        layout, syntax = self.layout, self.header.syntax
        name = f"{self.header.name} frame {index + 1}" if layout.frames > 1 else self.header.name
        try:
            if not syntax.is_encapsulated:
                return get_decoder(syntax).as_array(self._native, index=index, **self._options(layout, layout.frames))[
                    0
                ]
            encoded = self._encoded[index]
            _check_codestream(encoded, layout, syntax, name)
            if syntax == JPEGExtended12Bit and layout.bits_stored > 8:
                return _decode_12_bit_jpeg(encoded, layout)
            return get_decoder(syntax).as_array(
                encapsulate([encoded], has_bot=False),
                index=0,
                decoding_plugin=_DECODERS[syntax],
                **self._options(layout, 1),
            )[0]
        except InputError:
            raise
        except Exception as error:
            raise _damaged(name, syntax, error) from error

    def _options(self, layout: PixelLayout, frames: int) -> dict[str, Any]:
        options: dict[str, Any] = {
            "rows": layout.rows,
            "columns": layout.columns,
            "samples_per_pixel": layout.samples,
            "number_of_frames": frames,
            "bits_allocated": layout.bits_allocated,
            "bits_stored": layout.bits_stored,
            "pixel_representation": int(layout.signed),
            "photometric_interpretation": layout.photometric,
            "pixel_keyword": self.header.pixel_keyword,
            "pixel_vr": self.header.pixel_vr or "OW",
            "allow_excess_frames": False,
            # see `_Words`
            "correct_unused_bits": False,
        }
        if layout.samples > 1:
            options["planar_configuration"] = layout.planar
        return options


def _fragments(value: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each item of encapsulated pixels: first the offset table, then the fragments (PS3.5 A.4)."""
    place = 0
    while place + 8 <= len(value):
        tag, length = struct.unpack_from("<4sL", value, place)
        if tag != b"\xfe\xff\x00\xe0":
            return
        yield place + 8, min(place + 8 + length, len(value))
        place += 8 + length


def _count_frames(value: bytes, syntax: UID) -> tuple[int, int]:
    """How many frames encapsulated pixels hold at least and at most: none is less than a fragment (PS3.5 A.4)."""
    fragments = [*_fragments(value)][1:]
    if syntax == RLELossless:  # a fragment each
        return len(fragments), len(fragments)
    # images that begin where another has ended
    ended, count = True, 0
    for start, end in fragments:
        # SOI of JPEG and JPEG-LS, SOC and SIZ of JPEG 2000; all end with FFD9, perhaps padded
        if ended and value.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51"), start):
            count += 1
        ended = value[max(end - 3, start) : end].rstrip(b"\0").endswith(b"\xff\xd9")
    return count, len(fragments)


def _is_whole(value: bytes) -> bool:
    """Whether encapsulated pixels end as they must, with a delimiter (PS3.5 A.4)."""
    end = max((end for _, end in _fragments(value)), default=0)
    return value[end : end + 4] == b"\xfe\xff\xdd\xe0"


def _check_codestream(encoded: bytes, layout: PixelLayout, syntax: UID, name: str) -> None:
    """Compare the size inside a compressed image with the header's before a decoder allocates it."""
    if syntax == RLELossless:
        return
    is_2000 = syntax in JPEG2000TransferSyntaxes or syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
    found = _jpeg_2000_shape(encoded) if is_2000 else _jpeg_shape(encoded)
    if found != (layout.rows, layout.columns, layout.samples):
        held = "none" if found is None else f"{found[0]} x {found[1]} with {found[2]} sample(s) a pixel"
        raise InputError(
            f"{name}: {named('Rows')} x {named('Columns')} is {layout.rows} x {layout.columns} with "
            f"{layout.samples} sample(s) a pixel, but the compressed image in {named('PixelData')} is {held}. "
            "It is damaged; copy or export the file again."
        )


def _jpeg_2000_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """Rows, columns, components of a codestream (ISO 15444-1 A.5.1, marker SIZ), bare or in a JP2 box."""
    start = encoded.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(encoded) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4L", encoded, start + 8)
    (components,) = struct.unpack_from(">H", encoded, start + 40)
    return bottom - top, right - left, components


def _jpeg_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """Rows, columns, components of a JPEG (ISO 10918-1 B.2.2) or JPEG-LS (ISO 14495-1) frame header."""
    place = 2
    while place + 10 <= len(encoded):
        if encoded[place] != 0xFF:
            return None
        marker = encoded[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns, components = struct.unpack_from(">HHB", encoded, place + 5)
            return rows, columns, components
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return None


def _decode_12_bit_jpeg(encoded: bytes, layout: PixelLayout) -> np.ndarray:
    """Lossy JPEG with 12 bits a sample, which pydicom hands to none of its decoders; GDCM reads it."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(layout.photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, layout.bits_stored, layout.bits_stored - 1, int(layout.signed)))
    buffer = image.GetBuffer()
    if buffer is None:
        raise ValueError("GDCM cannot decode the image")
    # the binding returns bytes as text
    decoded = buffer.encode("utf-8", "surrogateescape")
    kind = np.dtype("<i2" if layout.signed else "<u2")
    return np.frombuffer(decoded, kind, layout.rows * layout.columns).reshape(layout.rows, layout.columns)
