"""Label files: masks of one structure, listing what a file holds, and files that are no labels."""

from __future__ import annotations

import numpy as np
import pytest
from label_files import GRID, MAP, NAMES, nifti, picture, png

from medsam.errors import InputError
from medsam.io.label_map import UnknownLabel
from medsam.io.labels import load_labels, read_mask, structures_in


@pytest.mark.parametrize("value", [1, 2, 255])
def test_the_only_value_of_a_mask_is_inside(tmp_path, value):
    inside = MAP == 2
    path = nifti(tmp_path / "a.nii.gz", (inside * value).astype(np.uint8))
    np.testing.assert_array_equal(read_mask(path, GRID), inside)
    path = png(tmp_path / "a.png", (inside[0] * value).astype(np.uint8))
    np.testing.assert_array_equal(read_mask(path, picture(3, 4))[0], inside[0])


def test_a_label_map_is_no_mask(tmp_path):
    with pytest.raises(UnknownLabel, match="mask of one structure, but holds the values 1, 2"):
        read_mask(nifti(tmp_path / "a.nii.gz"), GRID)


def test_an_empty_mask_is_empty(tmp_path):
    assert not read_mask(nifti(tmp_path / "a.nii.gz", MAP * 0), GRID).any()


def test_every_error_names_the_file(tmp_path):
    empty = tmp_path / "empty.nii.gz"
    empty.write_bytes(b"")
    text = tmp_path / "notes.txt"
    text.write_text("liver")
    truncated = tmp_path / "cut.nii.gz"
    truncated.write_bytes(nifti(tmp_path / "a.nii.gz").read_bytes()[:60])
    np.savez(tmp_path / "no_gts.npz", imgs=MAP)
    for path, why in [
        (tmp_path / "missing.nii.gz", "does not exist"),
        (tmp_path, "is a folder"),
        (empty, "0 bytes"),
        (text, "not a label file"),
        (truncated, "cannot be read"),
        (tmp_path / "no_gts.npz", "no array `gts`, only imgs"),
    ]:
        with pytest.raises(InputError, match=why) as error:
            load_labels(path, GRID, NAMES)
        assert path.name in str(error.value)


def test_a_scan_is_no_label(data):
    with pytest.raises(InputError, match=r"01\.dcm is a DICOM image"):
        load_labels(data / "liver_ct_dicom_seg/ct_series/01.dcm", GRID, NAMES)


def test_structures_are_listed_without_the_scan(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", np.where(MAP == 1, 0, MAP))
    assert structures_in(path, NAMES) == {"spleen"}
    assert structures_in(path) == {"2"}
    assert structures_in(png(tmp_path / "a.png", MAP[0] * 100), {"x": 1}, threshold=127) == {"x"}
    assert structures_in(png(tmp_path / "b.png", MAP[0] * 0), {"x": 1}, threshold=127) == set()
