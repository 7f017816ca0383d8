"""Limits through everything that gives masks: one call, propagation, sessions, stored sessions, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import PromptError
from medsam.inference.predictor import Predictor
from medsam.inference.session_state import SessionState
from medsam.prompts.limits import Limits
from medsam.prompts.prompt import Prompt
from medsam.volume import LabelVolume, Volume


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(), device="cpu")


@pytest.fixture
def scan():
    """A bright block on slices 0 ... 3, brighter in its right half."""
    made, mask = block((4, 40, 60), (6, 10, 0, 30, 24, 4))
    array = made.array.copy()
    array[:, :, 18:][mask[:, :, 18:]] = 250
    return Volume(array, made.geometry), mask


def columns(mask, first, last):
    part = np.zeros_like(mask)
    part[..., first:last] = mask[..., first:last]
    return part


BOX = (4, 8, 34, 28)


@pytest.mark.parametrize("propagate", [False, True])
def test_values_and_an_editable_region_bound_masks_also_through_the_volume(predictor, scan, propagate):
    volume, mask = scan
    editable = np.zeros_like(mask)
    editable[:, :20] = True
    limits = Limits((None, 220), editable)
    found = predictor.segment(volume, Prompt("a", box=BOX, slice=1), zoom="off", limits=limits, propagate=propagate)
    expected = columns(mask, 0, 18) & editable
    if not propagate:
        expected[[0, 2, 3]] = False
    np.testing.assert_array_equal(found.labels.array == 1, expected)
    assert "Masks keep to values to 220 and to the editable region." in found.notes
    drawn = predictor.segment(volume, Prompt("a", mask=mask), zoom="off", limits=limits, propagate=True)
    np.testing.assert_array_equal(drawn.labels.array == 1, columns(mask, 0, 18) & editable)


@pytest.mark.parametrize("propagate", [False, True])
def test_a_locked_label_keeps_its_pixels_against_better_masks(predictor, scan, propagate):
    volume, mask = scan
    prompts = [Prompt("a", box=BOX, slice=1), Prompt("b", box=(16, 8, 34, 28), slice=1)]
    options = {"zoom": "off", "propagate": propagate}
    assert not (predictor.segment(volume, prompts, **options).labels.array == 2).any()
    found = predictor.segment(volume, prompts, limits=Limits(locked=("B",)), **options)
    np.testing.assert_array_equal(found.labels.array[1] == 2, columns(mask, 16, 60)[1])
    np.testing.assert_array_equal(found.labels.array[1] == 1, columns(mask, 0, 16)[1])


def test_a_start_stays_outside_of_the_editable_region(predictor, scan):
    volume, mask = scan
    before = np.zeros_like(mask)
    before[:, 2:14, 2:14] = True
    editable = np.zeros_like(mask)
    editable[:, :, :16] = True
    start = LabelVolume(before.astype(np.uint8), volume.geometry, {1: "a"})
    limits = Limits(editable=editable)
    found = predictor.segment(volume, Prompt("a", box=BOX, slice=1), zoom="off", start=start, limits=limits)
    expected = before.copy()
    expected[1] = columns(mask, 0, 16)[1]
    np.testing.assert_array_equal(found.labels.array == 1, expected)
    outside = Limits(editable=~editable)
    found = predictor.segment(volume, Prompt("a", box=BOX, slice=1), zoom="off", start=start, limits=outside)
    expected[1] = before[1] | columns(mask, 16, 60)[1]
    np.testing.assert_array_equal(found.labels.array == 1, expected)


def test_what_stands_and_is_locked_is_not_changed_and_not_taken(predictor, scan):
    volume, mask = scan
    array = columns(mask, 0, 12) * np.uint8(1) + columns(mask, 24, 60) * np.uint8(2)
    start = LabelVolume(array, volume.geometry, {1: "a", 2: "b"})
    limits = Limits(locked="a", spared=columns(mask, 14, 16))
    found = predictor.segment(volume, Prompt("b", box=BOX, slice=1), zoom="off", start=start, limits=limits)
    np.testing.assert_array_equal(found.labels.array == 1, array == 1)
    np.testing.assert_array_equal(found.labels.array[1] == 2, (columns(mask, 12, 14) | columns(mask, 16, 60))[1])
    with pytest.raises(PromptError, match="'a' is locked"):
        predictor.segment(volume, Prompt("a", box=BOX, slice=1), zoom="off", start=start, limits=limits)
    with pytest.raises(PromptError, match="'b' on slice 1 lies in 'a', which is `locked`"):
        predictor.segment(volume, Prompt("b", points=((8, 12, 1),), slice=1), start=start, limits=limits)
    with pytest.raises(PromptError, match="no 'spleen' to be locked"):
        predictor.segment(volume, Prompt("b", box=BOX, slice=1), limits=Limits(locked="spleen"))


def test_a_session_keeps_to_limits_step_by_step_and_when_it_is_stored(predictor, scan):
    volume, mask = scan
    editable = np.zeros_like(mask)
    editable[:, :, :28] = True
    session = predictor.session(volume, zoom="off", limits=Limits((None, 220), editable, ("b",)))
    expected = columns(mask, 0, 18)[1]
    np.testing.assert_array_equal(session.box(1, BOX).mask, expected)
    with pytest.raises(PromptError, match="has 250, outside of the values -inf ... 220"):
        session.click(1, 20, 15)
    with pytest.raises(PromptError, match="outside of the `editable` region"):
        session.click(1, 40, 15)
    np.testing.assert_array_equal(session.click(1, 8, 15).mask, expected)
    session.box(1, (4, 8, 12, 28), label="b")
    np.testing.assert_array_equal(session.labels.array[1] == 2, columns(mask, 0, 12)[1])
    np.testing.assert_array_equal(session.labels.array[1] == 1, columns(mask, 12, 18)[1])
    state = SessionState.from_dict(json.loads(json.dumps(session.state.to_dict())))
    assert state == session.state
    again = predictor.resume(state, volume)
    again._results._kept.clear()
    np.testing.assert_array_equal(again.result(1, "object").mask, expected)
    with pytest.raises(PromptError, match="outside of the values"):
        again.click(1, 20, 15)
    assert again.labels == session.labels


def test_a_session_that_starts_from_labels_changes_them_in_the_region_alone(predictor, scan):
    volume, mask = scan
    before = np.zeros_like(mask)
    before[:, 2:14, 2:26] = True
    start = LabelVolume(before.astype(np.uint8), volume.geometry, {1: "a"})
    editable = np.zeros_like(mask)
    editable[:, :, :16] = True
    session = predictor.session(volume, zoom="off", start=start, limits=Limits(editable=editable))
    session.click(1, 10, 5, inside=False)
    session.click(1, 10, 12)
    for forbidden in (
        lambda: session.click(1, 20, 5, inside=False),
        lambda: session.scribble(1, [(18, 5), (22, 9)], inside=False),
    ):
        with pytest.raises(PromptError, match="outside of the `editable` region"):
            forbidden()
    # a stroke of which a part may change something, and one where nothing stands
    session.scribble(1, [(14, 5), (18, 5)], inside=False)
    session.scribble(1, [(40, 5), (44, 5)], inside=False)
    session.undo()
    session.undo()
    found = session.labels.array == 1
    np.testing.assert_array_equal(found[..., 16:], before[..., 16:])
    np.testing.assert_array_equal(found[1, :, :16], (before & mask)[1, :, :16])
    session.box(1, BOX)
    found = session.labels.array == 1
    np.testing.assert_array_equal(found[..., 16:], before[..., 16:])
    np.testing.assert_array_equal(found[[0, 2, 3]], before[[0, 2, 3]])
    np.testing.assert_array_equal(found[1, :, :16], mask[1, :, :16])
    session.undo()
    locked = predictor.session(volume, zoom="off", start=start, limits=Limits(locked="a"))
    with pytest.raises(PromptError, match="'a' is locked"):
        locked.click(1, 10, 5, inside=False)
    locked.box(1, BOX, label="b")
    np.testing.assert_array_equal(locked.result(1, "b").mask, mask[1] & ~before[1])


@pytest.mark.parametrize("propagate", [False, True])
def test_two_locked_labels_that_overlap_leave_no_hole(predictor, scan, propagate):
    volume, mask = scan
    prompts = [Prompt("a", box=(4, 8, 22, 28), slice=1), Prompt("b", box=(16, 8, 34, 28), slice=1)]
    options = {"zoom": "off", "propagate": propagate}
    found = predictor.segment(volume, prompts, limits=Limits(locked=("a", "b")), **options)
    np.testing.assert_array_equal(found.labels.array[1] > 0, mask[1])
    assert set(np.unique(found.labels.array[1])) == {0, 1, 2}


def test_what_was_drawn_in_a_session_and_is_locked_is_not_taken(predictor, scan):
    volume, mask = scan
    session = predictor.session(volume, zoom="off")
    session.box(1, BOX, label="a")
    session.limits = Limits(locked=("a",))
    assert not session.box(1, BOX, label="b").mask.any()
    with pytest.raises(PromptError, match="'b' on slice 1 lies in 'a', which is `locked`"):
        session.click(1, 10, 12, label="b")
    assert session.names == {1: "object", 2: "a", 3: "b"}
    np.testing.assert_array_equal(session.labels.array[1] == 2, mask[1])
    # no lock changes what was drawn before
    session.limits = Limits()
    session.box(2, BOX, label="b")
    session.box(2, BOX, label="a")
    before = session.cleaned(2, "b")
    session.limits = Limits(locked=("a",))
    np.testing.assert_array_equal(session.cleaned(2, "b"), before)
    # what was said before it was locked counts as before
    session.limits = Limits()
    session.click(1, 10, 12, label="b")
    session.limits = Limits(locked=("a",))
    assert not session.click(1, 32, 12, label="b").mask[mask[1]].any()


def test_of_structures_that_overlap_the_locked_one_keeps_all_its_pixels(predictor, scan):
    volume, mask = scan
    start = {"a": columns(mask, 0, 20), "b": columns(mask, 12, 60)}
    limits = Limits(locked="b")
    for index in (1, 2):
        found = predictor.segment(volume, Prompt("a", points=((8, 12, 1),), slice=index), start=start, limits=limits)
        np.testing.assert_array_equal(found.labels.array == 2, start["b"])
    session = predictor.session(volume, start=start, limits=limits)
    np.testing.assert_array_equal(session.labels.array == 2, start["b"])
    session.click(1, 8, 12, label="a")
    np.testing.assert_array_equal(session.labels.array == 2, start["b"])


def test_what_limits_keep_is_not_forgotten_by_a_reset(predictor, scan):
    volume, mask = scan
    start = {"a": columns(mask, 0, 12)}
    for limits, message in (
        (Limits(locked="a"), "'a' is locked .`locked`., and would be forgotten"),
        (Limits(editable=~mask), "'a' is there outside of the `editable` region, too"),
    ):
        session = predictor.session(volume, start=start, limits=limits, zoom="off")
        session.box(1, (0, 0, 4, 4), label="b")
        with pytest.raises(PromptError, match=message):
            session.reset()
        assert session.undo()
        np.testing.assert_array_equal(session.labels.array == 1, start["a"])
    session = predictor.session(volume, start=start, limits=Limits((0, 200)))
    session.reset()
    assert not session.labels.array.any()


def test_a_replay_that_a_limit_forbids_takes_no_step(predictor, scan):
    volume, _ = scan
    session = predictor.session(volume, zoom="off", limits=Limits((None, 220)))
    session.box(0, BOX)
    state = session.state
    with pytest.raises(PromptError, match="outside of the values"):
        session.replay([Prompt("object", box=BOX, slice=1, points=((8, 15, 1), (20, 15, 1)))])
    assert session.state == state
    assert session.undo()


def test_who_does_not_know_limits_is_not_given_a_session_with_them(predictor, scan):
    volume, _ = scan
    assert predictor.session(volume).state.to_dict()["version"] == 1
    document = predictor.session(volume, limits=Limits((0, 200))).state.to_dict()
    assert document["version"] == 2
    assert SessionState.from_dict(document).limits == Limits((0, 200))
