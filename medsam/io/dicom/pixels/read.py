"""The pixels of DICOM files -> one array of values (HU, Bq/ml, ...) or of colours.

A frame is decoded by pydicom with the one decoder that `common` names for its encoding, so values never depend on what
else is installed (and never on a decoder under the GPL). Uncompressed grey numbers need no decoder: they are read
from their place in the file.
Frames are read in a few threads, each written to its place in the one array there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import numpy as np

from medsam.errors import InputError
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.header import Header
from medsam.io.dicom.pixels.common import (
    Pixels,
    Values,
    by_gdcm,
    check_size,
    check_supported,
    damaged,
    is_plain,
    smallest_type,
)
from medsam.io.dicom.pixels.decoders import EncodedPixels, PlainPixels
from medsam.io.dicom.pixels.gdcm import GdcmProcess
from medsam.io.dicom.pixels.processing import PixelWords, scale, to_rgb
from medsam.io.dicom.pixels.signal import SignalMask

_THREADS = min(4, os.cpu_count() or 1)

FrameReader = EncodedPixels | PlainPixels | GdcmProcess


def read_frames(frames: Sequence[ImageFrame], source: str) -> Pixels:
    """Decode frames of equal size, in the order given.

    MONOCHROME1 is turned so that larger is brighter: the stored number s becomes lowest + highest - s of the
    range that Bits Stored and Pixel Representation allow (unsigned 12 bit: 4095 - s; signed 16 bit: -1 - s)
    before the rescale. CT and PET keep their values, which are HU and activities whatever the display.
    Padding and what shutters hide is as dark as the darkest of the signal, so that it shows as background.
    Raises InputError naming the file (and `source`, the whole) when pixels are damaged or not supported.
    """
    for header in {frame.header for frame in frames}:
        check_supported(header)
    check_size(frames, source)
    layout = frames[0].header.layout
    colour = layout.samples == 3 or layout.photometric == "PALETTE COLOR"
    values = [] if colour else [Values.of(frame) for frame in frames]
    shape = (len(frames), layout.rows, layout.columns)
    out = np.empty((*shape, 3), np.uint8) if colour else np.empty(shape, smallest_type(frames, values))
    signal, words = SignalMask(frames, out), PixelWords(source)

    def fill(pixels: FrameReader, frame: ImageFrame, k: int) -> None:
        stored = pixels.frame(frame.index)
        try:
            hidden = signal.padding(stored, k)
            if not frame.header.layout.is_float:
                stored = words.numbers(stored, frame, hidden)
            if colour:
                out[k] = to_rgb(stored, frame)
            else:
                scale(stored, frame, values[k], out[k])
            signal.mark(k, hidden)
        except InputError:
            raise
        except Exception as error:
            raise damaged(frame.name, frame.header.syntax, error) from error

    _decode(frames, source, fill)
    words.check()
    signal.darken()
    return Pixels(out, signal.bits, tuple(signal.notes))


def _decode(frames: Sequence[ImageFrame], source: str, fill: Callable[[FrameReader, ImageFrame, int], None]) -> None:
    """Call `fill` with what decodes a frame, the frame and its place: GDCM in a process apart, others in threads."""
    by_file: dict[Header, list[tuple[ImageFrame, int]]] = {}
    for k, frame in enumerate(frames):
        by_file.setdefault(frame.header, []).append((frame, k))
    apart = {header: places for header, places in by_file.items() if by_gdcm(header)}
    if apart:
        with GdcmProcess([[frame for frame, _ in places] for places in apart.values()], source) as child:
            for places in apart.values():
                for frame, k in places:
                    fill(child, frame, k)
    _decode_here([places for header, places in by_file.items() if header not in apart], fill)


def _decode_here(
    files: Sequence[list[tuple[ImageFrame, int]]], fill: Callable[[FrameReader, ImageFrame, int], None]
) -> None:
    """Several files in threads; of one file, its frames in threads."""

    def fill_some(places: list[tuple[ImageFrame, int]]) -> None:
        header = places[0][0].header
        with PlainPixels(header) if is_plain(header) else nullcontext(EncodedPixels(header)) as pixels:
            for frame, k in places:
                fill(pixels, frame, k)

    if len(files) != 1:
        _in_threads(fill_some, files)
        return
    (places,) = files
    header = places[0][0].header
    if is_plain(header):
        _in_threads(fill_some, [places[n::_THREADS] for n in range(min(_THREADS, len(places)))])
    else:
        encoded = EncodedPixels(header)
        _in_threads(lambda place: fill(encoded, *place), places)


def _in_threads(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        # each in a copy of the context: what is kept quiet here is there, too
        jobs = [(copy_context(), item) for item in items]
        for _ in pool.map(lambda job: job[0].run(work, job[1]), jobs):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
