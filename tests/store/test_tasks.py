from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from projects import mask, people, tasks

from medsam.errors import InputError
from medsam.store import tasks as queue
from medsam.store.project_records import NewTask
from medsam.store.readers import Role


def later(monkeypatch, **by) -> None:
    monkeypatch.setattr(queue, "now", lambda: datetime.now(UTC) + timedelta(**by))


def test_the_most_important_comes_first_and_is_kept_until_it_is_done(store):
    first, second, third = tasks(store)
    anna, ben, _ = people(store)
    store.order_tasks({second.id: 5.0})
    assert store.next_task(anna, 60).id == second.id
    assert store.next_task(anna, 60).id == second.id, "asked again, it is the same"
    assert store.next_task(ben, 60).id == first.id
    store.submit_task(second.id, anna, [mask(second.scan, 1)])
    assert store.next_task(anna, 60).id == third.id
    store.leave_task(third.id, anna)
    store.skip_task(first.id, ben, "no liver in it")
    assert store.next_task(ben, 60).id == third.id
    store.submit_task(third.id, ben, [])
    assert store.next_task(ben, 60) is None
    told = [event.kind for event in store.task_events(third.id)]
    assert told == ["made", "taken", "left", "taken", "submitted"]
    assert store.task_counts() == {("draw", "submitted"): 2, ("draw", "skipped"): 1}


def test_two_people_never_get_one_task(store):
    made = tasks(store, 40)
    anna, ben, rita = people(store)
    got: dict[str, list[int]] = {one.name: [] for one in (anna, ben, rita)}

    def work(reader) -> None:
        while (task := store.next_task(reader, 60)) is not None:
            got[reader.name].append(task.id)
            store.submit_task(task.id, reader, [])

    threads = [threading.Thread(target=work, args=(one,)) for one in (anna, ben, rita)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    done = [task for names in got.values() for task in names]
    assert sorted(done) == [one.id for one in made]
    assert len([event for event in store.task_events() if event.kind == "taken"]) == len(made)


# programs begun as copies of one that has read its libraries, which takes longer than all of their work
_WORK = """
import multiprocessing, os, sys
from pathlib import Path
from medsam.store.store import Store

def work(name, together):
    with Store.open(Path(sys.argv[1]), serving=False) as store:
        reader = store.user_named(name).reader
        together.wait()
        first = True
        while (task := store.next_task(reader, 60)) is not None:
            os.write(1, b"%d\\n" % task.id)
            store.submit_task(task.id, reader, [])
            if first:
                # nobody does all before another was given a turn
                together.wait()
                first = False

copies = multiprocessing.get_context("fork")
together = copies.Barrier(len(sys.argv) - 2, timeout=60)
programs = [copies.Process(target=work, args=(name, together)) for name in sys.argv[2:]]
for one in programs:
    one.start()
for one in programs:
    one.join()
sys.exit(any(one.exitcode for one in programs))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="copies of a program are made by fork")
def test_programs_that_ask_at_once_never_get_one_task(store):
    made = tasks(store, 40)
    names = [store.add_user(name, Role.READER, kind="proxy").name for name in ("Anna", "Ben", "Carl", "Dora")]
    command = [sys.executable, "-c", _WORK, str(store.folder), *names]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert sorted(map(int, said.split())) == [one.id for one in made]
    taken = [event.by for event in store.task_events() if event.kind == "taken"]
    assert len(taken) == len(made)
    assert len(set(taken)) == len(names)


def test_a_task_without_a_sign_of_life_comes_back(store, monkeypatch):
    (task,) = tasks(store, 1)
    anna, ben, _ = people(store)
    store.next_task(anna, 60)
    later(monkeypatch, seconds=50)
    store.keep_task(task.id, anna, 60)
    later(monkeypatch, seconds=100)
    assert store.next_task(ben, 60) is None, "she gave a sign"
    later(monkeypatch, seconds=120)
    store.keep_task(task.id, anna, 60)
    later(monkeypatch, seconds=200)
    assert store.next_task(ben, 60).id == task.id
    with pytest.raises(InputError, match="no longer yours"):
        store.submit_task(task.id, anna, [mask(task.scan, 1)])
    assert store.annotations_of(task.id) == []
    assert [event.kind for event in store.task_events(task.id)] == ["made", "taken", "expired", "taken"]


def test_a_clock_that_is_put_back_leaves_no_task_taken_for_longer_than_a_lease(store, monkeypatch):
    (task,) = tasks(store, 1)
    anna, ben, _ = people(store)
    later(monkeypatch, days=400)
    store.next_task(anna, 60)
    later(monkeypatch, days=0)
    assert store.next_task(ben, 60) is None, "she may be at work"
    later(monkeypatch, seconds=50)
    store.keep_task(task.id, anna, 60)
    later(monkeypatch, seconds=100)
    assert store.next_task(ben, 60) is None, "she gave a sign"
    later(monkeypatch, seconds=200)
    assert store.next_task(ben, 60).id == task.id


def test_what_is_late_but_nobody_elses_can_still_be_handed_in(store, monkeypatch):
    (task,) = tasks(store, 1)
    anna, _, _ = people(store)
    store.next_task(anna, 60)
    later(monkeypatch, seconds=600)
    assert len(store.submit_task(task.id, anna, [mask(task.scan, 1)])) == 1


def test_a_second_reading_is_by_somebody_else_and_a_decision_by_a_reviewer(store):
    (task,) = tasks(store, 1)
    anna, ben, rita = people(store)
    store.next_task(anna, 60)
    store.submit_task(task.id, anna, [mask(task.scan, 1)])
    second, decision = store.add_tasks(
        [
            NewTask(task.scan, ("liver",), "second", after=task.id),
            NewTask(task.scan, ("liver",), "adjudicate", after=task.id),
        ]
    )
    assert store.next_task(anna, 60) is None
    assert store.next_task(ben, 60).id == second.id
    assert store.next_task(rita, 60).id == decision.id


@pytest.mark.parametrize("drew", [0, 1], ids=["the first", "the second"])
def test_a_reviewer_who_drew_one_of_two_readings_does_not_decide_between_them(store, drew):
    (task,) = tasks(store, 1)
    anna, _, rita = people(store)
    olga = store.add_user("Olga", Role.REVIEWER, kind="proxy").reader
    readers = (rita, anna) if drew == 0 else (anna, rita)
    store.next_task(readers[0], 60)
    store.submit_task(task.id, readers[0], [mask(task.scan, 1)])
    (second,) = store.add_tasks([NewTask(task.scan, ("liver",), "second", after=task.id)])
    store.next_task(readers[1], 60)
    store.submit_task(second.id, readers[1], [mask(task.scan, 1, 1, 9)])
    (decision,) = store.add_tasks([NewTask(task.scan, ("liver",), "adjudicate", after=task.id)])
    assert store.next_task(rita, 60) is None
    with pytest.raises(InputError, match="somebody else's"):
        store.take_task(decision.id, rita, 60)
    assert store.next_task(olga, 60).id == decision.id


def test_reviewers_approve_or_return_to_who_did_it(store):
    (task,) = tasks(store, 1)
    anna, ben, rita = people(store)
    store.next_task(anna, 60)
    (row,) = store.submit_task(task.id, anna, [mask(task.scan, 1)])
    with pytest.raises(InputError, match="Reviewers"):
        store.review_task(task.id, ben, "approved")
    store.review_task(task.id, rita, "returned", "the left lobe is missing")
    (second,) = store.add_tasks([NewTask(task.scan, ("liver",), "second", after=task.id, priority=9.0)])
    assert store.next_task(ben, 60, ["draw"]) is None
    assert store.next_task(anna, 60).id == task.id, "also now a second reading is not for who did the first"
    store.withdraw_tasks([second.id], "seen")
    store.submit_task(task.id, anna, [mask(task.scan, 1, 1, 6)])
    (standing,) = store.standing(task.scan)
    assert (standing.mask.area, standing.id > row) == (25, True)
    approved = mask(task.scan, 1, status="approved", parent=standing.id)
    store.review_task(task.id, rita, "approved", annotations=[approved])
    assert [one.status for one in store.standing(task.scan)] == ["approved"]
    assert [event.kind for event in store.task_events(task.id)][-5:] == [
        "submitted",
        "returned",
        "taken",
        "submitted",
        "approved",
    ]


def test_what_was_approved_can_be_returned_and_stays_in_the_history(store):
    (task,) = tasks(store, 1)
    anna, _, rita = people(store)
    with pytest.raises(InputError, match="open, so there is nothing to return"):
        store.review_task(task.id, rita, "returned")
    store.next_task(anna, 60)
    made = store.submit_task(task.id, anna, [mask(task.scan, 1), mask(task.scan, 2, status="accepted")])
    rows = [mask(task.scan, n, status="approved", parent=row) for n, row in enumerate(made, start=1)]
    store.review_task(task.id, rita, "approved", annotations=rows)
    with pytest.raises(InputError, match="approved, so there is nothing to approve"):
        store.review_task(task.id, rita, "approved")
    store.review_task(task.id, rita, "returned", "the left lobe is missing")
    assert [(one.status, one.by) for one in store.standing()] == [("edited", anna.id), ("accepted", anna.id)]
    assert [one.status for one in store.history(task.scan, "liver", "k", 1)] == ["edited", "approved", "edited"]
    (line,) = store.effort("reader")
    assert (line.masks, line.untouched, line.clicks, line.timed) == (2, 1, 4, 2), "nobody drew anything again"
    event = store.task_events(task.id, ["returned"])[-1]
    assert (event.by, event.details["note"]) == (rita.id, "the left lobe is missing")
    assert store.next_task(anna, 60).id == task.id
    store.submit_task(task.id, anna, [mask(task.scan, 1, 1, 6)])
    assert [one.mask.area for one in store.standing()] == [25]


def test_nobody_reviews_what_they_did_themselves(store):
    (task,) = tasks(store, 1)
    _, _, rita = people(store)
    store.next_task(rita, 60)
    store.submit_task(task.id, rita, [mask(task.scan, 1)])
    for verdict in ("approved", "returned"):
        with pytest.raises(InputError, match="Nobody reviews what they did themselves"):
            store.review_task(task.id, rita, verdict)
    assert store.task(task.key).state == "submitted"


def test_what_was_returned_to_somebody_who_has_gone_is_anybodys(store):
    (task,) = tasks(store, 1)
    anna, ben, rita = people(store)
    store.next_task(anna, 60)
    store.submit_task(task.id, anna, [mask(task.scan, 1)])
    store.review_task(task.id, rita, "returned")
    (gold,) = store.add_tasks([NewTask(task.scan, ("liver",), "gold", reader=anna.id)])
    assert store.next_task(ben, 60) is None
    store.change_user(anna.id, active=False)
    assert store.next_task(ben, 60).id == task.id
    store.submit_task(task.id, ben, [])
    assert store.next_task(ben, 60) is None, "her gold task was about her"
    assert store.task(gold.key).state == "open"


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"structure": "spleen"}, "another scan or structure"), ({"index": 2}, "slices that the task does not ask for")],
)
def test_nothing_is_stored_of_what_was_not_asked_for(store, changes, says):
    (task,) = tasks(store, 1, slices=(1,))
    anna, _, _ = people(store)
    store.next_task(anna, 60)
    with pytest.raises(InputError, match=says):
        store.submit_task(task.id, anna, [mask(task.scan, 1), mask(task.scan, **{"index": 1, **changes})])
    assert (list(store.standing()), store.task(task.key).state) == ([], "taken")


def test_what_nobody_here_may_take_is_told_apart(store):
    first, other, third = tasks(store)
    me = store.local_reader()
    assert store.readers() == [me]
    store.next_task(me, 60)
    store.submit_task(first.id, me, [mask(first.scan, 1)])
    second, *_ = store.add_tasks(
        [
            NewTask(first.scan, ("liver",), "second", after=first.id),
            NewTask(other.scan, ("liver",), "audit"),
        ]
    )
    assert store.nobodys_tasks([me]) == {second.id: "second"}
    assert store.count_for(me) == 3
    assert store.count_to_review([me]) == 0, "nobody reviews what they did themselves"
    anna, ben, rita = people(store)
    assert store.readers() == [anna, ben, rita]
    assert store.nobodys_tasks(store.readers()) == {}
    assert (store.count_for(anna), store.count_for(rita)) == (3, 4)
    assert (store.count_to_review([anna]), store.count_to_review([rita])) == (0, 1)
    store.change_user(rita.id, active=False)
    assert store.nobodys_tasks(store.readers()).keys() == {task.id for task in store.tasks(kinds=["audit"])}
    assert third.id not in store.nobodys_tasks(store.readers())


def test_where_there_is_no_other_reviewer_one_of_the_two_readers_decides_and_that_is_written_down(store):
    (task,) = tasks(store, 1)
    anna, _, rita = people(store)
    store.next_task(rita, 60)
    store.submit_task(task.id, rita, [mask(task.scan, 1)])
    (second,) = store.add_tasks([NewTask(task.scan, ("liver",), "second", after=task.id)])
    store.next_task(anna, 60)
    store.submit_task(second.id, anna, [mask(task.scan, 1, 1, 9)])
    (decision,) = store.add_tasks([NewTask(task.scan, ("liver",), "adjudicate", after=task.id)])
    assert store.next_task(anna, 60) is None, "she is no reviewer"
    assert store.next_task(rita, 60).id == decision.id
    assert store.task_events(decision.id, ["taken"])[-1].details == {"own": True}
    store.leave_task(decision.id, rita)
    olga = store.add_user("Olga", Role.REVIEWER, kind="proxy").reader
    assert store.next_task(rita, 60) is None, "now there is another one"
    assert store.next_task(olga, 60).id == decision.id
    assert store.task_events(decision.id, ["taken"])[-1].details == {}
