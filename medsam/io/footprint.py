"""How much memory work on a scan will need, told before it is read: from its header, or from the size of its files."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

from medsam.io.files import is_folder

# what a voxel costs at the most while a scan is segmented or measured: as stored, as float32, label map, masks
_BYTES_A_VOXEL = 24
# how much smaller than its voxels a file may be whose header is not read: lossless compression of 16 bits
_GROWTH = 4


def working_bytes(path: Path) -> int:
    """Bytes beside the weights, roughly and rather too many; 0 for a file that is not there or says nothing.

    path: as of `load_volume`.
    """
    with suppress(Exception):  # a damaged file is reported by who reads it
        voxels = _voxels(path)
        return _BYTES_A_VOXEL * (voxels if voxels is not None else _GROWTH * _size(path) // 2)
    return 0


def _voxels(path: Path) -> int | None:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        import nibabel as nib

        return math.prod(nib.load(path).shape[:3])
    if name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        import SimpleITK as sitk

        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        return math.prod(reader.GetSize()[:3])
    return None


def _size(path: Path) -> int:
    """Bytes of a file, or of the files of a folder."""
    files = path.iterdir() if is_folder(path) else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
