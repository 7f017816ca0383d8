"""`medsam compare`: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from medsam.cli.main import COMMANDS, main
from medsam.evaluation.compare import HIGHER_IS_BETTER
from medsam.evaluation.tables import COLUMNS


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Two evaluations of six patients; the second has one patient less, and another seed."""
    for name, count, gain in (("first", 7, 0.0), ("second", 6, 0.04)):
        rows = []
        for number in range(count):
            row = dict.fromkeys(COLUMNS, 1.0) | {"case": f"c{number}", "patient": f"p{number}", "label": 1}
            row |= {"structure": "left_kidney[1]", "model": "litemedsam", "prompt": "box"}
            rows.append(row | {"dice": 0.8 + gain * (1 + number / 10)})
            rows.append(row | {"model": "filled-box", "dice": 0.5})
        (tmp_path / name).mkdir()
        pd.DataFrame(rows).to_csv(tmp_path / name / "metrics.csv", index=False)
        summary = {"protocol": {"seed": count}}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    return str(tmp_path / "first"), str(tmp_path / "second")


def test_it_is_a_command() -> None:
    assert COMMANDS["compare"][0] == "medsam.cli.compare"


def test_the_table_on_stdout_and_the_warnings_on_stderr(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", *runs, "--out", str(out)]) == 0
    said = capsys.readouterr()
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "A: litemedsam, box (first)"
    assert lines[2] == "dice patients pairs A B B - A 95 % CI p Holm r won/tied/lost"
    assert lines[3].startswith("left_kidney[1] 6 6 0.800 0.850 +0.050 ")
    assert lines[3].endswith(" 0.031 0.031 +1.00 6/0/0")
    assert lines[5] == "left out: 1 only in A (listed in compare.json)"
    assert lines[-1] == f"wrote {out}"
    assert said.err == "Warning: The protocols differ: seed is 7 in A and 6 in B.\n"
    assert (out / "compare.html").is_file()


def test_json_is_all_there_is_on_stdout(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", *runs, "--out", str(out), "--json"]) == 0
    text = capsys.readouterr().out
    assert text == (out / "compare.json").read_text()
    document = json.loads(text)
    assert document["overall"]["p"] == pytest.approx(2 / 64)
    assert document["only_in_a"] == [{"case": "c6", "structure": "left_kidney[1]"}]


def test_two_models_of_one_run(runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = ["--model-a", "filled-box", "--model-b", "litemedsam", "--prompt", "box", "--json"]
    assert main(["compare", runs[0], runs[0], *choice, "--out", str(tmp_path / "out")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["overall"]["difference"] == pytest.approx(0.3)
    assert document["warnings"] == []


def test_a_mistake_leaves_no_folder_behind(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", runs[0], runs[0], "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("InputError: Both sides are litemedsam of")
    assert main(["compare", runs[0], str(tmp_path), "--out", str(out)]) == 2
    assert "is not an evaluation: it holds no metrics.csv" in capsys.readouterr().err
    assert not out.exists()


def test_help_offers_every_metric_there_is_a_better_end_to(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert "{" + ",".join(HIGHER_IS_BETTER) + "}" in capsys.readouterr().out


def test_side_by_side_without_a_folder_for_pairs(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    assert main(["compare", f"old={runs[0]}", runs[1], "--by-structure", "--csv", str(table)]) == 0
    said = capsys.readouterr()
    assert said.err == "Note: 1 case is not in every run and left out.\n"
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[:3] == [
        "old second gain",
        "litemedsam filled-box litemedsam litemedsam",
        "dice: set structure box box box box",
    ]
    assert lines[3] == "all left_kidney[1] 0.800 0.500 0.850 +0.050"
    assert lines[4] == "old, litemedsam, box: 6 encoder calls, 6.0 s, 6 prompts"
    assert lines[-1] == f"wrote {table}"
    assert table.read_text().splitlines()[:2] == [
        "set,structure,run,model,prompt,dice",
        ",left_kidney[1],old,litemedsam,box,0.8",
    ]
    assert main(["compare", *runs, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["mean_of_sets"] == pytest.approx([0.8, 0.5, 0.85])


def test_a_table_is_not_written_over_the_evaluations(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path(runs[1]) / "metrics.csv"
    before = table.read_bytes()
    assert main(["compare", *runs, "--csv", str(table)]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert table.read_bytes() == before
    assert main(["compare", *runs, "--csv", str(tmp_path / "nowhere" / "table.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["=a", "b"], "names no evaluation"),
        (["a", "a"], "Two evaluations are called a"),
        (["a", "b", "c", "--out", "x"], "of two evaluations, not of 3"),
        (["a", "b", "--model-a", "sam"], "comparison in pairs"),
        (["a", "b", "--out", "x", "--csv", "y.csv"], "side by side"),
        (["a", "b", "--out", "x", "--prompt", "box", "point"], "one --prompt at a time"),
        (["nowhere"], "does not exist"),
    ],
)
def test_what_does_not_go_together_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *arguments]) == 2
    assert said in capsys.readouterr().err
