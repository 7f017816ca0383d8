import json

import numpy as np
import pytest
from phantoms import ThresholdSam, block, random_affine

from medsam.errors import InputError
from medsam.evaluation.case import EvaluationCase, evaluate_case
from medsam.evaluation.protocol import Protocol
from medsam.evaluation.tables import BASELINES, COLUMNS
from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.volume import Volume


@pytest.fixture
def predictors():
    return {"threshold": Predictor(ThresholdSam(), device="cpu")}


def subject(shape=(5, 20, 30), box=(4, 6, 1, 14, 12, 4), affine=None, **changes):
    scan, mask = block(shape, box, affine)
    return EvaluationCase(
        **{
            "case": "c",
            "key": "c",
            "patient": "p",
            "scan": scan,
            "references": {"node": mask},
            "labels": {"node": 1},
            **changes,
        }
    )


def plain(**changes):
    """The published way, one look at the whole slice: the phantom's answers are then exact."""
    return Protocol(zoom="off", **changes)


def row(result, model, prompt="box", structure="node"):
    (found,) = [r for r in result.rows if (r["model"], r["prompt"], r["structure"]) == (model, prompt, structure)]
    return found


def test_a_window_that_the_manifest_overrides_is_told(predictors):
    said = evaluate_case(subject(window="110,180"), predictors, plain(window="liver"))
    assert (said.window, said.notes) == (
        "110,180",
        ["seen through 110,180, which its manifest names, and not through liver"],
    )
    assert evaluate_case(subject(window="110,180"), predictors, plain()).notes == []


def test_a_perfect_answer_and_the_answers_without_a_model(predictors):
    result = evaluate_case(subject(), predictors, plain())
    assert [r["model"] for r in result.rows] == [*BASELINES[:2], "threshold"]
    perfect = row(result, "threshold")
    assert tuple(perfect) == COLUMNS
    assert (perfect["dice"], perfect["iou"], perfect["nsd"], perfect["hd95_mm"]) == (1, 1, 1, 0)
    assert (perfect["n_slices"], perfect["label"], perfect["patient"]) == (3, 1, "p")
    assert perfect["volume_ml"] == perfect["volume_ref_ml"] == pytest.approx(10 * 6 * 3 / 1000)
    assert perfect["predicted_iou"] == pytest.approx(0.9)
    assert perfect["seconds"] > 0
    assert perfect["encoder_calls"] == 3
    filled, ellipse = row(result, "filled-box"), row(result, "inscribed-ellipse")
    assert filled["dice"] == 1  # the reference is a box
    assert 0.8 < ellipse["dice"] < 0.95
    assert filled["predicted_iou"] is None
    assert filled["seconds"] is filled["encoder_calls"] is None


def test_slices_have_their_own_rows(predictors):
    result = evaluate_case(subject(), predictors, plain())
    mine = [r for r in result.slices if r["model"] == "threshold"]
    assert [r["slice"] for r in mine] == [1, 2, 3]
    assert all(r["n_slices"] == 1 and r["dice"] == 1 for r in mine)
    assert sum(r["volume_ml"] for r in mine) == pytest.approx(row(result, "threshold")["volume_ml"])


def test_only_slices_with_ten_pixels_are_asked_and_scored(predictors):
    scan, mask = block((4, 20, 30), (4, 6, 0, 14, 12, 4))
    mask = mask.copy()
    mask[0] = False
    mask[0, 0, :9] = True  # nine pixels: neither prompted nor held against anybody
    result = evaluate_case(subject(scan=scan, references={"node": mask}), predictors, plain())
    assert row(result, "filled-box")["n_slices"] == 3
    assert row(result, "filled-box")["dice"] == 1


def test_an_absent_structure_has_no_row_and_an_empty_case_none_at_all(predictors):
    scan, mask = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    references = {"node": mask, "spleen": np.zeros_like(mask)}
    result = evaluate_case(
        subject(scan=scan, references=references, labels={"node": 1, "spleen": 2}), predictors, plain()
    )
    assert {r["structure"] for r in result.rows} == {"node"}
    assert result.skipped == [{"structure": "spleen", "why": "absent"}]
    nothing = subject(scan=scan, references={"spleen": np.zeros_like(mask)}, labels={"spleen": 2})
    assert evaluate_case(nothing, predictors, plain()).rows == []


def test_an_empty_answer_scores_zero_and_has_no_distance(predictors):
    scan, mask = block((3, 20, 30), (4, 6, 0, 14, 12, 3), outside=200.0)  # no contrast: the phantom finds nothing
    result = evaluate_case(subject(scan=scan, references={"node": mask}), predictors, plain())
    empty = row(result, "threshold")
    assert (empty["dice"], empty["iou"], empty["nsd"], empty["volume_ml"]) == (0, 0, 0, 0)
    assert empty["hd95_mm"] is None
    assert empty["assd_mm"] is None


def test_a_picture_is_one_slice_without_millimetres(predictors):
    scan, mask = block((1, 20, 30), (4, 6, 0, 14, 12, 1))
    picture = Volume(scan.array, VolumeGeometry.uncalibrated((1, 20, 30)))
    result = evaluate_case(subject(scan=picture, references={"node": mask}), predictors, plain())
    found = row(result, "threshold")
    assert (found["dice"], found["nsd"], found["n_slices"]) == (1, 1, 1)
    assert found["hd95_mm"] is found["volume_ml"] is None
    assert "slice" not in found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_any_orientation_and_axis_scores_the_same_block_perfectly(predictors, seed, axis):
    affine = random_affine(np.random.default_rng(seed), (1.0, 1.5, 2.0), oblique=True)
    result = evaluate_case(subject((8, 12, 14), (3, 2, 1, 10, 9, 6), affine), predictors, plain(axis=axis))
    assert row(result, "threshold")["dice"] == 1
    assert row(result, "threshold")["hd95_mm"] == 0


def test_each_slice_is_encoded_once_for_all_structures_and_jitters(predictors):
    scan, mask = block((4, 20, 30), (4, 6, 1, 14, 12, 3))
    scan.array[2, 0, 0] = 100  # else the cache knows the second slice from the first
    references = {"a": mask, "b": np.roll(mask, 3, axis=2)}
    protocol = plain(jitter_px=(0, 5, 10), oracle=True)
    evaluate_case(subject(scan=scan, references=references, labels={"a": 1, "b": 2}), predictors, protocol)
    sam = predictors["threshold"].sam
    assert sam.encoded == 2
    assert sam.decoded == 2 * (2 * 3 + 2)


def test_jitter_is_drawn_from_the_case_not_from_the_order(predictors):
    protocol = plain(jitter_px=(10,), seed=3)
    both = subject()
    other = subject(case="d", key="d")
    first = evaluate_case(both, predictors, protocol)
    evaluate_case(other, predictors, protocol)
    again = evaluate_case(both, predictors, protocol)
    assert row(first, "filled-box", "box+10px")["dice"] == row(again, "filled-box", "box+10px")["dice"]
    moved = evaluate_case(both, predictors, plain(jitter_px=(10,), seed=4))
    assert row(moved, "filled-box", "box+10px")["dice"] != row(first, "filled-box", "box+10px")["dice"]


def test_loose_boxes_cost_the_answers_without_a_model(predictors):
    result = evaluate_case(subject(), predictors, plain(jitter_px=(0, 5)))
    assert row(result, "filled-box", "box+5px")["dice"] < row(result, "filled-box")["dice"]


def test_the_oracle_is_never_worse_than_its_best_guess(predictors):
    result = evaluate_case(subject(), predictors, plain(oracle=True))
    assert row(result, "threshold", "box:oracle3")["dice"] >= row(result, "threshold")["dice"]
    assert {r["model"] for r in result.rows if r["prompt"] == "box:oracle3"} == {"threshold"}


def test_pictures_for_the_report_are_upright_and_of_the_largest_slice(predictors):
    scan, mask = block((3, 20, 30), (4, 6, 0, 14, 12, 3), np.diag([-1.0, -1, 1, 1]))  # stored RAS
    mask = mask.copy()
    mask[2, 12:15, 4:14] = True
    result = evaluate_case(subject(scan=scan, references={"node": mask}), predictors, plain())
    (picture,) = result.overlays
    assert picture["slice"] == 2
    assert picture["image"].dtype == np.uint8
    np.testing.assert_array_equal(picture["reference"], mask[2, ::-1, ::-1])
    assert picture["box"] == [30 - 14, 20 - 15, 30 - 4, 20 - 6]
    json.dumps({key: value for key, value in picture.items() if key not in ("image", "reference", "prediction")})


def test_masks_hold_what_was_scored_and_overlapping_structures_are_kept_apart(predictors):
    scan, mask = block((3, 20, 30), (4, 6, 0, 20, 14, 3))
    first, second = mask.copy(), mask.copy()
    first[:, :, 14:] = False
    second[:, :, :10] = False
    both = subject(scan=scan, references={"a": first, "b": second}, labels={"a": 7, "b": 9})
    result = evaluate_case(both, predictors, plain(), keep_masks=True)
    labels = result.masks["threshold"]
    assert labels.names == {7: "a", 9: "b"}
    assert set(np.unique(labels.array)) == {0, 7, 9}
    # the phantom trusts its first prompt more, so b lost the shared pixels in the label map
    assert list(result.alone) == [("threshold", "b")]
    np.testing.assert_array_equal(labels.array == 7, first)
    np.testing.assert_array_equal(result.alone["threshold", "b"], second)
    assert row(result, "threshold", structure="b")["dice"] == 1


def test_a_reference_off_the_grid_is_refused(predictors):
    with pytest.raises(InputError, match=r"c: the reference of 'node' has shape \(2, 2, 2\)"):
        evaluate_case(subject(references={"node": np.ones((2, 2, 2), bool)}), predictors, plain())


def test_a_larger_jitter_moves_the_same_edges_further(predictors):
    result = evaluate_case(subject((5, 60, 60), (20, 20, 1, 40, 40, 4)), predictors, plain(jitter_px=(0, 5, 10, 20)))
    dice = [row(result, "filled-box", name)["dice"] for name in ("box", "box+5px", "box+10px", "box+20px")]
    assert dice == sorted(dice, reverse=True)


def test_the_name_of_a_set_does_not_change_what_is_drawn(predictors):
    protocol = plain(jitter_px=(10,))
    alone = evaluate_case(subject(), predictors, protocol)
    among_others = evaluate_case(subject(case="set/c"), predictors, protocol)
    assert row(alone, "filled-box", "box+10px")["dice"] == row(among_others, "filled-box", "box+10px")["dice"]


def test_voxels_that_are_not_finite_are_noted(predictors):
    scan, mask = block((2, 20, 30), (4, 6, 0, 14, 12, 2))
    scan.array[0, 0, :12] = np.nan
    result = evaluate_case(subject(scan=scan, references={"node": mask}), predictors, plain())
    assert result.notes == ["1 % of its voxels are not finite"]


def test_slices_tell_what_dice_is_expected_of_a_box(predictors, monkeypatch):
    from medsam.inference.trust import TrustModel

    one = np.ones(1)
    model = TrustModel(("fill",), one, one, one, one, bias=2.0)
    digest = predictors["threshold"].images.weights
    monkeypatch.setattr("medsam.inference.combine.shipped", lambda: {digest: model})
    result = evaluate_case(subject(), predictors, Protocol())
    mine = [r for r in result.slices if r["model"] == "threshold"]
    assert [r["expected_dice"] for r in mine] == pytest.approx([1 / (1 + np.exp(-2))] * 3, abs=0.01)
    assert all(r["expected_dice_low"] < r["expected_dice"] < r["expected_dice_high"] for r in mine)
    assert [r["unfamiliar"] for r in mine] == [0, 0, 0]
    drawn = next(r for r in result.slices if r["model"] == "filled-box")
    assert drawn["expected_dice"] is drawn["unfamiliar"] is None
    assert tuple(result.rows[0]) == COLUMNS
