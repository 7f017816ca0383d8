"""TinyViT's attention against its definition; grids of the stages."""

from __future__ import annotations

import torch

from medsam.models.specs import SPECS
from medsam.models.tiny_vit import TinyVitEncoder, _WindowAttention


@torch.no_grad()
def test_bias_depends_on_row_and_column_distance():
    torch.manual_seed(0)
    window, heads, size = 3, 2, 4
    attention = _WindowAttention(heads * size, heads, window)
    torch.nn.init.normal_(attention.attention_biases)
    x = torch.randn(1, window, window, heads * size)

    # per head: query, key, value side by side
    q, k, v = attention.qkv(attention.norm(x)).reshape(9, heads, 3, size).unbind(2)
    expected = torch.zeros(9, heads, size)
    for head in range(heads):
        for i in range(9):
            bias = [
                attention.attention_biases[head, abs(i // 3 - j // 3) * window + abs(i % 3 - j % 3)] for j in range(9)
            ]
            scores = k[:, head] @ q[i, head] / size**0.5 + torch.stack(bias)
            expected[i, head] = scores.softmax(0) @ v[:, head]
    torch.testing.assert_close(attention(x)[0].reshape(9, -1), attention.proj(expected.reshape(9, -1)))


@torch.no_grad()
def test_litemedsam_grids_are_256_128_64_64():
    encoder = TinyVitEncoder(SPECS["litemedsam"].encoder, 256).eval()
    sides = []
    for stage in encoder.layers:
        stage.register_forward_pre_hook(lambda _, inputs: sides.append(tuple(inputs[0].shape[2:])))
    assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 256, 16, 16)
    assert sides == [(64, 64), (32, 32), (16, 16), (16, 16)]
