"""NIfTI, both ways. The header's own geometry fields are carried over, so an affine comes back to the bit."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1PairHeader
from nibabel.nifti2 import Nifti2PairHeader
from nibabel.volumeutils import apply_read_scaling

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.files import beside, check_regular
from medsam.io.formats import NIFTI
from medsam.io.voxels import Coding, check_ended, damage_as_input_error, expect, fill, unpacked
from medsam.volume import LabelVolume, Volume

# NIfTI's xyzt_units (code & 7) in millimetres; 0 means "not stated", read as millimetres like everybody does
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}

# (NIfTI-2, magic) -> header; "ni" keeps its voxels in an .img
_HEADERS = {
    (False, b"n+1"): nib.Nifti1Header,
    (False, b"ni1"): Nifti1PairHeader,
    (True, b"n+2"): nib.Nifti2Header,
    (True, b"ni2"): Nifti2PairHeader,
}
# of sform_code and qform_code: scanner, aligned, Talairach, MNI 152, another template
_LAST_CODE = 5
# between header and voxels; surfaces of CIFTI take some ten megabytes
_MAX_EXTENSIONS = 256 * 2**20
# packed in a way that no NIfTI reader unpacks, by how the file begins
_OTHER_PACKING = {
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ\0": "compressed by xz",
    b"PK\x03\x04": "a zip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
}

# everything in a NIfTI header that places voxels, and nothing else: free-text fields may hold a name
_GEOMETRY_FIELDS = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
)


def read_nifti(path: Path, frame: int | None = None, *, exact: bool = False) -> Volume:
    """Read a NIfTI-1 or -2 file; `frame` (0-based) picks one volume of a 4D file.

    Integers stay integers unless the header scales them; 64-bit, scaled and float data become float32, but with
    `exact`, which keeps numbers as they are.
    Raises InputError when the file is damaged, not 2D to 4D, or 4D without a `frame`.
    """
    header, data = _voxels(path)
    if data.dtype.names:  # RGB24 and RGBA32 are stored as records
        data = np.stack([data[name] for name in data.dtype.names[:3]], axis=-1)
        spatial, colour = data.ndim - 1, True
    elif np.iscomplexobj(data):
        raise InputError(f"{path.name} holds complex numbers. Save its magnitude and use that.")
    else:
        spatial, colour = data.ndim, False

    while spatial < 3:
        data = np.expand_dims(data, spatial)
        spatial += 1
    while spatial > 4 and data.shape[spatial - 1] == 1:
        data = data.squeeze(spatial - 1)
        spatial -= 1
    if spatial > 4:
        raise InputError(f"{path.name} has {spatial} dimensions {data.shape}; save the one 3D volume you need.")
    if spatial == 4:
        data = data[:, :, :, pick_frame(path, data.shape[3], frame)]
    elif frame not in (None, 0):
        raise InputError(
            f"{path.name} holds one volume, so there is no frame {frame}. Leave `frame` out.", parameter="frame"
        )

    if not exact and (data.dtype.kind == "f" or data.dtype == np.int64):
        data = data.astype(np.float32)
    array = data.transpose(2, 1, 0, 3) if colour else data.transpose(2, 1, 0)
    return Volume(
        array, VolumeGeometry.from_ras(array.shape[:3], _affine_mm(header)), source=path, notes=_unsaid(path, header)
    )


def _unsaid(path: Path, header: nib.Nifti1Header) -> tuple[str, ...]:
    """What the header leaves to be guessed; nothing of a picture, which lies nowhere."""
    if int(header["sform_code"]) or int(header["qform_code"]) or int(header["dim"][0]) < 3:
        return ()
    return (
        f"The header of {path.name} does not say which side is left (sform_code and qform_code are 0): voxels are "
        "placed as nibabel does, the first column on the patient's right.",
    )


def _voxels(path: Path) -> tuple[nib.Nifti1Header, np.ndarray]:
    """The header and all voxels (I, J, K[, T, ...]) as it scales them; compressed data are read to their checksum."""
    lower = path.name.lower()
    if lower.endswith(".img") and (beside_it := _partner(path, ".hdr")):
        path = beside_it
    with damage_as_input_error(path), _stream(path) as (stream, coding):
        header = _header(path, stream)
        shape, dtype = _shape(path, header), header.get_data_dtype()
        if header.is_single:
            raw = _fill(path, stream, coding, header, shape)
        else:
            other = _partner(path, ".img")
            if other is None:
                raise InputError(f"{path.name} is a header alone, and its voxels (.img) are not beside it. Copy both.")
            with damage_as_input_error(other), _stream(other) as (voxels, packing):
                raw = _fill(other, voxels, packing, header, shape)
    stored = raw.view(dtype).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()  # checked with the header
    if slope is None or (slope, intercept) == (1.0, 0.0) or dtype.names:
        return header, stored.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "c":
        return header, stored
    # slice by slice: nibabel computes in 64 bits
    scaled = np.empty(shape, dtype=np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        for index in range(shape[-1]):
            scaled[..., index] = apply_read_scaling(stored[..., index], slope, intercept)
    return header, scaled


@contextmanager
def _stream(path: Path) -> Iterator[tuple[BinaryIO, Coding]]:
    """The file's bytes, unpacked where they are gzip, whatever the name says."""
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        for mark, what in _OTHER_PACKING.items():
            if start.startswith(mark):
                raise InputError(f"{path.name} is {what}, whatever its name says. Unpack it and name what was in it.")
        coding: Coding = "gzip" if start.startswith(b"\x1f\x8b") else "raw"
        yield unpacked(file, coding), coding


def _header(path: Path, stream: BinaryIO) -> nib.Nifti1Header:
    """The header, checked. Leaves the stream behind it."""
    block = stream.read(348)
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    two = 540 in sizes
    block += stream.read(192) if two else b""
    magic = block[4:7] if two else block[344:347]
    kinds = _HEADERS.get((two, magic))
    if kinds is None and 348 in sizes and len(block) == 348:
        raise InputError(f"{path.name} is Analyze 7.5, not NIfTI, and does not say which side is left. Convert it.")
    try:
        if kinds is None or not sizes & {348, 540}:
            raise ValueError("it does not begin with a NIfTI header")
        # as it stands: nibabel takes a code or a pitch that it does not know for another one
        _check_forms(kinds(block, check=False))
        header = kinds(block)
        header.get_slope_inter()
        with np.errstate(all="ignore"):
            header.get_best_affine()
    except Exception as error:  # a damaged header makes nibabel and numpy raise almost anything
        raise InputError(
            f"{path.name} cannot be read as NIfTI ({type(error).__name__}: {str(error)[:200]}). "
            "The file may be truncated or damaged: copy or export it again."
        ) from error
    return header


def _check_forms(header: nib.Nifti1Header) -> None:
    """Raise ValueError where the fields that place voxels say what no NIfTI may: they would be guessed, in silence."""
    codes = {name: int(header[name]) for name in ("sform_code", "qform_code")}
    for name, code in codes.items():
        if not 0 <= code <= _LAST_CODE:
            raise ValueError(f"{name} is {code}, of which NIfTI knows 0 to {_LAST_CODE}")
    # of axes that are there; of others it may be anything
    pitch = header["pixdim"][1 : 1 + min(3, max(0, int(header["dim"][0])))]
    if codes["sform_code"] == 0 and not (np.isfinite(pitch) & (pitch > 0)).all():
        raise ValueError(f"pixdim is {', '.join(f'{step:g}' for step in pitch)}, no distances between voxels")


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, ...]:
    """Axes as the header counts them. Unused ones at the end may be 0 instead of 1: some writers leave them so."""
    shape = [int(length) for length in header.get_data_shape()]
    while len(shape) > 1 and shape[-1] == 0:
        shape.pop()
    if not shape or min(shape) < 1:
        raise InputError(f"{path.name}: dim in its header is {header['dim'].tolist()}, no size. Export it again.")
    return tuple(shape)


def _fill(path: Path, stream: BinaryIO, coding: Coding, header: nib.Nifti1Header, shape: tuple[int, ...]) -> np.ndarray:
    """All voxel bytes, uint8. The stream stands behind the header, or at the start of an .img."""
    here = header.template_dtype.itemsize if header.is_single else 0
    offset = float(header["vox_offset"])
    if not here <= offset <= here + _MAX_EXTENSIONS or offset != int(offset):
        raise InputError(f"{path.name}: vox_offset in its header is {offset:g}, where no voxels can begin.")
    left = int(offset) - here
    while left:
        passed = len(stream.read(min(left, 2**20)))
        if not passed:
            raise EOFError(f"its voxels should begin at byte {int(offset):,}")
        left -= passed
    item = header.get_data_dtype().itemsize
    count = math.prod(shape) * item
    expect(path, count, path.stat().st_size - (int(offset) if coding == "raw" else 0), coding)
    raw = np.empty(count, dtype=np.uint8)
    fill(path, stream, raw)
    check_ended(path, stream, count, shape[0] * item)
    return raw


def _partner(path: Path, suffix: str) -> Path | None:
    """The other file of a pair, .hdr or .img."""
    stem = path.name.removesuffix(".gz")[:-4]
    for name in (f"{stem}{suffix}", f"{stem}{suffix}.gz", f"{stem}{suffix.upper()}"):
        if path.with_name(name).exists():
            return beside(path, name)
    return None


def _affine_mm(header: nib.Nifti1Header) -> np.ndarray:
    """RAS affine in mm, whatever unit the header states."""
    scale = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = header.get_best_affine()
    return np.diag([scale, scale, scale, 1.0]) @ affine if scale != 1.0 else affine


def pick_frame(path: Path, count: int, frame: int | None) -> int:
    """The frame asked for out of `count`; InputError when it is needed and missing, or out of range."""
    if frame is None:
        if count == 1:
            return 0
        raise InputError(
            f"{path.name} holds {count} volumes (a time series or several contrasts). "
            f"Pick one with `frame` 0 ... {count - 1}.",
            parameter="frame",
        )
    if not 0 <= frame < count:
        raise InputError(f"{path.name} has frames 0 ... {count - 1}, not {frame}.", parameter="frame")
    return frame


def encode_nifti(labels: LabelVolume, source: Path | None, *, packed: bool) -> bytes:
    """A label map as the content of a file, .nii.gz when it is `packed`.

    With a NIfTI `source` its orientation fields are copied bit for bit.
    Other sources are written with sform and qform of the grid; NIfTI-1 keeps them in 32 bits.
    """
    data = labels.array.transpose(2, 1, 0)
    if source is not None and NIFTI.names(source):
        with damage_as_input_error(source), _stream(source) as (stream, _):
            original = _header(source, stream)
        check_same_grid(labels, VolumeGeometry.from_ras(labels.array.shape, _affine_mm(original)), source)
        two = isinstance(original, nib.Nifti2Header | Nifti2PairHeader)
        header = nib.Nifti2Header() if two else nib.Nifti1Header()
        header.set_data_dtype(data.dtype)
        header.set_data_shape(data.shape)
        header["pixdim"][:4] = original["pixdim"][:4]
        for field in _GEOMETRY_FIELDS:
            header[field] = original[field]
        # affine None: nibabel then leaves the header's own fields alone
        image = (nib.Nifti2Image if two else nib.Nifti1Image)(data, None, header)
    else:
        image = nib.Nifti1Image(data, labels.geometry.ras_affine)
        image.set_sform(labels.geometry.ras_affine, code="scanner")
        image.set_qform(labels.geometry.ras_affine, code="scanner")
        image.header.set_xyzt_units("mm" if labels.geometry.calibrated else 0)
    if not packed:
        return image.to_bytes()
    # as nibabel packs a file: fast, and the same bytes whenever it is written
    buffer = BytesIO()
    with gzip.GzipFile("", "wb", 1, buffer, mtime=0) as stream:
        image.to_stream(stream)
    return buffer.getvalue()


def check_same_grid(labels: LabelVolume, grid: VolumeGeometry, source: Path | None) -> None:
    """Raise InputError when a label map does not lie on the grid of the file that is to lend its header."""
    if not labels.geometry.same_grid(grid):
        name = "its source" if source is None else source.name
        raise InputError(
            f"The label map does not lie on the grid of {name}. Name the scan it was made for as its source."
        )
