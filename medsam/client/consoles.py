"""What a viewer's own console has of a scan, to a server and back: arrays, where they lie, and what was marked on them.

    scan = scan_of(array, ijk_to_ras)                       # 3D Slicer; scale_mm of napari: Volume.from_array
    box = box_at(corners_ras, scan, "k")                    # markups in RAS mm
    mask = segmented(client, scan, [box])                   # bool, of the array's own shape

numpy and httpx alone are needed, and neither viewer: what is thin enough to be typed into a console is in examples/.
Positions in an array are (i, j, k), centres of voxels at whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from medsam.client.client import Client
from medsam.errors import InputError, MedSAMError, PromptError
from medsam.geometry import AXES, Axis, VolumeGeometry
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt
from medsam.volume import Volume


def scan_of(array: np.ndarray, ijk_to_ras: np.ndarray, modality: str | None = None) -> Volume:
    """A viewer's volume. array: (K, J, I), as `slicer.util.arrayFromVolume` gives it. ijk_to_ras: (4, 4), to RAS mm.

    modality: "CT" means that values are Hounsfield units. Raises InputError for what is no scan.
    """
    array = np.asarray(array)
    if array.ndim != 3:
        raise InputError(f"A volume has three axes (K, J, I), not the shape {array.shape}.", parameter="array")
    k, j, i = array.shape
    return Volume(array, VolumeGeometry.from_ras((k, j, i), np.asarray(ijk_to_ras, float)), modality)


def voxels_at(positions_ras: np.ndarray, scan: Volume) -> np.ndarray:
    """Positions in RAS mm, (..., 3), as (i, j, k) in the array."""
    return scan.geometry.to_voxel(np.asarray(positions_ras, float) * (-1.0, -1.0, 1.0))


def point_at(position_ras: Sequence[float], scan: Volume, axis: Axis, inside: bool = True) -> Prompt:
    """A control point. Raises PromptError for one outside of the scan."""
    return point_in(voxels_at(np.asarray(position_ras), scan).tolist(), scan, axis, inside)


def point_in(ijk: Sequence[float], scan: Volume, axis: Axis, inside: bool = True) -> Prompt:
    """The same from a position in the array."""
    voxel = [math.floor(at + 0.5) for at in ijk]
    if not all(0 <= at < length for at, length in zip(voxel, scan.geometry.shape[::-1], strict=True)):
        raise PromptError(f"The point at voxel {tuple(voxel)} (i, j, k) is outside of the scan.")
    index = voxel.pop(AXES.index(axis))
    return Prompt(points=((float(voxel[0]), float(voxel[1]), int(inside)),), slice=index)


def box_at(corners_ras: np.ndarray, scan: Volume, axis: Axis) -> Prompt:
    """A box on one slice: the middle one of an axis that the corners, (N, 3) in RAS mm, reach over.

    corners_ras: any points on the outline of what was drawn, such as all eight corners of a region of interest; those
    of a tilted one give the box round them. Raises PromptError for one that does not meet the scan.
    """
    return box_in(voxels_at(corners_ras, scan), scan, axis)


def box_in(corners_ijk: np.ndarray, scan: Volume, axis: Axis) -> Prompt:
    """The same from positions in the array, (N, 3); every voxel whose centre is within is."""
    corners, lengths = np.asarray(corners_ijk, float).reshape(-1, 3), scan.geometry.shape[::-1]
    low = [max(math.ceil(at - 1e-6), 0) for at in corners.min(axis=0)]
    high = [min(math.floor(at + 1e-6) + 1, length) for at, length in zip(corners.max(axis=0), lengths, strict=True)]
    number = AXES.index(axis)
    # what was drawn on a slice lies between two others as well as on one
    index = math.floor(float(corners[:, number].min() + corners[:, number].max()) / 2 + 0.5)
    x, y = (n for n in range(3) if n != number)
    if not 0 <= index < lengths[number] or low[x] >= high[x] or low[y] >= high[y]:
        raise PromptError("The box does not meet the scan.")
    return Prompt(box=(float(low[x]), float(low[y]), float(high[x]), float(high[y])), slice=index)


def segmented(
    client: Client,
    scan: Volume,
    prompts: Sequence[Prompt],
    *,
    axis: Axis | None = None,
    propagate: bool = True,
    window: str | None = None,
) -> np.ndarray:
    """What a server makes of prompts on a scan: bool, of the shape of its array. Nothing of it stays on the server.

    axis: that the prompts' slices are counted along; default: the acquired one. propagate: through the volume, or on
    the prompted slices alone. Raises what the server refuses, and PromptError where there is no prompt.
    """
    if not prompts:
        raise PromptError("There is nothing to segment: mark the object first.")
    case = client.upload(scan, "console")
    try:
        with client.open(case, axis=axis, window=window, label=DEFAULT_LABEL) as session:
            for prompt in prompts:
                session.prompt(prompt)
            if propagate and session.slices > 1:
                for _ in session.propagate():
                    pass
            mask: np.ndarray = session.labels.array != 0
            return mask
    finally:
        with suppress(MedSAMError):
            client.delete(case)
