"""How often somebody may ask, and how often guess a password. Kept in memory: a restart forgives."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
# how many are remembered, the latest ones: whoever asks under ever new names does not fill the memory
_REMEMBERED = 10_000


def remember(known: OrderedDict[Key, Any], key: Key) -> None:
    """Make `key` the latest of those that are known, and forget the earliest where they are too many."""
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


@dataclass
class _Bucket:
    left: float
    at: float


class Buckets:
    """A bucket a key, which fills by `per_minute` and holds that much at most."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock, self._lock = per_minute, clock, threading.Lock()
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def wait(self, key: Hashable) -> float:
        """Take one from a bucket; returns 0, or the seconds after which there is one, and takes nothing."""
        with self._lock:
            now = self._clock()
            bucket = self._buckets.setdefault(key, _Bucket(self._most, now))
            remember(self._buckets, key)
            bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._most / 60)
            bucket.at = now
            if bucket.left < 1:
                return (1 - bucket.left) * 60 / self._most
            bucket.left -= 1
            return 0.0

    def give_back(self, key: Hashable) -> None:
        """What was taken last should not have counted."""
        with self._lock:
            if (bucket := self._buckets.get(key)) is not None:
                bucket.left = min(self._most, bucket.left + 1)


@dataclass
class _Guesses:
    failures: int = 0
    until: float = 0.0
    last: float = 0.0


class Lockouts:
    """After `free` failures of a key each further one locks it, for twice as long as the one before.

    free: failures that cost nothing. first, most: seconds. A success, or a day without a failure, forgives.
    """

    def __init__(
        self, free: int, first: float = 1.0, most: float = 900.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._free, self._first, self._most, self._clock = free, first, most, clock
        self._guesses: OrderedDict[Hashable, _Guesses] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: Hashable) -> float:
        """Seconds until `key` may try again."""
        with self._lock:
            found = self._guesses.get(key)
            return max(0.0, found.until - self._clock()) if found is not None else 0.0

    def failed(self, key: Hashable) -> None:
        """Count a failure."""
        with self._lock:
            now = self._clock()
            found = self._guesses.setdefault(key, _Guesses(last=now))
            remember(self._guesses, key)
            if now - found.last > 86400:
                found.failures = 0
            found.failures, found.last = found.failures + 1, now
            if found.failures > self._free:
                # the exponent is bounded, so that the power is
                found.until = now + min(self._most, self._first * 2 ** min(20, found.failures - self._free - 1))

    def succeeded(self, key: Hashable) -> None:
        """Forget its failures."""
        with self._lock:
            self._guesses.pop(key, None)
