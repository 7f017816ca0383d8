"""A detector on the embedding that is already there: where structures lie on a slice, and whether they are on it.

Letters: B slices, C classes, N detections; h, w rows and columns of the embedding, a cell each; S side of the model
input. Boxes are half-open (x0, y0, x1, y1) in pixels of the model input.
    embedding  (B, 256, h, w)    h = w = 64 for every released family
    heat       (B, C, h, w)      logits: is the middle of a structure's box in this cell
    box        (B, C, 4, h, w)   of the box whose middle is near: its middle from the cell's, x and y, in cells; the log
                                 of its width and height in cells
    presence   (B, C)            logits: is the structure on this slice
A structure has one box a slice, as a box prompt has: round all its pieces.
Source: centres as heat, with offset and size beside them, are of CenterNet (Zhou et al. 2019, Objects as points, arXiv
1904.07850); a presence asked apart from the place is of SAM 3 (arXiv 2511.16719). Here every cell near a middle learns
the box, and the cells round a peak answer together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsam.errors import CheckpointError
from medsam.models.heads import Head

# log of a side in cells: from a hundredth of a cell to a thousand
_SIDE_LOG = 7.0
# so rare is a middle among cells before anything was learnt
_PRIOR_LOGIT = -4.6


@dataclass(frozen=True)
class DetectorSizes:
    """channels: of the embedding. width: at its resolution. trunk: at half of it. blocks: of two convolutions there."""

    classes: int
    channels: int = 256
    width: int = 128
    trunk: int = 192
    blocks: int = 1


class DetectorMaps(NamedTuple):
    """What the network says of B slices, see the module."""

    heat: Tensor
    box: Tensor
    presence: Tensor


class Detector(nn.Module):
    """About a million weights; norms within a slice, so that an answer depends on no other."""

    def __init__(self, sizes: DetectorSizes) -> None:
        super().__init__()
        self.sizes, classes = sizes, sizes.classes
        self.stem = nn.Conv2d(sizes.channels, sizes.width, 1)
        self.stem_norm = _norm(sizes.width)
        self.down = nn.Conv2d(sizes.width, sizes.trunk, 3, stride=2, padding=1)
        self.down_norm = _norm(sizes.trunk)
        self.blocks = nn.ModuleList(_Block(sizes.trunk) for _ in range(sizes.blocks))
        self.up = nn.Conv2d(sizes.trunk, sizes.width, 1)
        self.mix = nn.Conv2d(sizes.width, sizes.width, 3, padding=1, groups=sizes.width)
        self.mix_norm = _norm(sizes.width)
        self.heat = nn.Conv2d(sizes.width, classes, 1)
        self.box = nn.Conv2d(sizes.width, 4 * classes, 1)
        self.presence = nn.Linear(2 * sizes.trunk, classes)
        nn.init.constant_(self.heat.bias, _PRIOR_LOGIT)  # type: ignore[arg-type]

    def forward(self, embedding: Tensor) -> DetectorMaps:
        fine = F.gelu(self.stem_norm(self.stem(embedding)))
        coarse = F.gelu(self.down_norm(self.down(fine)))
        for block in self.blocks:
            coarse = block(coarse)
        pooled = torch.cat([coarse.mean((-2, -1)), coarse.amax((-2, -1))], dim=-1)
        wide = F.interpolate(self.up(coarse), fine.shape[-2:], mode="bilinear", align_corners=False)
        mixed = F.gelu(self.mix_norm(self.mix(fine + wide)))
        return DetectorMaps(
            self.heat(mixed), self.box(mixed).unflatten(1, (self.sizes.classes, 4)), self.presence(pooled)
        )


class _Block(nn.Module):
    """Two convolutions beside the way straight on; the second looks twice as far."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near, self.near_norm = nn.Conv2d(width, width, 3, padding=1), _norm(width)
        self.far, self.far_norm = nn.Conv2d(width, width, 3, padding=2, dilation=2), _norm(width)

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.gelu(self.near_norm(self.near(maps)))
        return F.gelu(maps + self.far_norm(self.far(inner)))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(8, width), width)


def cell_boxes(box: Tensor, size: int) -> Tensor:
    """`DetectorMaps.box` (..., 4, h, w) as boxes (..., 4, h, w) in pixels of a model input of side `size`."""
    step = size / box.shape[-1]
    rows, columns = (torch.arange(length, device=box.device) + 0.5 for length in box.shape[-2:])
    x = columns + box[..., 0, :, :]
    y = rows[:, None] + box[..., 1, :, :]
    half = box[..., 2:, :, :].clamp(-_SIDE_LOG, _SIDE_LOG).exp() / 2
    wide, high = half.unbind(-3)
    return torch.stack([x - wide, y - high, x + wide, y + high], dim=-3) * step


class Found(NamedTuple):
    """A box of one class on one slice: (x0, y0, x1, y1) in model pixels, and its score in [0, 1]."""

    box: tuple[float, float, float, float]
    score: float


def decode(maps: DetectorMaps, size: int, least: float, most: int = 3) -> list[list[list[Found]]]:
    """Slice -> class -> its boxes, the best first: peaks of heat, each with the mean of the boxes round it.

    size: S. least: lower scores are left out. most: of one class on a slice. The score is the geometric mean of the
    peak and of the presence.
    """
    heat, presence = maps.heat.float().sigmoid(), maps.presence.float().sigmoid()
    boxes = cell_boxes(maps.box.float(), size)
    # of the 3 x 3 cells round each the heat weighs the boxes
    weights = F.unfold(heat.flatten(0, 1)[:, None], 3, padding=1)  # (B * C, 9, h * w)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-9)
    around = F.unfold(boxes.flatten(0, 1), 3, padding=1).unflatten(1, (4, 9))
    mean = (around * weights[:, None]).sum(2).unflatten(0, heat.shape[:2])  # (B, C, 4, h * w)
    peak = (heat == F.max_pool2d(heat, 3, 1, padding=1)).flatten(2)
    score = (heat.flatten(2) * presence[..., None]).sqrt() * peak
    top, at = score.topk(min(most, score.shape[-1]), dim=-1)
    chosen = mean.gather(-1, at[:, :, None].expand(-1, -1, 4, -1)).transpose(-1, -2).cpu()
    return [
        [
            [
                Found((x0, y0, x1, y1), number)
                for number, (x0, y0, x1, y1) in zip(numbers, coordinates, strict=True)
                if number >= least
            ]
            for numbers, coordinates in zip(of_slice.tolist(), boxes_of.tolist(), strict=True)
        ]
        for of_slice, boxes_of in zip(top.cpu(), chosen, strict=True)
    ]


def detector_of(head: Head) -> Detector:
    """The network of a head of the kind "detector", ready to answer. Raises CheckpointError where it does not fit."""
    sizes = {name: head.card.sizes.get(name, 0) for name in asdict(DetectorSizes(1))}
    called = head.path or head.card.name
    if set(head.card.sizes) != set(sizes) or sizes["classes"] != len(head.card.classes):
        raise CheckpointError(f"{called}: the card of this detector lacks some of its sizes.")
    if sizes["blocks"] > len(head.state):
        raise CheckpointError(f"{called}: the card of this detector has more blocks than there are weights.")
    try:
        with torch.device("meta"):
            network = Detector(DetectorSizes(**sizes))
    except ValueError as error:
        raise CheckpointError(f"{called}: the sizes of this detector do not fit each other ({error}).") from error
    head.load_into(network)
    return network.eval()
