"""Cases that wait for a worker: which comes next, and what became of each. Shared by every way to share work out."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from medsam.errors import Cancelled, MedSAMError
from medsam.progress import ProgressCallback

_Case = TypeVar("_Case", contravariant=True)
_Result = TypeVar("_Result", covariant=True)


class JobFailed(MedSAMError):
    """What would befall every further case, too, such as a full disk: raised by the work, it ends the whole job."""


class CaseWork(Protocol[_Case, _Result]):
    """What is done with a case. For several processes it is pickled, as are its cases and results."""

    def __call__(self, case: _Case, progress: ProgressCallback, /) -> _Result:
        """progress: to be called once a slice.

        Raises MedSAMError where the case is at fault, JobFailed where going on makes no sense.
        """
        ...


@dataclass(frozen=True)
class Workers:
    """Who shares the cases.

    processes: how many; on Ray None for as many as the cluster has room for. threads: of each, by default an equal
    share of this process's. memory: bytes that the scans in work at one time may need together, on each machine; None:
    what it has free. A scan that needs more is worked on alone. ray: None for processes of this machine, else the
    address of a Ray cluster, "auto" for the one that is there.
    """

    processes: int | None = 1
    threads: int | None = None
    memory: int | None = None
    ray: str | None = None


@dataclass(frozen=True)
class Ended:
    """What became of a case. failure: why there is no result. host: the machine it was on."""

    result: Any
    failure: str | None
    seconds: float
    host: str


def tried(work: CaseWork[Any, Any], case: Any, progress: ProgressCallback) -> Ended:
    """Do the work with a case. Raises what ends the whole job."""
    started = time.perf_counter()
    result, failure = None, None
    try:
        result = work(case, progress)
    except (Cancelled, JobFailed):
        raise
    except MedSAMError as error:
        failure = str(error)
    return Ended(result, failure, time.perf_counter() - started, platform.node())


@dataclass
class Waiting:
    """Numbers of cases in their order, given out while the memory that those in work need allows it.

    None overtakes: a large scan waits until there is room for it, and is not put off for ever by small ones.

    bytes_of: what the case of a number needs; None: nothing that counts. room: machine -> its bytes; one that is not
    there has room for all.
    """

    numbers: deque[int]
    bytes_of: Callable[[int], int] | None = None
    room: dict[str, int] = field(default_factory=dict)
    _taken: dict[int, tuple[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def take(self, machine: str = "") -> int | None:
        """The next case for a worker of this machine; None while there is no room, or no case."""
        if not self.numbers:
            return None
        number = self.numbers[0]
        size = 0 if self.bytes_of is None else self.bytes_of(number)
        there = [taken for where, taken in self._taken.values() if where == machine]
        if there and machine in self.room and sum(there) + size > self.room[machine]:
            return None
        self.numbers.popleft()
        self._taken[number] = (machine, size)
        return number

    def give_back(self, number: int, *, again: bool = False) -> None:
        """A case is no longer in work. again: it was not its fault, and it is next."""
        self._taken.pop(number, None)
        if again:
            self.numbers.appendleft(number)


def queue_of(
    cases: Sequence[Any], todo: Sequence[int], bytes_of: Callable[[Any], int] | None, room: dict[str, int]
) -> Waiting:
    """A queue of the cases with these numbers."""
    return Waiting(deque(todo), None if bytes_of is None else lambda number: bytes_of(cases[number]), room)
