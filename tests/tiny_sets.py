"""Small data sets on disk: scans, labels and manifests."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (3, 4, 5)  # K, J, I


def nifti(path: Path, array: np.ndarray, affine=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.eye(4) if affine is None else affine), path)
    return path


def scan(path: Path, seed: int = 0, shape=SHAPE, dtype=np.int16, affine=None) -> Path:
    return nifti(path, np.random.default_rng(seed).integers(-50, 200, shape).astype(dtype), affine)


def label(path: Path, values=(1, 2), shape=SHAPE, affine=None) -> Path:
    """One voxel of each value."""
    array = np.zeros(shape, np.uint8)
    array.ravel()[: len(values)] = values
    return nifti(path, array, affine)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def manifest(folder: Path, count: int = 2, **more) -> Path:
    """`count` sound cases a0, a1, ... with labels liver and spleen."""
    cases = []
    for n in range(count):
        scan(folder / f"images/a{n}.nii.gz", n)
        label(folder / f"labels/a{n}.nii.gz")
        cases.append({"id": f"a{n}", "image": f"images/a{n}.nii.gz", "label": f"labels/a{n}.nii.gz"})
    content = {"name": "tiny", "modality": "CT", "labels": {"liver": 1, "spleen": 2}, "cases": cases}
    return write(folder / "manifest.json", content | more)


def edit(path: Path, **keys) -> Path:
    """The manifest with keys of its first case set, or dropped when None."""
    content = json.loads(path.read_text())
    case = content["cases"][0]
    for key, value in keys.items():
        case[key] = value
        if value is None:
            del case[key]
    return write(path, content)
