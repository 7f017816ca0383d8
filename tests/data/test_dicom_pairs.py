"""SEG and RTSTRUCT go with the series they were drawn on, and a later one replaces an earlier one where it says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from hospital import STEP, scan, segments, structures

from medsam.cli.main import main
from medsam.data.check import check_manifest
from medsam.data.index import IndexResult, index_folder
from medsam.data.index_dicom import TreeOptions
from medsam.data.manifest_json import read_manifest, write_manifest

DRAW = {"rtstruct": structures, "seg": segments}
CT, OTHER = "1.2.3.10", "1.2.3.11"


def voxels(found: IndexResult, tmp_path: Path) -> dict[str, dict[str, int]]:
    """Case -> structure -> voxels, of the manifest written and read; what is labelled must pass the check."""
    write_manifest(found.manifest, tmp_path / "m.json", force=True)
    checked = check_manifest(tmp_path / "m.json")
    assert [problem.message for problem in checked.problems if problem.level == "error"] == []
    read = {}
    for case in found.manifest.cases:
        masks = {} if case.label is None else case.load_references(case.load_image())
        read[case.id] = {name: int(mask.sum()) for name, mask in masks.items()}
    return read


def files(found: IndexResult) -> list[list[str]]:
    """The label files of each case."""
    return [sorted({path.name for path in case.label_files}) for case in found.manifest.cases]


# -- which series -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DRAW)
def test_a_label_goes_to_the_series_it_cites_not_to_its_neighbour(tmp_path, kind):
    scan(tmp_path / "near", CT)
    scan(tmp_path / "far/away", OTHER)
    DRAW[kind](tmp_path / "near/label.dcm", "1.9.1", cites=[OTHER])
    found = index_folder(tmp_path)
    assert [case.image.name for case in found.manifest.cases if case.label] == ["away"]
    assert list(found.remarks) == []


@pytest.mark.parametrize("kind", DRAW)
def test_images_are_cited_where_the_series_has_another_uid(tmp_path, kind):
    """As after an export that renumbers series and keeps images."""
    scan(tmp_path / "a", CT)
    scan(tmp_path / "b", OTHER)
    DRAW[kind](tmp_path / "label.dcm", "1.9.1", cites=["1.2.99"], images=[f"{OTHER}.2"])
    assert files(index_folder(tmp_path)) == [[], ["label.dcm"]]


@pytest.mark.parametrize("kind", DRAW)
def test_of_a_pet_ct_a_label_of_the_absent_ct_is_not_read_on_the_pet(tmp_path, kind):
    """Both have one frame of reference; contours between the PET's slices would leave gaps without an error."""
    scan(tmp_path / "pet", CT, Modality="PT", start=0.0)
    DRAW[kind](tmp_path / "label.dcm", "1.9.1", cites=["1.2.99"], z=(0.7, 2.7))
    found = index_folder(tmp_path)
    assert files(found) == [[]]
    assert "cites a series ((0020,000E) Series Instance UID) that is not there" in found.remarks[0]
    assert "lies on the planes of none of 1 series" in found.remarks[0]


@pytest.mark.parametrize("kind", DRAW)
def test_another_export_of_the_scan_is_found_by_the_planes(tmp_path, kind):
    scan(tmp_path / "pet", OTHER, Modality="PT", start=0.7)
    scan(tmp_path / "ct", CT)
    DRAW[kind](tmp_path / "label.dcm", "1.9.1", cites=["1.2.99"], z=(0.0, 2.0))
    found = index_folder(tmp_path)
    assert {case.modality: bool(case.label) for case in found.manifest.cases} == {"PT": False, "CT": True}
    assert "lies on the planes of ct alone" in found.remarks[0]


def test_two_phases_on_the_same_planes_are_not_guessed(tmp_path):
    scan(tmp_path / "x/arterial", CT)
    scan(tmp_path / "x/venous", OTHER)
    structures(tmp_path / "x/label.dcm", "1.9.1")
    found = index_folder(tmp_path)
    assert files(found) == [[], []]
    assert found.remarks[0] == (
        "x/label.dcm (RTSTRUCT) fits no series, or several: it cites no series and lies on the planes of 2; left out"
    )


def test_of_two_phases_the_one_in_the_label_s_folder_is_taken_and_said(tmp_path):
    scan(tmp_path / "arterial/image", CT)
    scan(tmp_path / "venous/image", OTHER)
    structures(tmp_path / "venous/label.dcm", "1.9.1")
    found = index_folder(tmp_path)
    assert files(found) == [[], ["label.dcm"]]
    assert "paired with the one in its folder, venous/image" in found.remarks[0]


@pytest.mark.parametrize("kind", DRAW)
def test_a_label_of_several_series_is_read_on_each_it_fits(tmp_path, kind):
    """T2 and ADC of one grid, and a localizer: cited all."""
    scan(tmp_path / "adc", OTHER, Modality="MR")
    scan(tmp_path / "scout", "1.2.3.12", Modality="MR", start=0.9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    scan(tmp_path / "t2", CT, Modality="MR")
    DRAW[kind](tmp_path / "label.dcm", "1.9.1", cites=[CT, OTHER, "1.2.3.12"], z=(2.0, 4.0))
    found = index_folder(tmp_path)
    assert [case.image.name for case in found.manifest.cases] == ["adc", "t2"]
    assert [len(read) for read in voxels(found, tmp_path).values()] == [1, 1]
    assert "cites 3 series and lies on the planes of 2 of them: each is a case with it (adc, t2)" in found.remarks[0]


@pytest.mark.parametrize("kind", DRAW)
def test_a_label_of_ct_and_pet_is_not_read_on_the_pet_where_the_ct_is_not_there(tmp_path, kind):
    scan(tmp_path / "pet", OTHER, Modality="PT")
    DRAW[kind](tmp_path / "off.dcm", "1.9.1", ["Off"], cites=["1.2.99", OTHER], z=(0.7, 2.7))
    DRAW[kind](tmp_path / "on.dcm", "1.9.2", ["On"], cites=["1.2.99", OTHER], z=(2.0,))
    found = index_folder(tmp_path)
    assert files(found) == [["on.dcm"]]
    assert "cites 2 series, of which 1 is there, and lies on the planes of none; left out" in found.remarks[0]


def test_another_frame_of_reference_is_another_place(tmp_path):
    scan(tmp_path / "ct", CT, FrameOfReferenceUID="1.7.1")
    structures(tmp_path / "label.dcm", "1.9.1", FrameOfReferenceUID="1.7.2")
    found = index_folder(tmp_path)
    assert files(found) == [[]]
    assert "no series of its patient and (0020,0052) Frame of Reference UID is there" in found.remarks[0]


def test_a_frame_of_reference_may_stand_in_the_regions_alone(tmp_path):
    """As some planning systems write it; the scan may even bear another number."""
    scan(tmp_path / "x/a", CT, FrameOfReferenceUID="1.7.1")
    scan(tmp_path / "x/b", OTHER, FrameOfReferenceUID="1.7.2", patient="0815")
    path = structures(tmp_path / "x/label.dcm", "1.9.1", FrameOfReferenceUID="1.7.2")
    found = index_folder(tmp_path)
    assert files(found) == [[], ["label.dcm"]]
    assert "another (0010,0020) Patient ID" in found.remarks[0]
    ds = pydicom.dcmread(path)
    del ds.FrameOfReferenceUID
    ds.save_as(path)
    assert files(index_folder(tmp_path)) == [[], ["label.dcm"]]


def test_the_only_series_is_taken_for_a_label_that_cites_nothing_and_that_is_said(tmp_path):
    scan(tmp_path / "ct", CT)
    structures(tmp_path / "label.dcm", "1.9.1", z=(2.5,))
    found = index_folder(tmp_path)
    assert files(found) == [["label.dcm"]]
    assert "ct is the only one of its patient and (0020,0052) Frame of Reference UID, though" in found.remarks[0]


def test_a_label_of_another_patient_than_the_scan_it_cites_is_paired_and_said(tmp_path):
    """As of tools that number patients anew."""
    scan(tmp_path / "ct", CT, patient="4711")
    structures(tmp_path / "label.dcm", "1.9.1", cites=[CT], patient="0815")
    found = index_folder(tmp_path)
    assert files(found) == [["label.dcm"]]
    assert "another (0010,0020) Patient ID" in found.remarks[0]
    assert not any(number in " ".join(found.remarks) for number in ("4711", "0815"))


# -- which version ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DRAW)
def test_a_later_file_replaces_the_one_it_cites_and_no_other(tmp_path, kind):
    scan(tmp_path / "ct", CT)
    for name, uid, replaces in (("a", "1.9.1", ()), ("b", "1.9.2", ["1.9.1"]), ("c", "1.9.3", ())):
        DRAW[kind](tmp_path / f"{name}.dcm", uid, ["Heart"], cites=[CT], replaces=replaces)
    found = index_folder(tmp_path)
    assert files(found) == [["b.dcm", "c.dcm"]]
    assert found.remarks[0].startswith("b.dcm replaces a.dcm, by (3006,0018)")
    assert found.remarks[1] == "the structure 'Heart' is joined from 2 files of one series: b.dcm, c.dcm"


def test_a_chain_leaves_its_last_and_says_what_is_lost(tmp_path):
    scan(tmp_path / "ct", CT)
    structures(tmp_path / "a.dcm", "1.9.1", ["Heart", "Lung"], cites=[CT])
    structures(tmp_path / "b.dcm", "1.9.2", ["Heart"], cites=[CT], replaces=["1.9.1"])
    segments(tmp_path / "c.dcm", "1.9.3", ["Heart"], cites=[CT], replaces=["1.9.2"])
    found = index_folder(tmp_path)
    assert files(found) == [["c.dcm"]]
    assert "that is left out; 'Lung' of it is in no later one" in found.remarks[0]
    assert voxels(found, tmp_path) == {"p001_ct_01": {"Heart": 8}}


def test_of_a_fork_both_are_read(tmp_path):
    scan(tmp_path / "ct", CT)
    structures(tmp_path / "a.dcm", "1.9.1", ["Heart"], cites=[CT])
    structures(tmp_path / "b.dcm", "1.9.2", ["Heart"], cites=[CT], replaces=["1.9.1"])
    structures(tmp_path / "c.dcm", "1.9.3", ["Heart"], cites=[CT], replaces=["1.9.1"], corner=(1.5, 0.5))
    found = index_folder(tmp_path)
    assert files(found) == [["b.dcm", "c.dcm"]]
    assert "b.dcm, c.dcm each replace a.dcm" in found.remarks[0]
    assert "(all of them are read)" in found.remarks[0]
    assert voxels(found, tmp_path) == {"p001_ct_01": {"Heart": 8}}


@pytest.mark.parametrize("replaces", [{"a": "1.9.2", "b": "1.9.1"}, {"a": "1.9.3", "b": "1.9.1", "c": "1.9.2"}])
def test_in_a_circle_none_is_left_out(tmp_path, replaces):
    scan(tmp_path / "ct", CT)
    for n, (name, cited) in enumerate(replaces.items(), start=1):
        structures(tmp_path / f"{name}.dcm", f"1.9.{n}", cites=[CT], replaces=[cited])
    found = index_folder(tmp_path)
    assert files(found) == [[f"{name}.dcm" for name in replaces]]
    assert "in a circle" in found.remarks[0]


def test_a_file_that_cites_itself_stays(tmp_path):
    scan(tmp_path / "ct", CT)
    structures(tmp_path / "a.dcm", "1.9.1", cites=[CT], replaces=["1.9.1"])
    assert files(index_folder(tmp_path)) == [["a.dcm"]]


def test_a_predecessor_of_another_scan_stays_the_label_of_that(tmp_path):
    """A structure set carried over to the next planning CT."""
    scan(tmp_path / "first", CT)
    scan(tmp_path / "next", OTHER)
    structures(tmp_path / "a.dcm", "1.9.1", cites=[CT])
    structures(tmp_path / "b.dcm", "1.9.2", cites=[OTHER], replaces=["1.9.1"])
    assert files(index_folder(tmp_path)) == [["a.dcm"], ["b.dcm"]]


@pytest.mark.parametrize("kind", DRAW)
def test_the_newest_of_each_structure_where_the_user_says_so(tmp_path, kind):
    scan(tmp_path / "ct", CT)
    DRAW[kind](tmp_path / "a.dcm", "1.9.1", ["Heart", "Lung"], cites=[CT], made="20200102120000")
    DRAW[kind](tmp_path / "b.dcm", "1.9.2", ["heart"], cites=[CT], made="20200102110000")
    both = index_folder(tmp_path)
    assert files(both) == [["a.dcm", "b.dcm"]]
    assert "`newest`" in both.remarks[1]
    found = index_folder(tmp_path, tree=TreeOptions(newest=True))
    (case,) = found.manifest.cases
    assert {name: [path.name for path in paths] for name, paths in case.label.items()} == {
        "Heart": ["a.dcm"],
        "Lung": ["a.dcm"],
    }
    assert "'Heart' is taken from a.dcm, the newest; that of b.dcm is left out" in found.remarks[0]
    assert not any(part in " ".join(found.remarks) for part in ("2020", "0102"))


def test_without_dates_the_newest_is_not_guessed(tmp_path):
    scan(tmp_path / "ct", CT)
    structures(tmp_path / "a.dcm", "1.9.1", cites=[CT], made="20200102")
    structures(tmp_path / "b.dcm", "1.9.2", cites=[CT])
    found = index_folder(tmp_path, tree=TreeOptions(newest=True))
    assert files(found) == [["a.dcm", "b.dcm"]]
    assert "which of 2 files is the newest is not known" in found.remarks[0]


# -- what is a scan -----------------------------------------------------------------------------------------


def test_localizers_and_screenshots_are_left_out_unless_drawn_on_or_asked_for(tmp_path):
    scan(tmp_path / "ct", CT)
    scan(tmp_path / "scout", OTHER, count=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    capture = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "ImagePositionPatient": None}
    scan(tmp_path / "screen", "1.2.3.12", count=1, **capture)
    found = index_folder(tmp_path)
    assert [(case.id, case.image.name) for case in found.manifest.cases] == [("p001_ct_01", "ct")]
    assert "1 series is a localizer ((0008,0008) Image Type is LOCALIZER) without a label, scout" in found.remarks[0]
    assert "1 series is a picture of a screen" in found.remarks[1]
    every = index_folder(tmp_path, tree=TreeOptions(all_series=True)).manifest
    assert [case.image.name for case in every.cases] == ["ct", "scout", "screen"]
    structures(tmp_path / "label.dcm", "1.9.1", cites=[OTHER], z=(0.0,))
    assert [case.image.name for case in index_folder(tmp_path).manifest.cases] == ["ct", "scout"]


def test_where_there_is_nothing_else_pictures_are_the_scans(tmp_path):
    """Radiographs that somebody converted."""
    scan(tmp_path / "a", CT, count=1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ImagePositionPatient=None)
    assert len(index_folder(tmp_path).manifest.cases) == 1


def test_a_series_in_two_folders_is_one_and_its_copies_count_once(tmp_path):
    scan(tmp_path / "disc1", CT, count=4)
    (tmp_path / "disc2").mkdir()
    shutil.move(tmp_path / "disc1/3.dcm", tmp_path / "disc2/3.dcm")
    structures(tmp_path / "label.dcm", "1.9.1", cites=[CT])
    split = index_folder(tmp_path)
    assert [case.load_image().array.shape for case in split.manifest.cases] == [(4, 6, 8)]
    assert list(split.remarks) == []
    scan(tmp_path / "disc1", CT, count=4)
    shutil.copytree(tmp_path / "disc1", tmp_path / "again")
    shutil.copy(tmp_path / "label.dcm", tmp_path / "again/label.dcm")
    found = index_folder(tmp_path)
    assert [case.load_image().array.shape for case in found.manifest.cases] == [(4, 6, 8)]
    assert len(files(found)[0]) == 1
    assert "6 files are copies of others, byte by byte, and counted once" in " ".join(found.remarks)


def test_equal_instance_uids_of_unequal_files_are_no_copies(tmp_path):
    scan(tmp_path / "ct", CT)
    structures(tmp_path / "a.dcm", "1.9.1", ["Heart"], cites=[CT])
    structures(tmp_path / "b.dcm", "1.9.1", ["Lung"], cites=[CT])
    assert files(index_folder(tmp_path)) == [["a.dcm", "b.dcm"]]


# -- whose scans --------------------------------------------------------------------------------------------


def patients(found: IndexResult) -> list[str]:
    return [case.patient for case in found.manifest.cases]


def test_one_number_of_two_issuers_is_two_people(tmp_path):
    scan(tmp_path / "a", CT, IssuerOfPatientID="North")
    scan(tmp_path / "b", OTHER, IssuerOfPatientID="South")
    assert patients(index_folder(tmp_path)) == ["p001", "p002"]


def test_a_number_without_issuer_is_that_of_the_only_issuer(tmp_path):
    scan(tmp_path / "a", CT, IssuerOfPatientID="North")
    scan(tmp_path / "b", OTHER)
    assert patients(index_folder(tmp_path)) == ["p001", "p001"]
    scan(tmp_path / "c", "1.2.3.12", IssuerOfPatientID="South")
    assert patients(index_folder(tmp_path)) == ["p001", "p002", "p003"]


def test_the_same_images_under_two_numbers_are_of_one_person(tmp_path):
    scan(tmp_path / "a", CT, patient="4711")
    scan(tmp_path / "b", CT, patient="0815")
    scan(tmp_path / "c", OTHER, patient="0815")
    found = index_folder(tmp_path)
    assert set(patients(found)) == {"p001"}
    assert "under several (0010,0020) Patient IDs" in " ".join(found.remarks)


def test_two_birth_dates_under_one_number_are_one_person_and_said(tmp_path):
    scan(tmp_path / "a", CT, PatientBirthDate="19700101")
    scan(tmp_path / "b", OTHER, PatientBirthDate="19800101")
    found = index_folder(tmp_path)
    assert patients(found) == ["p001", "p001"]
    assert "several (0010,0030) Patient's Birth Date" in " ".join(found.remarks)
    assert not any(part in " ".join(found.remarks) for part in ("1970", "1980", "4711"))


def test_without_a_number_and_a_name_each_study_is_a_person_and_that_is_said(tmp_path):
    nobody = {"PatientID": None, "PatientName": None}
    scan(tmp_path / "a", CT, StudyInstanceUID="1.5.1", **nobody)
    scan(tmp_path / "b", OTHER, StudyInstanceUID="1.5.2", **nobody)
    found = index_folder(tmp_path)
    assert patients(found) == ["p001", "p002"]
    assert "each study counts as a patient" in " ".join(found.remarks)


def test_many_remarks_of_one_kind_are_counted(tmp_path):
    scan(tmp_path / "ct", CT)
    for n in range(13):
        structures(tmp_path / f"{n:02}.dcm", f"1.9.{n + 1}", cites=["1.2.99"], z=(STEP / 2,))
    found = index_folder(tmp_path)
    assert found.remarks[10] == "and 3 more labels that fit no series, or several"
    assert sum("left out" in remark for remark in found.remarks) == 10


def test_echoes_in_one_series_and_series_made_from_others_are_said(tmp_path):
    for echo in (1, 2):
        scan(tmp_path / f"mr/{echo}", f"1.2.3.20.{echo}", SeriesInstanceUID="1.2.3.20", EchoTime=5.0 * echo)
    scan(tmp_path / "mpr", OTHER, ImageType=["DERIVED", "SECONDARY", "MPR"])
    scan(tmp_path / "subtracted", "1.2.3.21", ImageType=["DERIVED", "SECONDARY"])
    structures(tmp_path / "label.dcm", "1.9.1", cites=["1.2.3.21"])
    found = index_folder(tmp_path)
    assert found.remarks[0].startswith("mr: 6 images at 3 places ((0020,0032) Image Position (Patient)), so several")
    assert found.remarks[1].startswith("1 series without a label made from others")
    assert "mpr: cases like any other" in found.remarks[1]
    assert len(found.manifest.cases) == 3


def test_a_split_keeps_all_series_of_a_person_together(tmp_path):
    """Studies, modalities and time points; numbers of two issuers; nobody's number."""
    for n in range(24):
        patient, issuer = f"ID{n % 8}", ("North", "South")[n % 2]
        tags = {"StudyInstanceUID": f"1.5.{n}", "Modality": ("CT", "MR", "PT")[n % 3], "IssuerOfPatientID": issuer}
        scan(tmp_path / f"{n:02}", f"1.2.3.{n + 1}", patient=patient, count=1, **tags)
        structures(tmp_path / f"{n:02}.dcm", f"1.9.{n + 1}", cites=[f"1.2.3.{n + 1}"], patient=patient, z=(0.0,))
    write_manifest(index_folder(tmp_path).manifest, tmp_path / "m.json")
    out = tmp_path / "split.json"
    command = ["data", "split", str(tmp_path / "m.json"), "--out", str(out), "--stratify", "none", "--test", "0.5"]
    assert main(command) == 0
    sides: dict[str, set[str | None]] = {}
    for case in read_manifest(out).cases:
        sides.setdefault(case.patient, set()).add(case.split)
    assert len(sides) == 8
    assert all(len(side) == 1 for side in sides.values())
    assert len({side for one in sides.values() for side in one}) > 1
