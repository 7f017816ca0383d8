"""Names of one person are joined, plain numbers are not, and the order of names does not matter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.data.names import group_names, namesakes


def joined(names) -> list[list[str]]:
    return sorted(sorted(names[place] for place in group.members) for group in group_names(names))


@pytest.mark.parametrize(
    "together",
    [
        ["STS_002/MR_T1_image.nii.gz", "STS_002/PET_image.nii.gz", "STS_002/CT_image.nii.gz"],
        ["P12/week0/T1.nii.gz", "P12/week4/T1.nii.gz"],
        ["P12_pre/ct.nii.gz", "P12_post/ct.nii.gz"],
        ["smith/ct.nii.gz", "smith/pet.nii.gz"],
        ["benign/P12_left.png", "benign/P12_right.png"],
        ["site1/images/P12_T1.nii", "site1/images/P12_T2.nii"],
        ["T1/P12.nii", "T2/P12.nii", "FLAIR/P12.nii"],
        ["visit1/007.nii", "visit2/007.nii"],
        ["CT/STS_002.nii", "PET/STS_002.nii"],
        ["patient001_frame01.nii.gz", "patient001_frame12.nii.gz", "patient001_4d.nii.gz"],
        ["patient0001_2CH_ED.nii.gz", "patient0001_4CH_ES.nii.gz"],
        ["BraTS20_Training_001_flair.nii", "BraTS20_Training_001_t1ce.nii", "BraTS20_Training_001_t2.nii"],
        ["bus_0001-l.png", "bus_0001-r.png"],
        ["Mass-Training_P_00001_LEFT_CC.png", "Mass-Training_P_00001_RIGHT_MLO.png"],
        ["P12_slice_034.png", "P12_slice_035.png"],
        ["P12_CT_3.png", "P12_CT_4.png"],
        ["0007 baseline.nii", "0007 follow-up visit 1.nii", "0007 visit 2.nii", "0007_week4.nii", "0007_day0.nii"],
        ["TCGA_CS_4941_19960909_1.tif", "TCGA_CS_4941_19960909_2.tif"],
        ["sub-01/ses-01/anat/sub-01_ses-01_T1w.nii", "sub-01/ses-02/anat/sub-01_ses-02_T1w.nii", "sub-01_ses-02_FLAIR"],
        ["患者01_T1.nii", "患者01_T2.nii"],
        ["t1w_image.nii.gz", "t2_image.nii.gz"],
    ],
)
def test_one_person(together):
    assert joined(together) == [sorted(together)]


@pytest.mark.parametrize(
    "apart",
    [
        ["hippocampus_001.nii.gz", "hippocampus_002.nii.gz"],
        ["benign (1).png", "benign (2).png", "malignant (1).png"],
        ["images/img_0001.png", "images/img_0010.png"],
        ["case1.nii", "case10.nii", "case100.nii"],
        ["benign/0001.png", "benign/0002.png", "malignant/0001.png"],
        ["site1/001.nii", "site1/002.nii", "site2/001.nii"],
        ["fold0/a1.nii", "fold0/a2.nii", "fold1/a3.nii"],
        ["train/1.png", "train/2.png", "test/1.png"],
        ["0/a1.png", "0/a2.png", "1/b1.png"],  # two classes
        ["imagesTr/amos_0001.nii.gz", "imagesTr/amos_0004.nii.gz", "imagesTs/amos_0002.nii.gz"],
        ["amos22_ct_0001.nii", "amos22_ct_0002.nii"],
        ["BraTS20_img_3.png", "BraTS20_img_4.png"],
        ["ISIC2018_img_1.png", "ISIC2018_img_2.png", "ISIC2017_img_1.png"],
        ["ISIC_0000000.jpg", "ISIC_0000001.jpg"],
        ["CT/1/image.nii", "MR/1/image.nii", "CT/2/image.nii"],
        ["ct_train_1001_image.nii.gz", "mr_train_1001_image.nii.gz", "ct_train_1002_image.nii.gz"],
        ["MCUCXR_0001_0.png", "MCUCXR_0002_0.png", "MCUCXR_0100_1.png"],
        ["2019_001.nii", "2019_002.nii", "2020_001.nii"],
        ["s0001/ct.nii.gz", "s0002/ct.nii.gz"],
        ["Case00.mhd", "Case01.mhd"],
        ["cju0qkwl35piu0993l0dewei2.jpg", "cju0qoxqj9q6s0835b43399p4.jpg"],
        ["1.3.6.1.4.1.14519.5.2.1.6279.6001.1002.mhd", "1.3.6.1.4.1.14519.5.2.1.6279.6001.1003.mhd"],
        ["scan1.nii", "scan2.nii", "scan3.nii"],
        ["t1.png", "t2.png", "t3.png"],
        ["22_A.png", "32_A.png", "22_B.png"],
        ["_.png", "-.png", ".png"],
    ],
)
def test_several_people(apart):
    assert all(len(group) == 1 for group in joined(apart))


def test_a_folder_numbered_as_its_neighbours_holds_one_person():
    names = ["LIDC-IDRI-0001/01-01-2000-1/3000-NA", "LIDC-IDRI-0001/01-01-2000-2/12", "LIDC-IDRI-0002/3"]
    assert joined(names) == [names[:2], names[2:]]
    assert len(joined(["0001/a.png", "0001/b.png", "0002/a.png"])) == 2
    assert len(joined(["set9/a.png", "set9/b.png"])) == 2


def test_of_two_numbers_the_first_is_the_patient_where_the_second_starts_anew():
    slices = [f"{volume}_{number}.png" for volume in (3, 5, 12) for number in range(4)]
    assert [len(group) for group in joined(slices)] == [4, 4, 4]
    assert {group.how for group in group_names(slices)} == {"numbers"}
    scans = ["BraTS-GLI-00005-000-t1n.nii", "BraTS-GLI-00005-001-t1n.nii", "BraTS-GLI-00006-000-t1n.nii"]
    assert joined(scans) == [scans[:2], scans[2:]]


def test_a_group_is_called_by_what_its_names_share():
    found = group_names(["STS_002/MR_T1.nii", "STS_002/PET.nii", "site1/P12_T1.nii", "site1/P12_T2.nii", "a-1.nii"])
    assert [(group.label, group.how) for group in found] == [
        ("STS_002", "folder"),
        ("site1/P12", "name"),
        ("a-1", "alone"),
    ]


def test_namesakes_under_another_modality_or_split_are_told():
    assert namesakes(["CT/1/a.nii", "CT/2/a.nii", "MR/1/a.nii", "MR/2/b.nii", "MR/2/a.nii"]) == ((0, 2), (1, 3, 4))
    assert namesakes(["ct_train_1001_image.nii", "mr_train_1001_image.nii"]) == ((0, 1),)
    assert namesakes(["train/P12.nii", "test/P12.nii", "train/1.nii", "test/1.nii"]) == ((0, 1),)


PARTS = st.sampled_from(
    ["P12", "P13", "STS_002", "STS_003", "CT", "MR", "T1", "site1", "train", "images", "benign", "7", "08", "week4"]
)
STEMS = st.lists(
    st.sampled_from(
        ["P12", "case", "img", "001", "002", "12", "7", "ct", "T1", "left", "frame01", "slice", "20200101"]
    ),
    min_size=1,
    max_size=4,
).map("_".join)
PATHS = st.tuples(st.lists(PARTS, max_size=3), STEMS).map(lambda path: "/".join([*path[0], path[1] + ".nii.gz"]))


@settings(max_examples=60, deadline=None)
@given(names=st.lists(PATHS, min_size=1, max_size=12), seed=st.integers(0, 999))
def test_groups_part_the_names_whatever_their_order(names, seed):
    shuffled = random.Random(seed).sample(names, len(names))
    groups = group_names(names)
    assert sorted(place for group in groups for place in group.members) == list(range(len(names)))
    assert joined(names) == joined(shuffled)
    assert sorted(group.label for group in groups) == sorted(group.label for group in group_names(shuffled))


@settings(max_examples=40, deadline=None)
@given(
    word=st.text(st.characters(codec="utf-8", categories=["L"]), max_size=8),
    sign=st.sampled_from(["", "_", "-", " ", "."]),
    numbers=st.sets(st.integers(0, 300), min_size=1, max_size=10),
    width=st.integers(1, 4),
    folder=st.sampled_from(["", "images/", "benign/", "site1/"]),
)
def test_plain_numbered_names_are_never_joined(word, sign, numbers, width, folder):
    names = [f"{folder}{word}{sign}{number:0{width}d}.png" for number in numbers]
    assert all(len(group) == 1 for group in joined(names))
