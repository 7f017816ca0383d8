"""AdamW with layer-wise rates, and the schedules.

Source: Kirillov et al. 2023, appendix A (AdamW, layer-wise decay, warm-up, steps at 2/3 and 95 %); Bao et al. 2021
(arXiv 2106.08254) for the decay by depth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from medsam.errors import InputError
from medsam.models.sam import Sam

Schedule = Literal["cosine", "steps", "constant"]


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights move.

    lr: the highest rate, of everything that is not in the image encoder's body. layer_decay: each block below the
    encoder's neck learns at so many times the rate of the one above. weight_decay: of matrices and kernels; biases,
    norms and embeddings have none. schedule: after `warmup_steps` of linear growth the rate follows a cosine down to
    `final` of itself, or is divided by ten at 2/3 and at 95 % of the steps as in the paper ("steps"), or stays.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 1.0
    warmup_steps: int = 50
    schedule: Schedule = "cosine"
    final: float = 0.01

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("lr", self.lr, 0, 1),
            ("layer_decay", self.layer_decay, 0, 1),
            ("final", self.final, 0, 1),
        ):
            if not low <= value <= high or (name != "final" and value == 0):
                raise InputError(f"model.optimiser.{name} lies between {low} and {high}, not at {value}.")
        if not 0 <= self.weight_decay < math.inf or self.warmup_steps < 0:
            raise InputError("model.optimiser.weight_decay and warmup_steps are finite and not negative.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"model.optimiser.betas lie in 0 ... 1 and below 1, not at {self.betas}.")
        if self.schedule not in get_args(Schedule):
            raise InputError(
                f"model.optimiser.schedule is one of {', '.join(get_args(Schedule))}, not {self.schedule!r}."
            )


def build_optimiser(sam: Sam, settings: OptimiserSettings) -> torch.optim.AdamW:
    """AdamW over the weights of `sam` that are trained, grouped by rate and decay.

    Raises InputError when none is trained.
    """
    layers = layer_numbers(sam)
    depth = max(layers.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in sam.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if is_decayed(name, parameter) else 0.0
            scale = settings.layer_decay ** (depth - layers[name])
            groups.setdefault((settings.lr * scale, decay), []).append(parameter)
    if not groups:
        raise InputError(
            "Every part of the model is frozen: there is nothing to train. Set a model.train entry to true."
        )
    listed: list[dict[str, Any]] = [
        {"params": parameters, "lr": lr, "weight_decay": decay} for (lr, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=settings.lr, betas=settings.betas)


# learned vectors that are kept as the rows of a matrix. By whole names: a kernel is called patch_embed.proj too, and a
# matrix cross_attn_token_to_image.q_proj
_EMBEDDING = re.compile(
    r"(^|\.)(pos_embed|rel_pos_[hw]|attention_biases"
    r"|(point_embeddings\.\d+|not_a_point_embed|no_mask_embed|iou_token|mask_tokens)\.weight)$"
)


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Matrices and kernels shrink; biases, norms, and learned embeddings and positions do not."""
    return parameter.ndim > 1 and _EMBEDDING.search(name) is None


def layer_numbers(sam: Sam) -> dict[str, int]:
    """Parameter -> 0 for the patch embedding and positions, n + 1 for block n of the encoder, and the number after the
    last block for all that follows."""
    names = [name for name, _ in sam.named_parameters()]
    found = {block for name in names if (block := _block(name)) is not None}
    blocks = {block: number for number, block in enumerate(sorted(found), start=1)}
    # what leads from one stage to the next belongs to the last block before it
    ends = {stage: number for (stage, _), number in blocks.items()}
    numbers = {}
    for name in names:
        stage = re.match(r"image_encoder\.layers\.(\d+)\.", name)
        if name.startswith(("image_encoder.patch_embed", "image_encoder.pos_embed")):
            numbers[name] = 0
        elif (block := _block(name)) is not None:
            numbers[name] = blocks[block]
        else:
            numbers[name] = ends[int(stage[1])] if stage else len(blocks) + 1
    return numbers


def _block(name: str) -> tuple[int, int] | None:
    """(stage, block) of an image encoder's parameter; ViT has one stage."""
    match = re.match(r"image_encoder\.(?:layers\.(\d+)\.)?blocks\.(\d+)\.", name)
    return None if match is None else (int(match[1] or 0), int(match[2]))


def schedule(settings: OptimiserSettings, steps: int) -> Callable[[int], float]:
    """Share of the highest rate at each of `steps` optimiser steps, from 0."""
    warmup = min(settings.warmup_steps, max(steps - 1, 0))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if settings.schedule == "constant":
            return 1.0
        if settings.schedule == "steps":
            return 0.1 ** ((step >= steps * 2 / 3) + (step >= steps * 0.95))
        along = min(1.0, (step - warmup) / max(1, steps - warmup))
        return settings.final + (1 - settings.final) * (1 + math.cos(math.pi * along)) / 2

    return factor
