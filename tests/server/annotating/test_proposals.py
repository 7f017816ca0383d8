"""A task that begins from what a model answered to a box: a click corrects that answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from annotating_house import STRUCTURES, annotating, make_project
from phantoms import ThresholdSam
from readings_house import two_blocks
from scipy.special import expit

from medsam.annotation.project import AnnotationProject
from medsam.chances import CompactChances
from medsam.inference.corrections import Mark
from medsam.inference.likely_masks import corrected_odds
from medsam.inference.predictor import Predictor
from medsam.masks import CompactMask
from medsam.store.project_records import Effort, NewAnnotation

# over a part of the left block of `two_blocks`, and a pixel of the rest
BOX, CLICK = [4.25, 8.0, 14.5, 26.0], [17, 14, 1]


@pytest.fixture
def answers(tmp_path):
    """Three scans with one content; on the first two a proposal by the model that answers, and by another one."""
    project = make_project(tmp_path / "project", 3)
    predictor, (volume, *_) = Predictor(ThresholdSam(), "cpu"), two_blocks()
    answer = predictor.session(volume, axis="k").box(1, BOX).mask
    ours, other, _ = project.store.scans()
    guessed, asked = ({"label": STRUCTURES[0], "slice": 1, "box": box} for box in ([5, 9, 13, 25], BOX))
    one = NewAnnotation(
        ours.id,
        STRUCTURES[0],
        "k",
        1,
        "proposed",
        CompactMask.of(answer),
        2,
        None,
        predictor.name,
        predictor.images.weights,
        Effort(prompts=[guessed, asked]),
    )
    project.store.add_annotations([one, replace(one, scan=other.id, weights="ab" * 32)])
    project.close()
    return tmp_path / "project", answer


def test_a_click_corrects_the_answer_to_the_box_and_undo_goes_back_to_the_proposal(answers):
    folder, answer = answers
    with annotating(folder) as house:
        ann, ben, rita = house.ann, house.ben, house.rita
        for one in (ann, ben, rita):
            one.begin()
        task = f"/annotate/tasks/{ann.task['id']}/open"
        proposed = {STRUCTURES[0]: [1]}
        assert ann.post(task)["unseen"] == proposed, "shown as it is"
        ann.prompt(1, 1, points=[CLICK])
        assert ann.post(task)["unseen"] == {}
        ann.post(f"/sessions/{ann.session}/undo")
        assert ann.post(task)["unseen"] == proposed
        house.drop(ann.session)
        ann.post(f"/sessions/{ann.session}/redo")
        # by a model that does not answer now: a mask without a box
        ben.prompt(1, 1, points=[CLICK])
        # as it is where the box is drawn here
        rita.prompt(1, 1, box=BOX)
        rita.prompt(1, 1, points=[CLICK])
        for one in (ann, ben, rita):
            one.submit(absent=[STRUCTURES[1]])
        mine, bare, drawn = (next(iter(house.store.standing(scan.id))) for scan in house.store.scans())
        assert (mine.mask == drawn.mask, bare.mask == drawn.mask) == (True, False)
        assert np.count_nonzero(mine.mask.to_array() & ~answer) > 0
        assert (mine.status, mine.effort.clicks, mine.effort.boxes) == ("edited", 1, 0), "the box is nobody's work"


def test_a_session_that_goes_on_in_another_keeps_the_box_of_what_nobody_touched(answers):
    folder, _ = answers
    with annotating(folder) as house:
        ann, rita = house.ann, house.rita
        ann.begin()
        ann.ask("DELETE", f"/sessions/{ann.session}", status=204)
        ann.open()
        house.ben.begin()
        rita.begin()
        rita.prompt(1, 1, box=BOX)
        for one in (ann, rita):
            one.prompt(1, 1, points=[CLICK])
            one.submit(absent=[STRUCTURES[1]])
        mine, drawn = (next(iter(house.store.standing(scan.id))) for scan in house.store.scans()[::2])
        assert mine.mask == drawn.mask


def test_what_is_handed_in_untouched_is_accepted(answers):
    folder, _ = answers
    with annotating(folder) as house:
        house.ann.begin()
        done = house.ann.submit(absent=[STRUCTURES[1]])
        assert (done["masks"], done["untouched"]) == (1, 1)


def test_of_an_outline_a_click_changes_what_was_unsure_and_a_restart_changes_nothing(answers):
    folder, answer = answers
    project = AnnotationProject.open(folder)
    last = project.store.scans()[-1]
    rows, columns = np.mgrid[: answer.shape[0], : answer.shape[1]]
    beyond = np.hypot(rows - 16, columns - 14) - 6
    chances = expit(np.where(columns > 14, -beyond / 4, -3 * beyond))
    outlined = NewAnnotation(
        last.id,
        STRUCTURES[0],
        "k",
        1,
        "proposed",
        CompactMask.of(chances > 0.5),
        2,
        model="tiny + segmenter 0123456789ab",
        weights="ab" * 32,
        likely=CompactChances.of(chances),
    )
    project.store.add_annotations([outlined])
    project.close()
    with annotating(folder) as house:
        for one in (house.ann, house.ben):
            one.begin()
        rita = house.rita
        rita.begin()
        task = f"/annotate/tasks/{rita.task['id']}/open"
        assert rita.post(task)["unseen"] == {STRUCTURES[0]: [1]}
        rita.prompt(1, 1, points=[[23, 16, 1]])
        house.drop(rita.session)
        assert rita.post(task)["unseen"] == {}
        rita.submit(absent=[STRUCTURES[1]])
        (mine,) = house.store.standing(last.id)
    where = np.zeros(answer.shape, bool)
    where[16, 23] = True
    volume, *_ = two_blocks()
    pitch = volume.geometry.plane("k").spacing_mm
    expected = corrected_odds(CompactChances.of(chances).log_odds(), [Mark(where, True)], pitch) > 0
    np.testing.assert_array_equal(mine.mask.to_array(), expected)
    assert (mine.status, mine.effort.clicks) == ("edited", 1)
