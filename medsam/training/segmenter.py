"""Training a segmenter (`medsam.models.segmenter`) on the slices of a project: minutes, from nothing, on a CPU.

A plain loop: it is over before a framework's checkpoints would pay, and whoever calls keeps what comes of it.
Every slice is changed at random each time it is drawn: turned, scaled, moved, bent, along another curve of brightness,
noisy. With a few patients that is what keeps it from learning them by heart.
Loss: cross-entropy and soft Dice over the batch, as nnU-Net (Isensee et al. 2021).

Letters: n slices, B of a batch, C classes, S side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medsam.models.segmenter import CHANNELS, WIDTH, Segmenter, SegmenterSizes
from medsam.progress import ProgressCallback

_LR, _DECAY, _CLIP = 2e-3, 0.01, 5.0
# share of steps in which the rate rises
_WARMUP = 0.1
# how often a slice without anything is drawn, beside one with something
_EMPTY = 0.3
# pixels of a batch: 16 slices of 64 x 64, 4 of 128 x 128 and more
_PIXELS, _MOST, _FEWEST = 1 << 16, 16, 4
# Most of each change: angle in radians, scale and stretch as shares, shift and bending in shares of half a side; of the
# exponent's logarithm, contrast, brightness and noise in shares of the range; of the place along the scan.
_TURN, _SCALE, _STRETCH, _SHIFT, _BEND = 0.35, 0.2, 0.1, 0.12, 0.04
_GAMMA, _CONTRAST, _BRIGHTNESS, _NOISE, _PLACE = 0.4, 0.2, 0.1, 0.03, 0.03
# points along a side by which a slice is bent
_BENDS = 6


@dataclass(frozen=True, eq=False)
class DrawnSlices:
    """images: float32 (n, 3, S, S) in [0, 1]. labels: int64 (n, S, S), 0 for nothing and 1 ... C. places: (n,)."""

    images: Tensor
    labels: Tensor
    places: Tensor

    def __post_init__(self) -> None:
        n, side = len(self.images), self.images.shape[-1]
        if self.images.shape != (n, CHANNELS, side, side) or self.labels.shape != (n, side, side):
            raise ValueError(f"images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}")


def train_segmenter(
    drawn: DrawnSlices,
    classes: int,
    *,
    steps: int,
    seed: int,
    width: int = WIDTH,
    device: torch.device | str = "cpu",
    progress: ProgressCallback | None = None,
) -> Segmenter:
    """A segmenter of `classes` that learnt from `drawn` for so many steps. progress: called with (steps done, steps).

    The same slices, steps, seed and machine give the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Segmenter(SegmenterSizes(classes, drawn.images.shape[-1], width)).to(device)
    # on the CPU: the same numbers for every device
    random, draws = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), _LR, weight_decay=_DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LR, total_steps=steps, pct_start=_WARMUP)
    weights = np.where(drawn.labels.flatten(1).any(1).numpy(), 1.0, _EMPTY)
    batch = int(np.clip(_PIXELS // drawn.images.shape[-1] ** 2, _FEWEST, _MOST))
    for step in range(steps):
        if progress is not None:
            progress(step, steps)
        rows = torch.from_numpy(draws.choice(len(weights), batch, p=weights / weights.sum()))
        targets = F.one_hot(drawn.labels[rows], 1 + classes).permute(0, 3, 1, 2).float()
        images, targets = changed(drawn.images[rows], targets, random)
        places = drawn.places[rows] + _PLACE * torch.randn(batch, generator=random)
        optimiser.zero_grad()
        loss = _loss(network(images.to(device), places.to(device)), targets.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step()
        scheduler.step()
    if progress is not None:
        progress(steps, steps)
    return network.eval()


def changed(images: Tensor, targets: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) and shares of classes (B, 1 + C, S, S), each pair moved alike, the images shaded too."""

    def both_ways(most: float, *shape: int) -> Tensor:
        return (2 * torch.rand(len(images), *shape, generator=random) - 1) * most

    angle, scale, stretch = both_ways(_TURN), 1 + both_ways(_SCALE), 1 + both_ways(_STRETCH)
    back = torch.zeros(len(images), 2, 3)
    back[:, 0, 0], back[:, 0, 1] = angle.cos() * scale, -angle.sin() * scale * stretch
    back[:, 1, 0], back[:, 1, 1] = angle.sin() * scale / stretch, angle.cos() * scale
    back[:, :, 2] = both_ways(_SHIFT, 2)
    grid = F.affine_grid(back, list(images.shape), align_corners=False)
    bends = torch.randn(len(images), 2, _BENDS, _BENDS, generator=random) * _BEND
    bent = F.interpolate(bends, images.shape[2:], mode="bicubic", align_corners=False)
    grid = grid + bent.permute(0, 2, 3, 1)
    # beyond the slice its outermost pixels go on, and there is nothing of the structures
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    targets = F.grid_sample(targets, grid, padding_mode="zeros", align_corners=False)
    targets = torch.cat([targets[:, :1] + 1 - targets.sum(1, keepdim=True), targets[:, 1:]], 1)
    images = images.clamp(0, 1) ** both_ways(_GAMMA, 1, 1, 1).exp()
    images = images * (1 + both_ways(_CONTRAST, 1, 1, 1)) + both_ways(_BRIGHTNESS, 1, 1, 1)
    return images + _NOISE * torch.randn(images.shape, generator=random), targets


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """logits, targets: (B, 1 + C, S, S)."""
    entropy = -(targets * logits.log_softmax(1)).sum(1).mean()
    given, wanted = logits.softmax(1)[:, 1:], targets[:, 1:]
    overlap = (2 * (given * wanted).sum((0, 2, 3)) + 1) / (given.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + 1)
    return entropy + (1 - overlap).mean()
