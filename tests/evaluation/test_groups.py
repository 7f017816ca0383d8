"""Results by group: a partition of the cases, whose means recombine, with the caution that small groups need."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from evaluations import evaluation, page, row, summary_of, table
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.data.attributes import Grouping
from medsam.evaluation.groups import about, by_group, case_table

SITES = ("GE", "Philips", "SIEMENS", "unknown")


def grouping(groups: dict[str, str], name: str = "manufacturer") -> Grouping:
    return Grouping(name, groups)


def hospital() -> tuple[pd.DataFrame, list[Grouping]]:
    """14 patients of 3 vendors and 2 thicknesses; Dice is 0.9 at 1 mm and 0.7 at 5 mm, 0.1 less of the tumour."""
    rows, vendor, thickness = [], {}, {}
    for n in range(14):
        case = f"c{n:02}"
        vendor[case], thickness[case] = ("GE", "Philips", "SIEMENS")[n % 3], ("1 mm", "5 mm")[n % 2]
        for structure, less in (("liver", 0.0), ("tumour", 0.1)):
            rows.append(row(case, structure, (0.9 if n % 2 == 0 else 0.7) - less))
    return table(*rows), [grouping(vendor), grouping(thickness, "slice_thickness")]


def test_groups_of_known_means():
    metrics, both = hospital()
    found = by_group(metrics, both)
    assert {group: len(one["sam"]["structures"]) for group, one in found["manufacturer"].items()} == {
        "GE": 2,
        "Philips": 2,
        "SIEMENS": 2,
    }
    thin, thick = (found["slice_thickness"][group]["sam"] for group in ("1 mm", "5 mm"))
    assert thin["overall"]["dice"]["mean"] == pytest.approx(0.85)
    assert thick["structures"]["tumour"]["dice"]["mean"] == pytest.approx(0.6)
    assert thin["overall"]["dice"]["n"] == 14
    assert thin["overall"]["dice"]["patients"] == 7
    assert thin["overall"]["dice"]["ci95"] == pytest.approx([0.85, 0.85])
    # 5, 5 and 4 patients: of four there is no interval
    assert [one["sam"]["overall"]["dice"]["ci95"] is None for one in found["manufacturer"].values()] == [
        False,
        False,
        True,
    ]


def test_what_stands_beside_the_statistics():
    metrics, both = hospital()
    known = about(metrics, both)
    assert {group: (one["cases"], one["patients"], one["few"]) for group, one in known["manufacturer"].items()} == {
        "GE": (5, 5, False),
        "Philips": (5, 5, False),
        "SIEMENS": (4, 4, True),
    }
    thin = known["slice_thickness"]["1 mm"]["difference"]["sam"]
    assert thin["mean"] == pytest.approx(0.2)
    assert thin["ci95"] == pytest.approx([0.2, 0.2])
    assert known["manufacturer"]["SIEMENS"]["difference"]["sam"]["ci95"] is None


def test_a_difference_is_over_the_structures_that_both_have():
    """The group of easy structures is not better for that."""
    rows = [row(f"a{n}", name, 0.8) for n in range(6) for name in ("liver", "tumour")]
    rows = [{**one, "dice": 0.3} if one["structure"] == "tumour" else one for one in rows]
    rows += [row(f"b{n}", "liver", 0.8) for n in range(6)]
    groups = grouping({one["case"]: one["case"][0] for one in rows})
    known = about(table(*rows), [groups])["manufacturer"]
    assert known["b"]["lacks"] == ["tumour"]
    assert known["b"]["difference"]["sam"]["mean"] == pytest.approx(0.0)
    found = by_group(table(*rows), [groups])["manufacturer"]
    assert found["b"]["sam"]["overall"]["dice"]["mean"] - found["a"]["sam"]["overall"]["dice"]["mean"] > 0.2


def test_without_a_common_structure_there_is_no_difference():
    rows = [row(f"a{n}", "liver", 0.8) for n in range(6)] + [row(f"b{n}", "spleen", 0.8) for n in range(6)]
    known = about(table(*rows), [grouping({one["case"]: one["case"][0] for one in rows})])
    assert known["manufacturer"]["a"]["difference"]["sam"] is None


def test_a_patient_with_many_scans_is_one_patient():
    rows = [row(f"c{n}", "liver", 0.8, patient="p1") for n in range(9)]
    known = about(table(*rows), [grouping({one["case"]: "GE" for one in rows})])["manufacturer"]["GE"]
    assert (known["cases"], known["patients"], known["few"]) == (9, 1, True)


def test_only_the_first_prompt_counts():
    rows = [
        row(f"c{n}", "liver", dice, prompt=prompt) for n in range(2) for prompt, dice in (("box", 0.8), ("point", 0))
    ]
    rows.sort(key=lambda one: one["prompt"])
    found = by_group(table(*rows), [grouping({"c0": "GE", "c1": "GE"})])
    assert found["manufacturer"]["GE"]["sam"]["overall"]["dice"]["mean"] == pytest.approx(0.8)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(SITES), st.sampled_from(["liver", "spleen"]), st.floats(0, 1)),
        min_size=1,
        max_size=25,
    )
)
def test_groups_partition_the_cases_and_their_means_recombine(entries):
    rows = [row(f"c{n}", structure, dice) for n, (_, structure, dice) in enumerate(entries)]
    metrics, groups = table(*rows), grouping({f"c{n}": site for n, (site, _, _) in enumerate(entries)})
    found = by_group(metrics, [groups], resamples=9)["manufacturer"]
    whole = by_group(metrics, [grouping(dict.fromkeys(groups.group, "all"))], resamples=9)["manufacturer"]["all"]["sam"]
    assert sum(one["cases"] for one in about(metrics, [groups])["manufacturer"].values()) == len(entries)
    for name, wanted in whole["structures"].items():
        parts = [one["sam"]["structures"][name]["dice"] for one in found.values() if name in one["sam"]["structures"]]
        assert sum(part["n"] for part in parts) == wanted["dice"]["n"]
        mean = sum(part["n"] * part["mean"] for part in parts) / wanted["dice"]["n"]
        assert mean == pytest.approx(wanted["dice"]["mean"])


def test_the_table_of_cases_joins_metrics():
    _, both = hospital()
    found = case_table(both, ["c00", "c13"])
    assert found.to_csv(index=False) == "case,manufacturer,slice_thickness\nc00,GE,1 mm\nc13,Philips,5 mm\n"


def test_the_page_shows_groups_with_their_caution(tmp_path):
    folder = evaluation(tmp_path / "run", cases=7, pictures=False)
    metrics = pd.read_csv(folder / "metrics.csv")
    site = {case: ("A&B", "site <2>")[n > 1] for n, case in enumerate(metrics["case"].unique())}
    groups = [grouping(site, "slice_thickness")]
    summary = summary_of(folder)
    summary["groups"] = by_group(metrics, groups)
    summary["protocol"]["by"] = about(metrics, groups)
    (folder / "summary.json").write_text(json.dumps(summary, allow_nan=False))
    shown = page(folder)
    assert "By slice thickness" in shown.shown
    assert "No group was tested: with 2 groups some differ by chance" in shown.shown
    assert "Few: under 5 patients" in shown.shown
    rows = next(rows for rows in shown.tables if rows[0][0].strip() == "slice thickness")
    assert [cells[0].split()[0] for cells in rows[1:]] == ["A&B", "site"]
    assert [int(cells[1]) for cells in rows[1:]] == [2, 5]
    assert "SECRET" not in shown.text
    # a folder of an earlier version has none
    del summary["groups"], summary["protocol"]["by"]
    (folder / "summary.json").write_text(json.dumps(summary, allow_nan=False))
    assert "By slice thickness" not in page(folder).shown


def test_an_interval_of_groups_is_that_of_the_group_alone():
    rng = np.random.default_rng(3)
    rows = [row(f"c{n:02}", "liver", float(rng.uniform(0.5, 0.9))) for n in range(12)]
    groups = grouping({one["case"]: "ab"[n % 2] for n, one in enumerate(rows)})
    alone = [one for n, one in enumerate(rows) if n % 2 == 0]
    found = by_group(table(*rows), [groups], seed=4)["manufacturer"]["a"]
    assert found == by_group(table(*alone), [groups], seed=4)["manufacturer"]["a"]
