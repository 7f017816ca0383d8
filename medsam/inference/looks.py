"""Which crops of a slice the network is shown for a prompt.

Letters: h, w rows and columns of the stored slice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medsam.geometry import SlicePlane
from medsam.inference.image_predictor import Crop, ScanEncoder
from medsam.inference.slice_request import CropAnswer, Zoom
from medsam.masks import bounding_box
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.transforms.frame import Region, pixels_of
from medsam.transforms.intensity import IntensityWindow

# Side of the closer crop in sides of the box, plus a share of the slice's longer side: a small box needs surroundings.
_CLOSER, _CLOSER_MARGIN = 2.5, 0.04
# A slice that is shrunk less than this for the network holds nothing that a tile would show.
_WORTHWHILE = 1.25
# Side of a tile of level n in 2**n-ths of the slice's. More than 1 gives boxes room, and tiles of just the network's
# pixels, shown as they are, did worse (docs/speed.md, "Closer looks").
_SIDE = 1.1
# Share of a tile's side that a box may have, and that it is away from the tile's edges.
_FITS, _MARGIN = 0.45, 0.05
# Rows and columns of a box that the whole slice's answer leaves empty before the box is looked at closer, in the
# network's pixels, per square root of all its rows and columns: one is little in a small box, a tenth much in a large
# one (docs/speed.md, "Closer looks").
_EMPTY = 0.85
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
    """Which closer crops a box is shown after the whole slice: the tile that is its own, or none.

    whole: what the network answered to it there. Nothing else counts: neither other prompts nor clicks.
    """
    preprocess = scan_encoder.image_predictor.sam.spec.preprocess
    region = tile_for(box, scan_encoder.plane, preprocess.size)
    if region is None or not _leaves_empty(whole.logits, box, scan_encoder.plane, preprocess.size):
        return ()
    return (Crop(index, region, _window_for(scan_encoder, index, box)),)


def tile_for(box: Box, plane: SlicePlane, size: int) -> Region | None:
    """The tile that shows a box in most detail; None where the box is too large for one, or none shows more.

    Tiles of level n have `_SIDE` / 2**n of the slice's longer side, in millimetres, and begin so often, from edge to
    edge, that a box of `_FITS` of a tile has one that holds it with `_MARGIN` to spare; none magnifies what the network
    sees in full already. Of several that hold it a box gets the one nearest to the slice's middle, where most other
    boxes are. Tiles are laid out on the upright slice: the same anatomy gets the same one however it is stored.
    size: of the network's input, pixels.
    """
    rows, columns = plane.view.shape(plane.shape)
    pitch = np.array(plane.upright_spacing_mm[::-1])
    extent_mm = plane.longest_mm
    corners = plane.view.boxes(np.array(box), plane.shape).reshape(2, 2)
    longest_mm = float(((corners[1] - corners[0]) * pitch).max())
    shrunk, level = extent_mm / size / pitch.min(), 0
    while shrunk / 2**level >= _WORTHWHILE and longest_mm <= _FITS * _SIDE * extent_mm / 2 ** (level + 1):
        level += 1
    if level == 0:
        return None
    side = _SIDE * extent_mm / 2**level / pitch
    x, y = (_along(*one) for one in zip(*corners, side, (columns, rows), strict=True))
    upright = np.array([x[0], y[0], x[1], y[1]])
    x0, y0, x1, y1 = plane.view.inverse.boxes(upright, (rows, columns)).astype(int).tolist()
    return x0, y0, x1, y1


def _along(low: float, high: float, side: float, size: int) -> tuple[int, int]:
    """First pixel and end, along an axis of `size`, of the tile of `side` pixels that holds low ... high."""
    if side >= size:
        return 0, size
    steps = int(np.ceil((size - side) / (side * (1 - _FITS - 2 * _MARGIN)) - 1e-6))
    starts = np.arange(steps + 1) * (size - side) / steps
    spare = _MARGIN * side - 1e-6
    # the slice's own edges need no margin
    holds = ((low - starts >= spare) | (starts == starts[0])) & (
        (starts + side - high >= spare) | (starts == starts[-1])
    )
    # of two alike on either side of the middle the first: positions are those of the upright slice
    off_middle = np.round(np.abs(starts + side / 2 - size / 2), 6)
    start = float(starts[np.argmin(np.where(holds, off_middle, np.inf))])
    return int(start + 0.5), int(start + side + 0.5)


def _leaves_empty(logits: np.ndarray, box: Box, plane: SlicePlane, size: int) -> bool:
    """Whether the mask of an answer (h, w) on the whole slice, by its own box, leaves much of the given one empty."""
    x0, y0, x1, y1 = pixels_of(box, plane.shape)
    inside = logits[y0:y1, x0:x1] > 0
    filled = bounding_box(inside) or (slice(0, 0), slice(0, 0))
    sides, empty = 0.0, 0.0
    for length, span, pitch in zip(inside.shape, filled, plane.spacing_mm, strict=True):
        pixels = pitch / (plane.longest_mm / size)
        sides += length * pixels
        empty += (length - (span.stop - span.start)) * pixels
    return bool(empty >= _EMPTY * np.sqrt(sides))


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
    side_mm = _CLOSER * ((corners[1] - corners[0]) * spacing).max() + _CLOSER_MARGIN * plane.longest_mm
    side = np.minimum(side_mm / spacing, size)
    low = np.clip(corners.mean(axis=0) - side / 2, 0, size - side)
    x0, y0 = np.floor(low).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(low + side).astype(int), size).tolist()
    return x0, y0, x1, y1
