"""A job of a reading: a propagation, or a search for organs. What a client is told of it, and how it is stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

JobState = Literal["queued", "running", "done", "stopped", "failed"]


@dataclass
class Following:
    """id: for URLs. object: its number; None: structures are looked for without a prompt. done, total: slices, at most;
    total None before it runs. detail: why it failed.

    wanted: whether it is to go on; asked once a slice, on the worker's thread. stopped: once it has ended, slice -> why
    the object does not go on there, see `Propagation.stop_reasons`. turn: it begins on one thread and is stopped on
    another. structures: of a search that has ended, what became of each, see `organs.OrganRow`.
    """

    id: str
    object: int | None
    state: JobState = "queued"
    done: int = 0
    total: int | None = None
    detail: str | None = None
    wanted: bool = True
    stopped: dict[int, str] | None = None
    structures: list[dict[str, Any]] | None = None
    turn: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def runs(self) -> bool:
        """Whether it is under way, or will be."""
        return self.state in ("queued", "running")

    def begin(self) -> bool:
        """Its turn has come, on the worker's thread; False where it is not wanted any more."""
        with self.turn:
            if self.wanted:
                self.state = "running"
            return self.wanted

    def stop(self) -> None:
        """Not wanted any more: what it has found stays. One that has begun ends with its slice."""
        with self.turn:
            self.wanted = False
            if self.state == "queued":
                self.state = "stopped"

    def to_dict(self) -> dict[str, Any]:
        """As clients are told."""
        told: dict[str, Any] = {"id": self.id, "object": self.object, "state": self.state}
        stopped = None if self.stopped is None else {str(index): why for index, why in self.stopped.items()}
        told |= {"done": self.done, "total": self.total, "detail": self.detail, "stopped": stopped}
        return told | {"structures": self.structures}
