"""What `medsam evaluate` asks besides boxes: clicks, masks, boxes with clicks, propagation; answers known by hand."""

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.evaluation.case import EvaluationCase, evaluate_case
from medsam.evaluation.protocol import Protocol
from medsam.inference import looks
from medsam.inference.predictor import Predictor
from medsam.volume import Volume


@pytest.fixture
def predictors():
    return {"threshold": Predictor(ThresholdSam(), device="cpu")}


def two_blocks(count=5, slices=(1, 4)):
    """A scan with two bright blocks on slices `slices[0] ... slices[1] - 1`, and a reference of each."""
    shape, (first, last) = (count, 40, 60), slices
    scan, left = block(shape, (5, 5, first, 16, 16, last))
    _, right = block(shape, (30, 10, first, 51, 31, last))
    # no two looks alike: the cache would know them again
    noise = np.random.default_rng(0).uniform(0, 5, shape)
    array = (np.where(left | right, 200, scan.array) + noise).astype(np.float32)
    array[:, 0, 59] = 205  # something bright on every slice: the phantom sees each between its darkest and brightest
    volume = Volume(array, scan.geometry)
    return EvaluationCase("c", "c", "p", volume, {"left": left, "right": right}, {"left": 1, "right": 2})


def rows(result, **wanted):
    return [row for row in result.rows if all(row[key] == value for key, value in wanted.items())]


def one(result, prompt, structure="left", model="threshold"):
    (found,) = rows(result, prompt=prompt, structure=structure, model=model)
    return found


def asked(*prompts, **changes):
    return Protocol(prompts=prompts, zoom="off", **changes)


def test_a_click_in_each_structure_finds_it(predictors):
    result = evaluate_case(two_blocks(), predictors, asked("point"))
    assert [(row["model"], row["prompt"], row["structure"]) for row in result.rows] == [
        ("threshold", "point", "left"),
        ("threshold", "point", "right"),
    ], "no answer without a model: a click does not say how large a structure is"
    assert [row["dice"] for row in result.rows] == [1, 1]
    assert [row["n_slices"] for row in result.rows] == [3, 3]


def test_more_clicks_mend_what_fewer_leave(predictors):
    subject = two_blocks()
    both = subject.references["left"] | subject.references["right"]
    joined = EvaluationCase("c", "c", "p", subject.scan, {"both": both}, {"both": 1})
    result = evaluate_case(joined, predictors, asked("box", "box+points:1", "point", "points:3"))
    assert one(result, "box", "both")["dice"] == 1
    assert one(result, "box+points:1", "both")["dice"] == 1, "nothing wrong, so no click"
    # the phantom, given its answer back, never grows: it stays with the larger block
    assert one(result, "point", "both")["dice"] == pytest.approx(2 * 441 / (441 + 441 + 121))
    assert predictors["threshold"].sam.encoded == 3


def test_a_click_outside_mends_a_loose_box(predictors):
    subject = two_blocks()
    subject.references["right"][1:4, 10, 0:5] = True  # dark, and its box now holds half of the left block too
    result = evaluate_case(subject, predictors, asked("box", "box+points:1"))
    assert one(result, "box", "right")["dice"] == pytest.approx(2 * 441 / (446 + 441 + 66))
    assert one(result, "box+points:1", "right")["dice"] == pytest.approx(2 * 441 / (446 + 441))


def test_several_prompts_stand_beside_each_other_primary_first(predictors):
    protocol = asked("points:2", "box", "mask", jitter_px=(3, 0))
    result = evaluate_case(two_blocks(), predictors, protocol)
    assert tuple(dict.fromkeys(row["prompt"] for row in result.rows)) == ("points:2", "box+3px", "box", "mask")
    assert result.rows[0]["prompt"] == "points:2"
    assert {row["model"] for row in rows(result, prompt="box")} == {"filled-box", "inscribed-ellipse", "threshold"}
    assert {row["model"] for row in rows(result, prompt="points:2")} == {"threshold"}
    assert {row["model"] for row in rows(result, prompt="mask")} == {"given-mask", "threshold"}
    assert {entry["prompt"] for entry in result.overlays} == {"points:2"}


def test_a_rough_mask_is_given_scored_as_it_is_and_the_same_every_time(predictors):
    result = evaluate_case(two_blocks(), predictors, asked("mask"))
    given = one(result, "mask", model="given-mask")
    assert 0.7 < given["dice"] < 1
    assert given["seconds"] is given["encoder_calls"] is given["predicted_iou"] is None
    # the phantom answers with what is bright in the mask
    assert one(result, "mask")["dice"] >= given["dice"]
    again = evaluate_case(two_blocks(), predictors, asked("mask"))
    assert one(again, "mask", model="given-mask") == given
    other = evaluate_case(two_blocks(), predictors, asked("mask", seed=1))
    assert one(other, "mask", model="given-mask")["dice"] != given["dice"]


def test_other_prompts_change_neither_answers_nor_encoder_calls(predictors):
    everything = asked("box", "point", "points:3", "box+points:2", "mask", jitter_px=(0, 5))
    together = evaluate_case(two_blocks(), predictors, everything)
    assert predictors["threshold"].sam.encoded == 3, "each slice once for all of it"
    for prompt in ("box", "point", "points:3", "box+points:2", "mask"):
        alone = evaluate_case(two_blocks(), predictors, asked(prompt))
        for structure in ("left", "right"):
            expected, found = one(alone, prompt, structure), one(together, prompt, structure)
            assert {**expected, "seconds": 0} == {**found, "seconds": 0}
            # three slices, a look each, shared by two structures
            assert found["encoder_calls"] == pytest.approx(1.5)
            assert found["seconds"] > 0


def test_encoder_calls_are_those_of_a_run_of_its_own(monkeypatch):
    monkeypatch.setattr(looks, "_leaves_empty", lambda *_: True)
    for zoom in ("off", "on", "auto"):
        fresh = Predictor(ThresholdSam(32), device="cpu")  # so small that a closer look shows more
        result = evaluate_case(two_blocks(), {"threshold": fresh}, Protocol(prompts=("box",), zoom=zoom))
        charged = sum(row["encoder_calls"] for row in rows(result, model="threshold"))
        assert charged == pytest.approx(fresh.sam.encoded), zoom
        if zoom == "off":
            assert fresh.sam.encoded == 3
        else:
            assert fresh.sam.encoded > 3, "the small one is looked at closer"


def test_clicks_and_boxes_are_kept_for_the_report_upright(predictors):
    result = evaluate_case(two_blocks(), predictors, asked("box+points:2"))
    picture = next(entry for entry in result.overlays if entry["structure"] == "left")
    assert picture["box"] == [5, 5, 16, 16]
    assert picture["points"] == []
    result = evaluate_case(two_blocks(), predictors, asked("point"))
    picture = next(entry for entry in result.overlays if entry["structure"] == "left")
    assert picture["box"] is None
    assert picture["points"] == [[10.5, 10.5, 1]]


def test_propagation_is_asked_once_and_scored_on_the_whole_volume(predictors):
    result = evaluate_case(two_blocks(9, (2, 7)), predictors, asked("propagate"))
    assert {row["model"] for row in result.rows} == {"threshold"}
    for row in result.rows:
        assert row["dice"] == pytest.approx(1)
        assert row["n_slices"] == 5
        assert row["encoder_calls"] > 0
    assert [row["slice"] for row in result.slices if row["structure"] == "left"] == [2, 3, 4, 5, 6]
    picture = result.overlays[0]
    assert picture["prompt"] == "propagate"


def test_going_on_past_the_end_counts_against_propagation(predictors):
    """The block goes on in the scan, where the reference says that the structure has ended."""
    subject = two_blocks(9, (0, 9))
    for mask in subject.references.values():
        mask[:2] = mask[7:] = False
    result = evaluate_case(subject, predictors, asked("box", "propagate"))
    assert one(result, "box")["dice"] == 1
    spread = one(result, "propagate")
    assert spread["n_slices"] > 5
    assert spread["dice"] == pytest.approx(2 * 5 / (5 + spread["n_slices"]))
    beyond = [row for row in result.slices if row["prompt"] == "propagate" and row["slice"] in (0, 1, 7, 8)]
    assert beyond
    assert all(row["dice"] == 0 and row["volume_ref_ml"] == 0 for row in beyond)


def test_a_missed_slice_counts_against_propagation_too(predictors):
    subject = two_blocks(9, (2, 5))
    subject.references["left"][7, 5:16, 5:16] = True  # apart: no path leads there
    result = evaluate_case(subject, predictors, asked("propagate"))
    found = one(result, "propagate")
    assert found["n_slices"] == 4
    assert found["dice"] == pytest.approx(2 * 3 / (3 + 4))
    missed = [row for row in result.slices if row["structure"] == "left" and row["slice"] == 7]
    assert [(row["dice"], row["predicted_iou"]) for row in missed] == [(0, None)]


def test_one_slice_has_nothing_to_propagate_to(predictors):
    result = evaluate_case(two_blocks(1, (0, 1)), predictors, asked("box", "propagate"))
    assert {row["prompt"] for row in result.rows} == {"box"}
    assert result.skipped == [
        {"structure": name, "why": "not propagated: the scan has one slice only"} for name in ("left", "right")
    ]
    assert evaluate_case(two_blocks(1, (0, 1)), predictors, asked("propagate")).rows == []


def test_masks_are_those_of_the_primary_prompt(predictors):
    result = evaluate_case(two_blocks(), predictors, asked("point", "box"), keep_masks=True)
    labels = result.masks["threshold"].array
    references = two_blocks().references
    np.testing.assert_array_equal(labels, references["left"] + 2 * references["right"])


def test_what_is_drawn_stands_beside_what_it_describes_and_corrections_are_told(predictors):
    subject = two_blocks()
    subject.references["right"][1:4, 10, 0:5] = True  # dark, and its box now holds half of the left block too
    result = evaluate_case(subject, predictors, asked("lasso", "line", "ellipse", "box", "box+points:2"))
    models = {prompt: {row["model"] for row in rows(result, prompt=prompt)} for prompt in ("lasso", "line", "ellipse")}
    assert set(map(frozenset, models.values())) == {frozenset({"given-mask", "threshold"})}
    assert rows(result, prompt="box+points:2", model="inscribed-ellipse") == []
    assert [inside for _, inside in result.overlays[0]["strokes"]] == [True], "the lasso of the primary prompt"
    step, *_ = [row for row in result.steps if row["structure"] == "right"]
    assert {key: step[key] for key in ("model", "prompt", "slice", "step", "inside")} == {
        "model": "threshold",
        "prompt": "box+points",
        "slice": 1,
        "step": 1,
        "inside": False,
    }
    assert step["error_px"] == 66
    assert [row for row in result.steps if row["structure"] == "left"] == [], "nothing wrong, no correction"


def test_some_slices_of_each_structure_evenly_spread(predictors):
    subject = two_blocks(9, (0, 9))
    subject.references["left"][:6] = False
    result = evaluate_case(subject, predictors, asked("box", slices=3))
    prompted = {name: [row["slice"] for row in result.slices if row["structure"] == name] for name in ("left", "right")}
    assert {name: sorted(set(slices)) for name, slices in prompted.items()} == {"left": [6, 7, 8], "right": [1, 4, 7]}
