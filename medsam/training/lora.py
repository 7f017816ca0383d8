"""LoRA: what is learned of a large matrix is a product of two thin ones, which is later fused into it.

Source: Hu et al. 2021 (arXiv 2106.09685). Built on torch's parametrizations rather than on a package of adapters:
`torch.nn.utils.parametrize` already replaces a weight by a function of it and puts the result back, and the package
would bring two more along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medsam.errors import InputError
from medsam.models.sam import Sam


@dataclass(frozen=True)
class LoraSettings:
    """rank: of the product. alpha: the product counts alpha / rank. Raises InputError for a rank below 1."""

    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"model.lora.rank is a whole number from 1, not {self.rank}.")


class LowRank(nn.Module):
    """A weight (O, I) plus scale * up @ down; at first that adds nothing."""

    scale: Tensor

    def __init__(self, weight: Tensor, settings: LoraSettings) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.empty(settings.rank, inputs, dtype=weight.dtype))
        self.up = nn.Parameter(torch.zeros(outputs, settings.rank, dtype=weight.dtype))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        # travels with the weights, so that the caller needs nothing else to load them
        self.register_buffer("scale", torch.tensor(settings.alpha / settings.rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def add_lora(sam: Sam, settings: LoraSettings) -> int:
    """Put LoRA on the query, key, value and output matrices of the image encoder's attention; returns how many.

    The matrices themselves are frozen.
    """
    found = [
        module
        for name, module in sam.image_encoder.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(("attn.qkv", "attn.proj"))
    ]
    for module in found:
        module.weight.requires_grad_(False)
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, settings))
    return len(found)


def merge_lora(sam: Sam) -> None:
    """Fuse the products into the matrices; the masks stay what they were."""
    for module in sam.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
