"""LiteMedSAM's image encoder: TinyViT with a stem at full resolution.

Source: Wu et al. 2022, TinyViT (arXiv 2207.10666); the LiteMedSAM checkpoint, whose stem is two 1x1 convolutions
and whose last patch merging keeps the resolution, so 256 px give grids of 256, 128, 64 and 64. Parameter names of
that checkpoint: `c` and `bn` for convolution and batch norm, `seq`, `layers.N.blocks.M`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsam.models.layers import LayerNorm2d, attend, init_transformer_weights, run_checkpointed
from medsam.models.specs import TinyVitSizes
from medsam.models.vit import join_windows, split_windows


class TinyVitEncoder(nn.Module):
    """(B, 3, S, S) -> (B, out_channels, S / 4, S / 4) with the published strides.

    Fully convolutional but for its windows, so other input sizes run too. `gradient_checkpointing` computes each
    block again in the backward pass instead of keeping it.
    """

    def __init__(self, sizes: TinyVitSizes, out_channels: int) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.patch_embed = _Stem(sizes.widths[0])
        self.layers = nn.ModuleList(_Stage(sizes, index) for index in range(len(sizes.widths)))
        self.neck = nn.Sequential(
            nn.Conv2d(sizes.widths[-1], out_channels, kernel_size=1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )
        self.apply(init_transformer_weights)

    def forward(self, images: Tensor) -> Tensor:
        # convolutions and tokens then share one layout: a fifth faster on two cores than channels first
        x = self.patch_embed(images.contiguous(memory_format=torch.channels_last))
        for stage in self.layers:
            x = stage(x, self.gradient_checkpointing)
        return self.neck(x)


class _ConvNorm(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, norm_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.bn.weight, norm_weight)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.c, self.bn
        if norm.training:
            return norm(conv(x))
        # a norm at rest is a scale and a shift, which the kernel takes over: a pass over the picture less, both ways
        scale = norm.weight * (norm.get_buffer("running_var") + norm.eps).rsqrt()
        shift = norm.bias - norm.get_buffer("running_mean") * scale
        weight = conv.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, shift, conv.stride, conv.padding, groups=conv.groups)


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(_ConvNorm(3, width // 2), nn.GELU(), _ConvNorm(width // 2, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.seq(images)


class _Stage(nn.Module):
    """Blocks of one resolution and the merging that leads to the next."""

    def __init__(self, sizes: TinyVitSizes, index: int) -> None:
        super().__init__()
        width, depth = sizes.widths[index], sizes.depths[index]
        self.attends = index > 0
        self.blocks = nn.ModuleList(
            _AttentionBlock(width, sizes.heads[index], sizes.windows[index], int(width * sizes.mlp_ratio))
            if self.attends
            else _MBConv(width, int(width * sizes.expand_ratio))
            for _ in range(depth)
        )
        last = index == len(sizes.widths) - 1
        self.downsample = None if last else _PatchMerging(width, sizes.widths[index + 1], sizes.strides[index])

    def forward(self, x: Tensor, gradient_checkpointing: bool) -> Tensor:
        if self.attends:
            x = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = run_checkpointed(block, x) if gradient_checkpointing else block(x)
        if self.attends:
            x = x.permute(0, 3, 1, 2)
        return x if self.downsample is None else self.downsample(x)


class _MBConv(nn.Module):
    """Inverted bottleneck; the last activation comes after the residual."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(width, hidden)
        self.conv2 = _ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        # a block starts as the identity
        self.conv3 = _ConvNorm(hidden, width, norm_weight=0.0)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return F.gelu(x + inner)


class _PatchMerging(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(inputs, outputs)
        self.conv2 = _ConvNorm(outputs, outputs, kernel=3, stride=stride, groups=outputs)
        self.conv3 = _ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class _AttentionBlock(nn.Module):
    """Window attention, a depthwise convolution, an MLP; on (B, H, W, C).

    Channels last throughout, and rows of tokens (B, H * W, C) in between: OpenVINO takes four axes for a picture and
    would store the second of them last, which cost a fifth of the time in transpositions.
    """

    def __init__(self, width: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _WindowAttention(width, heads, window)
        self.local_conv = _ConvNorm(width, width, kernel=3, groups=width)
        self.mlp = _NormedMlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        # zeros pad the windows before the attention's own norm, as published: padding is attended to
        windows = self.attn(split_windows(x, self.window))
        attended = join_windows(windows, self.window, height, width)
        tokens = x.flatten(1, 2) + attended.flatten(1, 2)
        picture = tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        tokens = self.local_conv(picture).permute(0, 2, 3, 1).flatten(1, 2)
        return (tokens + self.mlp(tokens)).unflatten(1, (height, width))


class _WindowAttention(nn.Module):
    """Self-attention on (B, w, w, C) with one learned bias a head for each |dy|, |dx|."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, windows: Tensor) -> Tensor:
        batch, window, _, channels = windows.shape
        x = self.norm(windows.reshape(batch, window * window, channels))
        qkv = self.qkv(x).reshape(batch, window * window, self.heads, 3, -1)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)

        # gathered anew each time: a kept copy would be stale after an optimiser step
        position = torch.arange(window, device=x.device)
        distance = (position[:, None] - position[None, :]).abs()
        index = distance[:, None, :, None] * window + distance[None, :, None, :]
        bias = self.attention_biases[:, index.reshape(window * window, window * window)]

        x = attend(q, k, v, bias.to(q.dtype)[None])
        x = self.proj(x.transpose(1, 2).reshape(batch, window * window, channels))
        return x.reshape(batch, window, window, channels)


class _NormedMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))
