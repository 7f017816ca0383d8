"""The picture: what is blackened, and what of its bytes is no picture."""

from __future__ import annotations

import json
import struct
from io import BytesIO

import gdcm  # noqa: F401  (a decoder that the compressed ones need)
import numpy as np
import pydicom
import pytest
from dicom_files import compressed, dataset, pack, slices, write
from markers import MARKER, found_in
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
)

from medsam.errors import InputError
from medsam.io.dicom.deidentify.codestreams import without_comments
from medsam.io.dicom.deidentify.folder import Deidentifier, encoded
from medsam.io.dicom.deidentify.options import Options
from medsam.io.dicom.deidentify.pixels import blacken, read_rules, without_rest

KEY = bytes(range(32))


def again(ds: pydicom.Dataset) -> pydicom.Dataset:
    """As it is when it is read from a file."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(buffer.getvalue()))


def rules(path, *given) -> Options:
    path.write_text(json.dumps({"rules": list(given)}))
    return Options(masks=path)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", ExplicitVRBigEndian])
@pytest.mark.parametrize("frames", [1, 3])
def test_rectangles_are_black_and_the_rest_is_as_it_was(syntax, frames):
    pixels = slices(3, 8, 10, "uint16")[:frames] + 7
    ds = dataset(pixels if frames > 1 else pixels[0], syntax=syntax)
    ds.set_original_encoding(syntax == "1.2.840.10008.1.2", syntax != ExplicitVRBigEndian)
    read = again(ds)
    blacken(read, ((0, 0, 10, 2), (7, 5, 99, 99)))
    expected = pixels.copy()
    expected[:, :2], expected[:, 5:, 7:] = pixels.min(), pixels.min()
    assert np.array_equal(read.pixel_array.reshape(expected.shape), expected)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_in_either_order(planar):
    pixels = np.random.default_rng(0).integers(1, 255, (8, 10, 3)).astype(np.uint8)
    ds = dataset(pixels, PlanarConfiguration=planar)
    ds.PixelData = (pixels.transpose(2, 0, 1) if planar else pixels).tobytes()
    read = again(ds)
    blacken(read, ((2, 3, 5, 8),))
    expected = pixels.copy()
    expected[3:8, 2:5] = 0
    assert np.array_equal(read.pixel_array, expected)


@pytest.mark.parametrize(
    ("photometric", "dtype", "black"), [("MONOCHROME1", "uint16", np.max), ("MONOCHROME2", "int16", np.min)]
)
def test_black_is_what_the_image_shows_darkest(photometric, dtype, black):
    pixels = (slices(1, 4, 4)[0].astype(int) - 300).clip(0 if dtype == "uint16" else -2048).astype(dtype)
    read = again(dataset(pixels, PhotometricInterpretation=photometric, BitsStored=12))
    blacken(read, ((0, 0, 1, 1),))
    assert read.pixel_array[0, 0] == black(pixels)
    assert np.array_equal(read.pixel_array.ravel()[1:], pixels.ravel()[1:])


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_what_was_compressed_without_loss_is_so_again(syntax):
    ds = compressed(syntax)
    before = ds.pixel_array.copy()
    read = again(ds)
    blacken(read, ((0, 0, 40, 9),))
    after = again(read)
    assert after.file_meta.TransferSyntaxUID == syntax
    before[:9] = before.min()
    assert np.array_equal(after.pixel_array, before)


def test_an_ultrasound_is_copied_when_a_rule_says_what_to_blacken(tmp_path):
    us = {"SOPClassUID": UltrasoundImageStorage, "Modality": "US", "Manufacturer": "ACME", "BurnedInAnnotation": "YES"}
    pixels = np.full((20, 30, 3), 200, np.uint8)
    with pytest.raises(InputError, match="burned in"):
        Deidentifier(Options(), KEY).clean(again(dataset(pixels, **us)))
    fits = {"modality": "us", "manufacturer": "Acme", "rows": 20, "columns": 30, "rectangles": [[0, 0, 30, 5]]}
    other = {"modality": "US", "rows": 21, "rectangles": [[0, 0, 30, 20]]}
    found = Deidentifier(rules(tmp_path / "r.json", other, fits), KEY).clean(again(dataset(pixels, **us))).dataset
    written = pydicom.dcmread(BytesIO(encoded(found)))
    assert written.pixel_array[:5].max() == 0
    assert written.pixel_array[5:].min() == 200
    assert written.BurnedInAnnotation == "NO"
    assert [item.CodeValue for item in written.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    with pytest.raises(InputError, match="burned in"):
        Deidentifier(rules(tmp_path / "r.json", other), KEY).clean(again(dataset(pixels, **us)))


@pytest.mark.parametrize(
    "given",
    [
        {"rectangles": [[0, 0, 1, 1]]},
        {"modality": "US"},
        {"modality": "US", "rectangles": [[3, 0, 1, 1]]},
        {"modality": "US", "rectangles": [[0, 0, 1.5, 1]]},
        {"modality": "US", "rectangles": [], "colour": 1},
    ],
)
def test_rules_that_say_nothing_clear_are_refused(tmp_path, given):
    with pytest.raises(InputError, match="rule 1"):
        read_rules(rules(tmp_path / "r.json", given).masks)


def test_bits_beside_the_pixels_go_and_signs_and_padding_stay():
    pixels = np.array([[5, 9], [100, 4095]], np.uint16)
    read = again(dataset(pixels | 0x8000, BitsStored=12))
    assert without_rest(read) == ["bits beside the pixels, as overlays are"]
    assert np.array_equal(np.frombuffer(read.PixelData, "<u2").reshape(2, 2), pixels)
    signed = np.array([[-5, 9], [-2000, 2047]], np.int16)
    assert without_rest(again(dataset(signed, BitsStored=12))) == []
    padded = np.array([[63536, 9], [1, 2]], np.uint16)
    assert without_rest(again(dataset(padded, BitsStored=12, PixelPaddingValue=63536))) == []


def test_overlays_among_compressed_pixels_are_refused():
    ds = compressed(RLELossless)
    ds.add_new(0x60000102, "US", 15)
    with pytest.raises(InputError, match="overlays"):
        Deidentifier(Options(), KEY).clean(again(ds))


def jpeg(comment: bytes = b"", application: bytes = b"") -> bytes:
    """A frame of JPEG with segments of our own behind its start."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(slices(1, 16, 16, "uint8", 255)[0]).save(buffer, "JPEG")
    data = buffer.getvalue()
    extra = b""
    for marker, held in ((b"\xff\xfe", comment), (b"\xff\xe1", application)):
        if held:
            extra += marker + (len(held) + 2).to_bytes(2, "big") + held
    return data[:2] + extra + data[2:]


def test_comments_of_jpeg_go_and_the_picture_stays():
    frame = jpeg(f"by {MARKER}".encode(), b"Exif\0\0" + MARKER.encode()) + MARKER.encode()
    made = without_comments(encapsulate([frame, jpeg()]), JPEGBaseline8Bit, 2)
    assert made is not None
    cleaned, held = made
    assert held
    assert found_in(cleaned) == []
    first, second = generate_frames(cleaned, number_of_frames=2)
    from PIL import Image

    expected = np.asarray(Image.open(BytesIO(jpeg())))
    assert np.array_equal(np.asarray(Image.open(BytesIO(first))), expected)
    assert np.array_equal(np.asarray(Image.open(BytesIO(second))), expected)
    # pictures alone are passed on as they are
    assert without_comments(encapsulate([second]), JPEGBaseline8Bit, 1) is None


def test_comments_of_jpeg_2000_go_and_the_picture_stays():
    ds = compressed(JPEG2000Lossless)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    held = f"xx{MARKER}".encode()
    # behind SIZ, which follows the start
    place = 4 + int.from_bytes(frame[4:6], "big")
    marked = frame[:place] + b"\xff\x64" + (len(held) + 2).to_bytes(2, "big") + held + frame[place:]
    before = ds.pixel_array.copy()
    ds.PixelData = encapsulate([marked])
    read = again(ds)
    assert without_rest(read) == ["comments in compressed frames"]
    assert found_in(read.PixelData) == []
    assert np.array_equal(read.pixel_array, before)


def test_lossless_jpeg_of_other_encoders_is_taken_apart_too(tmp_path):
    plain = write(tmp_path / "a.dcm", slices(1, 40, 40, "uint16")[0])
    read = pydicom.dcmread(pack(plain, tmp_path / "b.dcm"))
    assert without_rest(read) == []


def rle(ds: pydicom.Dataset, pixels: bytes) -> pydicom.Dataset:
    ds.PixelData = pixels
    ds["PixelData"].VR = "OB"
    return again(ds)


def test_what_lies_beside_run_lengths_goes_and_the_picture_stays():
    ds = compressed(RLELossless)
    before = ds.pixel_array.copy()
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    count, start, *others = struct.unpack_from("<16L", frame)
    moved = [offset and offset + 40 for offset in (start, *others)]
    gap = (MARKER * 4).encode()[:40]
    held = struct.pack("<16L", count, *moved) + gap + frame[64:] + (MARKER * 2).encode()
    read = rle(ds, encapsulate([held]))
    assert without_rest(read) == ["comments in compressed frames"]
    assert found_in(read.PixelData) == []
    assert np.array_equal(read.pixel_array, before)
    # what is clean is passed on as it is
    clean = read.PixelData
    assert without_rest(read) == []
    assert read.PixelData == clean


def test_tables_of_offsets_are_made_anew_and_frames_too_many_are_refused(tmp_path):
    ds = compressed(RLELossless)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.ExtendedOffsetTable = ds.ExtendedOffsetTableLengths = (MARKER * 8).encode()[: 8 * len(MARKER)]
    cleaned = Deidentifier(Options(), KEY).clean(rle(ds, encapsulate([frame])))
    assert found_in(encoded(cleaned.dataset)) == []
    with pytest.raises(InputError, match="taken apart"):
        without_rest(rle(compressed(RLELossless), encapsulate([frame, MARKER.encode()])))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, RLELossless])
def test_streams_that_are_none_are_refused(syntax):
    with pytest.raises(InputError, match="taken apart"):
        without_comments(encapsulate([b"no picture at all"]), syntax, 1)
