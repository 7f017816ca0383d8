"""Arrays of an `.npz`, counted before they are made and read to their checksum; Python objects in it never run."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from medsam.errors import InputError
from medsam.io.archive import check_list
from medsam.io.files import check_regular
from medsam.io.growth import check_growth


def npz_names(path: Path) -> list[str]:
    """Names of the arrays. Raises InputError when the file is no .npz."""
    return list(_opened(path))


def read_npz_arrays(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the `wanted` arrays that are there, of numbers alone.

    Raises InputError when the file is damaged, an array holds anything but numbers, or states more bytes than it has.
    """
    members = _opened(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _array(path, archive, members[name], name) for name in wanted if name in members}
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib between them raise almost anything on damaged files
        raise _unreadable(path, error) from error


def _opened(path: Path) -> dict[str, zipfile.ZipInfo]:
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_list(archive)
            return {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    except Exception as error:
        raise _unreadable(path, error) from error


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
    check_growth(path, entry.file_size, entry.compress_size)
    with archive.open(entry) as member:
        shape, dtype = _stated(member)
        count = math.prod(shape) * dtype.itemsize
        begin = member.tell()
        if dtype.kind not in "biufcSU" or dtype.hasobject:
            raise InputError(
                f"`{name}` in {path.name} holds {'Python objects' if dtype.hasobject else dtype}, not numbers, and "
                "cannot be read as .npz here. Save it again with numpy.savez, without Python objects."
            )
        if begin + count != entry.file_size:
            raise InputError(
                f"{path.name} cannot be read as .npz: its header gives `{name}` the shape {str(shape)[:80]}, "
                f"{count:,} bytes, and {entry.file_size - begin:,} are there. Save it again with numpy.savez."
            )
    with archive.open(entry) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        # the checksum is compared where the stream ends
        if member.read(1):
            raise ValueError(f"`{name}` is longer than its header states")
    return array


def _stated(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError("the shape of an array is not of whole numbers")
    return shape, dtype


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name} cannot be read as .npz ({type(error).__name__}: {str(error)[:200]}). "
        "Save it again with numpy.savez, without Python objects."
    )
