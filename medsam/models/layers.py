"""Layers that several parts of SAM share, and gradient checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), eps 1e-6 as in SAM."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def channels_last(self, x: Tensor) -> Tensor:
        """The same for (..., C)."""
        # layer_norm keeps its statistics in fp32 whatever the precision of x; a hand-written mean would not
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Mlp(nn.Module):
    """Two linear layers, named as in the ViT and the decoder's transformer: lin1, activation, lin2."""

    def __init__(self, width: int, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.activation(self.lin1(x)))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(scale q k' + bias) v, for attention whose matrix of weights is small: windows, or few tokens.

    scale: default 1 / sqrt(size of q). Keeping the matrix makes the backward pass two to four times as fast as the
    fused kernels, which compute it again or check it for empty rows; without a gradient the fused kernel wins.
    """
    # an exported graph is fused by the engine that runs it
    if not q.requires_grad and not torch.compiler.is_exporting():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    weights = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    return (weights if bias is None else weights + bias).softmax(dim=-1) @ v


def init_transformer_weights(module: nn.Module) -> None:
    """Linear and embedding weights from a normal of std .02 cut at 2 std; biases zero. For `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def run_checkpointed(module: nn.Module, *inputs: Tensor) -> Any:
    """`module(*inputs)`, keeping only the inputs for the backward pass and computing the rest again then.

    Batch norms count every batch once: their running statistics rest during the second computation.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _resting_batch_norms(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _resting_batch_norms(module: nn.Module) -> Iterator[None]:
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d) and norm.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # with momentum 0 the same operations run, which checkpointing insists on, and change nothing
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = batches
