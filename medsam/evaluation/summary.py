"""Per-structure statistics of an evaluation, with confidence intervals by patient.

A blank cell of `metrics.csv` (see `tables`) is left out, and every statistic states how many values it is of (`n`) and
how many were not defined (`missing`). A mean distance with missing values flatters the model, since the distances of
its empty answers are among the missing. The median does not leave those out: an empty answer (see `empty_answers`)
counts as infinitely far there, and a median that is infinite is None. Overall, one infinite median makes the mean of
medians None.

One structure: `mean`, `median` and `std` (n - 1 in the denominator) over its cases. Overall: the mean over structures
of that same statistic, so that a common organ does not outweigh a rare one; a structure without the statistic is
skipped.

Confidence interval: see `bootstrap`. `ci95` is None when fewer than `MIN_PATIENTS` patients contribute to the
statistic, or fewer than two of a data set that contributes: one patient cannot vary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.errors import InputError
from medsam.evaluation.bootstrap import PatientBootstrap, mean_over_structures
from medsam.evaluation.tables import DISTANCES, METRICS, NAMES, check_rows, data_sets, empty_answers, jsonable

if TYPE_CHECKING:
    import pandas as pd

# what stands beside the models in summary.json
RESERVED = (
    "prompts",
    "datasets",
    "groups",
    "robustness",
    "calibration",
    "corrections",
    "detection",
    "protocol",
    "environment",
)

# what a robustness curve can run along, boxes first: they are the main protocol
CURVES = ("jitter_px", "clicks", "clicks_after_box", "scribbles", "scribbles_after_box")

_BOX = re.compile(r"box(?:\+(\d+)px)?")
# prompts of each curve of corrections, whose number is in the name where it is not one, or none
_CORRECTIONS = {
    "clicks": re.compile(r"point|points:(\d+)"),
    "clicks_after_box": re.compile(r"box(?:\+points:(\d+))?"),
    "scribbles": re.compile(r"scribble|scribbles:(\d+)"),
    "scribbles_after_box": re.compile(r"box(?:\+scribbles:(\d+))?"),
}


def summarise(metrics: pd.DataFrame, *, seed: int = 0, resamples: int = 2000) -> dict[str, Any]:
    """The statistics of `summary.json`, ready for `json.dumps(..., allow_nan=False)`: None stands for nan.

    metrics: the rows of metrics.csv, see `COLUMNS` (`label`, `n_slices` and `seconds` are not needed).
    seed, resamples: of the bootstrap; the same seed and rows give the same numbers, in whatever order the rows are.
    Returns {model: {"overall": {metric: statistics}, "structures": {name: {metric: statistics}}}} for the primary
    prompt, the one of the first row, with `METRICS` for metric and for statistics {"mean", "median", "std", "ci95":
    [low, high], "n", "missing", "patients"}: n values of that many patients. A run with several prompts adds
    "prompts": {model: {prompt: {"overall", "structures"}}} and "robustness", see `robustness`. `models_of` lists the
    models alone.
    Raises InputError for missing columns, no rows, a row given twice, or a model with one of the `RESERVED` names.
    """
    by_prompt = _by_prompt(metrics, METRICS, seed, resamples)
    primary = str(metrics["prompt"].iloc[0])
    summary: dict[str, Any] = {model: prompts[primary] for model, prompts in by_prompt.items() if primary in prompts}
    if metrics["prompt"].nunique() > 1:
        summary["prompts"] = by_prompt
        summary["robustness"] = _curves(by_prompt)
    return summary


def robustness(metrics: pd.DataFrame, *, seed: int = 0, resamples: int = 2000) -> dict[str, list[dict[str, Any]]]:
    """Dice against the jitter of the box and against the number of clicks or strokes, alone or after a box.

    metrics, seed, resamples: as in `summarise`.
    Returns for each model a list of {"prompt", "jitter_px", "dice"} (prompts "box" and "box+Npx", by growing N),
    {"prompt", "clicks", "dice"} ("point" and "points:N") and, where a run has any "box+points:N", {"prompt",
    "clicks_after_box", "dice"} (these, and "box" with 0), "scribbles" and "scribbles_after_box" likewise; `dice` holds
    the overall statistics. Other prompts, such as the best of three masks, lie on neither axis and are left out.
    """
    return _curves(_by_prompt(metrics, ("dice",), seed, resamples))


def by_dataset(metrics: pd.DataFrame, *, seed: int = 0, resamples: int = 2000) -> dict[str, dict[str, Any]]:
    """{data set: {model: overall}} over the primary prompt, where cases are called SET/CASE; else empty.

    A run over one manifest names its cases without a set.
    """
    sets = data_sets(metrics["case"])
    if not all(sets):
        return {}
    found = {}
    for name, rows in metrics.groupby(np.array(sets, dtype=object), sort=False):
        summary = summarise(rows, seed=seed, resamples=resamples)
        found[str(name)] = {model: summary[model]["overall"] for model in models_of(summary)}
    return found


def models_of(summary: Mapping[str, Any]) -> list[str]:
    """The models of a summary: its keys without the `RESERVED` ones."""
    return [name for name in summary if name not in RESERVED]


def rows_of(summary: Mapping[str, Any]) -> list[tuple[str, str | None, Mapping[str, Any]]]:
    """(model, prompt, {"overall", "structures"}) of every answer, as tables list them; prompt: None when there is one.

    What answers no primary prompt, such as `given-mask` beside boxes, is among them.
    """
    if "prompts" not in summary:
        return [(model, None, summary[model]) for model in models_of(summary)]
    return [(model, prompt, entry) for model, found in summary["prompts"].items() for prompt, entry in found.items()]


def _by_prompt(
    metrics: pd.DataFrame, names: Sequence[str], seed: int, resamples: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """{model: {prompt: {"overall", "structures"}}}, all in order of first appearance."""
    volumes = ("volume_ml", "volume_ref_ml") if {"volume_error_ml", *DISTANCES} & set(names) else ()
    columns = [name for name in names if not name.startswith("volume_error")]
    check_rows(metrics, columns=(*NAMES, *columns, *volumes))
    taken = [model for model in metrics["model"].unique() if model in RESERVED]
    if taken:
        raise InputError(f"A model cannot be called {taken[0]!r}: summary.json uses that word itself. Rename it.")
    bootstrap = PatientBootstrap.draw(
        metrics["patient"].astype(str), metrics["case"].astype(str), seed=seed, resamples=resamples
    )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (model, prompt), rows in metrics.groupby(["model", "prompt"], sort=False):
        found.setdefault(str(model), {})[str(prompt)] = _statistics(rows, names, bootstrap)
    return found


def _statistics(rows: pd.DataFrame, names: Sequence[str], bootstrap: PatientBootstrap) -> dict[str, Any]:
    order = [str(name) for name in rows["structure"].unique()]
    # one order of summation whatever the order of the rows, so that equal rows give equal numbers to the last bit
    rows = rows.sort_values(["case", "structure"], kind="stable")
    structures, groups = np.unique(rows["structure"].astype(str).to_numpy(dtype=str), return_inverse=True)
    patients = bootstrap.codes(rows["patient"].astype(str).to_numpy(dtype=str))
    overall: dict[str, Any] = {}
    by_structure: dict[str, dict[str, Any]] = {name: {} for name in order}
    for name in names:
        values = _values(rows, name)
        defined, empty = np.isfinite(values), empty_answers(rows, name)
        means = bootstrap.means(patients[defined], groups[defined], len(structures), values[defined])
        parts = []
        for code, structure in enumerate(structures):
            mine = groups == code
            kept = mine & defined
            n = int(kept.sum())
            ranked = np.append(values[kept], np.full(int((mine & empty).sum()), np.inf))
            part: dict[str, Any] = {
                "mean": float(values[kept].mean()) if n else None,
                "median": float(np.median(ranked)) if len(ranked) else None,
                "std": float(values[kept].std(ddof=1)) if n > 1 else None,
                "ci95": bootstrap.interval(means[:, code], patients[kept]),
                "n": n,
                "missing": int(mine.sum()) - n,
                "patients": len(np.unique(patients[kept])),
            }
            parts.append(part)
            by_structure[str(structure)][name] = {**part, "median": jsonable(part["median"])}
        overall[name] = {
            **{key: jsonable(_mean(part[key] for part in parts)) for key in ("mean", "median", "std")},
            "ci95": bootstrap.interval(mean_over_structures(means), patients[defined]),
            "n": int(defined.sum()),
            "missing": int((~defined).sum()),
            "patients": len(np.unique(patients[defined])),
        }
    return {"overall": overall, "structures": by_structure}


def _values(rows: pd.DataFrame, name: str) -> np.ndarray:
    if not name.startswith("volume_error"):
        return rows[name].to_numpy(dtype=float)
    volume, reference = (rows[column].to_numpy(dtype=float) for column in ("volume_ml", "volume_ref_ml"))
    if name == "volume_error_ml":
        return volume - reference
    percent = np.full(len(rows), np.nan)
    np.divide(100 * (volume - reference), reference, out=percent, where=reference > 0)
    return percent


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _curves(by_prompt: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    curves = {}
    for model, prompts in by_prompt.items():
        points: list[tuple[str, int, str]] = []
        # boxes alone are the begin of a curve, and no curve
        drawn = [axis for axis, name in _CORRECTIONS.items() if any(name.fullmatch(p) for p in prompts if p != "box")]
        for prompt in prompts:
            if match := _BOX.fullmatch(prompt):
                points.append(("jitter_px", int(match[1] or 0), prompt))
            corrected = [(axis, _CORRECTIONS[axis].fullmatch(prompt)) for axis in drawn]
            points += [(axis, int(match[1] or (prompt != "box")), prompt) for axis, match in corrected if match]
        points.sort(key=lambda point: (CURVES.index(point[0]), point[1]))
        curves[model] = [
            {"prompt": prompt, axis: amount, "dice": prompts[prompt]["overall"]["dice"]}
            for axis, amount, prompt in points
        ]
    return curves
