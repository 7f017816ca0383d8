"""Any number of evaluations side by side: one number for each data set (or structure), run, model and prompt.

A number is the mean over the structures of a data set of the mean over its cases, as `overall` of the summary; blank
cells are left out. Only cases that every run has are counted. The mean of sets weighs each data set the same, also a
set of one structure. No intervals and no tests: those are for pairs (`compare`).

What needs no model is drawn from the prompts alone, so it is the same in every run that asks them and stands there
once.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.errors import InputError
from medsam.evaluation.bootstrap import mean_over_structures
from medsam.evaluation.tables import BASELINES, data_sets, read_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """One answer of one run. run: None for what needs no model.

    encoder_calls, seconds, prompts: of all its rows together; nan where they were not measured.
    """

    run: str | None
    model: str
    prompt: str
    encoder_calls: float
    seconds: float
    prompts: int

    @property
    def name(self) -> str:
        """How a table calls it."""
        return ", ".join(word for word in (self.run, self.model, self.prompt) if word is not None)


@dataclass(frozen=True)
class SideBySide:
    """Columns and rows of the table.

    rows: (data set, structure) -> a number a column, nan where it is not defined; the structure is "" where rows are of
    data sets. means: over the rows' data sets, a number a column. cases: how many all runs have. left_out: how many at
    least one run lacks.
    """

    metric: str
    columns: tuple[Column, ...]
    rows: Mapping[tuple[str, str], tuple[float, ...]]
    means: tuple[float, ...]
    cases: int
    left_out: int

    @property
    def gains(self) -> list[tuple[int, int]]:
        """The columns of what two runs both answered: the second minus the first is the gain."""
        names = list(dict.fromkeys(column.run for column in self.columns if column.run is not None))
        if len(names) != 2:
            return []
        place = {(column.run, column.model, column.prompt): n for n, column in enumerate(self.columns)}
        return [
            (n, place[names[1], model, prompt])
            for (run, model, prompt), n in place.items()
            if run == names[0] and (names[1], model, prompt) in place
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: nan is None."""

        def plain(values: Sequence[float]) -> list[float | None]:
            return [value if math.isfinite(value) else None for value in values]

        return {
            "metric": self.metric,
            "cases": self.cases,
            "left_out": self.left_out,
            "columns": [
                {
                    "run": column.run,
                    "model": column.model,
                    "prompt": column.prompt,
                    "encoder_calls": plain([column.encoder_calls])[0],
                    "seconds": plain([column.seconds])[0],
                    "prompts": column.prompts,
                }
                for column in self.columns
            ],
            "rows": [
                {"set": name, **({"structure": structure} if structure else {}), "values": plain(values)}
                for (name, structure), values in self.rows.items()
            ],
            "mean_of_sets": plain(self.means),
        }

    def as_csv(self) -> str:
        """A line for each number: set, structure, run, model, prompt, the metric; the last of set "mean of sets"."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["set", "structure", "run", "model", "prompt", self.metric])
        for (name, structure), values in [*self.rows.items(), (("mean of sets", ""), self.means)]:
            for column, value in zip(self.columns, values, strict=True):
                number = round(value, 6) if math.isfinite(value) else ""
                writer.writerow([name, structure, column.run or "", column.model, column.prompt, number])
        return text.getvalue()


def side_by_side(
    runs: Mapping[str, Sequence[Path]],
    *,
    metric: str = "dice",
    prompts: Collection[str] = (),
    by_structure: bool = False,
) -> SideBySide:
    """Set evaluations side by side.

    runs: name -> the folders that hold it, several where it was evaluated in parts. prompts: only these; none: all.
    metric: a column of metrics.csv. by_structure: rows are structures of data sets, not data sets.
    Cases that are not called SET/CASE are of the set "", or of their folder's name where a run has several folders.
    Raises InputError when a folder is not an evaluation, the runs have no case in common, or no run has these prompts.
    """
    tables, cases, left_out = _shared({name: _read(folders) for name, folders in runs.items()})
    sets = list(dict.fromkeys(next(iter(tables.values()))["set"]))
    found = _columns(tables, metric, prompts)
    if not found:
        there = dict.fromkeys(str(prompt) for table in tables.values() for prompt in table["prompt"])
        raise InputError(f"No run answers {', '.join(map(repr, prompts))}; there are: {', '.join(there)}.")
    numbers = list(found.values())
    of_sets = {
        (name, ""): tuple(_mean([value for key, value in column.items() if key[0] == name]) for column in numbers)
        for name in sets
    }
    # data sets in the order of the first run, structures in that of the rows
    keys = sorted(dict.fromkeys(key for column in numbers for key in column), key=lambda key: sets.index(key[0]))
    return SideBySide(
        metric,
        tuple(found),
        {key: tuple(column.get(key, math.nan) for column in numbers) for key in keys} if by_structure else of_sets,
        tuple(_mean(values) for values in zip(*of_sets.values(), strict=True)),
        cases,
        left_out,
    )


def _shared(tables: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], int, int]:
    """The rows of cases that every run has, how many cases those are, and how many at least one run lacks."""
    keys = {name: list(zip(table["set"], table["case"], strict=True)) for name, table in tables.items()}
    shared = set.intersection(*map(set, keys.values()))
    if not shared:
        raise InputError(f"{', '.join(tables)} have no case in common. Evaluate them on the same manifest.")
    kept = {name: table[[key in shared for key in keys[name]]] for name, table in tables.items()}
    return kept, len(shared), len(set.union(*map(set, keys.values())) - shared)


def _columns(
    tables: Mapping[str, pd.DataFrame], metric: str, prompts: Collection[str]
) -> dict[Column, dict[tuple[str, str], float]]:
    """Each column and its numbers, see `_means`; of several runs what needs no model is the first one's."""
    found: dict[Column, dict[tuple[str, str], float]] = {}
    names = set()
    for name, table in tables.items():
        for (model, prompt), rows in table.groupby(["model", "prompt"], sort=False):
            column = _column(None if model in BASELINES else name, str(model), str(prompt), rows)
            if (not prompts or prompt in prompts) and column.name not in names:
                names.add(column.name)
                found[column] = _means(rows, metric)
    return found


def _read(folders: Sequence[Path]) -> pd.DataFrame:
    """metrics.csv of several folders as one, with the column `set`."""
    import pandas as pd

    tables = []
    for folder in folders:
        table = read_table(folder)
        names = data_sets(table["case"])
        home = Path(folder).resolve().name
        table["set"] = [name or (home if len(folders) > 1 else "") for name in names]
        tables.append(table)
    table = pd.concat(tables)
    twice = table.duplicated(["set", "case", "structure", "model", "prompt"])
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{' and '.join(map(str, folders))} both hold {row['model']}, {row['prompt']} on {row['case']} "
            f"{row['structure']}. The parts of one run share no answer; give them as runs of their own."
        )
    return table


def _column(run: str | None, model: str, prompt: str, rows: pd.DataFrame) -> Column:
    calls, seconds = (float(rows[name].sum(min_count=1)) for name in ("encoder_calls", "seconds"))
    return Column(run, model, prompt, calls, seconds, int(rows["n_slices"].fillna(0).sum()))


def _means(rows: pd.DataFrame, metric: str) -> dict[tuple[str, str], float]:
    """(data set, structure) -> mean over its cases; nan where none is defined."""
    finite = rows[metric].where(np.isfinite(rows[metric].to_numpy(dtype=float)))
    means = finite.groupby([rows["set"], rows["structure"]], sort=False).mean()
    return {(str(name), str(structure)): float(value) for (name, structure), value in means.items()}


def _mean(values: Sequence[float]) -> float:
    """Skipping nan; nan when nothing is left."""
    return float(mean_over_structures(np.reshape(np.array(values, dtype=float), (1, -1)))[0])
