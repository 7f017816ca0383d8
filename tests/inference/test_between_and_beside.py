"""What a session offers beside its answers: slices between those of an object, and other answers to a prompt."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import PromptError
from medsam.inference import outlines, whole_objects
from medsam.inference.candidates import Candidate, distinct
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Priority, Worker
from medsam.masks import CompactMask
from medsam.prompts.limits import Limits
from medsam.prompts.prompt import Prompt
from medsam.volume import Volume


def rectangle(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros((40, 60), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(), device="cpu")


@pytest.fixture
def scan():
    made, _ = block((7, 40, 60), (6, 10, 0, 34, 24, 7))
    return made


def test_an_object_is_drawn_on_the_slices_between_those_that_it_is_on(predictor, scan):
    session = predictor.session(scan)
    with pytest.raises(PromptError, match="no slice to draw 'object' on"):
        session.interpolate()
    session.draw(1, rectangle(10, 10, 30, 30))
    session.draw(5, rectangle(14, 14, 26, 26))
    assert session.interpolate() == [2, 3, 4]
    # half of the way: edges that move in by two pixels move by one there
    np.testing.assert_array_equal(session.result(3).mask[20], rectangle(10, 12, 30, 28)[20])
    areas = [int((session.labels.array[k] > 0).sum()) for k in range(7)]
    assert areas[1] == 400
    assert areas[5] == 144
    assert areas[1] > areas[2] > areas[3] > areas[4] > areas[5]
    assert (areas[0], areas[6]) == (0, 0)
    found = predictor.segment(scan, session.prompts)
    np.testing.assert_array_equal(found.labels.array, session.labels.array)
    with pytest.raises(PromptError, match="no slice to draw"):
        session.interpolate()
    session.undo()
    assert {k for k in range(7) if session.result(k) is not None} == {1, 5}


def test_what_was_erased_is_drawn_again_and_limits_hold(predictor, scan):
    session = predictor.session(scan, limits=Limits(editable=np.broadcast_to(rectangle(0, 0, 40, 20), scan.shape)))
    for index in (1, 2, 3):
        session.draw(index, rectangle(10, 10, 30, 30))
    session.draw(2, np.zeros((40, 60), bool))
    assert session.interpolate() == [2]
    np.testing.assert_array_equal(session.labels.array[2] > 0, rectangle(10, 10, 30, 20))


def test_slices_are_filled_between_masks_of_any_kind(predictor, scan):
    session = predictor.session(scan)
    session.box(0, (4, 8, 40, 30))
    session.box(3, (4, 8, 40, 30))
    session.draw(6, session.cleaned(3))
    assert session.interpolate() == [1, 2, 4, 5]
    there = session.labels.array > 0
    assert all((there[k] == there[3]).all() for k in range(7))


def test_of_a_gap_distances_are_computed_once(monkeypatch):
    computed, real = [], outlines.signed_distance
    monkeypatch.setattr(outlines, "signed_distance", lambda *given: computed.append(given) or real(*given))
    one, other = (CompactMask.of(rectangle(*edges)) for edges in ((10, 10, 30, 30), (14, 20, 26, 50)))
    found = {index: mask for index, _, mask in outlines.masks_between(one, other, (2, 12), (1.0, 2.0), skip=(5,))}
    assert len(computed) == 2
    assert sorted(found) == [3, 4, 6, 7, 8, 9, 10, 11]
    for index, mask in found.items():
        np.testing.assert_array_equal(mask, outlines.between(one, other, (12 - index) / 10, (1.0, 2.0)))


def test_a_click_comes_between_two_slices_and_two_candidates(scan):
    sam = ThresholdSam()
    sam.spec.prompts = ("box",)
    with Worker() as worker:
        session = Predictor(sam, "cpu", worker=worker).session(scan)
        session.box(1, (4, 8, 20, 30))
        session.draw(5, rectangle(14, 14, 26, 26))

        def long(work):
            order = []

            def run(_):
                worker.submit(lambda _: order.append("click"), priority=Priority.CLICK)
                order.append(work())

            worker.submit(run, priority=Priority.SLICE).result(10)
            return order

        assert long(session.interpolate) == ["click", [2, 3, 4]]
        assert long(lambda: len(session.candidates(1)) > 1) == ["click", True]


def test_a_click_comes_in_while_a_propagated_object_is_cleaned(scan, monkeypatch):
    begun, clicked, clean = threading.Event(), threading.Event(), whole_objects.cleaned_object

    def slowly(*given):
        begun.set()
        assert clicked.wait(5)
        return clean(*given)

    monkeypatch.setattr(whole_objects, "cleaned_object", slowly)
    with Worker() as worker:
        session = Predictor(ThresholdSam(), "cpu", worker=worker).session(scan)
        session.box(3, (4, 8, 40, 30))
        job = worker.submit(lambda _: session.propagate(), priority=Priority.PROPAGATE)
        assert begun.wait(5)
        worker.submit(lambda _: clicked.set(), priority=Priority.CLICK).result(4)
        assert sorted(job.result(5).masks) == list(range(7))


def test_what_is_drawn_meanwhile_is_not_drawn_over(predictor, scan):
    session = predictor.session(scan)
    for index in (0, 4):
        session.draw(index, rectangle(10, 10, 30, 30))
    own = rectangle(2, 2, 4, 4)
    assert session.interpolate(progress=lambda done, total: session.draw(2, own) if done == 3 else None) == [1, 3]
    np.testing.assert_array_equal(session.result(2).mask, own)


def test_candidates_differ_come_best_first_and_change_nothing(scan):
    rng = np.random.default_rng(0)
    for known in (("box", "points", "mask"), ("box",)):
        sam = ThresholdSam()
        sam.spec.prompts = known
        noisy = Volume(scan.array + rng.uniform(0, 10, scan.array.shape).astype(np.float32), scan.geometry)
        session = Predictor(sam, device="cpu").session(noisy)
        session.box(1, (4, 8, 20, 30))
        before = session.state
        found = session.candidates(1)
        assert session.state == before
        assert len(found) <= 3
        assert [one.predicted_iou for one in found] == sorted((one.predicted_iou for one in found), reverse=True)
        if known == ("box",):
            # the object is longer than its box: a larger one holds more of it
            assert len(found) > 1
            assert any((one.mask == session.cleaned(1)).all() for one in found)
            assert max(one.mask.sum() for one in found) > session.cleaned(1).sum()
        # nothing was asked of these
        session.draw(2, rectangle(10, 10, 30, 30))
        assert session.candidates(2) == session.candidates(3) == []


def test_those_that_hardly_differ_are_one():
    small, large = rectangle(0, 0, 10, 10), rectangle(0, 0, 20, 20)
    nearly = large.copy()
    nearly[0, 0] = False
    given = [Candidate(small, 0.7), Candidate(nearly, 0.8), Candidate(large, 0.9), Candidate(large & False, 1.0)]
    kept = distinct(given)
    assert [one.predicted_iou for one in kept] == [0.9, 0.7]
    assert distinct(given[1:]) == []


def test_a_propagated_mask_keeps_its_confidence(predictor, scan):
    session = predictor.session(scan)
    session.box(3, (4, 8, 40, 30))
    spread = session.propagate()
    states = session.states["object"]
    assert states[3].confidence is None
    for index in (1, 2, 4, 5):
        assert states[index].confidence == spread.confidence[index] > 0
    again = type(session.state).from_dict(session.state.to_dict())
    assert again.objects == session.state.objects
    assert again.steps == session.state.steps
    session.click(2, 1, 1, inside=False)
    assert session.states["object"][2].confidence is None


@pytest.mark.parametrize("propagate", [False, True])
def test_structures_that_overlap_are_whole_in_what_can_hold_them(predictor, scan, propagate):
    inner = Prompt("tumour", slice=3, drawn=rectangle(12, 8, 18, 16))
    outer = Prompt("organ", slice=3, drawn=rectangle(10, 6, 24, 34))
    found = (predictor.propagate if propagate else predictor.segment)(scan, [inner, outer])
    both = found.structures
    assert both is not None
    np.testing.assert_array_equal(both["tumour"][3], inner.drawn)
    np.testing.assert_array_equal(both["organ"][3], outer.drawn)
    # of a label map one has them
    assert (found.labels.array[3] > 0).sum() == outer.drawn.sum()
    assert (found.labels.array[3] == 2).sum() == (outer.drawn & ~inner.drawn).sum()
    apart = predictor.segment(scan, [inner, Prompt("other", slice=3, drawn=rectangle(30, 40, 36, 50))])
    assert apart.structures is None
