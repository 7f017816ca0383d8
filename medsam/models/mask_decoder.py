"""Image embedding and prompt tokens -> mask logits and predicted quality.

Source: Kirillov et al. 2023 (arXiv 2304.02643), appendix A, "Lightweight mask decoder"; parameter names of the
public checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, cat, nn, stack
from torch.nn import functional as F

from medsam.models.layers import LayerNorm2d, Mlp, attend, init_transformer_weights, run_checkpointed
from medsam.models.specs import DecoderSizes


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling by four, one small network a mask token, and the quality head."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        width = sizes.width
        self.gradient_checkpointing = False
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(sizes.mask_tokens, width)
        self.transformer = _TwoWayTransformer(sizes)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            _Head(width, width, width // 8) for _ in range(sizes.mask_tokens)
        )
        self.iou_prediction_head = _Head(width, sizes.quality_width, sizes.mask_tokens)
        self.apply(init_transformer_weights)

    def forward(
        self, image: Tensor, positions: Tensor, tokens: Tensor | None, prompts: int, multimask: bool | None
    ) -> tuple[Tensor, Tensor]:
        """Answer `prompts` = P prompts on each of B images.

        image: embedding with the dense prompt added, (B, P, C, h, w), or (B, 1, C, h, w) when no prompt has a
        mask: then all prompts of an image share it and the first layer projects it once.
        positions: (h, w, C). tokens: (B, P, T, C) or None.
        Returns logits (B, P, M, 4h, 4w) and quality (B, P, M), M = 1 (token 0), the remaining tokens, or all
        with token 0 first (`multimask` None). The quality is a plain linear output; it can leave [0, 1].
        """
        batch, _, _, height, width = image.shape
        output_tokens = cat([self.iou_token.weight, self.mask_tokens.weight])
        queries = output_tokens.expand(batch, prompts, -1, -1)
        if tokens is not None:
            queries = cat([queries, tokens], dim=2)

        queries, keys = self.transformer(
            queries, image.flatten(3).transpose(2, 3), positions.flatten(0, 1), self.gradient_checkpointing
        )

        upscaled = self._upscaled(keys)
        wanted = slice(None) if multimask is None else slice(1, None) if multimask else slice(0, 1)
        heads = [head(queries[:, :, 1 + index]) for index, head in enumerate(self.output_hypernetworks_mlps)]
        # every head runs so that every weight has a gradient, whichever masks are wanted
        logits = upscaled @ stack(heads, dim=3)[..., wanted]
        # (B, P, row, column, row of two, column of two, row of two, column of two, M)
        logits = logits.unflatten(2, (height, width, 2, 2, 2, 2)).permute(0, 1, 8, 2, 4, 6, 3, 5, 7)
        quality = self.iou_prediction_head(queries[:, :, 0])[:, :, wanted]
        return logits.reshape(batch, prompts, -1, 4 * height, 4 * width), quality

    def _upscaled(self, keys: Tensor) -> Tensor:
        """Tokens of the image (B, P, N, C) -> (B, P, N * 16, C / 8): each the four by four pixels it becomes.

        A transposed convolution whose stride is its kernel is one linear map a pixel; as such it needs no copies into
        another layout, and the backward pass takes half the time (docs/benchmarks.md).
        """
        first, norm, _, second, _ = cast(Iterable[Any], self.output_upscaling)
        x = F.gelu(norm.channels_last(_split_pixel(first, keys)))
        return F.gelu(_split_pixel(second, x)).flatten(2, -2)


def _split_pixel(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A 2 x 2 transposed convolution of stride 2 on (..., inputs) -> (..., 4, outputs), the four in reading order."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return F.linear(x, weight, layer.get_parameter("bias").repeat(4)).unflatten(-1, (4, -1))


class _Head(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class _TwoWayTransformer(nn.Module):
    """Tokens attend to themselves and the image, then the image attends to the tokens.

    Queries are (B, P, T, C), keys (B, P, N, C) or (B, 1, N, C); positions (N, C).
    """

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TwoWayLayer(sizes, first=index == 0) for index in range(sizes.layers))
        self.final_attn_token_to_image = _Attention(sizes.width, sizes.width // 2, sizes.heads)
        self.norm_final_attn = nn.LayerNorm(sizes.width)

    def forward(
        self, tokens: Tensor, keys: Tensor, positions: Tensor, gradient_checkpointing: bool
    ) -> tuple[Tensor, Tensor]:
        queries = tokens
        for layer in self.layers:
            arguments = (queries, keys, tokens, positions)
            queries, keys = run_checkpointed(layer, *arguments) if gradient_checkpointing else layer(*arguments)
        attended = self.final_attn_token_to_image(queries + tokens, keys + positions, keys)
        return self.norm_final_attn(queries + attended), keys


class _TwoWayLayer(nn.Module):
    def __init__(self, sizes: DecoderSizes, first: bool) -> None:
        super().__init__()
        width, heads = sizes.width, sizes.heads
        self.first = first
        self.self_attn = _Attention(width, width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = _Attention(width, width // 2, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, sizes.mlp_width, F.relu)
        self.norm3 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = _Attention(width, width // 2, heads)
        self.norm4 = nn.LayerNorm(width)

    def forward(self, queries: Tensor, keys: Tensor, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            # the queries are the tokens themselves: published without their own position and without a residual
            queries = self.norm1(self.self_attn(queries, queries, queries))
        else:
            placed = queries + tokens
            queries = self.norm1(queries + self.self_attn(placed, placed, queries))

        placed_keys = keys + positions
        attended = self.cross_attn_token_to_image(queries + tokens, placed_keys, keys)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))

        attended = self.cross_attn_image_to_token(placed_keys, queries + tokens, queries)
        return queries, self.norm4(keys + attended)


class _Attention(nn.Module):
    """Multi-head attention on (B, P, N, C), computed in `inner` channels.

    Queries or keys with P = 1 are shared by all prompts of the other side; they are projected once.
    """

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        batch, prompts, length, _ = queries.shape
        shared = keys.shape[1] == 1
        q, k, v = self.q_proj(queries), self.k_proj(keys), self.v_proj(values)
        if shared:
            # every query answers for itself, so prompts on the same keys are just more queries
            q = q.reshape(batch, 1, prompts * length, -1)
        elif prompts == 1:
            prompts = keys.shape[1]
            q = q.expand(-1, prompts, -1, -1)
        x = attend(self._split(q), self._split(k), self._split(v)).transpose(1, 2).flatten(2)
        return self.out_proj(x.reshape(batch, prompts, length, -1))

    def _split(self, x: Tensor) -> Tensor:
        """(B, P, N, inner) -> (B * P, heads, N, size)."""
        return x.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
