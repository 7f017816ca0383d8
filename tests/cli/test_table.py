import sys

import pytest

from medsam.cli.table import print_line, print_table

LONG = "n" * 300


def test_words_begin_on_the_left_and_numbers_end_on_the_right(capsys):
    print_table(("label", "voxels", "ml"), [("liver", "12345", "1.50"), ("spleen", "7", "12.00")])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "label   voxels     ml",
        "liver    12345   1.50",
        "spleen       7  12.00",
    ]


def test_the_first_columns_may_all_be_words(capsys):
    print_table(("a", "bbb", "c"), [("1", "2", "333")], left=2)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == "1  2    333"


def test_in_a_pipe_nothing_is_folded_or_cut(capsys):
    print_table(("name", "what"), [(LONG, LONG)], left=2)
    print_line(f"wrote {LONG}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [LONG, LONG]
    assert lines[2] == f"wrote {LONG}"


def test_names_are_no_markup(capsys):
    print_table(("[b]", "n"), [("[red]x[/red] :smile:", "1")], total=True)
    print_line("wrote [/tmp] 1")
    out = capsys.readouterr().out
    assert "[b]" in out
    assert "[red]x[/red] :smile:" in out
    assert "wrote [/tmp] 1" in out


@pytest.mark.parametrize("fold_last", [False, True])
def test_on_a_narrow_terminal_no_word_is_lost(monkeypatch, capsys, fold_last):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(("case", "what"), [("c12", "a " * 40)], left=2, fold_last=fold_last)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines[1:]) <= 40  # the heading has codes of style
    assert sum(line.count("a") for line in lines[1:]) == 40
