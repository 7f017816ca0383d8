"""What Pillow leaves unread: checksums of PNG and deflated TIFF, and how many bytes the pages of a TIFF are.

Pillow takes the pixels it needs from a compressed stream and leaves the rest, with the checksum, unread; rows that a
TIFF has no strip for stay black. Every check costs one more pass over the compressed bytes.
Sources: PNG specification, third edition, chapters 5 and 10; TIFF 6.0 and its technical note 2 on deflate.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from medsam.errors import InputError
from medsam.io.growth import check_growth

_MAX_PAGES = 20_000
_CHUNK = 2**20

# channels of each PNG colour type, and Adam7's passes: first column and row, rows and columns apart
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 8, 4), (2, 0, 4, 4), (0, 2, 4, 2), (1, 0, 2, 2), (0, 1, 2, 1))

_DEFLATE = (8, 32946)
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_YCBCR = 6


def check_png(path: Path) -> None:
    """Raise InputError unless every chunk of a PNG and its compressed pixels have the right checksum and length."""
    with path.open("rb") as file:
        file.seek(8)
        inflater, rows, expected, seen = zlib.decompressobj(), 0, -1, b""
        while seen != b"IEND":
            head = file.read(8)
            length, seen = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8:
                raise _damaged(path, "it ends before its last chunk")
            crc = zlib.crc32(seen)
            while length:
                part = file.read(min(length, _CHUNK))
                if not part:
                    raise _damaged(path, "it ends in the middle of a chunk")
                length -= len(part)
                crc = zlib.crc32(part, crc)
                if seen == b"IHDR":
                    expected = _png_bytes(part)
                if seen == b"IDAT":
                    try:
                        rows += _inflated(inflater, part, expected - rows)
                    except zlib.error as error:
                        raise _damaged(path, f"its pixels, {error}") from error
            if crc != int.from_bytes(file.read(4), "big"):
                raise _damaged(path, "a checksum in it does not match")
    if rows != expected or not inflater.eof:
        raise _damaged(path, "its pixels are fewer or more than its size")


def check_pages(path: Path, picture: Any) -> int:
    """How many pages a picture of Pillow has, before any is decoded.

    Raises InputError when the pages are too many, more than the file can hold, or a TIFF's are not all there.
    """
    tiff = picture.format == "TIFF"
    size = path.stat().st_size
    total = stored = pages = 0
    with path.open("rb") as file:
        for index in range(_MAX_PAGES + 1):
            try:
                picture.seek(index)
            except EOFError:
                break
            pages += 1
            bands = 4 if picture.mode in ("I", "F", "RGBA", "CMYK") else 2 if picture.mode.startswith("I;") else 3
            total += math.prod(picture.size) * bands
            check_growth(path, total, size)
            if tiff:
                stored += _check_page(path, file, picture.tag_v2, size)
                if stored > size:
                    raise InputError(
                        f"{path.name} has pages that share their pixels: together they would be {stored:,} bytes of a "
                        f"file of {size:,}. Save the pages you need again."
                    )
        else:
            raise InputError(f"{path.name} has more than {_MAX_PAGES} pages. Save those you need alone.")
    stated = getattr(picture, "n_frames", 1)
    if pages != stated:
        raise _damaged(path, f"it states {stated} pages and has {pages}")
    return pages


class _Blocks(NamedTuple):
    """Strips or tiles of a page. offsets, counts: where each is stored, in how many bytes (as stated, or empty).

    sizes: decoded bytes of each. limit: decoded bytes that none exceeds.
    """

    offsets: Sequence[int]
    counts: Sequence[int]
    sizes: Sequence[int]
    limit: int


def _blocks(path: Path, tags: Any) -> _Blocks:
    """Raises InputError when there are fewer than the page needs."""
    width, height, samples = int(tags[_WIDTH]), int(tags[_HEIGHT]), int(tags.get(_SAMPLES, 1))
    bits = [int(one) for one in tags.get(_BITS, (1,))]
    separate = int(tags.get(_PLANAR, 1)) == 2
    pixel_bits = bits[0] if separate else bits[0] * samples
    planes = samples if separate else 1
    if _TILES in tags:
        across, down = int(tags[_TILE_WIDTH]), int(tags[_TILE_HEIGHT])
        offsets, counts = tags[_TILES], tags.get(_TILE_BYTES, ())
        number = math.ceil(width / across) * math.ceil(height / down) * planes if across and down else 0
        rows = [down] * number
    else:
        across, down = width, min(int(tags.get(_ROWS_PER_STRIP, height)) or height, height)
        offsets, counts = tags.get(_STRIPS, ()), tags.get(_STRIP_BYTES, ())
        number = math.ceil(height / down) * planes
        last = height - (number // planes - 1) * down
        rows = ([down] * (number // planes - 1) + [last]) * planes
    row_bytes = math.ceil(across * pixel_bits / 8)
    if len(offsets) < number or number < 1 or (counts and len(counts) < number):
        raise _damaged(path, f"it has {len(offsets)} strips or tiles of {number}")
    return _Blocks(offsets, counts, [count * row_bytes for count in rows], down * row_bytes)


def _check_page(path: Path, file: BinaryIO, tags: Any, size: int) -> int:
    """Stored bytes of one page of a TIFF. Raises InputError when strips or tiles are missing, short or damaged."""
    blocks = _blocks(path, tags)
    compression = int(tags.get(_COMPRESSION, 1))
    # subsampled colours are fewer bytes than the size calls for
    plain = int(tags.get(_PHOTOMETRIC, 1)) != _YCBCR
    stored = 0
    for index, expected in enumerate(blocks.sizes):
        offset = int(blocks.offsets[index])
        count = int(blocks.counts[index]) if blocks.counts else (expected if compression == 1 else size - offset)
        if offset + count > size or (compression == 1 and plain and count < expected):
            raise _damaged(path, "strips or tiles of its pixels are cut short")
        stored += count
        if compression in _DEFLATE:
            file.seek(offset)
            inflater = zlib.decompressobj()
            try:
                found = _inflated(inflater, file.read(count), blocks.limit)
            except zlib.error as error:
                raise _damaged(path, f"its pixels, {error}") from error
            if not inflater.eof or (plain and found < expected):
                raise _damaged(path, "its compressed pixels do not end where they should")
    return stored


def _inflated(inflater: Any, packed: bytes, limit: int) -> int:
    """How many bytes come out; one more than `limit` at most."""
    found = 0
    while packed and not inflater.eof:
        found += len(inflater.decompress(packed, max(1, min(_CHUNK, limit + 1 - found))))
        packed = inflater.unconsumed_tail
        if found > limit:
            raise zlib.error("they are more than the picture's size calls for")
    return found


def _png_bytes(header: bytes) -> int:
    """Bytes of all rows of a PNG, each with its filter, from its IHDR."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _PNG_CHANNELS.get(header[9], 0)

    def of(columns: int, rows: int) -> int:
        return rows * (1 + math.ceil(columns * bits / 8)) if columns else 0

    if not header[12]:
        return of(width, height)
    return sum(of(math.ceil((width - x) / across), math.ceil((height - y) / down)) for x, y, down, across in _ADAM7)


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} cannot be read as a picture: {what}. "
        "The file may be truncated or damaged: copy or export it again."
    )
