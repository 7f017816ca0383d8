"""Image embedding and prompt tokens -> mask logits and predicted IoU.

Source: Kirillov et al. 2023 (arXiv 2304.02643), appendix A, "Lightweight mask decoder"; parameter names of the
public checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, arange, cat, nn, stack
from torch.nn import functional as F

from medsam.models.layers import LayerNorm2d, Mlp, attend, init_transformer_weights, run_checkpointed
from medsam.models.specs import DecoderSizes


class ImageTokens(NamedTuple):
    """What an answer needs of the image, whatever the prompt: B images, P prompts with masks (1: without any).

    keys: (B, P, N, C), the image's tokens. key, value: what tokens look at in the first layer; query: what the image
    asks there; (B, P, N, C / 2) each.
    """

    keys: Tensor
    key: Tensor
    value: Tensor
    query: Tensor


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
        self,
        image: ImageTokens,
        positions: Tensor,
        tokens: Tensor | None,
        prompts: int,
        multimask: bool | None,
        cells: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer `prompts` = P prompts on each of B images.

        image: of `precompute`. positions: (h, w, C). tokens: (B, P, T, C) or None.
        cells: (B, P, n) numbers of the grid's cells, row by row, whose logits are wanted. Up-sampling is most of what
        is left to do and looks at one cell at a time, so cells that are not requested cost nothing.
        Returns logits (B, P, M, 4h, 4w), with `cells` (B, P, M, n, 4, 4), and the predicted IoU (B, P, M), M = 1
        (token 0), the remaining tokens, or all with token 0 first (`multimask` None). It is a plain linear output and
        can leave [0, 1].
        """
        logits, predicted_iou, _ = self.summarised(image, positions, tokens, prompts, multimask, cells)
        return logits, predicted_iou

    def summarised(
        self,
        image: ImageTokens,
        positions: Tensor,
        tokens: Tensor | None,
        prompts: int,
        multimask: bool | None,
        cells: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward`, and what the token of the predicted IoU has become, (B, P, C): it has seen prompt and image."""
        height, width = positions.shape[:2]
        batch = image.keys.shape[0]
        output_tokens = cat([self.iou_token.weight, self.mask_tokens.weight])
        queries = output_tokens.expand(batch, prompts, -1, -1)
        if tokens is not None:
            queries = cat([queries, tokens], dim=2)

        queries, keys = self.transformer(queries, image, positions.flatten(0, 1), self.gradient_checkpointing)

        if cells is not None:
            first = arange(batch * prompts, device=cells.device).view(batch, prompts, 1) * (height * width)
            keys = keys.flatten(0, 2)[(cells + first).flatten()].unflatten(0, (batch, prompts, -1))
        upscaled = self._upscaled(keys)
        wanted = slice(None) if multimask is None else slice(1, None) if multimask else slice(0, 1)
        heads = [head(queries[:, :, 1 + index]) for index, head in enumerate(self.output_hypernetworks_mlps)]
        # every head runs so that every weight has a gradient, whichever masks are wanted
        logits = upscaled @ stack(heads, dim=3)[..., wanted]
        summary = queries[:, :, 0]
        predicted_iou = self.iou_prediction_head(summary)[:, :, wanted]
        if cells is not None:
            # (B, P, n, row of two, column of two, row of two, column of two, M)
            logits = logits.unflatten(2, (-1, 2, 2, 2, 2)).permute(0, 1, 7, 2, 3, 5, 4, 6)
            return logits.flatten(4, 5).flatten(5, 6), predicted_iou, summary
        # (B, P, row, column, row of two, column of two, row of two, column of two, M)
        logits = logits.unflatten(2, (height, width, 2, 2, 2, 2)).permute(0, 1, 8, 2, 4, 6, 3, 5, 7)
        return logits.reshape(batch, prompts, -1, 4 * height, 4 * width), predicted_iou, summary

    def precompute(self, image: Tensor, positions: Tensor) -> ImageTokens:
        """What the first layer makes of the image alone; the same for every prompt without a mask.

        image: embedding with the dense prompt added, (B, P, C, h, w), or (B, 1, C, h, w) when no prompt has a mask:
        then all prompts of an image share it. positions: (h, w, C).
        """
        keys = image.flatten(3).transpose(2, 3)
        first = cast(_TwoWayLayer, self.transformer.layers[0])
        placed = keys + positions.flatten(0, 1)
        return ImageTokens(
            keys,
            first.cross_attn_token_to_image.k_proj(placed),
            first.cross_attn_token_to_image.v_proj(keys),
            first.cross_attn_image_to_token.q_proj(placed),
        )

    def _upscaled(self, keys: Tensor) -> Tensor:
        """Tokens of the image (B, P, N, C) -> (B, P, N * 16, C / 8): each the four by four pixels it becomes.

        A transposed convolution whose stride is its kernel is one linear map a pixel; as such it needs no copies into
        another layout, and the backward pass takes half the time (docs/results/README.md).
        """
        first, norm, _, second, _ = cast(Iterable[Any], self.output_upscaling)
        x = _split_pixel(first, keys)
        # three axes, as in `_TwoWayLayer`
        x = F.gelu(norm.channels_last(x.flatten(0, 2))).view(x.shape)
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

    The first `outputs` tokens, of quality and masks, come back; the prompt's have done their work. Queries are
    (B, P, T, C), the image's keys (B, P, N, C), or (B, 1, N, C) before the first layer; positions (N, C).
    """

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TwoWayLayer(sizes, first=index == 0) for index in range(sizes.layers))
        self.outputs = 1 + sizes.mask_tokens
        self.final_attn_token_to_image = _TokenToImage(sizes.width, sizes.width // 2, sizes.heads)
        self.norm_final_attn = nn.LayerNorm(sizes.width)

    def forward(
        self, tokens: Tensor, image: ImageTokens, positions: Tensor, gradient_checkpointing: bool
    ) -> tuple[Tensor, Tensor]:
        queries, keys = tokens, image.keys
        for number, layer in enumerate(self.layers):
            arguments = (queries, keys, tokens, positions, *(image[1:] if number == 0 else ()))
            queries, keys = run_checkpointed(layer, *arguments) if gradient_checkpointing else layer(*arguments)
        queries, tokens = queries[:, :, : self.outputs], tokens[:, :, : self.outputs]
        attended = self.final_attn_token_to_image(queries + tokens, keys + positions, keys)
        return self.norm_final_attn(queries + attended), keys


class _TwoWayLayer(nn.Module):
    def __init__(self, sizes: DecoderSizes, first: bool) -> None:
        super().__init__()
        width, heads = sizes.width, sizes.heads
        self.first = first
        self.self_attn = _Attention(width, width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = _TokenToImage(width, width // 2, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, sizes.mlp_width, F.relu)
        self.norm3 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = _ImageToToken(width, width // 2, heads)
        self.norm4 = nn.LayerNorm(width)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        tokens: Tensor,
        positions: Tensor,
        key_of_image: Tensor | None = None,
        value_of_image: Tensor | None = None,
        query_of_image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The last three: the first layer's projections of the image, (B, P or 1, N, C / 2), see `ImageTokens`."""
        if self.first:
            # the queries are the tokens themselves: published without their own position and without a residual
            queries = self.norm1(self.self_attn(queries, queries, queries))
        else:
            placed = queries + tokens
            queries = self.norm1(queries + self.self_attn(placed, placed, queries))

        to_image, to_tokens = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        if key_of_image is None or value_of_image is None or query_of_image is None:
            placed_keys = keys + positions
            queries = self.norm2(queries + to_image(queries + tokens, placed_keys, keys))
            queries = self.norm3(queries + self.mlp(queries))
            attended = to_tokens(placed_keys, queries + tokens, queries)
        else:
            queries = self.norm2(queries + to_image.projected(queries + tokens, key_of_image, value_of_image))
            queries = self.norm3(queries + self.mlp(queries))
            attended = to_tokens.projected(query_of_image, queries + tokens, queries)
        found = keys + attended
        # of three axes OpenVINO makes one kernel, of four it makes four passes
        return queries, self.norm4(found.flatten(0, 1)).unflatten(0, found.shape[:2])


class _Attention(nn.Module):
    """Multi-head attention on (B, P, N, C), computed in `inner` channels."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return self._joined(attend(self._split(self.q_proj(queries)), *self._keys_and_values(keys, values)))

    def _keys_and_values(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.k_proj(keys)), self._split(self.v_proj(values))

    def _split(self, x: Tensor) -> Tensor:
        """(B, P, N, inner) -> (B, P, heads, N, size)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def _joined(self, x: Tensor) -> Tensor:
        """(B, P, heads, N, size) -> (B, P, N, C)."""
        return self.out_proj(x.transpose(2, 3).flatten(3))

    def _by_head(self, layer: nn.Linear) -> Tensor:
        """Weights (inner, C) -> (heads, size, C)."""
        return layer.weight.unflatten(0, (self.heads, -1))

    def _few(self, tokens: Tensor) -> bool:
        """Whether heads x tokens are fewer than the channels the image would be projected to.

        Not in training: there the bias of the keys would have no gradient at all, which DDP waits for, and bfloat16
        gradients are nearer to float32 in the published order. An exported graph works for any number of tokens and was
        made for few.
        """
        if torch.compiler.is_exporting():
            return True
        return not torch.is_grad_enabled() and self.heads * tokens.shape[2] < self.k_proj.out_features


class _TokenToImage(_Attention):
    """A few tokens (B, P, T, C) look at the whole image (B, P, N, C).

    q (W x)' is (q W) x': to move the image's projections over to the tokens gives the same answer, for
    heads x T instead of `inner` multiplications a pixel and channel. With a box, heads x T is 56 and `inner` 128.
    """

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if not self._few(queries):
            return super().forward(queries, keys, values)
        q = self._split(self.q_proj(queries))
        # the bias of the keys adds the same to every pixel's logit, which a softmax does not see
        moved, scale = (q @ self._by_head(self.k_proj)).flatten(2, 3), q.shape[-1] ** -0.5
        if torch.compiler.is_exporting():
            # a fifth axis keeps OpenVINO from its own fused attention, which takes half as long again for keys so many
            seen = attend(moved[:, :, None], keys[:, :, None], values[:, :, None], scale=scale)[:, :, 0]
        else:
            seen = attend(moved, keys, values, scale=scale)
        x = seen.unflatten(2, (self.heads, -1)) @ self._by_head(self.v_proj).transpose(1, 2)
        # weights that add up to 1 leave the bias of the values as it is
        return self._joined(x + self.v_proj.bias.unflatten(0, (self.heads, 1, -1)))

    def projected(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The same with keys and values (B, P, N, inner) that are projected already; P = 1: shared by all prompts."""
        prompts, length = queries.shape[1:3]
        q = self._split(self.q_proj(queries))
        if keys.shape[1] == 1:
            # every query answers for itself, so prompts on the same keys are just more queries
            q = q.transpose(1, 2).flatten(2, 3)[:, None]
            x = attend(q, self._split(keys), self._split(values))[:, 0]
            return self._joined(x.unflatten(2, (prompts, length)).transpose(1, 2))
        return self._joined(attend(q, self._split(keys), self._split(values)))


class _ImageToToken(_Attention):
    """The whole image (B, P, N, C) looks at a few tokens (B, P, T, C); see `_TokenToImage`."""

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if not self._few(keys):
            return super().forward(queries, keys, values)
        k, v = self._keys_and_values(keys, values)
        k = k * k.shape[-1] ** -0.5
        moved = k @ self._by_head(self.q_proj)
        bias = k @ self.q_proj.bias.unflatten(0, (self.heads, -1, 1))
        return self._spread(queries @ moved.flatten(2, 3).transpose(2, 3) + bias.flatten(2)[:, :, None], v)

    def projected(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The same with queries (B, P, N, inner) that are projected already; P = 1: shared by all prompts."""
        k, v = self._keys_and_values(keys, values)
        # one product for all heads: each head's keys stand where the other heads' channels meet zeros
        heads = torch.eye(self.heads, dtype=k.dtype, device=k.device)[:, None, :, None]
        apart = heads * (k * k.shape[-1] ** -0.5).transpose(3, 4)[..., None, :]
        return self._spread(queries @ apart.flatten(4, 5).flatten(2, 3), v)

    def _spread(self, logits: Tensor, values: Tensor) -> Tensor:
        """Logits (B, P, N, heads * T) and values (B, P, heads, T, size) -> (B, P, N, C)."""
        weights = logits.unflatten(-1, (self.heads, -1)).softmax(dim=-1).flatten(3)
        out = self.out_proj.weight.unflatten(1, (self.heads, -1)).permute(1, 2, 0)
        # each head's weights add up to 1, so the bias can go in with the few values instead of over the image
        return weights @ (values @ out + self.out_proj.bias / self.heads).flatten(2, 3)
