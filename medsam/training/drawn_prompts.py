"""Prompts that people draw, made from the truth on the device that trains: clicks, strokes and rough masks.

Letters: B images, P prompts an image, N points a prompt, s the side of the logits, S the side of the model input.
Positions are (x, y) in pixels of the model input. All random numbers are handed in, uniform in [0, 1).
Source: strokes and deformed masks follow ScribblePrompt's ideas (Wong et al. 2024, arXiv 2312.07381), in other
arithmetic: everything here is a blur, a sum or a lookup, so that a batch costs little beside its decodes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medsam.transforms.frame import SURE

# uniform numbers that a stroke takes: two ends, how far it bends to the side, and how many of its points are shown
STROKE_DRAWS = 4
# most points of a stroke; `prompts.strokes.as_clicks` gives about as many
STROKE_POINTS = 12
# side of the grid of numbers that bend the outline of a rough mask, and how many numbers one takes
_GRID = 12
ROUGH_DRAWS = _GRID * _GRID + 2
# how near to the object people click to say what is not in it, in pixels of logits
_NEAR = 31


def weighted_points(weights: Tensor, uniform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A pixel of each map, as likely as its weight: weights (B, P, s, s) from 0, uniform (B, P, N).

    Returns xy (B, P, N, 2) in model pixels, half a pixel before the centre, as `random_points` does, and found
    (B, P, N), False where no weight is positive.
    """
    # float64: of 65,536 float32 weights the last would be lost in the sum
    counted = weights.flatten(2).double().cumsum(dim=-1)
    total = counted[..., -1:]
    index = torch.searchsorted(counted, uniform.double() * total, right=True).clamp(max=counted.shape[-1] - 1)
    return centres(index, weights.shape[-1], size), (total > 0).expand(uniform.shape)


def depth_weights(regions: Tensor) -> Tensor:
    """How likely a person clicks a pixel of bool regions (B, P, s, s): more the deeper it lies; (B, P, s, s)."""
    blurred, weight = regions.float(), regions.float()
    for width in (5, 15, 45):
        blurred = _blur(blurred, width)
        weight = weight * blurred * blurred
    return weight


def surroundings(targets: Tensor) -> Tensor:
    """Pixels near bool objects (B, P, s, s), and not on their very edge; bool (B, P, s, s)."""
    there = targets.float()
    return (_blur(there, _NEAR) > 1e-6) & (_blur(there, 3) < 1e-6)


def strokes(targets: Tensor, uniform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """A bent line from one pixel of each bool object (B, P, s, s) to another, as points; uniform (B, P, STROKE_DRAWS).

    Returns xy (B, P, N, 2) and labels (B, P, N), N = STROKE_POINTS: 1, or -1, padding, where the line leaves the object
    or fewer points are shown.
    """
    side = targets.shape[-1]
    ends, found = weighted_points(targets.float(), uniform[..., :2], size)
    first, last = ends.unbind(dim=2)
    along = last - first
    across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
    control = (first + last) / 2 + across * (uniform[..., 2:3] - 0.5)
    t = torch.linspace(0, 1, STROKE_POINTS, device=targets.device)[:, None]
    line = (1 - t) ** 2 * first[..., None, :] + 2 * t * (1 - t) * control[..., None, :] + t**2 * last[..., None, :]
    index = indices(line, side, size)
    inside = targets.flatten(2).gather(2, index)
    # every point, or each second, third or fourth: long strokes and short ones have as many
    step = 1 + (uniform[..., 3:] * 4).floor().clamp(max=3).long()
    shown = torch.arange(STROKE_POINTS, device=targets.device) % step == 0
    return centres(index, side, size), torch.where(inside & shown & found[..., :1], 1, -1)


def rough_masks(targets: Tensor, uniform: Tensor) -> Tensor:
    """Logits (B, P, s, s) of what a hurried hand would make of bool objects; uniform (B, P, ROUGH_DRAWS).

    The outline is moved by smooth noise, out and in. An object that would vanish stays as it is.
    """
    shape, there = targets.shape, targets.float()
    area = there.sum(dim=(-2, -1), keepdim=True)
    soft = torch.where(area < 400, _blur(there, 5), torch.where(area < 3000, _blur(there, 11), _blur(there, 21)))
    grid = uniform[..., :-2].reshape(-1, 1, _GRID, _GRID)
    noise = F.interpolate(grid - 0.5, shape[-2:], mode="bicubic", align_corners=False).reshape(shape)
    strength, shift = (number[..., None, None] for number in uniform[..., -2:].unbind(dim=-1))
    rough = soft - 0.5 + noise * (0.4 + strength) + (shift - 0.5) * 0.3
    kept = (rough > 0).any(dim=-1).any(dim=-1)[..., None, None]
    sure = torch.where(rough > 0, SURE, -SURE)
    return torch.where(kept, sure, torch.where(targets, SURE, -SURE))


def boxes_round(masks: Tensor, size: int) -> Tensor:
    """The tight box of each bool mask (B, P, s, s), half-open, (B, P, 4) in model pixels; zeros for an empty one."""
    side = masks.shape[-1]
    bounds = []
    for axis in (-2, -1):
        along = masks.any(dim=axis)
        first = along.int().argmax(dim=-1)
        last = side - along.flip(-1).int().argmax(dim=-1)
        bounds.append(torch.where(along.any(dim=-1), torch.stack([first, last]), 0))
    columns, rows = bounds
    return torch.stack([columns[0], rows[0], columns[1], rows[1]], dim=-1).float() * (size / side)


def centres(index: Tensor, side: int, size: int) -> Tensor:
    """xy (..., 2) in model pixels of row-major indices, half a pixel before the centre."""
    column_row = torch.stack([index % side, index // side], dim=-1)
    return (column_row + 0.5) * (size / side) - 0.5


def indices(xy: Tensor, side: int, size: int) -> Tensor:
    """Row-major indices (...) of the pixels in which positions (..., 2) in model pixels lie: undoes `centres`."""
    column, row = ((xy + 0.5) * (side / size)).floor().long().clamp(0, side - 1).unbind(dim=-1)
    return row * side + column


def _blur(maps: Tensor, width: int) -> Tensor:
    """Mean of a square of `width` pixels, an odd number, round each; outside is 0. (B, P, s, s)."""
    half = width // 2
    rows = F.avg_pool2d(maps, (width, 1), stride=1, padding=(half, 0))
    return F.avg_pool2d(rows, (1, width), stride=1, padding=(0, half))
