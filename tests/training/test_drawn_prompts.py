"""Clicks, strokes and rough masks drawn from the truth: where they fall, and what decides that."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.prompts.simulate import tight_box
from medsam.training.drawn_prompts import (
    ROUGH_DRAWS,
    STROKE_DRAWS,
    STROKE_POINTS,
    boxes_round,
    depth_weights,
    rough_masks,
    strokes,
    surroundings,
    weighted_points,
)

SIDE, SIZE = 64, 256


def scene() -> torch.Tensor:
    """(1, 4, SIDE, SIDE): a disc, a thin bar, two squares of one object, nothing."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    truth = torch.zeros(1, 4, SIDE, SIDE, dtype=torch.bool)
    truth[0, 0] = (x - 30) ** 2 + (y - 24) ** 2 <= 15**2
    truth[0, 1, 40, 3:60] = True
    truth[0, 2, 2:12, 2:12] = truth[0, 2, 50:62, 50:62] = True
    return truth


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def cells(xy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of the logit pixel whose centre is met, once half a pixel is added."""
    cell = (xy + 0.5) * SIDE / SIZE
    torch.testing.assert_close(cell - cell.floor(), torch.full_like(cell, 0.5))
    column, row = cell.floor().long().unbind(dim=-1)
    return row, column


def test_a_pixel_is_drawn_as_often_as_its_weight():
    weights = torch.zeros(1, 1, 4, 4)
    weights[0, 0, 0, 1], weights[0, 0, 2, 3], weights[0, 0, 3, 3] = 1.0, 2.0, 5.0
    even = (torch.arange(80) + 0.5)[None, None] / 80
    xy, found = weighted_points(weights, even, 4)
    assert found.all()
    counts = torch.bincount((xy[..., 1] * 4 + xy[..., 0]).flatten().long(), minlength=16)
    assert counts.reshape(4, 4).tolist() == (weights[0, 0] * 10).tolist()


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_the_ends_of_the_draw_are_in_the_region(number):
    weights = torch.zeros(1, 1, 256, 256)
    weights[0, 0, 100:140, 7:9] = 0.1
    xy, _ = weighted_points(weights, torch.full((1, 1, 1), number), 256)
    column, row = xy[0, 0, 0].long().tolist()
    assert weights[0, 0, row, column] > 0


def test_nothing_to_draw_from_is_said():
    _, found = weighted_points(torch.zeros(1, 2, 4, 4), uniform(1, 2, 3), 4)
    assert found.shape == (1, 2, 3)
    assert not found.any()


def test_deep_pixels_are_likelier():
    weights = depth_weights(scene())
    assert not weights[~scene()].any()
    disc = weights[0, 0]
    middle, edge = disc[24, 30], disc[24, 16]
    assert middle > 5 * edge > 0
    assert disc.argmax() == 24 * SIDE + 30


def test_surroundings_are_near_and_never_in_the_object():
    truth = scene()
    near = surroundings(truth)
    assert not (near & truth).any()
    assert near[0, 0, 24, 30 + 18]
    assert not near[0, 0, 24, 16 - 1]  # on the very edge
    assert not near[0, 1, 62, 30]  # 22 pixels away
    assert not near[0, 3].any()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_strokes_lie_in_the_object(seed):
    truth = scene()
    xy, labels = strokes(truth, uniform(1, 4, STROKE_DRAWS, seed=seed), SIZE)
    assert xy.shape == (1, 4, STROKE_POINTS, 2)
    row, column = cells(xy)
    for prompt in range(4):
        shown = labels[0, prompt] == 1
        assert truth[0, prompt, row[0, prompt, shown], column[0, prompt, shown]].all()
    assert ((labels == 1) | (labels == -1)).all()
    # the first end is in the object, and always shown
    assert (labels[0, :3, 0] == 1).all()
    assert (labels[0, 3] == -1).all()


def test_some_strokes_are_long_and_some_show_few_points():
    count = 300
    truth = scene()[:, :1].expand(1, count, -1, -1)
    xy, labels = strokes(truth, uniform(1, count, STROKE_DRAWS), SIZE)
    shown = (labels == 1).sum(dim=-1)
    assert set(shown[0].tolist()) >= {3, 4, 6, 12}
    length = (xy[0, :, 0] - xy[0, :, -1]).norm(dim=-1)
    assert length.max() > 80
    assert length.min() < 20


def test_a_rough_mask_is_like_the_object_and_not_the_object():
    truth = scene()[:, :3]
    dice = []
    for seed in range(20):
        rough = rough_masks(truth, uniform(1, 3, ROUGH_DRAWS, seed=seed))
        assert set(rough.unique().tolist()) == {-8.0, 8.0}
        there = rough > 0
        assert there.flatten(2).any(dim=2).all()
        dice.append(2 * (there & truth).sum((2, 3)) / (there.sum((2, 3)) + truth.sum((2, 3))))
    disc = torch.stack(dice)[:, 0, 0]
    assert 0.75 < disc.mean() < 0.97
    assert disc.max() < 1


def test_an_empty_object_has_an_empty_rough_mask():
    assert (rough_masks(scene()[:, 3:], torch.full((1, 1, ROUGH_DRAWS), 0.5)) < 0).all()


def test_boxes_are_tight():
    truth = scene()
    boxes = boxes_round(truth, SIZE)[0]
    for mask, box in zip(truth[0, :3], boxes, strict=False):
        expected = tight_box(mask.numpy())
        assert expected is not None
        assert (box * SIDE / SIZE).tolist() == list(expected)
    assert boxes[3].tolist() == [0, 0, 0, 0]
