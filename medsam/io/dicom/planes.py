"""Whether a SEG or RTSTRUCT was drawn on the planes of a series: by its places in millimetres alone.

Citations are often of another export of the scan, or missing. Where several series share a frame of reference (PET and
CT, phases, echoes), contours of one read on another's slices would leave gaps, without an error. So planes decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.read import quiet, read_dataset
from medsam.io.dicom.seg import SEG_CLASSES
from medsam.io.dicom.seg_grid import FrameStack
from medsam.io.dicom.series import series_images
from medsam.io.dicom.tags import sequence_items, sop_class

# how far, in voxels, a plane or a border may lie off
_OFF = 0.1


def series_geometry(files: Sequence[Path]) -> VolumeGeometry | None:
    """The grid of the images of one series, by their headers; None where they make no regular volume."""
    try:
        return series_images(list(files))[0]
    except InputError:
        return None


def drawn_planes(path: Path) -> list[np.ndarray] | None:
    """The points of each plane of a SEG or RTSTRUCT, (N, 3) LPS mm; None where they cannot be read.

    Of a SEG the corners of its frames, at the centres of the corner pixels; of an RTSTRUCT a contour each.
    """
    try:
        dataset = read_dataset(path, path.name, stop_before_pixels=True)
        with quiet():
            if sop_class(dataset) not in SEG_CLASSES:
                return _contours(path, dataset)
            stack = FrameStack.of(path, dataset)
            return _corners(stack, int(dataset.Rows), int(dataset.Columns))
    except Exception:  # whoever reads the masks reports what is wrong with the file
        return None


def _contours(path: Path, dataset: Dataset) -> list[np.ndarray]:
    found = []
    for region in sequence_items(dataset, "ROIContourSequence", path.name):
        for contour in sequence_items(region, "ContourSequence", path.name):
            points = np.array(contour.get("ContourData") or [], dtype=np.float64).reshape(-1, 3)
            if len(points) >= 3:
                found.append(points)
    return found


def _corners(stack: FrameStack, rows: int, columns: int) -> list[np.ndarray]:
    """Of each plane four corners, and the first pixel's neighbour, which tells the pixel size."""
    places = np.array([(0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1), (1, 1)], dtype=float)
    steps = np.insert(places, 2, 0.0, axis=1)
    return [(start + steps) @ stack.basis.T for start in stack.origins]


def lies_on(planes: Sequence[np.ndarray], geometry: VolumeGeometry, *, pixels: bool) -> bool:
    """Whether every plane that is in reach of the grid lies on a slice of it, and any does.

    pixels: the points are pixel centres, so that they must fall on voxel centres.
    """
    met = 0
    for points in planes:
        voxels = geometry.to_voxel(points)
        if pixels:
            off = np.abs(voxels - np.round(voxels)).max()
            step = np.abs(voxels[4] - voxels[0])
            if off > _OFF or abs(np.sort(step)[1:] - 1).max() > _OFF:
                return False
            met += 1
            continue
        axis = int(np.argmin(np.ptp(voxels, axis=0)))
        height = float(voxels[:, axis].mean())
        last = geometry.shape[2 - axis] - 1
        if not -0.5 <= height <= last + 0.5:
            continue
        if np.ptp(voxels[:, axis]) > 0.5 or abs(height - round(height)) > _OFF:
            return False
        met += 1
    return met > 0
