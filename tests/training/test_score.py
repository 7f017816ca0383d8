"""Volume Dice of cases that come slice by slice."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from medsam.training.score import MASK_THRESHOLDS, VolumeDice, best_threshold


def mask(*pixels: int) -> torch.Tensor:
    """A 2 x 4 slice with these of its eight pixels."""
    flat = torch.zeros(8, dtype=torch.bool)
    flat[list(pixels)] = True
    return flat.view(2, 4)


def test_a_volume_is_scored_as_a_whole_and_not_slice_by_slice():
    book = VolumeDice(1, 1, 1)
    # 1 of 1 and 1, then 0 of 4 and 3
    book.update(mask(0)[None, None], mask(0)[None], 0, [0])
    book.update(mask(0, 1, 2, 3)[None, None], mask(4, 5, 6)[None], 0, [0])
    assert book.compute().tolist() == [[pytest.approx(2 * 1 / (2 + 7))]]


def test_one_structure_asked_for_in_one_way_is_a_table_too():
    book = VolumeDice(1, 1, 1)
    book.update(mask(0)[None, None], mask(0)[None], 0, [0])
    for each in (book, book.clone(), pickle.loads(pickle.dumps(book))):
        assert each.compute().shape == (1, 1)


def test_structures_cases_and_ways_are_kept_apart():
    book = VolumeDice(2, 2, 2)
    # case 0: both structures on a slice, the second named first; way 0 is perfect, way 1 half wrong
    answers = torch.stack([torch.stack([mask(6, 7), mask(0, 1)]), torch.stack([mask(6), mask(0, 1, 2, 3)])])
    book.update(answers, torch.stack([mask(6, 7), mask(0, 1)]), 0, [1, 0])
    # case 1: the first structure alone; way 0 finds nothing
    book.update(torch.stack([mask()[None], mask(0, 1, 2)[None]]), mask(0)[None], 1, [0])
    found = book.compute()
    assert found[0].tolist() == pytest.approx([(1 + 0) / 2, 1])
    assert found[1].tolist() == pytest.approx([(2 * 2 / 6 + 2 * 1 / 4) / 2, 2 * 1 / 3])


def test_what_no_case_has_is_nan():
    book = VolumeDice(1, 2, 3)
    book.update(mask(0)[None, None], mask(0)[None], 1, [2])
    first, second, third = book.compute()[0].tolist()
    assert math.isnan(first)
    assert math.isnan(second)
    assert third == 1


def test_a_structure_asked_for_twice_on_a_slice_counts_twice():
    book = VolumeDice(1, 1, 1)
    book.update(torch.stack([mask(0), mask(1, 2)])[None], torch.stack([mask(0), mask(3)]), 0, [0, 0])
    assert book.compute().item() == pytest.approx(2 * 1 / (2 + 3))


def test_processes_add_up():
    """As DDP does it: the sums of every state, then one computation."""
    generator = torch.Generator().manual_seed(0)
    alone, shares = VolumeDice(2, 3, 2), [VolumeDice(2, 3, 2) for _ in range(2)]
    for number in range(9):
        answers = torch.rand(2, 2, 5, 7, generator=generator) > 0.5
        truths = torch.rand(2, 5, 7, generator=generator) > 0.5
        for book in (alone, shares[number % 2]):
            book.update(answers, truths, number % 3, [0, 1])
    together = VolumeDice(2, 3, 2)
    for name in ("overlap", "pixels"):
        assert alone._reductions[name] is not None, "Lightning adds up only what says how"
        parts = torch.stack([getattr(book, name) for book in shares])
        setattr(together, name, alone._reductions[name](parts))
    together._update_count = 1
    assert torch.equal(together.compute(), alone.compute())


def test_large_volumes_are_counted_exactly():
    book = VolumeDice(1, 1, 1)
    whole = torch.ones(1, 1, 5000, 5000, dtype=torch.bool)
    book.update(whole, whole[0], 0, [0])
    book.update(mask(0)[None, None], mask(1)[None], 0, [0])
    # beyond 2 ** 24 single precision cannot count to one more
    assert book.pixels.item() == 50_000_002
    assert book.compute().item() == 50_000_000 / 50_000_002
    book.reset()
    assert not book.pixels.any()


@pytest.mark.parametrize(
    ("dice", "best"),
    [
        ({-1.0: 0.80, 0.0: 0.75, 1.0: 0.70}, -1.0),
        ({-1.0: 0.801, 0.0: 0.80, 1.0: 0.70}, 0.0),  # a thousandth is nothing
        ({-2.0: 0.9, -1.0: 0.899, 0.0: 0.8}, -1.0),
        ({-1.0: math.nan, 0.0: 0.5, 1.0: 0.6}, 1.0),
        ({-1.0: math.nan, 0.0: math.nan}, 0.0),
        ({0.5: 0.1}, 0.5),
    ],
)
def test_the_threshold_with_the_highest_dice_or_the_nearest_to_zero_that_is_as_good(dice, best):
    assert best_threshold(dice) == best


def test_the_threshold_of_sam_is_among_those_that_are_tried():
    assert 0 in MASK_THRESHOLDS
