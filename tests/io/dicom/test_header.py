"""Broken headers: the error says tag, name and file, never the patient, and nothing is allocated."""

from __future__ import annotations

import resource
import warnings

import pytest
from dicom_files import dataset, message, save, series, slices, write
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless


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


def test_a_damaged_file_among_sound_ones_is_named(tmp_path):
    folder = series(tmp_path / "ct", slices(3))
    (folder / "zz.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff1.2")
    assert "zz.dcm is a DICOM file, but (0008,0016) SOP Class UID is missing" in message(folder)


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
