"""What names say: scan or label, the words that tell which scan, and how folders change both."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from medsam.data.file_roles import parse_names, words_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("img0001", ("img", "0001")),
        ("case_01-Liver.seg", ("case", "01", "liver", "seg")),
        ("GroundTruth_7", ("groundtruth", "7")),
        ("Ground Truth 7", ("groundtruth", "7")),
        ("liverMask", ("liver", "mask")),
        ("BraTS20", ("brats20",)),
    ],
)
def test_a_name_is_taken_apart_into_words(name, words):
    assert words_of(name) == words


def roles(*paths: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {str(file.path): (file.role, file.key) for file in parse_names([PurePath(path) for path in sorted(paths)])}


def test_a_word_or_a_folder_says_what_a_file_is():
    assert roles("images/p1.png", "masks/p1.png") == {
        "images/p1.png": ("image", ("p1",)),
        "masks/p1.png": ("label", ("p1",)),
    }
    assert roles("p1.nii.gz", "p1_seg.nii.gz") == {
        "p1.nii.gz": ("either", ("p1",)),
        "p1_seg.nii.gz": ("label", ("p1",)),
    }


def test_a_word_in_a_folder_of_images_is_a_name_unless_its_scan_is_there():
    assert roles("images/lung_mask.png")["images/lung_mask.png"][0] == "image"
    assert roles("images/lung_mask.png", "images/lung.png")["images/lung_mask.png"][0] == "label"


def test_a_folder_named_for_a_whole_set_says_nothing():
    found = roles("Set_with_masks/p1.png", "Set_with_masks/p1_mask.png")
    assert [role for role, _ in found.values()] == ["either", "label"]
