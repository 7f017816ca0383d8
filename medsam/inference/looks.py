"""Which crops of a slice the network is shown for a prompt.

Letters: h, w rows and columns of the stored slice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medsam.geometry import SlicePlane
from medsam.inference.image_predictor import Crop, ScanEncoder
from medsam.inference.slice_request import CropAnswer, Zoom
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.transforms.frame import Region, pixels_of
from medsam.transforms.intensity import IntensityWindow

# Side of the closer crop in sides of the box, plus a share of the slice's longer side: a small box needs surroundings.
_CLOSER, _CLOSER_MARGIN = 2.5, 0.04
# A closer crop that magnifies less than this, or a slice that is shrunk less than this, shows nothing new.
_WORTHWHILE = 1.25
# Share of the box's pixels that the slice's window must clip before the wide one is taken.
_CLIPPED = 0.35


def first_crop(scan_encoder: ScanEncoder, index: int, box: Box | None, zoom: Zoom) -> Crop:
    """What a prompt is shown first: the whole slice, in the window that shows what is in the box."""
    if zoom == "off" or box is None:
        return Crop(index)
    if zoom == "on":
        return Crop(index, closer_region(box, scan_encoder.plane))
    return Crop(index, None, _window_for(scan_encoder, index, box))


def looks_for(scan_encoder: ScanEncoder, index: int, box: Box, whole: CropAnswer) -> tuple[Crop, ...]:
    """Which closer crops a box is shown after the whole slice. whole: what the network answered to it there."""
    plane = scan_encoder.plane
    region = closer_region(box, plane)
    x0, y0, x1, y1 = region
    spacing, (rows, columns) = plane.spacing_mm, plane.shape
    extent_mm = max(rows * spacing[0], columns * spacing[1])
    shrunk = extent_mm / scan_encoder.image_predictor.sam.spec.preprocess.size / min(spacing)
    magnified = extent_mm / max((y1 - y0) * spacing[0], (x1 - x0) * spacing[1])
    if min(shrunk, magnified) < _WORTHWHILE:
        return ()
    return (Crop(index, region, _window_for(scan_encoder, index, box)),)


def _window_for(scan_encoder: ScanEncoder, index: int, box: Box) -> IntensityWindow | None:
    """The scan's wide window when its own hides most of what is in the box; None keeps its own."""
    if scan_encoder.wide_window is None:
        return None
    x0, y0, x1, y1 = pixels_of(box, scan_encoder.plane.shape)
    inside = scan_encoder.pixels(index)[y0:y1, x0:x1]
    hidden = (inside < scan_encoder.window.low) | (inside > scan_encoder.window.high)
    return scan_encoder.wide_window if float(hidden.mean()) > _CLIPPED else None


def clicks_inside(prompt: SlicePrompt, crop: Crop) -> SlicePrompt:
    """The prompt without clicks that lie outside a closer crop."""
    if crop.region is None or not prompt.points:
        return prompt
    x0, y0, x1, y1 = crop.region
    inside = tuple(
        point for point in prompt.points if x0 - 0.5 <= point[0] < x1 - 0.5 and y0 - 0.5 <= point[1] < y1 - 0.5
    )
    return replace(prompt, points=inside)


def closer_region(box: Box, plane: SlicePlane) -> Region:
    """The part of a slice that a closer crop of a box takes: square in millimetres, shifted to stay inside."""
    spacing = np.array(plane.spacing_mm[::-1])
    size = np.array(plane.shape[::-1])
    corners = np.array(box).reshape(2, 2)
    side_mm = _CLOSER * ((corners[1] - corners[0]) * spacing).max() + _CLOSER_MARGIN * (size * spacing).max()
    side = np.minimum(side_mm / spacing, size)
    low = np.clip(corners.mean(axis=0) - side / 2, 0, size - side)
    x0, y0 = np.floor(low).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(low + side).astype(int), size).tolist()
    return x0, y0, x1, y1
