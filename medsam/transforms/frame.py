"""Frame: one slice's way to the model and back, for images, boxes, points and masks. The home of all rescaling.

Letters: h, w rows and columns of the stored slice; H, W of the upright one (see `geometry.View`); S the model's side.

A slice is stood upright, scaled so that its pixels are square in millimetres (a sagittal slice through 5 mm CT is
not squashed), resampled, intensity-scaled and padded right and bottom. `restore` undoes all of it for logits.

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

from medsam.geometry import SlicePlane, View
from medsam.transforms.preprocess import Preprocess


@dataclass(frozen=True)
class Frame:
    """stored: (h, w). spacing_mm: (row, column). view: stored -> upright. preprocess: of the model."""

    stored: tuple[int, int]
    spacing_mm: tuple[float, float]
    view: View
    preprocess: Preprocess

    @classmethod
    def of(cls, plane: SlicePlane, preprocess: Preprocess) -> Frame:
        """The frame of every slice of `plane`."""
        return cls(plane.shape, plane.spacing_mm, plane.view, preprocess)

    @property
    def upright(self) -> tuple[int, int]:
        """(H, W)."""
        return self.view.shape(self.stored)

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
        """(C, h, w) in 0..255, C = 1 or 3 -> model input (3, S, S) float32."""
        step = self.preprocess
        upright = pixels.float()
        if self.view.transpose:
            upright = upright.transpose(1, 2)
        upright = upright.flip([n for n, flip in ((1, self.view.flip_rows), (2, self.view.flip_columns)) if flip])
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
        corners = self._edges(np.asarray(xyxy, dtype=np.float64).reshape(-1, 2, 2))
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Pixel indices (..., 2) in the stored slice -> (..., 2) float32 in model pixels."""
        return (self._edges(np.asarray(xy, dtype=np.float64) + 0.5) - 0.5).astype(np.float32)

    def _edges(self, xy: np.ndarray) -> np.ndarray:
        scale = np.array(self.resized[::-1], dtype=np.float64) / self.upright[::-1]
        return self.view.edges(xy, self.stored) * scale

    def restore(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask logits (..., s, s), s <= S -> (..., h, w) on the stored slice, bilinear like the published code."""
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
        return maps.reshape(*lead, *self.stored)
