"""What an answer costs, as if it were the only one asked.

A run asks a slice many things and encodes it once. So that "point" does not look cheaper than "box" because it came
second, every look is timed when it is first taken, and whoever takes it again is charged for it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from medsam.inference.network import Embedding, Look, Looker


@dataclass
class Bill:
    """looks: those taken, with the seconds each took when it was first encoded. rest: seconds of everything else."""

    looks: dict[Look, float] = field(default_factory=dict)
    rest: float = 0.0

    @property
    def seconds(self) -> float:
        return self.rest + sum(self.looks.values())

    @property
    def encoder_calls(self) -> int:
        """Images the encoder would have run on with an empty cache."""
        return len(self.looks)


class MeteredLooker(Looker):
    """A `Looker` that knows what its looks cost."""

    def __init__(self, look: Looker) -> None:
        # all that the other has prepared of the scan, without preparing it again
        vars(self).update(vars(look))
        self._costs: dict[Look, float] = {}
        self._bill = Bill()
        self._looking = 0.0

    def many(self, looks: Sequence[Look]) -> list[Embedding]:
        started = time.perf_counter()
        found = super().many(looks)
        spent = time.perf_counter() - started
        self._looking += spent
        # the scan's own window by its name or by default is one look
        alike = [Look(look.index, look.region, look.window or self.window) for look in looks]
        new = dict.fromkeys(look for look in alike if look not in self._costs)
        self._costs |= dict.fromkeys(new, spent / max(len(new), 1))
        for look in alike:
            self._bill.looks.setdefault(look, self._costs[look])
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
