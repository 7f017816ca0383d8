"""Compressed frames: what their streams hold beside the picture.

JPEG, JPEG-LS and JPEG 2000 have segments for comments and for programs of their own; a program for photographs writes
names there. Their bytes are set to zero where they lie, and those behind the end of a picture, too: lengths and
offsets stay, and nothing is decoded.

Source: ITU-T T.81 annex B (JPEG), T.87 (JPEG-LS), T.800 annex A (JPEG 2000).
"""

from __future__ import annotations

import re
import struct

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


def without_comments(pixels: bytes, syntax: str, frames: int) -> bytes | None:
    """An encapsulated (7FE0,0010) Pixel Data whose frames hold pictures alone; None where they do already.

    Raises InputError when a stream cannot be read.
    """
    blank = _blank_jpeg if syntax in _JPEG else _blank_jpeg_2000 if syntax in _JPEG_2000 else None
    if blank is None:
        # run lengths have no place for texts
        return None
    try:
        found = [bytearray(frame) for frame in generate_frames(pixels, number_of_frames=frames)]
        before = [bytes(frame) for frame in found]
        for frame in found:
            blank(frame)
    except (ValueError, struct.error, IndexError) as error:
        raise InputError("(7FE0,0010) Pixel Data is damaged: its compressed frames cannot be taken apart.") from error
    cleaned = [bytes(frame) for frame in found]
    return None if cleaned == before else encapsulate(cleaned)


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
