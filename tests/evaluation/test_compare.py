"""Two evaluations compared: the tests by hand, what is paired with what, and what is said when they do not match."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from evaluations import SEVEN, row, two_runs, write_run
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from medsam.errors import InputError
from medsam.evaluation.compare import Difference, compare, holm, rank_biserial
from medsam.evaluation.report import write_comparison
from medsam.evaluation.summary import summarise


def test_one_structure_by_hand(tmp_path: Path) -> None:
    found = compare(*two_runs(tmp_path, {"liver": SEVEN}))
    liver = found.structures["liver"]
    assert (liver.pairs, liver.patients) == (7, 7)
    assert liver.mean_a == pytest.approx(0.2)
    assert liver.mean_b == pytest.approx(0.22)
    assert liver.difference == pytest.approx(0.02)
    assert (liver.wins, liver.ties, liver.losses) == (6, 0, 1)
    # ranks 1 to 6 for B, rank 7 against it
    assert liver.effect_size == pytest.approx((21 - 7) / 28)
    # 19 of the 128 sets of ranks sum to 7 or less
    assert liver.p == pytest.approx(2 * 19 / 128)
    assert liver.p_holm == liver.p  # one structure: nothing to correct
    assert found.overall == Difference(**{**vars(liver), "p_holm": None})
    assert found.warnings == ()


def test_a_tie_counts_as_a_tie_and_leaves_the_ranks_alone(tmp_path: Path) -> None:
    # 0.1 + 0.2 is not 0.3 in binary: still no difference
    liver = compare(*two_runs(tmp_path, {"liver": [*SEVEN, (0.3, 0.1 + 0.2), (0.5, 0.5)]})).structures["liver"]
    assert (liver.wins, liver.ties, liver.losses, liver.patients) == (6, 2, 1, 9)
    assert liver.effect_size == pytest.approx(0.5)
    assert liver.p == pytest.approx(2 * 19 / 128)


def test_p_is_that_of_scipy_also_where_differences_are_equally_large(tmp_path: Path) -> None:
    changes = [0.01, 0.01, -0.02, 0.03, 0.03, 0.05, -0.01, 0.04]
    liver = compare(*two_runs(tmp_path, {"liver": [(0.5, 0.5 + change) for change in changes]})).structures["liver"]
    assert liver.p == pytest.approx(wilcoxon([round(100 * change) for change in changes]).pvalue)


def test_five_patients_cannot_reach_significance_and_get_no_p(tmp_path: Path) -> None:
    found = compare(*two_runs(tmp_path, {"liver": [(0.1, 0.9 - n / 100) for n in range(5)], "cyst": [(0.5, 0.5)] * 9}))
    liver, cyst = found.structures["liver"], found.structures["cyst"]
    assert (liver.p, liver.p_holm, liver.effect_size) == (None, None, 1.0)
    assert liver.note == "only 5 patients differ: below 6 no p can reach 0.05"
    assert (cyst.p, cyst.effect_size, cyst.ties) == (None, None, 9)
    assert cyst.note is not None
    assert cyst.note.startswith("no patient differs")


def test_six_agreeing_patients_have_the_smallest_p_there_is(tmp_path: Path) -> None:
    liver = compare(*two_runs(tmp_path, {"liver": [(0.1, 0.5 + n / 100) for n in range(6)]})).structures["liver"]
    assert liver.p == pytest.approx(2 / 2**6)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.04, None, 0.01]) == [0.04, None, 0.02]  # what was not tested is not counted
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lies_between_nothing_and_bonferroni(p: list[float]) -> None:
    corrected = holm(p)
    pairs = sorted((one, two) for one, two in zip(p, corrected, strict=True) if two is not None)
    assert [two for _, two in pairs] == sorted(two for _, two in pairs)
    assert all(one <= two <= min(1.0, one * len(p)) for one, two in pairs)


def test_rank_biserial_by_hand() -> None:
    assert rank_biserial([1, 2, -3]) == 0.0
    assert rank_biserial([1, -1, 2]) == pytest.approx((1.5 + 3 - 1.5) / 6)
    assert rank_biserial([0, 0, 4]) == 1.0
    assert rank_biserial([0, 0]) is None


def test_holm_is_over_the_structures_and_overall_stands_alone(tmp_path: Path) -> None:
    better = [(0.1, 0.5 + n / 100) for n in range(6)]
    found = compare(*two_runs(tmp_path, {"liver": better, "spleen": better, "cyst": better[:2]}))
    assert found.structures["liver"].p_holm == pytest.approx(2 * 2 / 64)
    assert found.structures["cyst"].p is None
    assert found.overall.p == pytest.approx(2 / 64)
    assert found.overall.p_holm is None


def test_overall_is_the_mean_over_structures(tmp_path: Path) -> None:
    found = compare(*two_runs(tmp_path, {"liver": [(0.5, 0.6)] * 9, "cyst": [(0.2, 0.6)]})).overall
    assert found.mean_a == pytest.approx(0.35)
    assert found.difference == pytest.approx(0.25)
    assert (found.pairs, found.patients, found.wins) == (10, 9, 9)


def test_cases_of_one_patient_count_once(tmp_path: Path) -> None:
    # patient p: B wins by 0.3, loses by 0.1 twice: on average 1/30 for B; so one win, not one of three
    cases = [("x", "p", 0.2, 0.5), ("y", "p", 0.5, 0.4), ("z", "p", 0.5, 0.4), ("w", "q", 0.5, 0.4)]
    a, b = ([row(case, "liver", values[side], patient=patient) for case, patient, *values in cases] for side in (0, 1))
    liver = compare(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b)).structures["liver"]
    assert (liver.pairs, liver.patients) == (4, 2)
    assert (liver.wins, liver.ties, liver.losses) == (1, 0, 1)
    assert liver.difference == pytest.approx((0.3 - 0.1 - 0.1 - 0.1) / 4)
    assert liver.ci95 is None  # two patients are too few


def test_means_and_interval_are_those_of_the_summary(tmp_path: Path) -> None:
    draw = random.Random(4)
    names = ("liver", "cyst")
    values = {name: [(0.0, draw.random()) for _ in range(12 if name == "liver" else 5)] for name in names}
    a, b = two_runs(tmp_path, values)
    found = compare(a, b, seed=3)
    dice = summarise(pd.read_csv(b / "metrics.csv"), seed=3)["sam"]
    assert found.overall.mean_b == pytest.approx(dice["overall"]["dice"]["mean"])
    # A is zero throughout, so the difference is B
    assert found.overall.ci95 == pytest.approx(dice["overall"]["dice"]["ci95"], abs=1e-9)
    assert found.structures["cyst"].ci95 == pytest.approx(dice["structures"]["cyst"]["dice"]["ci95"], abs=1e-9)


@pytest.mark.parametrize(("patients", "has_one"), [(1, False), (4, False), (5, True)])
def test_fewer_than_five_patients_have_no_interval(tmp_path: Path, patients: int, has_one: bool) -> None:
    overall = compare(*two_runs(tmp_path, {"liver": [(0.1, 0.2)] * patients})).overall
    assert (overall.ci95 is not None) == has_one


def test_patients_are_drawn_within_their_data_set(tmp_path: Path) -> None:
    # as in the summary: B gains 0.4 in the small set and nothing in the large one
    cases = [*((f"small/{n}", "polyp", 0.4) for n in range(2)), *((f"large/{n}", "cyst", 0.0) for n in range(20))]
    a, b = ([row(case, name, 0.5 + side * gain) for case, name, gain in cases] for side in (0, 1))
    one = compare(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b)).overall
    assert one.ci95 == pytest.approx((0.2, 0.2))
    single = compare(write_run(tmp_path / "c", a[1:]), write_run(tmp_path / "d", b[1:])).overall
    assert single.ci95 is None


# -- empty answers ----------------------------------------------------------------------------------------------


def distances(folder: Path, values: Sequence[float | None], **more: Any) -> Path:
    """HD95 of one patient each; None is an empty answer."""
    blank = float("nan")
    rows = [
        row(f"c{n:02}", "liver", 0.0 if far is None else 0.8, hd95_mm=blank if far is None else far, **more)
        for n, far in enumerate(values)
    ]
    return write_run(folder, rows)


def test_a_model_that_fails_is_not_better_because_its_failures_have_no_distance(tmp_path: Path) -> None:
    # B is nearer by 1 ... 6 mm in six patients and answers nothing in four
    a = distances(tmp_path / "a", [10.0] * 10)
    b = distances(tmp_path / "b", [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, None, None, None, None])
    found = compare(a, b, metric="hd95_mm")
    for one in (found.overall, found.structures["liver"]):
        assert (one.pairs, one.missing, one.patients) == (10, 4, 10)
        assert (one.wins, one.ties, one.losses) == (6, 0, 4)
        # ranks 1 to 6 for B, the four empty ones share the ranks 7 to 10
        assert one.effect_size == pytest.approx((21 - 34) / 55)
        assert one.p is not None
        assert one.p > 0.3
        # means are of the six pairs that have both
        assert (one.mean_a, one.mean_b, one.difference) == (10.0, 6.5, -3.5)
    assert found.undefined == ()
    assert found.warnings == (
        "B has 4 empty answers, A none: they rank as the worst HD95, but the means leave their pairs out and flatter "
        "B.",
    )
    back = compare(b, a, metric="hd95_mm")
    assert back.overall.effect_size == pytest.approx(13 / 55)
    assert back.overall.p == found.overall.p
    assert back.warnings[0].startswith("A has 4 empty answers, B none")


def test_answers_empty_on_both_sides_are_a_tie_and_no_warning(tmp_path: Path) -> None:
    a = distances(tmp_path / "a", [10.0] * 6 + [None])
    b = distances(tmp_path / "b", [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, None])
    found = compare(a, b, metric="hd95_mm")
    assert (found.overall.wins, found.overall.ties, found.overall.losses) == (6, 1, 0)
    assert found.overall.p == pytest.approx(2 / 64)
    assert found.warnings == ()


def test_a_distance_that_nothing_could_have_stays_undefined(tmp_path: Path) -> None:
    blank = {"hd95_mm": float("nan"), "volume_ml": float("nan"), "volume_ref_ml": float("nan")}
    a = write_run(tmp_path / "a", [row("x", "liver", 0.5), row("y", "liver", 0.5, **blank)])
    b = write_run(tmp_path / "b", [row("x", "liver", 0.5), row("y", "liver", 0.0, **blank)])
    found = compare(a, b, metric="hd95_mm")
    assert found.undefined == (("y", "liver"),)
    assert found.overall.missing == 0
    assert found.warnings == ()


def test_of_one_patient_the_side_with_more_empty_answers_loses(tmp_path: Path) -> None:
    nan = float("nan")

    def rows(values: Mapping[str, Sequence[float | None]]) -> list[dict[str, Any]]:
        return [
            row(f"{patient}{n}", "liver", 0.8 if far else 0.0, patient=patient, hd95_mm=far or nan)
            for patient, cases in values.items()
            for n, far in enumerate(cases)
        ]

    # p: B empty once, far nearer once; q: each empty once, B nearer in the third; r: each empty once and no more
    a = rows({"p": [50.0, 50.0], "q": [None, 9.0, 9.0], "r": [None, 9.0]})
    b = rows({"p": [1.0, None], "q": [9.0, None, 8.0], "r": [9.0, None]})
    found = compare(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b), metric="hd95_mm").overall
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)
    assert (found.pairs, found.missing, found.patients) == (7, 5, 3)


def test_nothing_but_empty_answers_is_written_without_a_mean(tmp_path: Path) -> None:
    a, b = distances(tmp_path / "a", [3.0] * 6), distances(tmp_path / "b", [None] * 6)
    found = compare(a, b, metric="hd95_mm")
    assert (found.overall.mean_b, found.overall.difference, found.overall.ci95) == (None, None, None)
    assert (found.overall.losses, found.overall.effect_size) == (6, -1.0)
    assert found.overall.p == pytest.approx(2 / 64)
    write_comparison(found, tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "B minus A is not defined over 6 patients" in page
    assert "Of 6 pairs 6 hold an empty answer" in page
    assert "inf" not in page.replace("information", "")
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["overall"]["missing"] == 6
    assert "liver & 6 & -- & -- & -- &" in (tmp_path / "out" / "compare.tex").read_text()
    assert "c00,c00,liver,3.0,inf" in (tmp_path / "out" / "compare_pairs.csv").read_text()


# -- more of the numbers ----------------------------------------------------------------------------------------


def test_a_constant_difference_has_an_interval_of_no_width(tmp_path: Path) -> None:
    low, high = compare(*two_runs(tmp_path, {"liver": [(0.25, 0.5)] * 8})).overall.ci95 or (0, 0)
    assert low == high == 0.25


def test_a_smaller_distance_is_a_win(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row(f"c{n}", "liver", 0.5, hd95_mm=9.0) for n in range(6)])
    b = write_run(tmp_path / "b", [row(f"c{n}", "liver", 0.5, hd95_mm=2.0 + n) for n in range(6)])
    found = compare(a, b, metric="hd95_mm").overall
    assert (found.difference, found.wins, found.effect_size) == (-4.5, 6, 1.0)


def test_swapping_the_sides_turns_every_sign(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path, {"liver": SEVEN, "cyst": SEVEN[:4]})
    one, two = compare(a, b), compare(b, a)
    for there, back in zip(
        (one.overall, *one.structures.values()), (two.overall, *two.structures.values()), strict=True
    ):
        assert there.difference == pytest.approx(-(back.difference or 0))
        assert there.p == back.p
        assert (there.wins, there.losses) == (back.losses, back.wins)
        assert there.effect_size == pytest.approx(-(back.effect_size or 0))
        assert (there.ci95 is None) == (back.ci95 is None) == (there.patients < 5)
        if there.ci95 is not None and back.ci95 is not None:
            assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))


def test_the_order_of_the_rows_changes_no_number(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path, {"liver": SEVEN, "cyst": SEVEN[:4]})
    before = compare(a, b)
    table = pd.read_csv(b / "metrics.csv")
    table.sample(frac=1, random_state=1).to_csv(b / "metrics.csv", index=False)
    after = compare(a, b)
    assert after.overall == before.overall
    assert after.structures == before.structures


# -- what is paired with what -----------------------------------------------------------------------------------


def test_only_what_both_have_is_compared_and_the_rest_is_listed(tmp_path: Path) -> None:
    a = write_run(
        tmp_path / "a", [row("x", "liver", 0.5), row("y", "liver", 0.5), row("z", "liver", 0.5, nsd=float("nan"))]
    )
    b = write_run(tmp_path / "b", [row("x", "liver", 0.6), row("x", "cyst", 0.6), row("z", "liver", 0.6)])
    found = compare(a, b, metric="nsd")
    assert [pair.case for pair in found.pairs] == ["x"]
    assert found.only_in_a == (("y", "liver"),)
    assert found.only_in_b == (("x", "cyst"),)
    assert found.undefined == (("z", "liver"),)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row("x", "liver", 0.5)])
    b = write_run(tmp_path / "b", [row("y", "liver", 0.5)])
    with pytest.raises(InputError, match="they share none"):
        compare(a, b)
    c = write_run(tmp_path / "c", [row("x", "liver", 0.5, hd95_mm=float("nan"))])
    with pytest.raises(InputError, match=r"of the 1 they share none has HD95 \(mm\), for lack of millimetres"):
        compare(a, c, metric="hd95_mm")


def test_the_real_model_is_meant_unless_there_are_several(tmp_path: Path) -> None:
    baselines = [row("x", "liver", 0.1, model=name) for name in ("filled-box", "inscribed-ellipse")]
    one = write_run(tmp_path / "one", [*baselines, row("x", "liver", 0.5)])
    two = write_run(tmp_path / "two", [row("x", "liver", 0.5, model="sam"), row("x", "liver", 0.7, model="medsam")])
    with pytest.raises(InputError, match="holds sam, medsam: say with `model_b`"):
        compare(one, two)
    assert compare(one, two, model_b="medsam").b.model == "medsam"
    assert compare(two, two, model_a="sam", model_b="medsam").overall.difference == pytest.approx(0.2)
    assert compare(one, one, model_a="filled-box").overall.difference == pytest.approx(0.4)
    with pytest.raises(InputError, match="no answers of 'unet'; there are: filled-box, inscribed-ellipse, sam"):
        compare(one, two, model_a="unet")
    with pytest.raises(InputError, match="Both sides are sam of"):
        compare(one, one)


def test_the_primary_prompt_is_meant_unless_told(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row("x", "liver", 0.9), row("x", "liver", 0.8, prompt="box+5px")])
    b = write_run(tmp_path / "b", [row("x", "liver", 0.7, prompt="box+5px"), row("x", "liver", 0.6)])
    mixed = compare(a, b)
    assert (mixed.a.prompt, mixed.b.prompt) == ("box", "box+5px")
    assert mixed.warnings == ("The prompts differ: box for A, box+5px for B.",)
    equal = compare(a, b, prompt="box+5px")
    assert equal.overall.difference == pytest.approx(-0.1)
    assert equal.warnings == ()
    with pytest.raises(InputError, match="to the prompt 'point'; there are: box, box"):
        compare(a, b, prompt="point")


# -- warnings ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row("x", "liver", 0.5)])
    with pytest.raises(InputError, match="nowhere does not exist"):
        compare(a, tmp_path / "nowhere")
    with pytest.raises(InputError, match="not by 'volume_error_ml'"):
        compare(a, a, metric="volume_error_ml")
    b = write_run(tmp_path / "b", [row("x", "liver", 0.5)])
    (b / "summary.json").write_text('{"protocol": ')
    with pytest.raises(InputError, match=r"summary\.json is not JSON"):
        compare(a, b)


# -- writing ----------------------------------------------------------------------------------------------------
