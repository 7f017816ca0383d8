"""What images say of themselves: windows and identifiers, images without a place, enhanced multi-frame objects."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dicom_files import FRAME, PATIENT, SERIES, STUDY, enhanced, message, save, series, slices, write
from pydicom import Dataset
from pydicom.uid import generate_uid

from medsam.errors import InconsistentSeries
from medsam.io.dicom.series import read_dicom


def test_what_comes_with_the_voxels(tmp_path):
    folder = series(tmp_path / "ct", slices(3), WindowCenter=40, WindowWidth=400)
    volume = read_dicom(folder)
    assert volume.window == (40, 400)
    assert volume.uids == {"series": SERIES, "study": STUDY, "frame_of_reference": FRAME}
    assert (volume.modality, volume.source) == ("CT", folder)
    assert PATIENT not in repr(volume)


def test_the_first_of_several_windows_is_taken(tmp_path):
    path = write(tmp_path / "a.dcm", slices(1)[0], WindowCenter=["40", "-600"], WindowWidth=["400", "1500"])
    assert read_dicom(path).window == (40, 400)


def test_a_clip_without_positions_is_frames_over_pixels(tmp_path):
    pixels = slices(6, dtype="uint8", top=255)
    tags = {"Modality": "US", "ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    volume = read_dicom(write(tmp_path / "clip.dcm", pixels, **tags))
    np.testing.assert_array_equal(volume.array, pixels)
    np.testing.assert_array_equal(volume.geometry.affine, np.eye(4))
    assert not volume.geometry.calibrated


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.4, 0.5]}, (0.2, 0.3)),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.4, 0.5]}, (0.4, 0.5)),
        ({"PixelSpacing": None}, None),
    ],
)
def test_a_radiograph_is_one_slice(tmp_path, tags, spacing):
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SliceThickness": None}
    volume = read_dicom(write(tmp_path / "dx.dcm", slices(1)[0], Modality="DX", **nowhere, **tags))
    assert volume.array.shape == (1, 4, 5)
    assert volume.geometry.calibrated is (spacing is not None)
    assert volume.geometry.spacing_mm == (1, *(spacing or (1, 1)))
    assert volume.geometry.axcodes == "LPS"


def test_ultrasound_regions_in_centimetres_give_millimetres(tmp_path):
    def region(width: int, delta: float, units: int) -> Dataset:
        item = Dataset()
        item.RegionSpatialFormat = 1
        item.RegionLocationMinX0, item.RegionLocationMinY0 = 0, 0
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = width, 3
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
        item.PhysicalDeltaX, item.PhysicalDeltaY = delta, 2 * delta
        return item

    regions = [region(1, 0.5, 3), region(4, 0.01, 3), region(5, 0.7, 4)]
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    path = write(
        tmp_path / "us.dcm",
        slices(1)[0],
        Modality="US",
        SliceThickness=None,
        SequenceOfUltrasoundRegions=regions,
        **nowhere,
    )
    assert read_dicom(path).geometry.spacing_mm == pytest.approx((1, 0.2, 0.1))


def test_enhanced_frames_are_sorted_and_rescaled(tmp_path):
    pixels = slices(4)
    places = [(0, 0, z) for z in (6, 2, 0, 4)]
    volume = read_dicom(save(enhanced(pixels, places), tmp_path / "ct.dcm"))
    np.testing.assert_array_equal(volume.array, pixels[[2, 1, 3, 0]] - 1024)
    assert volume.array.dtype == np.int32
    assert volume.geometry.spacing_mm == (2, 0.5, 0.75)
    assert volume.window == (50, 350)


@pytest.mark.parametrize("slopes", [None, [0.5, 2.0, 1.5, 1.0]])
def test_enhanced_volume_agrees_with_highdicom(tmp_path, slopes):
    import highdicom

    pixels = slices(4)
    path = save(
        enhanced(pixels, [(1, 2, z) for z in (6, 2, 0, 4)], slopes, SOPInstanceUID=generate_uid()),
        tmp_path / "ct.dcm",
    )
    volume = read_dicom(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = highdicom.imread(path).get_volume()
    # highdicom: indices are (slice, row, column)
    theirs = other.affine[:, [2, 1, 0, 3]]
    array = np.asarray(other.array)
    if theirs[2, 2] < 0:
        theirs[:3, 3] += (len(array) - 1) * theirs[:3, 2]
        theirs[:3, 2] *= -1
        array = array[::-1]
    np.testing.assert_allclose(volume.array, array)
    np.testing.assert_allclose(volume.geometry.affine, theirs)


def test_enhanced_phases_are_named(tmp_path):
    path = save(enhanced(slices(4), [(0, 0, z) for z in (0, 0, 2, 2)]), tmp_path / "ct.dcm")
    said = message(path, InconsistentSeries)
    assert "4 images at 2 positions (2 each" in said
    assert "(0020,9128) Temporal Position Index (2 values)" in said
    assert "ct.dcm frame 1, ct.dcm frame 2" in said


def test_enhanced_gap_names_frames(tmp_path):
    path = save(enhanced(slices(5), [(0, 0, z) for z in (0, 2, 4, 8, 10)]), tmp_path / "ct.dcm")
    said = message(path, InconsistentSeries)
    assert "4 mm between ct.dcm frame 3 and ct.dcm frame 4" in said
    assert "1 slice seems to be missing" in said


def test_enhanced_with_the_wrong_number_of_frames(tmp_path):
    ds = enhanced(slices(4), [(0, 0, z) for z in range(4)])
    del ds.PerFrameFunctionalGroupsSequence[-1]
    said = message(save(ds, tmp_path / "ct.dcm"))
    assert "(0028,0008) Number of Frames is 4" in said
    assert "(5200,9230)" in said
