"""`load_volume(path)`: recognise a scan and read it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.io import itk, nifti, picture
from medsam.volume import Volume

READABLE = "NIfTI, NRRD, MHA, PNG, JPEG, TIFF, .npz with `imgs`, a DICOM file, or a folder or zip of DICOM files"


def load_volume(path: str | Path, *, series: str | None = None, frame: int | None = None) -> Volume:
    """Read a scan of any supported kind, told by its name, or for DICOM by its content.

    series: SeriesInstanceUID, when a folder or zip holds several. frame: 0-based, when a file holds several
    volumes. Raises InputError naming the file, or SeveralSeries listing what `series` can be.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"A scan is read from a path, not from {type(path).__name__}.")
    path = Path(path)
    try:
        volume = _read(path, series, frame)
    except InputError as error:
        # readers name the file; geometry, which knows no files, does not
        if path.name in str(error):
            raise
        raise type(error)(f"{path.name}: {error}") from error
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


def _read(path: Path, series: str | None, frame: int | None) -> Volume:
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist.")
    except OSError as error:  # a folder above it may not be entered, or the name is too long
        raise InputError(f"{path.name[:80]} cannot be reached: {error.strerror}.") from error
    if not os.access(path, os.R_OK):
        raise InputError(f"{path.name} cannot be read: permission denied.")
    name = path.name.lower()
    readers: list[tuple[tuple[str, ...], Callable[[], Volume]]] = [
        (nifti.SUFFIXES, lambda: nifti.read_nifti(path, frame)),
        (itk.NRRD_SUFFIXES + itk.META_SUFFIXES, lambda: itk.read_itk(path, frame)),
        (picture.SUFFIXES, lambda: picture.read_picture(path)),
        ((".npz",), lambda: picture.read_npz(path)),
    ]
    has_frames = name.endswith(nifti.SUFFIXES + itk.NRRD_SUFFIXES + itk.META_SUFFIXES)
    if frame is not None and not has_frames:
        raise InputError(
            f"{path.name} is not a file of several volumes, so it has no frame {frame}. Leave --frame out."
        )
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{path.name} is empty (0 bytes). Copy or export it again.")
        for suffixes, read in readers:
            if name.endswith(suffixes):
                if series is not None:
                    raise InputError(f"{path.name} is not DICOM, so it has no series. Leave --series out.")
                return read()

    from medsam.io import archive, dicom

    if path.is_dir() or dicom.is_dicom(path):
        return dicom.read_dicom(path, series)
    # by name too: a truncated zip has lost the mark at its end
    if name.endswith(".zip") or zipfile.is_zipfile(path):
        with archive.unpacked(path) as folder:
            volume = dicom.read_dicom(folder, series)
        return Volume(**{**vars(volume), "source": path})
    raise InputError(f"{path.name} is not a scan this program can read. It reads {READABLE}.")
