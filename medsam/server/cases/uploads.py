"""Uploads on their way in: bytes are counted while they come, and nothing is there before all of it is.

    uploads/.part-TOKEN/   an upload that is still coming, or being sorted; removed when that ends, however it ends
    uploads/TOKEN/         a whole one, see `intake`; with an empty file .new in it until its cases are in the store

A body is one file, or multipart/form-data with one file a part. What a client says of its length or its names is not
believed: bytes are counted, files lie under numbers. These methods block and are called in a thread, one at a time.
"""

from __future__ import annotations

import os
import secrets
import shutil
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from medsam.errors import InputError, MedSAMError
from medsam.files import move, sync
from medsam.server.cases.disk import DiskFull, check_room
from medsam.server.cases.intake import INCOMING, incoming
from medsam.server.settings import MIB, Limits

_PART, _NEW = ".part-", ".new"
# of the headers of one part; of all parts that are no files together, bytes and how many
_MOST_HEADERS = 16 * 1024
_MOST_FIELDS, _MOST_NAMES = MIB, 64


class TooLarge(MedSAMError):
    """More bytes or files than this server takes."""

    status = 413


class Uploads:
    """The folder of uploads, in the folder of the store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def begin(self) -> Path:
        """A folder for what comes. To be given to `keep`, or else to `discard`."""
        check_room(self.folder)
        part = self.folder / f"{_PART}{secrets.token_urlsafe(12)}"
        (part / INCOMING).mkdir(mode=0o700, parents=True)
        return part

    def discard(self, part: Path) -> None:
        """Remove what has come, unless it was kept."""
        shutil.rmtree(part, ignore_errors=True)

    def keep(self, part: Path) -> str:
        """What has come is whole, and on the disk when this returns: its token."""
        shutil.rmtree(part / INCOMING, ignore_errors=True)
        (part / _NEW).touch()
        _sync_all(part)
        token = part.name.removeprefix(_PART)
        move(part, self.folder / token)
        sync(self.folder)
        return token

    def known(self, token: str) -> None:
        """Its cases are in the store."""
        (self.folder / token / _NEW).unlink(missing_ok=True)

    def place(self, token: str) -> Path:
        """Where a whole one lies."""
        return self.folder / token

    def remove(self, token: str) -> None:
        """Remove one, if it is there."""
        shutil.rmtree(self.folder / token, ignore_errors=True)

    def sweep(self, known: set[str]) -> int:
        """Remove what a server that was killed has left: halves, and whole ones whose cases were never in the store.

        known: tokens that the store has. How many are there that it has not is returned: their database was replaced,
        by an older one perhaps, and they stay.
        """
        strange = 0
        for entry in list(self.folder.iterdir()):
            whole = entry.is_dir() and not entry.is_symlink()
            if whole and (entry.name.startswith(_PART) or (entry.name not in known and (entry / _NEW).exists())):
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name in known:
                self.known(entry.name)
            else:
                strange += 1
        return strange


class Receiver:
    """The body of one upload, piece after piece.

    folder: of `Uploads.begin`. kind: the request's Content-Type. name: what a file that is the whole body is called.
    names: what its files are called. parts: of a form, what the part of each is called. fields: of a form, the parts
    that are no files. Raises TooLarge, DiskFull, and InputError for a body that is no multipart/form-data although it
    says so.
    """

    def __init__(self, folder: Path, limits: Limits, kind: str, name: str) -> None:
        self._folder, self._limits = folder, limits
        self._file: BinaryIO | None = None
        self._count = 0
        self.names: list[str] = []
        self.parts: list[str] = []
        self.fields: dict[str, bytes] = {}
        self._field: str | None = None
        self._parser = self._multipart(kind)
        self._header, self._value, self._headers = b"", b"", 0
        if self._parser is None:
            self._begin(unquote(name))

    def feed(self, data: bytes) -> None:
        """The next piece."""
        self._count += len(data)
        if self._count > self._limits.upload_bytes:
            raise TooLarge(f"An upload has at most {self._limits.upload_bytes / MIB:,.0f} MiB here.")
        try:
            if self._parser is None:
                self._write(data, 0, len(data))
            else:
                self._parser.write(data)
        except FormParserError:
            raise InputError("The body is no multipart/form-data.") from None
        except OSError as error:
            raise DiskFull(f"The upload cannot be written: {error.strerror or 'the disk fails'}.") from None

    def end(self, least: int = 1) -> list[str]:
        """The names of all files, in the order of their numbers. least: files that there have to be.

        Raises InputError for a body that breaks off, or has fewer."""
        whole = self._parser is None or (self._file is None and self._ended)
        self.close()
        if not whole:
            raise InputError("The body ends before its last part does.")
        if len(self.names) < least or (least and not self._count):
            raise InputError("There is no file in this upload.")
        return self.names

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- multipart --------------------------------------------------------------------------------------------

    def _multipart(self, kind: str) -> MultipartParser | None:
        stated, options = parse_options_header(kind)
        self._ended = False
        if stated.lower() != b"multipart/form-data":
            return None
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise InputError("multipart/form-data without a boundary cannot be read.")
        callbacks: Any = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._take_field,
            "on_header_value": self._take_value,
            "on_header_end": self._header_ends,
            "on_part_data": self._write,
            "on_part_end": self.close,
            "on_end": self._all_ends,
        }
        try:
            return MultipartParser(boundary, callbacks)
        except FormParserError:
            raise InputError("The boundary of this multipart/form-data is none.") from None

    def _take(self, data: bytes) -> None:
        """More of a part that is no file."""
        if sum(map(len, self.fields.values())) + len(data) > _MOST_FIELDS:
            raise TooLarge(f"What is no file in this form has more than {_MOST_FIELDS / MIB:,.0f} MiB.")
        self.fields[self._field or ""] += data

    def _part_begins(self) -> None:
        self._field = None
        self._header, self._value, self._headers = b"", b"", 0

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._count_header(end - start)

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._count_header(end - start)

    def _count_header(self, size: int) -> None:
        self._headers += size
        if self._headers > _MOST_HEADERS:
            raise InputError("A part of this multipart/form-data has headers without an end.")

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            name, part = _name_in(self._value), _part_in(self._value)
            if name is not None:
                self._begin(name, part)
            elif len(self.fields) < _MOST_NAMES:
                self._field = part
                self.fields[part] = b""
        self._header, self._value = b"", b""

    def _all_ends(self) -> None:
        self._ended = True

    # -- files ------------------------------------------------------------------------------------------------

    def _begin(self, name: str, part: str = "") -> None:
        self.close()
        if len(self.names) >= self._limits.upload_files:
            raise TooLarge(f"An upload has at most {self._limits.upload_files:,} files here.")
        self._file = incoming(self._folder, len(self.names)).open("xb")
        self.names.append(name[:1000])
        self.parts.append(part)

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            if self._field is not None:
                self._take(data[start:end])
            return
        check_room(self._folder, end - start)
        self._file.write(memoryview(data)[start:end])


def _part_in(disposition: bytes) -> str:
    """What the field of a part is called."""
    return parse_options_header(disposition)[1].get(b"name", b"").decode("utf-8", "replace")[:100]


def _name_in(disposition: bytes) -> str | None:
    """What a part is called; None for one that is no file."""
    if b"filename*" in disposition.lower():
        # RFC 5987, UTF-8''m%C3%BCller.nii, which the parser of forms leaves out
        header = Message()
        try:
            header["Content-Disposition"] = disposition.decode("utf-8", "replace")
            return header.get_filename()
        # it was written for letters, whose headers it trusts
        except Exception:
            raise InputError("The name of a part of this multipart/form-data cannot be read.") from None
    name = parse_options_header(disposition)[1].get(b"filename")
    return None if name is None else name.decode("utf-8", "replace")


def _sync_all(folder: Path) -> None:
    """Have a folder and all in it on the disk."""
    for above, _, names in os.walk(folder):
        for name in names:
            sync(Path(above) / name)
        sync(Path(above))
