"""The frames of a DICOM SEG: what of them a structure fills.

A SEG of 40 structures has a thousand frames and more, at a bit a pixel: they are unpacked one by one, and of each only
the rectangle that is filled is kept.

Letters: F frames, P planes of the SEG, R rows, C columns.
Source: DICOM PS3.3 C.8.20.2 (Segmentation Image), PS3.5 8.1.1 (bits are packed across frames, the lowest one first).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from scipy import ndimage

from medsam.errors import InputError
from medsam.io.dicom.seg_grid import FrameStack, PlanesPart
from medsam.io.dicom.tags import named, number, text
from medsam.io.growth import check_growth
from medsam.masks import bounding_box

# (0062,0004) Segment Number has 16 bits
_NUMBERS = 2**16


@dataclass(frozen=True)
class Frames:
    """Frames as the file has them, of `size` (R, C).

    pixels: (F, R, C) numbers; or, where they have a bit each, the bytes as they are. most: the value that is the
    whole of a pixel, None where values are numbers of segments (LABELMAP).
    """

    pixels: np.ndarray
    size: tuple[int, int]
    most: int | None

    def filled(self, at: int) -> np.ndarray:
        """Bool (R, C): the pixels of frame `at` that its segment has at least half of."""
        if self.pixels.ndim > 1:
            # "from half on", for odd maxima, too
            return self.pixels[at].astype(np.uint32) * 2 >= (self.most or 1)
        count = self.size[0] * self.size[1]
        begin = at * count
        some = np.unpackbits(self.pixels[begin // 8 : -(-(begin + count) // 8)], bitorder="little")
        return some[begin % 8 : begin % 8 + count].view(bool).reshape(self.size)


def frames_of(path: Path, dataset: Dataset, count: int) -> Frames:
    """The frames of a SEG. count: of frames described.

    Raises InputError when they are not as many, or cannot be what is described; what decoders raise otherwise.
    """
    _check_pixels(path, dataset, count)
    size = (int(dataset.Rows), int(dataset.Columns))
    kind = text(dataset, "SegmentationType")
    syntax = dataset.file_meta.TransferSyntaxUID
    plain = not syntax.is_compressed and syntax.is_little_endian and dataset.get("SamplesPerPixel") == 1
    if kind == "BINARY" and plain and dataset.BitsAllocated == 1:
        packed = np.frombuffer(dataset.PixelData, np.uint8)
        _check_count(path, len(packed) * 8 >= count * size[0] * size[1], len(packed) * 8, count, size)
        return Frames(packed, size, 1)
    # padding at the end of a bit-packed SEG can be long enough to pass for another frame
    pixels = pixel_array(dataset, allow_excess_frames=False)
    _check_count(path, pixels.size == count * size[0] * size[1], pixels.size, count, size)
    pixels = pixels.reshape(count, *size)
    if kind != "FRACTIONAL":
        return Frames(pixels, size, None if kind == "LABELMAP" else 1)
    most, highest = number(dataset, "MaximumFractionalValue", str(path)) or 0, int(pixels.max(initial=0))
    if most < 1 or highest > most:
        raise InputError(
            f"{path}: (0062,000E) Maximum Fractional Value is {most:g}, the highest value of a pixel {highest}: it is "
            "not known what the whole of a pixel is. Export the SEG again."
        )
    return Frames(pixels, size, int(most))


def _check_count(path: Path, right: bool, held: int, count: int, size: tuple[int, int]) -> None:
    if not right:
        raise InputError(
            f"{path}: (7FE0,0010) Pixel Data holds {held} values, {count} frames of {size[1]} x {size[0]} pixels need "
            f"{count * size[0] * size[1]}. Export the SEG again."
        )


def _check_pixels(path: Path, dataset: Dataset, count: int) -> None:
    """Raise InputError unless the pixels that the header announces can be there."""
    stated = number(dataset, "NumberOfFrames", str(path))
    if stated is None or stated != count:
        raise InputError(
            f"{path}: {named('NumberOfFrames')} is {stated if stated is None else f'{stated:g}'}, (5200,9230) "
            f"Per-frame Functional Groups Sequence describes {count}. Export the SEG again."
        )
    rows, columns, bits = (
        int(number(dataset, keyword, str(path)) or 0) for keyword in ("Rows", "Columns", "BitsAllocated")
    )
    held = len(dataset.PixelData) * 8
    frame = rows * columns * bits
    if frame < 1:
        raise InputError(
            f"{path}: (0028,0010) Rows, (0028,0011) Columns or (0028,0100) Bits Allocated is missing or 0."
        )
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        check_growth(path, -(-count * frame // 8), held // 8)
    elif held - count * frame >= max(frame, 16):
        raise InputError(
            f"{path}: (7FE0,0010) Pixel Data has {held // 8} bytes, {count} frames of {columns} x {rows} pixels need "
            f"{-(-count * frame // 8)}. Rows, columns or the number of frames is wrong; export the SEG again."
        )


def parts_of(
    stack: FrameStack, frames: Frames, numbers: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, PlanesPart | None]]:
    """What each structure fills, None where it is nothing.

    numbers: structure -> of its segments.
    """
    pieces = _labelled if frames.most is None else _segmented
    for name, found in pieces(stack, frames, numbers):
        yield name, _joined(found)


# plane, first row, first column, bool (r, c)
_Piece = tuple[int, int, int, np.ndarray]


def _segmented(
    stack: FrameStack, frames: Frames, numbers: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, list[_Piece]]]:
    """Each frame is of one segment."""
    for name, here in numbers.items():
        pieces = []
        for at in np.flatnonzero(np.isin(stack.segment, here)):
            filled = frames.filled(int(at))
            box = bounding_box(filled)
            if box:
                pieces.append((int(stack.plane[at]), box[0].start, box[1].start, filled[box].copy()))
        yield name, pieces


def _labelled(
    stack: FrameStack, frames: Frames, numbers: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, list[_Piece]]]:
    """A pixel is the number of its segment."""
    structure_of = np.zeros(_NUMBERS, dtype=np.min_scalar_type(len(numbers)))
    for place, here in enumerate(numbers.values(), start=1):
        structure_of[[n for n in here if 0 <= n < _NUMBERS]] = place
    boxes: list[list[tuple[int, tuple[slice, slice]]]] = [[] for _ in numbers]
    for at in range(len(frames.pixels)):
        found = ndimage.find_objects(_structures(frames.pixels[at], structure_of).astype(np.int32), len(numbers))
        for place, box in enumerate(found):
            if box is not None:
                boxes[place].append((at, box))
    for place, name in enumerate(numbers):
        pieces = []
        for at, box in boxes[place]:
            filled = _structures(frames.pixels[at][box], structure_of) == place + 1
            pieces.append((int(stack.plane[at]), box[0].start, box[1].start, filled))
        yield name, pieces


def _structures(pixels: np.ndarray, structure_of: np.ndarray) -> np.ndarray:
    """Numbers of segments as places of structures, from 1; 0 for none."""
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels = np.where((pixels < 0) | (pixels >= _NUMBERS), 0, pixels).astype(np.uint16)
    return structure_of[pixels]


def _joined(pieces: Sequence[_Piece]) -> PlanesPart | None:
    """All pieces in one array; of one plane they are united."""
    if not pieces:
        return None
    starts = np.array([piece[:3] for piece in pieces])
    ends = starts + [(1, *piece[3].shape) for piece in pieces]
    first, past = starts.min(axis=0), ends.max(axis=0)
    filled = np.zeros(past - first, dtype=bool)
    for (plane, row, column), piece in zip(starts - first, pieces, strict=True):
        rows, columns = piece[3].shape
        filled[plane, row : row + rows, column : column + columns] |= piece[3]
    return PlanesPart(filled, (int(first[0]), int(first[1]), int(first[2])))
