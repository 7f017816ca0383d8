"""Draws: fair, and the same however many processes share them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.training.sampler import ResumableSampler, _systematic


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=60),
    count=st.integers(1, 200),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_each_slice_is_drawn_as_often_as_expected_give_or_take_one(weights, count, seed):
    weights = np.array(weights)
    drawn = _systematic(weights, count, np.random.default_rng(seed))
    assert len(drawn) == count
    expected = weights / weights.sum() * count
    found = np.bincount(drawn, minlength=len(weights))
    assert len(found) == len(weights)
    assert np.abs(found - expected).max() < 1 + 1e-6


def test_slices_that_weigh_alike_all_come_before_one_comes_again():
    draws = ResumableSampler(np.ones(10), batch_size=4, draws=24, seed=3)
    numbers = [number for batch in draws for number, _ in batch]
    assert sorted(numbers[:10]) == sorted(numbers[10:20]) == list(range(10))
    assert numbers[:10] != numbers[10:20]


def test_draws_are_drawn_by_chance_in_the_long_run():
    """Each slice by its weight over many epochs, in no fixed order."""
    draws = ResumableSampler(np.array([1.0, 2.0, 5.0]), batch_size=2, draws=4, seed=0)
    total, firsts = np.zeros(3), Counter()
    for draws.epoch in range(400):
        numbers = [number for batch in draws for number, _ in batch]
        total += np.bincount(numbers, minlength=3)
        firsts[numbers[0]] += 1
    np.testing.assert_allclose(total / total.sum(), [1 / 8, 2 / 8, 5 / 8], atol=0.03)
    assert firsts[2] / 400 == pytest.approx(5 / 8, abs=0.08)


@given(
    size=st.integers(1, 30),
    batch_size=st.integers(1, 4),
    world=st.integers(1, 4),
    start=st.integers(0, 3),
    alike=st.booleans(),
)
@settings(deadline=None)
def test_processes_share_the_draws_of_one(size, batch_size, world, start, alike):
    weights = np.ones(size) if alike else np.arange(1.0, size + 1)
    each = batch_size * world
    alone = ResumableSampler(weights, each, 3 * each, seed=5)
    ranks = [ResumableSampler(weights, batch_size, 3 * each, 5, rank, world) for rank in range(world)]
    for draws in (alone, *ranks):
        draws.epoch, draws.start = 2, min(start, 3)
    batches = list(alone)
    assert len(batches) == max(0, 3 - start)
    assert [draw for batch in batches for _, draw in batch] == list(range((6 + start) * each, 9 * each))
    for step, together in enumerate(zip(*ranks, strict=True)):
        assert sorted(pair for batch in together for pair in batch) == sorted(batches[step])
        assert {len(batch) for batch in together} == {batch_size}
