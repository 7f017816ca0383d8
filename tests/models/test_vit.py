"""The ViT's parts against their definitions, written out slowly."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.models.specs import tiny_spec
from medsam.models.vit import RelativeAttention, VitEncoder, join_windows, split_windows


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_windows_can_be_undone(height, width, window):
    x = torch.arange(2 * height * width * 3.0).reshape(2, height, width, 3)
    windows = split_windows(x, window)
    assert windows.shape == (2 * -(-height // window) * -(-width // window), window, window, 3)
    assert torch.equal(join_windows(windows, window, height, width), x)


def test_windows_are_tiles_padded_with_zeros():
    x = torch.arange(1.0, 13).reshape(1, 3, 4, 1)
    windows = split_windows(x, 2)[..., 0]
    assert windows[0].tolist() == [[1, 2], [5, 6]]
    assert windows[3].tolist() == [[11, 12], [0, 0]]


@torch.no_grad()
def test_attention_is_softmax_of_products_and_relative_positions():
    torch.manual_seed(0)
    height, width, heads, size = 3, 3, 2, 4
    attention = RelativeAttention(heads * size, heads, side=3)
    torch.nn.init.normal_(attention.rel_pos_h)
    torch.nn.init.normal_(attention.rel_pos_w)
    x = torch.randn(1, height, width, heads * size)

    q, k, v = attention.qkv(x).reshape(height, width, 3, heads, size).unbind(2)
    expected = torch.zeros(height, width, heads, size)
    for head in range(heads):
        for y in range(height):
            for column in range(width):
                query = q[y, column, head]
                scores = torch.stack(
                    [
                        query @ k[ky, kx, head] / size**0.5
                        + query @ attention.rel_pos_h[y - ky + 2]
                        + query @ attention.rel_pos_w[column - kx + 2]
                        for ky in range(height)
                        for kx in range(width)
                    ]
                )
                expected[y, column, head] = scores.softmax(0) @ v[:, :, head].reshape(-1, size)
    torch.testing.assert_close(attention(x), attention.proj(expected.reshape(1, height, width, -1)))


@torch.no_grad()
def test_other_input_sizes_run_with_interpolated_positions():
    torch.manual_seed(0)
    encoder = VitEncoder(tiny_spec().encoder, 32).eval()
    assert encoder(torch.randn(1, 3, 96, 48)).shape == (1, 32, 12, 6)
