"""Corrections: what a click or a stroke changes of a mask, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.inference import corrections
from medsam.inference.corrections import Evidence, Fold, Mark, correct, corrected_logits, evidence, folded, marks_of
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import Scribble

SHAPE = (48, 64)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
SQUARE = (1.0, 1.0)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return (X - x) ** 2 + (Y - y) ** 2 <= radius**2


def click(x: int, y: int, inside: bool) -> Mark:
    where = np.zeros(SHAPE, bool)
    where[y, x] = True
    return Mark(where, inside)


def sure(mask: np.ndarray, by: float = 3.0) -> np.ndarray:
    return np.where(mask, by, -by).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_ring_answered_with_what_it_surrounds_is_had_by_a_click_in_there():
    ring, blood = disc(32, 24, 18) & ~disc(32, 24, 11), disc(32, 24, 11)
    pixels = np.where(ring, 80.0, np.where(blood, 160.0, 20.0)) + np.random.default_rng(0).normal(0, 4, SHAPE)
    found = correct(ring | blood, sure(ring | blood), [click(32, 24, False)], pixels, SQUARE)
    assert dice(found, ring) > 0.9


def test_an_answer_that_was_refused_is_made_anew_from_the_marks():
    # the muscle was asked for by its box, and the blood inside it was answered
    ring, blood = disc(32, 24, 18) & ~disc(32, 24, 11), disc(32, 24, 11)
    pixels = np.where(ring, 120.0, np.where(blood, 150.0, 20.0)) + np.random.default_rng(0).normal(0, 4, SHAPE)
    box = disc(32, 24, 18).any(axis=0)[None] & disc(32, 24, 18).any(axis=1)[:, None]
    marks = [click(32, 24, False), click(32, 9, True)]
    found = correct(blood, sure(blood), marks, pixels, SQUARE, box)
    assert dice(found, ring) > 0.9
    np.testing.assert_array_equal(correct(blood, sure(blood), marks[::-1], pixels, SQUARE, box), found)
    # the box is what says so
    assert dice(correct(blood, sure(blood), [click(32, 24, False)], pixels, SQUARE, box), ring) < 0.1


def test_of_two_discs_that_touch_the_one_that_was_clicked_goes():
    kept, spilt = disc(20, 24, 10), disc(41, 24, 10) & ~disc(20, 24, 10)
    pixels = np.where(kept, 100.0, np.where(spilt, 160.0, 0.0))
    found = correct(kept | spilt, sure(kept | spilt), [click(42, 24, False)], pixels, SQUARE)
    assert (found & kept).sum() == kept.sum()
    assert (found & spilt).sum() < 0.35 * spilt.sum()


def test_where_pixels_say_nothing_a_patch_as_deep_as_the_click_changes():
    mask = disc(32, 24, 16)
    found = correct(mask, sure(mask), [click(32, 12, False)], np.full(SHAPE, 7.0), SQUARE)
    changed = found != mask
    assert changed[12, 32]
    assert not (changed & ~disc(32, 12, 11)).any()
    assert 9 <= np.count_nonzero(changed) <= np.count_nonzero(mask) / 2


def test_a_click_changes_at_most_four_times_the_pixels_within_its_depth_and_the_surest():
    away = np.hypot(X - 32, Y - 24)
    whole = Evidence((slice(0, 48), slice(0, 64)), away >= 0, away == 0, {"distance": away / 2})
    within = np.count_nonzero(away <= 2)
    found = whole.error({"distance": -0.01}, 1.0)
    assert within < np.count_nonzero(found) <= 4 * within
    assert away[found].max() <= away[~found].min()
    np.testing.assert_array_equal(whole.error({"distance": -1.0}, 1.5), away < 3)


def test_noise_does_not_make_a_click_run_away():
    mask, rng = disc(32, 24, 16), np.random.default_rng(3)
    found = correct(mask, sure(mask), [click(32, 11, False)], rng.normal(0, 1, SHAPE), SQUARE)
    assert dice(found, mask) > 0.75


def test_what_is_right_already_stays_to_the_pixel():
    mask, pixels = disc(32, 24, 16), np.random.default_rng(1).normal(size=SHAPE)
    marks = [click(32, 24, True), click(2, 2, False)]
    found = correct(mask, sure(mask), marks, pixels, SQUARE)
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(corrected_logits(sure(mask), found, marks), sure(mask))


CLICK = st.tuples(st.integers(0, SHAPE[1] - 1), st.integers(0, SHAPE[0] - 1), st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(CLICK, min_size=1, max_size=5, unique_by=lambda one: one[:2]), st.integers(0, 9))
def test_every_click_is_right_and_one_after_another_is_all_at_once(clicks, seed):
    rng = np.random.default_rng(seed)
    mask, pixels = disc(30, 20, 13), rng.normal(size=SHAPE) + disc(35, 25, 12)
    marks = [click(*one) for one in clicks]
    found = correct(mask, sure(mask), marks, pixels, SQUARE)
    assert [bool(found[y, x]) for x, y, _ in clicks] == [inside for _, _, inside in clicks]
    logits = corrected_logits(sure(mask), found, marks)
    np.testing.assert_array_equal(logits > 0, found)
    before = correct(mask, sure(mask), marks[:-1], pixels, SQUARE)
    x, y, inside = clicks[-1]
    # the last one changes to its own side only, and nothing where all was right
    assert not ((found != before) & (found != inside)).any()
    assert before[y, x] != inside or (found == before).all()


def test_a_fold_goes_on_where_it_was_left_and_starts_anew_where_the_answer_is_another_one(monkeypatch):
    rng = np.random.default_rng(1)
    mask, pixels = disc(26, 24, 11), rng.normal(50, 15, SHAPE) + 60 * disc(32, 24, 14)
    marks = (click(40, 24, True), click(20, 24, False), click(30, 12, True))
    weighed = []
    monkeypatch.setattr(corrections, "evidence", lambda mark, *rest: weighed.append(mark) or evidence(mark, *rest))

    def after(some, answer=mask, known=None):
        weighed.clear()
        return folded(Fold(answer, sure(answer), None, some, answer), pixels, SQUARE, known)

    known = after(marks[:2])
    found = after(marks, known=known)
    assert weighed == [marks[2]]
    np.testing.assert_array_equal(found.mask, after(marks).mask)
    # one taken back, another one in its place, another answer
    for some, answer in ((marks[:1], mask), ((marks[0], marks[2]), mask), (marks, disc(26, 24, 9))):
        found = after(some, answer, known)
        assert weighed == list(some)
        np.testing.assert_array_equal(found.mask, after(some, answer).mask)


@pytest.mark.parametrize("pitch", [(1.0, 1.0), (0.7, 2.1)])
@pytest.mark.parametrize("channels", [0, 3])
def test_the_same_anatomy_stored_otherwise_gets_the_same_mask(pitch, channels):
    rng = np.random.default_rng(5)
    mask = disc(32, 24, 14)
    pixels = (
        rng.normal(size=(*SHAPE, channels) if channels else SHAPE)
        + (2.0 * disc(38, 26, 12))[(..., None) if channels else ...]
    )
    logits = (sure(mask) + rng.normal(size=SHAPE)).astype(np.float32)
    marks = [click(24, 14, False), click(46, 30, True), click(63, 47, True)]
    found = correct(mask, logits, marks, pixels, pitch)
    for turn in (np.flipud, np.fliplr, lambda a: a.swapaxes(0, 1)):
        turned = pitch[::-1] if turn(mask).shape != SHAPE else pitch
        stored = [Mark(turn(one.where), one.inside) for one in marks]
        np.testing.assert_array_equal(correct(turn(mask), turn(logits), stored, turn(pixels), turned), turn(found))


def test_a_patch_is_round_in_millimetres():
    mask = np.ones(SHAPE, bool)
    found = correct(mask, sure(mask), [click(32, 24, False)], np.zeros(SHAPE), (1.0, 4.0))
    rows, columns = (~found).nonzero()
    tall, wide = np.ptp(rows) + 1, (np.ptp(columns) + 1) * 4
    assert 0.7 < tall / wide < 1.4


def test_a_click_reaches_what_the_network_was_not_asked_about():
    mask = disc(20, 24, 8)
    logits = np.where(X < 40, sure(mask), -np.inf).astype(np.float32)
    found = correct(mask, logits, [click(55, 24, True)], np.zeros(SHAPE), SQUARE)
    assert found[24, 55]
    np.testing.assert_array_equal(found & (X < 30), mask)


def test_nothing_leaves_what_is_allowed_but_where_a_mark_lies_beyond():
    mask, allowed = disc(20, 24, 8), X < 32
    found = correct(mask, sure(mask), [click(30, 24, True)], np.zeros(SHAPE), SQUARE, allowed)
    assert found[24, 30]
    assert not (found & ~allowed).any()
    found = correct(mask, sure(mask), [click(40, 24, True)], np.zeros(SHAPE), SQUARE, allowed)
    assert found[20:29, 38:43].all()


def test_clicks_that_contradict_side_by_side_all_hold_and_what_is_said_later_counts():
    points = ((15, 15, 1), (16, 15, 0), (17, 15, 1))
    stroke = Scribble(((10, 15), (30, 15)), inside=False, width_px=3)
    prompt = SlicePrompt(1).marked([points[0], stroke, *points[1:], points[0]])
    assert (prompt.points, prompt.scribbles) == ((*points, points[0]), (stroke,))
    marks = marks_of(prompt, SHAPE, SQUARE)
    assert [np.count_nonzero(one.where) for one in marks] == [1, 69, 1, 1, 1]
    found = correct(disc(20, 15, 9), sure(disc(20, 15, 9)), marks, np.zeros(SHAPE), SQUARE)
    assert found[15, 15:18].tolist() == [True, False, True]
    assert not found[15, 20:30].any()
    assert not found[14, 12:29].any()


def test_a_stroke_along_an_error_takes_most_of_it():
    kept, spilt = disc(32, 10, 9), (Y >= 20) & (Y < 28) & (X > 5) & (X < 60)
    mask = kept | spilt | ((X > 30) & (X < 34) & (Y >= 10) & (Y < 22))
    pixels = np.where(spilt, 60.0, np.where(mask, 100.0, 0.0)) + np.random.default_rng(2).normal(0, 8, SHAPE)
    prompt = SlicePrompt(1, points=(), scribbles=(Scribble(((9, 24), (55, 23)), inside=False),))
    found = correct(mask, sure(mask), marks_of(prompt, SHAPE, SQUARE), pixels, SQUARE)
    assert np.count_nonzero(found & spilt) < 0.4 * np.count_nonzero(spilt)
    assert (found & kept).sum() > 0.97 * kept.sum()


def test_a_stroke_stands_for_less_beside_it_than_a_click():
    # nothing to see: depth alone tells how far a mark reaches
    mask, pixels = disc(32, 24, 18), np.zeros(SHAPE)
    taken = []
    for marks in (((32, 24, 0),), (Scribble(((32, 24), (33, 24)), inside=False),)):
        prompt = SlicePrompt(1).marked(list(marks))
        found = correct(mask, sure(mask), marks_of(prompt, SHAPE, SQUARE), pixels, SQUARE)
        assert not found[24, 32]
        taken.append(np.count_nonzero(mask & ~found))
    assert taken[0] > taken[1] > 2


def test_of_a_mask_that_stands_the_piece_changes_that_the_network_has_otherwise():
    left, right = disc(16, 24, 9), disc(46, 24, 9)
    network = (left & (X < 16)) | right | disc(16, 44, 3)
    pixels = np.random.default_rng(4).normal(size=SHAPE)
    found = correct(left | right, sure(network), [click(20, 24, False)], pixels, SQUARE)
    np.testing.assert_array_equal(found, (left & (X < 16)) | right)


@pytest.mark.parametrize("pitch", [(1.0, 1.0), (1.0, 0.7)])
def test_a_large_error_is_weighed_on_coarser_pixels_and_stays_as_sharp(monkeypatch, pitch):
    shape = (240, 320)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth, spilt = (x - 110) ** 2 + (y - 120) ** 2 <= 70**2, (x - 235) ** 2 + (y - 120) ** 2 <= 60**2
    mask = truth | spilt
    pixels = np.where(truth, 100.0, np.where(spilt, 160.0, 30.0)) + np.random.default_rng(0).normal(0, 8, shape)
    where = np.zeros(shape, bool)
    where[121, 236] = True
    fine = correct(mask, sure(mask), [Mark(where, False)], pixels, pitch)
    monkeypatch.setattr(corrections, "_MOST", 160)
    found = correct(mask, sure(mask), [Mark(where, False)], pixels, pitch)
    assert not found[where].any()
    assert dice(found, truth) > dice(fine, truth) - 0.02
    for turn in (np.flipud, np.fliplr):
        stored = correct(turn(mask), turn(sure(mask)), [Mark(turn(where), False)], turn(pixels), pitch)
        np.testing.assert_array_equal(turn(stored), found)
    # a thin stroke is no coarser than it is deep
    line = np.zeros(shape, bool)
    line[118:121, 20:300] = True
    along = correct(np.zeros(shape, bool), sure(line), [Mark(line, True)], 80.0 * line, pitch)
    np.testing.assert_array_equal(along, line)
