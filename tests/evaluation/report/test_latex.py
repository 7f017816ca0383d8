"""Tables for a paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluations import SEVEN, row, table, two_runs

from medsam.errors import InputError
from medsam.evaluation.compare import compare
from medsam.evaluation.report.latex import comparison_table, summary_table
from medsam.evaluation.summary import summarise


def test_the_table_for_a_paper_escapes_names_and_shows_what_is_missing_as_a_dash() -> None:
    metrics = table(
        *(row(case, "left_kidney & co", 0.5) for case in "abcde"),
        row("a", "cyst", 0.25, model="medsam 100%"),
    )
    assert summary_table(summarise(metrics)).splitlines()[1:] == [
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
    assert r"left\_kidney \& co & $0.500 \pm 0.000$ & -- \\" in summary_table(summarise(metrics), spread="std")
    with pytest.raises(InputError, match="no metric 'jaccard'"):
        summary_table(summarise(metrics), metric="jaccard")


def test_the_table_of_a_comparison_is_escaped(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path, {"liver": SEVEN, "left_<kidney> & co": SEVEN[:3]})
    lines = comparison_table(compare(a, b)).splitlines()
    assert lines[4] == r"\begin{tabular}{lrrrrrrr}"
    liver = next(line for line in lines if line.startswith("liver"))
    assert liver.startswith("liver & 7 & $0.200$ & $0.220$ & $+0.020$ $[")
    assert liver.endswith(r"]$ & $0.297$ & $0.297$ & $+0.50$ \\")
    assert any(line.startswith(r"left\_<kidney> \& co & 3 &") for line in lines)
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
