"""Masks by name: which names are one, and packing."""

from __future__ import annotations

import numpy as np

from medsam.io.masks import PackedMasks, structure_of_each


def test_names_equal_but_for_case_spaces_and_dashes_are_one_structure():
    names = ["GTV 1", "liver", "gtv-1", " GTV_1 ", "GTV 2", "GTV  1"]
    assert structure_of_each(names) == ["GTV 1", "liver", "GTV 1", "GTV 1", "GTV 2", "GTV 1"]


def test_the_nameless_are_not_one_structure():
    assert structure_of_each(["", " ", "_", "a"]) == ["unnamed", "unnamed (2)", "unnamed (3)", "a"]


def test_packed_masks_come_back_and_those_of_one_name_are_joined():
    rng = np.random.default_rng(0)
    one, other = rng.random((7, 3, 5)) < 0.5, rng.random((7, 3, 5)) < 0.5
    one[:3] = other[5:] = False
    masks = PackedMasks((7, 3, 5))
    masks.add("a", one)
    masks.add("b", None)
    assert np.array_equal(masks["a"], one)
    masks.add("a", other, ["said"])
    masks.add("a", np.zeros((7, 3, 5), dtype=bool))
    assert np.array_equal(masks["a"], one | other)
    assert masks["a"].dtype == masks["b"].dtype == bool
    assert not masks["b"].any()
    assert masks.voxels == {"a": np.count_nonzero(one | other), "b": 0}
    assert masks.notes == ("said",)


def test_masks_of_some_slices_are_joined_where_they_lie():
    masks = PackedMasks((9, 2, 3))
    masks.add("a", np.ones((2, 2, 3), dtype=bool), first=5)
    masks.add("a", np.ones((1, 2, 3), dtype=bool), first=1)
    masks.add("a", np.zeros((0, 2, 3), dtype=bool), first=9)
    assert masks["a"].all(axis=(1, 2)).tolist() == [False, True, False, False, False, True, True, False, False]
    assert masks.voxels == {"a": 18}
