"""Evaluations side by side: means by hand, what is counted and what is left out."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from evaluations import row, write_run

from medsam.errors import InputError
from medsam.evaluation.side_by_side import side_by_side


def two_sets(gain: float, **more: Any) -> list[dict[str, Any]]:
    """Set a: a liver in two cases and a cyst in one; set b: one liver."""
    return [
        row("a/1", "liver", 0.5 + gain, **more),
        row("a/2", "liver", 0.7 + gain, **more),
        row("a/1", "cyst", 0.2 + gain, **more),
        row("b/1", "liver", 0.9 + gain, **more),
    ]


def test_a_common_structure_and_a_large_set_weigh_no_more_than_others(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", two_sets(0.0)), write_run(tmp_path / "two", two_sets(0.1))
    found = side_by_side({"off": [one], "auto": [two]})
    assert [column.name for column in found.columns] == ["off, sam, box", "auto, sam, box"]
    assert found.rows == {("a", ""): pytest.approx((0.4, 0.5)), ("b", ""): pytest.approx((0.9, 1.0))}
    assert found.means == pytest.approx((0.65, 0.75))
    assert found.gains == [(0, 1)]
    assert (found.cases, found.left_out) == (3, 0)
    assert (found.columns[0].encoder_calls, found.columns[0].seconds, found.columns[0].prompts) == (4, 4, 4)


def test_rows_of_structures_have_the_same_mean_of_sets(tmp_path: Path) -> None:
    found = side_by_side({"one": [write_run(tmp_path / "one", two_sets(0.0))]}, by_structure=True)
    assert found.rows == {
        ("a", "liver"): pytest.approx((0.6,)),
        ("a", "cyst"): pytest.approx((0.2,)),
        ("b", "liver"): pytest.approx((0.9,)),
    }
    assert found.means == pytest.approx((0.65,))


def test_what_needs_no_model_stands_there_once_and_prompts_can_be_chosen(tmp_path: Path) -> None:
    rows = [*two_sets(0.0), *two_sets(-0.1, model="filled-box"), *two_sets(0.05, prompt="point")]
    runs = {name: [write_run(tmp_path / name, rows)] for name in ("one", "two")}
    names = [column.name for column in side_by_side(runs).columns]
    assert names == [
        "one, sam, box",
        "filled-box, box",
        "one, sam, point",
        "two, sam, box",
        "two, sam, point",
    ]
    chosen = side_by_side(runs, prompts=["point"])
    assert [column.name for column in chosen.columns] == ["one, sam, point", "two, sam, point"]
    with pytest.raises(InputError, match=r"No run answers 'mask'; there are: box, point\."):
        side_by_side(runs, prompts=["mask"])


def test_only_cases_that_every_run_has_are_counted(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", two_sets(0.0))
    two = write_run(tmp_path / "two", [row("a/1", "liver", 1.0), row("c/1", "liver", 1.0)])
    found = side_by_side({"one": [one], "two": [two]})
    # the cyst of that case is in one run alone
    assert found.rows == {("a", ""): (pytest.approx(0.35), 1.0)}
    assert (found.cases, found.left_out) == (1, 3)
    with pytest.raises(InputError, match="no case in common"):
        side_by_side({"one": [one], "three": [write_run(tmp_path / "three", [row("z", "liver", 1.0)])]})


def test_a_run_in_parts_is_one_run_and_its_folders_are_its_sets(tmp_path: Path) -> None:
    parts = [write_run(tmp_path / name, [row("1", "liver", dice)]) for name, dice in (("ct", 0.5), ("mr", 0.9))]
    assert side_by_side({"all": parts}).rows == {("ct", ""): (0.5,), ("mr", ""): (0.9,)}
    # the folder of a run alone is no name of a set: two runs of one manifest are about the same cases
    one, two = ({name: [part]} for name, part in zip(("one", "two"), parts, strict=True))
    assert side_by_side(one | two).rows == {("", ""): (0.5, 0.9)}
    again = write_run(tmp_path / "x", [row("a/1", "liver", 0.5)]), write_run(tmp_path / "y", [row("a/1", "liver", 0.6)])
    with pytest.raises(InputError, match="both hold sam, box on a/1 liver"):
        side_by_side({"all": again})


def test_blank_cells_are_left_out_and_written_as_blanks(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        row("a/1", "liver", 0.5, hd95_mm=4.0),
        row("a/2", "liver", 0.0, hd95_mm=nan),
        row("b/1", "cyst", 0, hd95_mm=nan),
    ]
    found = side_by_side({"one": [write_run(tmp_path / "one", rows)]}, metric="hd95_mm")
    assert found.rows["a", ""] == (4.0,)
    assert math.isnan(found.rows["b", ""][0])
    assert found.means == (4.0,)
    lines = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [(line["set"], line["run"], line["hd95_mm"]) for line in lines] == [
        ("a", "one", "4.0"),
        ("b", "one", ""),
        ("mean of sets", "one", "4.0"),
    ]
    assert found.as_dict()["rows"][1] == {"set": "b", "values": [None]}
