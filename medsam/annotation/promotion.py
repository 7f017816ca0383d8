"""Whether a new model takes the place of the one that answers, in words.

It does where both hold, on frozen patients, each asked with the same prompts:
- the overall difference of Dice is above `least`, and its 95 % interval (patients are resampled) lies above 0;
- no structure that enough patients have for an interval is worse by more than `worst`. Of a structure that fewer have,
  a loss is told and decides nothing: two patients say little.
Both have to be measured on the same cases and structures, as one protocol has them.
Where there are too few patients for any interval nothing is promoted, unless that is forced: the difference then
decides alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medsam.annotation.settings import RoundSettings
from medsam.errors import counted
from medsam.evaluation.bootstrap import MIN_PATIENTS
from medsam.evaluation.compare import Comparison, Difference


@dataclass(frozen=True)
class Decision:
    """promoted, and why or why not: one or two sentences."""

    promoted: bool
    why: str


def decide(comparison: Comparison, settings: RoundSettings, force: bool = False) -> Decision:
    """comparison: of the model that answers (a) with the new one (b), by Dice. force: also without an interval."""
    overall = comparison.overall
    if overall.difference is None:
        return Decision(False, "Kept: nothing was measured on both sides.")
    if alone := len(comparison.only_in_a) + len(comparison.only_in_b):
        return Decision(False, f"Kept: {counted(alone, 'case')} of the measure has scores of one of the two only.")
    said = f"Dice {overall.mean_a:.3f} -> {overall.mean_b:.3f} on {counted(overall.patients, 'patient')}"
    if overall.difference <= settings.least:
        return Decision(False, f"Kept: {said}, which is no gain above {settings.least:g}.")
    if overall.ci95 is None:
        few = f"{said}, too few for an interval (at least {MIN_PATIENTS})"
        if not force:
            return Decision(False, f"Kept: {few}.")
        said = f"{few}; forced"
    elif overall.ci95[0] <= 0:
        return Decision(False, f"Kept: {said}, {_interval(overall)}: it may be chance.")
    else:
        said = f"{said}, {_interval(overall)}"
    losses = {
        name: row
        for name, row in comparison.structures.items()
        if row.difference is not None and row.difference < -settings.worst
    }
    worse = [f"{name} is worse by {-row.difference:.3f} ({_interval(row)})" for name, row in losses.items() if row.ci95]  # type: ignore[operator]
    if worse:
        return Decision(False, f"Kept: {said}, but {' and '.join(worse)}.")
    few_have = [f"{name} lost {-row.difference:.3f} on {row.patients}" for name, row in losses.items()]  # type: ignore[operator]
    return Decision(True, f"Promoted: {said}." + (f" Few patients: {', '.join(few_have)}." if few_have else ""))


def as_details(comparison: Comparison) -> dict[str, Any]:
    """What a round keeps of its comparison: no case and no patient by name."""
    return {
        "dice_before": comparison.overall.mean_a,
        "dice_after": comparison.overall.mean_b,
        **_numbers(comparison.overall),
        "structures": {
            name: {"dice_before": row.mean_a, "dice_after": row.mean_b, **_numbers(row)}
            for name, row in comparison.structures.items()
        },
    }


def _numbers(row: Difference) -> dict[str, Any]:
    return {
        "difference": row.difference,
        "ci95": None if row.ci95 is None else list(row.ci95),
        "p": row.p,
        "patients": row.patients,
    }


def _interval(row: Difference) -> str:
    return "no interval" if row.ci95 is None else f"95 % CI of the difference {row.ci95[0]:+.3f} to {row.ci95[1]:+.3f}"
