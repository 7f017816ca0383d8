"""A folder becomes a manifest: pairs by name, DICOM trees without anybody's name, and no guesses."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
import tiny_sets as scans
from drawn import grid, make_seg, make_series
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medsam.data.check import check_manifest
from medsam.data.index import index_folder
from medsam.data.manifest import Manifest
from medsam.data.manifest_json import read_manifest, write_manifest
from medsam.errors import InputError

PATIENT = "DOE^JANE"


def pairs(manifest: Manifest, folder: Path) -> dict[str, tuple[str, object]]:
    def short(label: object) -> object:
        if isinstance(label, dict):
            return {name: [p.relative_to(folder).as_posix() for p in paths] for name, paths in label.items()}
        return label and label.relative_to(folder).as_posix()

    return {c.id: (c.image.relative_to(folder).as_posix(), short(c.label)) for c in manifest.cases}


@pytest.mark.parametrize(
    ("image", "label", "name"),
    [
        ("images/a.nii.gz", "labels/a.nii.gz", "a"),
        ("images/a.nii.gz", "masks/a.nii.gz", "a"),
        ("a_image.nii.gz", "a_mask.nii.gz", "a"),
        ("a.nii.gz", "a_seg.nii.gz", "a"),
        ("a.nii.gz", "a-label.nii.gz", "a"),
        ("p1/image.nii.gz", "p1/label.nii.gz", "p1_image"),
        ("p1/a_img.nii.gz", "p1/a_gt.nii.gz", "p1_a"),
        ("images/a_0000.nii.gz", "labels/a.nii.gz", "a"),
        ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "Tr_a"),
        ("site1/images/a.nii.gz", "site1/labels/a_seg.nii.gz", "site1_a"),
        ("my scans/a.nii.gz", "my scans/a_mask.nii.gz", "my_scans_a"),
    ],
)
def test_pairs_by_name(tmp_path, image, label, name):
    scans.scan(tmp_path / image)
    scans.label(tmp_path / label)
    found = index_folder(tmp_path).manifest
    assert pairs(found, tmp_path) == {name: (image, label)}
    assert found.labels == {"label_1": 1, "label_2": 2}
    out = tmp_path / "m.json"
    write_manifest(found, out)
    assert check_manifest(out).problems == ()


def test_the_folders_say_the_split(tmp_path):
    for split in ("Tr", "Ts"):
        scans.scan(tmp_path / f"images{split}/{split}.nii.gz")
        scans.label(tmp_path / f"labels{split}/{split}.nii.gz")
    scans.scan(tmp_path / "validation/images/v.nii.gz")
    scans.label(tmp_path / "validation/masks/v.nii.gz")
    found = index_folder(tmp_path).manifest
    assert {case.image.name[0:2]: case.split for case in found.cases} == {"Tr": "train", "Ts": "test", "v.": "val"}


def test_scans_without_labels_are_cases_too(tmp_path):
    scans.scan(tmp_path / "a.nii.gz")
    scans.scan(tmp_path / "b.nii.gz")
    scans.label(tmp_path / "b_seg.nii.gz")
    assert pairs(index_folder(tmp_path).manifest, tmp_path) == {
        "a": ("a.nii.gz", None),
        "b": ("b.nii.gz", "b_seg.nii.gz"),
    }


def test_a_folder_of_masks_beside_a_scan(tmp_path):
    for case in ("s1", "s2"):
        scans.scan(tmp_path / case / "ct.nii.gz")
        for structure in ("liver", "spleen"):
            scans.label(tmp_path / case / "segmentations" / f"{structure}.nii.gz", (1,))
    found = index_folder(tmp_path).manifest
    masks = {name: [f"s1/segmentations/{name}.nii.gz"] for name in ("liver", "spleen")}
    assert pairs(found, tmp_path)["s1"] == ("s1/ct.nii.gz", masks)
    assert found.labels == {"liver": 1, "spleen": 2}
    assert len(found.cases) == 2


def test_bids_subjects_are_patients(tmp_path):
    for session in (1, 2):
        scans.scan(tmp_path / f"sub-07/ses-{session}/sub-07_ses-{session}_T1w.nii.gz")
    assert {case.patient for case in index_folder(tmp_path).manifest.cases} == {"sub-07"}


def test_what_is_not_clear_is_left_out_and_told(tmp_path):
    scans.scan(tmp_path / "a.nii.gz")
    scans.label(tmp_path / "a_seg.nii.gz")
    scans.label(tmp_path / "a_mask.nii.gz")
    scans.scan(tmp_path / "b.nii.gz")
    scans.label(tmp_path / "lost_seg.nii.gz")
    found = index_folder(tmp_path)
    assert pairs(found.manifest, tmp_path) == {"b": ("b.nii.gz", None)}
    first, second, *_ = found.remarks
    assert "not clear what belongs together" in first
    assert "a_mask.nii.gz" in first
    assert "1 label file fits no image, e.g. lost_seg.nii.gz" in second


def test_further_channels_are_left_out_and_told(tmp_path):
    scans.scan(tmp_path / "imagesTr/a_0000.nii.gz")
    scans.scan(tmp_path / "imagesTr/a_0001.nii.gz")
    scans.label(tmp_path / "labelsTr/a.nii.gz")
    found = index_folder(tmp_path)
    assert [case.image.name for case in found.manifest.cases] == ["a_0000.nii.gz"]
    assert "1 further channels" in found.remarks[0]


def test_binary_pictures_get_a_threshold(tmp_path):
    inside = np.zeros((8, 8), np.uint8)
    inside[2:5, 3:7] = 255
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(inside).save(tmp_path / folder / "x.png")
    case = index_folder(tmp_path).manifest.cases[0]
    assert (case.labels, case.threshold) == ({"mask": 1}, 127)
    case = index_folder(tmp_path, labels={"polyp": 3}, modality="endoscopy").manifest.cases[0]
    assert (case.labels, case.threshold, case.modality) == ({"polyp": 3}, 127, "endoscopy")
    np.testing.assert_array_equal(case.load_references(case.load_image())["polyp"][0], inside > 0)


def test_numbers_of_all_kinds_of_labels_differ(tmp_path):
    """Label maps keep theirs; binary pictures, masks by name and structure sets take what is left."""
    series(tmp_path / "dicom/ct")
    structure_set(tmp_path / "dicom/rs.dcm", "Heart")
    scans.scan(tmp_path / "maps/a.nii.gz")
    scans.label(tmp_path / "maps/a_seg.nii.gz", (1, 3))
    scans.scan(tmp_path / "case/ct.nii.gz")
    scans.label(tmp_path / "case/masks/liver.nii.gz", (1,))
    Image.fromarray(np.eye(8, dtype=np.uint8) * 99).save(tmp_path / "x.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "x_mask.png")
    found = index_folder(tmp_path).manifest
    assert {"label_1": 1, "label_3": 3}.items() <= found.labels.items()
    assert len(set(found.labels.values())) == len(found.labels) == 5
    write_manifest(found, tmp_path / "m.json")
    checked = check_manifest(tmp_path / "m.json")
    assert checked.problems == ()
    assert checked.present == dict.fromkeys(["Heart", "label_1", "label_3", "liver", "mask"], 1)


def test_npz_with_both_arrays_is_a_case_of_its_own(tmp_path):
    array = np.zeros((2, 3, 4), np.uint8)
    np.savez(tmp_path / "a.npz", imgs=array, gts=array + 1)
    assert pairs(index_folder(tmp_path).manifest, tmp_path) == {"a": ("a.npz", "a.npz")}


def test_a_dataset_json_is_believed(tmp_path):
    scans.scan(tmp_path / "imagesTr/x.nii.gz")
    scans.label(tmp_path / "labelsTr/x.nii.gz")
    training = [{"image": "imagesTr/x.nii.gz", "label": "labelsTr/x.nii.gz"}]
    scans.write(tmp_path / "dataset.json", {"labels": {"1": "a", "2": "b"}, "training": training})
    found = index_folder(tmp_path, name="mine", modality="MRI")
    assert (found.manifest.name, found.manifest.labels, found.manifest.cases[0].modality) == (
        "mine",
        {"a": 1, "b": 2},
        "MR",
    )


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="holds no scan"):
        index_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        index_folder(tmp_path / "none")


# -- DICOM --------------------------------------------------------------------------------------------------


def series(folder: Path, patient="4711", count=3, uid=None, frame="1.2.3", modality="CT", prefix="") -> str:
    """A small CT series; its SeriesInstanceUID."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    for n in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
            CTImageStorage,
            ds.SOPInstanceUID,
        )
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = PATIENT, patient, "19700101"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"1.2.{patient}", uid, frame
        ds.Modality, ds.InstanceNumber = modality, n + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 2.0 * n], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [1, 1], 2
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PixelData = np.random.default_rng(n).integers(-9, 99, (4, 5)).astype("<i2").tobytes()
        ds.save_as(folder / f"{prefix}{n}.dcm", enforce_file_format=True)
    return uid


def structure_set(path: Path, roi="Heart", patient="4711", refers_to=None, frame="1.2.3", corner=(0.5, 0.5)) -> Path:
    """3 x 2 pixels on the middle slice."""
    x, y = corner
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.PatientName, ds.PatientID, ds.Modality = PATIENT, patient, "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.{patient}", generate_uid()
    item, drawn, contour = Dataset(), Dataset(), Dataset()
    item.ROINumber, item.ROIName, item.ReferencedFrameOfReferenceUID = 1, roi, frame
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = [x, y, 2, x + 3, y, 2, x + 3, y + 2, 2, x, y + 2, 2]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    ds.StructureSetROISequence, ds.ROIContourSequence = [item], [drawn]
    if refers_to:
        frame_item, study, one = Dataset(), Dataset(), Dataset()
        one.SeriesInstanceUID = refers_to
        study.RTReferencedSeriesSequence = [one]
        frame_item.RTReferencedStudySequence = [study]
        ds.ReferencedFrameOfReferenceSequence = [frame_item]
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_tree_is_a_case_a_series_without_names(tmp_path):
    series(tmp_path / "JANE_DOE/ct")
    uid = series(tmp_path / "JANE_DOE/ct2")
    structure_set(tmp_path / "JANE_DOE/rt/rs.dcm", refers_to=uid)
    series(tmp_path / "other/ct", patient="4712", modality="MR")
    out = tmp_path / "m.json"
    found = index_folder(tmp_path).manifest
    assert [(c.id, c.patient, c.modality, c.image.relative_to(tmp_path).as_posix()) for c in found.cases] == [
        ("p001_ct_01", "p001", "CT", "JANE_DOE/ct"),
        ("p001_ct_02", "p001", "CT", "JANE_DOE/ct2"),
        ("p002_mr_01", "p002", "MR", "other/ct"),
    ]
    assert [c.label is not None for c in found.cases] == [False, True, False]
    assert found.labels == {"Heart": 1}
    assert found.modality is None
    write_manifest(found, out)
    for secret in ("DOE^JANE", "4711", "4712", "1970"):
        assert secret not in out.read_text()
    assert check_manifest(out).problems == ()
    case = read_manifest(out).cases[1]
    assert case.load_references(case.load_image())["Heart"].sum() == 3 * 2


def test_two_series_in_one_folder_are_told_apart_by_their_uid(tmp_path):
    first = series(tmp_path / "all", prefix="a")
    second = series(tmp_path / "all", prefix="b", count=2)
    found = index_folder(tmp_path).manifest
    assert [c.series for c in found.cases] == [first, second]
    assert [c.load_image().array.shape[0] for c in found.cases] == [3, 2]


def test_a_structure_set_that_names_nobody_goes_to_its_frame_of_reference(tmp_path):
    series(tmp_path / "x/a", frame="1.2.3")
    series(tmp_path / "x/b", frame="1.2.4")
    structure_set(tmp_path / "rs.dcm", frame="1.2.4")
    (tmp_path / "rs.dcm").rename(tmp_path / "x/rs.dcm")
    ds = pydicom.dcmread(tmp_path / "x/rs.dcm")
    ds.FrameOfReferenceUID = "1.2.4"
    ds.save_as(tmp_path / "x/rs.dcm")
    found = index_folder(tmp_path).manifest
    assert [c.label is not None for c in found.cases] == [False, True]


def test_a_structure_set_that_fits_several_series_is_left_out_and_told(tmp_path):
    series(tmp_path / "x/a")
    series(tmp_path / "x/b")
    structure_set(tmp_path / "x/rs.dcm")
    found = index_folder(tmp_path)
    assert all(c.label is None for c in found.manifest.cases)
    assert found.remarks[0].startswith("x/rs.dcm (RTSTRUCT) fits no series, or several")


def test_several_structure_sets_of_one_series_become_a_mapping(tmp_path):
    series(tmp_path / "ct")
    structure_set(tmp_path / "rs/1.dcm", "Heart")
    structure_set(tmp_path / "rs/2.dcm", "Lung")
    found = index_folder(tmp_path).manifest
    case = found.cases[0]
    masks = case.load_references(case.load_image())
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"Heart": 6, "Lung": 6}
    assert found.labels == {"Heart": 1, "Lung": 2}


def test_a_structure_in_several_files_of_a_series_is_joined_from_all(tmp_path):
    series(tmp_path / "ct")
    structure_set(tmp_path / "rs/1.dcm", "Heart", corner=(0.5, 0.5))
    structure_set(tmp_path / "rs/2.dcm", "heart ", corner=(1.5, 0.5))
    structure_set(tmp_path / "rs/3.dcm", "Lung")
    out = tmp_path / "m.json"
    found = index_folder(tmp_path)
    assert found.remarks[0] == "the structure 'Heart' is joined from 2 files of one series: rs/1.dcm, rs/2.dcm"
    assert found.manifest.labels == {"Heart": 1, "Lung": 2}
    write_manifest(found.manifest, out)
    case = read_manifest(out).cases[0]
    masks = case.load_references(case.load_image())
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"Heart": 8, "Lung": 6}
    checked = check_manifest(out)
    assert [(p.level, p.kind, p.message) for p in checked.problems] == [
        ("note", "label-read", "'Heart' is joined from 2 files.")
    ]
    assert (checked.errors, checked.warnings) == (0, 0)


def test_two_segs_of_one_series_and_one_with_a_structure_of_its_own_are_joined(tmp_path):
    here = grid()
    images = make_series(tmp_path / "ct", here)
    masks = np.zeros((2, 4, 6, 5, 2), np.uint8)
    masks[0, 1, :2, :2, 0], masks[1, 2, :3, :3, 0], masks[1, 3, 5, 4, 1] = 1, 1, 1
    make_seg(tmp_path / "a.dcm", masks[0][..., :1], here, ("Lesion",), images=images)
    make_seg(tmp_path / "b.dcm", masks[1], here, ("lesion", "Liver"), images=images)
    out = tmp_path / "m.json"
    write_manifest(index_folder(tmp_path).manifest, out)
    (case,) = read_manifest(out).cases
    references = case.load_references(case.load_image())
    assert {name: int(mask.sum()) for name, mask in references.items()} == {"Lesion": 4 + 9, "Liver": 1}


def test_one_structure_is_one_number_whatever_it_is_called_in_each_patient(tmp_path):
    for n, name in enumerate(("GTV-1", "gtv 1", "GTV_1")):
        series(tmp_path / f"{n}/ct", patient=f"1{n}")
        structure_set(tmp_path / f"{n}/rs.dcm", name, patient=f"1{n}")
    out = tmp_path / "m.json"
    write_manifest(index_folder(tmp_path).manifest, out)
    found = read_manifest(out)
    assert found.labels == {"GTV-1": 1}
    for case in found.cases:
        assert case.load_references(case.load_image())["GTV-1"].sum() == 6


@pytest.mark.parametrize("keyword", ["StructureSetROISequence", "ReferencedFrameOfReferenceSequence"])
def test_a_damaged_label_file_is_named_and_does_not_stop_the_rest(tmp_path, keyword):
    series(tmp_path / "ct")
    structure_set(tmp_path / "good.dcm", "Heart")
    ds = pydicom.dcmread(structure_set(tmp_path / "bad.dcm", "Lung"))
    ds.add(pydicom.DataElement(keyword, "LO", "Lung"))
    ds.save_as(tmp_path / "bad.dcm")
    found = index_folder(tmp_path)
    assert [case.label and case.label.name for case in found.manifest.cases] == ["good.dcm"]
    assert found.remarks[0].startswith("bad.dcm: ")
    assert "is no sequence of items" in found.remarks[0]


def test_the_segments_of_a_seg_nrrd_are_indexed_by_name(tmp_path):
    scans.scan(tmp_path / "a.nii.gz")
    scans.scan(tmp_path / "b.nii.gz")
    scans.label(tmp_path / "b_seg.nii.gz", (1, 3))
    layers = np.zeros((2, *scans.SHAPE), np.uint8)
    layers[0, 0, 0, 0] = layers[1, 0, 0, :2] = layers[1, 1, 1, 1] = 1
    header = {
        "space": "right-anterior-superior",
        "space directions": [[np.nan] * 3, *np.eye(3)],
        "kinds": ["list", "domain", "domain", "domain"],
        "space origin": [0, 0, 0],
        "Segment0_Name": "Cyst",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment1_Name": "Liver",
        "Segment1_LabelValue": "1",
        "Segment1_Layer": "1",
    }
    nrrd.write(str(tmp_path / "a.seg.nrrd"), layers.transpose(0, 3, 2, 1), header)
    out = tmp_path / "m.json"
    write_manifest(index_folder(tmp_path).manifest, out)
    found = {case.id: case for case in read_manifest(out).cases}
    references = found["a"].load_references(found["a"].load_image())
    assert {name: int(mask.sum()) for name, mask in references.items()} == {"Cyst": 1, "Liver": 3}
    assert found["b"].labels == {"label_1": 1, "label_3": 3}
    assert [p for p in check_manifest(out).problems if p.level == "error"] == []


@pytest.mark.parametrize(
    ("folder", "cases", "labelled"),
    [
        ("sts_sarcoma_dicom_rtstruct", 2, 2),
        ("lung_ct_dicom_rtstruct", 1, 1),
        ("breast_mr_dicom_seg", 1, 1),
        ("sts_sarcoma_mr_pet_ct", 33, 33),
        ("msd_hippocampus_mr", 130, 130),
        ("chest_xray_lungs", 3, 3),
        ("polyp_endoscopy", 3, 3),
        ("ct_slices_sammed2d", 1, 1),
        ("spinal_cord_mr", 3, 3),
        ("vertebra_ct", 2, 2),
        ("totalseg_abdomen_ct", 2, 2),
        ("ct_lesion_npz", 3, 3),
    ],
)
def test_real_folders_without_a_recipe(data, tmp_path, folder, cases, labelled):
    found = index_folder(data / folder).manifest
    assert len(found.cases) == cases
    assert sum(case.label is not None for case in found.cases) == labelled
    if cases <= 3:
        write_manifest(found, tmp_path / "m.json")
        assert check_manifest(tmp_path / "m.json").errors == 0


def test_hidden_files_are_passed_over(tmp_path):
    scans.scan(tmp_path / "a.nii.gz")
    (tmp_path / "._a.nii.gz").write_bytes(b"resource fork")
    assert len(index_folder(tmp_path).manifest.cases) == 1
    assert nib.load(tmp_path / "a.nii.gz").shape == scans.SHAPE[::-1]


def test_what_it_does_not_know_is_said(tmp_path):
    for patient in ("STS_002", "STS_003"):
        (tmp_path / patient).mkdir()
        for kind in ("MR_T1", "PET"):
            scans.scan(tmp_path / patient / f"{kind}_image.nii.gz")
    for number in (1, 2):
        scans.scan(tmp_path / f"img_{number}.nii.gz")
    found = index_folder(tmp_path)
    remarks = " ".join(found.remarks)
    assert [case.patient for case in found.manifest.cases] == ["STS_002"] * 2 + ["STS_003"] * 2 + ["img_1", "img_2"]
    assert "4 cases joined by their folder to 2 patients, e.g. STS_002: STS_002_MR_T1, STS_002_PET" in remarks
    assert "2 cases do not say whose they are, so each counts as a patient of its own" in remarks
    assert "no case has a label" in remarks
