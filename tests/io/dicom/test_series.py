"""Folders of DICOM: which files are one series, copies, lost slices, several readers at once."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dicom_files import SERIES, enhanced, message, numbered, save, series, slices, write
from pydicom.data import get_testdata_file

from medsam.errors import InconsistentSeries, InputError, SeveralSeries
from medsam.io.dicom.pixels import read as pixels
from medsam.io.dicom.series import list_series, read_dicom
from medsam.io.load import load_volume


def test_a_zip_is_its_folder(tmp_path):
    folder = series(tmp_path / "ct", slices(4), RescaleSlope=1, RescaleIntercept=-1024)
    packed = Path(shutil.make_archive(str(tmp_path / "ct"), "zip", folder))
    np.testing.assert_array_equal(load_volume(packed).array, read_dicom(folder).array)


def test_a_scan_knows_which_image_each_slice_is(tmp_path):
    """By the UID of its file and, in a file of several, the number of the frame."""
    uids = [f"1.2.9.{n}" for n in range(4)]
    scan = read_dicom(series(tmp_path / "ct", slices(4), SOPInstanceUID=uids))
    assert scan.images == tuple((uid, None) for uid in uids)
    path = save(enhanced(slices(3), [(0, 0, 4), (0, 0, 0), (0, 0, 2)], SOPInstanceUID="1.2.9"), tmp_path / "e.dcm")
    assert read_dicom(path).images == (("1.2.9", 2), ("1.2.9", 3), ("1.2.9", 1))


def at_once(*works: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def test_two_scans_are_read_at_the_same_time(tmp_path, monkeypatch):
    folders = [series(tmp_path / name, slices(3)) for name in ("a", "b")]
    both = threading.Barrier(2, timeout=120)
    real = pixels.read_frames

    def meet(frames, source):
        both.wait()  # broken, when one reader waits for the other to end
        return real(frames, source)

    monkeypatch.setattr("medsam.io.dicom.series.read_frames", meet)
    for volume in at_once(*(lambda folder=folder: read_dicom(folder) for folder in folders)):
        np.testing.assert_array_equal(volume.array, slices(3))


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
    assert "`series`" in said
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


def test_a_slice_cut_off_before_its_series_uid_is_no_second_series(tmp_path):
    last = numbered(tmp_path, "im{}.dcm")[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: whole.index(b"\x20\x00\x0e\x00UI")])
    assert "im5.dcm: no pixel data: (7FE0,0010) Pixel Data is missing" in message(tmp_path)
