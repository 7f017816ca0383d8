"""A label map on the grid of the scan it belongs to.

Nothing is resampled. A label map must put its voxels where the scan puts its own, to a tenth of a voxel; one
stored along other axes or the other way is turned, which moves no voxel. Where either side has no millimetres (a
PNG), rows and columns must be equal and that is all that can be checked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.volume import Volume

# how far, in voxels of the scan, a label may lie beside it: far above the rounding of headers, and a mask moved
# by less than half a voxel still names the same voxels
_TOLERANCE_VOXELS = 0.1


class LabelGridMismatch(InputError):
    """A label whose voxels do not lie where the scan's do."""


def on_grid(volume: Volume, geometry: VolumeGeometry, path: Path) -> Volume:
    """`volume` with its axes in the order and direction of `geometry`; voxels keep their values and their places.

    Raises LabelGridMismatch when that takes more than swapping and flipping axes.
    """
    theirs = volume.geometry
    if not (theirs.calibrated and geometry.calibrated):
        if theirs.shape != geometry.shape:
            raise LabelGridMismatch(f"{path.name} {_sizes(theirs)}, the scan {_sizes(geometry)}.")
        return volume
    # label voxel -> scan voxel; a grid of the same voxels is a signed permutation
    step = np.linalg.inv(geometry.affine) @ theirs.affine
    nearest = np.rint(step[:3, :3])
    turned = bool((np.abs(nearest).sum(axis=0) == 1).all() and (np.abs(nearest).sum(axis=1) == 1).all())
    axes = np.abs(nearest).argmax(axis=1) if turned else np.arange(3)  # axes[n]: label axis along scan axis n
    flips = [bool(turned and nearest[n, axes[n]] < 0) for n in range(3)]
    sizes = np.array(theirs.shape[::-1])
    if tuple(sizes[axes]) != geometry.shape[::-1]:
        raise LabelGridMismatch(f"{path.name} {_sizes(theirs)}, the scan {_sizes(geometry)}.")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in geometry.shape[::-1]])).reshape(3, -1).T
    back = np.zeros_like(corners)
    for n in range(3):
        back[:, axes[n]] = geometry.shape[::-1][n] - 1 - corners[:, n] if flips[n] else corners[:, n]
    off_mm = theirs.to_mm(back) - geometry.to_mm(corners)
    off = np.abs(off_mm @ np.linalg.inv(geometry.affine[:3, :3]).T).max()
    if off > _TOLERANCE_VOXELS:
        far = float(np.linalg.norm(off_mm, axis=1).max())
        raise LabelGridMismatch(
            f"{path.name} {_sizes(theirs)}, the scan {_sizes(geometry)}; the label's voxels lie up to {far:.3g} mm "
            f"({off:.3g} voxels) from the scan's. Resample the label onto the scan, or fix the header that is wrong."
        )
    # in the array the axes come in the order k, j, i
    order = tuple(2 - axes[2 - n] for n in range(3))
    array = volume.array.transpose(*order, *range(3, volume.array.ndim))
    array = array[tuple(slice(None, None, -1 if flips[2 - n] else 1) for n in range(3))]
    return Volume(array, geometry, source=path)


def _sizes(geometry: VolumeGeometry) -> str:
    size = " x ".join(str(n) for n in geometry.shape[::-1])
    if not geometry.calibrated:
        return f"has {size} voxels (i, j, k) and no millimetres"
    spacing = " x ".join(f"{pitch:.4g}" for pitch in geometry.spacing_mm[::-1])
    return f"has {size} voxels (i, j, k) of {spacing} mm, axes {geometry.axcodes}"
