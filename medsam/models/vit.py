"""SAM's ViT image encoder: windows, four global blocks, decomposed relative position.

Source: Kirillov et al. 2023 (arXiv 2304.02643); Li et al. 2022, ViTDet (2203.16527), for windows and the neck;
parameter names of the public checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsam.models.layers import LayerNorm2d, Mlp, init_transformer_weights, run_checkpointed
from medsam.models.specs import VitSizes


class VitEncoder(nn.Module):
    """(B, 3, S, S) -> (B, out_channels, S / patch, S / patch).

    Other input sizes run too, if multiples of the patch: positions are interpolated (absolute bicubic, relative
    linear). `gradient_checkpointing` computes each block again in the backward pass instead of keeping it.
    """

    def __init__(self, sizes: VitSizes, out_channels: int) -> None:
        super().__init__()
        side = sizes.embed_side
        self.gradient_checkpointing = False
        self.patch_embed = _PatchEmbed(sizes)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, sizes.width))
        self.blocks = nn.ModuleList(
            _Block(sizes, window=0 if index in sizes.global_blocks else sizes.window) for index in range(sizes.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(sizes.width, out_channels, kernel_size=1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )
        self.apply(init_transformer_weights)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        x = x + _positions(self.pos_embed, x.shape[1], x.shape[2])
        for block in self.blocks:
            x = run_checkpointed(block, x) if self.gradient_checkpointing else block(x)
        return self.neck(x.permute(0, 3, 1, 2))


class _PatchEmbed(nn.Module):
    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, sizes.width, kernel_size=sizes.patch, stride=sizes.patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Pre-norm transformer block on (B, H, W, C); `window` 0 attends over the whole grid."""

    def __init__(self, sizes: VitSizes, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.attn = RelativeAttention(sizes.width, sizes.heads, side=window or sizes.embed_side)
        self.norm2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = Mlp(sizes.width, sizes.mlp_width, F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        # rows of tokens between attentions: OpenVINO takes four axes for a picture, which cost 5 % in transpositions
        tokens = x.flatten(1, 2)
        attended = self.norm1(tokens).unflatten(1, (height, width))
        if self.window:
            windows = split_windows(attended, self.window)
            attended = join_windows(self.attn(windows), self.window, height, width)
        else:
            attended = self.attn(attended)
        tokens = tokens + attended.flatten(1, 2)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.unflatten(1, (height, width))


class RelativeAttention(nn.Module):
    """Self-attention on (B, H, W, C) with a bias from the row and the column distance of query and key.

    The bias q . R_h[dy] + q . R_w[dx] is never laid out as a (HW, HW) matrix. It is itself a dot product:
    of [q . R_h for every key row, q . R_w for every key column] with the one-hot row and column of the key. So
    query and key are lengthened by H + W entries and one `scaled_dot_product_attention` does the rest, exactly.
    Measured on two cores, one global block of ViT-B at 1024 px: 0.63 s and 0.3 GB against 0.74 s and 1.7 GB
    with the bias as `attn_mask`; forward and backward 2.4 s against 6.9 s.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        size = channels // self.heads
        # each (B, heads, H * W, size)
        q, k, v = self.qkv(x).reshape(batch, height * width, 3, self.heads, size).permute(2, 0, 3, 1, 4)

        grid = q.reshape(batch, self.heads, height, width, size)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, relative_table(self.rel_pos_h, height).to(q.dtype))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, relative_table(self.rel_pos_w, width).to(q.dtype))
        if torch.compiler.is_exporting():
            # OpenVINO fuses the written-out form: 1.1 s a global block of ViT-B where the longer keys take 2.1 s
            logits = ((q * size**-0.5) @ k.transpose(-2, -1)).unflatten(-1, (height, width))
            logits = logits + rows.flatten(2, 3)[..., None] + columns.flatten(2, 3)[..., None, :]
            x = logits.flatten(3).softmax(dim=-1) @ v
        else:
            x = self._fused(q * size**-0.5, k, v, rows.flatten(2, 3), columns.flatten(2, 3))
        return self.proj(x.transpose(1, 2).reshape(batch, height, width, channels))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """q (scaled), k, v (B, heads, N, size) and the bias of each key row and column (B, heads, N, H or W)."""
        height, width = rows.shape[-1], columns.shape[-1]
        row_of_key = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
        column_of_key = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
        place = torch.cat([row_of_key, column_of_key], dim=-1).expand(*k.shape[:2], -1, -1)
        # the fused CPU kernel needs values as long as keys; without it the (HW, HW) matrix would be back
        x = F.scaled_dot_product_attention(
            torch.cat([q, rows, columns], dim=-1),
            torch.cat([k, place], dim=-1),
            F.pad(v, (0, height + width)),
            scale=1.0,
        )
        return x[..., : v.shape[-1]]


def relative_table(table: Tensor, side: int) -> Tensor:
    """(2 * S - 1, C) by distance -> (side, side, C) by query and key; interpolated linearly when S differs."""
    if table.shape[0] != 2 * side - 1:
        resized = F.interpolate(table.T[None].float(), size=2 * side - 1, mode="linear")
        table = resized[0].T.to(table.dtype)
    position = torch.arange(side, device=table.device)
    return table[position[:, None] - position[None, :] + side - 1]


def split_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B * windows, window, window, C), zero-padded right and bottom to whole windows."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, window, window, channels)


def join_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Inverse of `split_windows`: the padding is cut off."""
    rows, columns = -(-height // window), -(-width // window)
    channels = windows.shape[-1]
    batch = windows.shape[0] // (rows * columns)
    x = windows.reshape(batch, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(batch, rows * window, columns * window, channels)[:, :height, :width]


def _positions(pos_embed: Tensor, height: int, width: int) -> Tensor:
    if pos_embed.shape[1:3] == (height, width):
        return pos_embed
    resized = F.interpolate(pos_embed.permute(0, 3, 1, 2).float(), size=(height, width), mode="bicubic")
    return resized.permute(0, 2, 3, 1).to(pos_embed.dtype)
