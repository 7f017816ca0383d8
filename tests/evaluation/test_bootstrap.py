"""Resamples by patient."""

from __future__ import annotations

import numpy as np

from medsam.evaluation.bootstrap import PatientBootstrap


def test_resamples_draw_as_many_patients_as_there_are_evenly() -> None:
    names = [f"p{n}" for n in range(50)] * 3
    bootstrap = PatientBootstrap.draw(names, names, seed=1, resamples=1000)
    assert bootstrap.weights.shape == (1000, 50)
    assert (bootstrap.weights.sum(axis=1) == 50).all()
    assert np.abs(bootstrap.weights.mean(axis=0) - 1).max() < 0.15


def test_patients_are_drawn_within_their_data_set() -> None:
    cases = [f"{name}/{n}" for name, count in (("ct", 9), ("us", 2)) for n in range(count)]
    bootstrap = PatientBootstrap.draw(cases, cases, resamples=200)
    us = np.char.startswith(bootstrap.patients, "us/")
    assert (bootstrap.weights[:, us].sum(axis=1) == 2).all()
    assert (bootstrap.weights[:, ~us].sum(axis=1) == 9).all()
    assert bootstrap.weights[:, us].std() > 0
