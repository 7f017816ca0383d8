"""What GDCM decodes, in its process: lossless JPEG, lossy JPEG of 12 bits, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import message, pack, slices, write
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from medsam.io.dicom.series import read_dicom


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


def test_a_damaged_lossy_jpeg_is_not_filled_in(tmp_path, capfd):
    whole = bytearray(Path(get_testdata_file("JPGExtended.dcm", download=False)).read_bytes())
    whole[6000:6004] = b"\x55\xaa\x55\xaa"
    (tmp_path / "a.dcm").write_bytes(whole)
    assert "a.dcm: (7FE0,0010) Pixel Data holds a damaged or truncated JPEG image" in message(tmp_path / "a.dcm")
    assert capfd.readouterr() == ("", "")


def test_modules_in_the_user_s_folder_are_not_taken_for_python_s(tmp_path, monkeypatch):
    pixels = slices(1, 16, 20, "uint16")
    pack(write(tmp_path / "plain.dcm", pixels[0]), tmp_path / "packed.dcm")
    for name in ("json.py", "numpy.py", "medsam.py"):
        (tmp_path / name).write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_dicom(tmp_path / "packed.dcm").array, pixels)
