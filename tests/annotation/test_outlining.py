from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_project import drawn_project, hand_in
from tiny_training import STRUCTURES, drawn

from medsam.annotation import outlining
from medsam.annotation.answers import Expected
from medsam.annotation.finding import Finder
from medsam.annotation.knowing import known_scans
from medsam.annotation.looks import Looks
from medsam.annotation.outlining import FILE, segmenting
from medsam.annotation.proposing import box_of, propose
from medsam.annotation.queue import order_queue
from medsam.annotation.waiting import queue_of
from medsam.metrics.overlap import dice
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
