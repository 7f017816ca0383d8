"""`load_volume(path)`: recognise a scan and read it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.io.files import check_regular, is_folder
from medsam.io.formats import check_content, format_of
from medsam.volume import Volume

READABLE = "NIfTI, NRRD, MHA, PNG, JPEG, TIFF, .npz with `imgs`, a DICOM file, or a folder or zip of DICOM files"


def load_volume(
    path: str | Path, *, series: str | None = None, frame: int | None = None, exact: bool = False
) -> Volume:
    """Read a scan of any supported kind, which its name says, or for DICOM its content.

    series: SeriesInstanceUID, when a folder or zip holds several. frame: 0-based, when a file holds several
    volumes. exact: 64-bit numbers stay as they are (label numbers beyond 2**24), which scans need not.
    Raises InputError naming the file, or SeveralSeries listing what `series` can be.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"A scan is read from a path, not from {type(path).__name__}.")
    path = Path(path)
    try:
        volume = _read(path, series, frame, exact)
    except InputError as error:
        # readers name the file; geometry, which knows no files, does not
        if path.name in str(error):
            raise
        raise error.within(path.name) from error
    return volume


def as_volume(scan: Volume | str | os.PathLike[str] | np.ndarray) -> Volume:
    """A scan as it is, read from its path, or made of an array by `Volume.from_array` (pixels, no millimetres).

    Raises InputError as those two do.
    """
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, str | os.PathLike):
        return load_volume(Path(scan))
    return Volume.from_array(scan)


def _read(path: Path, series: str | None, frame: int | None, exact: bool) -> Volume:
    folder = is_folder(path)
    if not folder:
        check_regular(path)
    kind = None if folder else format_of(path)
    if frame is not None and not (kind and kind.frames):
        raise InputError(
            f"{path.name} is not a file of several volumes, so it has no frame {frame}. Leave `frame` out.",
            parameter="frame",
        )
    if kind is not None:
        if series is not None:
            raise InputError(f"{path.name} is not DICOM, so it has no series. Leave `series` out.", parameter="series")
        check_content(path, kind)
        return kind.read(path, frame, exact)

    from medsam.io import archive
    from medsam.io.dicom.read import is_dicom
    from medsam.io.dicom.series import read_dicom

    if folder or is_dicom(path):
        return read_dicom(path, series)
    # by name too: a truncated zip has lost the mark at its end
    if path.name.lower().endswith(".zip") or zipfile.is_zipfile(path):
        with archive.unpacked(path) as unpacked:
            volume = read_dicom(unpacked, series)
        return Volume(**{**vars(volume), "source": path})
    raise InputError(f"{path.name} is not a scan this program can read. It reads {READABLE}.")
