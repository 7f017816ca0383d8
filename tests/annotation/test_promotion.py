from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evaluations import two_runs

from medsam.annotation.promotion import as_details, decide
from medsam.annotation.settings import RoundSettings
from medsam.evaluation.compare import compare

SETTINGS = RoundSettings(least=0.01, worst=0.02)


def decided(tmp_path: Path, force: bool = False, **values):
    return decide(compare(*two_runs(tmp_path, values)), SETTINGS, force)


def better(by: float, patients: int = 6) -> list[tuple[float, float]]:
    return [(0.8, 0.8 + by + 0.001 * n) for n in range(patients)]


def test_a_gain_that_is_no_chance_promotes(tmp_path):
    found = decided(tmp_path, liver=better(0.05), kidney=better(0.0))
    assert found.promoted
    assert found.why.startswith("Promoted: Dice 0.800 -> 0.827 on 6 patients, 95 % CI of the difference +0.0")


def test_no_gain_and_a_gain_below_the_least_do_not(tmp_path):
    assert "no gain above 0.01" in decided(tmp_path, liver=better(0.0)).why


def test_what_may_be_chance_does_not(tmp_path):
    found = decided(tmp_path, liver=[(0.8, 0.9), (0.8, 0.7), (0.8, 0.95), (0.8, 0.75), (0.8, 0.9), (0.8, 0.8)])
    assert not found.promoted
    assert "it may be chance" in found.why


def test_a_structure_that_is_worse_keeps_the_old_model(tmp_path):
    found = decided(tmp_path, liver=better(0.15), kidney=better(-0.05))
    assert not found.promoted
    assert "but kidney is worse by 0.04" in found.why


def test_a_loss_on_few_patients_is_told_and_decides_nothing(tmp_path):
    found = decided(tmp_path, liver=better(0.15, 8), kidney=better(-0.05, 2))
    assert found.promoted
    assert "Few patients: kidney lost 0.0" in found.why


def test_too_few_patients_promote_only_by_force(tmp_path):
    (tmp_path / "forced").mkdir()
    assert "too few for an interval (at least 5)" in decided(tmp_path, liver=better(0.1, 4)).why
    forced = decided(tmp_path / "forced", True, liver=better(0.1, 4))
    assert forced.promoted
    assert forced.why.endswith("too few for an interval (at least 5); forced.")


def test_scores_of_one_side_alone_decide_nothing(tmp_path):
    found = compare(*two_runs(tmp_path, {"liver": better(0.05)}))
    assert decide(found, SETTINGS).promoted
    assert "scores of one of the two only" in decide(replace(found, only_in_a=(("c9", "liver"),)), SETTINGS).why


def test_what_is_kept_names_no_case(tmp_path):
    details = as_details(compare(*two_runs(tmp_path, {"liver": better(0.05)})))
    assert details["patients"] == 6
    assert "c00" not in repr(details)
    assert details["structures"]["liver"]["dice_before"] == details["dice_before"]
