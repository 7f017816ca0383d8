"""A series costs the memory of its volume; files that change while they are read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from dicom_files import dataset, message, save, series, slices, write
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from medsam.io.dicom.pixels import read as pixels
from medsam.io.dicom.series import read_dicom


def test_a_file_cut_after_its_header_was_read(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(3, 64, 64), SliceThickness=2)
    real = pixels.read_frames

    def cut(frames, source):
        path = frames[1].header.source.path
        path.write_bytes(path.read_bytes()[:-100])
        return real(frames, source)

    monkeypatch.setattr("medsam.io.dicom.series.read_frames", cut)
    assert "is truncated: 1 x 64 x 64 pixels need 8192 bytes, but (7FE0,0010) Pixel Data has 8092" in message(folder)


def test_a_file_gone_after_its_header_was_read(tmp_path, monkeypatch):
    folder = series(tmp_path / "ct", slices(3))
    real = pixels.read_frames

    def remove(frames, source):
        frames[1].header.source.path.unlink()
        return real(frames, source)

    monkeypatch.setattr("medsam.io.dicom.series.read_frames", remove)
    assert "the pixel data cannot be decoded" in message(folder)


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
