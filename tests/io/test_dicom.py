"""DICOM in: values, geometry and order of slices against known answers, GDCM and highdicom; clear errors."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import (
    AXIAL,
    CORONAL,
    FRAME,
    PATIENT,
    SAGITTAL,
    SERIES,
    STUDY,
    dataset,
    pack,
    save,
    series,
    slices,
    write,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medsam.errors import InconsistentSeries, InputError, MedSAMError, SeveralSeries
from medsam.io import dicom_file, dicom_pixels
from medsam.io.dicom import is_dicom, list_series, read_dicom
from medsam.io.dicom_tree import list_tree
from medsam.io.load import load_volume
from medsam.volume import Volume


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


def message(path: Path, kind: type[MedSAMError] = InputError, series: str | None = None) -> str:
    """What the user reads; it never says who the patient is."""
    with pytest.raises(kind) as caught:
        read_dicom(path, series)
    said = str(caught.value)
    assert not any(secret in said for secret in ("DOE", "JANE", "4711", "1950"))
    return said


# -- geometry and order -------------------------------------------------------------------------------------


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


# -- values -------------------------------------------------------------------------------------------------


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


# -- encodings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.keyword,
)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_uncompressed_encodings(tmp_path, syntax, dtype):
    pixels = slices(3, rows=3, columns=3, dtype=dtype, top=100)
    np.testing.assert_array_equal(read_dicom(series(tmp_path / "ct", pixels, syntax=syntax)).array, pixels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 8), ("uint16", 12), ("int16", 16)])
def test_lossless_compression_changes_nothing(tmp_path, syntax, dtype, bits):
    pixels = np.random.default_rng(0).integers(0, 120, (3, 64, 40)).astype(dtype)
    if dtype == "int16":
        pixels -= 60
    for k in range(3):
        ds = dataset(pixels[k], BitsStored=bits, HighBit=bits - 1, ImagePositionPatient=[0, 0, k])
        ds.compress(syntax)
        save(ds, tmp_path / "ct" / f"{k}.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path / "ct").array, pixels)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("fragments", [1, 2])
def test_frames_and_fragments_of_compressed_clips(tmp_path, frames, fragments):
    pixels = np.random.default_rng(0).integers(0, 255, (frames, 64, 40)).astype("uint8")
    encoded = []
    for frame in pixels:
        ds = dataset(frame)
        ds.compress(JPEG2000Lossless)
        encoded.append(next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)))
    tags = {"ImagePositionPatient": None, "NumberOfFrames": frames, "Modality": "US"}
    ds = dataset(pixels, syntax=JPEG2000Lossless, **tags)
    ds.PixelData = encapsulate(encoded, fragments_per_frame=fragments, has_bot=fragments > 1)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(read_dicom(save(ds, tmp_path / "clip.dcm")).array, pixels)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 8), ("uint16", 12), ("int16", 16)])
def test_lossless_jpeg(tmp_path, syntax, dtype, bits):
    pixels = np.random.default_rng(0).integers(0, 120, (16, 20)).astype(dtype)
    if dtype == "int16":
        pixels -= 60
    plain = write(tmp_path / "plain.dcm", pixels, BitsStored=bits, HighBit=bits - 1)
    pack(plain, tmp_path / "packed.dcm", f"JPEGLosslessProcess14{'_1' if syntax == JPEGLosslessSV1 else ''}")
    assert pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_dicom(tmp_path / "packed.dcm").array[0], pixels)


def test_lossy_twelve_bit_jpeg_reads_as_gdcm_reads_it(capfd):
    path = Path(get_testdata_file("JPGExtended.dcm", download=False))
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    array = read_dicom(path).array
    assert capfd.readouterr() == ("", "")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
        "693_J2KI.dcm",
        "JPEG2000.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "JPEGLSNearLossless_16.dcm",
        "image_dfl.dcm",
        "examples_overlay.dcm",
    ],
)
def test_public_grey_files(name):
    path = Path(get_testdata_file(name, download=False))
    volume = read_dicom(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        expected = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    np.testing.assert_array_equal(np.squeeze(volume.array), expected)


def test_the_same_slice_in_every_encoding_is_the_same_array():
    names = ("", "_RLE", "_bigendian", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_expb")
    arrays = [read_dicom(Path(get_testdata_file(f"MR_small{n}.dcm", download=False))).array for n in names]
    for array in arrays[1:]:
        np.testing.assert_array_equal(array, arrays[0])


# -- uncompressed numbers are read without a decoder --------------------------------------------------------


def by_pydicom(path: Path, monkeypatch) -> np.ndarray:
    """The voxels by way of pydicom's decoder, whatever the file."""
    with monkeypatch.context() as patch:
        patch.setattr(dicom_pixels, "_is_plain", lambda header: False)
        return read_dicom(path).array


def by_itself(path: Path, monkeypatch) -> np.ndarray:
    """The voxels without any decoder."""
    with monkeypatch.context() as patch:
        patch.setattr(dicom_pixels, "get_decoder", lambda syntax: pytest.fail("asked pydicom"))
        return read_dicom(path).array


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32"]),
    unused=st.integers(0, 7),
    syntax=st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]),
    # `dataset` takes a last axis of 3 for colours
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 4, 5, 7])),
    photometric=st.sampled_from(["MONOCHROME2", "MONOCHROME1"]),
    modality=st.sampled_from(["CT", "MR"]),
    scales=st.lists(st.sampled_from([(1, 0), (1, -1024), (2, 5), (0.5, 0.25), (-3, 7)]), min_size=9, max_size=9),
    together=st.booleans(),
    seed=st.integers(0, 99),
)
def test_plain_numbers_are_what_pydicom_makes_of_them(
    tmp_path_factory, dtype, unused, syntax, size, photometric, modality, scales, together, seed
):
    folder, count = tmp_path_factory.mktemp("plain"), size[0]
    kind = np.dtype(dtype)
    # all bits in use, up to Bits Stored
    pixels = np.frombuffer(np.random.default_rng(seed).bytes(kind.itemsize * np.prod(size)), kind).reshape(size)
    pixels = pixels >> unused
    stored = 8 * kind.itemsize - unused
    tags = {
        "syntax": syntax,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "Modality": modality,
        "PhotometricInterpretation": photometric,
    }
    if together:
        nowhere = {"ImagePositionPatient": None, "PixelSpacing": None}
        scale = {"RescaleSlope": scales[0][0], "RescaleIntercept": scales[0][1]}
        write(folder / "clip.dcm", pixels, **tags, **scale, **nowhere)
    else:
        slopes, intercepts = (list(numbers) for numbers in zip(*scales[:count], strict=True))
        series(folder, pixels, **tags, RescaleSlope=slopes, RescaleIntercept=intercepts)
    path = folder / "clip.dcm" if together else folder
    with pytest.MonkeyPatch.context() as patch:
        expected = by_pydicom(path, patch)
        # bytes in the words of a big-endian file are pydicom's business
        pairs = syntax == ExplicitVRBigEndian and kind.itemsize == 1
        found = read_dicom(path).array if pairs else by_itself(path, patch)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_padded.dcm"]
)
def test_public_files_need_no_decoder(name, monkeypatch):
    path = Path(get_testdata_file(name, download=False))
    found = by_itself(path, monkeypatch)
    expected = by_pydicom(path, monkeypatch)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("folder", ["lung_ct_dicom_rtstruct/ct_series", "breast_mr_dicom_seg/UCSF-BR-06/mr_series"])
def test_real_series_need_no_decoder(data, folder, monkeypatch):
    np.testing.assert_array_equal(by_itself(data / folder, monkeypatch), by_pydicom(data / folder, monkeypatch))


def test_what_is_not_plain_is_left_to_pydicom(tmp_path, monkeypatch):
    table = Dataset()
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [4, 10, 8], b"\1\2\3\4", "US"
    palette = Path(get_testdata_file("examples_palette.dcm", download=False))
    asked = []
    real = dicom_pixels.get_decoder
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda syntax: asked.append(syntax) or real(syntax))
    deflated = write(tmp_path / "deflated", slices(1)[0], syntax=DeflatedExplicitVRLittleEndian)
    colour = {"ImagePositionPatient": None, "Modality": "US"}
    rgb = write(tmp_path / "rgb", slices(3, 4, 3, "uint8", 255)[0][..., None].repeat(3, -1), **colour)
    packed = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": bytes(8)}
    bits = write(tmp_path / "bits", np.zeros((8, 8), "uint8"), **packed)
    for path in (deflated, rgb, bits, palette):
        asked.clear()
        read_dicom(path)
        assert asked, path.name


def test_bytes_in_the_words_of_a_big_endian_file_are_swapped(tmp_path, monkeypatch):
    pixels = slices(1, 4, 6, "uint8", 255)[0]
    ds = dataset(pixels, syntax=ExplicitVRBigEndian, PixelData=pixels.reshape(-1, 2)[:, ::-1].tobytes())
    ds["PixelData"].VR = "OW"
    path = save(ds, tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_dicom(path).array[0], pixels)
    np.testing.assert_array_equal(by_pydicom(path, monkeypatch)[0], pixels)


def test_a_zip_is_its_folder(tmp_path):
    folder = series(tmp_path / "ct", slices(4), RescaleSlope=1, RescaleIntercept=-1024)
    packed = Path(shutil.make_archive(str(tmp_path / "ct"), "zip", folder))
    np.testing.assert_array_equal(load_volume(packed).array, read_dicom(folder).array)


def test_a_file_cut_after_its_header_was_read(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(3, 64, 64), SliceThickness=2)
    real = dicom_pixels.read_frames

    def cut(frames, source):
        path = frames[1].header.path
        path.write_bytes(path.read_bytes()[:-100])
        return real(frames, source)

    monkeypatch.setattr("medsam.io.dicom.read_frames", cut)
    assert "is truncated: 1 x 64 x 64 pixels need 8192 bytes, but (7FE0,0010) Pixel Data has 8092" in message(folder)


def test_a_file_gone_after_its_header_was_read(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(3))
    real = dicom_pixels.read_frames

    def remove(frames, source):
        frames[1].header.path.unlink()
        return real(frames, source)

    monkeypatch.setattr("medsam.io.dicom.read_frames", remove)
    assert "the pixel data cannot be decoded" in message(folder)


# -- cost ---------------------------------------------------------------------------------------------------


def peak_of(path: Path) -> tuple[int, int]:
    """Bytes a reader had in use at most, and the bytes of its volume."""
    read_dicom(path)  # what is made once and kept is no cost of the volume
    tracemalloc.start()
    try:
        volume = read_dicom(path)
        return tracemalloc.get_traced_memory()[1], volume.array.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("bits", "expected"), [(12, "int16"), (16, "int32")])
def test_a_series_costs_its_volume_and_no_copy(tmp_path, bits, expected):
    pixels = slices(32, 256, 256, "uint16")
    folder = series(tmp_path / "ct", pixels, RescaleSlope=1, RescaleIntercept=-1024, BitsStored=bits)
    assert read_dicom(folder).array.dtype == expected
    peak, volume = peak_of(folder)
    assert peak < 1.5 * volume


def test_a_clip_costs_its_volume_and_no_copy(tmp_path):
    tags = {"ImagePositionPatient": None, "PixelSpacing": None, "Modality": "US"}
    peak, volume = peak_of(write(tmp_path / "clip.dcm", slices(32, 256, 256, "uint8", 255), **tags))
    assert peak < 1.5 * volume


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_a_compressed_series_costs_less_than_two_and_a_half_volumes(tmp_path, syntax):
    pixels = slices(1, 512, 512, "uint16", 4096)[0] // 1000
    ds = dataset(pixels, BitsStored=12, HighBit=11)
    ds.compress(syntax)
    for k in range(8):
        ds.ImagePositionPatient, ds.SOPInstanceUID = [0, 0, k], generate_uid()
        save(ds, tmp_path / "ct" / f"{k}.dcm")
    peak, volume = peak_of(tmp_path / "ct")
    assert peak < 2.5 * volume


def test_each_header_is_parsed_once(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(4))
    (folder / "notes.txt").write_text("no scan")
    parsed = []
    real = dicom_file._parse
    monkeypatch.setattr(dicom_file, "_parse", lambda file, path, name: parsed.append(path) or real(file, path, name))
    read_dicom(folder)
    assert len(parsed) == len(set(parsed)) == 4


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("length", [1000, 65000, 65300, 2**16, 10**6])
def test_a_header_of_any_length_is_read(tmp_path, syntax, length):
    pixels = slices(1)[0]
    ds = dataset(pixels, syntax=syntax, RescaleSlope=1, RescaleIntercept=-7)
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "OB", bytes(length))
    # behind it, what places the slice; also the first bytes may end in the middle of it
    np.testing.assert_array_equal(read_dicom(save(ds, tmp_path / "a.dcm")).array[0], pixels - 7)


# -- several readers at once --------------------------------------------------------------------------------


def at_once(*works: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def test_two_scans_are_read_at_the_same_time(tmp_path, monkeypatch):
    folders = [series(tmp_path / name, slices(3)) for name in ("a", "b")]
    both = threading.Barrier(2, timeout=120)
    real = dicom_pixels.read_frames

    def meet(frames, source):
        both.wait()  # broken, when one reader waits for the other to end
        return real(frames, source)

    monkeypatch.setattr("medsam.io.dicom.read_frames", meet)
    for volume in at_once(*(lambda folder=folder: read_dicom(folder) for folder in folders)):
        np.testing.assert_array_equal(volume.array, slices(3))


# -- colour -------------------------------------------------------------------------------------------------


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


# -- images without a place in space ------------------------------------------------------------------------


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


# -- enhanced multi-frame -----------------------------------------------------------------------------------


def enhanced(pixels: np.ndarray, positions: list, slopes: list | None = None, **tags) -> FileDataset:
    """Frames in the order given; rescale per frame when `slopes`, else 1 and -1024 for all."""

    def item(**values) -> Dataset:
        found = Dataset()
        for keyword, value in values.items():
            setattr(found, keyword, value)
        return found

    def transformation(slope: float, intercept: float) -> Dataset:
        return item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")

    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    ds = dataset(pixels, SOPClassUID=EnhancedCTImageStorage, **(nowhere | tags))
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=9, SpacingBetweenSlices=2)],
        FrameVOILUTSequence=[item(WindowCenter=50, WindowWidth=350)],
    )
    if slopes is None:
        shared.PixelValueTransformationSequence = [transformation(1, -1024)]
    ds.SharedFunctionalGroupsSequence = [shared]
    each = []
    for n, position in enumerate(positions):
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=list(position))],
            FrameContentSequence=[item(TemporalPositionIndex=1 + n % 2, DimensionIndexValues=[n + 1])],
        )
        if slopes is not None:
            group.PixelValueTransformationSequence = [transformation(slopes[n], 0)]
        each.append(group)
    ds.PerFrameFunctionalGroupsSequence = each
    organisation = generate_uid()
    ds.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organisation)]
    ds.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=0x00200032,
            FunctionalGroupPointer=0x00209113,
        )
    ]
    return ds


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


# -- folders ------------------------------------------------------------------------------------------------


def test_other_objects_and_files_beside_the_images_are_passed_over(tmp_path):
    folder = series(tmp_path / "study" / "a" / "b", slices(3)).parents[1]
    seg = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG", "SeriesInstanceUID": "1.9"}
    write(folder / "seg.dcm", slices(1)[0], **seg)
    for name in ("rtstruct.dcm", "test-SR.dcm", "rtplan.dcm", "rtdose_1frame.dcm"):
        (folder / name).write_bytes(Path(get_testdata_file(name, download=False)).read_bytes())
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM junk")
    (folder / ".hidden.dcm").write_bytes(b"\0" * 128 + b"DICM junk")
    (folder / "notes.txt").write_text("no scan")
    (folder / "empty").touch()
    assert read_dicom(folder).array.shape == (3, 4, 5)


def test_two_series_are_listed_and_one_is_picked(tmp_path):
    series(tmp_path / "study", slices(3), SeriesInstanceUID="1.2.77", SeriesNumber=2)
    series(tmp_path / "study" / "more", slices(4, rows=6), SeriesInstanceUID="1.2.88", Modality="MR")
    said = message(tmp_path / "study", SeveralSeries)
    assert "holds 2 DICOM series ((0020,000E) Series Instance UID)" in said
    assert "1.2.77  CT  series 2  3 images  4 x 5" in said
    assert "1.2.88  MR  series 7  4 images  6 x 5" in said
    assert "--series" in said
    assert read_dicom(tmp_path / "study", "1.2.88").array.shape == (4, 6, 5)
    unknown = message(tmp_path / "study", series="1.2.99")
    assert "no series 1.2.99" in unknown
    assert "1.2.77" in unknown


def test_listing_series(tmp_path):
    series(tmp_path / "study", slices(3), SeriesInstanceUID="1.2.77", SeriesNumber=2)
    write(tmp_path / "study" / "clip", slices(9), SeriesInstanceUID="1.2.88", SeriesNumber=1, Modality="US")
    clip, ct = list_series(tmp_path / "study")
    assert (clip.uid, clip.modality, clip.number, clip.files, clip.images) == ("1.2.88", "US", 1, 1, 9)
    assert (ct.uid, ct.files, ct.images, ct.rows, ct.columns) == ("1.2.77", 3, 3, 4, 5)
    assert list_series(tmp_path / "study" / "clip") == [clip]


def test_a_file_copied_twice_counts_once(tmp_path):
    folder = series(tmp_path / "ct", slices(3))
    first = sorted(folder.iterdir())[0]
    (folder / "copy").write_bytes(first.read_bytes())
    assert read_dicom(folder).array.shape == (3, 4, 5)


def test_two_radiographs_that_share_a_uid_are_not_one(tmp_path):
    for n in (1, 2):
        write(tmp_path / f"{n}", slices(1)[0], SOPInstanceUID="1.2.3", InstanceNumber=n, ImagePositionPatient=None)
    assert "2 of 2 images" in message(tmp_path, InconsistentSeries)


def test_equal_uids_at_unequal_places_are_no_copies(tmp_path):
    assert read_dicom(series(tmp_path / "ct", slices(3), SOPInstanceUID="1.2.3.4")).array.shape[0] == 3


def test_each_file_is_opened_at_most_twice(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(4))
    opened: list[Path] = []
    real = Path.open

    def spy(self, *args, **kwargs):
        opened.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spy)
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail("opened behind our back"))
    read_dicom(folder)
    assert len(opened) == 8
    assert len(set(opened)) == 4


def test_what_is_dicom(tmp_path):
    assert is_dicom(write(tmp_path / "a", slices(1)[0]))
    for name in ("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm"):
        assert is_dicom(Path(get_testdata_file(name, download=False)))
    (tmp_path / "text").write_text("DICM is not enough, and neither is a file of more than 132 bytes. " * 5)
    (tmp_path / "short").write_bytes(b"\x08\x00\x16\x00")
    (tmp_path / "raw").write_bytes(b"\x08\x00" * 500)
    assert not any(is_dicom(tmp_path / name) for name in ("text", "short", "raw", "missing", "."))


# -- what can be wrong --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({"PixelData": None}, "a.dcm: no pixel data: (7FE0,0010) Pixel Data is missing"),
        ({"PixelData": b"\0" * 10}, "a.dcm is truncated: 1 x 4 x 5 pixels need 40 bytes, but (7FE0,0010)"),
        ({"Rows": None}, "a.dcm: (0028,0010) Rows is missing"),
        ({"Columns": 0}, "a.dcm: (0028,0011) Columns is 0"),
        ({"BitsStored": 17}, "a.dcm: (0028,0101) Bits Stored is 17; expected 1 to 16"),
        ({"BitsAllocated": 12}, "(0028,0100) Bits Allocated is 12"),
        ({"SamplesPerPixel": 3}, "(0028,0002) Samples per Pixel is 3"),
        ({"PhotometricInterpretation": "CMYK"}, "(0028,0004) Photometric Interpretation is not supported"),
        ({"RescaleSlope": 0}, "(0028,1053) Rescale Slope 0"),
        ({"RescaleSlope": 1e30}, "(0028,1053) Rescale Slope 1e+30"),
        ({"RescaleIntercept": "inf"}, "(0028,1052) Rescale Intercept must hold finite numbers"),
        ({"PixelSpacing": [0, 0.5]}, "(0028,0030) Pixel Spacing is 0 x 0.5 mm"),
        ({"PixelSpacing": [0.5]}, "(0028,0030) Pixel Spacing must hold 2 finite numbers"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "(0020,0037) Image Orientation (Patient) is not two"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "(0020,0037) Image Orientation (Patient) is not two"),
        ({"ImagePositionPatient": [0, 0, "nan"]}, "(0020,0032) Image Position (Patient) must hold 3 finite"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Rows": None, "Columns": None, "PixelData": None},
         "a.dcm is of the kind Basic Text SR Storage"),
    ],
)  # fmt: skip
def test_broken_headers_say_tag_name_and_file(tmp_path, tags, named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(tmp_path / "a.dcm", slices(1)[0], **tags)
    assert named in message(path)


def test_a_file_cut_short(tmp_path):
    path = write(tmp_path / "a.dcm", slices(1, 64, 64)[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5000])
    assert "a.dcm is truncated: 1 x 64 x 64 pixels need 8192 bytes, but (7FE0,0010) Pixel Data has 3192" in message(
        path
    )
    path.write_bytes(whole[:400])
    assert "a.dcm" in message(path)


def test_a_compressed_file_cut_short(tmp_path):
    ds = dataset(slices(1, 64, 64)[0])
    ds.compress(JPEG2000Lossless)
    path = save(ds, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-3000])
    assert "a.dcm is truncated: it ends in the middle of (7FE0,0010) Pixel Data" in message(path)


def test_a_damaged_compressed_image(tmp_path):
    ds = dataset(slices(1, 64, 64)[0])
    ds.compress(JPEG2000Lossless)
    path = save(ds, tmp_path / "a.dcm")
    whole = bytearray(path.read_bytes())
    start = whole.index(b"\xff\x52")  # coding style: the decoder cannot do without
    whole[start : start + 12] = bytes(12)
    path.write_bytes(whole)
    said = message(path)
    assert "a.dcm: the pixel data cannot be decoded (JPEG 2000" in said
    assert "(7FE0,0010) Pixel Data is damaged or truncated" in said


def test_a_damaged_lossy_jpeg_is_not_filled_in(tmp_path, capfd):
    whole = bytearray(Path(get_testdata_file("JPGExtended.dcm", download=False)).read_bytes())
    whole[6000:6004] = b"\x55\xaa\x55\xaa"
    (tmp_path / "a.dcm").write_bytes(whole)
    assert "a.dcm: (7FE0,0010) Pixel Data holds a damaged or truncated JPEG image" in message(tmp_path / "a.dcm")
    assert capfd.readouterr() == ("", "")


def test_video_is_named(tmp_path):
    ds = dataset(slices(1)[0], syntax=MPEG4HP41, PixelData=encapsulate([b"\0" * 100]))
    ds["PixelData"].is_undefined_length = True
    said = message(save(ds, tmp_path / "a.dcm"))
    assert "(0002,0010) Transfer Syntax UID is MPEG-4 AVC/H.264 High Profile / Level 4.1" in said


def test_an_unknown_encoding_is_not_quoted(tmp_path):
    ds = dataset(slices(1)[0], PixelData=encapsulate([b"\0" * 100]))
    ds["PixelData"].is_undefined_length = True
    path = save(ds, tmp_path / "a.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.4711.4711.4711.1"))
    assert "is an unknown encoding" in message(path)


def test_not_dicom_and_nothing_there(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 500)
    assert message(tmp_path / "a.txt") == "a.txt is not a DICOM file."
    assert "holds no DICOM image (1 file looked at)" in message(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "empty/ holds no DICOM image (0 files looked at)" in message(tmp_path / "empty")
    assert "nowhere.dcm cannot be read" in message(tmp_path / "nowhere.dcm")


def test_an_index_is_not_a_scan():
    said = message(Path(get_testdata_file("dicomdirtests/DICOMDIR", download=False)))
    assert "DICOMDIR is a DICOMDIR, an index of other files" in said


def test_a_damaged_file_among_sound_ones_is_named(tmp_path):
    folder = series(tmp_path / "ct", slices(3))
    (folder / "zz.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff1.2")
    assert "zz.dcm is a DICOM file, but (0008,0016) SOP Class UID is missing" in message(folder)


def numbered(folder: Path, name: str, count: int = 6) -> list[Path]:
    """A sound series whose files bear `name` with the place of the slice in it."""
    pixels = slices(count)
    return [
        write(folder / name.format(k), pixels[k], ImagePositionPatient=[0, 0, 2 * k], InstanceNumber=k + 1)
        for k in range(count)
    ]


@pytest.mark.parametrize("name", ["im{}.dcm", "IM{:04d}", "{}.IMA", "A{}.DCM", "1.2.840.77.{}", "0000B{}F7"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: b"", "is empty (0 bytes)"),
        (lambda whole: whole[:120], "is not DICOM although it is named like the others"),
        (lambda whole: random.Random(0).randbytes(len(whole)), "is not DICOM although it is named like the others"),
    ],
    ids=["empty", "cut", "random"],
)
def test_a_lost_end_slice_is_no_shorter_volume(tmp_path, name, damage, said):
    last = numbered(tmp_path / "study" / "ct", name)[-1]
    last.write_bytes(damage(last.read_bytes()))
    expected = f"ct/{last.name} {said}; copy or export it again, or move it out of the folder."
    assert message(tmp_path / "study") == expected
    assert message(tmp_path / "study", series=SERIES) == expected
    with pytest.raises(InputError, match="copy or export it again"):
        list_series(tmp_path / "study")


def test_several_lost_slices_are_counted(tmp_path):
    for path in numbered(tmp_path / "ct", "im{}.dcm")[3:]:
        path.write_bytes(b"")
    said = message(tmp_path / "ct")
    assert said.startswith("im3.dcm is empty (0 bytes)")
    assert said.endswith("The same holds for 2 more files.")


def test_a_link_to_a_lost_slice(tmp_path):
    last = numbered(tmp_path / "ct", "im{}.dcm")[-1]
    last.unlink()
    last.symlink_to(tmp_path / "nowhere")
    (tmp_path / "ct" / "README").symlink_to(tmp_path / "nowhere")
    assert "im5.dcm is a link to a file that is not there" in message(tmp_path / "ct")


def test_only_lost_slices(tmp_path):
    (tmp_path / "a.dcm").touch()
    assert "a.dcm is empty (0 bytes)" in message(tmp_path)
    (tmp_path / "a.dcm").write_text("not found")
    assert "a.dcm is not DICOM although it is named like a DICOM file" in message(tmp_path)


@pytest.mark.parametrize("name", ["im{}.dcm", "IM{:04d}", "{}.IMA"])
def test_other_files_beside_the_images_are_no_lost_slices(tmp_path, name):
    numbered(tmp_path / "ct", name)
    for other in ("README", "readme.txt", "Thumbs.db", "IM0001.jpg", "im1.dcm.txt", "dose report.pdf", "VERSION"):
        (tmp_path / "ct" / other).write_text("no scan")
    (tmp_path / "ct" / "LOCKFILE").touch()
    assert read_dicom(tmp_path / "ct").array.shape[0] == 6


def test_damage_in_another_folder_is_no_concern_of_the_series_asked_for(tmp_path):
    numbered(tmp_path / "study" / "ct", "im{}.dcm")
    series(tmp_path / "study" / "mr", slices(3), SeriesInstanceUID="1.2.88")
    (tmp_path / "study" / "mr" / "im9.dcm").touch()
    assert "mr/im9.dcm is empty" in message(tmp_path / "study")
    assert "mr/im9.dcm is empty" in message(tmp_path / "study", series="1.2.88")
    assert read_dicom(tmp_path / "study", SERIES).array.shape[0] == 6


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("name", ["im{}.dcm", "IM{:04d}"])
def test_wherever_a_slice_is_cut_off_it_is_named(tmp_path, syntax, name):
    pixels = slices(3)
    paths = [
        write(tmp_path / name.format(k), pixels[k], ImagePositionPatient=[0, 0, k], syntax=syntax) for k in range(3)
    ]
    whole = paths[-1].read_bytes()
    for size in range(0, len(whole), 3):
        paths[-1].write_bytes(whole[:size])
        for chosen in (None, SERIES):
            assert message(tmp_path, series=chosen).startswith(paths[-1].name), size


def test_a_slice_cut_off_before_its_series_uid_is_no_second_series(tmp_path):
    last = numbered(tmp_path, "im{}.dcm")[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: whole.index(b"\x20\x00\x0e\x00UI")])
    assert "im5.dcm: no pixel data: (7FE0,0010) Pixel Data is missing" in message(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    locked = numbered(tmp_path / "ct", "IM{:04d}")[-1]
    real = Path.open

    def denied(self, *args, **kwargs):
        if self == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    assert message(tmp_path / "ct") == "IM0005 cannot be read: Permission denied."
    with pytest.raises(InputError, match="^IM0005 cannot be read: Permission denied.$"):
        is_dicom(locked)
    tree = list_tree(tmp_path)
    assert tree.refused == ("IM0005 cannot be read: Permission denied.",)
    assert locked not in tree.series[0].files


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    numbered(tmp_path / "ct" / "a", "IM{:04d}")
    numbered(tmp_path / "ct" / "b", "IM{:04d}")
    real = os.scandir

    def denied(path):
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert message(tmp_path / "ct") == "b cannot be read: Permission denied."
    with pytest.raises(InputError, match="^b cannot be read: Permission denied.$"):
        list_tree(tmp_path / "ct")


def test_a_tree_and_a_folder_agree_on_what_is_a_scan(tmp_path):
    numbered(tmp_path / "ct", "im{}.dcm")
    for n, (uid, modality) in enumerate(
        [
            ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
            ("1.2.840.10008.5.1.4.1.1.4.2", "MR"),
            ("1.2.840.10008.5.1.4.1.1.77.1.6", "SM"),
            (CTImageStorage, "SEG"),
        ]
    ):
        tags = {"SOPClassUID": uid, "Modality": modality, "SeriesInstanceUID": f"1.9.{n}"}
        write(tmp_path / "other" / f"{n}.dcm", slices(1)[0], **tags)
    assert [summary.uid for summary in list_series(tmp_path)] == [SERIES]
    assert [(one.kind, one.uid) for one in list_tree(tmp_path).series] == [("image", SERIES)]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_claimed_sizes_allocate_nothing(tmp_path, syntax):
    ds = dataset(slices(1, 40, 40)[0])
    if syntax != ExplicitVRLittleEndian:
        ds.compress(syntax)
    ds.Rows = ds.Columns = 65535
    path = save(ds, tmp_path / "a.dcm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "a.dcm" in message(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_size_that_differs_inside_the_compressed_image(tmp_path):
    ds = dataset(slices(1, 40, 40)[0])
    ds.compress(JPEG2000Lossless)
    ds.Rows = 80
    said = message(save(ds, tmp_path / "a.dcm"))
    assert "is 80 x 40" in said
    assert "the compressed image in (7FE0,0010) Pixel Data is 40 x 40" in said


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    import zlib

    path = write(tmp_path / "a.dcm", slices(1)[0], syntax=DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    meta_end = 144 + int.from_bytes(whole[140:144], "little")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(b"\0" * 2**24) for _ in range(40)) + deflate.flush()
    path.write_bytes(whole[:meta_end] + bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "made to fill the memory" in message(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: dataset(slices(1, 40, 40)[0]),
        lambda: dataset(slices(1, 40, 40)[0], syntax=DeflatedExplicitVRLittleEndian),
        lambda: enhanced(slices(3, 8, 8), [(0, 0, z) for z in range(3)]),
        *(lambda syntax=syntax: compressed(syntax) for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless)),
    ],
    ids=["plain", "deflated", "enhanced", "rle", "jpegls", "jpeg2000"],
)
def test_whatever_happens_to_its_bytes_a_file_is_read_or_refused(tmp_path, make, capfd):
    whole = save(make(), tmp_path / "a.dcm").read_bytes()
    path, rng, began = tmp_path / "b.dcm", random.Random(0), time.monotonic()
    outcomes: dict[str, int] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3, 20))):
            broken[rng.randrange(132, len(broken))] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.25:
            start = rng.randrange(132, len(broken))
            del broken[start : start + rng.choice((1, 2, 50, len(broken)))]
        path.write_bytes(broken)
        try:
            outcome = type(read_dicom(path)).__name__
        except InputError as error:
            outcome = "a name" if "DOE" in str(error) else "InputError"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert set(outcomes) == {"InputError", Volume.__name__}
    assert time.monotonic() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000
    assert capfd.readouterr() == ("", "")


def compressed(syntax: str) -> FileDataset:
    ds = dataset(slices(1, 40, 40)[0])
    ds.compress(syntax)
    return ds
