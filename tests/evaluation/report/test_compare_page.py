"""A comparison as files: tables, and a page like the report's."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from evaluations import SEVEN, Page, two_runs

from medsam.errors import InputError
from medsam.evaluation.compare import Comparison, compare
from medsam.evaluation.report import write_comparison


@pytest.fixture
def written(tmp_path: Path) -> tuple[Comparison, Path]:
    a, b = two_runs(tmp_path, {"liver": SEVEN, "left_<kidney> & co": SEVEN[:3], "overall": [(0.5, 0.5)]})
    comparison = compare(a, b)
    write_comparison(comparison, tmp_path / "deep" / "out")
    return comparison, tmp_path / "deep" / "out"


def test_files_hold_the_comparison_and_nothing_else_is_left(written: tuple[Comparison, Path]) -> None:
    comparison, out = written
    assert sorted(path.name for path in out.iterdir()) == [
        "compare.csv",
        "compare.html",
        "compare.json",
        "compare.tex",
        "compare_pairs.csv",
    ]
    document = json.loads((out / "compare.json").read_text())
    assert document["structures"]["liver"]["p"] == comparison.structures["liver"].p
    assert document["overall"]["wins"] == comparison.overall.wins
    assert document["a"] == {"run": "a", "model": "sam", "prompt": "box"}
    with (out / "compare.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(line["level"], line["structure"]) for line in rows] == [
        ("structure", "liver"),
        ("structure", "left_<kidney> & co"),
        ("structure", "overall"),
        ("overall", ""),
    ]
    assert float(rows[0]["ci95_high"]) == (comparison.structures["liver"].ci95 or (0, 0))[1]
    assert rows[1]["p"] == ""
    with (out / "compare_pairs.csv").open(newline="") as stream:
        pairs = list(csv.DictReader(stream))
    assert len(pairs) == 11
    assert pairs[0] == {
        "case": "c00",
        "patient": "c00",
        "structure": "liver",
        "dice_a": "0.2",
        "dice_b": repr(0.2 + 0.01),
    }


def drawing(page: str, label: str) -> ElementTree.Element:
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)]
    return next(svg for svg in drawings if svg.get("aria-label", "").startswith(label))


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(written: tuple[Comparison, Path]) -> None:
    page = Page(written[1] / "compare.html")
    assert "left_&lt;kidney&gt; &amp; co" in page.text
    assert "<kidney>" not in page.text
    assert not any(word in page.text for word in ("http:", "https:", "src=", "<script", "@import"))
    assert re.findall(r"url\((?!#)", page.text) == []
    assert all(link.startswith("#") for link in page.attributes("href"))
    ids = set(page.attributes("id"))
    assert {link[1:] for link in page.attributes("href")} <= ids
    assert 'name="viewport"' in page.text
    assert "@media print" in page.text
    forest = drawing(page.text, "Mean difference")
    assert [group.get("id") for group in forest.iter("g") if group.get("id", "").startswith("difference-")] == [
        f"difference-{n}" for n in range(4)
    ]
    # three structures share three points; 0.5 against 0.5 is one more
    assert len(dots(page.text)) == 8


def dots(page: str) -> list[tuple[float, float]]:
    pairs = next(g for g in drawing(page, "Dice of B").iter("g") if g.get("id") == "pairs")
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in pairs.iter("use")]


def test_equal_scores_lie_on_the_diagonal(written: tuple[Comparison, Path]) -> None:
    page = (written[1] / "compare.html").read_text(encoding="utf-8")
    line = next(g for g in drawing(page, "Dice of B").iter("g") if g.get("id") == "equal").find("path")
    assert line is not None
    x1, y1, x2, y2 = (float(number) for number in re.findall(r"[\d.]+", line.get("d", "")))

    def below(x: float, y: float) -> float:
        return y - (y1 + (x - x1) * (y2 - y1) / (x2 - x1))

    found = [below(x, y) for x, y in dots(page)]
    assert min(map(abs, found)) < 0.3
    # the same value on both axes lies on the line; above it (smaller y) B is better: six of the seven patients
    assert sum(distance < -0.3 for distance in found) == 6


def test_the_page_of_a_large_comparison_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [tuple(pair) for pair in rng.random((4000, 2)).tolist()]
    write_comparison(compare(*two_runs(tmp_path, {"liver": pairs}), resamples=10), tmp_path / "out")
    assert (tmp_path / "out" / "compare.html").stat().st_size < 400_000


def test_a_second_comparison_replaces_the_first(written: tuple[Comparison, Path]) -> None:
    comparison, out = written
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_comparison(comparison, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_is_no_folder(written: tuple[Comparison, Path], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        write_comparison(written[0], tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
