"""Random changes of training slices: small turns, sizes and shifts, contrast, blur and noise.

They happen between `ScaleWindowd` and `ToModelInputd`, on the stored slice (C, h, w) in 0..255 and its masks together,
and only in training. `RandAugmentd` draws a `Change`; the change itself holds no chance but the noise.

MONAI resamples and filters. Its `AdjustContrast` and `GaussianSmooth` are left out: the first stretches each image by
its own darkest and brightest pixel, the second darkens the edges with zeros from outside.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d, separable_filtering
from monai.transforms import AffineGrid, MapTransform, Randomizable, Resample

# What no slice survives, or a unit mistaken (noise in per cent). Above 0.5 a window could close or turn over.
_MOST = {
    "probability": 1.0,
    "rotate_deg": 180.0,
    "scale": 1.0,
    "shift": 0.5,
    "window": 0.4,
    "gamma": 4.0,
    "noise": 1.0,
    "blur_px": 10.0,
}


@dataclass(frozen=True)
class AugmentSettings:
    """How much a training slice may change; 0 switches a kind off. Raises ValueError for a value out of range.

    probability: of each kind, drawn for itself.
    rotate_deg: angle uniform in [-r, r]. Turned in millimetres: unequal spacing does not shear.
    scale: factor log-uniform in [1 / (1 + s), 1 + s], so that growing is as likely as shrinking.
    shift: uniform in [-s, s] of the slice's side, along rows and columns.
    window: both ends of 0..255 move by a share uniform in [-w, w] of that range; what falls outside is clipped.
    gamma: exponent log-uniform in [1 / (1 + g), 1 + g].
    noise: standard deviation of Gaussian noise, uniform in [0, n] of the range.
    blur_px: sigma of a Gaussian in stored pixels, uniform in [0, b].
    flip_rows, flip_columns: mirror up-down, left-right. Off: organs have sides.
    """

    probability: float = 0.5
    rotate_deg: float = 10.0
    scale: float = 0.1
    shift: float = 0.05
    window: float = 0.1
    gamma: float = 0.2
    noise: float = 0.03
    blur_px: float = 1.0
    flip_rows: bool = False
    flip_columns: bool = False

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if not 0 <= value <= most:  # also true of nan
                raise ValueError(f"The augmentation's {name} must lie in 0 ... {most:g}; it is {value:g}.")


@dataclass(frozen=True)
class Change:
    """One change of one slice; the defaults change nothing. Amounts as in `AugmentSettings`.

    rotate_deg: positive turns columns (right) towards rows (down). scale: above 1 enlarges. Both about the centre.
    shift: (rows, columns), shares of the sides, after turning and scaling.
    window: how far the (dark, bright) end moves, shares of the range.
    """

    rotate_deg: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip_rows: bool = False
    flip_columns: bool = False
    blur_px: float = 0.0
    window: tuple[float, float] = (0.0, 0.0)
    gamma: float = 1.0
    noise: float = 0.0

    def move(self, maps: torch.Tensor, spacing_mm: tuple[float, float]) -> torch.Tensor:
        """Float maps (N, h, w) of pixels spaced (row, column) mm, each moved alike: bilinear, same shape.

        Beyond the slice its outermost pixels go on. Zeros would be black corners that no scan has, and reflection a
        second, mirrored organ.
        """
        maps = maps.flip([n for n, flip in ((1, self.flip_rows), (2, self.flip_columns)) if flip])
        if (self.rotate_deg, self.scale, self.shift) == (0.0, 1.0, (0.0, 0.0)):
            return maps
        angle = np.deg2rad(self.rotate_deg)
        # millimetres (row, column) of the result -> those it is taken from, hence backwards and divided
        back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / self.scale
        matrix = np.eye(3)
        matrix[:2, :2] = back * np.array(spacing_mm) / np.array(spacing_mm)[:, None]
        matrix[:2, 2] = matrix[:2, :2] @ -(np.array(self.shift) * maps.shape[1:])
        grid, _ = AffineGrid(affine=torch.from_numpy(matrix))(maps.shape[1:])
        moved: MetaTensor = Resample("bilinear", "border", dtype=torch.float32)(maps, grid)
        return moved.as_tensor()

    def shade(self, pixels: torch.Tensor, random: np.random.RandomState) -> torch.Tensor:
        """Pixels (C, h, w) in 0..255 -> the same, blurred, along another curve, noisy. `random` makes the noise.

        One curve and one noise for all channels: a grey picture stored in colour stays grey.
        """
        if self.blur_px:
            kernel = gaussian_1d(torch.tensor(self.blur_px), normalize=True)
            pixels = separable_filtering(pixels[None], [kernel, kernel], mode="replicate")[0]
        dark, bright = self.window
        if dark or bright:
            pixels = ((pixels - 255 * dark) / (1 + bright - dark)).clamp(0, 255)
        if self.gamma != 1:
            pixels = 255 * (pixels / 255) ** self.gamma
        if self.noise:
            noise = random.normal(0, 255 * self.noise, pixels.shape[1:])
            pixels = pixels + torch.from_numpy(noise.astype(np.float32))
        return pixels.clamp(0, 255)


class RandAugmentd(Randomizable, MapTransform):
    """{"image": MetaTensor (C, h, w) in 0..255 with meta "plane", "masks": bool (P, h, w)} -> both, changed alike.

    Shapes, dtypes, range and meta stay; P may be 0; a mask whose object moved out of sight is empty. Nothing is
    changed in place. After `set_random_state(seed=...)` the results are the same in any process. `change` is the last
    one drawn.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: Hashable = "masks",
        settings: AugmentSettings = AugmentSettings(),
    ) -> None:
        MapTransform.__init__(self, keys)
        self.mask_key, self.settings, self.change = mask_key, settings, Change()

    def randomize(self, data: Any = None) -> None:
        """Draw the next `change`. Every kind uses up as many random numbers whether it happens or not."""
        settings = self.settings

        def draw(low: float, high: float, count: int = 1) -> list[float]:
            happens = self.R.random() < settings.probability
            return [float(number) if happens else 0.0 for number in self.R.uniform(low, high, count)]

        def both_ways(most: float, count: int = 1) -> list[float]:
            return draw(-most, most, count)

        (rotate_deg,) = both_ways(settings.rotate_deg)
        (log_scale,) = both_ways(np.log1p(settings.scale))
        rows, columns = both_ways(settings.shift, 2)
        (blur_px,) = draw(0, settings.blur_px)
        dark, bright = both_ways(settings.window, 2)
        (log_gamma,) = both_ways(np.log1p(settings.gamma))
        (noise,) = draw(0, settings.noise)
        self.change = Change(
            rotate_deg=rotate_deg,
            scale=float(np.exp(log_scale)),
            shift=(rows, columns),
            flip_rows=self.R.random() < settings.probability and settings.flip_rows,
            flip_columns=self.R.random() < settings.probability and settings.flip_columns,
            blur_px=blur_px,
            window=(dark, bright),
            gamma=float(np.exp(log_gamma)),
            noise=noise,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        masks: torch.Tensor = result[self.mask_key]
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            spacing_mm = image.meta["plane"].spacing_mm
            pixels = self.change.shade(self.change.move(image.as_tensor(), spacing_mm), self.R)
            result[key] = MetaTensor(pixels, meta={**image.meta})
            result[self.mask_key] = self.change.move(masks.float(), spacing_mm) >= 0.5
        return result
