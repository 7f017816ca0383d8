"""Statistics of an evaluation: what each number is, by hand, and what an interval by patient means."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.errors import InputError
from medsam.evaluation.summary import (
    COLUMNS,
    METRICS,
    PatientBootstrap,
    by_dataset,
    latex_table,
    models_of,
    read_table,
    robustness,
    summarise,
)


def row(case: str, structure: str, dice: float, **more: Any) -> dict[str, Any]:
    """A row of metrics.csv; the patient is the case unless told."""
    plain: dict[str, Any] = dict.fromkeys(COLUMNS, 1.0)
    plain |= {"case": case, "patient": case, "structure": structure, "label": 1, "model": "sam", "prompt": "box"}
    return plain | {"dice": dice} | more


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


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


def test_equal_values_have_an_interval_of_no_width() -> None:
    metrics = table(*(row(f"c{number}", "liver", 0.75) for number in range(9)))
    assert summarise(metrics, resamples=200)["sam"]["overall"]["dice"]["ci95"] == [0.75, 0.75]


def test_two_patients_have_three_possible_means() -> None:
    # means 0, 0.5 and 1 with chances 1/4, 1/2, 1/4: both 2.5 % tails reach the ends
    metrics = table(row("a", "liver", 0.0), row("b", "liver", 1.0))
    assert summarise(metrics)["sam"]["structures"]["liver"]["dice"]["ci95"] == [0.0, 1.0]


def test_the_interval_is_by_patient_not_by_case() -> None:
    # ten cases each: as twenty cases the mean would be sure to about 0.2, as two patients it is not
    cases = [
        row(f"{patient}{n}", "liver", value, patient=patient)
        for patient, value in (("p", 0.0), ("q", 1.0))
        for n in range(10)
    ]
    dice = summarise(table(*cases))["sam"]["overall"]["dice"]
    assert dice["ci95"] == [0.0, 1.0]
    assert (dice["n"], dice["patients"]) == (20, 2)


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
    bootstrap = PatientBootstrap(np.array(["a", "b"]), np.array([[2, 0], [1, 1], [0, 2]], dtype=np.float32))
    means = bootstrap.means(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, np.array([0.4, 0.9, 0.7]))
    np.testing.assert_allclose(means, [[0.4, 0.9], [0.4, 0.8], [np.nan, 0.7]])
    overall = summarise(table(row("a", "cyst", 0.4), row("a", "liver", 0.9), row("b", "liver", 0.7)))["sam"]
    assert overall["structures"]["cyst"]["dice"]["ci95"] is None
    # overall of the three resamples: 0.65, 0.6 and 0.7
    assert overall["overall"]["dice"]["ci95"] == pytest.approx([0.6, 0.7])


def test_resamples_draw_as_many_patients_as_there_are_evenly() -> None:
    bootstrap = PatientBootstrap.draw([f"p{n}" for n in range(50)] * 3, seed=1, resamples=1000)
    assert bootstrap.weights.shape == (1000, 50)
    assert (bootstrap.weights.sum(axis=1) == 50).all()
    assert np.abs(bootstrap.weights.mean(axis=0) - 1).max() < 0.15


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
        ([row("a", "liver", 1), row("a", "liver", 0.5)], "1 rows repeat .* case a, structure liver"),
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


def test_the_table_for_a_paper_escapes_names_and_shows_what_is_missing_as_a_dash() -> None:
    metrics = table(
        row("a", "left_kidney & co", 0.5),
        row("b", "left_kidney & co", 0.5),
        row("a", "cyst", 0.25, model="medsam 100%"),
    )
    assert latex_table(summarise(metrics)).splitlines()[1:] == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"Structure & sam & medsam 100\% \\",
        r"\midrule",
        r"left\_kidney \& co & $0.500$ $[0.500, 0.500]$ & -- \\",
        r"cyst & -- & $0.250$ \\",
        r"\midrule",
        r"Overall & $0.500$ $[0.500, 0.500]$ & $0.250$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert r"left\_kidney \& co & $0.500 \pm 0.000$ & -- \\" in latex_table(summarise(metrics), spread="std")
    with pytest.raises(InputError, match="no metric 'jaccard'"):
        latex_table(summarise(metrics), metric="jaccard")


# -- reading ----------------------------------------------------------------------------------------------------


def test_names_stay_text_and_blanks_are_not_defined(tmp_path: Path) -> None:
    metrics = table(row("001", "NA", 0.5, patient="007", hd95_mm=np.nan), row("002", "null", 1.0, patient="008"))
    metrics.to_csv(tmp_path / "metrics.csv", index=False)
    read = read_table(tmp_path)
    assert list(read["case"]) == ["001", "002"]
    assert list(read["patient"]) == ["007", "008"]
    assert list(read["structure"]) == ["NA", "null"]
    assert np.isnan(read["hd95_mm"][0])
    assert list(read["dice"]) == [0.5, 1.0]


def test_files_that_are_no_evaluation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not an evaluation: it holds no metrics\.csv"):
        read_table(tmp_path)
    path = tmp_path / "metrics.csv"
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        read_table(tmp_path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a table"):
        read_table(tmp_path)
    metrics = table(row("a", "liver", 0.5), row("b", "liver", 0.5)).astype({"dice": object})
    metrics.drop(columns="prompt").to_csv(path, index=False)
    with pytest.raises(InputError, match="lacks the columns prompt"):
        read_table(tmp_path)
    metrics.loc[1, "dice"] = "0,5"
    metrics.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"line 3: dice is '0,5', which is not a number"):
        read_table(tmp_path)


def test_each_data_set_of_a_run_has_its_own_overall() -> None:
    metrics = table(row("ct/1", "liver", 0.9), row("ct/2", "liver", 0.7), row("us/1", "lesion", 0.5))
    found = by_dataset(metrics)
    assert {name: overall["sam"]["dice"]["mean"] for name, overall in found.items()} == {
        "ct": pytest.approx(0.8),
        "us": 0.5,
    }
    assert by_dataset(table(row("a", "liver", 0.9))) == {}
