"""NIfTI, both ways. The header's own geometry fields are carried over, so an affine comes back to the bit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.volume import LabelVolume, Volume

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")

# NIfTI's xyzt_units (code & 7) in millimetres; 0 means "not stated", read as millimetres like everybody does
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}

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


def read_nifti(path: Path, frame: int | None = None) -> Volume:
    """Read a NIfTI-1 or -2 file; `frame` (0-based) picks one volume of a 4D file.

    Integers stay integers unless the header scales them; scaled and float data become float32.
    Raises InputError when the file is damaged, not 2D to 4D, or 4D without a `frame`.
    """
    try:
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair):
            raise InputError(f"{path.name} is {type(image).__name__}, not NIfTI. Convert it to .nii.gz.")
        data: np.ndarray = np.asanyarray(image.dataobj)
    except InputError:
        raise
    except Exception as error:  # a damaged header makes nibabel, zlib and numpy raise almost anything
        raise InputError(
            f"{path.name} cannot be read as NIfTI ({type(error).__name__}: {error}). "
            "The file may be truncated or damaged: copy or export it again."
        ) from error

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
        raise InputError(f"{path.name} holds one volume, so there is no frame {frame}. Leave --frame out.")

    if data.dtype.kind == "f" or data.dtype == np.int64:
        data = data.astype(np.float32)
    array = data.transpose(2, 1, 0, 3) if colour else data.transpose(2, 1, 0)
    return Volume(array, VolumeGeometry.from_ras(array.shape[:3], _affine_mm(image)), source=path)


def _affine_mm(image: nib.Nifti1Pair) -> np.ndarray:
    """RAS affine in mm, whatever unit the header states."""
    scale = _MM_PER_UNIT.get(int(image.header["xyzt_units"]) & 7, 1.0)
    return np.diag([scale, scale, scale, 1.0]) @ image.affine if scale != 1.0 else image.affine


def pick_frame(path: Path, count: int, frame: int | None) -> int:
    """The frame asked for out of `count`; InputError when it is needed and missing, or out of range."""
    if frame is None:
        if count == 1:
            return 0
        raise InputError(
            f"{path.name} holds {count} volumes (a time series or several contrasts). "
            f"Pick one with --frame 0 ... {count - 1}."
        )
    if not 0 <= frame < count:
        raise InputError(f"{path.name} has frames 0 ... {count - 1}, not {frame}.")
    return frame


def write_nifti(labels: LabelVolume, path: Path, source: Path | None) -> None:
    """Write a label map; with a NIfTI `source` its orientation fields are copied bit for bit.

    Other sources are written with sform and qform of the grid; NIfTI-1 keeps them in 32 bits.
    """
    data = labels.array.transpose(2, 1, 0)
    original = nib.load(source) if source is not None and is_nifti(source) else None
    if isinstance(original, nib.Nifti1Pair):
        check_same_grid(labels, VolumeGeometry.from_ras(labels.array.shape, _affine_mm(original)), source)
        two = isinstance(original.header, nib.Nifti2Header)
        header = nib.Nifti2Header() if two else nib.Nifti1Header()
        header.set_data_dtype(data.dtype)
        header.set_data_shape(data.shape)
        header["pixdim"][:4] = original.header["pixdim"][:4]
        for field in _GEOMETRY_FIELDS:
            header[field] = original.header[field]
        # affine None: nibabel then leaves the header's own fields alone
        image = (nib.Nifti2Image if two else nib.Nifti1Image)(data, None, header)
    else:
        image = nib.Nifti1Image(data, labels.geometry.ras_affine)
        image.set_sform(labels.geometry.ras_affine, code="scanner")
        image.set_qform(labels.geometry.ras_affine, code="scanner")
        image.header.set_xyzt_units("mm" if labels.geometry.calibrated else 0)
    nib.save(image, path)


def check_same_grid(labels: LabelVolume, grid: VolumeGeometry, source: Path | None) -> None:
    """Raise InputError when a label map does not lie on the grid of the file that is to lend its header."""
    if not labels.geometry.same_grid(grid):
        name = "its source" if source is None else source.name
        raise InputError(
            f"The label map does not lie on the grid of {name}. Name the scan it was made for as its source."
        )


def is_nifti(path: Path) -> bool:
    """By name: .nii, .nii.gz, .hdr or .img."""
    return path.name.lower().endswith(SUFFIXES)
