"""Every encoding to the same numbers; uncompressed ones without a decoder; damage is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import dataset, message, save, series, slices, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medsam.io.dicom.pixels import decoders
from medsam.io.dicom.pixels import read as pixels
from medsam.io.dicom.series import read_dicom


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


def by_pydicom(path: Path, monkeypatch) -> np.ndarray:
    """The voxels by way of pydicom's decoder, whatever the file."""
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "is_plain", lambda header: False)
        return read_dicom(path).array


def by_itself(path: Path, monkeypatch) -> np.ndarray:
    """The voxels without any decoder."""
    with monkeypatch.context() as patch:
        patch.setattr(decoders, "get_decoder", lambda syntax: pytest.fail("asked pydicom"))
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
    real = decoders.get_decoder
    monkeypatch.setattr(decoders, "get_decoder", lambda syntax: asked.append(syntax) or real(syntax))
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


def test_a_size_that_differs_inside_the_compressed_image(tmp_path):
    ds = dataset(slices(1, 40, 40)[0])
    ds.compress(JPEG2000Lossless)
    ds.Rows = 80
    said = message(save(ds, tmp_path / "a.dcm"))
    assert "is 80 x 40" in said
    assert "the compressed image in (7FE0,0010) Pixel Data is 40 x 40" in said
