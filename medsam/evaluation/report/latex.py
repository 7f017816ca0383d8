"""Tables for a paper: of one evaluation, and of a comparison of two. Names are escaped; both need booktabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from medsam.errors import InputError
from medsam.evaluation.compare import HIGHER_IS_BETTER, Comparison, digits_of, p_text, title_of
from medsam.evaluation.summary import models_of
from medsam.evaluation.tables import METRICS, TITLES


def summary_table(summary: Mapping[str, Any], *, metric: str = "dice", spread: Literal["ci95", "std"] = "ci95") -> str:
    r"""A `tabular` for a paper: a row per structure and one overall, a column per model.

    metric: one of `METRICS`. spread: what follows the mean, the 95 % confidence interval or "\pm" the standard
    deviation. "--" stands where nothing is defined. Needs the package booktabs. Names are escaped.
    Raises InputError when the metric or the spread is not a known one, or the summary holds no model.
    """
    if metric not in METRICS:
        raise InputError(f"There is no metric {metric!r} in a summary: take one of {', '.join(METRICS)}.")
    if spread not in ("ci95", "std"):
        raise InputError(f"The spread is ci95 or std, not {spread!r}.")
    models = models_of(summary)
    if not models:
        raise InputError("The summary holds no model, so there is no table to write.")
    structures = dict.fromkeys(name for model in models for name in summary[model]["structures"])
    rows = [
        (escape_latex(name), [summary[model]["structures"].get(name, {}).get(metric) for model in models])
        for name in structures
    ]
    overall = ("Overall", [summary[model]["overall"].get(metric) for model in models])
    shown = "95 percent confidence interval by patient" if spread == "ci95" else "standard deviation over cases"
    lines = [
        f"% {TITLES[metric].replace('%', 'percent')}: mean and {shown}. Needs booktabs.",
        f"\\begin{{tabular}}{{l{'r' * len(models)}}}",
        "\\toprule",
        " & ".join(["Structure", *map(escape_latex, models)]) + " \\\\",
        "\\midrule",
        *(_latex_row(name, cells, metric, spread) for name, cells in rows),
        "\\midrule",
        _latex_row(*overall, metric, spread),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def comparison_table(comparison: Comparison) -> str:
    """A booktabs `tabular`: a row per structure and one overall. Names are escaped."""
    digits = digits_of(comparison.metric)
    one_sided = "B is better" if HIGHER_IS_BETTER[comparison.metric] else "B is better (a distance: lower)"
    lines = [
        f"% {TITLES[comparison.metric]}; difference B - A with 95 percent confidence interval by patient; Wilcoxon p,",
        f"% Holm-corrected over structures; rank-biserial r, positive when {one_sided}. Needs booktabs.",
        "% A: " + _comment(title_of(comparison.a)),
        "% B: " + _comment(title_of(comparison.b)),
        "\\begin{tabular}{lrrrrrrr}",
        "\\toprule",
        "Structure & $n$ & A & B & B $-$ A & $p$ & $p_{\\mathrm{Holm}}$ & $r$ \\\\",
        "\\midrule",
    ]
    for name, row in (*comparison.structures.items(), ("", comparison.overall)):
        if row is comparison.overall:
            lines.append("\\midrule")
        change = "--" if row.difference is None else f"${row.difference:+.{digits}f}$"
        if row.ci95 is not None:
            change += f" $[{row.ci95[0]:+.{digits}f}, {row.ci95[1]:+.{digits}f}]$"
        cells = [
            "Overall" if row is comparison.overall else escape_latex(name),
            str(row.patients),
            *("--" if mean is None else f"${mean:.{digits}f}$" for mean in (row.mean_a, row.mean_b)),
            change,
            *(f"${p_text(p)}$" if p is not None else "--" for p in (row.p, row.p_holm)),
            f"${row.effect_size:+.2f}$" if row.effect_size is not None else "--",
        ]
        lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in " ".join(text.split()))


def _latex_row(name: str, cells: Sequence[Mapping[str, Any] | None], metric: str, spread: str) -> str:
    return " & ".join([name, *(_latex_cell(cell, metric, spread) for cell in cells)]) + " \\\\"


def _latex_cell(cell: Mapping[str, Any] | None, metric: str, spread: str) -> str:
    if cell is None or cell["mean"] is None:
        return "--"
    digits = 1 if metric.endswith(("_mm", "_ml", "_percent")) else 3
    mean = f"{cell['mean']:.{digits}f}"
    if spread == "std":
        return f"${mean}$" if cell["std"] is None else f"${mean} \\pm {cell['std']:.{digits}f}$"
    if cell["ci95"] is None:
        return f"${mean}$"
    low, high = cell["ci95"]
    return f"${mean}$ $[{low:.{digits}f}, {high:.{digits}f}]$"


def _comment(text: str) -> str:
    return " ".join(text.split())
