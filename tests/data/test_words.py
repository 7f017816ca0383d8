"""What data sets call modalities, series and splits."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from medsam.data.words import is_series, modality_code, split_of_folder, stem


def test_modalities_have_many_names():
    assert [modality_code(word) for word in ("MRI", "T1w", "ct", "PET", "US", "noNorm")] == [
        "MR",
        "MR",
        "CT",
        "PT",
        "US",
        None,
    ]


def test_scans_of_one_examination_differ_by_the_name_of_a_series():
    assert [word for word in ("t1", "flair", "dwi", "ctres", "liver", "img") if is_series(word)] == [
        "t1",
        "flair",
        "dwi",
        "ctres",
    ]


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("imagesTr", "train"),
        ("labelsVa", "val"),
        ("imagesTs", "test"),
        ("training_set", "train"),
        ("Validation", "val"),
        ("train_and_test", None),
        ("images", None),
        ("trainees", None),
    ],
)
def test_a_folder_belongs_to_the_one_split_it_names(folder, split):
    assert split_of_folder(folder) == split


@pytest.mark.parametrize(
    ("name", "plain"), [("a.b.nii.gz", "a.b"), ("X.NII.GZ", "X"), ("x.png", "x"), ("folder", "folder"), (".nii.gz", "")]
)
def test_a_stem_is_without_its_suffix(name, plain):
    assert stem(PurePath("in") / name) == plain
