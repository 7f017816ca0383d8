"""A zip of DICOM files -> a temporary folder, gone again when the block ends.

A zip from outside is not trusted: what leaves its folder, hides behind a password or grows beyond reason is
refused before or while it is written, so neither files elsewhere nor the disk come to harm.
"""

from __future__ import annotations

import io
import lzma
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from medsam.errors import InputError
from medsam.io.growth import most_unpacked

MAX_FILES = 200_000
_CHUNK = 2**20
# of a zip's list of its files, which has some hundred bytes a file
_MOST_DIRECTORY = 2**24
# what zipfile and its decoders raise on damage; RuntimeError also where a zip asks for what they cannot do
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, IndexError, MemoryError, RuntimeError, ValueError),
)


def unpack_files(path: Path, place: Callable[[str], Path], *, most_bytes: int, most_files: int) -> int:
    """Write the files of a zip where `place` says, whatever paths they have in it; how many bytes that were.

    place: called with the path of a file as the zip has it, a text and no more; the file to make. Never asked about
    hidden files, macOS resource forks and zips inside the zip.
    Raises InputError as `unpacked` does, but for paths, and beyond `most_bytes` (counted, not as stated) and
    `most_files`. What was written stays.
    """

    def targets(entries: Iterable[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
        for entry in entries:
            _check_kind(entry, path)
            if not _passed_over(entry):
                yield entry, place(entry.filename)

    limit = min(most_bytes, most_unpacked(path.stat().st_size))
    with _damage_as_input_error(path), _Careful(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        return _write(archive, targets(_entries(archive, path, most_files)), limit, path)


class _Careful(io.BufferedReader):
    """A file of which no more is read at once than the directory of a sound zip takes: zipfile reads that whole."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MOST_DIRECTORY:
            raise zipfile.BadZipFile("its directory is larger than any scan needs")
        return super().read(size)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Unpack a zip and yield the folder, which bears the zip's name so that messages about its files make sense.

    Left out: hidden files, macOS resource forks, zips inside the zip. Raises InputError when the file is no
    sound zip, is encrypted, names places outside its folder, holds links, or is too large when unpacked
    (`most_unpacked` bytes, `MAX_FILES`, the free space of the disk).
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="medsam-zip-") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        with _damage_as_input_error(path), zipfile.ZipFile(path) as archive:
            _unpack(archive, folder, path)
        yield folder


@contextmanager
def _damage_as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (*_DAMAGED, OSError) as error:
        # the system's errors have a number, those of bz2 have none
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path.name} cannot be unpacked: {error.strerror}.") from error
        raise InputError(
            f"{path.name} cannot be unpacked ({type(error).__name__}): it is no zip, damaged or truncated. "
            "Copy or download it again."
        ) from error


def _unpack(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    entries = _entries(archive, path, MAX_FILES)
    for entry in entries:
        _check(entry, path)
    wanted = [entry for entry in entries if not _passed_over(entry)]

    limit = most_unpacked(path.stat().st_size)
    stated = sum(entry.file_size for entry in wanted)
    _check_size(stated, limit, path)
    free = shutil.disk_usage(folder).free
    if stated > free:
        raise InputError(
            f"{path.name} needs {stated / 2**20:.0f} MiB to unpack, but the disk of temporary files has "
            f"{free / 2**20:.0f} MiB free. Make room, or set TMPDIR to a larger disk."
        )

    def targets() -> Iterator[tuple[zipfile.ZipInfo, Path]]:
        for entry in wanted:
            target = folder.joinpath(*_parts(entry))
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                raise InputError(f"{path.name} holds two files named {entry.filename}. Pack it again.")
            yield entry, target

    _write(archive, targets(), limit, path)


def _entries(archive: zipfile.ZipFile, path: Path, most: int) -> list[zipfile.ZipInfo]:
    """The files of a zip. Raises what `_DAMAGED` lists where its list of them is damaged."""
    check_list(archive)
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > most:
        raise InputError(f"{path.name} holds {len(entries)} files; at most {most} are unpacked.")
    return entries


def check_list(archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile where damage to the list of a zip's members hides one: it would not be missed.

    No checksum covers the list. But names stand at the member, too; and a comment is as long as the list says, be it
    that the next members are in it.
    """
    for entry in archive.infolist():
        if b"PK\1\2" in entry.comment + entry.extra:
            raise zipfile.BadZipFile("its list of members is damaged")
        if not entry.flag_bits & 0x1:
            # compares the names
            archive.open(entry).close()


def _write(archive: zipfile.ZipFile, targets: Iterable[tuple[zipfile.ZipInfo, Path]], limit: int, path: Path) -> int:
    """Write files of a zip, each as it is asked for; how many bytes those were. Raises InputError beyond `limit`."""
    written = 0
    for entry, target in targets:
        with archive.open(entry) as source, target.open("xb") as out:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                # the sizes a zip states may be lies
                _check_size(written, limit, path)
                out.write(chunk)
    return written


def _check_size(size: int, limit: int, path: Path) -> None:
    if size > limit:
        raise InputError(
            f"{path.name} grows from {path.stat().st_size / 2**20:.1f} MiB to more than {limit / 2**20:.0f} MiB when "
            "unpacked, which no scan does. If it is sound, unpack it yourself and pass the folder."
        )


def _parts(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    """The path of an entry; archives made on Windows may use backslashes."""
    return PurePosixPath(entry.filename.replace("\\", "/")).parts


def _check(entry: zipfile.ZipInfo, path: Path) -> None:
    parts = _parts(entry)
    if not parts or parts[0] == "/" or ".." in parts or re.match(r"[A-Za-z]:", parts[0]):
        raise InputError(f"{path.name} names a file outside its own folder ({entry.filename}); it is not unpacked.")
    _check_kind(entry, path)


def _check_kind(entry: zipfile.ZipInfo, path: Path) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.flag_bits & 0x1:
        raise InputError(f"{path.name} is encrypted. Unpack it with its password and pass the folder.")
    if kind not in (0, stat.S_IFREG):
        raise InputError(
            f"{path.name} holds a link or a special file ({entry.filename}); it is not unpacked. "
            "Pack the files themselves."
        )


def _passed_over(entry: zipfile.ZipInfo) -> bool:
    parts = _parts(entry) or ("",)
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
    return hidden or parts[-1].lower().endswith(".zip")
