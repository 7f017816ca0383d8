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
from medsam.io.dicom.rtstruct import contour_points
from medsam.io.dicom.seg import SEG_CLASSES
from medsam.io.dicom.seg_grid import FrameStack
from medsam.io.dicom.series import series_images
from medsam.io.dicom.tags import sequence_items, sop_class

# how far, in voxels, a plane or a border may lie off
_OFF = 0.1
# how far a contour may stray from a slice, from end to end, as for its reader
_FLAT = 0.5


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
            points = contour_points(contour, path.name)
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

    pixels: the points are of `_corners`, so that they must fall on voxel centres, and steps be a voxel.
    """
    if not planes:
        return False
    voxels = [geometry.to_voxel(points) for points in planes]
    # one axis for all: a sliver of a contour is flat along several
    strays = np.max([np.ptp(points, axis=0) for points in voxels], axis=0)
    axis = int(np.argmin(strays))
    heights = np.array([points[:, axis].mean() for points in voxels])
    near = (heights >= -0.5) & (heights <= geometry.shape[2 - axis] - 0.5)
    if strays[axis] > _FLAT or not near.any() or np.abs(heights[near] - np.round(heights[near])).max() > _OFF:
        return False
    if not pixels:
        return True
    corners = np.array([points for points, inside in zip(voxels, near, strict=True) if inside])
    steps = np.sort(np.abs(corners[:, -1] - corners[:, 0]), axis=1)
    return bool(np.abs(corners - np.round(corners)).max() <= _OFF and np.abs(steps - (0, 1, 1)).max() <= _OFF)
