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
- An empty answer has no distance (`tables.empty_answers`), and leaving it out would reward it. It ranks as infinitely
  far in the test, the effect size and the wins: worse than any distance, and a tie where both are empty. Of a patient
  with several cases, or overall of several structures, the side with more empty answers loses; with equally many the
  finite differences decide. Means, `difference` and the interval leave such pairs out; `missing` counts them.

Differences are rounded to 12 decimals, so that the last bit of a mean does not break a tie.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.errors import InputError, counted
from medsam.evaluation.bootstrap import MIN_PATIENTS, PatientBootstrap, mean_over_structures
from medsam.evaluation.same_task import empty_warnings, task_warnings
from medsam.evaluation.tables import BASELINES, DISTANCES, TITLES, empty_answers, read_table

if TYPE_CHECKING:
    import pandas as pd

# Metrics with a better end; a signed volume error has none.
HIGHER_IS_BETTER = {"dice": True, "iou": True, "nsd": True, "hd95_mm": False, "assd_mm": False}
MIN_DIFFERING = 6


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

    @property
    def finite(self) -> list[Pair]:
        """The pairs without an empty answer."""
        return [pair for pair in self.pairs if math.isfinite(pair.a) and math.isfinite(pair.b)]

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
    models = ("model_a", model_a), ("model_b", model_b)
    chosen = [_side(*entry, prompt) for entry in zip((a, b), tables, models, strict=True)]
    sides, rows = [side for side, _ in chosen], [found for _, found in chosen]
    if sides[0] == sides[1] and Path(a).resolve() == Path(b).resolve():
        raise InputError(
            f"Both sides are {sides[0].model} of {a}. Name another folder, or two of its models with `model_a` and "
            f"`model_b`: {', '.join(tables[0]['model'].unique())}.",
            parameter=("model_a", "model_b"),
        )
    left, right = (_by_key(found, metric) for found in rows)
    common = [key for key in left if key in right]
    pairs, undefined = _pairs(left, right, common, metric)
    if not pairs:
        why = _why_none(common, metric)
        raise InputError(
            f"{a} and {b} have no case and structure to compare: {why}. Evaluate both on the same manifest."
        )
    structures, overall = _differences(pairs, metric, seed, resamples)
    both = [(left[key], right[key]) for key in common]
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
            *task_warnings((a, b), (sides[0].prompt, sides[1].prompt), both),
            *empty_warnings(both, metric),
        ),
        seed=seed,
        resamples=resamples,
    )


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


def p_text(p: float) -> str:
    """A p as people write it: "0.031", and "<0.001" below that."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def title_of(side: Side) -> str:
    """A side as people call it: model, prompt (folder)."""
    return f"{side.model}, {side.prompt} ({side.run})"


def digits_of(metric: str) -> int:
    """Decimals that a metric is shown with."""
    return 2 if metric.endswith("_mm") else 3


def cells_of(row: Difference, metric: str) -> list[str]:
    """One row as text, for a table: patients, pairs, A, B, difference, interval, p, Holm, r, wins / ties / losses."""
    digits = digits_of(metric)
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


def undefined_words(metric: str) -> str:
    """How the page names pairs in which a metric is not defined."""
    name = TITLES[metric].removesuffix(" (mm)")
    return f"without {name}: no millimetres" if metric in DISTANCES else f"without a defined {name}"


# -- reading ----------------------------------------------------------------------------------------------------


def _side(
    folder: Path, table: pd.DataFrame, model: tuple[str, str | None], prompt: str | None
) -> tuple[Side, pd.DataFrame]:
    """One side and its rows. model: the parameter that names it, and the name."""
    chosen = _model(folder, table, model[1], model[0])
    name = prompt if prompt is not None else str(table["prompt"].iloc[0])
    found = table[(table["model"] == chosen) & (table["prompt"] == name)]
    if found.empty:
        there = ", ".join(table.loc[table["model"] == chosen, "prompt"].unique())
        raise InputError(f"{folder} holds no answers of {chosen} to the prompt {name!r}; there are: {there}.")
    return Side(Path(folder).resolve().name, chosen, name), found


def _why_none(common: Sequence[tuple[str, str]], metric: str) -> str:
    if not common:
        return "they share none"
    lack = ", for lack of millimetres" if metric in DISTANCES else ""
    return f"of the {len(common)} they share none has {TITLES[metric]}{lack}"


def _pairs(
    left: Mapping[tuple[str, str], Mapping[str, Any]],
    right: Mapping[tuple[str, str], Mapping[str, Any]],
    common: Sequence[tuple[str, str]],
    metric: str,
) -> tuple[list[Pair], list[tuple[str, str]]]:
    """What can be compared, and the keys in which the metric is not defined on one side or both."""
    pairs, undefined = [], []
    for key in common:
        values = left[key][metric], right[key][metric]
        if not any(map(math.isnan, values)):
            pairs.append(Pair(key[0], left[key]["patient"], key[1], *values))
        else:
            undefined.append(key)
    return pairs, undefined


def _model(folder: Path, table: pd.DataFrame, wanted: str | None, parameter: str) -> str:
    there = [str(name) for name in table["model"].unique()]
    if wanted is not None:
        if wanted not in there:
            raise InputError(
                f"{folder} holds no answers of {wanted!r}; there are: {', '.join(there)}.", parameter=parameter
            )
        return wanted
    real = [name for name in there if name not in BASELINES]
    if len(real) == 1:
        return real[0]
    raise InputError(
        f"{folder} holds {', '.join(there)}: say with `{parameter}` which one to compare.", parameter=parameter
    )


def _by_key(rows: pd.DataFrame, metric: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows; the metric is finite, nan where it is not defined, or inf for an empty answer."""
    values = rows[metric].to_numpy(dtype=float)
    ranked = np.where(empty_answers(rows, metric), np.inf, np.where(np.isfinite(values), values, np.nan))
    records = rows.assign(**{metric: ranked}).to_dict("records")
    return {(row["case"], row["structure"]): row for row in records}


# -- statistics -------------------------------------------------------------------------------------------------


def _differences(
    pairs: Sequence[Pair], metric: str, seed: int, resamples: int
) -> tuple[dict[str, Difference], Difference]:
    order = list(dict.fromkeys(pair.structure for pair in pairs))
    # one order of summation whatever the order of the rows
    pairs = sorted(pairs, key=lambda pair: (pair.case, pair.structure))
    patients = [pair.patient for pair in pairs]
    bootstrap = PatientBootstrap.draw(patients, [pair.case for pair in pairs], seed=seed, resamples=resamples)
    names, groups = np.unique([pair.structure for pair in pairs], return_inverse=True)
    owners = bootstrap.codes(patients)
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
        both_known = mine & known
        means = [float(side[both_known].mean()) for side in (a, b)] if both_known.any() else [None, None]
        limits = bootstrap.interval(resampled[:, code], owners[both_known])
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
