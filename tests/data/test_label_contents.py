"""What is in a label file: the numbers of a map, or one mask."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medsam.data.label_contents import LabelContents, read_contents
from medsam.errors import InputError


def test_a_label_map_holds_its_numbers(tmp_path):
    drawn = np.zeros((4, 4, 2), np.uint8)
    drawn[0], drawn[1] = 3, 7
    nib.save(nib.Nifti1Image(drawn, np.eye(4)), tmp_path / "map.nii.gz")
    held = read_contents(tmp_path / "map.nii.gz", None)
    assert held == LabelContents(frozenset({3, 7}))
    assert not held.binary


def test_a_picture_in_black_and_white_is_one_mask(tmp_path):
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(tmp_path / "mask.png")
    held = read_contents(tmp_path / "mask.png", None)
    assert held.binary
    assert held.threshold is not None
    # a threshold of the user's is taken as it is, and the numbers do not matter
    assert read_contents(tmp_path / "mask.png", 12.0) == LabelContents(threshold=12.0)


def test_what_is_no_picture_is_no_label(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(InputError):
        read_contents(tmp_path / "mask.png", None)
