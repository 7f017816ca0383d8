"""A small network that outlines a project's structures on whole slices, without any prompt.

It learns from nothing but what was drawn, in minutes, and knows nothing else: where the promptable model answers a box
well and has to be told where, this one says where. A slice comes with its neighbours as further channels, and with
where along the scan it lies, for one slice alone often does not tell which part of an organ it shows.
Source: the U-Net (Ronneberger et al. 2015) with instance normalisation and leaky rectifiers, as nnU-Net has it (Isensee
et al. 2021).

Letters: B slices, C classes, S side of the input, a multiple of `STEP`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# a side is halved three times, and patterns of fewer than four cells say nothing
STEP = 32
LEAST, MOST = 64, 256
# what comes with a slice: the one before it, itself, and the one after it
CHANNELS = 3
# channels of the first level
WIDTH = 16


@dataclass(frozen=True)
class SegmenterSizes:
    """classes: structures, or what some share. side: S. width: channels of the first level.

    Raises ValueError for what makes no network.
    """

    classes: int
    side: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if self.classes < 1 or self.width < 1 or self.side % STEP or not LEAST <= self.side <= MOST:
            raise ValueError(f"{self.classes} classes, a side of {self.side} and {self.width} channels")


class Segmenter(nn.Module):
    """Slices with their neighbours (B, 3, S, S) in [0, 1], and places along the scan (B,) in [0, 1] -> logits of
    nothing and of each class (B, 1 + C, S, S), of which the highest counts: classes do not overlap."""

    def __init__(self, sizes: SegmenterSizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = [sizes.width, 2 * sizes.width, 4 * sizes.width, 4 * sizes.width]
        before = [CHANNELS + 1, *widths[:-1]]
        self.down = nn.ModuleList(_level(a, b) for a, b in zip(before, widths, strict=True))
        self.up = nn.ModuleList(_level(widths[n + 1] + widths[n], widths[n]) for n in (2, 1, 0))
        self.out = nn.Conv2d(widths[0], 1 + sizes.classes, 1)

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        along = places[:, None, None, None].to(images.dtype).expand(-1, 1, *images.shape[2:])
        maps, kept = torch.cat([images, along], 1), list[Tensor]()
        for number, level in enumerate(self.down):
            maps = level(F.max_pool2d(maps, 2) if number else maps)
            kept.append(maps)
        maps = kept.pop()
        for level in self.up:
            larger = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
            maps = level(torch.cat([larger, kept.pop()], 1))
        logits: Tensor = self.out(maps)
        return logits


def _level(before: int, after: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for channels in (before, after):
        parts += [
            nn.Conv2d(channels, after, 3, padding=1),
            nn.InstanceNorm2d(after, affine=True),
            nn.LeakyReLU(0.1, inplace=True),
        ]
    return nn.Sequential(*parts)
