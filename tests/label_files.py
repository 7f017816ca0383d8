"""Small label files of every format, of one map on one grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk
from PIL import Image

from medsam.geometry import VolumeGeometry

AFFINE = np.diag([0.8, 0.9, 3.0, 1.0])
AFFINE[:3, 3] = (-12.5, 40.25, 7.0)
GRID = VolumeGeometry((2, 3, 4), AFFINE)
# no symmetry, so that a flip or a swap of axes shows
MAP = np.array(
    [[[0, 1, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]], [[0, 0, 1, 0], [2, 2, 0, 0], [0, 0, 0, 2]]],
    dtype=np.uint8,
)
NAMES = {"liver": 1, "spleen": 2}


def nifti(path: Path, array: np.ndarray = MAP, geometry: VolumeGeometry = GRID) -> Path:
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), geometry.ras_affine), path)
    return path


def itk(path: Path, array: np.ndarray = MAP) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.9, 3.0))
    image.SetOrigin((-12.5, 40.25, 7.0))
    sitk.WriteImage(image, str(path))
    return path


def png(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(array.astype(np.uint8), mode).save(path) if mode else Image.fromarray(array).save(path)
    return path


def picture(rows: int, columns: int) -> VolumeGeometry:
    return VolumeGeometry.uncalibrated((1, rows, columns))


def seg_nrrd(path: Path, layers: np.ndarray, segments: list[dict[str, object]]) -> Path:
    """layers: (L, K, J, I), or (K, J, I) for a file without an axis of layers."""
    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "space directions": [*([[np.nan] * 3] if layers.ndim == 4 else []), *np.diag([0.8, 0.9, 3.0])],
        "space origin": AFFINE[:3, 3],
        "kinds": ["list"] * (layers.ndim == 4) + ["domain"] * 3,
        "encoding": "gzip",
    }
    for n, segment in enumerate(segments):
        header |= {f"Segment{n}_{key}": str(value) for key, value in segment.items()}
    nrrd.write(
        str(path), layers.transpose(*([0] if layers.ndim == 4 else []), *range(layers.ndim - 1, -1, -1)[:3]), header
    )
    return path
