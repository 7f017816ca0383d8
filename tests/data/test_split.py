"""Splits keep patients together, have the sizes asked for, spread structures evenly, and depend on the seed alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_sets as scans
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.data.manifest import SPLITS, Case, Manifest, cross_case_problems
from medsam.data.manifest_json import read_manifest
from medsam.data.split import case_structures, fold_manifest, split_manifest
from medsam.errors import InputError


def case(name: str, patient: str, structures=("liver",), modality="CT") -> Case:
    """Its label is a mapping, so nothing is read."""
    label = {structure: (Path(f"{name}_{structure}.nii"),) for structure in structures}
    return Case(name, patient, Path(f"{name}.nii"), label, None, modality, None, None, {}, "made up")


def made_up(cases) -> Manifest:
    return Manifest("made up", None, {}, tuple(cases))


def parts(manifest: Manifest) -> dict[str, set[str]]:
    return {split: {c.patient for c in manifest.in_split(split)} for split in SPLITS}


def test_sizes_are_shares_of_the_patients():
    whole = made_up(case(f"c{n}", f"p{n // 2}") for n in range(100))
    found = parts(split_manifest(whole, test=0.2, val=0.1, seed=3))
    assert {split: len(patients) for split, patients in found.items()} == {"train": 35, "val": 5, "test": 10}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), patients=st.lists(st.integers(0, 12), min_size=12, max_size=40), data=st.data())
def test_no_patient_is_ever_in_two_parts(seed, patients, data):
    structures = [data.draw(st.sets(st.sampled_from("abcd"), min_size=1)) for _ in patients]
    whole = made_up(case(f"c{n}", f"p{p}", s) for n, (p, s) in enumerate(zip(patients, structures, strict=True)))
    count = len(set(patients))
    if count >= 3:
        found = split_manifest(whole, test=0.3, val=0.2, seed=seed)
        assert list(cross_case_problems(found)) == []
        assert all(c.split for c in found.cases)
        sizes = {split: len(p) for split, p in parts(found).items()}
        assert sizes["test"] == max(1, round(0.3 * count))
        assert sum(sizes.values()) == count


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), count=st.integers(6, 30), folds=st.integers(2, 5))
def test_folds_test_every_patient_once(seed, count, folds):
    whole = made_up(case(f"c{n}", f"p{n}", ("a",) if n % 3 else ("a", "b")) for n in range(count))
    found = [parts(fold_manifest(whole, folds=folds, fold=n, val=0.2, seed=seed)) for n in range(folds)]
    tested = Counter(patient for one in found for patient in one["test"])
    assert set(tested.values()) == {1}
    assert len(tested) == count
    sizes = [len(one["test"]) for one in found]
    assert max(sizes) - min(sizes) <= 1
    for one in found:
        assert not one["test"] & one["train"]
        assert not one["val"] & (one["train"] | one["test"])


def test_cases_without_a_patient_are_joined_by_their_folder():
    cases = [case(f"STS_{n:03}/{kind}", f"c{n}{kind}") for n in range(9) for kind in ("CT", "PET")]
    whole = made_up(replace(c, id=c.patient, patient_stated=False) for c in cases)
    found = split_manifest(whole, test=0.3, val=0.3, seed=1)
    assert {split: len(patients) for split, patients in parts(found).items()} == {"train": 3, "val": 3, "test": 3}
    assert {c.patient for c in found.cases} == {f"STS_{n:03}" for n in range(9)}
    folds = [parts(fold_manifest(whole, folds=3, fold=n)) for n in range(3)]
    assert [len(one["test"]) for one in folds] == [3, 3, 3]


def test_a_rare_structure_is_spread_over_the_parts():
    whole = made_up(case(f"c{n}", f"p{n}", ("liver", "tumour") if n < 10 else ("liver",)) for n in range(50))
    rare = {f"p{n}" for n in range(10)}
    for seed in range(20):
        found = parts(split_manifest(whole, test=0.2, val=0.2, seed=seed))
        assert {split: len(p & rare) for split, p in found.items()} == {"train": 6, "val": 2, "test": 2}
        folds = [fold_manifest(whole, folds=5, fold=n, val=0, seed=seed) for n in range(5)]
        assert [len(parts(one)["test"] & rare) for one in folds] == [2] * 5


def test_modalities_are_spread_over_the_parts():
    whole = made_up(case(f"c{n}", f"p{n}", modality="MR" if n % 4 == 0 else "CT") for n in range(40))
    found = split_manifest(whole, test=0.25, val=0.25, stratify="modality", seed=1)
    counts = {split: Counter(c.modality for c in found.in_split(split)) for split in SPLITS}
    assert counts["test"] in ({"CT": 7, "MR": 3}, {"CT": 8, "MR": 2})
    assert counts["val"] in ({"CT": 7, "MR": 3}, {"CT": 8, "MR": 2})
    assert counts["train"]["MR"] in (4, 5, 6)


@pytest.mark.parametrize("stratify", ["label", "modality", "none"])
def test_the_seed_and_nothing_else_decides(stratify):
    cases = [case(f"c{n}", f"p{n}", ("a",) if n % 2 else ("a", "b")) for n in range(30)]
    once = split_manifest(made_up(cases), seed=5, stratify=stratify)
    again = split_manifest(made_up(reversed(cases)), seed=5, stratify=stratify)
    assert parts(once) == parts(again)
    assert parts(once) != parts(split_manifest(made_up(cases), seed=6, stratify=stratify))


def test_cases_without_a_label_take_no_part():
    whole = made_up([case(f"c{n}", f"p{n}") for n in range(4)])
    bare = replace(whole.cases[0], id="bare", patient="bare", label=None, split="test")
    found = split_manifest(replace(whole, cases=(*whole.cases, bare)), test=0.25, val=0.25)
    assert found.cases[-1].split is None
    assert len(parts(found)["train"]) == 2


def test_structures_are_read_from_label_maps(tmp_path):
    path = scans.manifest(tmp_path, 3)
    scans.label(tmp_path / "labels/a1.nii.gz", (2,))
    cases = read_manifest(path).cases
    assert [case_structures(c) for c in cases] == [{"liver", "spleen"}, {"spleen"}, {"liver", "spleen"}]
    (tmp_path / "labels/a2.nii.gz").unlink()
    with pytest.raises(InputError, match=r"Case a2, label: .*a2\.nii\.gz does not exist"):
        split_manifest(read_manifest(path), test=0.3, val=0)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"test": 1.2}, "`test` is 1.2"),
        ({"test": 0.6, "val": 0.4}, "leave nothing to train on"),
        ({"test": 0.4, "val": 0.4}, "has 2 patients with a label, too few for 3 parts"),
    ],
)
def test_what_cannot_be_split(how, why):
    with pytest.raises(InputError, match=why):
        split_manifest(made_up([case("a", "p"), case("b", "q")]), **how)


def test_what_cannot_be_folded():
    two = made_up([case("a", "p"), case("b", "q")])
    with pytest.raises(InputError, match="too few for 3 folds"):
        fold_manifest(two, folds=3, fold=0)
    with pytest.raises(InputError, match="from 0 to folds - 1"):
        fold_manifest(two, folds=2, fold=2)
    with pytest.raises(InputError, match="no case with a label"):
        split_manifest(made_up([replace(case("a", "p"), label=None)]))
