from __future__ import annotations

from dataclasses import replace

import numpy as np
from projects import mask, people, tasks

from medsam.chances import CompactChances
from medsam.masks import CompactMask
from medsam.store.project_records import Effort, NewAnnotation, NewTask


def submit(store, reader, *masks):
    task = store.next_task(reader, 60)
    return task, store.submit_task(task.id, reader, masks)


def test_the_last_mask_of_a_place_stands_and_none_is_lost(store):
    (task, *_) = tasks(store)
    anna, _, _ = people(store)
    scan = task.scan
    (proposed, other) = store.add_annotations(
        [mask(scan, index, 0, 3, status="proposed", model="tiny", weights="ab") for index in (1, 2)]
    )
    assert [one.slice for one in store.standing(scan, ("proposed",))] == [1, 2]
    accepted = NewAnnotation(scan, "liver", "k", 1, "accepted", None, 2, proposed, "tiny", "ab", Effort(seconds=1.0))
    submit(store, anna, accepted, mask(scan, 3))
    assert [(one.slice, one.status, one.mask.area) for one in store.standing()] == [
        (1, "accepted", 9),
        (3, "edited", 16),
    ]
    (first, last) = store.history(scan, "liver", "k", 2)
    assert (first.id, first.status, last.status, last.parent) == (other, "proposed", "rejected", other)
    taken = store.history(scan, "liver", "k", 1)[-1]
    assert (taken.by, taken.model, taken.weights, taken.parent) == (anna.id, "tiny", "ab", proposed)
    assert list(store.standing(last=other)) == [], "as it was when the proposals had come"
    assert store.standing_counts() == {("liver", "accepted"): 1, ("liver", "edited"): 1, ("liver", "rejected"): 1}


def test_handing_in_again_takes_away_what_is_not_drawn_any_more(store):
    (task,) = tasks(store, 1)
    anna, _, rita = people(store)
    submit(store, anna, mask(task.scan, 1), mask(task.scan, 2), mask(task.scan, 1, structure="kidney"))
    store.review_task(task.id, rita, "returned")
    submit(store, anna, mask(task.scan, 2, 0, 2))
    assert [(one.structure, one.slice, one.mask.area) for one in store.standing()] == [("liver", 2, 4)]


def test_what_is_drawn_to_compare_is_no_mask_of_the_project(store):
    (task,) = tasks(store, 1)
    anna, ben, _ = people(store)
    submit(store, anna, mask(task.scan, 1))
    (second,) = store.add_tasks([NewTask(task.scan, ("liver",), "second", after=task.id)])
    submit(store, ben, mask(task.scan, 1, 0, 8), mask(task.scan, 2))
    assert [(one.slice, one.mask.area, one.by) for one in store.standing()] == [(1, 16, anna.id)]
    assert [one.mask.area for one in store.annotations_of(second.id)] == [64, 16]


def test_effort_is_summed_by_reader_structure_stage_and_round(store):
    first, second, _ = tasks(store)
    anna, ben, _ = people(store)
    (proposed,) = store.add_annotations([mask(second.scan, 5, status="proposed")])
    submit(store, anna, mask(first.scan, 1), mask(first.scan, 2), mask(first.scan, 1, structure="kidney"))
    one = store.begin_round({})
    store.round_event(one.number, "ended", {})
    accepted = NewAnnotation(second.scan, "liver", "k", 5, "accepted", None, 2, proposed, effort=Effort(seconds=0.5))
    submit(store, ben, accepted)

    def told(by):
        return [(line.key, line.masks, line.untouched, line.clicks, line.seconds) for line in store.effort(by)]

    assert told("reader") == [("Anna", 3, 0, 6, 12.0), ("Ben", 1, 1, 0, 0.5)]
    assert told("structure") == [("kidney", 1, 0, 2, 4.0), ("liver", 3, 1, 4, 8.5)]
    assert told("stage") == [("1", 3, 0, 6, 12.0), ("2", 1, 1, 0, 0.5)]
    assert told("round") == [("1", 3, 0, 6, 12.0), ("now", 1, 1, 0, 0.5)]
    assert store.efforts() == {by: store.effort(by) for by in ("reader", "structure", "stage", "round")}


def test_a_mask_that_is_handed_in_again_is_one_and_costs_what_both_times_did(store):
    (task,) = tasks(store, 1)
    anna, _, rita = people(store)
    scan = task.scan
    proposed = store.add_annotations([mask(scan, n, status="proposed") for n in (5, 6)])

    def taken(index, parent, status="accepted"):
        return NewAnnotation(scan, "liver", "k", index, status, None, 2, parent, effort=Effort(seconds=1.0))

    untouched = [taken(n, one) for n, one in zip((5, 6), proposed, strict=True)]
    _, rows = submit(store, anna, mask(scan, 1), mask(scan, 2), *untouched)
    (first,) = [(line.masks, line.untouched, line.clicks, line.seconds) for line in store.effort("reader")]
    assert first == (4, 2, 4, 10.0)
    one = store.begin_round({})
    store.round_event(one.number, "ended", {})
    store.review_task(task.id, rita, "returned")
    # as it was, drawn again, as it was proposed, and no longer so; one is new, and one came to nothing
    nothing = mask(scan, 7, 0, 0, status="rejected", effort=Effort(clicks=3))
    changed = mask(scan, 6, parent=rows[3])
    again = (taken(1, rows[0], "edited"), mask(scan, 2), taken(5, rows[2]), changed, mask(scan, 3), nothing)
    submit(store, anna, *again)
    assert {
        line.key: (line.masks, line.untouched, line.clicks, line.seconds, line.timed) for line in store.effort("round")
    } == {
        "1": (4, 1, 4, 10.0, 4),
        "now": (1, 0, 9, 14.0, 1),
    }
    for by in ("reader", "structure"):
        (line,) = store.effort(by)
        assert (line.masks, line.untouched, line.clicks, line.seconds, line.timed) == (5, 1, 13, 24.0, 5)
    assert [(line.key, line.masks) for line in store.effort("stage")] == [("1", 3), ("2", 2)]
    assert store.efforts() == {by: store.effort(by) for by in ("reader", "structure", "stage", "round")}


def test_on_how_many_slices_a_structure_stands_is_told_without_its_masks(store):
    one, other, _ = tasks(store)
    store.add_annotations([mask(one.scan, n) for n in range(3)])
    store.add_annotations([mask(other.scan, 1, structure="kidney", status="proposed")])
    store.add_annotations([mask(one.scan, 0, status="rejected")])
    assert store.standing_places() == {one.scan: {"liver": 2}}
    assert store.standing_places(["proposed"]) == {other.scan: {"kidney": 1}}
    store.add_annotations([mask(one.scan, 2)], store.local_reader())
    assert store.standing_places(people=True) == {one.scan: {"liver": 1}}


def test_how_likely_each_pixel_is_is_kept_with_what_is_proposed(store):
    (task,) = tasks(store, 1)
    bare = mask(task.scan, 1, status="proposed")
    chances = np.random.default_rng(0).random(bare.mask.shape)
    likely = replace(bare, slice=2, mask=CompactMask.of(chances > 0.5), likely=CompactChances.of(chances))
    ids = store.add_annotations([bare, likely])
    assert store.chances(ids) == {ids[1]: likely.likely}
    assert store.chances([]) == {}
    np.testing.assert_array_equal(store.chances(ids)[ids[1]].log_odds() > 0, store.annotation(ids[1]).mask.to_array())
