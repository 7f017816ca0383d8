"""Boxes, points and masks -> tokens and a dense embedding.

Source: Kirillov et al. 2023 (arXiv 2304.02643), section 3 and appendix A; Tancik et al. 2020 (2006.10739) for the
random Fourier features; parameter names of the public checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medsam.models.layers import LayerNorm2d, init_transformer_weights
from medsam.models.specs import DecoderSizes

# The first sine of a process that several threads compute can be off by 1.5e-4 (pytorch issue 188792): logits by 1e-3.
torch.zeros(1).sin(), torch.zeros(1).cos()

# Positions of the four learned embeddings in `point_embeddings`.
_BACKGROUND, _FOREGROUND, _FIRST_CORNER, _SECOND_CORNER = range(4)
_PADDING = -1


def as_tokens(boxes: Tensor | None, points: Tensor | None, point_labels: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Boxes (B, P, 4) and points (B, P, N, 2) with labels (B, P, N), as one list of places a prompt, points first.

    Returns coordinates (B, P, T, 2) and token_types (B, P, T): 0 a point outside, 1 inside, 2 and 3 a box's corners, -1
    padding (as in SAM's own ONNX export). Points without a box are followed by one padding token, as in training.
    None when neither is given.
    """
    if boxes is not None:
        coordinates = boxes.unflatten(-1, (2, 2))
        token_types = torch.tensor([_FIRST_CORNER, _SECOND_CORNER], device=boxes.device).expand(*boxes.shape[:2], 2)
    elif points is not None:
        coordinates = points.new_zeros(*points.shape[:2], 1, 2)
        token_types = torch.full(points.shape[:2], _PADDING, device=points.device)[..., None]
    else:
        return None
    if points is not None and point_labels is not None:
        coordinates = torch.cat([points, coordinates.to(points.dtype)], dim=2)
        token_types = torch.cat([point_labels.to(token_types.dtype), token_types], dim=2)
    return coordinates, token_types


class PromptEncoder(nn.Module):
    """Prompts of B images with P prompts each. Pixels are of the model input, `image_size` a side."""

    def __init__(self, sizes: DecoderSizes, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.pe_layer = FourierPositions(sizes.width // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, sizes.width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, sizes.width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, sizes.mask_width // 4, kernel_size=2, stride=2),
            LayerNorm2d(sizes.mask_width // 4),
            nn.GELU(),
            nn.Conv2d(sizes.mask_width // 4, sizes.mask_width, kernel_size=2, stride=2),
            LayerNorm2d(sizes.mask_width),
            nn.GELU(),
            nn.Conv2d(sizes.mask_width, sizes.width, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, sizes.width)
        self.apply(init_transformer_weights)

    def embed_tokens(self, boxes: Tensor | None, points: Tensor | None, point_labels: Tensor | None) -> Tensor | None:
        """Boxes (B, P, 4) and points (B, P, N, 2) with labels (B, P, N) -> tokens (B, P, T, C), points first.

        Points without a box are followed by one padding token, as in training. None when neither is given.
        """
        laid_out = as_tokens(boxes, points, point_labels)
        return None if laid_out is None else self.embed_coordinates(*laid_out)

    def embed_coordinates(self, coordinates: Tensor, token_types: Tensor) -> Tensor:
        """Positions (B, P, T, 2) and what is there, (B, P, T) as in `as_tokens` -> tokens (B, P, T, C)."""
        where = self._embed_positions(coordinates)
        token_types = token_types[..., None]
        token = where + self._learned(_BACKGROUND)
        # no indexed assignment: it would change its input and does not export
        for kind in (_FOREGROUND, _FIRST_CORNER, _SECOND_CORNER):
            token = torch.where(token_types == kind, where + self._learned(kind), token)
        return torch.where(token_types == _PADDING, self.not_a_point_embed.weight[0], token)

    def embed_masks(self, masks: Tensor) -> Tensor:
        """Mask logits (B, P, 4h, 4w) -> what to add to the image embedding, (B, P, C, h, w)."""
        batch, prompts = masks.shape[:2]
        dense = self.mask_downscaling(masks.to(self.no_mask_embed.weight.dtype).flatten(0, 1)[:, None])
        return dense.unflatten(0, (batch, prompts))

    def embed_no_mask(self) -> Tensor:
        """What to add to the image embedding of every prompt without a mask, (C, 1, 1)."""
        return self.no_mask_embed.weight[0, :, None, None]

    def image_positions(self, height: int, width: int) -> Tensor:
        """Positional encoding of the centres of an image embedding's cells, (h, w, C)."""
        like = self.pe_layer.positional_encoding_gaussian_matrix
        y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width
        centres = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=-1)
        return self.pe_layer(centres).to(self.no_mask_embed.weight.dtype)

    def _learned(self, kind: int) -> Tensor:
        embedding = self.point_embeddings.get_submodule(str(kind))
        return embedding.get_parameter("weight")[0]

    def _embed_positions(self, xy: Tensor) -> Tensor:
        # pixel n has its centre at n + 0.5
        unit = (xy.float() + 0.5) / self.image_size
        return self.pe_layer(unit).to(self.no_mask_embed.weight.dtype)


class FourierPositions(nn.Module):
    """Random Fourier features of positions in [0, 1] x [0, 1]; always in fp32.

    The frequencies are multiplied by up to 2 pi, so half precision here would move prompts by pixels.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, xy: Tensor) -> Tensor:
        """(..., 2) as (x, y) -> (..., 2 * features)."""
        frequencies = self.positional_encoding_gaussian_matrix
        xy = 2 * xy - 1
        # products and a sum, not a matmul: autocast would run that in half precision
        angles = 2 * math.pi * (xy[..., :1] * frequencies[0] + xy[..., 1:] * frequencies[1])
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FourierPositions:
        # follows .to(device) but not .to(bfloat16): the frequencies would be rounded for good
        exact = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)
        moved = self.positional_encoding_gaussian_matrix
        if moved.dtype != exact.dtype:
            self.positional_encoding_gaussian_matrix = exact.to(moved.device)
        return self
