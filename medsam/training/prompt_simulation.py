"""Prompts drawn from the truth while training: boxes, clicks, strokes or rough masks, then points where it was wrong.

Letters: B images, P prompts an image, M masks a prompt, s the side of the logits, S the side of the model input.
Positions are (x, y) in pixels of the model input. All random numbers come from the seed of the image and the place of
the prompt in it, drawn on the CPU: they are the same in any batch, however padded, and on any device.
Source: Kirillov et al. 2023 (arXiv 2304.02643), appendix A, "Training algorithm"; Ma et al. 2024 for boxes that only
grow (MedSAM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from medsam.training.drawn_prompts import (
    ROUGH_DRAWS,
    STROKE_DRAWS,
    boxes_round,
    centres,
    depth_weights,
    indices,
    rough_masks,
    strokes,
    surroundings,
    weighted_points,
)

# uniform numbers a prompt's box takes: how far it may grow, and one for each edge
_BOX_DRAWS = 5
# the paper's sizes are pixels of this input
_PAPER_SIDE = 1024
# of "points" the most inside the object and round it, and the numbers they take: a place each, and how many
_INSIDE, _OUTSIDE = 4, 3
_POINT_DRAWS = _INSIDE + _OUTSIDE + 2
# rounds without a new point; fewer rounds than this and one before and between them have none
_WITHOUT_POINT = 2


First = Literal["box", "point", "points", "scribble", "mask"]
_DRAWS: dict[str, int] = {"points": _POINT_DRAWS, "scribble": STROKE_DRAWS, "mask": ROUGH_DRAWS}


@dataclass(frozen=True)
class PromptSimulation:
    """What is shown in training.

    rounds: answers to one set of prompts. 1: the first prompt only; 11: the paper. Of 4 or more, two bring no new
        point, only the earlier answer: the last, and one at random between the first and the last new point.
    vary_rounds: each batch ends after 1 to `rounds` of them, all equally likely.
    first: the prompt of round 1; "either" is a box or a point with even odds, "mixed" as `shares` say; one choice for
        the whole batch.
    shares: of "mixed", how often each is chosen: a box; a point; "points", one to four inside and up to three close by
        outside; "scribble", a bent stroke shown as points; "mask", a deformed copy of the object with its box.
    middle: share of points that lie deep in the object, or in what is wrong, where people click; the others are
        uniform.
    box_noise: standard deviation of each edge's shift, as a share of the box's side in that direction.
    box_noise_px: most that it shifts an edge, in pixels of a 1024 input; other inputs have S / 1024 of it.
    outward_px: instead, when positive: each edge moves outwards by a whole number of stored pixels, uniform in
        [0, n], with n uniform in [0, outward_px] for each box, so that tight boxes stay frequent.
    Raises ValueError for a number or a name that makes no sense.
    """

    rounds: int = 1
    first: Literal["box", "point", "either", "mixed"] = "box"
    vary_rounds: bool = False
    shares: dict[str, float] = field(
        default_factory=lambda: {"box": 0.3, "point": 0.3, "points": 0.1, "scribble": 0.2, "mask": 0.1}
    )
    middle: float = 0.0
    box_noise: float = 0.1
    box_noise_px: float = 20.0
    outward_px: int = 0

    def __post_init__(self) -> None:
        if self.first not in ("box", "point", "either", "mixed"):
            raise ValueError(f'first is "box", "point", "either" or "mixed", not {self.first!r}.')
        known, shares = get_args(First), self.shares.values()
        if not set(self.shares) <= set(known) or not all(0 <= one < math.inf for one in shares) or not sum(shares):
            raise ValueError(f"shares are numbers from 0, not all 0, of {', '.join(known)}; not {self.shares}.")
        if not 0 <= self.middle <= 1:
            raise ValueError(f"middle is a share from 0 to 1, not {self.middle!r}.")
        for name, least in (("rounds", 1), ("outward_px", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is a whole number from {least}, not {value!r}.")
        for name in ("box_noise", "box_noise_px"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is a finite number from 0, not {value!r}.")

    @property
    def kinds(self) -> Mapping[str, float]:
        """What may come first, and how often; sums to 1."""
        shares = {"box": {"box": 1.0}, "point": {"point": 1.0}, "either": {"box": 0.5, "point": 0.5}}.get(self.first)
        shares = shares or self.shares
        return {kind: share / sum(shares.values()) for kind, share in shares.items() if share}

    def rounds_of(self, choose: int) -> int:
        """Rounds of the batch whose `choose` this is, see `simulate`."""
        if not self.vary_rounds:
            return self.rounds
        return 1 + int(torch.rand(3, generator=_generator(~choose))[2] * self.rounds)


@dataclass(frozen=True)
class Round:
    """The answer to one round of prompts.

    logits: (B, P, M, s, s). quality: (B, P, M), the predicted IoU. multimask: which masks `decode` was asked for:
    True: three (one point); None: all four (a box, a stroke or several points alone); False: one.
    """

    logits: Tensor
    predicted_iou: Tensor
    multimask: bool | None

    def mask_groups(self) -> list[tuple[Tensor, Tensor]]:
        """(logits, quality) of each group of masks to take a `mask_loss` of; first what inference would choose from.

        A box or a stroke gives two: the single mask, which answers it, and the three, which would not learn from it
        else.
        """
        if self.multimask is not None:
            return [(self.logits, self.predicted_iou)]
        one, three = slice(0, 1), slice(1, None)
        return [(self.logits[:, :, part], self.predicted_iou[:, :, part]) for part in (one, three)]

    def chosen(self) -> Tensor:
        """Logits (B, P, s, s), detached, of the mask that inference would show: the best by predicted IoU of the
        three for a single point, else the single mask."""
        logits, predicted_iou = (tensor.detach() for tensor in self.mask_groups()[0])
        best = predicted_iou.argmax(dim=2)[..., None, None, None]
        return torch.take_along_dim(logits, best, dim=2).squeeze(2)


def simulate(
    decode: Callable[..., tuple[Tensor, Tensor]],
    targets: Tensor,
    boxes: Tensor,
    pixel: Tensor,
    bounds: Tensor,
    seeds: Tensor,
    settings: PromptSimulation,
    size: int,
    choose: int = 0,
) -> Iterator[Round]:
    """Give a prompt, compare the masks, give another: `settings.rounds` rounds, each decoded when it is needed.

    decode: `Sam.decode` with its embedding filled in; called once a round.
    targets: bool (B, P, s, s). boxes: (B, P, 4), half-open round the objects. Prompts that only pad P can hold anything
        finite.
    pixel: (B, 2), size of a stored pixel in model pixels. bounds: (B, 2), where the slice ends and padding begins.
    seeds: int64 (B,), one for each sample (and epoch). size: S.
    choose: seed of what is chosen once for the whole batch; give all processes the same, such as the global step.

    Every round keeps the earlier prompts and adds a point, uniform in what the previous one's `chosen` mask has wrong,
    and that mask's logits as a mask prompt. Where nothing is wrong (or a first point finds an empty target), the point
    is padding, label -1. No gradient goes back through points and mask prompts: a round can be differentiated, and
    freed, before the next is asked for.
    """
    # ~: another stream than that of a sample whose seed happens to be the step
    coin, place, _ = torch.rand(3, generator=_generator(~choose)).tolist()
    kind, rounds = _kind_of(settings, coin), settings.rounds_of(choose)
    numbers = _BOX_DRAWS + 2 * settings.rounds + _DRAWS.get(kind, 0)
    uniform = _draws(seeds, targets.shape[1], numbers).to(targets.device)
    places, deep, more = uniform[..., _BOX_DRAWS:].split(
        [settings.rounds, settings.rounds, _DRAWS.get(kind, 0)], dim=-1
    )
    deep = deep < settings.middle
    without_point = rounds_without_point(rounds, place)

    multimask: bool | None = {"point": True, "mask": False}.get(kind)
    if kind == "box":
        prompts = {"boxes": noisy_boxes(boxes, pixel, bounds, uniform[..., :_BOX_DRAWS], settings, size)}
    else:
        prompts = _drawn(kind, targets, places[..., 0], deep[..., 0], more, size)
    round_: Round | None = None
    for number in range(rounds):
        if round_ is not None:
            prompts["masks"] = round_.chosen()
            multimask = False
        if number and number not in without_point:
            xy, label = error_points(targets, prompts["masks"], places[..., number], size, deep[..., number])
            old = [prompts[name] for name in ("points", "point_labels") if name in prompts]
            new = [xy[:, :, None], label[..., None]]
            both = [torch.cat(parts, dim=2) for parts in zip(old, new, strict=True)] if old else new
            prompts |= dict(zip(("points", "point_labels"), both, strict=True))
        round_ = Round(*decode(**prompts, multimask=multimask), multimask)
        yield round_


def _drawn(kind: str, targets: Tensor, place: Tensor, deep: Tensor, more: Tensor, size: int) -> dict[str, Tensor]:
    """What else may come first, as `Sam.decode` takes it. place, deep: see `_point`; more: what the kind draws."""
    if kind == "point":
        xy, found = _point(targets, place, deep, size)
        return {"points": xy[:, :, None], "point_labels": torch.where(found, 1, -1)[..., None]}
    if kind == "mask":
        masks = rough_masks(targets, more)
        return {"masks": masks, "boxes": boxes_round(masks > 0, size)}
    xy, labels = strokes(targets, more, size) if kind == "scribble" else some_points(targets, more, size)
    return {"points": xy, "point_labels": labels}


def _kind_of(settings: PromptSimulation, coin: float) -> str:
    """What comes first, for a number in [0, 1)."""
    kinds, reached = settings.kinds, 0.0
    for kind, share in kinds.items():
        reached += share
        if coin < reached:
            return kind
    return [*kinds][-1]


def some_points(targets: Tensor, uniform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Clicks in and round bool objects (B, P, s, s), the first always inside; uniform (B, P, 9) in [0, 1).

    Returns xy (B, P, 7, 2) in model pixels and labels (B, P, 7): 1 inside, 0 outside, -1 padding.
    """
    inside, found = weighted_points(targets.float(), uniform[..., :_INSIDE], size)
    outside, near = weighted_points(surroundings(targets).float(), uniform[..., _INSIDE : _INSIDE + _OUTSIDE], size)
    many, few = (uniform[..., -2:] * torch.tensor([_INSIDE, _OUTSIDE + 1], device=targets.device)).unbind(dim=-1)
    shown = torch.arange(_INSIDE, device=targets.device) <= many[..., None].floor()
    refused = torch.arange(_OUTSIDE, device=targets.device) < few[..., None].floor()
    labels = torch.cat([torch.where(shown & found, 1, -1), torch.where(refused & near & found[..., :1], 0, -1)], dim=-1)
    return torch.cat([inside, outside], dim=2), labels


def _point(regions: Tensor, uniform: Tensor, deep: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """As `random_points`; where `deep`, bool (B, P), says so, a pixel that lies deep in its region."""
    xy, found = random_points(regions, uniform, size)
    if deep is not None and deep.any():
        middle, _ = weighted_points(depth_weights(regions), uniform[..., None], size)
        xy = torch.where((deep & found)[..., None], middle[:, :, 0], xy)
    return xy, found


def noisy_boxes(
    boxes: Tensor, pixel: Tensor, bounds: Tensor, uniform: Tensor, settings: PromptSimulation, size: int
) -> Tensor:
    """Boxes (B, P, 4) with each edge moved as `settings` say, inside [0, bounds] and at least half a stored pixel wide.

    pixel, bounds: (B, 2) as (x, y). uniform: (B, P, 5) in [0, 1). size: S.
    No edge comes nearer to the middle of its box than half a stored pixel. With `outward_px` a box never shrinks.
    """
    boxes, step, end = boxes.float(), pixel.float()[:, None], bounds.float()[:, None]
    low, high = (corner.clamp(min=0).minimum(end) for corner in boxes.split(2, dim=-1))
    middle, side = (low + high) / 2, high - low
    if settings.outward_px:
        most = (uniform[..., :1] * (settings.outward_px + 1)).floor().clamp(max=settings.outward_px)
        pixels = (uniform[..., 1:] * (most + 1)).floor().minimum(most)
        left, right = (pixels * step.repeat(1, 1, 2)).split(2, dim=-1)
        low, high = low - left, high + right
    else:
        # not 0: that would be minus infinity
        normal = torch.special.ndtri(uniform[..., 1:].clamp(min=2**-25))
        cap = settings.box_noise_px * size / _PAPER_SIDE
        left, right = (normal * settings.box_noise * side.repeat(1, 1, 2)).clamp(-cap, cap).split(2, dim=-1)
        low, high = low + left, high + right
    low, high = low.minimum(middle - step / 2).clamp(min=0), high.maximum(middle + step / 2).minimum(end)
    return torch.cat([low, high], dim=-1)


def random_points(regions: Tensor, uniform: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """One pixel of each region, all equally likely: regions bool (B, P, s, s), uniform (B, P) in [0, 1).

    Returns xy (B, P, 2) in model pixels and found (B, P), False for an empty region, whose xy is just some
    place in the image. The prompt encoder adds half a pixel to xy; it then is the centre of the pixel of the region.
    """
    index, found = _random_pixels(regions, uniform)
    return centres(index, regions.shape[-1], size), found


@torch.no_grad()
def error_points(
    targets: Tensor, logits: Tensor, uniform: Tensor, size: int, deep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A click on what an answer has wrong: targets bool, logits (B, P, s, s), uniform (B, P) in [0, 1).

    deep: bool (B, P), which clicks lie deep in it; None for none.
    Returns xy (B, P, 2) as `random_points` does, and labels (B, P): 1 missed, 0 false, -1 nothing is wrong.
    """
    xy, found = _point(targets ^ (logits > 0), uniform, deep, size)
    inside = targets.flatten(2).gather(2, indices(xy, targets.shape[-1], size)[..., None])[..., 0].long()
    return xy, torch.where(found, inside, -1)


def _random_pixels(regions: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Row-major index of a True pixel and whether there is one, both (B, P)."""
    counted = regions.flatten(2).cumsum(dim=-1, dtype=torch.int32)
    count = counted[..., -1]
    # float32 can round up to the count itself
    nth = torch.minimum((uniform * count).floor().int(), count - 1).clamp(min=0)
    index = torch.searchsorted(counted, (nth + 1)[..., None])[..., 0]
    return index.clamp(max=counted.shape[-1] - 1), count > 0


def _draws(seeds: Tensor, prompts: int, numbers: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 (B, P, numbers) on the CPU.

    `rand` fills row by row, so a prompt's numbers do not depend on how many prompts follow; `randn` has no such order.
    """
    return torch.stack([torch.rand(prompts, numbers, generator=_generator(seed)) for seed in seeds.tolist()])


def _generator(seed: int) -> torch.Generator:
    # torch's CPU generator uses the low 32 bits only; an epoch may be in the high ones
    return torch.Generator().manual_seed((seed ^ (seed >> 32) * 0x9E3779B1) & 0xFFFFFFFF)


def rounds_without_point(rounds: int, place: float) -> set[int]:
    """Which of the rounds 0 ... rounds - 1 bring no new point; place in [0, 1) says where the one at random is."""
    points = rounds - 1 - _WITHOUT_POINT
    return {1 + int(place * points), rounds - 1} if points > 0 else set()
