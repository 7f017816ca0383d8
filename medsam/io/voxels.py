"""Voxels as they lie in a file: counted before they are trusted, and read to the end.

A compressed stream has a checksum behind its last byte. A reader that stops when it has what it wants never meets it,
and hands out changed voxels from a damaged file; so every stream is read until it ends. What is left over or missing
against the header's own numbers is an error too: then one of the two is wrong, and with it where every voxel lies.
Sources: RFC 1950 and 1952 (zlib and gzip).
"""

from __future__ import annotations

import bz2
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np

from medsam.errors import InputError
from medsam.io.growth import check_growth
from medsam.silence import Rule, silence

Coding = Literal["raw", "gzip", "zlib", "bzip2", "text", "hex"]

_CHUNK = 2**20


class Inflater(io.RawIOBase):
    """What a gzip or zlib stream unpacks to. Raises EOFError and zlib.error where it is cut short or damaged.

    A gzip file may be several streams, one after another, and zeros that fill a block.
    """

    def __init__(self, source: BinaryIO, coding: Literal["gzip", "zlib"]) -> None:
        super().__init__()
        self._source, self._several = source, coding == "gzip"
        self._decoder = zlib.decompressobj(31 if self._several else 15)
        self._packed = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        while len(view):
            if self._decoder.eof and not self._next():
                return 0
            self._packed = self._packed or self._source.read(_CHUNK)
            at_end = not self._packed
            found = self._decoder.decompress(self._packed, len(view))
            self._packed = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            if found:
                view[: len(found)] = found
                return len(found)
            if at_end and not self._decoder.eof:
                raise EOFError("the compressed data end too early")
        return 0

    def _next(self) -> bool:
        """Whether another stream follows; begins it."""
        if not self._several:
            return False
        while not (rest := self._packed.lstrip(b"\0")):
            self._packed = self._source.read(_CHUNK)
            if not self._packed:
                return False
        self._packed, self._decoder = rest, zlib.decompressobj(31)
        return True


def unpacked(source: BinaryIO, coding: Coding) -> BinaryIO:
    """The bytes behind a coding, as a stream; `source` is read from where it stands."""
    if coding in ("gzip", "zlib"):
        return cast(BinaryIO, io.BufferedReader(Inflater(source, coding), _CHUNK))
    if coding == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(source))
    return source


@contextmanager
def damage_as_input_error(path: Path) -> Iterator[None]:
    """What zlib, bz2 and the file system raise on damaged data, as an InputError that names the file."""
    try:
        yield
    except zlib.error as error:
        mark = "the checksum at the end of the compressed data does not match"
        reason = mark if "data check" in str(error) or "length check" in str(error) else str(error)
        raise InputError(f"{path.name} is damaged: {reason}. Copy or export it again.") from error
    except EOFError as error:
        raise InputError(
            f"{path.name} cannot be read: it is truncated or damaged ({error}). Copy or export it again."
        ) from error
    except OSError as error:
        reason = error.strerror or f"its compressed data are damaged, {str(error)[:100]}"
        raise InputError(f"{path.name} cannot be read: {reason}. Copy or export it again.") from error
    except MemoryError as error:
        raise InputError(f"{path.name} does not fit into the memory of this machine.") from error


def expect(path: Path, count: int, packed: int, coding: Coding) -> None:
    """Raise InputError when `packed` bytes cannot be `count` voxel bytes, before any memory is asked for."""
    if coding == "raw" and packed < count:
        raise _too_few(path, count, packed)
    if coding != "raw":
        check_growth(path, count, packed)


def fill(path: Path, stream: BinaryIO, out: np.ndarray) -> None:
    """Read uint8 `out` full. Raises InputError when the stream ends before."""
    view, done = out.data, 0
    while done < len(view):
        # piece by piece: memory that nothing was written to is not taken yet
        got = stream.readinto(view[done : done + 16 * _CHUNK])  # type: ignore[attr-defined]
        if not got:
            raise _too_few(path, len(view), done)
        done += got


def _too_few(path: Path, stated: int, there: int) -> InputError:
    return InputError(
        f"{path.name} cannot be read: it is truncated or damaged. Its header states {stated:,} bytes of voxels, "
        f"{there:,} are there. Copy or export it again."
    )


def check_ended(path: Path, stream: BinaryIO, count: int, row: int) -> None:
    """Read the stream to its end. Raises InputError when a row of voxels (in bytes) or more is left over."""
    left = 0
    while left < row and (more := stream.read(min(_CHUNK, row - left))):
        left += len(more)
    if left >= row:
        raise InputError(
            f"{path.name} holds more voxels than its header states ({count:,} bytes and at least {left:,} more): the "
            "sizes in the header are wrong. Export it again."
        )


def from_text(path: Path, text: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    """Numbers written as text. Raises InputError when they are not `count` numbers of `dtype`."""
    wide = np.dtype(np.float64 if dtype.kind == "f" else np.int64)
    try:
        # numpy warns, and goes on, where the text ends or breaks off
        with silence(Rule("error", module=r"medsam\.io\.voxels$")):
            values = np.fromstring(text.decode("ascii"), wide, sep=" ")
    except (ValueError, OverflowError, DeprecationWarning) as error:
        raise InputError(f"{path.name}: its voxels are not numbers written as text. Export it again.") from error
    if len(values) != count:
        raise InputError(f"{path.name} holds {len(values):,} voxels, its header states {count:,}. Export it again.")
    if dtype.kind in "iu" and (values.min() < np.iinfo(dtype).min or values.max() > np.iinfo(dtype).max):
        raise InputError(f"{path.name} holds numbers that do not fit its own type {dtype}. Export it again.")
    return values.astype(dtype)
