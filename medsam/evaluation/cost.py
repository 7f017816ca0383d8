"""What an answer costs, as if it were the only one asked.

A run asks a slice many things and encodes it once. So that "point" does not look cheaper than "box" because it came
second, every look is timed when it is first taken, and whoever takes it again is charged for it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from medsam.inference.image_predictor import Crop, Embedding, ScanEncoder


@dataclass
class Bill:
    """looks: those taken, with the seconds each took when it was first encoded. rest: seconds of everything else."""

    crops: dict[Crop, float] = field(default_factory=dict)
    rest: float = 0.0

    @property
    def seconds(self) -> float:
        return self.rest + sum(self.crops.values())

    @property
    def encoder_calls(self) -> int:
        """Images the encoder would have run on with an empty cache."""
        return len(self.crops)


class MeteredEncoder(ScanEncoder):
    """A `ScanEncoder` that knows what its looks cost."""

    def __init__(self, scan_encoder: ScanEncoder) -> None:
        # all that the other has prepared of the scan, without preparing it again
        vars(self).update(vars(scan_encoder))
        self._costs: dict[Crop, float] = {}
        self._bill = Bill()
        self._looking = 0.0

    def encode_many(self, crops: Sequence[Crop]) -> list[Embedding]:
        started = time.perf_counter()
        found = super().encode_many(crops)
        spent = time.perf_counter() - started
        self._looking += spent
        # the scan's own window by its name or by default is one look
        alike = [Crop(crop.index, crop.region, crop.window or self.window) for crop in crops]
        new = dict.fromkeys(crop for crop in alike if crop not in self._costs)
        self._costs |= dict.fromkeys(new, spent / max(len(new), 1))
        for crop in alike:
            self._bill.crops.setdefault(crop, self._costs[crop])
        return found

    @contextmanager
    def charge(self, bill: Bill) -> Iterator[None]:
        """Put what happens inside on `bill`."""
        before, self._bill = self._bill, bill
        started, looking = time.perf_counter(), self._looking
        try:
            yield
        finally:
            self._bill = before
            bill.rest += time.perf_counter() - started - (self._looking - looking)
