"""Statistics of an evaluation: what each number is, by hand, and what an interval by patient means."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluations import row, table
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.errors import InputError
from medsam.evaluation.bootstrap import PatientBootstrap
from medsam.evaluation.summary import by_dataset, models_of, robustness, summarise
from medsam.evaluation.tables import METRICS


def test_overall_is_the_mean_over_structures_so_a_common_one_does_not_outweigh_a_rare_one() -> None:
    metrics = table(row("a", "liver", 0.9), row("b", "liver", 0.8), row("c", "liver", 0.7), row("a", "cyst", 0.4))
    found = summarise(metrics)["sam"]
    liver = found["structures"]["liver"]["dice"]
    assert liver["mean"] == pytest.approx(0.8)
    assert liver["median"] == pytest.approx(0.8)
    assert liver["std"] == pytest.approx(0.1)
    assert (liver["n"], liver["missing"], liver["patients"]) == (3, 0, 3)
    assert found["structures"]["cyst"]["dice"]["std"] is None  # one case has no spread
    assert found["overall"]["dice"]["mean"] == pytest.approx((0.8 + 0.4) / 2)
    assert found["overall"]["dice"]["std"] == pytest.approx(0.1)
    assert found["overall"]["dice"]["n"] == 4
    assert list(found["overall"]) == list(METRICS) == list(found["structures"]["cyst"])


def test_volume_error_is_prediction_minus_reference_and_percent_is_of_the_reference() -> None:
    metrics = table(
        row("a", "liver", 1, volume_ml=90.0, volume_ref_ml=100.0),
        row("b", "liver", 1, volume_ml=60.0, volume_ref_ml=50.0),
        row("c", "liver", 1, volume_ml=1.0, volume_ref_ml=0.0),
    )
    overall = summarise(metrics)["sam"]["overall"]
    assert overall["volume_error_ml"]["mean"] == pytest.approx((-10 + 10 + 1) / 3)
    assert overall["volume_error_percent"]["mean"] == pytest.approx((-10 + 20) / 2)
    assert (overall["volume_error_percent"]["n"], overall["volume_error_percent"]["missing"]) == (2, 1)


@pytest.mark.parametrize("undefined", [np.nan, np.inf, None])
def test_a_value_that_is_not_defined_is_left_out_and_counted(undefined: float | None) -> None:
    metrics = table(row("a", "liver", 0.9, hd95_mm=4.0), row("b", "liver", 0.0, hd95_mm=undefined))
    distance = summarise(metrics)["sam"]["overall"]["hd95_mm"]
    assert (distance["mean"], distance["n"], distance["missing"], distance["patients"]) == (4.0, 1, 1, 1)
    assert distance["ci95"] is None  # one patient is nothing to resample


def test_a_metric_nobody_has_is_null_not_zero() -> None:
    metrics = table(*(row(case, "liver", 0.5, predicted_iou=np.nan, model="filled-box") for case in "ab"))
    assert summarise(metrics)["filled-box"]["overall"]["predicted_iou"] == {
        "mean": None,
        "median": None,
        "std": None,
        "ci95": None,
        "n": 0,
        "missing": 2,
        "patients": 0,
    }


def far(distances: list[float | None], **more: Any) -> pd.DataFrame:
    """HD95 of one case each; None is an empty answer."""
    return table(
        *(
            row(f"c{n}", "liver", 0.0 if far is None else 0.8, hd95_mm=np.nan if far is None else far, **more)
            for n, far in enumerate(distances)
        )
    )


def test_an_empty_answer_is_the_worst_distance_in_a_median_and_left_out_of_the_mean() -> None:
    found = summarise(far([1.0, 2.0, 3.0, None, None]))["sam"]
    for distance in (found["overall"]["hd95_mm"], found["structures"]["liver"]["hd95_mm"]):
        assert (distance["mean"], distance["median"], distance["n"], distance["missing"]) == (2.0, 3.0, 3, 2)
    half_empty = summarise(far([1.0, 2.0, None, None]))["sam"]
    for distance in (half_empty["overall"]["hd95_mm"], half_empty["structures"]["liver"]["hd95_mm"]):
        assert (distance["mean"], distance["median"]) == (1.5, None)
    json.dumps(half_empty, allow_nan=False)


def test_one_structure_without_a_finite_median_leaves_none_overall() -> None:
    metrics = pd.concat([far([None, None, 1.0]), table(row("c0", "cyst", 0.5, hd95_mm=4.0))])
    found = summarise(metrics)["sam"]
    assert found["structures"]["cyst"]["hd95_mm"]["median"] == 4.0
    assert found["overall"]["hd95_mm"]["median"] is None


def test_an_image_without_a_size_has_no_distance_and_that_is_no_failure() -> None:
    blank = {"hd95_mm": np.nan, "volume_ml": np.nan, "volume_ref_ml": np.nan}
    metrics = table(
        row("a", "liver", 0.8, hd95_mm=4.0),
        row("b", "liver", 0.8, **blank),
        row("c", "liver", 0.0, **blank),  # empty, but no answer could have had a distance
        row("d", "liver", 0.8, hd95_mm=6.0),
    )
    distance = summarise(metrics)["sam"]["overall"]["hd95_mm"]
    assert (distance["mean"], distance["median"], distance["n"], distance["missing"]) == (5.0, 5.0, 2, 2)


def test_equal_values_have_an_interval_of_no_width() -> None:
    metrics = table(*(row(f"c{number}", "liver", 0.75) for number in range(9)))
    assert summarise(metrics, resamples=200)["sam"]["overall"]["dice"]["ci95"] == [0.75, 0.75]


@pytest.mark.parametrize(("patients", "has_one"), [(1, False), (2, False), (4, False), (5, True)])
def test_fewer_than_five_patients_have_no_interval(patients: int, has_one: bool) -> None:
    dice = summarise(table(*(row(f"c{n}", "liver", n / 10) for n in range(patients))))["sam"]
    assert (dice["overall"]["dice"]["ci95"] is not None) == has_one
    assert (dice["structures"]["liver"]["dice"]["ci95"] is not None) == has_one


def test_only_patients_with_a_value_count_towards_an_interval() -> None:
    found = summarise(far([1.0, 2.0, 3.0, 4.0, None]))["sam"]["overall"]
    assert found["dice"]["ci95"] is not None
    assert found["hd95_mm"]["ci95"] is None


def test_five_patients_of_whom_one_differs() -> None:
    # the mean of a resample is the share that drew q: none of five with chance 0.33, four or more with 0.007
    metrics = table(*(row(patient, "liver", float(patient == "q")) for patient in "pqrst"))
    assert summarise(metrics)["sam"]["structures"]["liver"]["dice"]["ci95"] == pytest.approx([0.0, 0.6])


def test_the_interval_is_by_patient_not_by_case() -> None:
    # ten equal cases each: the interval is that of five patients, not of fifty cases
    once = [row(patient, "liver", float(patient == "q")) for patient in "pqrst"]
    often = [one | {"case": f"{one['case']}{n}"} for one in once for n in range(10)]
    dice, alone = (summarise(table(*rows))["sam"]["overall"]["dice"] for rows in (often, once))
    assert dice["ci95"] == pytest.approx(alone["ci95"])
    assert (dice["n"], dice["patients"]) == (50, 5)


def test_many_scans_of_one_patient_have_no_interval() -> None:
    dice = summarise(table(*(row(f"c{n}", "liver", n / 5, patient="p") for n in range(5))))["sam"]["overall"]["dice"]
    assert dice["ci95"] is None
    assert dice["std"] is not None


def test_the_interval_agrees_with_the_formula_for_the_mean_of_many_patients() -> None:
    values = np.random.default_rng(5).normal(0.8, 0.05, 400)
    dice = summarise(table(*(row(f"c{n}", "liver", value) for n, value in enumerate(values))))["sam"]["overall"]["dice"]
    half = 1.96 * values.std() / 20
    assert dice["ci95"] == pytest.approx([values.mean() - half, values.mean() + half], abs=4e-4)


def test_a_structure_that_no_drawn_patient_has_is_skipped_in_that_resample() -> None:
    # the cyst is only in patient a: its mean is 0.4 in every resample that drew a, and missing in the others
    weights = np.array([[2, 0], [1, 1], [0, 2]], dtype=np.float32)
    bootstrap = PatientBootstrap(np.array(["a", "b"]), np.array([0, 0]), weights)
    means = bootstrap.means(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, np.array([0.4, 0.9, 0.7]))
    np.testing.assert_allclose(means, [[0.4, 0.9], [0.4, 0.8], [np.nan, 0.7]])
    # livers are alike: overall is 0.6 with the cyst and 0.8 in the third of resamples that lack it
    overall = summarise(table(row("a", "cyst", 0.4), *(row(case, "liver", 0.8) for case in "abcde")))["sam"]
    assert overall["structures"]["cyst"]["dice"]["ci95"] is None
    assert overall["overall"]["dice"]["ci95"] == pytest.approx([0.6, 0.8])


def test_sets_of_one_structure_each_do_not_push_the_mean_to_the_edge_of_its_interval() -> None:
    # two easy patients and twenty hard ones: drawn together, a resample lacks the easy set in one of eight
    easy = [row(f"easy/{n}", "polyp", 0.9) for n in range(2)]
    hard = [row(f"hard/{n}", "cyst", 0.1) for n in range(20)]
    dice = summarise(table(*easy, *hard))["sam"]["overall"]["dice"]
    assert dice["mean"] == pytest.approx(0.5)
    assert dice["ci95"] == pytest.approx([0.5, 0.5])


def test_a_data_set_of_one_patient_leaves_no_interval_to_what_it_contributes_to() -> None:
    many = [row(f"ct/{n}", "liver", n / 10, hd95_mm=float(n)) for n in range(6)]
    # a picture without a size contributes nothing to the distances
    blank = {"hd95_mm": np.nan, "volume_ml": np.nan, "volume_ref_ml": np.nan}
    metrics = table(*many, row("us/1", "lesion", 0.5, **blank))
    found = summarise(metrics)["sam"]
    assert found["overall"]["dice"]["ci95"] is None
    assert found["structures"]["liver"]["dice"]["ci95"] is not None
    assert found["overall"]["hd95_mm"]["ci95"] is not None
    assert by_dataset(metrics)["ct"]["sam"]["dice"]["ci95"] == found["structures"]["liver"]["dice"]["ci95"]


values = st.one_of(st.none(), st.floats(0, 1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["liver", "spleen", "cyst"]), values),
        min_size=1,
        max_size=15,
        unique_by=lambda entry: entry[:2],
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_rows_changes_nothing(entries: list[tuple[str, str, float | None]], random: Any) -> None:
    rows = [row(case, structure, value, patient=f"p{case in 'ab'}{case}") for case, structure, value in entries]
    found = summarise(table(*rows), resamples=50)
    random.shuffle(rows)
    assert summarise(table(*rows), resamples=50) == found
    json.dumps(found, allow_nan=False)
    overall = found["sam"]["overall"]["dice"]
    if overall["mean"] is not None:
        known = [value for *_, value in entries if value is not None]
        assert min(known) - 1e-12 <= overall["mean"] <= max(known) + 1e-12
    if overall["ci95"] is not None:
        assert overall["ci95"][0] <= overall["ci95"][1]


def test_the_seed_decides() -> None:
    metrics = table(*(row(f"c{n}", "liver", n / 30) for n in range(30)))
    one, again, other = (summarise(metrics, seed=seed)["sam"]["overall"]["dice"]["ci95"] for seed in (1, 1, 2))
    assert one == again != other


def test_the_first_prompt_is_the_primary_one_and_the_others_stand_beside_it() -> None:
    metrics = table(
        *(
            row("a", "liver", dice, prompt=prompt)
            for prompt, dice in (
                ("box", 0.9),
                ("box+20px", 0.5),
                ("box+5px", 0.8),
                ("box:oracle3", 0.95),
                ("points:3", 0.7),
                ("point", 0.6),
            )
        ),
        row("a", "liver", 0.3, model="filled-box"),
    )
    summary = summarise(metrics)
    assert models_of(summary) == ["sam", "filled-box"]
    assert summary["sam"]["overall"]["dice"]["mean"] == 0.9
    assert summary["prompts"]["sam"]["box:oracle3"]["overall"]["dice"]["mean"] == 0.95
    assert summary["prompts"]["sam"]["box"] == summary["sam"]
    curve = robustness(metrics)["sam"]
    assert summary["robustness"]["sam"] == curve
    assert [(point.get("jitter_px"), point.get("clicks"), point["dice"]["mean"]) for point in curve] == [
        (0, None, 0.9),
        (5, None, 0.8),
        (20, None, 0.5),
        (None, 1, 0.6),
        (None, 3, 0.7),
    ]


def test_a_run_of_one_prompt_has_only_its_models() -> None:
    assert list(summarise(table(row("a", "liver", 0.9)))) == ["sam"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("a", "liver", 1), row("a", "liver", 0.5)], "1 row repeats .* case a, structure liver"),
        ([row("a", "liver", 1, model="protocol")], "cannot be called 'protocol'"),
        ([row("a", "liver", 1, patient=None)], "row 1 has no patient"),
        ([row("a", "liver", 1), row("a", "cyst", 1, patient="q")], "case a belongs to 2 patients"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        summarise(table(*rows))


def test_missing_columns_and_no_rows_are_refused() -> None:
    metrics = table(row("a", "liver", 1))
    with pytest.raises(InputError, match="lacks the columns volume_ref_ml"):
        summarise(metrics.drop(columns="volume_ref_ml"))
    with pytest.raises(InputError, match="no rows"):
        summarise(metrics.iloc[:0])
    with pytest.raises(InputError, match="at least one resample, not 0"):
        summarise(metrics, resamples=0)


def test_a_large_run_takes_seconds() -> None:
    cases, structures = 1000, 60
    metrics = pd.DataFrame(
        {
            "case": np.repeat([f"c{n}" for n in range(cases)], structures),
            "patient": np.repeat([f"p{n}" for n in range(cases)], structures),
            "structure": np.tile([f"s{n}" for n in range(structures)], cases),
            "model": "sam",
            "prompt": "box",
        }
    )
    draw = np.random.default_rng(0)
    for column in ("dice", "iou", "nsd", "hd95_mm", "assd_mm", "volume_ml", "volume_ref_ml", "predicted_iou"):
        metrics[column] = draw.random(cases * structures)
    started = time.process_time()
    assert summarise(metrics)["sam"]["overall"]["dice"]["n"] == 60_000
    assert time.process_time() - started < 30


# -- LaTeX ------------------------------------------------------------------------------------------------------


# -- reading ----------------------------------------------------------------------------------------------------


def test_each_data_set_of_a_run_has_its_own_overall() -> None:
    metrics = table(row("ct/1", "liver", 0.9), row("ct/2", "liver", 0.7), row("us/1", "lesion", 0.5))
    found = by_dataset(metrics)
    assert {name: overall["sam"]["dice"]["mean"] for name, overall in found.items()} == {
        "ct": pytest.approx(0.8),
        "us": 0.5,
    }
    assert by_dataset(table(row("a", "liver", 0.9))) == {}


def test_clicks_after_a_box_start_from_the_box() -> None:
    prompts = (("box", 0.7), ("box+5px", 0.6), ("box+points:3", 0.9), ("box+points:1", 0.8), ("box+5px+points:1", 0.1))
    curve = robustness(table(*(row("a", "liver", dice, prompt=prompt) for prompt, dice in prompts)))["sam"]
    assert [(point.get("jitter_px"), point.get("clicks_after_box"), point["dice"]["mean"]) for point in curve] == [
        (0, None, 0.7),
        (5, None, 0.6),
        (None, 0, 0.7),
        (None, 1, 0.8),
        (None, 3, 0.9),
    ]
