"""Masks that are what was drawn: no network has a say, but for what is clicked on them afterwards."""

from __future__ import annotations

import json

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import PromptError
from medsam.inference.predictor import Predictor
from medsam.inference.segmentation import Segmentation
from medsam.inference.session_state import SessionState
from medsam.prompts.limits import Limits
from medsam.prompts.parse import read_prompts, write_prompts
from medsam.prompts.prompt import Prompt
from medsam.volume import LabelVolume, Volume


@pytest.fixture
def predictor():
    sam = ThresholdSam()
    sam.spec.prompts = ("box",)
    return Predictor(sam, device="cpu")


@pytest.fixture
def scan():
    """A bright block on slices 0 ... 4 of a noisy dark scan."""
    made, _ = block((5, 40, 60), (6, 10, 0, 34, 24, 5))
    made.array[...] += np.random.default_rng(0).uniform(0, 10, made.array.shape)
    return made


def rectangle(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros((40, 60), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


# in the dark, with a single pixel and a hole that cleaning would take
DRAWN = rectangle(26, 40, 36, 56)
DRAWN[30, 45] = False
DRAWN[2, 2] = True


def test_a_drawn_mask_is_the_answer_to_the_pixel(predictor, scan):
    session = predictor.session(scan)
    session.box(1, (4, 8, 40, 30))
    boxed = session.result(1).mask
    assert session.draw(1, DRAWN).mask.tolist() == DRAWN.tolist()
    np.testing.assert_array_equal(session.labels.array[1] == 1, DRAWN)
    session.draw(1, DRAWN)
    assert session.undo()
    np.testing.assert_array_equal(session.result(1).mask, boxed)
    assert not (session.undo() and session.undo())
    session.redo()
    session.redo()
    np.testing.assert_array_equal(session.result(1).mask, DRAWN)
    with pytest.raises(PromptError, match=r"mask of shape \(4, 4\)"):
        session.draw(1, np.ones((4, 4), bool))
    volume = np.zeros(scan.shape, bool)
    volume[2] = DRAWN
    np.testing.assert_array_equal(session.draw(2, volume).mask, DRAWN)


def test_clicks_and_strokes_correct_what_was_drawn(predictor, scan):
    session = predictor.session(scan)
    session.draw(1, rectangle(10, 6, 24, 20))
    assert session.click(1, 10, 12, inside=False).mask[12, 10] == 0
    corrected = session.scribble(1, [(30, 12), (32, 18)]).mask
    assert corrected[[12, 18, 20], [30, 32, 15]].all()
    np.testing.assert_array_equal(session.labels.array[1] == 1, corrected)
    again = predictor.session(scan)
    again.replay(session.prompts)
    np.testing.assert_array_equal(again.result(1).mask, corrected)
    at_once = predictor.session(scan).prompt(session.prompts[0])
    np.testing.assert_array_equal(at_once.mask, corrected)


def test_an_empty_one_takes_the_object_away(predictor, scan):
    session = predictor.session(scan)
    empty = np.zeros((40, 60), bool)
    session.draw(1, empty)
    assert session.state.steps == ()
    session.box(1, (4, 8, 40, 30))
    assert not session.draw(1, empty).mask.any()
    assert not session.labels.array.any()
    with pytest.raises(PromptError, match="no prompt of 'object' to propagate"):
        session.propagate()
    # a click begins anew
    session.click(1, 15, 15)
    assert session.result(1).mask.any()
    session.undo()
    session.undo()
    assert session.result(1).mask.any()


def test_what_was_drawn_is_followed_and_ends_where_it_was_erased(predictor, scan):
    session = predictor.session(scan)
    block_there = rectangle(10, 6, 24, 34)
    session.draw(1, block_there)
    session.draw(3, block_there)
    session.draw(3, np.zeros((40, 60), bool))
    session.propagate()
    there = session.labels.array > 0
    assert there.any(axis=(1, 2)).tolist() == [True, True, True, False, False]
    np.testing.assert_array_equal(there[1], block_there)
    found = predictor.propagate(scan, session.prompts).labels.array > 0
    np.testing.assert_array_equal(found, there)


@pytest.mark.parametrize(
    "limits",
    [
        None,
        Limits((100, None)),
        Limits(editable=np.broadcast_to(rectangle(0, 0, 20, 60), (5, 40, 60))),
        Limits(locked=("other",)),
    ],
)
def test_a_session_a_prompts_file_and_the_program_agree(predictor, scan, tmp_path, limits):
    session = predictor.session(scan, limits=limits, label="one")
    session.box(0, (4, 8, 40, 30), "other")
    session.draw(0, rectangle(8, 20, 30, 50))
    session.draw(1, rectangle(8, 20, 30, 50))
    session.draw(1, rectangle(8, 4, 30, 50), "two")
    session.click(1, 30, 14, label="one")
    session.draw(2, rectangle(8, 20, 19, 50))
    session.box(2, (4, 8, 40, 30), "two")
    write_prompts(tmp_path / "p.json", session.prompts, "k")
    prompts, axis = read_prompts(tmp_path / "p.json", shape=scan.shape)
    assert prompts == session.prompts
    found = predictor.segment(scan, prompts, axis=axis, limits=limits)
    labels = session.labels
    theirs = {name: found.labels.array == number for number, name in found.labels.names.items()}
    for number, name in labels.names.items():
        np.testing.assert_array_equal(labels.array == number, theirs[name], err_msg=name)
    again = predictor.session(scan, limits=limits, label="one")
    again.replay(prompts)
    np.testing.assert_array_equal(again.labels.array, labels.array)


def test_it_is_drawn_over_masks_that_were_there(predictor, scan):
    names = {1: "organ", 2: "other"}
    array = np.zeros(scan.shape, np.uint8)
    array[1, 10:24, 6:34] = 1
    array[1, 26:36, 40:56] = 2
    start = LabelVolume(array, scan.geometry, names)
    session = predictor.session(scan, start=start)
    drawn = rectangle(12, 8, 30, 50)
    session.draw(1, drawn, "organ")
    session.draw(1, rectangle(20, 0, 24, 60), "new")
    labels = session.labels
    assert (labels.array[1] == 1).tolist() == drawn.tolist()
    assert (labels.array[1] == 2).tolist() == ((array[1] == 2) & ~drawn).tolist()
    found = predictor.segment(scan, session.prompts, start=start).labels
    assert (found.names, found.array.tolist()) == (labels.names, labels.array.tolist())
    session.draw(1, np.zeros((40, 60), bool), "organ")
    assert not (session.labels.array == 1).any()
    erased = predictor.segment(scan, session.prompts, start=start).labels
    np.testing.assert_array_equal(erased.array, session.labels.array)


def test_what_is_locked_is_not_drawn_on(predictor, scan):
    start = LabelVolume(np.broadcast_to(rectangle(10, 6, 24, 34), scan.shape).astype(np.uint8), scan.geometry, {1: "a"})
    session = predictor.session(scan, start=start, limits=Limits(locked=("a",)))
    np.testing.assert_array_equal(session.draw(1, rectangle(8, 20, 30, 50), "b").mask[10:24, 20:34], False)
    with pytest.raises(PromptError, match="'a' is locked"):
        session.draw(1, DRAWN, "a")


def test_a_stored_session_goes_on(predictor, scan):
    session = predictor.session(scan)
    session.draw(1, DRAWN)
    session.click(1, 45, 30)
    session.draw(2, DRAWN)
    session.draw(2, np.zeros((40, 60), bool))
    document = json.loads(json.dumps(session.state.to_dict()))
    assert document["version"] == 5
    again = predictor.resume(SessionState.from_dict(document), scan)
    assert again.prompts == session.prompts
    np.testing.assert_array_equal(again.labels.array, session.labels.array)
    np.testing.assert_array_equal(again.click(1, 46, 31).mask, session.click(1, 46, 31).mask)


def test_what_contradicts_a_drawn_mask_is_refused(predictor, scan):
    with pytest.raises(PromptError, match="either a box or a drawn mask"):
        Prompt("a", slice=1, box=(0, 0, 3, 3), drawn=DRAWN)
    with pytest.raises(PromptError, match="nothing for points or scribbles to correct"):
        Prompt("a", slice=1, points=((1, 1, 1),), drawn=DRAWN & False)
    two = [Prompt("a", slice=1, drawn=DRAWN), Prompt("a", slice=1, box=(0, 0, 30, 30))]
    with pytest.raises(PromptError, match="all that there is of 'a' on slice 1"):
        predictor.segment(scan, two)
    with pytest.raises(PromptError, match="leave `all_masks` out"):
        predictor.segment(scan, two[0], all_masks=True)


def test_a_picture_and_a_mask_through_the_volume():
    sam = ThresholdSam()
    picture = Volume.from_array(np.random.default_rng(1).integers(0, 255, (40, 60), dtype=np.uint8))
    labels = Predictor(sam, device="cpu").segment(picture, Prompt(drawn=DRAWN)).labels
    np.testing.assert_array_equal(labels.array[0] == 1, DRAWN)
    scan, solid = block((3, 40, 60), (6, 10, 1, 34, 24, 3))
    found = Predictor(sam, device="cpu").segment(scan, Prompt("all", drawn=solid))
    np.testing.assert_array_equal(found.labels.array == 1, solid)
    again = Segmentation.from_dict(json.loads(json.dumps(found.to_dict())))
    assert [np.isnan(one.predicted_iou) for one in again.results] == [True, True]


def test_what_a_head_found_is_put_through_the_volume_as_one_step_and_no_hand_drew_it(predictor, scan):
    found = np.stack([DRAWN, DRAWN & False, DRAWN, rectangle(0, 0, 3, 3), DRAWN & False])
    session = predictor.session(scan, limits=Limits(locked=("other",)))
    session.draw(0, rectangle(26, 40, 36, 48), label="other")
    session.box(1, (4, 8, 40, 30), "organ")
    session.put(found, "organ")
    # anew: what was on another slice is gone, and what is locked keeps its pixels
    assert sorted(session.states["organ"]) == [0, 2, 3]
    np.testing.assert_array_equal(session.states["organ"][0].mask.to_array(), DRAWN & ~rectangle(26, 40, 36, 48))
    np.testing.assert_array_equal(session.labels.array[2] > 0, DRAWN)
    assert [one.by_hand for one in session.states["organ"].values()] == [False] * 3
    assert session.states["other"][0].by_hand
    document = session.state.to_dict()
    assert document["version"] == 6
    again = predictor.resume(SessionState.from_dict(json.loads(json.dumps(document))), scan)
    assert again.state == session.state
    assert not again.states["organ"][2].by_hand
    assert again.undo()
    assert sorted(again.states["organ"]) == [1]
    with pytest.raises(PromptError, match=r"the shape \(40, 60\)"):
        session.put(DRAWN, "organ")
