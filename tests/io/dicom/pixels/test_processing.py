"""Stored numbers to values and colours: slopes, bits, tables, palettes, against known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import dataset, save, series, slices, write
from pydicom import Dataset
from pydicom.data import get_testdata_file

from medsam.io.dicom.series import read_dicom


def test_hounsfield_units_to_the_bit_in_int16(tmp_path):
    pixels = slices(2, dtype="uint16", top=4096)
    pixels.flat[:2] = 0, 4095
    folder = series(tmp_path / "ct", pixels, RescaleSlope=1, RescaleIntercept=-1024, BitsStored=12)
    volume = read_dicom(folder)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, pixels.astype(int) - 1024)


@pytest.mark.parametrize(
    ("dtype", "bits", "slope", "intercept", "expected"),
    [
        ("uint16", 16, 1, -1024, "int32"),
        ("int16", 16, 1, 0, "int16"),
        ("int16", 12, 2, -1024, "int16"),
        ("uint8", 8, 1, 0, "uint8"),
        ("uint8", 8, -1, 255, "uint8"),
        ("int8", 8, 1, 128, "uint8"),
        ("uint16", 15, -1, 0, "int16"),
        ("int32", 32, 1, 0, "int32"),
        ("uint32", 32, 1, 0, "int64"),
        ("uint16", 16, 0.5, 0, "float32"),
        ("uint16", 12, 1, 0.25, "float32"),
    ],
)
def test_array_type_is_the_smallest_that_loses_nothing(tmp_path, dtype, bits, slope, intercept, expected):
    signed = dtype.startswith("i")
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    pixels = np.array([[lowest, highest], [lowest + 1, highest // 2]], dtype=dtype)
    tags = {"BitsStored": bits, "RescaleSlope": slope, "RescaleIntercept": intercept}
    volume = read_dicom(write(tmp_path / "a.dcm", pixels, **tags))
    assert volume.array.dtype == expected
    np.testing.assert_array_equal(volume.array[0], pixels.astype(np.float64) * slope + intercept)


def test_every_slice_has_its_own_slope(tmp_path):
    pixels = slices(3, dtype="uint16", top=30000)
    slopes, intercepts = [0.5, 0.0123, 7.25], [0.0, -3.5, 100.0]
    folder = series(tmp_path / "pt", pixels, Modality="PT", RescaleSlope=slopes, RescaleIntercept=intercepts)
    expected = pixels * np.array(slopes)[:, None, None] + np.array(intercepts)[:, None, None]
    volume = read_dicom(folder)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, expected.astype(np.float32))


def test_unused_high_bits_with_an_overlay_are_not_part_of_the_value(tmp_path):
    pixels = slices(1, dtype="uint16", top=4096)[0]
    ds = dataset(pixels | 0xA000, BitsStored=12)
    for group, bit in ((0x6000, 13), (0x6002, 15)):
        ds.add_new((group, 0x0102), "US", bit)
    np.testing.assert_array_equal(read_dicom(save(ds, tmp_path / "a.dcm")).array[0], pixels)


def test_twelve_bit_signed_values_are_negative_below_zero(tmp_path):
    pixels = np.array([[-2048, -1], [0, 2047]], dtype=np.int16)
    stored = pixels.astype(np.uint16) & 0x0FFF
    volume = read_dicom(write(tmp_path / "a.dcm", stored, BitsStored=12, PixelRepresentation=1))
    np.testing.assert_array_equal(volume.array[0], pixels)


@pytest.mark.parametrize(("dtype", "bits", "mirror"), [("uint16", 12, 4095), ("uint8", 8, 255), ("int16", 16, -1)])
def test_monochrome1_is_turned_within_the_stored_range(tmp_path, dtype, bits, mirror):
    pixels = slices(1, dtype=dtype, top=120)[0]
    tags = {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1", "BitsStored": bits}
    window = {"WindowCenter": 100, "WindowWidth": 50}
    plain = read_dicom(write(tmp_path / "a.dcm", pixels, **tags, **window))
    np.testing.assert_array_equal(plain.array[0], mirror - pixels.astype(int))
    assert plain.window == (mirror - 100, 50)
    rescale = {"RescaleSlope": 2, "RescaleIntercept": 10}
    scaled = read_dicom(write(tmp_path / "b.dcm", pixels, **tags, **rescale))
    np.testing.assert_array_equal(scaled.array[0], (mirror - pixels.astype(int)) * 2 + 10)


def test_hounsfield_units_stay_whatever_the_display(tmp_path):
    pixels = slices(1)[0]
    path = write(
        tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=-1024, RescaleSlope=1
    )
    np.testing.assert_array_equal(read_dicom(path).array[0], pixels - 1024)


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_float_pixels(tmp_path, keyword, dtype):
    pixels = np.array([[0.5, -1.25], [np.nan, 1e6]], dtype=dtype)
    tags = {"BitsStored": None, "HighBit": None, "PixelRepresentation": None, keyword: pixels.tobytes()}
    volume = read_dicom(write(tmp_path / "a.dcm", pixels, **tags))
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array[0], pixels)


def test_a_modality_table_takes_the_place_of_a_slope(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [4, 10, 16]
    table.LUTData = np.array([5, 50, 500, 5000], "<u2").tobytes()
    table.ModalityLUTType = "US"
    ds = dataset(np.array([[10, 11], [12, 13]], "uint16"), ModalityLUTSequence=[table])
    ds.ModalityLUTSequence[0]["LUTDescriptor"].VR = "US"
    ds.ModalityLUTSequence[0]["LUTData"].VR = "OW"
    volume = read_dicom(save(ds, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.array[0], [[5, 50], [500, 5000]])


def test_a_real_world_value_map_is_used_where_there_is_no_rescale(tmp_path):
    value_map = Dataset()
    value_map.RealWorldValueSlope, value_map.RealWorldValueIntercept = 0.5, 3.0
    pixels = slices(1)[0]
    window = {"WindowCenter": 100, "WindowWidth": 40}
    alone = read_dicom(write(tmp_path / "a.dcm", pixels, RealWorldValueMappingSequence=[value_map], **window))
    np.testing.assert_array_equal(alone.array[0], pixels * 0.5 + 3)
    assert alone.window == (53, 20)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    both = write(tmp_path / "b.dcm", pixels, RealWorldValueMappingSequence=[value_map], **tags)
    np.testing.assert_array_equal(read_dicom(both).array[0], pixels - 1024)


def test_rgb_by_pixel_and_by_plane(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype("uint8")
    tags = {"Modality": "US", "ImagePositionPatient": None, "WindowCenter": 3, "WindowWidth": 4}
    volume = read_dicom(write(tmp_path / "a.dcm", pixels, **tags))
    assert volume.is_colour
    assert volume.window is None
    np.testing.assert_array_equal(volume.array[0], pixels)
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).tobytes()
    planar = write(tmp_path / "b.dcm", pixels, PlanarConfiguration=1, PixelData=planes, **tags)
    np.testing.assert_array_equal(read_dicom(planar).array[0], pixels)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_dcmtk_+eb+cy+n1.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg_lossy_gdcm.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_the_public_colour_chart_looks_the_same_in_every_encoding(name):
    """100 x 100: stripes of ten rows; the first five are red, light red, green, light green, blue."""
    volume = read_dicom(Path(get_testdata_file(name, download=False)))
    assert volume.array.dtype == np.uint8
    colours = volume.array[0, 5:50:10, 50].astype(int)
    expected = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255)]
    assert np.abs(colours - expected).max() <= 8


def test_palette_colours_are_looked_up():
    path = Path(get_testdata_file("examples_palette.dcm", download=False))
    ds = pydicom.dcmread(path)
    tables = [
        np.frombuffer(ds[f"{colour}PaletteColorLookupTableData"].value, "<u2") for colour in ("Red", "Green", "Blue")
    ]
    expected = np.stack([table[ds.pixel_array] >> 8 for table in tables], axis=-1)
    np.testing.assert_array_equal(read_dicom(path).array[0], expected)


@pytest.mark.parametrize(("bits", "scale"), [(16, 257), (16, 256), (16, 1), (8, 1)])
def test_palettes_that_hold_8_bits_in_16_are_not_black(tmp_path, bits, scale):
    indices = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    colours = np.array([[0, 0, 0], [255, 10, 0], [20, 30, 200]])
    tags = {}
    for colour, table in zip(("Red", "Green", "Blue"), colours.T, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = (table * scale).astype("<u2").tobytes()
    path = write(tmp_path / "a.dcm", indices, Modality="US", PhotometricInterpretation="PALETTE COLOR", **tags)
    np.testing.assert_array_equal(read_dicom(path).array[0], colours[indices])


def test_ybr_examples_become_rgb():
    path = Path(get_testdata_file("examples_ybr_color.dcm", download=False))
    volume = read_dicom(path)
    assert volume.array.shape == (30, 240, 320, 3)
    # grey ultrasound: neutral but for the coloured overlay
    assert np.median(np.ptp(volume.array[0].astype(int), axis=-1)) <= 2
