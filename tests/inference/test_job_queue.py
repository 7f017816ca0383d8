"""Which case comes next: never more in work than the memory of a machine holds, and none overtakes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.inference.job_queue import queue_of


def test_a_large_case_waits_for_room_and_is_not_overtaken():
    sizes = [4, 5, 3, 20, 1]
    queue = queue_of(sizes, range(5), lambda size: size, {"a": 10, "b": 6})
    assert [queue.take("a"), queue.take("a"), queue.take("a"), queue.take("b")] == [0, 1, None, 2]
    assert queue.take("b") is None, "20 fits nowhere beside another"
    queue.give_back(2)
    assert queue.take("b") == 3, "alone it may"
    assert queue.take("b") is None
    queue.give_back(0)
    assert queue.take("a") == 4
    assert not queue


def test_a_case_whose_machine_has_gone_is_next():
    queue = queue_of("xyz", range(3), None, {})
    assert (queue.take(), queue.take()) == (0, 1)
    queue.give_back(0, again=True)
    assert [queue.take(), queue.take(), queue.take()] == [0, 2, None]


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 15), st.data())
def test_every_case_is_given_out_once_and_what_is_in_work_fits(sizes, room, data):
    queue = queue_of(sizes, range(len(sizes)), lambda size: size, {"": room})
    working, order = [], []
    while queue or working:
        number = queue.take()
        if number is None:
            queue.give_back(working.pop(data.draw(st.integers(0, len(working) - 1))))
            continue
        working.append(number)
        order.append(number)
        assert len(working) == 1 or sum(sizes[one] for one in working) <= room
    assert order == [*range(len(sizes))]
