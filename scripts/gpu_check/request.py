"""What is asked of a run, as it goes from the process that watches to the one that works; no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

# what a line of the worker's output that is for the watcher begins with; others are a library's talk
MARK = "@gpu-check "
# exit status of a worker that cannot run on the device it was asked for
REFUSED = 3


@dataclass(frozen=True)
class Request:
    """device: None for the accelerator there is, else the processor. quick: models of a few ten thousand weights.
    weights: LiteMedSAM's file, None for the cache's. parts: names, in order. ends: `time.time()` when it is over."""

    device: str | None
    quick: bool
    weights: str | None
    parts: tuple[str, ...]
    ends: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "parts": tuple(values["parts"])})


@dataclass(frozen=True)
class Part:
    """name: in the report and after --parts. needs_s: it is not begun with fewer seconds left (with --quick: any).
    checks: whether it compares answers, so that a run in which it breaks has not passed."""

    name: str
    needs_s: float
    checks: bool = False


# what says whether anything can be trusted first, what takes longest last
PARTS = (
    Part("machine", 0),
    Part("parity", 20, checks=True),
    Part("two_processes", 30, checks=True),
    Part("training_step", 30),
    Part("training_variants", 20),
    Part("encode", 15),
    Part("decode", 5),
    Part("compile", 45),
)
