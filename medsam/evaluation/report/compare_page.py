"""A comparison as files: numbers for programs, a table for a paper, and a page like the report's: `compare.html`.

The page needs nothing else: no network, no script; it can be read on a phone and printed.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path

from medsam._version import __version__
from medsam.errors import counted
from medsam.evaluation.bootstrap import MIN_PATIENTS
from medsam.evaluation.compare import (
    HIGHER_IS_BETTER,
    Comparison,
    Difference,
    Pair,
    cells_of,
    digits_of,
    p_text,
    title_of,
    undefined_words,
)
from medsam.evaluation.report.figures import forest_plot, scatter_plot, style
from medsam.evaluation.report.latex import comparison_table
from medsam.evaluation.report.template import template
from medsam.evaluation.tables import TITLES
from medsam.files import write_whole
from medsam.io.save import check_folder

# of the longest lists
_SHOWN = 20


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write compare.json, compare.csv, compare_pairs.csv, compare.tex and compare.html into the folder `out`.

    The folder is made if need be; files appear whole or not at all. Raises InputError when `out` is a file.
    """
    out = Path(out)
    check_folder(out)
    files = {
        "compare.json": json.dumps(comparison.as_dict(), indent=2, allow_nan=False) + "\n",
        "compare.csv": _csv(comparison),
        "compare_pairs.csv": _pairs_csv(comparison),
        "compare.tex": comparison_table(comparison),
        "compare.html": compare_page(comparison),
    }
    out.mkdir(parents=True, exist_ok=True)
    with write_whole(out / "compare.html") as page:
        for name, text in files.items():
            page.with_name(name).write_text(text, encoding="utf-8", newline="\n")


def compare_page(comparison: Comparison) -> str:
    """The HTML of the page."""
    metric, rows = comparison.metric, (*comparison.structures.items(), ("Overall", comparison.overall))
    with style():
        forest, scatter = forest_plot(comparison), scatter_plot(comparison)
    return template("compare.html").render(
        title=f"Comparison by {TITLES[metric]}",
        version=__version__,
        sides=[("A", title_of(comparison.a)), ("B", title_of(comparison.b))],
        verdict=_verdict(comparison),
        warnings=comparison.warnings,
        rows=[(name, cells_of(row, metric)) for name, row in rows],
        metric=TITLES[metric],
        higher_is_better=HIGHER_IS_BETTER[metric],
        comparison=comparison,
        min_patients=MIN_PATIENTS,
        notes=[f"{name}: {row.note}" for name, row in comparison.structures.items() if row.note],
        most=_SHOWN,
        forest=forest,
        scatter=scatter,
        drawn=counted(len(comparison.finite), "case × structure", "cases × structures"),
        extremes=_extremes(comparison),
        left_out=[
            (what, keys)
            for what, keys in (
                ("only in A", comparison.only_in_a),
                ("only in B", comparison.only_in_b),
                (undefined_words(metric), comparison.undefined),
            )
            if keys
        ],
    )


def _verdict(comparison: Comparison) -> str:
    row, digits = comparison.overall, digits_of(comparison.metric)
    mean = "not defined" if row.difference is None else f"{row.difference:+.{digits}f}"
    text = f"Overall, B minus A is {mean}"
    if row.ci95 is not None:
        text += f" (95 % confidence interval {row.ci95[0]:+.{digits}f} to {row.ci95[1]:+.{digits}f})"
    text += f" over {counted(row.patients, 'patient')}"
    return text + (f"; {row.note}." if row.p is None else f", p {p_text(row.p)}.")


def _extremes(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    """(case, structure, A, B, B - A) of the largest differences."""
    digits = digits_of(comparison.metric)

    def change(pair: Pair) -> float:
        return 0.0 if pair.a == pair.b else pair.b - pair.a

    def cell(value: float, sign: str = "") -> str:
        return f"{value:{sign}.{digits}f}" if math.isfinite(value) else "empty" if not sign else "–"

    ordered = sorted(comparison.pairs, key=lambda pair: (-abs(change(pair)), pair.case, pair.structure))
    return [
        (pair.case, pair.structure, cell(pair.a), cell(pair.b), cell(change(pair), "+")) for pair in ordered[:_SHOWN]
    ]


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = [name for name in Difference.__dataclass_fields__ if name != "ci95"]
    place = fields.index("difference") + 1
    fields[place:place] = ["ci95_low", "ci95_high"]
    # "level", since a structure may well be called overall
    writer.writerow(["level", "structure", *fields])
    levels = [("structure", name, row) for name, row in comparison.structures.items()]
    for level, name, row in [*levels, ("overall", "", comparison.overall)]:
        low, high = row.ci95 or (None, None)
        values = {**asdict(row), "ci95_low": low, "ci95_high": high}
        writer.writerow([level, name, *("" if values[field] is None else values[field] for field in fields)])
    return text.getvalue()


def _pairs_csv(comparison: Comparison) -> str:
    """An empty answer's distance reads inf: it took part in the ranks."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "structure", f"{comparison.metric}_a", f"{comparison.metric}_b"])
    writer.writerows((pair.case, pair.patient, pair.structure, pair.a, pair.b) for pair in comparison.pairs)
    return text.getvalue()
