"""Frame: one slice's way to the model and back, for images, boxes, points and masks. The home of all rescaling.

Letters: h, w rows and columns of the stored slice; H, W of the upright one (see `geometry.View`); S the model's side.

A slice, or a region of it (a crop), is stood upright, scaled so that its pixels are square in millimetres (a
sagittal slice through 5 mm CT is not squashed), resampled, intensity-scaled and padded right and bottom. `restore`
undoes all of it for logits.

Model positions follow SAM's public code. Points are pixel indices (the prompt encoder adds the half pixel). A box's
corners are scaled as they are, half-open edges included: ending the box at its last pixel instead moves the mean Dice
by -0.013 on one CT and +0.006 on another, so there is no reason to differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from medsam.errors import PromptError
from medsam.geometry import SlicePlane, View
from medsam.transforms.preprocess import Preprocess

# Half-open (x0, y0, x1, y1), whole stored pixels.
Region = tuple[int, int, int, int]

# The logit of a pixel that a mask prompt is sure of. SAM's own answers, which it was trained to be given, reach it
# inside and outside of clear objects.
SURE = 8.0


@dataclass(frozen=True)
class Frame:
    """stored: (h, w). spacing_mm: (row, column). view: stored -> upright. preprocess: of the model.

    region: the part of the slice the model sees; None is all of it. Raises PromptError when it is empty or reaches
    outside the slice.
    """

    stored: tuple[int, int]
    spacing_mm: tuple[float, float]
    view: View
    preprocess: Preprocess
    region: Region | None = None

    def __post_init__(self) -> None:
        if self.region is None:
            return
        x0, y0, x1, y1 = self.region
        if not (0 <= x0 < x1 <= self.stored[1] and 0 <= y0 < y1 <= self.stored[0]):
            raise PromptError(
                f"The region {self.region} (x0, y0, x1, y1) is empty or reaches outside a slice of {self.stored[1]} "
                f"columns and {self.stored[0]} rows."
            )

    @classmethod
    def of(cls, plane: SlicePlane, preprocess: Preprocess, region: Region | None = None) -> Frame:
        """The frame of every slice of `plane`, or of one region of them."""
        return cls(plane.shape, plane.spacing_mm, plane.view, preprocess, region)

    @property
    def seen(self) -> tuple[int, int]:
        """Rows and columns of the stored slice that the model sees."""
        if self.region is None:
            return self.stored
        x0, y0, x1, y1 = self.region
        return y1 - y0, x1 - x0

    @property
    def upright(self) -> tuple[int, int]:
        """(H, W)."""
        return self.view.shape(self.seen)

    @cached_property
    def resized(self) -> tuple[int, int]:
        """Rows and columns of the model input that the slice covers; the rest is padding."""
        size = self.preprocess.size
        if self.preprocess.fit == "stretch":
            return size, size
        row_mm, column_mm = self.view.spacing(self.spacing_mm)
        extent = (self.upright[0] * row_mm, self.upright[1] * column_mm)
        rows, columns = (max(1, int(side / max(extent) * size + 0.5)) for side in extent)
        return rows, columns

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        """The whole stored slice (C, h, w) in 0..255, C = 1 or 3 -> model input (3, S, S) float32."""
        step = self.preprocess
        upright = self._stand_up(pixels.float())
        # antialias widens the kernel when shrinking, like Pillow, so that nothing finer than a model pixel aliases
        model = F.interpolate(
            upright[None], self.resized, mode=step.interpolation, align_corners=False, antialias=True
        )[0]
        if step.scale == "minmax":
            low, high = model.amin(), model.amax()
            # in 0..255 units: less contrast than this is rounding, not to be blown up to full scale
            model = (model - low) / (high - low).clamp_min(1e-2)
        else:
            mean, std = (torch.tensor(values)[:, None, None] for values in (step.mean, step.std))
            model = (model - mean) / std
        model = model.expand(3, -1, -1)
        return F.pad(model, (0, step.size - model.shape[2], 0, step.size - model.shape[1]))

    def boxes(self, xyxy: np.ndarray) -> np.ndarray:
        """Half-open boxes (P, 4) in stored pixels -> (P, 4) float32 in model pixels, as SAM takes them."""
        seen = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4) - np.tile(self._origin, 2)
        return (self.view.boxes(seen, self.seen) * np.tile(self._scale, 2)).astype(np.float32)

    def stored_boxes(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) in model pixels -> (P, 4) float64 in stored pixels: undoes `boxes`; they may reach outside."""
        upright = np.asarray(xyxy, dtype=np.float64).reshape(-1, 4) / np.tile(self._scale, 2)
        return self.view.inverse.boxes(upright, self.upright) + np.tile(self._origin, 2)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Pixel indices (..., 2) in the stored slice -> (..., 2) float32 in model pixels."""
        seen = np.asarray(xy, dtype=np.float64) + 0.5 - self._origin
        return (self.view.edges(seen, self.seen) * self._scale - 0.5).astype(np.float32)

    @property
    def _origin(self) -> np.ndarray:
        """(x, y) of what is seen, in the stored slice."""
        return np.array((0, 0) if self.region is None else self.region[:2], dtype=np.float64)

    @property
    def _scale(self) -> np.ndarray:
        """Model pixels in an upright one, (x, y)."""
        return np.array(self.resized[::-1], dtype=np.float64) / self.upright[::-1]

    def _stand_up(self, maps: torch.Tensor) -> torch.Tensor:
        """(C, h, w) stored -> the part the model sees, upright (C, H, W)."""
        if self.region is not None:
            x0, y0, x1, y1 = self.region
            maps = maps[:, y0:y1, x0:x1]
        if self.view.transpose:
            maps = maps.transpose(1, 2)
        return maps.flip([n for n, flip in ((1, self.view.flip_rows), (2, self.view.flip_columns)) if flip])

    def upright_masks(self, masks: torch.Tensor) -> np.ndarray:
        """Bool (P, h, w) stored -> bool (P, H, W) as the model sees them, in stored pixels still."""
        return self._stand_up(masks).numpy()

    def mask_prompt(self, masks: np.ndarray, side: int) -> torch.Tensor:
        """Masks (P, h, w), bool or shares in [0, 1], as the network takes them: logits (P, side, side).

        Pixels it cannot see and the padding count as outside.
        """
        step = self.preprocess.size / side
        rows, columns = (max(1, int(length / step + 0.5)) for length in self.resized)
        upright = self._stand_up(torch.from_numpy(np.ascontiguousarray(masks, dtype=np.float32)))
        share = F.interpolate(upright[None], (rows, columns), mode="bilinear", align_corners=False, antialias=True)[0]
        share = F.pad(share, (0, side - columns, 0, side - rows))
        return (share.clamp(0, 1) * 2 - 1) * SURE

    def restore(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask logits (..., s, s), s <= S -> (..., h, w) on the stored slice, bilinear like the published code.

        -inf outside `region`: what the model cannot see is in no mask.
        """
        lead = logits.shape[:-2]
        maps = logits.float().reshape(1, -1, *logits.shape[-2:])
        size = self.preprocess.size
        if maps.shape[-1] != size:
            maps = F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)
        maps = maps[..., : self.resized[0], : self.resized[1]]
        maps = F.interpolate(maps, self.upright, mode="bilinear", align_corners=False)
        maps = maps.flip([n for n, flip in ((2, self.view.flip_rows), (3, self.view.flip_columns)) if flip])
        if self.view.transpose:
            maps = maps.transpose(2, 3)
        if self.region is not None:
            x0, y0, x1, y1 = self.region
            maps = F.pad(maps, (x0, self.stored[1] - x1, y0, self.stored[0] - y1), value=-torch.inf)
        return maps.reshape(*lead, *self.stored)


def pixels_of(box: tuple[float, float, float, float], shape: tuple[int, int]) -> Region:
    """The whole pixels that a half-open box touches, at least one, inside a slice (h, w)."""
    x0, y0, x1, y1 = box
    left, top = (int(np.clip(np.floor(edge), 0, size - 1)) for edge, size in ((x0, shape[1]), (y0, shape[0])))
    right = int(np.clip(np.ceil(x1), left + 1, shape[1]))
    bottom = int(np.clip(np.ceil(y1), top + 1, shape[0]))
    return left, top, right, bottom


def in_box(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Bool (h, w): the pixels that a half-open box touches."""
    left, top, right, bottom = pixels_of(box, (shape[0], shape[1]))
    inside = np.zeros(shape, dtype=bool)
    inside[top:bottom, left:right] = True
    return inside
