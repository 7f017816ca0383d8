"""Arrays as nnInteractive's clients send and take them: a head, and pieces that blosc2 has compressed.

    "NNIA", version 1, codec (1 zstd, 2 lz4), number of axes, length of the type's name; the name; the length of each
    axis (int64); the number of pieces (uint32); of each piece its length before and after (uint64), and its bytes

All of it little-endian, elements in C order. A head is read, and judged, before memory is taken for what it announces.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsam.errors import InputError

_HEAD = struct.Struct("<4sBBBB")
_PIECE = struct.Struct("<QQ")
_MAGIC, _VERSION, _ZSTD, _LZ4 = b"NNIA", 1, 1, 2
_MOST_AXES, _MOST_ELEMENTS = 4, 2**40
_TYPES = {
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
    "bool",
}
# before compression; blosc2 counts in 32 bits
_MOST_PIECE = 2**30
# what a piece that cannot be compressed is longer by
_SLACK = 2**16


@dataclass(frozen=True)
class Head:
    """Of an array: `shape` and `dtype`. codec, pieces: as it is sent. size: bytes that the head itself has."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: int
    size: int

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def of(cls, data: bytes | bytearray) -> Head | None:
        """From its first bytes; None where there are too few of them. Raises InputError for what is no such array."""
        if len(data) < _HEAD.size:
            return None
        magic, version, codec, axes, letters = _HEAD.unpack_from(data)
        if magic != _MAGIC or version != _VERSION or codec not in (_ZSTD, _LZ4) or not 0 < axes <= _MOST_AXES:
            raise InputError(
                f"The body is no array as clients pack it (NNIA, version 1, 1 to {_MOST_AXES} axes). Is the client one "
                "of nnInteractive 2?"
            )
        size = _HEAD.size + letters + 8 * axes + 4
        if len(data) < size:
            return None
        name = bytes(data[_HEAD.size : _HEAD.size + letters]).decode("ascii", "replace")
        shape = struct.unpack_from(f"<{axes}q", data, _HEAD.size + letters)
        if name not in _TYPES:
            raise InputError(f"An array of {name[:20]!r} is none of numbers that are taken here.")
        if min(shape) < 1 or math.prod(shape) > _MOST_ELEMENTS:
            raise InputError(f"The array's shape {shape} is that of no image.")
        (pieces,) = struct.unpack_from("<I", data, size - 4)
        return cls(shape, np.dtype(name), pieces, size)


class Unpacker:
    """An array that comes in parts of any length. check: given its head, raises where it is not taken.

    `feed` and `end` raise InputError for what is no such array. No more than a piece is kept compressed.
    """

    def __init__(self, check: Callable[[Head], None] = lambda head: None) -> None:
        self._check = check
        self._head: Head | None = None
        self._waiting = bytearray()
        self._array = np.empty(0, np.uint8)
        self._written = self._pieces = 0

    def feed(self, part: bytes) -> None:
        """The next part."""
        self._waiting += part
        if self._head is None:
            self._head = Head.of(self._waiting)
            if self._head is None:
                return
            self._check(self._head)
            try:
                self._array = np.empty(math.prod(self._head.shape), self._head.dtype)
            except MemoryError:
                raise InputError(f"There is no memory for an array of {self._head.nbytes >> 20:,} MiB.") from None
            del self._waiting[: self._head.size]
        while self._take(self._head):
            pass

    def end(self) -> np.ndarray:
        """The array, once everything was fed."""
        if self._head is None or self._written != self._head.nbytes or self._pieces != self._head.pieces:
            raise InputError("The array breaks off, or has more in it than its head says.")
        return self._array.reshape(self._head.shape)

    def _take(self, head: Head) -> bool:
        """Unpack a piece, if it has come."""
        if len(self._waiting) < _PIECE.size:
            return False
        before, after = _PIECE.unpack_from(self._waiting)
        left = head.nbytes - self._written
        if not 0 < before <= min(left, _MOST_PIECE) or before % head.dtype.itemsize or after > before + _SLACK:
            raise InputError("A piece of the array has a length that does not fit its head.")
        if len(self._waiting) < _PIECE.size + after:
            return False
        with memoryview(self._waiting) as whole:
            _decompress(bytes(whole[_PIECE.size : _PIECE.size + after]), self._array, self._written, before)
        del self._waiting[: _PIECE.size + after]
        self._written += before
        self._pieces += 1
        return True


def _decompress(piece: bytes, array: np.ndarray, start: int, size: int) -> None:
    """Into bytes start ... start + size of the flat array."""
    import blosc2

    step = array.dtype.itemsize
    try:
        # blosc2 writes what a piece holds, whatever room there is, and reads as far as it says, whatever has come
        before, after, _ = blosc2.get_cbuffer_sizes(piece)
        if before != size or after != len(piece):
            raise InputError("A piece of the array has another length than it says.")
        blosc2.decompress2(piece, dst=array[start // step : (start + size) // step])
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError("A piece of the array cannot be unpacked: it was damaged on its way.") from error


def unpacked(body: bytes, check: Callable[[Head], None] = lambda head: None) -> np.ndarray:
    """A whole array. Raises InputError, and what `check` raises."""
    unpacker = Unpacker(check)
    unpacker.feed(body)
    return unpacker.end()


def packed(array: np.ndarray) -> bytes:
    """An array as clients take it."""
    import blosc2

    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    raw, name = array.data.cast("B"), array.dtype.name.encode()
    starts = range(0, len(raw), _MOST_PIECE)
    parts = [
        _HEAD.pack(_MAGIC, _VERSION, _ZSTD, array.ndim, len(name)),
        name,
        struct.pack(f"<{array.ndim}q", *array.shape),
        struct.pack("<I", len(starts)),
    ]
    for start in starts:
        piece = raw[start : start + _MOST_PIECE]
        # pieces of zeros whose length is no multiple of the default cannot be unpacked
        options = {"typesize": array.dtype.itemsize, "codec": blosc2.Codec.ZSTD, "clevel": 1}
        small = blosc2.compress2(piece, filters=[blosc2.Filter.NOFILTER], **options)
        parts += [_PIECE.pack(len(piece), len(small)), small]
    return b"".join(parts)
