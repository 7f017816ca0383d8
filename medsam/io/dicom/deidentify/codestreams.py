"""Compressed frames: what their streams hold beside the picture.

JPEG, JPEG-LS and JPEG 2000 have segments for comments and for programs of their own; a program for photographs writes
names there. Their bytes are set to zero where they lie, and those behind the end of a picture, too: lengths and
offsets stay, and nothing is decoded. Run lengths have gaps, and room behind the last run.

Source: ITU-T T.81 annex B (JPEG), T.87 (JPEG-LS), T.800 annex A (JPEG 2000), DICOM PS3.5 annex G (RLE).
"""

from __future__ import annotations

import re
import struct
from functools import partial
from itertools import pairwise

from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from medsam.errors import InputError

_JPEG = frozenset((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes))
_JPEG_2000 = frozenset(JPEG2000TransferSyntaxes)

# where in the compressed numbers a marker stands: neither a byte that is stuffed nor a restart
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_SCAN, _END, _COMMENT = 0xDA, 0xD9, 0xFE
# of an APP segment, by its first bytes, how many say how the picture is stored: the size of a pixel, the colours
_SAID = {b"JFIF\0": 14, b"Adobe": 12, b"mrfx": 5}
_TILE, _DATA, _COMMENT_2000, _END_2000 = 0x90, 0x93, 0x64, 0xD9


def without_comments(pixels: bytes, syntax: str, frames: int, plane: int = 0) -> tuple[bytes, bool] | None:
    """An encapsulated (7FE0,0010) Pixel Data of frames that hold pictures alone, and whether they held more; None
    where it is one already.

    plane: bytes of one segment of run lengths, decoded. Raises InputError when a stream cannot be read, or there are
    more or fewer frames than stated: one that no viewer shows may hold anything.
    """
    blank = _blank_jpeg if syntax in _JPEG else _blank_jpeg_2000 if syntax in _JPEG_2000 else partial(_blank_rle, plane)
    try:
        found = [bytearray(frame) for frame in generate_frames(pixels, number_of_frames=frames)]
        before = [bytes(frame) for frame in found]
        for frame in found:
            blank(frame)
        if len(found) != frames:
            raise ValueError("not the frames that are stated")
    except (ValueError, struct.error, IndexError) as error:
        raise InputError("(7FE0,0010) Pixel Data is damaged: its compressed frames cannot be taken apart.") from error
    cleaned = [bytes(frame) for frame in found]
    # offsets of 32 bits
    listed = sum(len(frame) + 9 for frame in cleaned) < 2**32
    # the table of offsets, and what lies between frames, may hold anything, too
    made = [encapsulate(cleaned, has_bot=has_bot) for has_bot in (listed, False)]
    return None if pixels in made else (made[0], cleaned != before)


def _zero(frame: bytearray, start: int, stop: int) -> None:
    frame[start:stop] = bytes(max(min(stop, len(frame)) - start, 0))


def _blank_jpeg(frame: bytearray) -> None:
    if frame[:2] != b"\xff\xd8":
        raise ValueError("no start of image")
    place = 2
    while place < len(frame):
        if frame[place] != 0xFF:
            raise ValueError("no marker")
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker == _END:
            _zero(frame, place + 2, len(frame))
            return
        elif marker in _ALONE:
            place += 2
        else:
            (length,) = struct.unpack_from(">H", frame, place + 2)
            if marker == _COMMENT or 0xE0 <= marker <= 0xEF:
                _blank_segment(frame, place + 4, place + 2 + length)
            place += 2 + length
            if marker == _START_OF_SCAN:
                following = _MARKER.search(frame, place)
                place = following.start() if following else len(frame)


def _blank_segment(frame: bytearray, start: int, stop: int) -> None:
    said = next((length for name, length in _SAID.items() if frame[start : start + len(name)] == name), 0)
    _zero(frame, start + said, stop)
    if said == _SAID[b"JFIF\0"] and stop - start >= said:
        # width and height of a preview, which is gone
        _zero(frame, start + 12, start + 14)


def _blank_jpeg_2000(frame: bytearray) -> None:
    if frame[:4] != b"\xff\x4f\xff\x51":
        raise ValueError("no start of codestream")
    place, tile, tile_bytes = 2, 0, 0
    while place + 2 <= len(frame):
        if frame[place] != 0xFF:
            raise ValueError("no marker")
        marker = frame[place + 1]
        if marker == _END_2000:
            _zero(frame, place + 2, len(frame))
            return
        if marker == _DATA:
            # a tile without a length is the last one
            place = tile + tile_bytes if tile_bytes else max(frame.rfind(b"\xff\xd9"), place + 2)
            continue
        (length,) = struct.unpack_from(">H", frame, place + 2)
        if marker == _TILE:
            tile = place
            (tile_bytes,) = struct.unpack_from(">L", frame, place + 6)
            if 0 < tile_bytes < 14:
                raise ValueError("a tile shorter than its header")
        elif marker == _COMMENT_2000:
            _zero(frame, place + 4, place + 2 + length)
        place += 2 + length


def _blank_rle(plane: int, frame: bytearray) -> None:
    """plane: bytes of a segment, decoded."""
    count, *offsets = struct.unpack_from("<16L", frame)
    if not 1 <= count <= 15 or offsets[0] < 64:
        raise ValueError("no header of run lengths")
    _zero(frame, 4 + 4 * count, offsets[0])
    for start, stop in pairwise((*offsets[:count], len(frame))):
        end = _end_of_runs(frame, start, stop, plane)
        if any(frame[end:stop]):
            # that code does nothing; zeros would be runs, at which decoders wonder
            frame[end:stop] = b"\x80" * (stop - end)


def _end_of_runs(frame: bytearray, start: int, stop: int, left: int) -> int:
    """Where the runs end that make `left` bytes; what the last one has beyond those becomes zero."""
    place = start
    while left > 0:
        if place >= stop:
            raise ValueError("runs that end too early")
        head = frame[place]
        if head < 128:
            place += head + 2
            left -= head + 1
        elif head == 128:
            place += 1
        else:
            place += 2
            left -= 257 - head
        if left < 0 and head < 128:
            _zero(frame, place + left, place)
    if place > stop:
        raise ValueError("runs that end too late")
    return place
