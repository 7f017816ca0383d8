"""Dice of cases that are seen slice by slice, in any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

# Logits above which a pixel may be the mask's (`ModelSpec.mask_threshold`), and the gain below which 0 is as good.
MASK_THRESHOLDS = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)
_NOTHING = 0.002


def best_threshold(dice: Mapping[float, float]) -> float:
    """The mask threshold with the highest Dice; of those that are as good the one nearest to 0.

    dice: threshold -> mean over patients and structures; nan where nothing was there to be scored.
    """
    nearest = sorted(dice, key=abs)
    best = max((one for one in dice.values() if one == one), default=0.0)
    return next((one for one in nearest if dice[one] >= best - _NOTHING), nearest[0])


class VolumeDice(Metric):
    """Volume Dice, 2 |A and B| / (|A| + |B|), over the slices a structure is asked for on, averaged over cases.

    Letters: V ways of asking, P structures on a slice, h and w of it.
    """

    full_state_update = False
    overlap: Tensor
    pixels: Tensor

    def __init__(self, ways: int, cases: int, structures: int) -> None:
        super().__init__()
        for name in ("overlap", "pixels"):
            # whole numbers: not every device has float64
            zeros = torch.zeros(ways, cases, structures, dtype=torch.int64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truths: Tensor, case: int, structures: Sequence[int]) -> None:
        """predicted: bool (V, P, h, w). truths: bool (P, h, w). case: its number. structures: P numbers."""
        columns = torch.tensor(structures, device=self.overlap.device)
        shared = (predicted & truths).sum((-2, -1))
        both = predicted.sum((-2, -1)) + truths.sum((-2, -1))
        self.overlap[:, case] = self.overlap[:, case].index_add(1, columns, shared)
        self.pixels[:, case] = self.pixels[:, case].index_add(1, columns, both)

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        # torchmetrics makes a number of a table with one entry, and one structure asked for in one way is quite usual
        wrapped = super()._wrap_compute(compute)
        return lambda: wrapped().reshape(self.overlap.shape[0], self.overlap.shape[2])

    def compute(self) -> Tensor:
        """Mean over the cases that have a structure, (V, structures); nan where none has it."""
        dice = 2 * self.overlap.cpu().double() / self.pixels.cpu()  # 0 / 0 where a case lacks the structure
        return dice.nanmean(dim=1)
