"""What a result costs, as if it were the only one asked for.

A run prompts a slice in many ways and encodes it once. So that "point" does not look cheaper than "box" because it came
second, every crop that was looked at counts with the seconds it took when it was first encoded (`Usage.crops`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from medsam.inference.usage import Usage


@dataclass
class Cost:
    """A running total. usage: what was run. elapsed_s: seconds of the calls, encoding and all."""

    usage: Usage = field(default_factory=Usage)
    elapsed_s: float = 0.0

    def add(self, usages: Iterable[Usage], elapsed_s: float) -> None:
        self.usage = sum(usages, self.usage)
        self.elapsed_s += elapsed_s

    @property
    def seconds(self) -> float:
        """What was not encoding, and every crop once."""
        return self.elapsed_s - self.usage.embed_s + sum(self.usage.crops.values())

    @property
    def encoder_calls(self) -> int:
        """Images the encoder would have run on with an empty cache."""
        return len(self.usage.crops)

    def shared(self, by: int) -> tuple[float, float]:
        """Seconds and encoder calls of each of so many."""
        return self.seconds / by, self.encoder_calls / by
