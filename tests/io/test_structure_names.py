"""Names in a label file: which are one structure."""

from __future__ import annotations

from medsam.io.structure_names import structure_of_each


def test_names_equal_but_for_case_spaces_and_dashes_are_one_structure():
    names = ["GTV 1", "liver", "gtv-1", " GTV_1 ", "GTV 2", "GTV  1"]
    assert structure_of_each(names) == ["GTV 1", "liver", "GTV 1", "GTV 1", "GTV 2", "GTV 1"]


def test_the_nameless_are_not_one_structure():
    assert structure_of_each(["", " ", "_", "a"]) == ["unnamed", "unnamed (2)", "unnamed (3)", "a"]
