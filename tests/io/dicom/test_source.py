"""DICOM files open or in memory: the same volume to the bit as from their folder, and errors that say which file."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from dicom_files import SERIES, compressed, dataset, enhanced, pack, save, series, slices, write
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

import medsam
from medsam.errors import InconsistentSeries, InputError, SeveralSeries
from medsam.io.dicom.series import list_series, read_dicom
from medsam.volume import Volume


def contents(folder: Path, seed: int = 0) -> list[bytes]:
    """The files of a folder in any order."""
    files = [path.read_bytes() for path in sorted(folder.iterdir())]
    random.Random(seed).shuffle(files)
    return files


def assert_equal(one: Volume, other: Volume) -> None:
    assert one.array.dtype == other.array.dtype
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_array_equal(one.geometry.affine, other.geometry.affine)
    for field in ("modality", "window", "uids", "units", "notes"):
        assert getattr(one, field) == getattr(other, field), field
    assert (one.no_signal is None) == (other.no_signal is None)
    if one.no_signal is not None:
        np.testing.assert_array_equal(one.no_signal, other.no_signal)


def refusal(files, kind: type[Exception] = InputError, **more) -> str:
    with pytest.raises(kind) as caught:
        read_dicom(files, **more)
    said = str(caught.value)
    assert not any(secret in said for secret in ("DOE", "JANE", "4711", "1950"))
    return said


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.keyword,
)
def test_a_series_in_memory_is_its_folder_to_the_bit(tmp_path, syntax):
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400, "syntax": syntax}
    folder = series(tmp_path / "ct", slices(6, dtype="uint16"), BitsStored=12, PixelPaddingValue=17, **tags)
    expected = read_dicom(folder)
    found = read_dicom([BytesIO(content) for content in contents(folder)])
    assert_equal(found, expected)
    assert (found.source, expected.source) == (None, folder)
    assert_equal(read_dicom(contents(folder, seed=1)), expected)
    assert_equal(read_dicom(iter(contents(folder))), expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_compressed_files_in_memory(tmp_path, syntax):
    for k in range(3):
        ds = compressed(syntax)
        ds.ImagePositionPatient, ds.SOPInstanceUID = [0, 0, k], generate_uid()
        save(ds, tmp_path / "ct" / f"{k}.dcm")
    assert_equal(read_dicom(contents(tmp_path / "ct")), read_dicom(tmp_path / "ct"))


def test_what_another_process_decodes_leaves_no_file_behind(tmp_path, monkeypatch):
    """Lossless JPEG is GDCM's."""
    (tmp_path / "ct").mkdir()
    for k, picture in enumerate(slices(3, 16, 20, "uint16")):
        plain = write(tmp_path / "plain.dcm", picture, ImagePositionPatient=[0, 0, k])
        pack(plain, tmp_path / "ct" / f"{k}.dcm")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert_equal(read_dicom(contents(tmp_path / "ct")), read_dicom(tmp_path / "ct"))
    assert not list((tmp_path / "temporary").iterdir())


def test_a_series_in_memory_costs_its_volume_and_no_copy_of_its_files(tmp_path):
    pixels = slices(32, 256, 256, "uint16")
    files = [BytesIO(content) for content in contents(series(tmp_path / "ct", pixels, BitsStored=12))]
    read_dicom(files[0].getvalue())  # what is made once and kept is no cost of the volume
    tracemalloc.start()
    try:
        volume = read_dicom(files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * volume.array.nbytes


def test_one_object_of_many_frames(tmp_path):
    path = save(enhanced(slices(4), [(0, 0, z) for z in (6, 2, 0, 4)]), tmp_path / "ct.dcm")
    expected = read_dicom(path)
    for one in (path.read_bytes(), BytesIO(path.read_bytes()), [path.read_bytes()]):
        assert_equal(read_dicom(one), expected)


def test_the_public_name_reads_a_real_series(data):
    folder = data / "breast_mr_dicom_seg" / "UCSF-BR-06" / "mr_series"
    assert_equal(medsam.read_dicom(contents(folder)), medsam.load_volume(folder))


def test_open_files_are_read_from_where_they_stand_and_left_open(tmp_path):
    folder = series(tmp_path / "ct", slices(3))
    paths = sorted(folder.iterdir())
    with paths[0].open("rb") as first, paths[1].open("rb") as second:
        part = BytesIO(b"--boundary" + paths[2].read_bytes())
        part.seek(len(b"--boundary"))
        assert_equal(read_dicom([first, second, part]), read_dicom(folder))
        assert not first.closed
        assert not part.closed


def test_paths_and_files_in_memory_mix(tmp_path):
    folder = series(tmp_path / "ct", slices(3))
    first, *others = sorted(folder.iterdir())
    expected = read_dicom(folder)
    assert_equal(read_dicom([first, str(others[0]), others[1].read_bytes()]), expected)
    assert_equal(read_dicom({"a": first, "b": BytesIO(others[0].read_bytes()), "c": others[1].read_bytes()}), expected)


def test_one_series_of_several_is_picked(tmp_path):
    one = contents(series(tmp_path / "a", slices(3)))
    two = contents(series(tmp_path / "b", slices(4), SeriesInstanceUID="1.2.88", Modality="MR", SeriesNumber=9))
    said = refusal(one + two, SeveralSeries)
    assert said.startswith("The set of files holds 2 DICOM series ((0020,000E) Series Instance UID)")
    assert "1.2.88  MR  series 9  4 images  4 x 5" in said
    assert_equal(read_dicom(one + two, series=SERIES), read_dicom(tmp_path / "a"))
    assert "The set of files holds no series 1.2.99" in refusal(one, series="1.2.99")
    assert [(found.uid, found.images) for found in list_series(one + two)] == [(SERIES, 3), ("1.2.88", 4)]


def test_a_file_passed_twice_counts_once(tmp_path):
    files = contents(series(tmp_path / "ct", slices(3)))
    assert read_dicom([*files, files[0]]).array.shape == (3, 4, 5)


def test_objects_that_are_no_scans_are_ignored(tmp_path):
    """A study fetched whole has them beside its images."""
    files = contents(series(tmp_path / "ct", slices(3)))
    report = Path(get_testdata_file("test-SR.dcm", download=False)).read_bytes()
    assert_equal(read_dicom([report, *files]), read_dicom(tmp_path / "ct"))
    said = refusal([report, report])
    assert said.startswith("The set of files holds no DICOM image (2 files looked at: 2 x of the kind ")
    assert "not a scan" in refusal(report)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"<html>404 Not Found</html>" * 20, "file 2 is not a DICOM file."),
        (b"", "file 2 is empty (0 bytes), or was read to its end before."),
        (b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff1.2", "file 2 is a DICOM file, but (0008,0016) SOP Class"),
        (StringIO("text"), "file 2 is open as text; a DICOM file is opened in binary mode ('rb')."),
        (17, "file 2 is int: neither a path, an open file nor bytes."),
        (Path("nowhere.dcm"), "nowhere.dcm cannot be read: No such file or directory."),
    ],
    ids=["a page", "empty", "cut", "text", "a number", "not there"],
)
def test_what_is_no_file_of_a_scan_is_named(tmp_path, wrong, said):
    first, *others = contents(series(tmp_path / "ct", slices(3)))
    assert refusal([first, wrong, *others]).startswith(said)


def test_a_closed_file_is_named():
    closed = BytesIO(b"x")
    closed.close()
    assert refusal([closed]) == "file 1 cannot be read: it is closed."


def test_no_files_at_all():
    assert refusal([]) == refusal({}) == "No DICOM file was passed: the list of files is empty."
    assert "int: neither a path" in refusal(5)


def test_files_bear_the_names_they_are_given(tmp_path):
    pixels = slices(1)[0]
    files = [write(tmp_path / "x", pixels, ImagePositionPatient=[0, 0, z]).read_bytes() for z in (0, 2, 6, 8, 10)]
    assert "4 mm between file 2 and file 3" in refusal(files, InconsistentSeries)
    named = dict(zip(("a", "b", "c", "d", "e"), files, strict=True))
    said = refusal(named, InconsistentSeries)
    assert said.startswith("The set of files is not a regular volume.")
    assert "4 mm between b and c" in said
    assert refusal({**named, "c": b"<html>" * 99}) == "c is not a DICOM file."


def test_a_file_cut_short_is_named(tmp_path):
    files = contents(series(tmp_path / "ct", slices(3, 64, 64)))
    cut = [files[0], files[1], files[2][:-5000]]
    assert "file 3 is truncated: 1 x 64 x 64 pixels need 8192 bytes, but (7FE0,0010) Pixel Data has" in refusal(cut)
    whole = files[2]
    before_its_series = whole[: whole.index(b"\x20\x00\x0e\x00UI")]
    assert "file 3: no pixel data" in refusal([*files[:2], before_its_series])


def test_damaged_pixels_are_named(tmp_path):
    ds = dataset(slices(1, 64, 64)[0])
    ds.compress(JPEG2000Lossless)
    whole = bytearray(save(ds, tmp_path / "a.dcm").read_bytes())
    start = whole.index(b"\xff\x52")
    whole[start : start + 12] = bytes(12)
    assert refusal(bytes(whole)).startswith("file 1: the pixel data cannot be decoded (JPEG 2000")
