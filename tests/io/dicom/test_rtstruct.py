"""RTSTRUCT -> masks: the centre of a voxel decides, loops combine even-odd, position finds the slice."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import drawn
import nibabel as nib
import numpy as np
import pydicom
import pytest
from drawn import HOLE, change, drawing, loop, make_rs, rectangle, refusal_of
from pydicom import Dataset

from medsam.geometry import VolumeGeometry
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.series import read_dicom
from medsam.io.dicom.tree import structure_names
from medsam.io.labels import load_labels, read_mask


def grid(shape=(4, 8, 10), *place, **more) -> VolumeGeometry:
    return drawn.grid(shape, *place, **more)


# -- on a grid ----------------------------------------------------------------------------------------------


def test_a_contour_fills_the_slice_it_lies_in(tmp_path):
    here = grid()
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 2)]})
    expected = np.zeros(here.shape, dtype=bool)
    expected[2, 3:6, 2:5] = True
    read = read_rtstruct(path, here)
    assert list(read) == ["GTV"]
    assert read["GTV"].dtype == bool
    assert np.array_equal(read["GTV"], expected)


def test_regions_keep_order_and_name_and_may_be_empty(tmp_path):
    here = grid()
    square = loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 2)
    above = loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 40)
    path = make_rs(tmp_path / "r.dcm", [("B", [square]), ("A", []), ("C", [square, above]), ("far", [above])])
    read = read_rtstruct(path, here)
    assert list(read) == ["B", "A", "C", "far"] == structure_names(path)
    assert [int(mask.sum()) for mask in read.values()] == [9, 0, 9, 0]
    assert read.notes == tuple(
        f"ROI {name!r}: 1 contour lies on a plane outside the scan and is left out." for name in ("C", "far")
    )


def test_regions_of_one_name_are_one_structure_on_one_plane_and_on_several(tmp_path):
    """A hole of one region is not one of the other."""
    here = grid()
    outer, inner = rectangle(0.5, 0.5, 6.5, 6.5), rectangle(2.5, 2.5, 4.5, 4.5)
    rois = [
        ("GTV", [loop(here, outer, 1), loop(here, inner, 1)]),
        ("other", [loop(here, inner, 1)]),
        ("gtv ", [loop(here, inner, 1), loop(here, inner, 2)]),
    ]
    path = make_rs(tmp_path / "r.dcm", rois)
    read = read_rtstruct(path, here)
    assert list(read) == ["GTV", "other"] == structure_names(path)
    assert read["GTV"].sum(axis=(1, 2)).tolist() == [0, 36, 4, 0]
    assert read.notes == ("2 regions named 'GTV' are read as one structure.",)


def test_what_contours_mean_together_is_said(tmp_path):
    here = grid()
    one, two = rectangle(0.5, 0.5, 4.5, 4.5), rectangle(2.5, 2.5, 6.5, 6.5)
    contours = [loop(here, xy, 1) for xy in (one, two, one)] + [("POINT", loop(here, one, 1)[:1])]
    path = make_rs(tmp_path / "r.dcm", {"A": contours})
    read = read_rtstruct(path, here)
    assert read["A"].sum() == 16 + 16 - 4
    assert read.notes == (
        "ROI 'A': 1 contour repeats another one of its plane and counts once.",
        "ROI 'A': 2 contours partly overlap another one of their plane and are united with it.",
        "ROI 'A': 1 contour is a point or an open line, which encloses nothing.",
    )
    # the same as explicit exclusive or: what both cover is out
    crossed = make_rs(tmp_path / "x.dcm", {"A": [loop(here, xy, 1) for xy in (one, two)]}, kind="CLOSEDPLANAR_XOR")
    assert read_rtstruct(crossed, here)["A"].sum() == 16 + 16 - 8


def test_points_and_open_lines_enclose_nothing(tmp_path):
    here = grid()
    square = loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 2)
    contours = [("POINT", square[:1]), ("OPEN_PLANAR", square), ("OPEN_NONPLANAR", square)]
    path = make_rs(tmp_path / "r.dcm", {"line": contours, "marker": contours[:1], "both": [*contours, square]})
    assert [int(mask.sum()) for mask in read_rtstruct(path, here).values()] == [0, 0, 9]
    only = make_rs(tmp_path / "only.dcm", {"marker": contours[:1]})
    assert not read_rtstruct(only, here)["marker"].any()


def test_loops_of_one_slice_make_holes_and_separate_parts(tmp_path):
    here = grid((2, 9, 12))
    loops = [rectangle(-0.5, -0.5, 6.5, 6.5), rectangle(1.5, 1.5, 4.5, 4.5), rectangle(8.5, 0.5, 10.5, 2.5)]
    path = make_rs(tmp_path / "r.dcm", {"ring": [loop(here, xy, 1) for xy in loops]})
    mask = read_rtstruct(path, here)["ring"]
    assert drawing(mask[1, :7, :7]) == HOLE
    assert mask.sum() == 40 + 4
    assert not mask[0].any()


@pytest.mark.parametrize(
    ("height", "slices"), [(1.4, [1]), (1.6, [2]), (1.5, [1]), (-0.4, [0]), (3.4, [3]), (3.6, []), (-0.6, [])]
)
def test_a_contour_between_slices_belongs_to_the_nearer_one(tmp_path, height, slices):
    here = grid()
    square = rectangle(1.5, 2.5, 4.5, 5.5)
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, square, height)], "anchor": [loop(here, square, 0)]})
    assert np.flatnonzero(read_rtstruct(path, here)["GTV"].any(axis=(1, 2))).tolist() == slices


def test_contours_on_every_other_slice_leave_the_others_empty_and_that_is_said(tmp_path):
    here = grid((9, 8, 10))
    square, on_side = rectangle(1.5, 2.5, 4.5, 5.5), rectangle(1.5, 2.5, 4.5, 7.5)
    rois = {
        "every second": [loop(here, square, k) for k in (0, 2, 4, 6)],
        "two nodes": [loop(here, square, k) for k in (0, 1, 5, 6)],
        "sagittal": [loop(here, on_side, i, "i") for i in (0, 3, 6)],
    }
    read = read_rtstruct(make_rs(tmp_path / "r.dcm", rois), here)
    assert np.flatnonzero(read["every second"].any(axis=(1, 2))).tolist() == [0, 2, 4, 6]
    assert np.flatnonzero(read["sagittal"].any(axis=(0, 1))).tolist() == [0, 3, 6]
    assert read.notes == (
        "ROI 'every second': its contours lie 2 slices apart; those between are left empty.",
        "ROI 'sagittal': its contours lie 3 slices apart, across axis i; those between are left empty.",
    )


def test_planes_closer_than_slices_do_not_cut_holes_into_each_other(tmp_path):
    here = grid()
    planes = [loop(here, rectangle(1.5, 2.5, 4.5 + n, 5.5), height) for n, height in enumerate((1.7, 1.9, 2.2))]
    mask = read_rtstruct(make_rs(tmp_path / "r.dcm", {"GTV": planes}), here)["GTV"]
    assert drawing(mask[2, 3:6]) == ["..####....."[:10]] * 3


IMAGES = tuple((f"1.2.{k}", None) for k in range(4))


def naming(path: Path, *images: str, frame: int | None = None) -> Path:
    """All contours say that they were drawn on these images."""

    def name(dataset: Dataset) -> None:
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            contour.ContourImageSequence = [Dataset() for _ in images]
            for item, uid in zip(contour.ContourImageSequence, images, strict=True):
                item.ReferencedSOPInstanceUID = uid
                if frame is not None:
                    item.ReferencedFrameNumber = frame

    return change(path, name)


@pytest.mark.parametrize(
    ("height", "named", "slices", "noted"),
    [
        # midway, and midway but for rounding: the image that it names
        (1.5, ["1.2.2"], [2], False),
        (1.5, ["1.2.1"], [1], False),
        (1.46, ["1.2.2"], [2], False),
        (1.54, ["1.2.1"], [1], False),
        (3.53, ["1.2.3"], [3], False),
        # nearer to another: where it lies, and that is said
        (1.4, ["1.2.2"], [1], True),
        (1.0, ["1.2.3"], [1], True),
        # of another export, or of the whole scan: where it lies
        (1.5, ["9.9.9"], [1], False),
        (1.0, ["1.2.0", "1.2.1", "1.2.2", "1.2.3"], [1], False),
        (1.5, ["1.2.0", "1.2.2"], [2], False),
    ],
)
def test_the_image_that_a_contour_names_decides_between_slices_equally_near(tmp_path, height, named, slices, noted):
    here = grid()
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), height)]})
    read = read_rtstruct(naming(path, *named), here, images=IMAGES)
    assert np.flatnonzero(read["GTV"].any(axis=(1, 2))).tolist() == slices
    said = "ROI 'GTV': 1 contour names another image of the scan than the one it lies on, where it is taken to be."
    assert read.notes == ((said,) if noted else ())


def test_labels_are_read_by_the_images_of_their_scan(tmp_path):
    here = grid()
    path = naming(make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 1.5)]}), "1.2.2")
    for masks in (load_labels(path, here, images=IMAGES), {"GTV": read_mask(path, here, images=IMAGES)}):
        assert np.flatnonzero(masks["GTV"].any(axis=(1, 2))).tolist() == [2]


def test_a_contour_may_name_a_frame(tmp_path):
    here = grid()
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 1.5)]})
    read = read_rtstruct(naming(path, "1.2.3", frame=3), here, images=[("1.2.3", 4 - k) for k in range(4)])
    assert np.flatnonzero(read["GTV"].any(axis=(1, 2))).tolist() == [1]
    read = read_rtstruct(naming(path, "1.2.3", frame=2), here, images=[("1.2.3", 4 - k) for k in range(4)])
    assert np.flatnonzero(read["GTV"].any(axis=(1, 2))).tolist() == [2]


def test_images_without_a_uid_of_their_own_are_named_by_nobody(tmp_path):
    here = grid()
    for uid in ("", "1.2.3"):
        path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 1.5)]})
        read = read_rtstruct(naming(path, uid), here, images=[(uid, None)] * 4)
        assert np.flatnonzero(read["GTV"].any(axis=(1, 2))).tolist() == [1]
        assert read.notes == ()


def test_contours_across_other_axes_are_of_no_slice_that_they_name(tmp_path):
    here = grid()
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(0.5, 0.5, 4.5, 2.5), 3, "i")]})
    read = read_rtstruct(naming(path, "1.2.0"), here, images=IMAGES)
    assert np.flatnonzero(read["GTV"].any(axis=(0, 1))).tolist() == [3]
    assert read.notes == ()


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_contours_may_lie_across_any_axis_of_an_oblique_grid(tmp_path, axis):
    a, b = np.deg2rad((20, 35))
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    here = grid((7, 8, 10), direction=turn @ tilt)
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(0.5, 1.5, 3.5, 5.5), 4, axis)]})
    plane = here.plane(axis)
    mask = read_rtstruct(path, here)["GTV"]
    expected = np.zeros(plane.shape, dtype=bool)
    expected[2:6, 1:4] = True
    assert np.array_equal(plane.take(mask, 4), expected)
    assert mask.sum() == expected.sum()


def test_a_left_handed_grid_is_no_different(tmp_path):
    here = grid(direction=np.diag([-1.0, 1.0, -1.0]))
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 3)]})
    expected = np.zeros(here.shape, dtype=bool)
    expected[3, 3:6, 2:5] = True
    assert np.array_equal(read_rtstruct(path, here)["GTV"], expected)


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.fixture
def structure(tmp_path) -> Path:
    return make_rs(tmp_path / "rs.dcm", {"GTV": [loop(grid(), rectangle(1.5, 2.5, 4.5, 5.5), k) for k in range(3)]})


refusal = partial(refusal_of, read_rtstruct, grid())


def test_contours_across_no_axis_are_refused_by_name(structure):
    a = np.deg2rad(30)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    assert "ROI 'GTV'" in refusal(structure, grid(spacing_ijk=(0.8, 0.9, 1.0), direction=tilt))


def test_contours_that_all_miss_the_grid_are_refused(structure):
    assert "no contour" in refusal(structure, grid(origin=(500.0, 40.25, 7.0)))
    assert "no contour" in refusal(structure, grid(origin=(-12.5, 40.25, 700.0)))


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.__setattr__("StructureSetROISequence", []), "(3006,0020) Structure Set ROI Sequence"),
        (lambda d: d.__delattr__("StructureSetROISequence"), "(3006,0020) Structure Set ROI Sequence"),
        (lambda d: d.__delattr__("ROIContourSequence"), "(3006,0050) Contour Data"),
        (lambda d: d.ROIContourSequence[0].__setattr__("ContourSequence", []), "(3006,0050) Contour Data"),
        (
            lambda d: d.ROIContourSequence[0].ContourSequence[1].ContourData.pop(),
            "ROI 'GTV': a (3006,0050) Contour Data is not a list of x, y, z triplets",
        ),
        (lambda d: d.ROIContourSequence[0].__delattr__("ReferencedROINumber"), "(3006,0084) Referenced ROI Number"),
        (lambda d: d.StructureSetROISequence[0].__delattr__("ROINumber"), "(3006,0022) ROI Number"),
    ],
)
def test_a_structure_set_without_what_it_needs_is_refused(structure, edit, named):
    assert named in refusal(change(structure, edit))


def test_numbers_that_are_none_are_refused(structure):
    number = pydicom.dcmread(structure).ROIContourSequence[0].ContourSequence[0].ContourData[0]
    whole, text = structure.read_bytes(), str(number).encode()
    assert text in whole
    structure.write_bytes(whole.replace(text, text[:-1] + b"x"))
    assert "not a list of x, y, z triplets" in refusal(structure)


@pytest.mark.parametrize("value", ["1e308", "-1e7", "nan", "inf", "", "1 2"])
def test_a_coordinate_that_is_no_place_is_refused(structure, value):
    number = pydicom.dcmread(structure).ROIContourSequence[0].ContourSequence[0].ContourData[0]
    whole, text = structure.read_bytes(), str(number).encode()
    assert text in whole
    structure.write_bytes(whole.replace(text, value.encode().ljust(len(text))))
    assert "not a list of x, y, z triplets" in refusal(structure)


def test_two_regions_of_one_number_are_refused(tmp_path):
    here = grid()
    path = make_rs(tmp_path / "r.dcm", {name: [loop(here, rectangle(1, 1, 4, 4), 1)] for name in ("A", "B")})
    message = refusal(change(path, lambda d: d.StructureSetROISequence[1].__setattr__("ROINumber", 1)))
    assert "'A' and 'B' have the same (3006,0022) ROI Number 1" in message


def test_a_sequence_that_is_text_is_refused_by_its_tag(structure):
    def spoil(dataset):
        dataset.add(pydicom.DataElement(0x30060039, "LO", "GTV"))

    assert "(3006,0039) ROI Contour Sequence" in refusal(change(structure, spoil))


def test_a_name_longer_than_dicom_allows_is_read_in_silence(tmp_path):
    here, name = grid(), "GTV " * 20
    path = make_rs(tmp_path / "r.dcm", {"GTV": [loop(here, rectangle(1.5, 2.5, 4.5, 5.5), 2)]})
    with pydicom.config.disable_value_validation():
        change(path, lambda d: d.StructureSetROISequence[0].__setattr__("ROIName", name))
    assert list(read_rtstruct(path, here)) == [name.strip()]


# -- real files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("modality", "voxels"), [("MR_T1", 8862), ("PET", 388)])
def test_the_real_tumour_equals_its_nifti_mask_to_the_voxel(data, modality, voxels):
    folder = data / "sts_sarcoma_dicom_rtstruct" / "STS_008" / modality
    here = read_dicom(folder / "image").geometry
    image = nib.load(data / "sts_sarcoma_mr_pet_ct" / "STS_008" / f"{modality}_mask.nii.gz")
    expected = np.asarray(image.dataobj).T > 0
    assert VolumeGeometry.from_ras(expected.shape, image.affine).same_grid(here)
    read = read_rtstruct(folder / "mask" / "RS.dcm", here)
    assert list(read) == [f"GTV_Mass_{modality}"]
    (mask,) = read.values()
    assert np.array_equal(mask, expected)
    assert mask.sum() == voxels


def test_the_real_lungs_lie_where_lungs_lie(data):
    """24 of 89 contoured slices are here. LUNG1-001's tumour is in the left lung, low in the chest."""
    folder = data / "lung_ct_dicom_rtstruct"
    scan = read_dicom(folder / "ct_series")
    here = scan.geometry
    assert here.shape == (24, 512, 512)
    read = read_rtstruct(folder / "rtstruct" / "rtstruct.dcm", here, images=scan.images)
    assert list(read) == ["GTV-1", "Spinal-Cord", "Lung-Left", "Lung-Right"]
    slices = {name: int(mask.any(axis=(1, 2)).sum()) for name, mask in read.items()}
    assert slices == {"GTV-1": 21, "Spinal-Cord": 24, "Lung-Left": 24, "Lung-Right": 24}
    millilitres = {name: mask.sum() * here.voxel_ml for name, mask in read.items()}
    assert 100 < millilitres["GTV-1"] < 200
    # 72 mm of a cord of 1 to 2 cm² (drawn as its canal)
    assert 5 < millilitres["Spinal-Cord"] < 15
    # 24 of 89 slices through the widest part of lungs of 2 to 3 litres each
    assert 500 < millilitres["Lung-Left"] < millilitres["Lung-Right"] < 1500
    x, y, _ = np.transpose([here.to_mm(np.argwhere(mask)[:, ::-1]).mean(axis=0) for mask in read.values()])
    gtv, cord, left, right = range(4)
    assert x[right] < x[cord] < x[left]  # LPS: x grows to the patient's left
    assert x[gtv] > x[cord]
    assert y[cord] > max(y[left], y[right])  # and y to the back
