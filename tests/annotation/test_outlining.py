from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_project import drawn_project, hand_in
from tiny_training import STRUCTURES, drawn

from medsam.annotation import outlining
from medsam.annotation.answers import Answer, Expected, Guessed, apart
from medsam.annotation.finding import Finder
from medsam.annotation.knowing import KnownScan, known_scans
from medsam.annotation.looks import Looks
from medsam.annotation.outlining import FILE, Segmenting, _classes, segmenting
from medsam.annotation.proposing import box_of, propose
from medsam.annotation.queue import order_queue
from medsam.annotation.waiting import queue_of
from medsam.masks import CompactMask
from medsam.metrics.overlap import dice
from medsam.models.segmenter import Segmenter, SegmenterSizes
from medsam.store.project_records import StoredScan
from medsam.store.readers import Role

DONE = 7


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(outlining, "WIDTH", 8)


@pytest.fixture
def steps(monkeypatch):
    """Of a training: none is told where none was made."""
    monkeypatch.setattr(outlining, "STEPS", 2)
    return []


def learn(project, predictor, steps):
    looks = Looks(project, predictor)
    known = known_scans(project, looks)
    return segmenting(project, looks, known, progress=lambda done, total: steps.append((done, total))), known


def test_of_a_few_patients_no_segmenter_is_made(tmp_path, predictor, steps):
    with drawn_project(tmp_path, done=4) as project:
        found, _ = learn(project, predictor, steps)
        assert found is None, "one of them is needed to try it on"
        assert not steps
        assert not (project.folder / FILE).exists()


def test_it_learns_anew_once_there_is_a_quarter_more_and_not_before(tmp_path, predictor, steps):
    with drawn_project(tmp_path, done=DONE, waiting=2) as project:
        first, _ = learn(project, predictor, steps)
        assert steps == [(0, 2), (1, 2), (2, 2)]
        steps.clear()
        again, _ = learn(project, predictor, steps)
        assert not steps
        assert (again.name, again.scans, again.structures) == (first.name, first.scans, first.structures)
        ben = project.store.add_user("Ben", Role.READER, kind="proxy").reader
        waiting = [one.task for one in queue_of(project) if one.scan.side == "train"]
        hand_in(project, waiting[0], ben)
        kept, known = learn(project, predictor, steps)
        assert not steps, "six patients are not a quarter more than five"
        assert len(kept.tried_on(known)) == 3, "one more than it was tried on before"
        hand_in(project, waiting[1], ben)
        more, _ = learn(project, predictor, steps)
        assert steps
        assert len(more.scans) == 7
        (project.folder / FILE).write_bytes(b"damaged")
        steps.clear()
        same, _ = learn(project, predictor, steps)
        assert steps
        assert same.name == more.name, "the same scans, seed and steps"


def test_a_patient_of_the_val_side_is_never_learnt_from(tmp_path, predictor, steps):
    with drawn_project(tmp_path, done=DONE) as project:
        looks = Looks(project, predictor)
        known = known_scans(project, looks)
        val = [replace(one, scan=replace(one.scan, side="val")) for one in known[:2]]
        found = segmenting(project, looks, [*val, *known[2:]])
        assert found.scans == {one.scan.id for one in known[2:]}


def known(**masks):
    """A scan with these masks on its slice 0."""
    scan = StoredScan(1, "key", "a", "a", "train", False, None, {})
    return KnownScan(scan, (0,), {name: {0: CompactMask.of(mask)} for name, mask in masks.items()})


def square(y0, y1, x0, x1):
    mask = np.zeros((20, 20), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_structures_that_people_drew_over_each_other_have_a_class_of_both_and_neighbours_that_touch_have_none():
    organ, tumour, beside = square(2, 16, 2, 12), square(5, 8, 5, 8), square(2, 16, 11, 19)
    vessel = square(6, 7, 0, 20)
    names = ("organ", "tumour", "beside", "vessel")
    classes = _classes([known(organ=organ, tumour=tumour, beside=beside), known(organ=organ, vessel=vessel)], names)
    assert classes == (("organ",), ("tumour",), ("beside",), ("vessel",), ("organ", "tumour"), ("organ", "vessel"))
    both = _classes([known(organ=organ, tumour=tumour, vessel=tumour)], ("organ", "tumour", "vessel"))
    assert both[3:] == (("organ", "tumour", "vessel"),)
    found = Segmenting(Segmenter(SegmenterSizes(6, 64, 4)), classes, frozenset(), frozenset())
    assert found.structures == names
    assert found.share("tumour", "organ")
    assert not found.share("organ", "beside")


def outlined(name, likely):
    guessed = Guessed(name, (0, 0, 1, 1), 0.9, 0.1, likely)
    return Answer(guessed, likely > 0.5, 0.9, 1.0, np.zeros(10), likely=likely)


def test_a_pixel_of_two_structures_that_share_none_is_the_likelier_ones():
    one, other = outlined("a", np.array([[0.9, 0.8, 0.6, 0.1]])), outlined("b", np.array([[0.2, 0.7, 0.9, 0.8]]))
    first, second = apart([one, other], lambda a, b: False)
    assert (first.mask.tolist(), second.mask.tolist()) == ([[True, True, False, False]], [[False, False, True, True]])
    for answer in (first, second):
        np.testing.assert_array_equal(answer.likely > 0.5, answer.mask)
    np.testing.assert_allclose(first.likely, [[0.9, 0.8, 0.1, 0.1]])
    assert apart([one, other], lambda a, b: True) == [one, other]
    # of an answer to a box alone it is not known how likely its pixels are
    boxed = replace(other, likely=None)
    assert apart([one, boxed], lambda a, b: False) == [one, boxed]
    within = outlined("c", np.array([[0.2, 0.6, 0.1, 0.1]]))
    assert apart([one, within], lambda a, b: False) == [one], "nothing is left of it"


@pytest.mark.slow
def test_it_finds_what_was_drawn_on_scans_that_nobody_drew_on_and_proposals_say_so(tmp_path, predictor, monkeypatch):
    monkeypatch.setattr(outlining, "STEPS", 30)
    with drawn_project(tmp_path, done=DONE, propose=0.0) as project:
        found = propose(project, predictor)
        rows = list(project.store.standing(statuses=["proposed"]))
        assert found.masks == len(rows) > 0
        finder = Finder.learnt(project, predictor)
        assert isinstance(finder.expected_outlined, Expected)
        assert finder.outlined
        outlined = f"{predictor.name} + {finder.segmenting.name}"
        for one in rows:
            assert one.model == (outlined if one.structure in finder.outlined else predictor.name)
            assert len(one.effort.prompts) == 1
            assert box_of(one) is None, "no box alone gives this mask"
            kept = project.store.chances([one.id]).get(one.id)
            assert (kept is not None) == (one.structure in finder.outlined)
            if kept is not None:
                np.testing.assert_array_equal(kept.log_odds() > 0, one.mask.to_array())
        shown: dict[tuple[int, int], list] = {}
        for one in rows:
            if one.structure in finder.outlined:
                shown.setdefault((one.scan, one.slice), []).append(one.mask.to_array())
        assert all(np.sum(masks, axis=0).max() == 1 for masks in shown.values()), "nobody drew one over the other"
        found, known = learn(project, predictor, [])
        assert found.structures == STRUCTURES
        assert {one.scan.id for one in found.tried_on(known)}.isdisjoint(found.scans)
        (waiting,) = [one.scan for one in queue_of(project) if one.scan.side == "train"]
        _, labels = drawn(int(waiting.name[1:]))
        encoder = Looks(project, predictor).encoder(waiting)
        dices = [
            dice(labels[index] == 1 + STRUCTURES.index(one.structure), one.likely > 0.5)
            for index, one in found.of(encoder, range(4))
        ]
        assert len(dices) >= 6, "of two on each of four slices"
        assert np.mean(dices) > 0.6, "by itself, and from so few steps"
        assert order_queue(project, predictor)


def test_a_structure_that_guesses_find_clearly_better_is_guessed(tmp_path, predictor, steps):
    with drawn_project(tmp_path, done=DONE) as project:
        finder = Finder.learnt(project, predictor)
        assert finder.segmenting is not None, "two steps teach nothing"
        assert "bar" not in finder.outlined, "it is always in the same place"
        assert finder.structures == set(STRUCTURES)
