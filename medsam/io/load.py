"""`load_volume(path)`: recognise a scan and read it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.io import itk, nifti, picture
from medsam.io.files import check_regular, is_folder
from medsam.volume import Volume

READABLE = "NIfTI, NRRD, MHA, PNG, JPEG, TIFF, .npz with `imgs`, a DICOM file, or a folder or zip of DICOM files"


def load_volume(
    path: str | Path, *, series: str | None = None, frame: int | None = None, exact: bool = False
) -> Volume:
    """Read a scan of any supported kind, told by its name, or for DICOM by its content.

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


def _read(path: Path, series: str | None, frame: int | None, exact: bool) -> Volume:
    folder = is_folder(path)
    if not folder:
        check_regular(path)
    name = path.name.lower()
    readers: list[tuple[tuple[str, ...], Callable[[], Volume]]] = [
        (nifti.SUFFIXES, lambda: nifti.read_nifti(path, frame, exact=exact)),
        (itk.NRRD_SUFFIXES, lambda: itk.read_itk(path, frame, exact=exact)),
        (itk.META_SUFFIXES, lambda: itk.read_itk(path, frame, exact=exact)),
        (picture.SUFFIXES, lambda: picture.read_picture(path)),
        ((".npz",), lambda: picture.read_npz(path)),
    ]
    has_frames = name.endswith(nifti.SUFFIXES + itk.NRRD_SUFFIXES + itk.META_SUFFIXES)
    if frame is not None and not has_frames:
        raise InputError(
            f"{path.name} is not a file of several volumes, so it has no frame {frame}. Leave --frame out."
        )
    if not folder:
        for suffixes, read in readers:
            if name.endswith(suffixes):
                if series is not None:
                    raise InputError(f"{path.name} is not DICOM, so it has no series. Leave --series out.")
                check_kind(path, suffixes)
                return read()

    from medsam.io import archive
    from medsam.io.dicom.read import is_dicom
    from medsam.io.dicom.series import read_dicom

    if folder or is_dicom(path):
        return read_dicom(path, series)
    # by name too: a truncated zip has lost the mark at its end
    if name.endswith(".zip") or zipfile.is_zipfile(path):
        with archive.unpacked(path) as unpacked:
            volume = read_dicom(unpacked, series)
        return Volume(**{**vars(volume), "source": path})
    raise InputError(f"{path.name} is not a scan this program can read. It reads {READABLE}.")


# how files begin, and what their names should end in; only what no other kind begins with
_MARKS: tuple[tuple[int, bytes, str, tuple[str, ...]], ...] = (
    (0, b"NRRD000", "an NRRD file", itk.NRRD_SUFFIXES),
    (344, b"n+1\0", "a NIfTI file", nifti.SUFFIXES),
    (4, b"n+2\0", "a NIfTI file", nifti.SUFFIXES),
    (128, b"DICM", "a DICOM file", (".dcm",)),
    (0, b"\x89PNG\r\n", "a PNG picture", picture.SUFFIXES),
    (0, b"\xff\xd8\xff", "a JPEG picture", picture.SUFFIXES),
    (0, b"ObjectType = Image", "a MetaImage", itk.META_SUFFIXES),
    (0, b"\x89HDF\r\n", "an HDF5 file (MINC or Matlab)", ()),
)


def check_kind(path: Path, suffixes: tuple[str, ...]) -> None:
    """Raise InputError when a file is plainly of another kind than its name says, naming that kind.

    suffixes: of the kind its name says. Within a kind the content decides (gzip or not, PNG or JPEG).
    """
    with path.open("rb") as file:
        start = file.read(352)
    for offset, mark, what, theirs in _MARKS:
        if start[offset:].startswith(mark) and theirs != suffixes:
            how = f"Rename it to *{theirs[0]}" if theirs else "Convert it to .nii.gz"
            raise InputError(f"{path.name} is {what}, whatever its name says. {how}.")
