"""Per-structure statistics of an evaluation, with confidence intervals by patient.

Rows: `metrics.csv` has one row per case x structure x model x prompt, `slices.csv` one per slice of those. A blank
cell (nan; an infinite distance is read the same way) means "not defined": it never counts as a number, it is left
out, and every statistic says how many values it rests on (`n`) and how many were not defined (`missing`). A mean
distance with missing values flatters the model, since the distances of its empty answers are among the missing. The
median does not leave those out: an empty answer (see `empty_answers`) counts as infinitely far there, and a median
that is infinite is None. Overall, one infinite median makes the mean of medians None.

One structure: `mean`, `median` and `std` (n - 1 in the denominator) over its cases. Overall: the mean over structures
of that same statistic, so that a common organ does not outweigh a rare one; a structure without the statistic is
skipped.

Confidence interval: percentile bootstrap over patients (Efron and Tibshirani 1993, chapter 13). Each resample draws
as many patients as there are, with replacement, and takes all cases and structures of each; voxels, slices and cases
of one patient are not independent, so they never count as if they were. A structure that no drawn patient has is
skipped in that resample: its own interval uses the other resamples, the overall mean uses the other structures.
Where cases are called SET/CASE the bootstrap is stratified: patients are drawn within their data set, so that every
resample has the sets in their sizes. `ci95` is None when fewer than `MIN_PATIENTS` patients contribute to the
statistic, or fewer than two of a data set that contributes: one patient cannot vary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np

from medsam.errors import InputError, counted

if TYPE_CHECKING:
    import pandas as pd

# The volume errors follow from the two volume columns: prediction minus reference, positive is too much; in percent
# of the reference, and not defined when the reference has no volume.
METRICS = (
    "dice",
    "iou",
    "nsd",
    "hd95_mm",
    "assd_mm",
    "volume_error_ml",
    "volume_error_percent",
    "predicted_iou",
)
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "volume_error_ml": "Volume error (ml)",
    "volume_error_percent": "Volume error (%)",
    "predicted_iou": "Predicted IoU",
}
# answers drawn from the box alone, and a rough mask as it was given: what a model has to beat
BASELINES = ("filled-box", "inscribed-ellipse", "given-mask")
# the prompt of rows that score the best of three masks, chosen by the reference
ORACLE = "box:oracle3"
# what stands beside the models in summary.json
RESERVED = ("prompts", "datasets", "robustness", "calibration", "protocol", "environment")

MIN_PATIENTS = 5
"""Fewer patients have no interval: so few values show too little of the spread. A percentile bootstrap that claims
95 % covers the true mean in 49 % of samples of 2 patients, 75 % of 3, 83 % of 5 and 89 % of 10 (simulated for normal
values: 3000 samples of each size, 1000 resamples)."""

# infinite for an empty answer, and blank then in metrics.csv
DISTANCES = ("hd95_mm", "assd_mm")

_NAMES = ("case", "patient", "structure", "model", "prompt")
_NUMBERS = (
    "n_slices",
    "dice",
    "iou",
    "nsd",
    "hd95_mm",
    "assd_mm",
    "volume_ml",
    "volume_ref_ml",
    "predicted_iou",
    "seconds",
    "encoder_calls",
)
# columns that folders of earlier versions lack
_LATER = ("encoder_calls",)
COLUMNS = ("case", "patient", "structure", "label", "model", "prompt", *_NUMBERS)

# what a robustness curve can run along, boxes first: they are the main protocol
CURVES = ("jitter_px", "clicks", "clicks_after_box")

_BOX = re.compile(r"box(?:\+(\d+)px)?")
_CLICKS = re.compile(r"point|points:(\d+)")
_BOX_AND_CLICKS = re.compile(r"box(?:\+points:(\d+))?")


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
    """Dice against the jitter of the box and against the number of clicks, alone or after a box.

    metrics, seed, resamples: as in `summarise`.
    Returns for each model a list of {"prompt", "jitter_px", "dice"} (prompts "box" and "box+Npx", by growing N),
    {"prompt", "clicks", "dice"} ("point" and "points:N") and, where a run has any "box+points:N", {"prompt",
    "clicks_after_box", "dice"} (these, and "box" with 0); `dice` holds the overall statistics. Other prompts, such as
    the best of three masks, lie on neither axis and are left out.
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


def data_sets(cases: Iterable[str]) -> list[str]:
    """The data set of each case, where all are called SET/CASE; else "" for every one."""
    parts = [str(case).partition("/") for case in cases]
    return [name for name, *_ in parts] if all(slash for _, slash, _ in parts) else [""] * len(parts)


def empty_answers(rows: pd.DataFrame, metric: str) -> np.ndarray:
    """(n,) bool: the rows whose distance is not defined because the answer is empty.

    metric: of `METRICS`; all False unless it is one of the `DISTANCES`. An image without a physical size has no
    distance either, nor a volume of the reference: that is no failure.
    """
    if metric not in DISTANCES:
        return np.zeros(len(rows), dtype=bool)
    distance, dice, reference = (rows[name].to_numpy(dtype=float) for name in (metric, "dice", "volume_ref_ml"))
    return ~np.isfinite(distance) & (dice == 0) & np.isfinite(reference)


def without_distance(rows: pd.DataFrame) -> dict[str, int]:
    """How many of these rows have no HD95, and why: the answer is "empty", no "millimetres", or "unknown"."""
    empty = empty_answers(rows, "hd95_mm")
    undefined = ~np.isfinite(rows["hd95_mm"].to_numpy(dtype=float)) & ~empty
    flat = undefined & ~np.isfinite(rows["volume_ref_ml"].to_numpy(dtype=float))
    return {"empty": int(empty.sum()), "millimetres": int(flat.sum()), "unknown": int((undefined & ~flat).sum())}


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


def latex_table(summary: Mapping[str, Any], *, metric: str = "dice", spread: Literal["ci95", "std"] = "ci95") -> str:
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


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(special.get(sign, sign) for sign in " ".join(text.split()))


def read_table(folder: Path, name: Literal["metrics", "slices"] = "metrics") -> pd.DataFrame:
    """The rows of `metrics.csv` or `slices.csv` of an evaluation folder.

    Names stay text ("001" is a case, "NA" a structure); blank numbers are nan.
    Raises InputError when the folder is not an evaluation, or the file lacks a column, holds no rows, a number that
    is none, or a row twice.
    """
    import pandas as pd

    path = Path(folder) / f"{name}.csv"
    if not path.is_file():
        what = "does not exist" if not Path(folder).exists() else f"is not an evaluation: it holds no {name}.csv"
        raise InputError(f"{folder} {what}. Give the folder that `medsam evaluate --out` wrote.")
    try:
        # "NA" and "null" may be names; only a blank means nothing
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty. Run `medsam evaluate` again.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a table of comma-separated values: {error}") from None
    for column in _LATER:
        if column not in table:
            table[column] = ""
    _check_columns(table, str(path), COLUMNS if name == "metrics" else (*COLUMNS, "slice"))
    numbers = _NUMBERS if name == "metrics" else (*_NUMBERS, "slice")
    for column in numbers:
        text = table[column].str.strip()
        values = pd.to_numeric(text.where(text != ""), errors="coerce")
        wrong = np.flatnonzero((values.isna() & (text != "") & (text.str.lower() != "nan")).to_numpy())
        if wrong.size:
            raise InputError(
                f"{path}, line {wrong[0] + 2}: {column} is {text.iloc[wrong[0]]!r}, which is not a number."
            )
        table[column] = values
    check_rows(table, str(path))
    return table


def file_name(name: str) -> str:
    """A case, model or structure as part of a file name: ids of several manifests hold a slash."""
    # quoted, so that "left lung" and "left_lung" stay two files
    return quote(name.replace("/", "__"), safe="+")


def check_rows(
    table: pd.DataFrame, where: str = "The table of metrics", columns: Sequence[str] = (*_NAMES, "dice")
) -> None:
    """Raise InputError unless the rows can be counted: columns there, names given, no row twice.

    where: what to call the table in a message. columns: those that are needed.
    """
    _check_columns(table, where, columns)
    for column in _NAMES:
        blank = np.flatnonzero((table[column].isna() | (table[column].astype(str).str.strip() == "")).to_numpy())
        if blank.size:
            raise InputError(
                f"{where}: row {blank[0] + 1} has no {column}. Every row needs one; a case without a patient of its "
                "own takes its case id."
            )
    key = ["case", "structure", "model", "prompt", *(["slice"] if "slice" in table else [])]
    twice = table.duplicated(key)
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{where}: {counted(int(twice.sum()), 'row repeats', 'rows repeat')} an earlier one, first "
            + ", ".join(f"{column} {row[column]}" for column in key)
            + ". They would count twice; keep one."
        )
    owners = table.groupby("case", sort=False)["patient"].nunique()
    shared = owners.index[owners > 1]
    if len(shared):
        raise InputError(f"{where}: case {shared[0]} belongs to {int(owners.max())} patients; a case has one.")


def jsonable(value: float | None) -> float | None:
    """A number JSON can hold: None for nan and the infinities."""
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class PatientBootstrap:
    """Resamples of the patients of a run, drawn once and used for every number, so that models stay paired.

    patients: (P,) their names, sorted. sets: (P,) the number of each one's data set. weights: (R, P) how often each
    resample drew each patient.
    """

    patients: np.ndarray
    sets: np.ndarray
    weights: np.ndarray

    @classmethod
    def draw(
        cls, patients: Iterable[str], cases: Iterable[str], *, seed: int = 0, resamples: int = 2000
    ) -> PatientBootstrap:
        """Draw the patients with replacement, `resamples` times, within each data set as many as it has.

        patients, cases: of each row; a patient of several sets belongs to the first of them in the alphabet.
        Raises InputError for fewer than one resample.
        """
        if resamples < 1:
            raise InputError(f"The bootstrap needs at least one resample, not {resamples}; 2000 is usual.")
        owners: dict[str, str] = {}
        for patient, name in zip(patients, data_sets(cases), strict=True):
            owners[patient] = min(name, owners.get(patient, name))
        names = np.array(sorted(owners), dtype=str)
        sets = np.unique([owners[str(name)] for name in names], return_inverse=True)[1]
        generator = np.random.default_rng(seed)
        # float32 is exact for counts and halves the largest array here
        weights = np.empty((resamples, len(names)), dtype=np.float32)
        strata = [np.flatnonzero(sets == number) for number in range(sets.max(initial=-1) + 1)]
        for row in weights:
            for members in strata:
                count = len(members)
                row[members] = np.bincount(generator.integers(count, size=count), minlength=count)
        return cls(names, sets, weights)

    def interval(self, resampled: np.ndarray, patients: np.ndarray) -> list[float] | None:
        """[2.5 %, 97.5 %] quantiles of the resampled values, those that are nan left out.

        patients: codes of the patients that contribute, in any order, also repeated. None when there are fewer than
        `MIN_PATIENTS`, or just one of a data set.
        """
        there = np.unique(patients)
        per_set = np.bincount(self.sets[there])
        kept = resampled[np.isfinite(resampled)]
        if len(there) < MIN_PATIENTS or (per_set == 1).any() or not kept.size:
            return None
        return [float(value) for value in np.quantile(kept, (0.025, 0.975))]

    def codes(self, patients: Sequence[str] | np.ndarray) -> np.ndarray:
        """The place of each name in `patients`."""
        return np.searchsorted(self.patients, np.asarray(patients, dtype=str))

    def means(self, patients: np.ndarray, groups: np.ndarray, n_groups: int, values: np.ndarray) -> np.ndarray:
        """Mean of each group in each resample.

        patients, groups: (n,) codes of each value. values: (n,) finite.
        Returns (R, n_groups); nan where no drawn patient has the group.
        """
        cells = patients * n_groups + groups
        size = len(self.patients) * n_groups
        sums = np.bincount(cells, weights=values, minlength=size).reshape(-1, n_groups)
        counts = np.bincount(cells, minlength=size).reshape(-1, n_groups).astype(float)
        found = np.full((len(self.weights), n_groups), np.nan)
        for start in range(0, len(self.weights), 256):  # a block at a time: matmul makes a float64 copy of it
            block = slice(start, start + 256)
            weights = self.weights[block].astype(float)
            drawn = weights @ counts
            np.divide(weights @ sums, drawn, out=found[block], where=drawn > 0)
        return found


def mean_over_structures(means: np.ndarray) -> np.ndarray:
    """Row means of (R, S) that skip nan; nan for a row without any."""
    there = np.isfinite(means)
    found = np.full(len(means), np.nan)
    count = there.sum(axis=1)
    np.divide(np.where(there, means, 0.0).sum(axis=1), count, out=found, where=count > 0)
    return found


def _check_columns(table: pd.DataFrame, where: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{where} lacks the columns {', '.join(missing)}; an evaluation has {', '.join(COLUMNS)}.")
    if not len(table):
        raise InputError(f"{where} holds no rows: nothing was evaluated.")


def _by_prompt(
    metrics: pd.DataFrame, names: Sequence[str], seed: int, resamples: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """{model: {prompt: {"overall", "structures"}}}, all in order of first appearance."""
    volumes = ("volume_ml", "volume_ref_ml") if {"volume_error_ml", *DISTANCES} & set(names) else ()
    columns = [name for name in names if not name.startswith("volume_error")]
    check_rows(metrics, columns=(*_NAMES, *columns, *volumes))
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
        refined = any("+points:" in prompt for prompt in prompts)
        for prompt in prompts:
            if match := _BOX.fullmatch(prompt):
                points.append(("jitter_px", int(match[1] or 0), prompt))
            elif match := _CLICKS.fullmatch(prompt):
                points.append(("clicks", int(match[1] or 1), prompt))
            if refined and (match := _BOX_AND_CLICKS.fullmatch(prompt)):
                points.append(("clicks_after_box", int(match[1] or 0), prompt))
        points.sort(key=lambda point: (CURVES.index(point[0]), point[1]))
        curves[model] = [
            {"prompt": prompt, axis: amount, "dice": prompts[prompt]["overall"]["dice"]}
            for axis, amount, prompt in points
        ]
    return curves


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
