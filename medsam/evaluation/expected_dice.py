"""Learn what Dice to expect of an answer from its signs, where references tell the true one (see `inference.trust`).

The Dice is fitted as a share: the loss is the cross-entropy between it and what is expected, which is least where both
are equal in the mean. Weights are held small by a ridge. Every data set weighs the same, however many answers it has.

What is expected of answers that were learnt from is flattering. So the spread is that of data sets that were left out
in turn, family by family: sets that share a patient are one family.

Letters: n answers, S signs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from medsam.inference.signs import NAMES
from medsam.inference.trust import Familiar, TrustModel, interval, standardised


@dataclass(frozen=True)
class Recipe:
    """How it is learnt.

    names: the signs that count. ridge: on their weights. hinged: whether a sign may count otherwise above its mean than
    below.
    """

    names: tuple[str, ...] = NAMES
    ridge: float = 0.003
    hinged: bool = True


@dataclass(frozen=True, eq=False)
class Learnt:
    """Answers with references. signs: (n, all of `NAMES`). dice: (n,). sets, families: (n,) of names."""

    signs: np.ndarray
    dice: np.ndarray
    sets: np.ndarray
    families: np.ndarray

    def __getitem__(self, which: np.ndarray) -> Learnt:
        return Learnt(self.signs[which], self.dice[which], self.sets[which], self.families[which])

    @property
    def weights(self) -> np.ndarray:
        """(n,), of sum 1: every data set weighs the same."""
        return _shares(self.sets)


def fit(answers: Learnt, recipe: Recipe) -> TrustModel:
    """Without spread, which answers that were not learnt from have to tell: see `with_spread`."""
    chosen = answers.signs[:, [NAMES.index(name) for name in recipe.names]]
    weights = answers.weights
    known = np.isfinite(chosen)
    total = np.maximum(weights @ known, 1e-9)
    centre = weights @ np.where(known, chosen, 0) / total
    scale = np.sqrt(weights @ np.where(known, np.square(chosen - centre), 0) / total)
    scale = np.where(scale > 1e-9, scale, 1.0)
    steps = standardised(chosen, centre, scale)
    columns = np.hstack([np.minimum(steps, 0), np.maximum(steps, 0)]) if recipe.hinged else steps
    found, bias = logistic(columns, answers.dice, weights, recipe.ridge)
    below, above = np.split(found, 2) if recipe.hinged else (found, found)
    return TrustModel(recipe.names, centre, scale, below, above, bias)


def left_out(answers: Learnt, learn: Callable[[Learnt], TrustModel]) -> np.ndarray:
    """Logits (n,) of the expected Dice of each answer, learnt from the other families."""
    found = np.empty(len(answers.dice))
    for family in np.unique(answers.families):
        mine = answers.families == family
        found[mine] = logit(learn(answers[~mine]).values(answers.signs[mine]))
    return found


def with_spread(model: TrustModel, answers: Learnt, logits: np.ndarray) -> TrustModel:
    """The same with the spread of answers that were not learnt from. logits: see `left_out`."""
    return replace(model, spread=spread_of(expit(logits), answers.dice, answers.weights))


def spread_of(expected: np.ndarray, dice: np.ndarray, weights: np.ndarray, wanted: float = 0.8) -> float:
    """That with which the intervals hold a share of `wanted` of the true Dice."""
    low, high = 0.5, 500.0
    for _ in range(30):
        spread = float(np.sqrt(low * high))
        least, most = interval(expected, spread)
        held = float(weights @ ((dice >= least) & (dice <= most)))
        low, high = (spread, high) if held > wanted else (low, spread)
    return float(np.sqrt(low * high))


def familiar(
    pooled: np.ndarray, sets: np.ndarray, families: np.ndarray, dimensions: int = 6, each: int = 5
) -> Familiar:
    """Of pooled embeddings (n, C) of pictures. limit: what nine in ten pictures of a family left out stay within.

    each: pictures of a set that are kept, those farthest from each other.
    """
    distances, shares = [], []
    for family in np.unique(families):
        mine = families == family
        others = _space(pooled[~mine], sets[~mine], dimensions, each)
        distances += [others.distance(one) for one in pooled[mine]]
        shares += (_shares(sets)[mine]).tolist()
    order = np.argsort(distances)
    passed = np.searchsorted(np.cumsum(np.array(shares)[order]), 0.9)
    limit = distances[order[min(int(passed), len(order) - 1)]]
    return replace(_space(pooled, sets, dimensions, each), limit=float(limit))


def _shares(sets: np.ndarray) -> np.ndarray:
    """(n,), of sum 1: every data set weighs the same."""
    names, place, counts = np.unique(sets, return_inverse=True, return_counts=True)
    return 1 / (len(names) * counts[place])


def _space(pooled: np.ndarray, sets: np.ndarray, dimensions: int, each: int) -> Familiar:
    """Without a limit."""
    weights = _shares(sets)
    mean = weights @ pooled
    off = pooled - mean
    values, vectors = np.linalg.eigh(off.T @ (off * weights[:, None]))
    basis, scale = vectors[:, -dimensions:], np.sqrt(np.maximum(values[-dimensions:], 1e-12))
    beside = float(np.sqrt(max(values[:-dimensions].sum(), 1e-12)))
    at = off @ basis / scale
    kept = np.concatenate([_spread_out(np.flatnonzero(sets == name), at, each) for name in np.unique(sets)])
    return Familiar(mean, basis, scale, at[kept], beside, np.inf)


def _spread_out(members: np.ndarray, at: np.ndarray, most: int) -> np.ndarray:
    """Of these numbers those whose points lie farthest from each other, the most central one first."""
    centre = at[members].mean(axis=0)
    chosen = [int(members[np.square(at[members] - centre).sum(axis=1).argmin()])]
    while len(chosen) < min(most, len(members)):
        apart = np.square(at[members][:, None] - at[chosen][None]).sum(axis=2).min(axis=1)
        chosen.append(int(members[apart.argmax()]))
    return np.array(chosen)


def logistic(columns: np.ndarray, shares: np.ndarray, weights: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Weights (S,) and bias of a logistic regression of shares (n,) on columns (n, S); the bias is free."""

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        total = columns @ found[:-1] + found[-1]
        pull = weights * (expit(total) - shares)
        value = weights @ (np.logaddexp(0, total) - shares * total) + ridge / 2 * found[:-1] @ found[:-1]
        return float(value), np.append(pull @ columns + ridge * found[:-1], pull.sum())

    options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(loss, np.zeros(columns.shape[1] + 1), jac=True, method="L-BFGS-B", options=options).x
    return found[:-1], float(found[-1])
