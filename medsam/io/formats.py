"""The file formats of scans and label maps that a name tells: suffix -> reader, writers, and whether it has frames.

DICOM is recognised by content, and label pictures are read by `label_picture`. Readers and
writers are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from medsam.errors import InputError
from medsam.volume import LabelVolume, Volume

# (labels, uint8 or uint16; the file their scan came from) -> the file's content
Encoder = Callable[[LabelVolume, Path | None], bytes]


@dataclass(frozen=True)
class Format:
    """suffixes: lower case, the usual one first. read: (path, frame, exact) -> volume, see `load_volume`.

    frames: a file may hold several volumes. marks: (offset, bytes, what it is) of files of this kind and no other.
    encoders: how label maps are written, by suffix.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, int | None, bool], Volume]
    frames: bool = False
    marks: tuple[tuple[int, bytes, str], ...] = ()
    encoders: Mapping[str, Encoder] = field(default_factory=dict)

    def names(self, path: PurePath) -> bool:
        """Whether the name of a file says it is of this format."""
        return path.name.lower().endswith(self.suffixes)


def _read_nifti(path: Path, frame: int | None, exact: bool) -> Volume:
    from medsam.io.nifti import read_nifti

    return read_nifti(path, frame, exact=exact)


def _read_itk(path: Path, frame: int | None, exact: bool) -> Volume:
    from medsam.io.itk import read_itk

    return read_itk(path, frame, exact=exact)


def _read_picture(path: Path, frame: int | None, exact: bool) -> Volume:
    from medsam.io.picture import read_picture

    return read_picture(path)


def _read_npz(path: Path, frame: int | None, exact: bool) -> Volume:
    from medsam.io.picture import read_npz

    return read_npz(path)


def _nifti_gz(labels: LabelVolume, source: Path | None) -> bytes:
    from medsam.io.nifti import encode_nifti

    return encode_nifti(labels, source, packed=True)


def _nifti(labels: LabelVolume, source: Path | None) -> bytes:
    from medsam.io.nifti import encode_nifti

    return encode_nifti(labels, source, packed=False)


def _nrrd(labels: LabelVolume, source: Path | None) -> bytes:
    from medsam.io.itk import encode_nrrd

    return encode_nrrd(labels, source)


def _meta(labels: LabelVolume, source: Path | None) -> bytes:
    from medsam.io.itk import encode_meta

    return encode_meta(labels, source)


def _png(labels: LabelVolume, source: Path | None) -> bytes:
    from medsam.io.picture import encode_png

    return encode_png(labels)


NIFTI = Format(
    (".nii", ".nii.gz", ".hdr", ".img"),
    _read_nifti,
    frames=True,
    marks=((344, b"n+1\0", "a NIfTI file"), (4, b"n+2\0", "a NIfTI file")),
    encoders={".nii.gz": _nifti_gz, ".nii": _nifti},
)
NRRD = Format(
    (".nrrd", ".nhdr"),
    _read_itk,
    frames=True,
    marks=((0, b"NRRD000", "an NRRD file"),),
    encoders={".nrrd": _nrrd},
)
META = Format(
    (".mha", ".mhd"),
    _read_itk,
    frames=True,
    marks=((0, b"ObjectType = Image", "a MetaImage"),),
    encoders={".mha": _meta},
)
PICTURE = Format(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"),
    _read_picture,
    marks=((0, b"\x89PNG\r\n", "a PNG picture"), (0, b"\xff\xd8\xff", "a JPEG picture")),
    encoders={".png": _png},
)
NPZ = Format((".npz",), _read_npz)

FORMATS = (NIFTI, NRRD, META, PICTURE, NPZ)
# of everything that can be read by name; DICOM files may have another suffix, or none
SUFFIXES = (*(suffix for one in FORMATS for suffix in one.suffixes), ".dcm", ".zip")
# how label maps can be written
ENCODERS: dict[str, Encoder] = {suffix: encode for one in FORMATS for suffix, encode in one.encoders.items()}

# (offset, bytes, what begins so, the suffix it should have): also of what is not read by name
_MARKS: tuple[tuple[int, bytes, str, Format | None, str | None], ...] = (
    *((offset, mark, what, one, one.suffixes[0]) for one in FORMATS for offset, mark, what in one.marks),
    (128, b"DICM", "a DICOM file", None, ".dcm"),
    (0, b"\x89HDF\r\n", "an HDF5 file (MINC or Matlab)", None, None),
)


def format_of(path: PurePath) -> Format | None:
    """The format a file's name says it is of."""
    return next((one for one in FORMATS if one.names(path)), None)


def suffix_of(path: PurePath) -> str:
    """The longest suffix of `SUFFIXES` that the name of `path` ends in, as it is written there; "" for none.

    Other than pathlib's: `.nii.gz` is one, and 1.2.840.5 has none.
    """
    name = path.name.lower()
    size = max((len(suffix) for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), default=0)
    return path.name[len(path.name) - size :]


def check_content(path: Path, stated: Format) -> None:
    """Raise InputError when a file is plainly of another kind than its name says, naming that kind.

    Within a format the content decides (gzip or not, PNG or JPEG).
    """
    with path.open("rb") as file:
        start = file.read(352)
    for offset, mark, what, kind, suffix in _MARKS:
        if start[offset:].startswith(mark) and kind is not stated:
            how = f"Rename it to *{suffix}" if suffix else "Convert it to .nii.gz"
            raise InputError(f"{path.name} is {what}, whatever its name says. {how}.")
