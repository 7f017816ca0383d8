from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_project import drawn_project, hand_in
from named_heads import learnt, name_network, named_head
from tiny_training import STRUCTURES

from medsam.annotation.answers import Answer, Expected, Guessed, least_said
from medsam.annotation.finding import Finder
from medsam.annotation.looks import Looks
from medsam.annotation.named import HeadBoxes
from medsam.annotation.proposing import box_of, propose
from medsam.annotation.queue import order_queue
from medsam.annotation.waiting import queue_of
from medsam.errors import Cancelled, InputError
from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec
from medsam.prompts.simulate import tight_box
from medsam.store.readers import Role
from medsam.volume import Volume


@pytest.fixture
def project(tmp_path):
    with drawn_project(tmp_path, waiting=2, propose=0.0) as opened:
        yield opened


def proposals(project):
    return list(project.store.standing(statuses=["proposed"]))


def test_a_bar_that_is_always_there_is_guessed_where_it_is(project, predictor):
    finder = Finder.learnt(project, predictor)
    assert finder.structures == set(STRUCTURES)
    assert [one.scan.name for one in finder.known] == ["c1", "c0"], "the last one first"
    (waiting,) = [scan for scan in project.store.scans() if scan.name == "c2"]
    looks = Looks(project, predictor)
    assert looks.of(waiting).slices.tolist() == [0, 2, 3]
    boxes = {one.answer.guessed.structure: one.answer.guessed.box for one in finder.of(waiting, [1])}
    assert boxes["bar"] == pytest.approx((4, 14, 20, 17), abs=0.6)
    assert finder.expected is not None


def test_what_a_model_is_sure_of_is_proposed_with_where_it_comes_from(project, predictor):
    found = propose(project, predictor)
    rows = proposals(project)
    assert (found.scans, found.masks, found.known) == (2, len(rows), 2)
    assert {project.store.scan(one.scan).side for one in rows} == {"train"}, "none is measured against itself"
    one = rows[0]
    assert (one.by, one.stage, one.model, one.weights) == (None, 2, predictor.name, predictor.images.weights)
    assert 0 <= one.expected_dice <= 1
    (entry,) = one.effort.prompts
    assert (entry["label"], entry["slice"], len(entry["box"])) == (one.structure, one.slice, 4)
    assert box_of(one) is None, "a network that knows masks was shown its own with the box"
    assert tight_box(one.mask.to_array(), 1) is not None
    again = propose(project, predictor)
    assert (again.scans, again.masks) == (0, 0), "nothing has changed"
    project.change(replace(project.settings, propose=1.0))
    assert propose(project, predictor).scans == 2
    assert proposals(project) == []


def test_a_proposal_knows_the_box_whose_answer_it_is(project):
    predictor = Predictor(Sam.from_spec(replace(tiny_spec("tiny_vit"), prompts=("box",))), "cpu", engine="torch")
    propose(project, predictor)
    for one in proposals(project):
        guessed, asked = one.effort.prompts
        assert (guessed["slice"], asked["slice"]) == (one.slice, one.slice)
        session = predictor.session(project.case(project.store.scan(one.scan)).load_image(), axis=one.axis)
        assert (session.box(one.slice, box_of(one)).mask == one.mask.to_array()).all(), "to the pixel"
    assert proposals(project)


def test_nothing_is_proposed_below_what_is_asked(tmp_path, predictor):
    with drawn_project(tmp_path, propose=1.0) as project:
        found = propose(project, predictor)
        assert found.masks == 0
        assert found.left > 0


def test_a_run_that_was_interrupted_goes_on_and_nothing_is_there_twice(project, predictor):
    def stop(done, total):
        if done == 1:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        propose(project, predictor, progress=stop)
    first = {one.id for one in proposals(project)}
    assert len({one.scan for one in proposals(project)}) <= 1
    found = propose(project, predictor)
    assert found.scans == 1
    assert first <= {one.id for one in proposals(project)}


def test_a_new_model_proposes_anew_and_what_it_does_not_repeat_is_gone(project, predictor, other_predictor):
    propose(project, predictor)
    before = proposals(project)
    propose(project, other_predictor)
    after = proposals(project)
    assert {one.weights for one in after} == {other_predictor.images.weights}
    assert len(project.store.history(before[0].scan, before[0].structure, "k", before[0].slice)) == 2


def test_what_a_person_drew_stays(project, predictor):
    ben = project.store.add_user("Ben", Role.READER, kind="proxy").reader
    waiting = [one.task for one in queue_of(project) if one.scan.side == "train"]
    hand_in(project, waiting[0], ben)

    def taken(done, total):
        if done == 0 and project.store.task(waiting[1].key).state == "open":
            project.store.take_task(waiting[1].id, ben, 60)

    propose(project, predictor, progress=taken)
    assert proposals(project) == [], "nor is anything put into what somebody has begun meanwhile"
    project.store.leave_task(waiting[1].id, ben)
    propose(project, predictor)
    assert waiting[0].scan not in {one.scan for one in proposals(project)}
    assert waiting[1].scan in {one.scan for one in proposals(project)}


def test_a_head_that_knows_a_name_says_where_it_is(predictor, boxes_model, tmp_path):
    sam = predictor.images.sam
    path = named_head(tmp_path / "three.safetensors", sam, learnt(sam), name_network(sam))
    asked = Predictor(boxes_model, "cpu", engine="torch", heads=[path])
    heads = HeadBoxes(asked, ("Spleen", "liver"), names=True)
    assert heads.structures == {"Spleen"}, "it was not measured on the other one"
    assert HeadBoxes(asked, ("Spleen",), names=False).structures == set()
    array = np.random.default_rng(0).normal(100, 30, (5, 40, 48)).astype(np.float32)
    encoder = asked.encoder_for(
        Volume(array, VolumeGeometry.from_itk(array.shape, (0, 0, 0), (1, 1, 3), np.eye(3).ravel()), "CT")
    )
    (answer,) = asked.names.answer(encoder, [asked.names.known["spleen"]])
    found = list(heads.of(encoder, [1, 3]))
    assert {index for index, _ in found} == {int(n) for n in encoder.plane.touched(answer.mask)} & {1, 3}
    for index, guessed in found:
        assert guessed.structure == "Spleen"
        assert guessed.box == tight_box(answer.mask[index], 1)


def test_of_nothing_drawn_nothing_is_proposed(tmp_path, predictor):
    with drawn_project(tmp_path, done=1) as project, pytest.raises(InputError, match="draw on scans of two patients"):
        propose(project, predictor)


def test_the_queue_goes_by_what_the_model_finds(project, predictor):
    project.change(replace(project.settings, order="unsure"))
    placed = order_queue(project, predictor)
    assert all("expected Dice of what the model finds on a few slices" in one.why for one in placed)


def test_what_to_expect_is_learnt_from_answers_that_were_right_and_wrong():
    rng = np.random.default_rng(0)
    dices = rng.uniform(0, 1, 40)
    signs = np.stack([dices + rng.normal(0, 0.05, 40), rng.normal(0, 1, 40)], axis=1)
    expected = Expected.learnt(signs, dices)
    guessed = Guessed("disc", (0, 0, 1, 1), 0.9, 0.1)
    good, bad = (
        expected(Answer(guessed, np.zeros((1, 1), bool), 0.8, 0.7, np.array([sign, 0.0]))) for sign in (0.95, 0.05)
    )
    assert good > 0.75
    assert bad < 0.25
    assert Expected.learnt(signs[:5], dices[:5]) is None
    assert least_said(Answer(guessed, np.zeros((1, 1), bool), 0.8, 0.7, signs[0])) == 0.7
