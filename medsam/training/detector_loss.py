"""What a detector should have said of slices, and how far it is from that. torch alone.

Letters as in `medsam.models.detector`: B slices, C classes, h, w cells, S side of the model input.
Source: the focal loss of centres is CenterNet's (arXiv 1904.07850, equation 1), GIoU is of Rezatofighi et al. 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medsam.models.detector import DetectorMaps, cell_boxes

# how wide the heat of a middle is, in sides of its box, and at least, in cells
_SPREAD, _LEAST_SPREAD = 0.12, 0.8
# cells with so much of a middle's heat learn its box
_NEAR = 0.3


@dataclass(frozen=True)
class DetectorLossWeights:
    """Shares of the loss: of the heat, of the boxes, of the presence."""

    heat: float = 1.0
    box: float = 1.0
    presence: float = 0.5


def target_heat(boxes: Tensor, side: int, size: int) -> Tensor:
    """Heat (B, C, h, w) of boxes (B, C, 4) in model pixels, nan where a class is absent: 1 in the middle's cell."""
    step = size / side
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 / step
    spread = ((boxes[..., 2:] - boxes[..., :2]) / step * _SPREAD).clamp_min(_LEAST_SPREAD)
    cells = torch.arange(side, device=boxes.device, dtype=boxes.dtype)
    # the cell that holds the middle is the top, so that there is one cell of exactly 1
    x, y = ((cells - middle[..., n, None].floor()) / spread[..., n, None] for n in (0, 1))
    heat = torch.exp(-(y[..., :, None] ** 2 + x[..., None, :] ** 2) / 2)
    return torch.nan_to_num(heat, nan=0.0)


def detector_losses(
    maps: DetectorMaps, boxes: Tensor, size: int, weights: DetectorLossWeights | None = None
) -> dict[str, Tensor]:
    """{"loss", "heat", "box", "presence"}; only "loss" is weighted. boxes: as for `target_heat`. size: S."""
    weights = weights or DetectorLossWeights()
    there = boxes.isfinite().all(-1)
    heat = target_heat(boxes, maps.heat.shape[-1], size)
    logits = maps.heat.float()
    chance = logits.sigmoid()
    right = (heat == 1) * (1 - chance) ** 2 * F.logsigmoid(logits)
    wrong = (heat < 1) * (1 - heat) ** 4 * chance**2 * F.logsigmoid(-logits)
    count = there.sum().clamp_min(1)
    of_heat = -(right + wrong).sum() / count
    share = heat * (heat >= _NEAR)
    wanted = torch.nan_to_num(boxes)[..., None, None]
    of_cells = 1 - giou(cell_boxes(maps.box.float(), size), wanted)
    of_box = (of_cells * share).sum() / share.sum().clamp_min(1)
    of_presence = F.binary_cross_entropy_with_logits(maps.presence.float(), there.float())
    total = weights.heat * of_heat + weights.box * of_box + weights.presence * of_presence
    return {"loss": total, "heat": of_heat, "box": of_box, "presence": of_presence}


def giou(ours: Tensor, theirs: Tensor) -> Tensor:
    """Generalised IoU, in [-1, 1], of boxes (..., 4, h, w) with boxes (..., 4, 1, 1)."""
    a, b = ours.unbind(-3), theirs.unbind(-3)
    inner = _area(*(torch.maximum(a[n], b[n]) for n in (0, 1)), *(torch.minimum(a[n], b[n]) for n in (2, 3)))
    outer = _area(*(torch.minimum(a[n], b[n]) for n in (0, 1)), *(torch.maximum(a[n], b[n]) for n in (2, 3)))
    union = _area(*a) + _area(*b) - inner
    return inner / union.clamp_min(1e-6) - (outer - union) / outer.clamp_min(1e-6)


def _area(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor) -> Tensor:
    return (x1 - x0).clamp_min(0) * (y1 - y0).clamp_min(0)
