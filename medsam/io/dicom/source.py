"""Where the bytes of a DICOM file are: on disk, or in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import BinaryIO

from medsam.errors import InputError

# one file: where it is, an open one, or its bytes
DicomFile = str | os.PathLike[str] | BinaryIO | bytes

_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class Source:
    """The bytes of one DICOM file.

    name: the file as messages call it; of a folder's file, relative to what the user passed.
    path: where it is, or None for `data` in memory.
    """

    name: str
    path: Path | None = None
    data: bytes = b""

    def open(self) -> BytesIO | BufferedReader:
        """The bytes from their beginning, for one reader; a source may be opened many times at once. Raises OSError."""
        # bytes are shared and not copied
        return BytesIO(self.data) if self.path is None else self.path.open("rb")

    def open_unbuffered(self) -> BytesIO | FileIO:
        """`open` for who reads large parts of it into an array."""
        return BytesIO(self.data) if self.path is None else self.path.open("rb", buffering=0)

    def size(self) -> int:
        """In bytes. Raises OSError."""
        return len(self.data) if self.path is None else self.path.stat().st_size


def sources_of(files: DicomFile | Iterable[DicomFile] | Mapping[str, DicomFile]) -> list[Source]:
    """One file or several, as `read_dicom` takes them. An open file is read to its end, and not closed.

    Raises InputError when there are none, or one is empty, cannot be read, or is no file.
    """
    named: list[tuple[str | None, object]]
    if isinstance(files, Mapping):
        named = [(str(name), file) for name, file in files.items()]
    elif (
        isinstance(files, str | os.PathLike | bytes | bytearray | memoryview)
        or hasattr(files, "read")
        or not isinstance(files, Iterable)
    ):
        # bytes and open files could be iterated over, too
        named = [(None, files)]
    else:
        named = [(None, file) for file in files]
    if not named:
        raise InputError("No DICOM file was passed: the list of files is empty.")
    return [_source(file, name, number) for number, (name, file) in enumerate(named, start=1)]


def _source(file: object, name: str | None, number: int) -> Source:
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        return Source(str(path) if name is None else name, path)
    name = f"file {number}" if name is None else name
    data = file
    if hasattr(file, "read"):
        try:
            data = file.read()
        except OSError as error:
            raise unreadable(name, error) from error
        except ValueError as error:
            raise InputError(f"{name} cannot be read: it is closed.") from error
    if isinstance(data, str):
        raise InputError(f"{name} is open as text; a DICOM file is opened in binary mode ('rb').")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"{name} is {type(file).__name__}: neither a path, an open file nor bytes.")
    if not len(data):
        raise InputError(f"{name} is empty (0 bytes), or was read to its end before.")
    # bytes stay as they are, without a copy
    return Source(name, data=bytes(data))


def same_bytes(one: Source, other: Source) -> bool:
    """Whether two files are equal, byte by byte. Raises InputError when one cannot be read."""
    try:
        if one.size() != other.size():
            return False
        with one.open() as first, other.open() as second:
            while block := first.read(_BLOCK):
                if block != second.read(_BLOCK):
                    return False
    except OSError as error:
        raise unreadable(f"{one.name} or {other.name}", error) from error
    return True


def unreadable(name: str, error: OSError) -> InputError:
    """What to raise for a file that the system does not give."""
    return InputError(f"{name} cannot be read: {error.strerror or type(error).__name__}.")
