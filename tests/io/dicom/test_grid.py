"""Where slices lie: order and affine against known answers and GDCM, and what is wrong with an irregular series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, CORONAL, SAGITTAL, message, series, slices, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medsam.errors import InconsistentSeries
from medsam.io.dicom.series import read_dicom


def gdcm(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine of a folder as SimpleITK (GDCM) reads it, turned to ascend in LPS as ours do."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image)
    along = affine[:3, 2]
    if along[np.argmax(np.abs(along))] < 0:
        affine[:3, 3] += (len(array) - 1) * along
        affine[:3, 2] *= -1
        array = array[::-1]
    return array, affine


@pytest.mark.parametrize(
    ("orientation", "axcodes", "along"),
    [(AXIAL, "LPS", 2), (CORONAL, "LIP", 1), (SAGITTAL, "PIL", 0), ((-1, 0, 0, 0, -1, 0), "RAS", 2)],
)
def test_slices_ascend_toward_head_back_or_left_whatever_their_names(tmp_path, orientation, axcodes, along):
    pixels = slices(5)
    volume = read_dicom(series(tmp_path / "ct", pixels, orientation))
    np.testing.assert_array_equal(volume.array, pixels)
    expected = np.eye(4)
    expected[:3, 0] = np.array(orientation[:3]) * 0.75
    expected[:3, 1] = np.array(orientation[3:]) * 0.5
    expected[:3, 2] = np.eye(3)[along] * 2.0
    expected[:3, 3] = (-10, 20, 30)
    np.testing.assert_array_equal(volume.geometry.affine, expected)
    assert volume.geometry.axcodes == axcodes
    assert volume.geometry.calibrated


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    step=st.floats(0.1, 10),
    count=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_any_oblique_series_reads_as_gdcm_reads_it(tmp_path_factory, angles, step, count, seed):
    folder = tmp_path_factory.mktemp("oblique")
    (a, b, c), rng = angles, np.random.default_rng(seed)
    turn = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    tip = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    roll = [[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]]
    axes = np.array(turn) @ tip @ roll
    # a decimal string has 16 characters
    orientation = tuple(float(f"{v:.10f}") for v in (*axes[0], *axes[1]))
    pixels = slices(count)
    for k in rng.permutation(count):
        position = [float(f"{v:.9g}") for v in k * step * axes[2]]
        write(
            folder / f"{rng.integers(10**9)}.dcm",
            pixels[k],
            ImagePositionPatient=position,
            ImageOrientationPatient=list(orientation),
        )
    volume = read_dicom(folder)
    array, affine = gdcm(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-5)
    main = volume.geometry.affine[:3, 2]
    assert main[np.argmax(np.abs(main))] > 0


def test_slice_distance_comes_from_positions_not_from_thickness(tmp_path):
    folder = series(tmp_path / "ct", slices(4), step=1.25, SliceThickness=5, SpacingBetweenSlices=3)
    assert read_dicom(folder).geometry.spacing_mm == (1.25, 0.5, 0.75)


@pytest.mark.parametrize(
    ("tags", "depth"),
    [({"SpacingBetweenSlices": 3}, 3), ({"SliceThickness": 5}, 5), ({"SliceThickness": None}, 1)],
)
def test_a_lone_slice_takes_spacing_then_thickness_then_one(tmp_path, tags, depth):
    volume = read_dicom(write(tmp_path / "one.dcm", slices(1)[0], **tags))
    assert volume.geometry.spacing_mm == (depth, 0.5, 0.75)


def test_rounded_positions_are_regular(tmp_path):
    folder = tmp_path / "ct"
    for k, z in enumerate([0, 0.33, 0.67, 1.0, 1.33, 1.67, 2.0]):
        write(folder / f"{k}", slices(1)[0], ImagePositionPatient=[0, 0, z])
    assert read_dicom(folder).geometry.spacing_mm[0] == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize(
    "folder",
    [
        "liver_ct_dicom_seg/ct_series",
        "lung_ct_dicom_rtstruct/ct_series",
        "breast_mr_dicom_seg/UCSF-BR-06/mr_series",
        "sts_sarcoma_dicom_rtstruct/STS_008/PET/image",
        "sts_sarcoma_dicom_rtstruct/STS_008/MR_T1/image",
    ],
)
def test_real_series_read_as_gdcm_reads_them(data, folder):
    volume = read_dicom(data / folder)
    array, affine = gdcm(data / folder)
    assert volume.array.dtype in (np.int16, np.int32, np.float32)
    # PET: float32 here, float64 there
    np.testing.assert_allclose(volume.array, array, rtol=1e-6)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)


def test_missing_slices(tmp_path):
    for n, z in enumerate([0, 2.5, 5, 12.5, 15]):
        write(tmp_path / "ct" / f"IM_{n:04d}.dcm", slices(1)[0], ImagePositionPatient=[0, 0, z])
    said = message(tmp_path / "ct", InconsistentSeries)
    assert "Slices lie 2.5 mm apart, except 7.5 mm between IM_0002.dcm and IM_0003.dcm" in said
    assert "(0020,0032) Image Position (Patient)" in said
    assert "2 slices seem to be missing" in said
    assert "Export the series again" in said


def test_the_usual_distance_is_one_that_occurs(tmp_path):
    for n, z in enumerate([0, 6, 9]):
        write(tmp_path / "ct" / f"IM{n}", slices(1)[0], ImagePositionPatient=[0, 0, z])
    said = message(tmp_path / "ct", InconsistentSeries)
    assert "Slices lie 3 mm apart, except 6 mm between IM0 and IM1" in said
    assert "1 slice seems to be missing" in said


def test_uneven_slices(tmp_path):
    for n, z in enumerate([0, 2, 4, 7, 9]):
        write(tmp_path / "ct" / f"{n}", slices(1)[0], ImagePositionPatient=[0, 0, z])
    assert "the distances are uneven" in message(tmp_path / "ct", InconsistentSeries)


def test_distances_that_drift_away(tmp_path):
    gaps = np.linspace(0.992, 1.008, 99)
    for n, z in enumerate(np.concatenate([[0], np.cumsum(gaps)]).round(6)):
        write(tmp_path / "ct" / f"{n}", slices(1)[0], ImagePositionPatient=[0, 0, z])
    assert "runs from 0.992 to 1.008 mm" in message(tmp_path / "ct", InconsistentSeries)


@pytest.mark.parametrize(
    ("keyword", "values", "named"),
    [
        ("TemporalPositionIdentifier", (1, 2), "(0020,0100) Temporal Position Identifier (2 values)"),
        ("EchoTime", (10, 80), "(0018,0081) Echo Time (2 values)"),
        ("DiffusionBValue", (0.0, 1000.0), "(0018,9087) Diffusion b-value (2 values)"),
        ("SeriesDescription", ("x", "y"), "Nothing in their headers tells them apart"),
    ],
)
def test_several_images_of_one_place_name_what_differs(tmp_path, keyword, values, named):
    for value in values:
        series(tmp_path / "mr" / str(value), slices(3), **{keyword: value})
    said = message(tmp_path / "mr", InconsistentSeries)
    assert "6 images at 3 positions (2 each" in said
    assert named in said


def test_a_localizer_in_the_series(tmp_path):
    folder = series(tmp_path / "ct", slices(4))
    tags = {"ImageOrientationPatient": list(CORONAL), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write(folder / "scout.dcm", slices(1)[0], **tags)
    said = message(folder, InconsistentSeries)
    assert "4 have (0020,0037) Image Orientation (Patient) 1, 0, 0, 0, 1, 0, 1 differs: scout.dcm" in said
    assert "A localizer is among them" in said


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({"PixelSpacing": [0.5, 0.8]}, "(0028,0030) Pixel Spacing in mm 0.5 x 0.75, 1 differs: odd.dcm (0.5 x 0.8)"),
        ({"FrameOfReferenceUID": "1.2.9"}, "2 different (0020,0052) Frame of Reference UID"),
    ],
)
def test_one_slice_of_another_grid(tmp_path, tags, named):
    folder = series(tmp_path / "ct", slices(4), origin=(0, 0, 2))
    write(folder / "odd.dcm", slices(1)[0], **tags)
    assert named in message(folder, InconsistentSeries)


def test_one_slice_of_another_size(tmp_path):
    folder = series(tmp_path / "ct", slices(4), origin=(0, 0, 2))
    write(folder / "odd.dcm", slices(1, rows=8)[0])
    said = message(folder, InconsistentSeries)
    assert "4 have (0028,0010) Rows x (0028,0011) Columns 4 x 5, 1 differs: odd.dcm (8 x 5)" in said


def test_gantry_tilt_in_degrees(tmp_path):
    shift = np.tan(np.radians(15))
    for k in range(5):
        write(tmp_path / "ct" / f"{k}", slices(1)[0], ImagePositionPatient=[0, round(2 * k * shift, 6), 2 * k])
    said = message(tmp_path / "ct", InconsistentSeries)
    assert "sheared by 15.0 degrees" in said
    assert "(0018,1120) Gantry/Detector Tilt" in said


def test_a_slice_beside_the_line_of_the_others(tmp_path):
    for k in range(5):
        place = [3.0 if k == 2 else 0, 0, 2 * k]
        write(tmp_path / "ct" / f"{k}.dcm", slices(1)[0], ImagePositionPatient=place)
    said = message(tmp_path / "ct", InconsistentSeries)
    assert "up to 3.00 mm beside the line of the others" in said
    assert ": 2.dcm" in said


def test_no_position(tmp_path):
    for k in range(3):
        write(tmp_path / "cr" / f"{k}.dcm", slices(1)[0], ImagePositionPatient=None)
    said = message(tmp_path / "cr", InconsistentSeries)
    assert "3 of 3 images of the series have no (0020,0032) Image Position (Patient)" in said
    assert "0.dcm" in said
