"""What scans of one's own change of what was learnt before."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from medsam.errors import InputError
from medsam.evaluation.own_scans import OwnAnswers, own_model
from medsam.inference.signs import NAMES
from medsam.inference.trust import TrustModel

FIT = NAMES.index("fit")
START = TrustModel(("fit",), np.zeros(1), np.ones(1), np.ones(1), np.ones(1), 0.0, weights="abc")


def patient(rule, seed: int) -> OwnAnswers:
    chance = np.random.default_rng(seed)
    signs = np.full((30, len(NAMES)), np.nan)
    signs[:, FIT] = chance.uniform(-2, 2, 30)
    return OwnAnswers(signs, rule(signs[:, FIT]), chance.normal(size=(3, 8)))


def test_a_shift_and_a_slope_are_learnt_and_told_of_patients_left_out():
    found = [patient(lambda x: expit(0.5 * x - 1), seed) for seed in range(4)]
    model, told = own_model(found, list("abcd"), "abc", START)
    assert model.bias == pytest.approx(-1, abs=0.05)
    assert model.above == pytest.approx([0.5], abs=0.05)
    assert (told.answers, told.error < 0.01, told.error_before > 0.15) == (120, True, True)
    assert model.weights == "abc"
    assert model.familiar is not None


def test_nothing_is_turned_round():
    found = [patient(lambda x: expit(-x), seed) for seed in range(3)]
    assert own_model(found, list("abc"), "abc", START)[0].above[0] > 0


def test_without_a_start_all_is_learnt():
    found = [patient(lambda x: expit(x), seed) for seed in range(5)]
    model, told = own_model(found, list("abcde"), "own", None)
    assert told.auroc is not None
    assert told.auroc > 0.95
    assert told.auroc_before is told.error_before is None
    assert model.weights == "own"


def test_one_patient_in_two_cases_is_one():
    found = [patient(lambda x: expit(x), seed) for seed in range(3)]
    with pytest.raises(InputError, match="2 patients"):
        own_model(found, ["a", "a", "b"], "abc", START)
