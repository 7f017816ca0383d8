"""How well things are found: presence, and objects at a price in false alarms. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# false alarms a scan at which sensitivity is told; source: LUNA16 (Setio et al. 2017), which adds 8
FALSE_ALARMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive has the higher score than a negative, ties counting half.

    score: (n,) numbers. positive: (n,) bool. Returns nan unless both classes are there.
    """
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    above = rankdata(score)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def sensitivity_at(
    score: np.ndarray,
    found: np.ndarray,
    objects: int,
    scans: int,
    false_alarms: Sequence[float] = FALSE_ALARMS,
) -> list[float]:
    """The most objects that a threshold finds with at most so many false alarms a scan, as a share: the FROC curve.

    score: (n,) of each candidate. found: (n,) the object that it finds, numbered from 0 over all scans, or -1 for a
    false alarm; of several candidates that find one object the best counts, and the others are no false alarms.
    objects, scans: in all. Returns nan without objects. Candidates of equal score are taken together.
    """
    if not objects:
        return [float("nan")] * len(false_alarms)
    order = np.argsort(-score, kind="stable")
    ranked, hit = score[order], found[order]
    # thresholds lie between different scores
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)
    alarms = np.cumsum(hit < 0)[ends] / scans if len(ends) else np.zeros(0)
    first = np.zeros(len(hit), bool)
    first[np.unique(hit, return_index=True)[1]] = True
    hits = np.cumsum(first & (hit >= 0))[ends] / objects if len(ends) else np.zeros(0)
    return [float(hits[alarms <= most].max(initial=0.0)) for most in false_alarms]


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """IoU of two half-open boxes (x0, y0, x1, y1); 0 for one without an area."""
    inner = _area(*np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:]))
    union = _area(*one) + _area(*other) - inner
    return inner / union if union > 0 else 0.0


def _area(x0: float, y0: float, x1: float, y1: float) -> float:
    return max(float(x1 - x0), 0.0) * max(float(y1 - y0), 0.0)
