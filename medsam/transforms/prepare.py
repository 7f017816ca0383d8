"""Volume -> slice -> model input, with torch alone: what inference needs, without the seconds MONAI takes to import.

Training and MONAI users have the same as dictionary transforms (`reading`, `slicing`), which call these functions.

Letters: C channels, 1 or 3; I, J, K voxels along the axes of the scan; h, w rows and columns of a stored slice; S the
side of the model's input.
"""

from __future__ import annotations

import numpy as np
import torch

from medsam.errors import PromptError
from medsam.geometry import AXES, SlicePlane
from medsam.silence import Rule, silence
from medsam.transforms.frame import Frame, Region
from medsam.transforms.intensity import IntensityWindow
from medsam.transforms.preprocess import Preprocess
from medsam.volume import Volume

_READ_ONLY = Rule(message="The given NumPy array is not writ")
# torch computes with these; other widths are converted to the next one that holds every value
_TORCH_DTYPES = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.float32, np.dtype(bool): np.uint8}


def scan_tensor(volume: Volume, *, to_write: bool = False) -> torch.Tensor:
    """The voxels as (C, I, J, K), sharing memory where torch has the dtype.

    to_write: voxels that must not be changed are copied. Without, they are shared, too, and the caller only reads: of a
    scan that many look at there is one copy in memory.
    """
    array = volume.array.transpose(3, 2, 1, 0) if volume.is_colour else volume.array.transpose(2, 1, 0)[None]
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    array = array.astype(_TORCH_DTYPES.get(array.dtype, array.dtype), copy=False)
    # torch has neither read-only tensors nor steps backwards
    if (to_write and not array.flags.writeable) or any(stride < 0 for stride in array.strides):
        array = array.copy()
    with silence(_READ_ONLY):
        return torch.from_numpy(array)


def check_slice(plane: SlicePlane, index: int) -> None:
    """Raise PromptError for no such slice."""
    if not 0 <= index < plane.count:
        raise PromptError(f"There is no slice {index} on axis {plane.axis}; it has 0 ... {plane.count - 1}.")


def take_slice(scan: torch.Tensor, plane: SlicePlane, index: int) -> torch.Tensor:
    """The stored slice (C, h, w) numbered `index` across `plane` of (C, I, J, K). PromptError for no such slice."""
    check_slice(plane, index)
    # (C, I, J, K) without one axis keeps i before j before k: columns first, so rows need the transpose
    return scan.select(1 + AXES.index(plane.axis), index).transpose(1, 2)


def slice_input(
    scan: torch.Tensor,
    plane: SlicePlane,
    index: int,
    window: IntensityWindow,
    preprocess: Preprocess,
    region: Region | None = None,
) -> tuple[torch.Tensor, Frame]:
    """Slice `index` of (C, I, J, K), or `region` of it, as the model takes it (3, S, S), and the way back.

    Raises PromptError for no such slice or region.
    """
    frame = Frame.of(plane, preprocess, region)
    return frame.image(window.apply(take_slice(scan, plane, index))), frame
