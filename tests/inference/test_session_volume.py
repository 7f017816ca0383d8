"""Sessions whose steps are about many slices, and those that answer first and look closer afterwards."""

import json

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import Cancelled, PromptError
from medsam.inference.predictor import Predictor
from medsam.inference.session import UNDO_STEPS
from medsam.inference.session_state import SessionState
from medsam.inference.worker import Priority, Worker
from medsam.masks import CompactMask
from medsam.prompts.limits import Limits
from medsam.prompts.prompt import Prompt
from medsam.volume import Volume

BOX = (4, 8, 24, 28)


@pytest.fixture
def scan():
    """A bright block on slices 2 ... 7 of ten, with a speck apart from it on slice 5."""
    volume, inside = block((10, 40, 60), (6, 10, 2, 20, 24, 8))
    noise = np.random.default_rng(0).uniform(0, 10, volume.array.shape).astype(np.float32)
    return Volume(np.where(inside, 200, 20 + noise).astype(np.float32), volume.geometry), inside


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(), device="cpu")


@pytest.fixture
def session(scan, predictor):
    return predictor.session(scan[0], zoom="off")


def stored(session, predictor):
    document = json.loads(json.dumps(session.state.to_dict()))
    again = predictor.resume(SessionState.from_dict(document), session.scan_encoder.scan)
    assert again.labels == session.labels
    assert again.state.to_dict() == document
    return again


def test_what_was_propagated_is_what_one_call_gives(scan, predictor, session):
    session.box(4, BOX)
    seen = {}
    found = session.propagate(found=lambda index, mask: seen.setdefault(index, mask))
    assert sorted(found.masks) == [2, 3, 4, 5, 6, 7]
    assert sorted(seen) == [2, 3, 5, 6, 7]
    assert seen[3] == CompactMask.of(scan[1][3])
    whole = predictor.segment(scan[0], Prompt("object", box=BOX, slice=4), zoom="off", propagate=True)
    np.testing.assert_array_equal(session.labels.array, whole.labels.array)
    np.testing.assert_array_equal(session.labels.array == 1, scan[1])


def test_a_propagation_is_one_step(predictor, session):
    session.box(4, BOX)
    before = session.labels
    session.propagate()
    after = session.labels
    assert session.undo()
    assert session.labels == before
    assert session.redo()
    assert session.labels == after
    again = stored(session, predictor)
    assert again.undo()
    assert again.labels == before


def test_a_click_corrects_what_was_propagated_and_is_kept_when_that_is_done_again(scan, predictor, session):
    session.box(4, BOX)
    session.propagate()
    before = session.labels.array.copy()
    result = session.click(6, 10, 15, inside=False)
    assert not result.mask[15, 10]
    changed = np.flatnonzero((session.labels.array != before).any(axis=(1, 2)))
    assert changed.tolist() == [6]
    corrected = session.cleaned(6)
    session.propagate()
    np.testing.assert_array_equal(session.cleaned(6), corrected)
    # of an object that is all alike the click takes all, so that there is nothing beyond that slice
    assert sorted(session.states["object"]) == [2, 3, 4, 5, 6]
    stored(session, predictor).propagate()
    # only what the reader put is a prompt
    assert [prompt.slice for prompt in session.prompts] == [4, 6]


def test_a_propagation_that_is_done_again_leaves_nothing_of_the_one_before(session):
    session.box(4, BOX)
    session.propagate()
    session.propagate(max_mm=1.0)
    assert sorted(session.states["object"]) == [3, 4, 5]
    session.undo()
    assert sorted(session.states["object"]) == [2, 3, 4, 5, 6, 7]


def test_an_end_on_the_way_keeps_what_was_found_as_one_step(session):
    session.box(4, BOX)
    slices = []
    found = session.propagate(found=lambda index, _: slices.append(index), wanted=lambda: len(slices) < 2)
    assert slices == [5, 6]
    assert sorted(found.masks) == sorted(session.states["object"]) == [4, 5, 6]
    assert found.stop_reasons == {7: "interrupted", 3: "interrupted"}
    session.undo()
    assert sorted(session.states["object"]) == [4]


def test_an_end_on_the_way_draws_nothing_between_two_prompted_slices(session):
    session.box(2, BOX)
    session.box(7, BOX)
    slices = []
    session.propagate(found=lambda index, _: slices.append(index), wanted=lambda: len(slices) < 1)
    assert slices == [3]
    assert sorted(session.states["object"]) == [2, 3, 7]


def test_what_progress_raises_leaves_no_step(session):
    session.box(4, BOX)
    before = session.state.to_dict()

    def progress(done, total):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        session.propagate(progress=progress)
    assert session.state.to_dict() == before


def test_an_object_without_prompts_or_that_is_locked_is_refused(scan, predictor, session):
    with pytest.raises(PromptError, match="no prompt of 'liver' to propagate"):
        session.propagate("liver")
    start = {"liver": scan[1]}
    held = predictor.session(scan[0], zoom="off", start=start, limits=Limits(locked=("liver",)))
    with pytest.raises(PromptError, match="locked"):
        held.propagate("liver")


def test_a_click_of_the_same_session_comes_in_between_and_its_slice_stays_the_readers(scan):
    with Worker() as worker:
        predictor = Predictor(ThresholdSam(), device="cpu", worker=worker)
        session = predictor.session(scan[0], zoom="off")
        session.box(4, BOX)
        jobs = []

        def found(index, mask):
            if index == 5:
                jobs.append(worker.submit(lambda _: session.box(7, (4, 8, 12, 28)), priority=Priority.CLICK))

        session.propagate(found=found)
        assert jobs[0].result(10).mask.sum() == 6 * 14
        assert session.states["object"][7].mask.area == 6 * 14
        assert session.states["object"][6].mask.area == 14 * 14
        # the click was first, the propagation second
        session.undo()
        assert sorted(session.states["object"]) == [4, 7]


def test_any_prompt_of_a_slice_is_one_step(session):
    first = session.prompt(Prompt("object", box=BOX, points=((8, 12, 1), (22, 26, 0)), slice=4))
    assert first.mask[12, 8]
    assert not first.mask[26, 22]
    session.prompt(Prompt("object", slice=4, points=((10, 14, 1), (5, 9, 0))))
    assert session.undo()
    assert session.undo()
    assert not session.undo()
    with pytest.raises(PromptError, match="name it"):
        session.prompt(Prompt("object", box3d=(4, 8, 2, 24, 28, 6)))


def test_hundreds_of_steps_can_be_undone_and_are_stored(predictor, session):
    assert UNDO_STEPS >= 500
    numbers = []
    for n in range(600):
        session.box(n % 10, (4 + n % 7, 8, 24, 28))
        numbers.append({index: state.number for index, state in session.states["object"].items()})
    last = session.labels
    again = stored(session, predictor)
    for one in (session, again):
        for n in reversed(range(600)):
            assert {index: state.number for index, state in one.states["object"].items()} == numbers[n]
            assert one.undo()
        assert not one.undo()
        assert all(one.redo() for _ in range(600))
        assert one.labels == last


def test_the_first_answer_is_from_what_is_at_hand_and_the_refined_one_is_that_of_one_call(scan):
    large = Volume.from_array(np.kron(scan[0].array, np.ones((1, 8, 8), np.float32)), spacing_mm=(1, 1, 1))
    predictor, box = Predictor(ThresholdSam(), device="cpu"), (30, 70, 100, 130)
    session = predictor.session(large, at_hand=True)
    session.scan_encoder.encode(4)
    first = session.box(4, box)
    assert not first.complete
    assert session.incomplete == [("object", 4)]
    assert predictor.sam.encoded == 1
    number = session.states["object"][4].number
    refined = session.refine(4)
    assert refined.complete
    assert session.incomplete == []
    assert session.states["object"][4].number > number
    whole = predictor.segment(large, Prompt("object", box=box, slice=4))
    np.testing.assert_array_equal(session.labels.array, whole.labels.array)
    # undo goes to before the box, redo to the refined answer
    assert session.undo()
    assert session.labels.array.max() == 0
    session.redo()
    np.testing.assert_array_equal(session.labels.array, whole.labels.array)
    # a further click has all at hand
    assert session.click(4, 40, 80).complete
    stored(session, predictor)


def test_refining_what_was_undone_or_never_asked_changes_nothing(session):
    assert session.refine(3) is None
    session.box(4, BOX)
    state = session.states["object"][4]
    assert session.refine(4) is session.result(4)
    assert session.states["object"][4] is state
