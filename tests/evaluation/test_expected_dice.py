"""What is learnt of answers whose Dice follows from known rules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from medsam.evaluation.expected_dice import Learnt, Recipe, familiar, fit, left_out, spread_of, with_spread
from medsam.inference.signs import NAMES
from medsam.inference.trust import TrustModel

TWO = ("fill", "fit")


def answers(rule, count: int = 400, sets: int = 4, names=TWO) -> Learnt:
    """Of two signs drawn from [-1, 1]; the first set has ten times the answers of others."""
    chance = np.random.default_rng(0)
    signs = np.full((count, len(NAMES)), np.nan)
    one, other = (NAMES.index(name) for name in names)
    signs[:, one], signs[:, other] = chance.uniform(-1, 1, (2, count))
    number = np.where(chance.random(count) < 0.7, 0, chance.integers(1, sets, count))
    of = np.array([f"set {n}" for n in number])
    return Learnt(signs, rule(signs[:, one], signs[:, other], number), of, of)


def test_every_set_weighs_the_same():
    some = answers(lambda x, y, n: expit(x))
    for name in np.unique(some.sets):
        assert some.weights[some.sets == name].sum() == pytest.approx(0.25)


def test_a_straight_rule_is_found():
    some = answers(lambda x, y, n: expit(1 + 2 * x - y))
    found = fit(some, Recipe(TWO, 1e-8, False))
    assert found.values(some.signs) == pytest.approx(some.dice, abs=1e-3)


def test_a_rule_with_a_bend_needs_hinges():
    some = answers(lambda x, y, n: expit(3 * np.abs(x)))
    straight, bent = (fit(some, Recipe(TWO, 1e-6, hinged)).values(some.signs) for hinged in (False, True))
    assert np.abs(straight - some.dice).mean() > 0.1
    assert np.abs(bent - some.dice).mean() < 0.02


def learn(some: Learnt) -> TrustModel:
    return fit(some, Recipe(TWO))


def test_the_spread_is_that_of_sets_left_out():
    # the sets differ, which none of them alone tells of itself
    some = answers(lambda x, y, n: expit(x + 2 * (n % 2)))
    model = fit(some, Recipe(TWO))
    wide = with_spread(model, some, left_out(some, learn)).spread
    assert wide < with_spread(model, some, logit(model.values(some.signs))).spread


def test_families_are_left_out_whole():
    some = answers(lambda x, y, n: np.where(n == 1, 0.1, 0.9))
    found = left_out(some, learn)
    assert expit(found[some.sets == "set 1"]).min() > 0.85
    together = Learnt(some.signs, some.dice, some.sets, np.where(some.sets == "set 2", "set 1", some.families))
    assert not np.allclose(left_out(together, learn), found)


def test_the_spread_holds_eight_in_ten():
    chance = np.random.default_rng(1)
    expected = chance.uniform(0.3, 0.95, 4000)
    dice = chance.beta(expected * 20, (1 - expected) * 20)
    assert spread_of(expected, dice, np.full(4000, 1 / 4000)) == pytest.approx(20, rel=0.1)


def test_pictures_like_those_learnt_from_are_familiar_and_others_not():
    chance = np.random.default_rng(2)
    centres = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [4, 4, 0]])
    pooled = np.concatenate([centre + 0.3 * chance.normal(size=(30, 3)) for centre in centres])
    names = np.repeat([f"set {n}" for n in range(4)], 30)
    found = familiar(pooled, names, names, dimensions=2)
    assert len(found.points) == 20
    assert max(found.distance(one) for one in pooled) < found.limit
    assert found.distance(np.array([40.0, 0, 0])) > found.limit
    # where no picture was, beside the space of all
    assert found.distance(np.array([2.0, 2.0, 9.0])) > found.limit
