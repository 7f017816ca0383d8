from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from stores import document, drawn, square, upload

from medsam._version import __version__
from medsam.errors import InputError
from medsam.masks import CompactMask
from medsam.store.readers import Role
from medsam.store.records import ReadingLine, Work
from medsam.store.store import Store

SMALL, LARGE, NOTHING = square(2, 4), square(1, 7), CompactMask.of(square(0, 1).to_array() & False)


def seen(store, reading):
    """(object, slice) -> the mask that is seen."""
    return {(one.object, one.slice): one.mask for one in store.masks(reading.id)}


def test_a_session_says_what_its_masks_depend_on(store, reader, case, reading):
    assert (reading.case, reading.user, reading.closed_at) == (case.id, reader.id, None)
    assert (reading.model, reading.weights, reading.voxels, reading.axis) == ("tiny", "ab" * 32, "cd" * 32, "k")
    assert (reading.medsam, reading.document) == (__version__, document())
    assert timedelta(0) <= datetime.now(UTC) - reading.began_at < timedelta(minutes=1)
    assert reading.began_at.utcoffset() == timedelta(0)
    assert store.revision(reading.id) == 0
    assert store.reading(reader, reading.key) == reading
    assert store.readings(reader) == store.readings(reader, case.id) == [reading]


def test_a_document_that_is_none_begins_no_session(store, reader, case):
    with pytest.raises(InputError, match="no document of a session"):
        store.open_reading(case.id, reader, {"model": "tiny"})
    assert store.readings(reader) == []


def test_sessions_are_their_readers_and_reviewers_may_look(store, reading):
    other = store.add_user("other", Role.READER, kind="proxy").reader
    reviewer = store.add_user("reviewer", Role.REVIEWER, kind="proxy").reader
    assert store.reading(other, reading.key) is None
    assert store.reading(reviewer, reading.key) == reading
    assert store.readings(reviewer) == []
    assert store.reading(reviewer, "unknown") is None


def test_a_closed_session_keeps_all_takes_no_more_and_is_listed_on_request(store, reader, reading):
    store.append_step(reading.id, reader, "prompt", masks=[drawn(1, SMALL)])
    assert store.close_reading(reading.id, reader) == 2
    assert store.readings(reader) == []
    (closed,) = store.reading_lines(reader, closed=True, most=2)
    assert closed.closed_at is not None
    for call in (
        lambda: store.close_reading(reading.id, reader),
        lambda: store.append_step(reading.id, reader, "prompt"),
        lambda: store.append_masks(reading.id, reader, 1, [drawn(1, LARGE)]),
        lambda: store.add_object(reading.id, reader, "liver", "#aa0000"),
    ):
        with pytest.raises(InputError, match="is closed"):
            call()
    assert seen(store, reading) == {(1, 1): SMALL}
    assert store.revision(reading.id) == 2


def test_objects_are_their_last_event(store, reader, reading):
    liver = store.add_object(reading.id, reader, "liver", "#aa0000")
    kidney = store.add_object(reading.id, reader, "kidney", "#00aa00", visible=False)
    assert (liver.number, liver.revision, kidney.number, kidney.revision) == (1, 1, 2, 2)
    renamed = store.change_object(reading.id, reader, 2, name="left kidney", visible=True)
    assert (renamed.name, renamed.colour, renamed.visible, renamed.revision) == ("left kidney", "#00aa00", True, 4)
    assert store.objects(reading.id) == [liver, renamed]
    # what is as it was is no change
    assert store.change_object(reading.id, reader, 1, name="liver", locked=False) == liver
    assert store.changes(reading.id, 2).objects == (renamed,)
    with pytest.raises(InputError, match="no such object"):
        store.change_object(reading.id, reader, 3, locked=True)
    assert store.revision(reading.id) == 4


def test_a_mask_comes_back_as_it_was_with_what_is_known_of_it(store, reader, reading):
    work = Work("tiny", "ab" * 32, {"zoom": "auto"}, 0.25)
    mask = drawn(3, LARGE, 2, status="first", predicted_iou=0.75, number=7, extra={"parts": [{"box": [1, 2, 3, 4]}]})
    prompts = {"box": [1.5, 2, 3, 4]}
    done = store.append_step(
        reading.id, reader, "prompt", object_number=2, slice_index=3, prompts=prompts, masks=[mask], work=work
    )
    state = store.reading_state(reading.id)
    (step,), (found,) = state.steps, state.masks
    assert (state.revision, state.done, step.id, step.revision) == (1, 1, done.step, done.revision)
    assert (step.kind, step.object, step.slice, step.prompts, step.masks) == ("prompt", 2, 3, prompts, (found,))
    assert (found.object, found.axis, found.slice, found.status, found.number) == (2, "k", 3, "first", 7)
    assert (found.predicted_iou, found.expected_dice, found.extra) == (0.75, None, mask.extra)
    assert found.mask == LARGE
    assert (found.mask.to_array() == LARGE.to_array()).all()


def test_a_refined_mask_replaces_the_first_of_its_step(store, reader, reading):
    step = store.append_step(reading.id, reader, "prompt", masks=[drawn(1, SMALL, status="first")]).step
    assert store.append_masks(reading.id, reader, step, [drawn(1, LARGE)]) == 2
    state = store.reading_state(reading.id)
    assert [(one.mask, one.status, one.step) for one in state.masks] == [(LARGE, "refined", step)]
    assert [one.masks for one in state.steps] == [state.masks]


def test_one_that_comes_too_late_is_kept_of_its_step_and_not_seen(store, reader, reading):
    step = store.append_step(reading.id, reader, "prompt", masks=[drawn(1, SMALL, status="first")]).step
    store.append_step(reading.id, reader, "undo", masks=[drawn(1, NOTHING, status="removed")])
    store.append_masks(reading.id, reader, step, [drawn(1, LARGE, current=False)])
    state = store.reading_state(reading.id)
    assert seen(store, reading) == {(1, 1): NOTHING}
    assert (state.done, [one.masks[0].mask for one in state.steps]) == (0, [LARGE])


def test_masks_go_to_steps_of_their_own_session_alone(store, reader, case, reading):
    other = store.open_reading(case.id, reader, document())
    step = store.append_step(reading.id, reader, "prompt").step
    with pytest.raises(InputError, match="no such step"):
        store.append_masks(other.id, reader, step, [drawn(1, SMALL)])
    assert store.revision(other.id) == 0


def test_undo_and_redo_walk_and_another_step_drops_what_was_undone(store, reader, reading):
    kinds = ["prompt", "prompt", "propagate", "undo", "undo", "redo", "undo", "reset", "undo", "redo", "redo", "undo"]
    steps = [store.append_step(reading.id, reader, kind, prompts={"n": n}) for n, kind in enumerate(kinds)]
    state = store.reading_state(reading.id)
    # prompt 0 and the reset (7) are on the stack, and the last undo took the reset back
    assert [one.prompts["n"] for one in state.steps] == [0, 7]
    assert (state.done, state.revision) == (1, len(steps))
    store.append_step(reading.id, reader, "prompt", prompts={"n": 12})
    state = store.reading_state(reading.id)
    assert ([one.prompts["n"] for one in state.steps], state.done) == ([0, 12], 2)


def test_an_undo_with_nothing_to_undo_changes_nothing(store, reader, reading):
    for kind in ("undo", "redo", "prompt", "redo"):
        store.append_step(reading.id, reader, kind)
    state = store.reading_state(reading.id)
    assert ([one.kind for one in state.steps], state.done) == (["prompt"], 1)


def test_masks_of_the_start_are_no_step(store, reader, reading):
    store.append_step(reading.id, reader, "start", masks=[drawn(0, SMALL, status="restored")])
    store.append_step(reading.id, reader, "undo")
    state = store.reading_state(reading.id)
    assert ([one.mask for one in state.started], state.steps, state.done) == ([SMALL], (), 0)
    assert seen(store, reading) == {(1, 0): SMALL}


def test_a_propagation_is_a_step_once_it_ends_and_a_click_may_come_before(store, reader, reading):
    began = store.append_step(reading.id, reader, "following", object_number=1).step
    for index in range(3):
        store.append_masks(reading.id, reader, began, [drawn(index, SMALL, status="propagated")])
    click = store.append_step(reading.id, reader, "prompt", masks=[drawn(1, LARGE)]).step
    state = store.reading_state(reading.id)
    assert ([one.id for one in state.steps], [one.id for one in state.unended]) == ([click], [began])
    assert [one.slice for one in state.unended[0].masks] == [0, 1, 2]
    ended = store.append_step(reading.id, reader, "propagate", masks=[drawn(2, LARGE)], ends=began).step
    state = store.reading_state(reading.id)
    assert ([one.id for one in state.steps], state.done, state.unended) == ([click, ended], 2, ())
    assert [(one.slice, one.mask) for one in state.steps[1].masks] == [(0, SMALL), (1, SMALL), (2, LARGE)]
    assert seen(store, reading) == {(1, 0): SMALL, (1, 1): LARGE, (1, 2): LARGE}


def test_a_propagation_that_came_to_nothing_is_no_step(store, reader, reading):
    began = store.append_step(reading.id, reader, "following").step
    store.append_step(reading.id, reader, "ended", ends=began)
    state = store.reading_state(reading.id)
    assert (state.steps, state.unended, state.revision) == ((), (), 2)
    with pytest.raises(InputError, match="no such step"):
        store.append_step(reading.id, reader, "ended", ends=99)


def test_changes_are_what_is_seen_now_and_came_since(store, reader, reading):
    step = store.append_step(reading.id, reader, "propagate", masks=[drawn(n, SMALL) for n in range(3)]).step
    store.append_masks(reading.id, reader, step, [drawn(1, LARGE)])
    store.append_step(reading.id, reader, "prompt", masks=[drawn(1, SMALL, 2), drawn(2, LARGE, 2)])

    def since(revision):
        changes = store.changes(reading.id, revision)
        assert changes.revision == 3
        return [(one.object, one.slice, one.revision) for one in changes.masks]

    of_one, of_two = [(1, 0, 1), (1, 2, 1), (1, 1, 2)], [(2, 1, 3), (2, 2, 3)]
    assert since(0) == [*of_one, *of_two]
    assert since(1) == [(1, 1, 2), *of_two]
    assert since(2) == of_two
    assert since(3) == since(99) == []


def test_masks_of_other_sessions_are_never_among_them(store, reader, case, reading):
    other = store.open_reading(case.id, reader, document())
    store.append_step(reading.id, reader, "prompt", masks=[drawn(1, SMALL)])
    store.append_step(other.id, reader, "prompt", masks=[drawn(1, LARGE)])
    assert seen(store, reading) == {(1, 1): SMALL}
    assert seen(store, other) == {(1, 1): LARGE}
    assert [one.masks[0].mask for one in store.reading_state(other.id).steps] == [LARGE]


def test_a_step_that_is_refused_leaves_nothing(store, reader, reading):
    twice = [drawn(1, SMALL), drawn(1, LARGE)]
    with pytest.raises(IntegrityError):
        store.append_step(reading.id, reader, "prompt", masks=twice)
    state = store.reading_state(reading.id)
    assert (state.revision, state.steps, state.masks) == (0, (), ())


def test_readers_side_by_side_get_revisions_without_a_gap(store, reader, case, reading):
    other = store.open_reading(case.id, reader, document())

    def append(n):
        one = other if n % 2 else reading
        return one.id, store.append_step(one.id, reader, "prompt", masks=[drawn(n, square(0, 1 + n % 8))]).revision

    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(append, range(80)))
    for one in (reading, other):
        assert sorted(number for owner, number in revisions if owner == one.id) == list(range(1, 41))
        assert len(store.masks(one.id)) == 40


def test_two_programs_on_one_store_get_revisions_without_a_gap(store, reader, reading):
    with Store.open(store.folder, serving=False) as beside, ThreadPoolExecutor(8) as pool:
        both = store, beside
        list(pool.map(lambda n: both[n % 2].append_step(reading.id, reader, "prompt"), range(40)))
        assert [step.revision for step in beside.reading_state(reading.id).steps] == list(range(1, 41))


def test_all_of_it_is_there_after_the_store_is_opened_again(store):
    with store:
        reader = store.local_reader()
        case = store.put_case(upload(owner=reader.id))
        reading = store.open_reading(case.id, reader, document())
        store.add_object(reading.id, reader, "liver", "#aa0000")
        store.append_step(reading.id, reader, "prompt", masks=[drawn(1, SMALL)])
        store.append_step(reading.id, reader, "undo", masks=[drawn(1, NOTHING, status="removed")])
        before = store.reading_state(reading.id)
    with Store.open(store.folder) as store:
        assert store.local_reader() == reader
        assert store.case(reader, case.key) is not None
        assert store.reading_state(reading.id) == before


def test_lines_of_a_list_are_the_newest_without_what_a_list_does_not_show(store, reader, case, reading):
    asked = []
    event.listen(store._database.engine, "before_cursor_execute", lambda c, cursor, text, *more: asked.append(text))
    second = store.open_reading(case.id, reader, document(axis="j"))
    gone = store.put_case(upload("upload:2", owner=reader.id))
    store.open_reading(gone.id, reader, document())
    store.remove_case(gone.id, reader)
    store.close_reading(reading.id, reader)
    asked.clear()
    newest = ReadingLine(second.key, case.key, case.name, reader.name, "j", "tiny", second.began_at, None)
    assert store.reading_lines(reader, most=9) == store.reading_lines(reader, case.id, closed=True, most=1) == [newest]
    other = store.add_user("other", Role.READER, kind="proxy").reader
    shared = store.put_case(upload("upload:3", owner=other.id))
    theirs = store.open_reading(shared.id, other, document())
    assert [line.key for line in store.reading_lines(other, everyones=True, most=9)] == [theirs.key]
    asked.clear()
    both = store.reading_lines(reader, closed=True, most=9)
    assert [line.key for line in both] == [second.key, reading.key]
    assert both[1].closed_at is not None
    assert not any("document" in text for text in asked)
    assert len([text for text in asked if "SELECT" in text]) == 1
