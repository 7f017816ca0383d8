"""An evaluation folder, read, and how each of its models looks in every plot and table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.drawing.colours import SERIES
from medsam.errors import InputError
from medsam.evaluation.summary import models_of, rows_of
from medsam.evaluation.tables import BASELINES, read_table

if TYPE_CHECKING:
    import pandas as pd

HEADLINE = ("dice", "nsd", "hd95_mm")

# what needs no model is grey
_MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("*", "★"))
_GREYS = dict(zip(BASELINES, (("#6b6b6b", "x", "✕"), ("#9a9a9a", "+", "+"), ("#6b6b6b", "_", "▁")), strict=True))


@dataclass(frozen=True)
class Series:
    """How a model looks in every plot and table."""

    name: str
    baseline: bool
    colour: str
    marker: str
    sign: str


@dataclass(frozen=True)
class RunData:
    """An evaluation folder, read."""

    folder: Path
    rows: pd.DataFrame
    summary: Mapping[str, Any]

    @cached_property
    def primary(self) -> str:
        """The prompt the summary is about: that of the first row."""
        return str(self.rows["prompt"].iloc[0])

    @cached_property
    def _names(self) -> list[str]:
        """All that answered anything, the ones of the primary prompt first."""
        return list(dict.fromkeys([*models_of(self.summary), *(name for name, _, _ in rows_of(self.summary))]))

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """All that answered the primary prompt; models first, then what needs none."""
        return tuple(series for series in self.everyone if series.name in self.summary)

    @cached_property
    def everyone(self) -> tuple[Series, ...]:
        """Also what answered other prompts alone, such as the rough mask as it was given."""
        found = []
        models = [name for name in self._names if name not in BASELINES]
        for number, name in enumerate(models):
            marker, sign = _MARKERS[number % len(_MARKERS)]
            found.append(Series(name, False, SERIES[number % len(SERIES)], marker, sign))
        for name in BASELINES:
            if name in self._names:
                colour, marker, sign = _GREYS[name]
                found.append(Series(name, True, colour, marker, sign))
        return tuple(found)

    @cached_property
    def first(self) -> Series:
        """The model whose cases are shown: the first one, or a baseline when there is no model."""
        return self.series[0]

    @cached_property
    def structures(self) -> list[str]:
        return [str(name) for name in self.rows["structure"].unique()]

    @cached_property
    def asked(self) -> pd.DataFrame:
        """The rows of the primary prompt."""
        return self.rows[self.rows["prompt"] == self.primary]

    def values(self, model: str, structure: str, metric: str) -> np.ndarray:
        """The defined values of a metric, one a case."""
        rows = self.asked[(self.asked["model"] == model) & (self.asked["structure"] == structure)]
        found = rows[metric].to_numpy(dtype=float)
        return found[np.isfinite(found)]


def read_run(folder: Path) -> RunData:
    """Raises InputError when the folder is not an evaluation, or its summary is damaged."""
    rows = read_table(folder)
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        models = models_of(summary)
        known = all({"overall", "structures"} <= summary[model].keys() for model in models)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no summary.json. Run `medsam evaluate` again to write it.") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not the summary of an evaluation: {error}. Run `medsam evaluate` again.") from None
    if not models or not known:
        raise InputError(f"{path} lacks the statistics of a model. Run `medsam evaluate` again.")
    return RunData(folder, rows, summary)


# a group, what is known of it, and {model: {"overall", "structures"}}
GroupRow = tuple[str, Mapping[str, Any], Mapping[str, Any]]


def group_tables(run: RunData) -> dict[str, list[GroupRow]]:
    """Name -> its groups; empty where results were told apart by nothing."""
    known = (run.summary.get("protocol") or {}).get("by") or {}
    return {
        name: [(group, (known.get(name) or {}).get(group) or {}, found) for group, found in groups.items()]
        for name, groups in (run.summary.get("groups") or {}).items()
    }
