"""Folders that change: what is a case, what waits, what is not followed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import dicom_files
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medsam.errors import InputError
from medsam.server.cases.folder import Folder
from medsam.server.cases.found import FoundCase, ScanFiles
from medsam.server.cases.scans import read_scan


def looked(folder: Folder) -> dict[str, FoundCase]:
    """What is new or changed, by name."""
    return {case.name: case for delta in folder.look() for case in delta.found}


@pytest.fixture
def clock():
    """A folder's clock; files of the test are an hour old."""
    return Clock()


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def aged(self, root: Path, seconds: float = 3600.0) -> None:
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.utime(path, (self.now - seconds,) * 2)


def nifti(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def test_scans_of_every_kind_are_cases_and_labels_are_none(tmp_path, clock):
    scan = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nifti(tmp_path / "imagesTr/a.nii.gz", scan)
    nifti(tmp_path / "labelsTr/a.nii.gz", (scan > 9).astype(np.uint8))
    nifti(tmp_path / "perfusion.nii", np.stack([scan, scan], axis=-1))
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(tmp_path / "x-ray.png")
    np.savez(tmp_path / "box.npz", imgs=np.zeros((2, 8, 8), np.uint8), gts=np.zeros((2, 8, 8), np.uint8))
    np.savez(tmp_path / "numbers.npz", table=np.zeros(3))
    dicom_files.series(tmp_path / "ct", dicom_files.slices(4))
    dicom_files.series(tmp_path / "mr", dicom_files.slices(3), SeriesInstanceUID="1.2.3.8", Modality="MR")
    (tmp_path / "ct/notes.txt").write_text("no scan")
    clock.aged(tmp_path)
    found = looked(Folder(tmp_path, clock=clock))
    assert {name: (case.kind, case.modality, case.shape) for name, case in found.items()} == {
        "a.nii.gz": ("nifti", None, (5, 4, 3)),
        "perfusion.nii, volume 1 of 2": ("nifti", None, (5, 4, 3)),
        "perfusion.nii, volume 2 of 2": ("nifti", None, (5, 4, 3)),
        "x-ray.png": ("picture", None, (1, 6, 7)),
        "box.npz": ("npz", None, None),
        "CT series 7, 4 images": ("dicom", "CT", (4, 4, 5)),
        "MR series 7, 3 images": ("dicom", "MR", (3, 4, 5)),
    }
    assert not any("DOE" in repr(case) or "MRN-4711" in repr(case) for case in found.values())
    assert FoundCase.from_dict(found["CT series 7, 4 images"].to_dict()) == found["CT series 7, 4 images"]
    scans = {name: read_scan(ScanFiles(tmp_path, case)).array for name, case in found.items()}
    assert np.array_equal(scans["a.nii.gz"], scan.transpose(2, 1, 0))
    assert scans["MR series 7, 3 images"].shape == (3, 4, 5)


def test_nothing_is_said_twice_and_changes_are(tmp_path, clock):
    path = nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    nifti(tmp_path / "b.nii", np.zeros((3, 4, 5), np.int16))
    clock.aged(tmp_path)
    folder = Folder(tmp_path, clock=clock)
    first = looked(folder)
    assert looked(folder) == {}
    nifti(path, np.zeros((3, 4, 9), np.int16))
    clock.aged(tmp_path, 60)
    (tmp_path / "b.nii").unlink()
    (delta,) = folder.look()
    (changed,) = delta.found
    assert (changed.source, changed.shape) == (first["a.nii"].source, (9, 4, 3))
    assert changed.version != first["a.nii"].version
    assert delta.gone == (first["b.nii"].source,)


def test_a_file_that_grows_waits_and_so_does_its_series(tmp_path, clock):
    dicom_files.series(tmp_path / "ct", dicom_files.slices(4))
    nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    clock.aged(tmp_path)
    late = dicom_files.write(tmp_path / "ct/late", dicom_files.slices(1)[0], ImagePositionPatient=[-10, 20, 38])
    os.utime(late, (clock.now - 1,) * 2)
    folder = Folder(tmp_path, clock=clock, settle=4)
    assert [*looked(folder)] == ["a.nii"]
    clock.now += 2
    assert looked(folder) == {}
    clock.now += 3
    assert [*looked(folder)] == ["CT series 7, 5 images"]
    # a clock that is ahead: what does not change for as long is there
    os.utime(tmp_path / "a.nii", (clock.now + 9000,) * 2)
    assert looked(folder) == {}
    clock.now += 5
    assert [*looked(folder)] == ["a.nii"]


def test_what_is_there_stays_when_the_clock_is_put_back(tmp_path, clock):
    nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    clock.aged(tmp_path, 60)
    folder = Folder(tmp_path, clock=clock, settle=4)
    assert [*looked(folder)] == ["a.nii"]
    clock.now -= 3600
    nifti(tmp_path / "b.nii", np.ones((3, 4, 5), np.int16))
    os.utime(tmp_path / "b.nii", (clock.now,) * 2)
    deltas = [*folder.look()]
    assert [delta.gone for delta in deltas if delta.gone] == []
    clock.now -= 3600
    assert looked(folder) == {}
    clock.now += 5
    assert [*looked(folder)] == ["b.nii"]


def test_nothing_outside_is_read_and_nothing_that_is_no_file(tmp_path, clock):
    secret, root = tmp_path / "secret", tmp_path / "data"
    dicom_files.series(secret / "ct", dicom_files.slices(3), SeriesInstanceUID="1.2.3.66")
    nifti(secret / "a.nii", np.zeros((3, 4, 5), np.int16))
    inside = nifti(root / "in.nii", np.zeros((3, 4, 5), np.int16))
    (root / "link.nii").symlink_to(inside)
    (root / "out.nii").symlink_to(secret / "a.nii")
    (root / "folder").symlink_to(secret)
    (root / "up.nii").symlink_to("../secret/a.nii")
    (root / "device.nii").symlink_to("/dev/zero")
    (root / "nowhere.nii").symlink_to("nowhere")
    os.mkfifo(root / "pipe.nii")
    os.mkfifo(root / "pipe")
    (root / "empty.nii").touch()
    nifti(root / ".hidden/h.nii", np.zeros((3, 4, 5), np.int16))
    nifti(root / "store/upload.nii", np.zeros((3, 4, 5), np.int16))
    clock.aged(root)
    clock.aged(secret)
    assert sorted(looked(Folder(root, excluded=(root / "store",), clock=clock))) == ["in.nii", "link.nii"]


def test_a_link_that_leads_away_is_not_read_with_a_series(tmp_path, clock):
    root = tmp_path / "data"
    dicom_files.series(root / "ct", dicom_files.slices(4))
    away = dicom_files.write(tmp_path / "away", dicom_files.slices(1)[0], ImagePositionPatient=[-10, 20, 38])
    (root / "ct/away").symlink_to(away)
    clock.aged(root)
    (case,) = looked(Folder(root, clock=clock)).values()
    assert len(case.files) == 4
    assert read_scan(ScanFiles(root, case)).shape == (4, 4, 5)
    swapped = root / "ct" / case.files[0]
    swapped.unlink()
    swapped.symlink_to(away)
    with pytest.raises(InputError, match="no longer there"):
        read_scan(ScanFiles(root, case))


def test_a_header_does_not_lead_to_other_files(tmp_path, clock):
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "secret").write_bytes(bytes(60))
    for name, voxels in (("up", "../secret"), ("link", "link.raw"), ("own", "own.raw")):
        lines = ["NDims = 3", "DimSize = 5 4 3", "ElementType = MET_UCHAR", f"ElementDataFile = {voxels}"]
        (root / f"{name}.mhd").write_text("\n".join(["ObjectType = Image", *lines]) + "\n")
    (root / "link.raw").symlink_to(tmp_path / "secret")
    (root / "own.raw").write_bytes(bytes(range(60)))
    clock.aged(root)
    found = looked(Folder(root, clock=clock))
    assert read_scan(ScanFiles(root, found["own.mhd"])).array.sum() == sum(range(60))
    for name in ("up.mhd", "link.mhd"):
        with pytest.raises(InputError):
            read_scan(ScanFiles(root, found[name]))


def test_a_copy_elsewhere_does_not_make_everything_a_part_of_the_series(tmp_path, clock):
    first = dicom_files.numbered(tmp_path / "ct", "IM{}.dcm")[0]
    (tmp_path / "copy.dcm").write_bytes(first.read_bytes())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/rand.dcm").write_bytes(bytes(range(200)))
    clock.aged(tmp_path)
    (case,) = looked(Folder(tmp_path, clock=clock)).values()
    assert read_scan(ScanFiles(tmp_path, case)).shape == (6, 4, 5)


def test_what_is_wrong_with_a_series_is_said_without_names_of_its_files(tmp_path, clock):
    files = dicom_files.numbered(tmp_path / "MUELLER_HANS_1960", "MUELLER_{}.dcm")
    files[3].unlink()
    (tmp_path / "MUELLER_HANS_1960/notes").write_text("no DICOM")
    clock.aged(tmp_path)
    (case,) = looked(Folder(tmp_path, clock=clock)).values()
    for one in (case, replace(case, files=tuple(file.name for file in files if file.exists()))):
        with pytest.raises(InputError, match=r"file \d of \d") as caught:
            read_scan(ScanFiles(tmp_path, one))
        assert "MUELLER" not in str(caught.value)
        assert "not a regular volume" in str(caught.value)


def test_a_damaged_slice_is_said_when_the_series_is_opened(tmp_path, clock):
    files = dicom_files.numbered(tmp_path / "ct", "IM{}.dcm")
    files[2].write_bytes(files[2].read_bytes()[:300])
    clock.aged(tmp_path)
    *_, last = Folder(tmp_path, clock=clock).look()
    (case,) = last.found
    with pytest.raises(InputError, match="file 3 of 6") as caught:
        read_scan(ScanFiles(tmp_path, case))
    assert str(tmp_path) not in str(caught.value)
