"""Whether two runs did the same task."""

from __future__ import annotations

from pathlib import Path

from evaluations import PROTOCOL, row, write_run

from medsam.evaluation.compare import compare
from medsam.evaluation.same_task import changes


def test_what_two_descriptions_differ_in_and_what_only_one_has():
    assert changes({"a": 1, "b": [2], "c": None}, {"a": 1, "b": [3], "d": 0}) == [("b", [2], [3]), ("d", None, 0)]


def test_a_different_protocol_is_told(tmp_path: Path) -> None:
    rows = [row("x", "liver", 0.5)]
    a = write_run(tmp_path / "a", rows, {**PROTOCOL, "cases": 1, "models": {"sam": "1f"}})
    other = {**PROTOCOL, "seed": 7, "zoom": "off", "jitter_px": [0, 5, 10], "cases": 9, "models": {"sam": "2e"}}
    assert compare(a, write_run(tmp_path / "b", rows, other)).warnings == (
        "The protocols differ: seed is 0 in A and 7 in B.",
        'The protocols differ: zoom is "auto" in A and "off" in B.',
    )
    jittered = write_run(tmp_path / "c", rows, {**PROTOCOL, "jitter_px": [5]})
    assert compare(a, jittered).warnings == ("The protocols differ: jitter_px is 0 in A and 5 in B.",)
    grouped = write_run(tmp_path / "e", rows, {**PROTOCOL, "by": {"sex": {"F": {"cases": 1}}}})
    assert compare(a, grouped).warnings == (), "results by group are no other task"
    (warning,) = compare(a, write_run(tmp_path / "d", rows, None)).warnings
    assert "cannot be checked" in warning


def test_another_reference_is_told(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row("x", "liver", 0.5), row("y", "liver", 0.5)])
    b = write_run(
        tmp_path / "b", [row("x", "liver", 0.5, volume_ref_ml=2.0, n_slices=3), row("y", "liver", 0.5, patient="q")]
    )
    assert [warning.split(":")[0] for warning in compare(a, b).warnings] == [
        "1 of 2 pairs belong to another patient (A's is used)",
        "1 of 2 pairs have another reference volume",
        "1 of 2 pairs were scored on another number of slices",
    ]
