"""Counting by hand, on a clock that is set."""

from __future__ import annotations

from medsam.server.gate.throttle import Buckets, Lockouts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_a_minutes_worth_and_fills():
    clock = Clock()
    buckets = Buckets(60, clock)
    assert [buckets.wait("a") for _ in range(60)] == [0.0] * 60
    assert buckets.wait("a") == 1.0
    assert buckets.wait("b") == 0.0
    clock.now = 0.5
    assert buckets.wait("a") == 0.5
    clock.now = 1.0
    assert buckets.wait("a") == 0.0
    assert buckets.wait("a") == 1.0


def test_each_failure_locks_twice_as_long_as_the_one_before():
    clock = Clock()
    lockouts = Lockouts(free=2, first=1.0, most=10.0, clock=clock)
    waits = []
    for _ in range(8):
        lockouts.failed("a")
        waits.append(lockouts.wait("a"))
    assert waits == [0, 0, 1, 2, 4, 8, 10, 10]
    assert lockouts.wait("b") == 0
    clock.now = 10.0
    assert lockouts.wait("a") == 0
    lockouts.succeeded("a")
    lockouts.failed("a")
    assert lockouts.wait("a") == 0


def test_new_names_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("medsam.server.gate.throttle._REMEMBERED", 100)
    buckets, lockouts = Buckets(10), Lockouts(1)
    for number in range(1000):
        buckets.wait(number)
        lockouts.failed(number)
    assert len(buckets._buckets) == len(lockouts._guesses) == 100
