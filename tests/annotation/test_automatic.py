from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from drawn_project import drawn_project
from stores import square

from medsam.annotation.answers import Answer, Guessed, answered
from medsam.annotation.audits import audit_of, made_alone, sample, wilson
from medsam.annotation.automatic import Bounds, _best, _of_grid, automatic
from medsam.annotation.finding import Finder, Found
from medsam.annotation.looks import Looks
from medsam.annotation.mixing import catch_up, handed_in
from medsam.annotation.named import HeadBoxes
from medsam.annotation.waiting import queue_of
from medsam.cli.main import main
from medsam.errors import InputError
from medsam.inference.automatic import AutomaticSettings, everything_on_slice
from medsam.metrics.detection import box_iou
from medsam.prompts.simulate import tight_box
from medsam.store.project_records import NewAnnotation
from medsam.store.readers import Role

ANY = Bounds(expected=0, predicted_iou=0, stability=0, agreement=0, grid=False)


def test_what_passes_all_bounds_stands_by_nobody_and_the_measure_is_left_to_people(tmp_path, predictor):
    with drawn_project(tmp_path) as project:
        found = automatic(project, predictor, ANY)
        alone = made_alone(project)
        assert found.masks == len(alone) > 0
        assert {(one.by, one.stage, one.status) for one in alone} == {(None, 3, "accepted")}
        sides = {scan.id: scan.side for scan in project.store.scans()}
        assert {sides[one.scan] for one in alone} == {"train"}
        assert automatic(project, predictor, ANY).scans == 0, "once"


def test_what_does_not_pass_is_left_to_people(tmp_path, predictor):
    with drawn_project(tmp_path, waiting=2) as project:
        none = Bounds(expected=1.0, grid=False)
        found = automatic(project, predictor, none, limit=1)
        assert (found.scans, found.masks, found.done) == (1, 0, 0)
        assert found.left > 0
        assert made_alone(project) == []
        assert [automatic(project, predictor, none, limit=1).scans for _ in range(2)] == [1, 0], "the next one"
        anna = next(user.reader for user in project.store.users() if user.name == "Anna")
        waiting = [one.task for one in queue_of(project) if one.scan.side == "train"]
        automatic(project, predictor, ANY, limit=1, progress=lambda done, total: take(project, waiting[0], anna))
        assert made_alone(project) == [], "nor is a scan filled in that somebody has begun meanwhile"
    with pytest.raises(InputError, match="`agreement` is a share"):
        Bounds(agreement=1.5)


def take(project, task, reader):
    if project.store.task(task.key).state == "open":
        project.store.take_task(task.id, reader, 60)


def test_masks_of_a_grid_and_its_crops_are_candidates_asked_by_their_box(tmp_path, predictor, monkeypatch):
    def few(spec, crop_n_layers=0):
        """Two by two prompts, in crops as well, and all of their masks."""
        return AutomaticSettings(
            points_per_side=2,
            crop_n_layers=crop_n_layers,
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
            min_mask_region_area=0,
            max_mask_area_ratio=1.0,
            max_background_ratio=1.0,
        )

    monkeypatch.setattr(AutomaticSettings, "suited_to", few)
    with drawn_project(tmp_path) as project:
        finder = Finder(Looks(project, predictor), (), HeadBoxes(predictor, (), names=False))
        encoder = finder.looks.encoder(project.store.scans("train")[0])
        # where a mask of a crop is, there something was guessed
        masks = everything_on_slice(encoder, 1, few(None, 1)).masks
        one = next(one for one in masks if tuple(one.crop_box) != (0, 0, *encoder.plane.shape[::-1]) and one.area)
        box = tight_box(one.mask, 1)
        guessed = Guessed("bar", tuple(map(float, box)), 1.0, 0.1)
        (here,) = answered(encoder, 1, [guessed])
        ones = [Found(encoder.plane.axis, 1, here, finder.expect(here))]
        found = _of_grid(finder, encoder, 1, {"bar": ones}, Bounds(crops=1))["bar"]
        assert found
        for one in found:
            assert one.answer.guessed is guessed
            held = tight_box(one.answer.mask, 1)
            assert one.answer.agreement == pytest.approx(box_iou(held, box))
            assert one.expected == finder.expect(one.answer)


def test_of_candidates_that_pass_the_one_of_whom_most_is_expected_is_taken():
    def candidate(expected: float, low: int, **changes) -> Found:
        mask = np.zeros((20, 20), bool)
        mask[low : low + 8, 2:10] = True
        guessed = Guessed("bar", (2.0, 2.0, 10.0, 10.0), 1.0, 0.1)
        values = {"predicted_iou": 0.9, "agreement": 0.9, "stability": 0.95, **changes}
        return Found("k", 0, Answer(guessed, mask, signs=np.zeros(10), **values), expected)

    good, better, unsure, shaky = (
        candidate(0.92, 2), candidate(0.94, 3), candidate(0.85, 2), candidate(0.99, 2, stability=0.5),
    )  # fmt: skip
    assert _best([good, better, unsure, shaky], Bounds()) is better
    assert _best([unsure, shaky], Bounds()) is None


@pytest.fixture
def audited_project(tmp_path):
    """Four masks that a model made alone."""
    with drawn_project(tmp_path, done=0) as project:
        store = project.store
        (task, _) = store.tasks()
        rows = [NewAnnotation(task.scan, "disc", "k", k, "accepted", square(2, 8), 3) for k in range(4)]
        store.add_annotations(rows)
        store.withdraw_tasks([task.id], "made by the model alone")
        yield project


def killed(*given):
    raise OSError("killed")


def test_a_sample_is_audited_and_a_wrong_mask_is_rejected_and_drawn_again(audited_project):
    store = audited_project.store
    rita = store.add_user("Rita", Role.REVIEWER, kind="proxy").reader
    tasks = sample(audited_project, 3)
    assert len({task.slices for task in tasks}) == 3
    assert len(sample(audited_project, 3)) == 1, "none is looked at twice"
    # a server that is killed in between says and does all of it once it is asked again
    for task, high in zip(tasks, (8, 8, 4), strict=True):
        store.take_task(task.id, rita, 60)
        drawn = NewAnnotation(task.scan, "disc", "k", task.slices[0], "edited", square(2, high))
        store.submit_task(task.id, rita, [drawn])
        for dies in ("add_annotations", "add_verdict"):
            with pytest.MonkeyPatch.context() as patch, suppress(OSError):
                patch.setattr(type(store), dies, killed)
                handed_in(audited_project, store.task(task.key))
        catch_up(audited_project)
        catch_up(audited_project)
    found = audit_of(audited_project)
    assert (found["good"], found["wrong"], found["masks"], found["waiting"]) == (2, 1, 3, 1)
    assert found["right"] == pytest.approx(2 / 3)
    standing = {one.slice: (one.by, one.mask.area) for one in store.standing(tasks[0].scan)}
    assert standing == {n: (rita.id, 4) if n == tasks[2].slices[0] else (None, 36) for n in range(4)}
    assert [task.scan for task in store.tasks(["open"], ["draw"])].count(tasks[0].scan) == 1, "it is drawn again"


def test_the_command_draws_a_sample_and_tells_what_was_said(audited_project, capsys):
    folder = str(audited_project.folder)
    assert main(["annotate", "audit", folder, "--sample", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["made"], found["waiting"], found["right"]) == (2, 2, None)
    assert main(["annotate", "audit", folder, "--sample", "0"]) == 2


def test_the_interval_of_a_share():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(45, 50)
    assert (round(low, 3), round(high, 3)) == (0.786, 0.957)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
