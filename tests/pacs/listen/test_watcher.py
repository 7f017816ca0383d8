import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from medsam.pacs.listen.names import SeriesKey
from medsam.pacs.listen.watcher import Watcher

A, B = SeriesKey("1.1", "1.2"), SeriesKey("1.1", "1.3")


def test_a_series_is_complete_when_nothing_has_come_for_the_quiet_time():
    watcher = Watcher(5)
    watcher.arrived(A, 10)
    assert watcher.take(14.9) == []
    assert watcher.wait(12) == 3
    watcher.arrived(A, 14.9)
    assert watcher.take(15) == []
    assert watcher.take(19.9) == [A]
    assert watcher.take(30) == []
    assert watcher.wait(30) is None


def test_series_that_come_in_turn_are_complete_each_in_its_own_time():
    watcher = Watcher(5)
    for second in range(4):
        watcher.arrived((A, B)[second % 2], second)
    assert watcher.take(7) == [A]
    assert watcher.take(8) == [B]


def test_the_slow_last_instance_of_a_sender_belongs_to_its_series():
    watcher = Watcher(5)
    watcher.arrived(A, 0, "ct")
    watcher.transfer("ct", 1, under_way=True)
    assert watcher.take(100) == []
    assert watcher.wait(100) is None
    watcher.arrived(A, 120, "ct")
    watcher.transfer("ct", 120, under_way=False)
    assert watcher.take(124) == []
    assert watcher.take(125) == [A]


def test_a_sender_that_leaves_in_the_middle_holds_nothing_up():
    watcher = Watcher(5)
    watcher.arrived(A, 0, "ct")
    watcher.transfer("ct", 1, under_way=True)
    watcher.gone("ct")
    assert watcher.take(5) == [A]


def test_the_work_of_one_sender_holds_up_no_series_of_another():
    watcher = Watcher(5)
    watcher.arrived(A, 0, "ct")
    watcher.arrived(B, 0, "mr")
    watcher.transfer("mr", 1, under_way=True)
    assert watcher.take(5) == [A]


def test_what_comes_during_the_work_makes_another_round():
    watcher = Watcher(5)
    watcher.arrived(A, 0)
    assert watcher.take(5) == [A]
    assert watcher.at_work == 1
    watcher.arrived(A, 6)
    assert watcher.newer(A)
    assert watcher.take(60) == []
    assert watcher.ended(A)
    assert watcher.take(60) == [A]
    assert not watcher.ended(A)
    assert watcher.is_idle(A)


def test_an_instance_that_was_there_wakes_nothing_and_keeps_a_series_open_that_arrives():
    watcher = Watcher(5)
    watcher.touched(A, 0)
    assert watcher.take(100) == []
    watcher.arrived(A, 100)
    watcher.touched(A, 104)
    assert watcher.take(108) == []
    assert watcher.take(109) == [A]


class Receiving(RuleBasedStateMachine):
    """Three senders and three series in any order; a list of what happened is the reference."""

    keys = st.sampled_from([A, B, SeriesKey("1.9", "1.10")])
    senders = st.sampled_from(["ct", "mr", "pet"])

    def __init__(self) -> None:
        super().__init__()
        self.watcher, self.now, self.quiet = Watcher(3.0), 0.0, 3.0
        # of each series: when something of it last came; its senders; what is at work
        self.last: dict = {}
        self.by: dict = {}
        self.busy: set = set()
        self.running: set = set()

    def _open(self, key) -> bool:
        return any(sender in self.busy and key in self.by.get(sender, ()) for sender in self.by)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 7.0]))
    def time_goes_on(self, seconds):
        self.now += seconds

    @rule(key=keys, sender=senders)
    def an_instance_arrives(self, key, sender):
        self.watcher.transfer(sender, self.now, under_way=True)
        self.watcher.arrived(key, self.now, sender)
        self.watcher.transfer(sender, self.now, under_way=False)
        self.busy.discard(sender)
        self.by.setdefault(sender, set()).add(key)
        self.last[key] = self.now
        for other in self.by[sender]:
            if other in self.last:
                self.last[other] = self.now

    @rule(sender=senders)
    def an_instance_begins(self, sender):
        self.watcher.transfer(sender, self.now, under_way=True)
        self.busy.add(sender)

    @rule(sender=senders)
    def a_sender_leaves(self, sender):
        self.watcher.gone(sender)
        self.busy.discard(sender)
        self.by.pop(sender, None)

    @rule()
    def look(self):
        expected = {
            key
            for key, when in self.last.items()
            if when + self.quiet <= self.now and key not in self.running and not self._open(key)
        }
        wait = self.watcher.wait(self.now)
        assert (wait == 0) == bool(expected)
        taken = self.watcher.take(self.now)
        assert set(taken) == expected
        assert len(taken) == len(expected)
        for key in taken:
            del self.last[key]
            self.running.add(key)

    @rule(key=keys)
    def work_ends(self, key):
        if key in self.running:
            self.running.discard(key)
            assert self.watcher.ended(key) == (key in self.last)

    @invariant()
    def nothing_is_lost(self):
        assert self.watcher.arriving == len(self.last)
        assert self.watcher.at_work == len(self.running)

    def teardown(self):
        # when all have left and all work is over, what came is complete after one quiet time
        for sender in ("ct", "mr", "pet"):
            self.watcher.gone(sender)
        for key in list(self.running):
            self.watcher.ended(key)
        left = self.watcher.wait(self.now)
        assert (left is None) == (not self.last)
        assert left is None or left <= self.quiet
        assert set(self.watcher.take(self.now + self.quiet)) == set(self.last)
        assert self.watcher.take(math.inf) == []


Receiving.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestReceiving = Receiving.TestCase
