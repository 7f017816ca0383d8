from __future__ import annotations

import numpy as np
import pytest
import torch

from medsam.training.segmenter import DrawnSlices, changed, train_segmenter

SIDE = 64


def discs(count: int, seed: int, empty: int = 2) -> DrawnSlices:
    """A bright disc (1) beside a grey one (2), somewhere on dark noise; nothing on the first few slices."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((count, SIDE, SIDE), np.int64)
    for number in range(empty, count):
        y, x = random.uniform(20, 44), random.uniform(14, 30)
        labels[number][(rows - y) ** 2 + (columns - x) ** 2 < 64] = 1
        labels[number][(rows - y) ** 2 + (columns - x - 20) ** 2 < 64] = 2
    values = np.array([0.2, 0.8, 0.5])[labels] + random.normal(0, 0.05, labels.shape)
    images = torch.from_numpy(np.repeat(values[:, None], 3, 1)).float().clamp(0, 1)
    return DrawnSlices(images, torch.from_numpy(labels), torch.linspace(0, 1, count))


@pytest.mark.slow
def test_two_discs_are_learnt_and_found_where_they_never_were():
    network = train_segmenter(discs(12, 0), 2, steps=30, seed=0, width=8)
    other = discs(8, 1)
    with torch.inference_mode():
        found = network(other.images, other.places).argmax(1)
    for number in (1, 2):
        both = ((found == number) & (other.labels == number)).sum()
        assert 2 * both / ((found == number).sum() + (other.labels == number).sum()) > 0.6


def test_the_same_slices_steps_and_seed_give_the_same_weights():
    one, same, other = (train_segmenter(discs(6, 0), 2, steps=2, seed=seed, width=4) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_training_tells_how_far_it_is_and_leaves_chance_elsewhere_alone():
    before, told = torch.random.get_rng_state(), []
    train_segmenter(discs(4, 0), 2, steps=3, seed=0, width=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pixels_and_labels_are_moved_together_and_shares_stay_shares():
    drawn = discs(6, 0)
    targets = torch.nn.functional.one_hot(drawn.labels, 3).permute(0, 3, 1, 2).float()
    images, moved = changed(drawn.images, targets, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved.sum(1), torch.ones(6, SIDE, SIDE))
    assert not torch.equal(moved, targets)
    for number in range(2, 6):
        bright, grey, dark = (images[number, 1][moved[number, n] > 0.9].mean() for n in (1, 2, 0))
        assert bright > grey > dark, "each is still where its label says"


def test_slices_and_labels_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="labels"):
        DrawnSlices(torch.rand(2, 3, 64, 64), torch.zeros(2, 32, 32, dtype=torch.int64), torch.zeros(2))
