"""Does the model know when it is wrong? Its predicted IoU held against the true one, slice by slice.

Likewise the Dice that was expected of answers to boxes (`inference.trust`) against the true one, where that is known.

Everything works on the rows of `slices.csv` in which the predicted IoU, the IoU and the Dice are all defined, with
each slice counting once. Answers that need no model predict nothing and have no rows here.

- Reliability: rows fall into bins of equal width over [0, 1] by their predicted IoU; each bin compares the mean
  prediction with the mean truth. The network does not clamp its prediction: below 0 or above 1 it falls in the first
  or last bin and keeps its value in the means.
- ECE: the mean over bins, weighed by their rows, of |mean predicted - mean true|; MCE: the largest of them over the
  bins that have rows (Naeini et al. 2015, for a regression of the IoU instead of a class probability).
- AUROC: the chance that a failed slice (Dice below `fail_below`) has a lower predicted IoU than one that did not
  fail, ties counting half (Hanley and McNeil 1982). 0.5 is guessing, 1 is perfect.
- Risk-coverage: keep the share of slices with the highest predicted IoU (coverage); the risk is 1 minus the mean Dice
  of those kept; AURC is the mean risk over all coverages (Geifman and El-Yaniv 2017). Slices of equal predicted IoU
  have no order: each takes the mean Dice of its tie, which is the expectation over all orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medsam.errors import InputError
from medsam.evaluation.tables import TRUST, check_rows, jsonable
from medsam.metrics.detection import auroc

if TYPE_CHECKING:
    import pandas as pd

_NEEDED = ("case", "patient", "structure", "model", "prompt", "dice", "iou", "predicted_iou")


def calibration(
    slices: pd.DataFrame,
    *,
    bins: int = 10,
    fail_below: float = 0.7,
    prompt: str | None = None,
    points: int = 101,
) -> dict[str, Any]:
    """Calibration of every model that predicts its IoU, ready for JSON (None stands for nan).

    slices: the rows of slices.csv. bins: of the reliability diagram. fail_below: Dice under which a slice counts as
    failed, in (0, 1]. prompt: which one; by default that of the first row. points: the risk-coverage curve is thinned
    to at most so many points; AURC always uses all.
    Returns {model: {"n", "missing", "prompt", "bins": [{"low", "high", "n", "predicted", "true"}], "ece", "mce",
    "bias" (mean predicted - mean true), "fail_below", "failed", "auroc", "auroc_note", "curve": [{"coverage",
    "dice"}], "aurc", "aurc_perfect" (slices ordered by their true Dice), "aurc_random" (no order at all)}}; where
    Dice was expected also "expected_dice": {"n", "bins", "ece", "mce", "bias", "failed", "auroc", as above, "within"
    (share of slices whose Dice lies in its interval), "unfamiliar" (how many are of a kind nothing was learnt from)}.
    `auroc` is None, and `auroc_note` says why, when no slice or every slice failed. A model none of whose rows has a
    predicted IoU is left out.
    Raises InputError for missing columns, no rows, an unknown prompt, or options that make no sense.
    """
    check_rows(slices, "The table of slices", _NEEDED)
    if bins < 1 or points < 2:
        raise InputError(f"A reliability diagram needs a bin and a curve two points, not {bins} and {points}.")
    if not 0 < fail_below <= 1:
        raise InputError(f"A slice fails below a Dice in (0, 1], not {fail_below}.")
    prompts = [str(name) for name in slices["prompt"].unique()]
    prompt = prompts[0] if prompt is None else prompt
    if prompt not in prompts:
        raise InputError(f"No slice was prompted with {prompt!r}; there are {', '.join(prompts)}.")
    found = {}
    for model, rows in slices[slices["prompt"] == prompt].groupby("model", sort=False):
        values = rows[["predicted_iou", "iou", "dice"]].to_numpy(dtype=float)
        kept = values[np.isfinite(values).all(axis=1)]
        if len(kept):
            # a fixed order of summation, so that equal rows give equal numbers to the last bit
            kept = kept[np.lexsort(kept.T[::-1])]
            predicted, true, dice = kept.T
            found[str(model)] = {
                "n": len(kept),
                "missing": len(values) - len(kept),
                "prompt": prompt,
                **_one(predicted, true, dice, bins, fail_below, points),
                **_expected(rows, bins, fail_below),
            }
    return found


def selective_dice(confidence: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Mean Dice of the k most confident slices, for k = 1 ... n; coverage is k / n.

    confidence, dice: (n,). Slices of equal confidence each take the mean Dice of their tie.
    """
    # from the most confident down: unique sorts upwards
    _, tie, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    fair = np.bincount(tie, weights=dice) / sizes
    return np.cumsum(np.repeat(fair, sizes)) / np.arange(1, len(dice) + 1)


def _one(
    predicted: np.ndarray, true: np.ndarray, dice: np.ndarray, bins: int, fail_below: float, points: int
) -> dict[str, Any]:
    n = len(predicted)
    failed = dice < fail_below
    area = auroc(-predicted, failed)
    note = None
    if not failed.any():
        note = f"no slice has a Dice below {fail_below:g}: there is no failure to find"
    elif failed.all():
        note = f"every slice has a Dice below {fail_below:g}: there is no success to tell failures from"
    kept = selective_dice(predicted, dice)
    shown = np.unique(np.linspace(1, n, min(points, n)).round().astype(int))
    return {
        **_reliability(predicted, true, bins),
        "fail_below": fail_below,
        "failed": int(failed.sum()),
        "auroc": jsonable(area),
        "auroc_note": note,
        "curve": [{"coverage": float(k / n), "dice": float(kept[k - 1])} for k in shown],
        "aurc": float(1 - kept.mean()),
        "aurc_perfect": float(1 - selective_dice(dice, dice).mean()),
        "aurc_random": float(1 - dice.mean()),
    }


def _expected(rows: pd.DataFrame, bins: int, fail_below: float) -> dict[str, Any]:
    """How far the expected Dice of a model's rows is right; {} where none has one."""
    if not {*TRUST} <= {*rows.columns}:
        return {}
    values = rows[["dice", *TRUST]].to_numpy(dtype=float)
    kept = values[np.isfinite(values).all(axis=1)]
    if not len(kept):
        return {}
    dice, expected, low, high, unfamiliar = kept[np.lexsort(kept.T[::-1])].T
    failed = dice < fail_below
    found = {
        "n": len(kept),
        **_reliability(expected, dice, bins),
        "failed": int(failed.sum()),
        "auroc": jsonable(auroc(-expected, failed)),
        "within": float(((dice >= low) & (dice <= high)).mean()),
        "unfamiliar": int(unfamiliar.sum()),
    }
    return {"expected_dice": found}


def _reliability(predicted: np.ndarray, true: np.ndarray, bins: int) -> dict[str, Any]:
    """Bins and errors of n predictions, all in [0, 1] but for a little."""
    n = len(predicted)
    place = np.clip((predicted * bins).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    reliability, gaps = [], np.zeros(bins)
    for number in range(bins):
        mine = place == number
        means = (predicted[mine].mean(), true[mine].mean()) if counts[number] else (np.nan, np.nan)
        gaps[number] = abs(means[0] - means[1]) if counts[number] else 0.0
        reliability.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "n": int(counts[number]),
                "predicted": jsonable(means[0]),
                "true": jsonable(means[1]),
            }
        )
    return {
        "bins": reliability,
        "ece": float((counts * gaps).sum() / n),
        "mce": float(gaps.max()),
        "bias": float(predicted.mean() - true.mean()),
    }
