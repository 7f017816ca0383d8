"""DICOM files: which there are in a folder, and their headers and data sets.

A header is read once, up to the pixels, and only the elements of `tags`. Files without the preamble count when they
parse as a data set that names its SOP class.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from medsam.errors import InputError
from medsam.io.dicom.header import Header
from medsam.io.dicom.source import Source, unreadable
from medsam.io.dicom.tags import PIXEL_KEYWORDS, STANDARD_ROOT, WANTED, text
from medsam.io.growth import most_inflated
from medsam.silence import Rule, silence

_START = 2**16
_UNDEFINED = 0xFFFFFFFF

_PYDICOM = Rule(module=r"pydicom(\.|$)")
_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's remarks on headers it can read all the same from the user."""
    # a decoder that fails is reported by our error; these would also log its traceback
    with silence(_PYDICOM, loggers=_LOGGERS):
        yield


def has_preamble(file: BinaryIO) -> bool:
    """Whether the file starts as DICOM files do. Leaves the file at its start."""
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def _is_data_set(file: BinaryIO) -> bool:
    """Whether a file without preamble is a DICOM data set all the same: it must name its SOP class first."""
    start = file.read(8)
    file.seek(0)
    # group 2 or 8, little or big endian, as the first element
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    try:
        found = read_partial(
            file, lambda tag, vr, length: tag > 0x00080018, force=True, specific_tags=[Tag("SOPClassUID")]
        )
        return (text(found, "SOPClassUID") or "").startswith(STANDARD_ROOT)
    except OSError:
        raise
    except Exception:
        return False
    finally:
        file.seek(0)


def is_dicom(path: Path) -> bool:
    """Whether `path` is a DICOM file: by its preamble or, lacking one, because it parses as a data set.

    A folder and what is not there are none. Raises InputError when the file cannot be opened or read.
    """
    try:
        with path.open("rb") as file:
            if has_preamble(file):
                return True
            with quiet():
                return _is_data_set(file)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path.name, error) from error


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, but hidden ones, those in hidden folders, and indices (DICOMDIR).

    Links to files count, even when they lead nowhere; links to folders are not followed. Raises InputError when a
    folder cannot be read: what lies in it may be missed.
    """

    def fail(error: OSError) -> NoReturn:
        where = Path(os.fsdecode(error.filename or folder))
        inside = where.is_relative_to(folder) and where != folder
        raise unreadable(where.relative_to(folder).as_posix() if inside else folder.name, error) from error

    found = []
    for here, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(here, name)
            if name.startswith(".") or name.upper() == "DICOMDIR":
                continue
            try:
                # neither pipes nor sockets: opening one may wait for ever
                if file.is_file() or (file.is_symlink() and not file.exists()):
                    found.append(file)
            except OSError as error:
                fail(error)
    return sorted(found)


def read_header(source: Source) -> Header | None:
    """Read a file up to its pixels; None when it is not DICOM. Opens the file once.

    Raises InputError when it starts as DICOM but cannot be read.
    """
    name = source.name
    try:
        with source.open() as file:
            if header := _header_in_first_bytes(file, source):
                return header
            file.seek(0)
            if not has_preamble(file) and not _is_data_set(file):
                return None
            return _parse(file, source)
    except InputError:
        raise
    except OSError as error:
        raise unreadable(name, error) from error
    # whatever a damaged file makes the parser do, it is the file's fault
    except Exception as error:
        raise InputError(
            f"{name} is a DICOM file but its header cannot be read ({type(error).__name__}): it is damaged or "
            "truncated. Copy or export it again."
        ) from error


def _header_in_first_bytes(file: BinaryIO, source: Source) -> Header | None:
    """The header when the first bytes hold all of it: its pixels begin in them. None says nothing about the file."""
    try:
        # closed, for the data set keeps it
        with BytesIO(file.read(_START)) as start:
            if has_preamble(start) or _is_data_set(start):
                header = _parse(start, source)
                return header if header.pixel_keyword else None
    # what the end of these bytes makes the parser do; the whole file is the judge
    except Exception:
        return None
    return None


def _parse(file: BinaryIO, source: Source) -> Header:
    """The header of `source`. file: its bytes, at least up to the pixels."""
    size = source.size()
    pixels: list[tuple[str, str | None, int]] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag in PIXEL_KEYWORDS:
            pixels.append((PIXEL_KEYWORDS[tag], vr, length))
            return True
        return False

    check_inflated(file, source.name, size)
    try:
        dataset = read_partial(file, at_pixels, force=True, specific_tags=list(WANTED))
    except InvalidDicomError as error:
        raise InputError(f"{source.name} is not a DICOM file.") from error
    syntax = syntax_of(dataset)
    keyword, vr, length = pixels[0] if pixels else (None, None, 0)
    offset = None
    if syntax != DeflatedExplicitVRLittleEndian:
        # the parser stops before the element: tag, then VR and length in 12 bytes, or length in 8
        offset = file.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    return Header(
        source=source,
        size=size,
        dataset=dataset,
        syntax=syntax,
        pixel_keyword=keyword,
        pixel_vr=vr,
        pixel_offset=offset,
        pixel_length=None if length == _UNDEFINED else length,
    )


def syntax_of(dataset: Dataset) -> UID:
    """How the data set is stored; where no file meta information says it, as it was read."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and (stated := text(meta, "TransferSyntaxUID")):
        return UID(stated)
    implicit, little = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def read_dataset(path: Path | Source, name: str, **options: Any) -> Dataset:
    """`pydicom.dcmread`, also of files without the preamble. name: for messages. options: as of `dcmread`.

    Raises InputError when the file cannot be opened, is damaged or would fill the memory.
    """
    source = path if isinstance(path, Source) else Source(name, path)
    try:
        with source.open() as file, quiet():
            check_inflated(file, name, source.size())
            # force: some planning systems write files without the preamble
            return dcmread(file, force=True, **options)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or 'the file ends too early'}.") from error
    except Exception as error:  # pydicom raises what it likes on damaged files
        raise InputError(
            f"{name} is a damaged or cut off DICOM file ({type(error).__name__}); copy or export it again."
        ) from error


def check_inflated(file: BinaryIO, name: str, size: int) -> None:
    """Raises InputError when a deflated file would fill the memory. Leaves the file at its start."""
    if not _at_deflated(file):
        file.seek(0)
        return
    limit = most_inflated(size)
    inflater, done = zlib.decompressobj(-zlib.MAX_WBITS), 0
    packed = file.read(2**20)
    while packed and not inflater.eof:
        done += len(inflater.decompress(packed, 2**24))
        packed = inflater.unconsumed_tail or file.read(2**20)
        if done > limit:
            raise InputError(
                f"{name}: its deflated content grows from {size} to more than {limit} bytes, which no scan "
                "does. It is damaged, or made to fill the memory."
            )
    file.seek(0)


def _at_deflated(file: BinaryIO) -> bool:
    """Move behind the file meta information; whether it announces a deflated data set.

    Group 2 is always explicit little endian; its stated length may be wrong, so its elements are walked.
    """
    deflated = False
    file.seek(132)
    while len(start := file.read(8)) == 8:
        group, element, vr, length = struct.unpack("<HH2sH", start)
        if group != 2:
            file.seek(-8, 1)
            return deflated
        if vr.decode("latin-1") in EXPLICIT_VR_LENGTH_32:
            (length,) = struct.unpack("<L", file.read(4))
        if element == 0x10:
            deflated = file.read(length).rstrip(b"\0 ") == DeflatedExplicitVRLittleEndian.encode()
        else:
            file.seek(length, 1)
    return False


@quiet()
def open_dicom(path: Path, classes: Mapping[str, str], what: str) -> Dataset:
    """Read a whole DICOM file and make sure of its SOP class.

    classes: UID -> name of what is accepted. what: for messages, e.g. "a DICOM SEG".
    Raises InputError when the file cannot be opened, is not DICOM, is cut off, or is of another class.
    """
    if path.is_file() and not is_dicom(path):
        raise InputError(f"{path}: not a DICOM file, so not {what}.")
    dataset = read_dataset(path, str(path))
    uid = UID(text(dataset, "SOPClassUID") or "")
    if uid not in classes:
        # an unknown UID is free text, and free text is never quoted
        name = uid.name if uid.name != uid else "unknown" if uid else "missing"
        raise InputError(
            f"{path}: (0008,0016) SOP Class UID is {name}; {what} ({' or '.join(classes.values())}) is needed here."
        )
    return dataset


def check_frame_of_reference(path: Path, found: object, wanted: str | None, where: str = "") -> None:
    """Raise InputError when both frames of reference are known and differ."""
    if wanted and found and str(found) != wanted:
        raise InputError(
            f"{path}{where}: (0020,0052) Frame of Reference UID is not the scan's, so its coordinates do not apply "
            "to the scan. Register the two first, or pick the scan it was drawn on."
        )
