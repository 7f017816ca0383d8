"""Calibration of the predicted IoU: every number by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.errors import InputError
from medsam.evaluation.calibration import calibration, selective_dice
from medsam.metrics.detection import auroc


def slices(rows: Sequence[tuple[float, float, float]], model: str = "sam", prompt: str = "box") -> pd.DataFrame:
    """Rows of slices.csv from (predicted IoU, IoU, Dice)."""
    names = {"case": "a", "patient": "a", "structure": "liver", "model": model, "prompt": prompt}
    return pd.DataFrame(
        [
            {**names, "slice": number, "predicted_iou": predicted, "iou": true, "dice": dice}
            for number, (predicted, true, dice) in enumerate(rows)
        ]
    )


def one(rows: Sequence[tuple[float, float, float]], **options: Any) -> dict[str, Any]:
    return calibration(slices(rows), **options)["sam"]


def test_ece_by_hand() -> None:
    # bin [0.5, 1]: predicted 0.9 and 0.7, true 0.8 and 0.5: gap 0.8 - 0.65; bin [0, 0.5): 0.2 against 0.3
    found = one([(0.9, 0.8, 0.9), (0.7, 0.5, 0.6), (0.2, 0.3, 0.4)], bins=2)
    assert found["bins"] == [
        {"low": 0.0, "high": 0.5, "n": 1, "predicted": 0.2, "true": 0.3},
        {"low": 0.5, "high": 1.0, "n": 2, "predicted": pytest.approx(0.8), "true": pytest.approx(0.65)},
    ]
    assert found["ece"] == pytest.approx((2 * 0.15 + 1 * 0.1) / 3)
    assert found["mce"] == pytest.approx(0.15)
    assert found["bias"] == pytest.approx((1.8 - 1.6) / 3)


def test_the_expected_dice_by_hand() -> None:
    rows = slices([(0.9, 0.8, 0.9), (0.9, 0.8, 0.6), (0.9, 0.8, 0.5)])
    assert "expected_dice" not in calibration(rows)["sam"]
    told = rows.assign(expected_dice=[0.8, 0.8, np.nan], unfamiliar=[0, 1, np.nan])
    told = told.assign(expected_dice_low=told["expected_dice"] - 0.15, expected_dice_high=told["expected_dice"] + 0.1)
    assert calibration(told, bins=2)["sam"]["expected_dice"] == {
        "n": 2,
        "bins": [
            {"low": 0.0, "high": 0.5, "n": 0, "predicted": None, "true": None},
            {"low": 0.5, "high": 1.0, "n": 2, "predicted": 0.8, "true": 0.75},
        ],
        "ece": pytest.approx(0.05),
        "mce": pytest.approx(0.05),
        "bias": pytest.approx(0.05),
        "failed": 1,
        # the two are expected to be alike
        "auroc": 0.5,
        "within": 0.5,
        "unfamiliar": 1,
    }
    assert "expected_dice" not in calibration(told.assign(expected_dice=np.nan))["sam"]


def test_a_model_that_is_right_about_itself_has_no_error() -> None:
    found = one([(value, value, 1.0) for value in (0.05, 0.35, 0.62, 0.99, 1.0)])
    assert (found["ece"], found["mce"], found["bias"]) == (0.0, 0.0, 0.0)


def test_predictions_beyond_the_scale_fall_in_the_outer_bins_and_keep_their_value() -> None:
    found = one([(1.04, 0.9, 0.9), (-0.02, 0.1, 0.2)])
    assert (found["bins"][-1]["n"], found["bins"][-1]["predicted"]) == (1, 1.04)
    assert (found["bins"][0]["n"], found["bins"][0]["predicted"]) == (1, -0.02)
    assert found["bins"][4] == {"low": 0.4, "high": 0.5, "n": 0, "predicted": None, "true": None}


def test_auroc_by_hand() -> None:
    # failures (Dice < 0.7) predicted 0.3 and 0.8, successes 0.9, 0.8, 0.5:
    # 0.3 lies below all three; 0.8 below one, level with one, above one: (3 + 1.5) / 6
    rows = [(0.3, 0.2, 0.2), (0.8, 0.2, 0.69), (0.9, 0.8, 0.9), (0.8, 0.8, 0.7), (0.5, 0.8, 0.9)]
    found = one(rows)
    assert found["failed"] == 2
    assert found["auroc"] == pytest.approx(4.5 / 6)
    assert found["auroc_note"] is None


@pytest.mark.parametrize(("dice", "said"), [(0.9, "no failure to find"), (0.1, "no success to tell")])
def test_auroc_needs_both_failures_and_successes(dice: float, said: str) -> None:
    found = one([(0.9, 0.8, dice), (0.5, 0.4, dice)])
    assert found["auroc"] is None
    assert said in found["auroc_note"]


def test_a_perfect_order_reaches_the_perfect_aurc_and_the_reverse_is_the_worst() -> None:
    dice = [1.0, 0.8, 0.6, 0.2]
    perfect = one([(0.9 - 0.1 * n, value, value) for n, value in enumerate(dice)])
    worst = one([(0.1 * n, value, value) for n, value in enumerate(dice)])
    # keeping 1, 2, 3, 4 slices: mean Dice 1, 0.9, 0.8, 0.65
    assert [point["dice"] for point in perfect["curve"]] == pytest.approx([1.0, 0.9, 0.8, 0.65])
    assert [point["coverage"] for point in perfect["curve"]] == [0.25, 0.5, 0.75, 1.0]
    assert perfect["aurc"] == pytest.approx(1 - (1.0 + 0.9 + 0.8 + 0.65) / 4)
    assert perfect["aurc"] == perfect["aurc_perfect"] == worst["aurc_perfect"]
    # worst: 0.2, 0.4, 1.6 / 3, 0.65
    assert worst["aurc"] == pytest.approx(1 - (0.2 + 0.4 + 1.6 / 3 + 0.65) / 4)
    assert perfect["aurc_random"] == pytest.approx(0.35)
    assert perfect["aurc"] < perfect["aurc_random"] < worst["aurc"]
    assert (perfect["auroc"], worst["auroc"]) == (1.0, 0.0)


def test_slices_of_equal_confidence_share_their_mean() -> None:
    np.testing.assert_allclose(
        selective_dice(np.array([0.5, 0.9, 0.5]), np.array([1.0, 0.7, 0.0])), [0.7, 0.6, 1.7 / 3]
    )
    found = one([(0.5, 0.5, 1.0), (0.5, 0.5, 0.0)])
    assert found["aurc"] == found["aurc_random"] == 0.5


def test_a_long_curve_is_thinned_but_the_area_is_not() -> None:
    draw = np.random.default_rng(3)
    rows = [(float(p), 0.5, float(d)) for p, d in zip(draw.random(500), draw.random(500), strict=True)]
    full, thin = one(rows, points=500), one(rows, points=11)
    assert (len(full["curve"]), len(thin["curve"])) == (500, 11)
    assert full["aurc"] == thin["aurc"] == pytest.approx(1 - np.mean([point["dice"] for point in full["curve"]]))
    assert thin["curve"][-1] == full["curve"][-1] == {"coverage": 1.0, "dice": pytest.approx(1 - full["aurc_random"])}


def test_slices_without_a_prediction_are_counted_and_left_out() -> None:
    found = one([(0.9, 0.8, 0.9), (np.nan, 0.8, 0.9), (0.8, np.nan, np.nan)])
    assert (found["n"], found["missing"]) == (1, 2)


def test_models_stay_apart_and_an_answer_without_a_model_has_no_calibration() -> None:
    table = pd.concat(
        [
            slices([(0.9, 0.5, 0.6)], "one"),
            slices([(0.5, 0.5, 0.6)], "two"),
            slices([(np.nan, 0.5, 0.6)], "filled-box"),
            slices([(0.1, 0.9, 0.9)], "one", "box+5px"),
        ]
    )
    found = calibration(table)
    assert {model: entry["ece"] for model, entry in found.items()} == {"one": pytest.approx(0.4), "two": 0.0}
    assert calibration(table, prompt="box+5px")["one"]["bias"] == pytest.approx(-0.8)


def test_what_makes_no_sense_is_refused() -> None:
    rows = [(0.9, 0.8, 0.9)]
    with pytest.raises(InputError, match="not 0 and 101"):
        one(rows, bins=0)
    with pytest.raises(InputError, match=r"Dice in \(0, 1\], not 70"):
        one(rows, fail_below=70)
    with pytest.raises(InputError, match="No slice was prompted with 'point'"):
        one(rows, prompt="point")
    with pytest.raises(InputError, match="lacks the columns predicted_iou"):
        calibration(slices(rows).drop(columns="predicted_iou"))


unit = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.2, 1.2), unit, unit), min_size=1, max_size=30), st.randoms())
def test_order_changes_nothing_and_every_number_stays_on_its_scale(
    rows: list[tuple[float, float, float]], random: Any
) -> None:
    found = one(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert one(shuffled) == found
    json.dumps(found, allow_nan=False)
    assert sum(entry["n"] for entry in found["bins"]) == found["n"] == len(rows)
    assert abs(found["bias"]) - 1e-12 <= found["ece"] <= found["mce"] + 1e-12
    assert found["aurc_perfect"] - 1e-12 <= found["aurc"] <= 1
    assert found["auroc"] is None or 0 <= found["auroc"] <= 1


def test_auroc_counts_pairs() -> None:
    draw = np.random.default_rng(0)
    score, positive = draw.integers(0, 6, 40), draw.random(40) < 0.4
    pairs = [(high > low) + 0.5 * (high == low) for high in score[positive] for low in score[~positive]]
    assert auroc(score, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(score, np.zeros(40, dtype=bool)))
