"""Which slices a training step gets: batches of draws that processes share and that a killed run takes up again.

A draw is (number of the slice, number of the draw); everything random about it comes from (seed, number of the draw).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler


class ResumableSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (slice, draw) for one process; all processes together take `world` batches' worth a step.

    weights: how often each slice is drawn, relatively. epoch, start: set by `ResumableLoader`.
    """

    def __init__(
        self, weights: np.ndarray, batch_size: int, draws: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.weights, self.batch_size, self.seed, self.rank, self.world = weights, batch_size, seed, rank, world
        self.steps = max(1, draws // (batch_size * world))
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        each = self.batch_size * self.world
        rng = np.random.default_rng([self.seed, self.epoch, 1])
        if np.ptp(self.weights) == 0:
            # alike: shuffled, so that none comes twice before all have come
            rounds = -(-self.steps * each // len(self.weights))
            numbers = np.concatenate([rng.permutation(len(self.weights)) for _ in range(rounds)])
        else:
            numbers = _systematic(self.weights, self.steps * each, rng)
        for step in range(self.start, self.steps):
            first = (self.epoch * self.steps + step) * each + self.rank
            places = range(step * each + self.rank, (step + 1) * each, self.world)
            yield [(int(numbers[place]), first + self.world * n) for n, place in enumerate(places)]


def _systematic(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` numbers drawn by weight, shuffled: each comes its expected number of times, give or take less than one.

    Plain draws would leave a third of the slices out of every epoch. Source: systematic sampling, Madow 1949.
    """
    order = rng.permutation(len(weights))
    edges = np.cumsum(weights[order]) / weights.sum() * count
    return rng.permutation(
        order[np.searchsorted(edges, np.arange(count) + rng.random(), side="right").clip(max=len(order) - 1)]
    )


class ResumableLoader(DataLoader):
    """A DataLoader over `ResumableSampler` that knows how far it is; Lightning keeps that in checkpoints."""

    _epoch, _done = 0, 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler = self.batch_sampler
        if not isinstance(sampler, ResumableSampler):
            raise TypeError("a ResumableLoader needs a batch_sampler of ResumableSampler")
        sampler.epoch, sampler.start = self._epoch, self._done
        for batch in super().__iter__():
            self._done += 1
            if self._done == sampler.steps:
                self._epoch, self._done = self._epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self._epoch, self._done = state["epoch"], state["done"]
        if self._done >= len(self):  # epochs have become shorter
            self.end_epoch()

    def end_epoch(self) -> None:
        """What is left of the epoch is left out."""
        if self._done:
            self._epoch, self._done = self._epoch + 1, 0
