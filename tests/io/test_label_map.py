"""Label maps of every format: the numbers in them, and which structures they mean."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from label_files import GRID, MAP, NAMES, itk, nifti, picture, png
from PIL import Image

from medsam.errors import InputError
from medsam.io.label_grid import LabelGridMismatch
from medsam.io.label_map import UnknownLabel
from medsam.io.labels import load_labels, notes_on, read_mask, structures_in
from medsam.io.load import load_volume


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.npz"])
def test_a_label_map_of_any_format_gives_its_structures(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".npz"):
        np.savez(path, gts=MAP)
    else:
        (nifti if name.endswith(".nii.gz") else itk)(path)
    masks = load_labels(path, GRID, NAMES)
    assert list(masks) == ["liver", "spleen"]
    for structure, value in NAMES.items():
        assert masks[structure].dtype == bool
        np.testing.assert_array_equal(masks[structure], value == MAP)


def test_floats_that_are_whole_numbers_are_labels(tmp_path):
    masks = load_labels(nifti(tmp_path / "a.nii.gz", MAP.astype(np.float32)), GRID, NAMES)
    np.testing.assert_array_equal(masks["spleen"], MAP == 2)


def test_fractions_are_refused(tmp_path):
    with pytest.raises(UnknownLabel, match=r"a\.nii\.gz.*no whole numbers \(24 voxels, e\.g\. 0\.5\)"):
        load_labels(nifti(tmp_path / "a.nii.gz", np.full(MAP.shape, 0.5, np.float32)), GRID, NAMES)


@pytest.mark.parametrize("off", [1e-4, -2e-4, 9e-4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fractions_a_thousandth_from_whole_numbers_are_rounded_with_a_word(tmp_path, off, dtype):
    path = nifti(tmp_path / "a.nii.gz", MAP * dtype(1 + off / 2))
    masks = load_labels(path, GRID, NAMES)
    for structure, value in NAMES.items():
        np.testing.assert_array_equal(masks[structure], value == MAP)
    assert ["rounded" in note for note in notes_on(masks)] == [True]
    assert notes_on(load_labels(nifti(tmp_path / "b.nii.gz", MAP.astype(dtype)), GRID, NAMES)) == ()


def test_labels_that_the_header_scales_by_a_little_less_than_one_are_rounded(tmp_path):
    image = nib.Nifti1Image(MAP.transpose(2, 1, 0), GRID.ras_affine)
    image.header.set_slope_inter(0.9999, 0)
    nib.save(image, tmp_path / "a.nii.gz")
    notes: list[str] = []
    one = read_mask(nifti(tmp_path / "m.nii.gz", (MAP == 2) * np.float32(0.9999)), GRID, notes=notes)
    np.testing.assert_array_equal(one, MAP == 2)
    assert len(notes) == 1
    np.testing.assert_array_equal(load_labels(tmp_path / "a.nii.gz", GRID, NAMES)["spleen"], MAP == 2)


@pytest.mark.parametrize("value", [0.5, 0.99, 1.002, np.nan, np.inf])
def test_other_fractions_stay_an_error(tmp_path, value):
    array = MAP.astype(np.float32)
    array[0, 0, 0] = value
    with pytest.raises(UnknownLabel, match="no whole numbers .1 voxels"):
        load_labels(nifti(tmp_path / "a.nii.gz", array), GRID, NAMES)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha", "a.npz"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64, np.float64])
@pytest.mark.parametrize("base", [2**24, 2**31 - 2, 2**40])
def test_large_numbers_are_told_apart(tmp_path, name, dtype, base):
    if base + 2 > (2**31 - 1 if dtype is np.int32 else 2**53):
        return
    array = np.where(MAP > 0, MAP.astype(dtype) + dtype(base), dtype(0)).astype(dtype)
    path = tmp_path / name
    if name.endswith(".npz"):
        np.savez(path, gts=array)
    elif name.endswith(".nii"):
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), GRID.ras_affine, dtype=dtype), path)
    else:
        itk(path, array)
    masks = load_labels(path, GRID, {"liver": base + 1, "spleen": base + 2})
    for structure, value in NAMES.items():
        np.testing.assert_array_equal(masks[structure], value == MAP)
    assert structures_in(path) == {str(base + 1), str(base + 2)}


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, 2**24 + 2), (np.float64, 2**53 + 2), (np.float64, 1e300)])
def test_floats_too_large_to_be_told_apart_are_refused(tmp_path, dtype, value):
    with pytest.raises(UnknownLabel, match="tell whole numbers apart only up to"):
        load_labels(nifti(tmp_path / "a.nii.gz", (MAP == 1) * dtype(value)), GRID)


def test_a_structure_that_is_not_in_the_file_is_empty_and_known_to_be(tmp_path):
    masks = load_labels(nifti(tmp_path / "a.nii.gz"), GRID, {"background": 0, **NAMES, "gall bladder": 9})
    assert list(masks) == ["liver", "spleen", "gall bladder"]
    assert not masks["gall bladder"].any()
    assert masks.voxels == {"liver": 3, "spleen": 4, "gall bladder": 0}


def test_values_nobody_named_are_an_error_that_lists_them(tmp_path):
    with pytest.raises(UnknownLabel, match=r"a\.nii\.gz holds unknown label values 2 \(4 voxels\); known are 1 liver"):
        load_labels(nifti(tmp_path / "a.nii.gz"), GRID, {"liver": 1})


@pytest.mark.parametrize("ignore", [(2,), "others"])
def test_values_may_be_ignored(tmp_path, ignore):
    masks = load_labels(nifti(tmp_path / "a.nii.gz"), GRID, {"liver": 1}, ignore=ignore)
    np.testing.assert_array_equal(masks["liver"], MAP == 1)
    assert list(masks) == ["liver"]


def test_negative_values_are_unknown(tmp_path):
    array = MAP.astype(np.int16)
    array[0, 0, 0] = -1
    with pytest.raises(UnknownLabel, match="unknown label values -1 "):
        load_labels(nifti(tmp_path / "a.nii.gz", array), GRID, NAMES)


def test_without_names_values_name_themselves(tmp_path):
    assert list(load_labels(nifti(tmp_path / "a.nii.gz"), GRID)) == ["1", "2"]


def test_a_grey_picture_of_numbers_is_a_label_map(tmp_path):
    masks = load_labels(png(tmp_path / "a.png", MAP[0]), picture(3, 4), NAMES)
    np.testing.assert_array_equal(masks["spleen"][0], MAP[0] == 2)


def test_a_palette_picture_is_read_by_its_numbers_not_its_colours(tmp_path):
    image = Image.fromarray(MAP[0]).convert("P")
    image.putdata(MAP[0].ravel().tolist())
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 10, 200])
    image.save(tmp_path / "a.png")
    masks = load_labels(tmp_path / "a.png", picture(3, 4), NAMES)
    np.testing.assert_array_equal(masks["liver"][0], MAP[0] == 1)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 200, 0), (128, 0, 0)])
def test_a_threshold_takes_the_brightest_channel(tmp_path, colour):
    inside = MAP[0] > 0
    array = inside[..., None] * np.array(colour, np.uint8)
    masks = load_labels(png(tmp_path / "a.png", array), picture(3, 4), {"lesion": 7}, threshold=127)
    np.testing.assert_array_equal(masks["lesion"][0], inside)


def test_the_smear_of_jpeg_is_below_the_threshold(tmp_path):
    inside = np.zeros((32, 48), bool)
    inside[9:25, 9:33] = True
    Image.fromarray(inside.astype(np.uint8) * 255).save(tmp_path / "a.jpg", quality=85)
    assert len(np.unique(load_volume(tmp_path / "a.jpg").array)) > 2
    masks = load_labels(tmp_path / "a.jpg", picture(32, 48), {"polyp": 1}, threshold=127)
    np.testing.assert_array_equal(masks["polyp"][0], inside)


def test_0_and_255_under_one_name_is_told_to_be_a_mask(tmp_path):
    path = png(tmp_path / "a.png", (MAP[0] > 0).astype(np.uint8) * 255)
    with pytest.raises(UnknownLabel, match='unknown label values 255 .*state "threshold": 127'):
        load_labels(path, picture(3, 4), {"lesion": 1})
    np.testing.assert_array_equal(load_labels(path, picture(3, 4), {"lesion": 255})["lesion"][0], MAP[0] > 0)
    np.testing.assert_array_equal(load_labels(path, picture(3, 4))["mask"][0], MAP[0] > 0)


def test_colours_are_no_numbers(tmp_path):
    array = np.zeros((3, 4, 3), np.uint8)
    array[0, 0] = (255, 0, 0)
    with pytest.raises(UnknownLabel, match=r"a\.png is a picture in colour"):
        load_labels(png(tmp_path / "a.png", array), picture(3, 4), NAMES)


def test_a_threshold_needs_one_structure(tmp_path):
    with pytest.raises(InputError, match=r"labels name 2 \(liver, spleen\)"):
        load_labels(png(tmp_path / "a.png", MAP[0]), picture(3, 4), NAMES, threshold=127)


def test_a_picture_of_another_size_is_refused(tmp_path):
    with pytest.raises(LabelGridMismatch, match=r"4 x 3 x 1 voxels .* no millimetres, the scan has 4 x 4 x 1"):
        load_labels(png(tmp_path / "a.png", MAP[0]), picture(4, 4), NAMES)
