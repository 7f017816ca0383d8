"""Reference masks: every format onto the scan's grid, exactly or with an error that says both grids."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from drawn import grid, loop, make_rs, make_seg, rectangle
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.label_grid import LabelGridMismatch, on_grid
from medsam.io.label_map import UnknownLabel
from medsam.io.labels import load_labels, notes_on, read_mask, structures_in
from medsam.io.load import load_volume
from medsam.volume import Volume

AFFINE = np.diag([0.8, 0.9, 3.0, 1.0])
AFFINE[:3, 3] = (-12.5, 40.25, 7.0)
GRID = VolumeGeometry((2, 3, 4), AFFINE)
# no symmetry, so that a flip or a swap of axes shows
MAP = np.array(
    [[[0, 1, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]], [[0, 0, 1, 0], [2, 2, 0, 0], [0, 0, 0, 2]]],
    dtype=np.uint8,
)
NAMES = {"liver": 1, "spleen": 2}


def nifti(path: Path, array: np.ndarray = MAP, geometry: VolumeGeometry = GRID) -> Path:
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), geometry.ras_affine), path)
    return path


def itk(path: Path, array: np.ndarray = MAP) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.9, 3.0))
    image.SetOrigin((-12.5, 40.25, 7.0))
    sitk.WriteImage(image, str(path))
    return path


def png(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(array.astype(np.uint8), mode).save(path) if mode else Image.fromarray(array).save(path)
    return path


def picture(rows: int, columns: int) -> VolumeGeometry:
    return VolumeGeometry.uncalibrated((1, rows, columns))


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


# -- grids --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), oblique=st.booleans())
def test_any_order_and_direction_of_axes_is_turned_exactly(seed, oblique):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, 3).tolist())
    scan = VolumeGeometry(shape, phantoms.random_affine(rng, rng.uniform(0.5, 4, 3), oblique))
    truth = rng.integers(0, 5, shape).astype(np.uint8)
    # the same voxels, stored another way: new axis n runs along old axis order[n], backwards if flip[n]
    order, flip = rng.permutation(3), rng.random(3) < 0.5
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for n in range(3):
        to_old[order[n], n] = -1 if flip[n] else 1
        if flip[n]:
            to_old[order[n], 3] = shape[::-1][order[n]] - 1
    stored = truth.transpose(2, 1, 0).transpose(*order)
    stored = stored[tuple(slice(None, None, -1 if f else 1) for f in flip)].transpose(2, 1, 0)
    label = Volume(stored, VolumeGeometry(stored.shape, scan.affine @ to_old))
    np.testing.assert_array_equal(on_grid(label, scan, Path("a.nii")).array, truth)


def test_a_label_in_another_orientation_is_read_from_a_file(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    turned = nib.as_closest_canonical(nib.load(path))
    turned = turned.as_reoriented([[2, -1], [0, 1], [1, 1]])
    nib.save(turned, tmp_path / "b.nii.gz")
    assert load_volume(tmp_path / "b.nii.gz").array.shape != MAP.shape
    np.testing.assert_array_equal(load_labels(tmp_path / "b.nii.gz", GRID, NAMES)["spleen"], MAP == 2)


def test_another_shape_is_refused_with_both_grids(tmp_path):
    with pytest.raises(LabelGridMismatch, match=r"a\.nii\.gz has 4 x 3 x 1 voxels.*the scan has 4 x 3 x 2 voxels"):
        load_labels(nifti(tmp_path / "a.nii.gz", MAP[:1]), GRID, NAMES)


def test_another_place_is_refused_with_how_far_it_is(tmp_path):
    affine = AFFINE.copy()
    affine[2, 3] += 1.5  # half a slice
    with pytest.raises(LabelGridMismatch, match=r"up to 1\.5 mm \(0\.5 voxels\)"):
        load_labels(nifti(tmp_path / "a.nii.gz", geometry=VolumeGeometry(MAP.shape, affine)), GRID, NAMES)


def test_the_rounding_of_a_header_is_no_mismatch(tmp_path):
    affine = AFFINE + np.random.default_rng(0).uniform(-1e-3, 1e-3, (4, 4)) * np.eye(4)
    masks = load_labels(nifti(tmp_path / "a.nii.gz", geometry=VolumeGeometry(MAP.shape, affine)), GRID, NAMES)
    np.testing.assert_array_equal(masks["liver"], MAP == 1)


def test_a_flip_that_only_the_header_tells_is_refused(tmp_path):
    """Same shape, columns running the other way about the same origin: half of a scan away."""
    affine = AFFINE.copy()
    affine[0, 0] = -0.8
    with pytest.raises(LabelGridMismatch):
        load_labels(nifti(tmp_path / "a.nii.gz", geometry=VolumeGeometry(MAP.shape, affine)), GRID, NAMES)


def test_an_npz_that_states_its_grid_must_state_the_right_one(tmp_path):
    np.savez(
        tmp_path / "a.npz", gts=MAP, spacing=(0.8, 0.9, 4.0), origin=(-12.5, 40.25, 7.0), direction=np.eye(3).ravel()
    )
    with pytest.raises(LabelGridMismatch, match=r"up to 1 mm"):
        load_labels(tmp_path / "a.npz", GRID, NAMES)


def test_one_slice_is_a_volume(tmp_path):
    grid = VolumeGeometry((1, 3, 4), AFFINE)
    masks = load_labels(nifti(tmp_path / "a.nii.gz", MAP[:1], grid), grid, NAMES)
    np.testing.assert_array_equal(masks["liver"], MAP[:1] == 1)


# -- pictures -----------------------------------------------------------------------------------------------


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


# -- masks of one structure ---------------------------------------------------------------------------------


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


# -- SEG and RTSTRUCT of real scans -------------------------------------------------------------------------


def test_a_seg_and_an_nrrd_of_one_liver_agree(data):
    folder = data / "liver_ct_dicom_seg"
    scan = load_volume(folder / "ct_series")
    seg = load_labels(folder / "seg/liver.dcm", scan.geometry, {"liver": 1})
    np.testing.assert_array_equal(
        seg["liver"], load_labels(folder / "labels_nrrd/liver_seg.nrrd", scan.geometry, {"liver": 1})["liver"]
    )
    assert seg["liver"].any()


def test_names_match_but_for_case_and_signs_and_the_rest_is_passed_over(data):
    folder = data / "lung_ct_dicom_rtstruct"
    scan = load_volume(folder / "ct_series")
    everything = load_labels(folder / "rtstruct/rtstruct.dcm", scan.geometry)
    assert list(everything) == ["GTV-1", "Spinal-Cord", "Lung-Left", "Lung-Right"]
    names = {"lung_left": 1, "tumour": 2, "heart": 3}
    found = load_labels(folder / "rtstruct/rtstruct.dcm", scan.geometry, names, aliases={"GTV-1": "tumour"})
    assert list(found) == ["lung_left", "tumour", "heart"]
    np.testing.assert_array_equal(found["lung_left"], everything["Lung-Left"])
    np.testing.assert_array_equal(found["tumour"], everything["GTV-1"])
    assert not found["heart"].any()
    with pytest.raises(UnknownLabel, match="holds none of heart; it holds GTV-1, Spinal-Cord"):
        load_labels(folder / "rtstruct/rtstruct.dcm", scan.geometry, {"heart": 1})
    assert structures_in(folder / "rtstruct/rtstruct.dcm", {"spinal cord": 1}) == {"spinal cord"}


def test_a_structure_set_cannot_lie_on_a_scan_without_millimetres(data):
    with pytest.raises(LabelGridMismatch, match="placed in millimetres"):
        load_labels(data / "lung_ct_dicom_rtstruct/rtstruct/rtstruct.dcm", picture(512, 512), {"heart": 1})


def test_aliases_may_map_several_names_to_one_structure(tmp_path):
    here = grid((4, 8, 10))
    squares = [rectangle(n + 0.5, 1.5, n + 3.5, 4.5) for n in range(3)]
    rois = [(name, [loop(here, square, 1)]) for name, square in zip(("GTV-1", "gtv_2", "heart"), squares, strict=True)]
    path = make_rs(tmp_path / "rs.dcm", rois)
    aliases = {"GTV 1": "tumour", "gtv-2": "tumour"}
    masks = load_labels(path, here, {"tumour": 1, "Heart": 2}, aliases=aliases)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"tumour": 12, "Heart": 9}
    assert notes_on(masks) == ("'GTV-1', 'gtv_2' are read as one structure, 'tumour'.",)
    assert structures_in(path, {"tumour": 1, "Heart": 2}, aliases=aliases) == {"tumour", "Heart"}
    assert read_mask(path, here, structure="tumour", aliases=aliases).sum() == 12


def test_an_alias_and_the_name_itself_are_one_structure(tmp_path):
    here = grid()
    masks = np.zeros((4, 6, 5, 3), np.uint8)
    masks[0, 0, :3], masks[0, 0, 2:4, 1], masks[1, 1, 1, 2] = [[1, 0, 0]] * 3, 1, 1
    path = make_seg(tmp_path / "s.dcm", masks, here, ("Lesion", "nodule", "LESION"))
    found = load_labels(path, here, {"lesion": 7}, aliases={"Nodule": "lesion"})
    assert found["lesion"].sum() == 5
    assert notes_on(found) == (
        "2 segments named 'Lesion' are read as one structure.",
        "'Lesion', 'nodule' are read as one structure, 'lesion'.",
    )


def test_notes_on_what_nobody_asked_for_are_not_told(tmp_path):
    here = grid()
    masks = np.eye(3, dtype=np.uint8)[np.random.default_rng(0).integers(0, 3, (4, 6, 5))]
    path = make_seg(tmp_path / "s.dcm", masks, here, ("cyst", "liver", "cyst"))
    assert notes_on(load_labels(path, here, {"liver": 1})) == ()


def test_two_names_of_a_manifest_that_are_one_name_are_refused_for_named_files(tmp_path):
    here = grid()
    path = make_seg(tmp_path / "s.dcm", np.ones((4, 6, 5, 1), np.uint8), here, ("GTV 1",))
    with pytest.raises(InputError, match="'GTV 1' and 'gtv-1' in `labels` are one name"):
        load_labels(path, here, {"GTV 1": 1, "gtv-1": 2})


# -- 3D Slicer's .seg.nrrd ----------------------------------------------------------------------------------


def seg_nrrd(path: Path, layers: np.ndarray, segments: list[dict[str, object]]) -> Path:
    """layers: (L, K, J, I), or (K, J, I) for a file without an axis of layers."""
    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "space directions": [*([[np.nan] * 3] if layers.ndim == 4 else []), *np.diag([0.8, 0.9, 3.0])],
        "space origin": AFFINE[:3, 3],
        "kinds": ["list"] * (layers.ndim == 4) + ["domain"] * 3,
        "encoding": "gzip",
    }
    for n, segment in enumerate(segments):
        header |= {f"Segment{n}_{key}": str(value) for key, value in segment.items()}
    nrrd.write(
        str(path), layers.transpose(*([0] if layers.ndim == 4 else []), *range(layers.ndim - 1, -1, -1)[:3]), header
    )
    return path


LAYERS = np.stack([MAP, (MAP == 2) * np.uint8(2), np.roll(MAP == 1, 1, axis=2).astype(np.uint8)])
SEGMENTS = [
    {"Name": "liver", "LabelValue": 1, "Layer": 0},
    {"Name": "spleen", "LabelValue": 2, "Layer": 0},
    {"Name": "cyst", "LabelValue": 2, "Layer": 1},
    {"Name": "Liver", "LabelValue": 1, "Layer": 2},
]


def test_segments_in_layers_are_read_by_name_may_overlap_and_share_one(tmp_path):
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS)
    masks = load_labels(path, GRID)
    assert list(masks) == ["liver", "spleen", "cyst"]
    np.testing.assert_array_equal(masks["liver"], (MAP == 1) | (LAYERS[2] == 1))
    np.testing.assert_array_equal(masks["spleen"], MAP == 2)
    np.testing.assert_array_equal(masks["cyst"], MAP == 2)
    assert notes_on(masks) == ("2 segments named 'liver' are read as one structure.",)
    assert structures_in(path) == {"liver", "spleen", "cyst"}
    wanted = load_labels(path, GRID, {"tumour": 1, "spleen": 2}, aliases={"CYST": "tumour"})
    assert {name: int(mask.sum()) for name, mask in wanted.items()} == {"tumour": 4, "spleen": 4}
    np.testing.assert_array_equal(read_mask(path, GRID, structure="cyst"), MAP == 2)
    with pytest.raises(UnknownLabel, match="holds 3 structures .liver, spleen, cyst.; one is needed"):
        read_mask(path, GRID)


def test_segments_of_one_layer_are_read_by_name_and_by_number_where_no_name_fits(tmp_path):
    path = seg_nrrd(
        tmp_path / "a.seg.nrrd", MAP, [{"Name": "Leber", "LabelValue": 1}, {"Name": "Milz", "LabelValue": 2}]
    )
    np.testing.assert_array_equal(load_labels(path, GRID)["Milz"], MAP == 2)
    np.testing.assert_array_equal(load_labels(path, GRID, {"milz": 1})["milz"], MAP == 2)
    np.testing.assert_array_equal(load_labels(path, GRID, NAMES)["spleen"], MAP == 2)
    assert structures_in(path, {"milz": 1}) == {"milz"}
    assert structures_in(path, NAMES) == {"liver", "spleen"}


def test_old_segmentations_keep_a_segment_a_layer(tmp_path):
    layers = np.stack([MAP == 1, MAP == 2]).astype(np.uint8)
    path = seg_nrrd(tmp_path / "a.seg.nrrd", layers, [{"ID": "liver"}, {"Name": "spleen"}])
    for structure, value in NAMES.items():
        np.testing.assert_array_equal(load_labels(path, GRID)[structure], value == MAP)


def test_voxels_of_no_segment_are_an_error_unless_named_or_ignored(tmp_path):
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS[:1])
    assert structures_in(path) == {"liver", "layer 0 value 2", "layer 1 value 2", "layer 2 value 1"}
    with pytest.raises(UnknownLabel, match="called layer 0 value 2, layer 1 value 2, layer 2 value 1 .11 voxels."):
        load_labels(path, GRID, {"liver": 1})
    assert load_labels(path, GRID, {"liver": 1}, ignore="others")["liver"].sum() == 3
    assert load_labels(path, GRID, {"liver": 1}, ignore=(1, 2))["liver"].sum() == 3
    named = {"layer 1 value 2": "cyst", "layer 0 value 2": "spleen", "layer 2 value 1": "liver"}
    masks = load_labels(path, GRID, {"liver": 1, "cyst": 2, "spleen": 3}, aliases=named)
    assert [int(mask.sum()) for mask in masks.values()] == [np.count_nonzero((MAP == 1) | (LAYERS[2] == 1)), 4, 4]


def test_layers_may_be_picked_or_united(tmp_path):
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS)
    for n, layer in enumerate(LAYERS):
        values = {str(v) for v in np.unique(layer) if v}
        masks = load_labels(path, GRID, frame=n)
        assert set(masks) == values == structures_in(path, frame=n)
        np.testing.assert_array_equal(masks[min(values)], layer == int(min(values)))
    np.testing.assert_array_equal(load_labels(path, GRID, {"x": 1}, threshold=0)["x"], LAYERS.any(axis=0))
    assert structures_in(path, {"x": 1}, threshold=0) == {"x"}


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ([{"Name": "a", "Layer": 3}], "lies on layer 3"),
        ([{"Name": "a", "Layer": "x"}], "no whole number"),
        ([{"Name": "a", "LabelValue": 1}, {"Name": "b", "LabelValue": 1, "Layer": 0}], "are both value 1 of layer 0"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, segments, why):
    with pytest.raises(InputError, match=why):
        load_labels(seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, segments), GRID)


def test_a_segmentation_in_layers_is_no_scan_and_says_so(tmp_path):
    with pytest.raises(InputError, match=r"a segmentation in layers .3D Slicer., and no scan"):
        load_volume(seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS))


# -- files that are no labels -------------------------------------------------------------------------------


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


def test_all_orders_of_axes_are_covered():
    """The property test draws orders at random; these are the six, once each, against numpy."""
    truth = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    scan = VolumeGeometry(truth.shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    for order in itertools.permutations(range(3)):
        affine = np.eye(4)
        affine[:3, :3] = scan.affine[:3, :3][:, order]
        stored = truth.transpose(2, 1, 0).transpose(order).transpose(2, 1, 0)
        turned = on_grid(Volume(stored, VolumeGeometry(stored.shape, affine)), scan, Path("a"))
        np.testing.assert_array_equal(turned.array, truth)
