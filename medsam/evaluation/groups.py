"""Results by group: by scanner, slice thickness, sex, or whatever the cases' attributes tell.

`summary.json` gets {"groups": {name: {group: {model: {"overall", "structures"}}}}} with the statistics of `summary`, of
the primary prompt; `groups.csv` a row a case, to join with `metrics.csv`. A case without the attribute is in the group
"unknown", so that the groups of a name hold every case once: of each structure, the means of the groups weighed by
their `n` are the mean of all.

`overall` is the mean over the structures of a group, so groups with other structures are not compared by it; see
`about`. A difference is the mean over the structures that a group and the other cases both have. No group is tested:
intervals that do not overlap are a hint, and of many groups some differ by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.data.attributes import Grouping
from medsam.evaluation.bootstrap import MIN_PATIENTS, PatientBootstrap, mean_over_structures
from medsam.evaluation.summary import models_of, summarise

if TYPE_CHECKING:
    import pandas as pd


def by_group(
    metrics: pd.DataFrame, groupings: Sequence[Grouping], *, seed: int = 0, resamples: int = 2000
) -> dict[str, dict[str, Any]]:
    """{name: {group: {model: {"overall", "structures"}}}} over the primary prompt; ready for JSON.

    metrics: the rows of metrics.csv. seed, resamples: of the bootstrap, within each group. Cases without a row are in
    no group.
    """
    asked = _asked(metrics)
    found: dict[str, dict[str, Any]] = {}
    for one in groupings:
        found[one.name] = {}
        for group, inside in _members(asked, one).items():
            summary = summarise(asked[inside], seed=seed, resamples=resamples)
            found[one.name][group] = {model: summary[model] for model in models_of(summary)}
    return found


def about(metrics: pd.DataFrame, groupings: Sequence[Grouping], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """{name: {group: what a reader needs beside its statistics}}.

    cases, patients: how many. few: fewer than `MIN_PATIENTS` patients, who may be recognised by their group.
    lacks: structures that other cases have and this group has not. difference: {model: {"mean", "ci95"}} of the Dice
    of the group minus that of all others, over the structures both have; None where there are none.
    """
    asked = _asked(metrics)
    everything = set(asked["structure"].astype(str))
    models = {str(model): (asked["model"] == model).to_numpy() for model in asked["model"].unique()}
    # of all groups the same resamples, so drawn once
    bootstraps = {
        model: PatientBootstrap.draw(*(asked.loc[rows, name].astype(str) for name in ("patient", "case")), seed=seed)
        for model, rows in models.items()
    }
    found: dict[str, dict[str, Any]] = {}
    for one in groupings:
        found[one.name] = {}
        for group, inside in _members(asked, one).items():
            rows = asked[inside]
            patients = int(rows["patient"].nunique())
            found[one.name][group] = {
                "cases": int(rows["case"].nunique()),
                "patients": patients,
                "few": patients < MIN_PATIENTS,
                "lacks": sorted(everything - set(rows["structure"].astype(str))),
                "difference": {
                    model: _difference(asked[of_model], inside[of_model], bootstraps[model])
                    for model, of_model in models.items()
                },
            }
    return found


def case_table(groupings: Sequence[Grouping], cases: Sequence[str]) -> pd.DataFrame:
    """A row a case: its group by each name."""
    import pandas as pd

    return pd.DataFrame({"case": list(cases), **{one.name: [one.group[case] for case in cases] for one in groupings}})


def _asked(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of the primary prompt, that of the first row."""
    return metrics[metrics["prompt"] == metrics["prompt"].iloc[0]]


def _members(asked: pd.DataFrame, grouping: Grouping) -> dict[str, np.ndarray]:
    """Group -> bool (rows,), which rows are of it; without groups that have none."""
    labels = asked["case"].map(grouping.group)
    inside = {group: (labels == group).to_numpy() for group in grouping.groups}
    return {group: rows for group, rows in inside.items() if rows.any()}


def _difference(rows: pd.DataFrame, inside: np.ndarray, bootstrap: PatientBootstrap) -> dict[str, Any] | None:
    """Mean Dice inside minus outside over the structures both have. A patient in both is drawn in both."""
    dice = rows["dice"].to_numpy(dtype=float)
    names, structures = np.unique(rows["structure"].astype(str).to_numpy(dtype=str), return_inverse=True)
    kept = np.isfinite(dice)
    both = np.intersect1d(structures[kept & inside], structures[kept & ~inside])
    kept &= np.isin(structures, both)
    if not len(both):
        return None
    patients = bootstrap.codes(rows["patient"].astype(str).to_numpy(dtype=str))
    sides, observed = [], []
    for side in (inside, ~inside):
        mine = kept & side
        sides.append(bootstrap.means(patients[mine], structures[mine], len(names), dice[mine])[:, both])
        observed.append(np.mean([dice[mine & (structures == code)].mean() for code in both]))
    fewest = min(len(np.unique(patients[kept & side])) for side in (inside, ~inside))
    drawn = mean_over_structures(sides[0] - sides[1])
    interval = bootstrap.interval(drawn, patients[kept]) if fewest >= MIN_PATIENTS else None
    return {"mean": float(observed[0] - observed[1]), "ci95": interval}
