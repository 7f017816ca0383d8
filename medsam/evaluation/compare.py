"""Two evaluations side by side, case by case: is B better than A, by how much, and how sure is that?

Pairs are the cases x structures that both runs scored; what only one of them has is listed, not guessed. The unit of
every test is the patient: values of one patient's cases are averaged first, because they are not independent.

- `difference` is B minus A. Means and the confidence interval follow the rules of `summary`: over cases, overall over
  structures; percentile bootstrap over patients, the same resamples for A and B.
- `p`: Wilcoxon's signed-rank test, two-sided, over patients (Wilcoxon 1945). Patients without a difference are left
  out before ranking (scipy's zero_method "wilcox"); they are counted as ties. Exact up to 50 patients when no two
  differences are equally large, and up to 13 in any case; beyond that the normal approximation. Fewer than 6 patients
  with a difference give no p: even if all agreed it could not fall below 2 / 2^5 = 0.0625.
- `p_holm`: corrected over the structures that have a p (Holm 1979). Overall is one test of its own, over each
  patient's mean over structures, and has no correction.
- `effect_size`: matched-pairs rank-biserial correlation (Kerby 2014): the ranks in favour of B minus those against,
  over their sum. 1: B is better in every patient, -1: worse in every one.
- `wins`, `ties`, `losses` of B, in patients. Better is higher, and lower for a distance.
- An empty answer has no distance (`summary.empty_answers`), and leaving it out would reward it. It ranks as infinitely
  far in the test, the effect size and the wins: worse than any distance, and a tie where both are empty. Of a patient
  with several cases, or overall of several structures, the side with more empty answers loses; with equally many the
  finite differences decide. Means, `difference` and the interval leave such pairs out; `missing` counts them.

Differences are rounded to 12 decimals, so that the last bit of a mean does not break a tie.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.errors import InputError, counted
from medsam.evaluation.summary import (
    BASELINES,
    DISTANCES,
    MIN_PATIENTS,
    TITLES,
    PatientBootstrap,
    empty_answers,
    escape_latex,
    mean_over_structures,
    read_table,
)
from medsam.files import write_whole
from medsam.io.save import check_folder

if TYPE_CHECKING:
    import pandas as pd

# Metrics with a better end; a signed volume error has none.
HIGHER_IS_BETTER = {"dice": True, "iou": True, "nsd": True, "hd95_mm": False, "assd_mm": False}
MIN_DIFFERING = 6

# of a protocol: what a pair of runs may differ in, or what the prompt's name already tells
_FREE = ("models", "command", "cases", "oracle", "manifests", "skipped")
_SHOWN = 20


@dataclass(frozen=True)
class Side:
    """One of the two: the folder's name, and which of its answers."""

    run: str
    model: str
    prompt: str


@dataclass(frozen=True)
class Pair:
    """One case x structure that both sides scored; a and b are finite, or inf: a distance whose answer is empty."""

    case: str
    patient: str
    structure: str
    a: float
    b: float


@dataclass(frozen=True)
class Difference:
    """B against A in one structure, or overall; the module's docstring defines each number. None: not defined.

    pairs: cases x structures. missing: those of them that the means leave out. patients: how many the test and wins,
    ties, losses are about. note: why there is no p.
    """

    pairs: int
    missing: int
    patients: int
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    effect_size: float | None
    wins: int
    ties: int
    losses: int
    note: str | None


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two runs.

    only_in_a, only_in_b: (case, structure) that the other side lacks. undefined: (case, structure) in which the
    metric is not defined on one side or both. warnings: why the difference may not be the models' alone.
    """

    a: Side
    b: Side
    metric: str
    overall: Difference
    structures: Mapping[str, Difference]
    pairs: tuple[Pair, ...]
    only_in_a: tuple[tuple[str, str], ...]
    only_in_b: tuple[tuple[str, str], ...]
    undefined: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    seed: int
    resamples: int

    def as_dict(self) -> dict[str, Any]:
        """What `compare.json` holds; the pairs are in compare_pairs.csv."""

        def named(keys: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
            return [{"case": case, "structure": structure} for case, structure in keys]

        return {
            "a": asdict(self.a),
            "b": asdict(self.b),
            "metric": self.metric,
            "higher_is_better": HIGHER_IS_BETTER[self.metric],
            "overall": asdict(self.overall),
            "structures": {name: asdict(row) for name, row in self.structures.items()},
            "only_in_a": named(self.only_in_a),
            "only_in_b": named(self.only_in_b),
            "undefined": named(self.undefined),
            "warnings": list(self.warnings),
            "method": {
                "difference": "b - a",
                "ci95": "percentile bootstrap over patients, within each data set, "
                f"{self.resamples} resamples, seed {self.seed}; none below {MIN_PATIENTS} patients",
                "p": "two-sided Wilcoxon signed-rank test over patients, zero differences left out",
                "empty_answers": "rank as an infinite distance; left out of means, difference and ci95 (missing)",
                "p_holm": "Holm over structures",
                "effect_size": "matched-pairs rank-biserial correlation, positive when b is better",
            },
        }


def compare(
    a: Path,
    b: Path,
    *,
    model_a: str | None = None,
    model_b: str | None = None,
    prompt: str | None = None,
    metric: str = "dice",
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """Compare two evaluation folders; or two models of one folder.

    a, b: folders that `medsam evaluate` wrote. model_a, model_b: needed where a folder holds several models besides
    the `BASELINES`. prompt: the same for both; by default the primary prompt of each. metric: of `HIGHER_IS_BETTER`.
    seed, resamples: of the bootstrap.
    Raises InputError when a folder is not an evaluation, the model or prompt is not in it, both sides are the same
    answers, or they have no pair in common.
    """
    if metric not in HIGHER_IS_BETTER:
        raise InputError(f"Runs are compared by one of {', '.join(HIGHER_IS_BETTER)}, not by {metric!r}.")
    tables = read_table(a), read_table(b)
    rows, sides = [], []
    for folder, table, model, option in zip(
        (a, b), tables, (model_a, model_b), ("--model-a", "--model-b"), strict=True
    ):
        chosen = _model(folder, table, model, option)
        name = prompt if prompt is not None else str(table["prompt"].iloc[0])
        found = table[(table["model"] == chosen) & (table["prompt"] == name)]
        if found.empty:
            there = ", ".join(table.loc[table["model"] == chosen, "prompt"].unique())
            raise InputError(f"{folder} holds no answers of {chosen} to the prompt {name!r}; there are: {there}.")
        rows.append(found)
        sides.append(Side(Path(folder).resolve().name, chosen, name))
    if sides[0] == sides[1] and Path(a).resolve() == Path(b).resolve():
        raise InputError(
            f"Both sides are {sides[0].model} of {a}. Name another folder, or two of its models with --model-a and "
            f"--model-b: {', '.join(tables[0]['model'].unique())}."
        )
    left, right = (_by_key(found, metric) for found in rows)
    common = [key for key in left if key in right]
    pairs, undefined = [], []
    for key in common:
        values = left[key][metric], right[key][metric]
        if not any(map(math.isnan, values)):
            pairs.append(Pair(key[0], left[key]["patient"], key[1], *values))
        else:
            undefined.append(key)
    if not pairs:
        why = "they share none"
        if common:
            why = f"of the {len(common)} they share none has {TITLES[metric]}"
            why += ", for lack of millimetres" if metric in DISTANCES else ""
        raise InputError(
            f"{a} and {b} have no case and structure to compare: {why}. Evaluate both on the same manifest."
        )
    structures, overall = _differences(pairs, metric, seed, resamples)
    return Comparison(
        a=sides[0],
        b=sides[1],
        metric=metric,
        overall=overall,
        structures=structures,
        pairs=tuple(pairs),
        only_in_a=tuple(key for key in left if key not in right),
        only_in_b=tuple(key for key in right if key not in left),
        undefined=tuple(undefined),
        warnings=(
            *_warnings(a, b, sides[0], sides[1], [(left[key], right[key]) for key in common]),
            *_empty_warning(left, right, metric, common),
        ),
        seed=seed,
        resamples=resamples,
    )


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
        "compare.tex": latex_table(comparison),
        "compare.html": html_page(comparison),
    }
    out.mkdir(parents=True, exist_ok=True)
    with write_whole(out / "compare.html") as page:
        for name, text in files.items():
            page.with_name(name).write_text(text, encoding="utf-8", newline="\n")


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of the p that are there; None stays None and does not count as a test."""
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[place] = largest
    return corrected


def rank_biserial(differences: Sequence[float] | np.ndarray) -> float | None:
    """Ranks of the positive differences minus those of the negative, over their sum; None when all are zero."""
    from scipy.stats import rankdata

    values = np.asarray(differences, dtype=float)
    values = values[values != 0]
    if not len(values):
        return None
    ranks = rankdata(np.abs(values))
    return float((ranks * np.sign(values)).sum() / ranks.sum())


def latex_table(comparison: Comparison) -> str:
    """A booktabs `tabular`: a row per structure and one overall. Names are escaped."""
    digits = _digits(comparison.metric)
    one_sided = "B is better" if HIGHER_IS_BETTER[comparison.metric] else "B is better (a distance: lower)"
    lines = [
        f"% {TITLES[comparison.metric]}; difference B - A with 95 percent confidence interval by patient; Wilcoxon p,",
        f"% Holm-corrected over structures; rank-biserial r, positive when {one_sided}. Needs booktabs.",
        "% A: " + _comment(_title(comparison.a)),
        "% B: " + _comment(_title(comparison.b)),
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


def p_text(p: float) -> str:
    """A p as people write it: "0.031", and "<0.001" below that."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


# -- reading ----------------------------------------------------------------------------------------------------


def _model(folder: Path, table: pd.DataFrame, wanted: str | None, option: str) -> str:
    there = [str(name) for name in table["model"].unique()]
    if wanted is not None:
        if wanted not in there:
            raise InputError(f"{folder} holds no answers of {wanted!r}; there are: {', '.join(there)}.")
        return wanted
    real = [name for name in there if name not in BASELINES]
    if len(real) == 1:
        return real[0]
    raise InputError(f"{folder} holds {', '.join(there)}: say with {option} which one to compare.")


def _by_key(rows: pd.DataFrame, metric: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows; the metric is finite, nan where it is not defined, or inf for an empty answer."""
    values = rows[metric].to_numpy(dtype=float)
    ranked = np.where(empty_answers(rows, metric), np.inf, np.where(np.isfinite(values), values, np.nan))
    records = rows.assign(**{metric: ranked}).to_dict("records")
    return {(row["case"], row["structure"]): row for row in records}


def _empty_warning(
    left: Mapping[tuple[str, str], Mapping[str, Any]],
    right: Mapping[tuple[str, str], Mapping[str, Any]],
    metric: str,
    common: Sequence[tuple[str, str]],
) -> list[str]:
    """One sentence where one side has more empty answers than the other; they show in distances only."""
    empty = {name: sum(math.isinf(side[key][metric]) for key in common) for name, side in (("A", left), ("B", right))}
    if empty["A"] == empty["B"]:
        return []
    (more, most), (less, least) = sorted(empty.items(), key=lambda entry: -entry[1])
    return [
        f"{more} has {counted(most, 'empty answer')}, {less} {least or 'none'}: they rank as the worst "
        f"{TITLES[metric].removesuffix(' (mm)')}, but the means leave their pairs out and flatter {more}."
    ]


def _warnings(
    a: Path, b: Path, left: Side, right: Side, common: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> list[str]:
    found = []
    if left.prompt != right.prompt:
        found.append(f"The prompts differ: {left.prompt} for A, {right.prompt} for B.")
    if Path(a).resolve() != Path(b).resolve():
        protocols = [_protocol(folder) for folder in (a, b)]
        for folder, protocol in zip((a, b), protocols, strict=True):
            if protocol is None:
                found.append(f"{folder} has no protocol in a summary.json: it cannot be checked that both were equal.")
        if protocols[0] is not None and protocols[1] is not None:
            found += _protocol_differences(protocols[0], protocols[1])

    def count(differ: Any) -> int:
        return sum(bool(differ(*rows)) for rows in common)

    def other_volume(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
        volumes = one["volume_ref_ml"], two["volume_ref_ml"]
        return all(map(math.isfinite, volumes)) and not math.isclose(*volumes, rel_tol=1e-6, abs_tol=1e-9)

    for number, what in (
        (count(lambda one, two: one["patient"] != two["patient"]), "belong to another patient (A's is used)"),
        (count(other_volume), "have another reference volume"),
        (count(lambda one, two: one["n_slices"] != two["n_slices"]), "were scored on another number of slices"),
    ):
        if number:
            found.append(f"{number} of {counted(len(common), 'pair')} {what}: the two runs did not see the same task.")
    return found


def _protocol(folder: Path) -> dict[str, Any] | None:
    path = Path(folder) / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}. Run `medsam evaluate` again.") from None
    protocol = summary.get("protocol") if isinstance(summary, dict) else None
    return protocol if isinstance(protocol, dict) else None


def _protocol_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    found = []
    for key in sorted((left.keys() | right.keys()) - set(_FREE)):
        values = [side.get(key) for side in (left, right)]
        if key == "jitter_px":  # the first is that of the primary prompt; more of them change nothing for it
            values = [value[0] if isinstance(value, list) and value else value for value in values]
        if values[0] != values[1]:
            found.append(
                f"The protocols differ: {key} is {json.dumps(values[0])} in A and {json.dumps(values[1])} in B."
            )
    return found


# -- statistics -------------------------------------------------------------------------------------------------


def _differences(
    pairs: Sequence[Pair], metric: str, seed: int, resamples: int
) -> tuple[dict[str, Difference], Difference]:
    order = list(dict.fromkeys(pair.structure for pair in pairs))
    # one order of summation whatever the order of the rows
    pairs = sorted(pairs, key=lambda pair: (pair.case, pair.structure))
    bootstrap = PatientBootstrap.draw(
        [pair.patient for pair in pairs], [pair.case for pair in pairs], seed=seed, resamples=resamples
    )
    names, groups = np.unique([pair.structure for pair in pairs], return_inverse=True)
    owners = bootstrap.codes([pair.patient for pair in pairs])
    a, b = np.array([(pair.a, pair.b) for pair in pairs]).T
    # where both answers are empty neither is better
    both = np.isinf(a) & np.isinf(b)
    change = np.round(np.subtract(b, a, out=np.zeros(len(pairs)), where=~both), 12)
    known = np.isfinite(a) & np.isfinite(b)

    units = np.full((len(bootstrap.patients), len(names)), np.nan)
    cells = owners * len(names) + groups
    by_cell = np.argsort(cells, kind="stable")
    used, starts = np.unique(cells[by_cell], return_index=True)
    units.flat[used] = [_unit(part) for part in np.split(change[by_cell], starts[1:])]
    resampled = bootstrap.means(owners[known], groups[known], len(names), change[known])

    rows = []
    for code in range(len(names)):
        mine = groups == code
        means = [float(side[mine & known].mean()) if (mine & known).any() else None for side in (a, b)]
        limits = bootstrap.interval(resampled[:, code], owners[mine & known])
        rows.append(_difference(mine, known, (means[0], means[1]), units[:, code], limits, metric))
    corrected = holm([row.p for row in rows])
    structures = {
        str(name): Difference(**{**vars(row), "p_holm": p}) for name, row, p in zip(names, rows, corrected, strict=True)
    }
    overall = _difference(
        np.ones(len(pairs), dtype=bool),
        known,
        (_mean(row.mean_a for row in rows), _mean(row.mean_b for row in rows)),
        np.array([_unit(of_patient) for of_patient in units]),
        bootstrap.interval(mean_over_structures(resampled), owners[known]),
        metric,
    )
    return {name: structures[name] for name in order}, overall


def _unit(differences: np.ndarray) -> float:
    """What several differences of one patient amount to: their mean, unless one side has more empty answers."""
    net = np.isposinf(differences).sum() - np.isneginf(differences).sum()
    if net:
        return math.copysign(math.inf, net)
    there = differences[~np.isnan(differences)]
    finite = there[np.isfinite(there)]
    # empty answers on both sides and nothing else: a tie
    return float(finite.mean()) if len(finite) else 0.0 if len(there) else math.nan


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _difference(
    mine: np.ndarray,
    known: np.ndarray,
    means: tuple[float | None, float | None],
    units: np.ndarray,
    limits: Sequence[float] | None,
    metric: str,
) -> Difference:
    """mine, known: (n,) bool, the pairs that count and those with two values. units: the difference of each patient,
    infinite for an empty answer, nan for a patient without a pair.
    """
    units = np.round(units[~np.isnan(units)], 12)
    # ranks need only an order: beyond every finite difference
    beyond = 2 * np.abs(units[np.isfinite(units)]).max(initial=0.0) + 1
    units = np.clip(units, -beyond, beyond)
    for_b = units if HIGHER_IS_BETTER[metric] else -units
    p, note = _wilcoxon(for_b)
    return Difference(
        pairs=int(mine.sum()),
        missing=int((mine & ~known).sum()),
        patients=len(units),
        mean_a=means[0],
        mean_b=means[1],
        difference=None if means[0] is None or means[1] is None else means[1] - means[0],
        ci95=None if limits is None else (limits[0], limits[1]),
        p=p,
        p_holm=None,
        effect_size=rank_biserial(for_b),
        wins=int((for_b > 0).sum()),
        ties=int((for_b == 0).sum()),
        losses=int((for_b < 0).sum()),
        note=note,
    )


def _wilcoxon(differences: np.ndarray) -> tuple[float | None, str | None]:
    from scipy.stats import wilcoxon

    differ = differences[differences != 0]
    if len(differ) < MIN_DIFFERING:
        who = (
            "no patient differs"
            if not len(differ)
            else f"only {counted(len(differ), 'patient differs', 'patients differ')}"
        )
        return None, f"{who}: below {MIN_DIFFERING} no p can reach 0.05"
    return float(wilcoxon(differ, zero_method="wilcox", alternative="two-sided", method="auto").pvalue), None


# -- writing ----------------------------------------------------------------------------------------------------


def _title(side: Side) -> str:
    return f"{side.model}, {side.prompt} ({side.run})"


def _comment(text: str) -> str:
    return " ".join(text.split())


def _digits(metric: str) -> int:
    return 2 if metric.endswith("_mm") else 3


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


_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 66rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; break-after: avoid; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #d8dde3; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; white-space: normal;
  overflow-wrap: break-word; min-width: 6rem; max-width: 40vw; padding-left: 0; }
td.name, th.name { text-align: left; }
tr.overall td { border-top: 2px solid #1b1f24; font-weight: 600; }
svg { width: 100%; max-width: 32rem; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: #1b1f24; }
.warning { border-left: 4px solid #b35900; background: #fff6ec; padding: .5rem .8rem; margin: .5rem 0; }
.fine { color: #4d5662; font-size: .85rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } .scroll { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: .15rem .3rem; }
  th:first-child, td:first-child { position: static; }
  figure, tr { break-inside: avoid; } }
"""


def html_page(comparison: Comparison) -> str:
    """The comparison as one page that needs nothing else: no network, no script; readable on a phone, printable."""
    metric = TITLES[comparison.metric]
    better = "higher is better" if HIGHER_IS_BETTER[comparison.metric] else "lower is better"
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in comparison.warnings)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison by {html.escape(metric)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Comparison by {html.escape(metric)}</h1>
<p>A: {html.escape(_title(comparison.a))}<br>B: {html.escape(_title(comparison.b))}</p>
<p>{html.escape(_verdict(comparison))}</p>
{warnings}
<h2>By structure</h2>
<div class="scroll">{_html_table(comparison)}</div>
<p class="fine">{html.escape(metric)}, {better}. Difference: B minus A, with its 95 % confidence interval by bootstrap
over patients ({comparison.resamples} resamples, seed {comparison.seed}; none below {MIN_PATIENTS} patients).
p: two-sided Wilcoxon signed-rank test over
patients; Holm: corrected over the structures. r: rank-biserial correlation, positive when B is better. Wins, ties and
losses of B, in patients.{_missing(comparison)}{_notes(comparison)}</p>
<h2>Difference with its confidence interval</h2>
<figure style="margin:0">{_forest(comparison)}</figure>
<h2>Case by case</h2>
<figure style="margin:0">{_scatter(comparison)}</figure>
<p class="fine">Each dot is one of {counted(len(_finite(comparison)), "case x structure", "cases x structures")};
above the line B scored higher.</p>
<h2>Largest differences</h2>
<div class="scroll">{_extremes(comparison)}</div>
{_left_out(comparison)}
<p class="fine">Research use only. Not a medical device.</p>
</body>
</html>
"""


def _verdict(comparison: Comparison) -> str:
    row, digits = comparison.overall, _digits(comparison.metric)
    mean = "not defined" if row.difference is None else f"{row.difference:+.{digits}f}"
    text = f"Overall, B minus A is {mean}"
    if row.ci95 is not None:
        text += f" (95 % confidence interval {row.ci95[0]:+.{digits}f} to {row.ci95[1]:+.{digits}f})"
    text += f" over {counted(row.patients, 'patient')}"
    return text + (f"; {row.note}." if row.p is None else f", p {p_text(row.p)}.")


def _html_table(comparison: Comparison) -> str:
    heads = ("Structure", "Patients", "Pairs", "A", "B", "B − A", "95 % CI", "p", "Holm", "r", "Won / tied / lost")
    body = []
    for name, row in (*comparison.structures.items(), ("Overall", comparison.overall)):
        cells = [name, *cells_of(row, comparison.metric)]
        kind = ' class="overall"' if row is comparison.overall else ""
        body.append(f"<tr{kind}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def cells_of(row: Difference, metric: str) -> list[str]:
    """One row as text, for a table: patients, pairs, A, B, difference, interval, p, Holm, r, wins / ties / losses."""
    digits = _digits(metric)
    return [
        str(row.patients),
        str(row.pairs),
        *("–" if mean is None else f"{mean:.{digits}f}" for mean in (row.mean_a, row.mean_b)),
        "–" if row.difference is None else f"{row.difference:+.{digits}f}",
        "–" if row.ci95 is None else f"{row.ci95[0]:+.{digits}f} to {row.ci95[1]:+.{digits}f}",
        "–" if row.p is None else p_text(row.p),
        "–" if row.p_holm is None else p_text(row.p_holm),
        "–" if row.effect_size is None else f"{row.effect_size:+.2f}",
        f"{row.wins} / {row.ties} / {row.losses}",
    ]


def _missing(comparison: Comparison) -> str:
    missing = comparison.overall.missing
    if not missing:
        return ""
    hold = "holds" if missing == 1 else "hold"
    return (
        f" Of {counted(comparison.overall.pairs, 'pair')} {missing} {hold} an empty answer: it ranks worst in p, r, "
        "wins and losses; means, difference and interval leave these pairs out."
    )


def _notes(comparison: Comparison) -> str:
    notes = [f"{name}: {row.note}" for name, row in comparison.structures.items() if row.note]
    if not notes:
        return ""
    more = f"; and {len(notes) - _SHOWN} more" if len(notes) > _SHOWN else ""
    return html.escape(f" No p: {'; '.join(notes[:_SHOWN])}{more}.")


def _extremes(comparison: Comparison) -> str:
    digits = _digits(comparison.metric)

    def change(pair: Pair) -> float:
        return 0.0 if pair.a == pair.b else pair.b - pair.a

    def cell(value: float, sign: str = "") -> str:
        return f"{value:{sign}.{digits}f}" if math.isfinite(value) else "empty" if not sign else "–"

    ordered = sorted(comparison.pairs, key=lambda pair: (-abs(change(pair)), pair.case, pair.structure))
    rows = "".join(
        f'<tr><td>{html.escape(pair.case)}</td><td class="name">{html.escape(pair.structure)}</td>'
        f"<td>{cell(pair.a)}</td><td>{cell(pair.b)}</td><td>{cell(change(pair), '+')}</td></tr>"
        for pair in ordered[:_SHOWN]
    )
    heads = '<tr><th>Case</th><th class="name">Structure</th><th>A</th><th>B</th><th>B − A</th></tr>'
    return f"<table><thead>{heads}</thead><tbody>{rows}</tbody></table>"


def undefined_words(metric: str) -> str:
    """How the page names pairs in which a metric is not defined."""
    name = TITLES[metric].removesuffix(" (mm)")
    return f"without {name}: no millimetres" if metric in DISTANCES else f"without a defined {name}"


def _left_out(comparison: Comparison) -> str:
    parts = []
    for what, keys in (
        ("only in A", comparison.only_in_a),
        ("only in B", comparison.only_in_b),
        (undefined_words(comparison.metric), comparison.undefined),
    ):
        if keys:
            names = ", ".join(f"{case} {structure}" for case, structure in keys[:_SHOWN])
            more = f" and {len(keys) - _SHOWN} more, see compare.json" if len(keys) > _SHOWN else ""
            parts.append(f"<li>{len(keys)} {html.escape(what)}: {html.escape(names + more)}</li>")
    return f"<h2>Left out</h2><ul>{''.join(parts)}</ul>" if parts else ""


def _ticks(low: float, high: float) -> list[float]:
    """At most seven round numbers that enclose [low, high]."""
    raw = max(high - low, 1e-6) / 5
    size = 10 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _finite(comparison: Comparison) -> list[Pair]:
    return [pair for pair in comparison.pairs if math.isfinite(pair.a) and math.isfinite(pair.b)]


def _scatter(comparison: Comparison) -> str:
    left, top, side, size = 44, 8, 300, 360
    pairs = _finite(comparison)
    values = [value for pair in pairs for value in (pair.a, pair.b)]
    ticks = _ticks(min(values, default=0.0), max(values, default=1.0))
    span = ticks[-1] - ticks[0]

    def place(value: float) -> float:
        return (value - ticks[0]) / span * side

    # dots that fall on the same tenth of a pixel are drawn once: a page of a large run stays small
    dots = sorted({(f"{left + place(pair.a):.1f}", f"{top + side - place(pair.b):.1f}") for pair in pairs})
    parts = [
        f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="Scatter plot of B against A, case by case">',
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#8a939e"/>',
        f'<line x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}" stroke="#8a939e" stroke-dasharray="4 3"/>',
    ]
    for tick in ticks:
        x, y = left + place(tick), top + side - place(tick)
        parts.append(f'<text x="{x:.1f}" y="{top + side + 15}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    path = "".join(f"M{x} {y}h0" for x, y in dots)
    title = html.escape(TITLES[comparison.metric])
    parts += [
        f'<path d="{path}" stroke="#0b5cad" stroke-opacity=".55" stroke-width="5" stroke-linecap="round"/>',
        f'<text x="{left + side / 2}" y="{size - 14}" text-anchor="middle">{title} of A</text>',
        f'<text transform="translate(11 {top + side / 2}) rotate(-90)" text-anchor="middle">{title} of B</text>',
        "</svg>",
    ]
    return "".join(parts)


def _forest(comparison: Comparison) -> str:
    left, width, line = 118, 228, 20
    rows = [*comparison.structures.items(), ("Overall", comparison.overall)]
    ends = [0.0, *(end for _, row in rows for end in (row.difference, *(row.ci95 or ())) if end is not None)]
    ticks = _ticks(min(ends), max(ends))
    span = ticks[-1] - ticks[0]
    bottom = 8 + line * len(rows)

    def place(value: float) -> str:
        return f"{left + (value - ticks[0]) / span * width:.1f}"

    parts = [
        f'<svg viewBox="0 0 360 {bottom + 38}" role="img" aria-label="Mean difference of each structure">',
        f'<line x1="{place(0)}" y1="4" x2="{place(0)}" y2="{bottom}" stroke="#8a939e" stroke-dasharray="4 3"/>',
        f'<line x1="{left}" y1="{bottom}" x2="{left + width}" y2="{bottom}" stroke="#8a939e"/>',
    ]
    for number, (name, row) in enumerate(rows):
        y = 8 + line * number + line / 2
        short = name if len(name) <= 18 else name[:17] + "…"
        weight = ' font-weight="700"' if row is comparison.overall else ""
        parts.append(f'<text x="2" y="{y + 4}"{weight}>{html.escape(short)}<title>{html.escape(name)}</title></text>')
        if row.ci95 is not None:
            low, high = map(place, row.ci95)
            parts.append(f'<line x1="{low}" y1="{y}" x2="{high}" y2="{y}" stroke="#0b5cad" stroke-width="2"/>')
        if row.difference is not None:
            parts.append(f'<circle cx="{place(row.difference)}" cy="{y}" r="4" fill="#0b5cad"/>')
    parts += [f'<text x="{place(tick)}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>' for tick in ticks]
    parts.append(
        f'<text x="{left + width / 2}" y="{bottom + 32}" text-anchor="middle">B − A, '
        f"{html.escape(TITLES[comparison.metric])}</text></svg>"
    )
    return "".join(parts)
