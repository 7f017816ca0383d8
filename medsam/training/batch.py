"""What one training step is given. torch alone: the step runs where nothing reads scans.

Letters: B images, P prompts an image, S side of the model input, s of its logits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Training: B images with P prompts each. valid: where the structure can still be seen, bool (B, P).

    image: (B, 3, S, S). targets: bool (B, P, s, s). boxes: tight, (B, P, 4) in model pixels. pixel: (B, 2) model pixels
    in a stored one, (x, y). bounds: (B, 2) how far the slice reaches in the model input, (x, y). seeds: (B,) for what
    the prompts draw. names: "case, slice" of each image.
    """

    image: Tensor
    targets: Tensor
    boxes: Tensor
    valid: Tensor
    pixel: Tensor
    bounds: Tensor
    seeds: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        return moved(self, device)


def moved(batch: Any, device: torch.device) -> Any:
    """A dataclass with its tensors on another device."""
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    tensors_there = {name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)}
    return replace(batch, **tensors_there)
