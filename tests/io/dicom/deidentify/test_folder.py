"""From one folder to another: what is written, what is not, and that it still belongs together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import drawn
import numpy as np
import pydicom
import pytest
from dicom_files import dataset, item, numbered, save, slices, write
from drawn import grid, loop, make_rs, make_seg, make_series, rectangle
from markers import MARKER, NAME, SOUND, found_below, plant, raw, value_of
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    VideoPhotographicImageStorage,
)

from medsam.errors import Cancelled, InputError
from medsam.io.dicom.deidentify import folder
from medsam.io.dicom.deidentify.folder import check_key_file, deidentify_folder
from medsam.io.dicom.deidentify.keys import Pseudonyms
from medsam.io.dicom.deidentify.options import Options
from medsam.io.dicom.deidentify.structures import StructureNames
from medsam.io.dicom.read import quiet
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.seg import read_seg
from medsam.io.dicom.series import read_dicom

KEY = bytes(range(32))


def files(target: Path) -> dict[str, bytes]:
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in sorted(target.rglob("*.dcm"))}


@pytest.fixture
def patient(tmp_path) -> Path:
    """A series, its SEG and its RTSTRUCT, with names typed where people type them."""
    here = grid()
    source = tmp_path / "in" / MARKER
    images = make_series(source / "ct", here)
    for image in images:
        image.PatientName = NAME
    masks = np.random.default_rng(0).random((*here.shape, 2)) < 0.4
    make_seg(source / "seg.dcm", masks.astype(np.uint8), here, labels=("liver", f"mass of {MARKER}"), images=images)
    contours = [loop(here, rectangle(0.5, 0.5, 3.5, 3.5), 1)]

    def cite(rs: pydicom.Dataset) -> None:
        rs.PatientName = NAME
        rs.StudyInstanceUID, rs.SeriesInstanceUID = images[0].StudyInstanceUID, "1.2.3.4"
        rs.StructureSetLabel, rs.OperatorsName = MARKER, NAME
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = images[1].SOPClassUID, images[1].SOPInstanceUID
        rs.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [item]

    drawn.change(make_rs(source / "rs.dcm", {"GTV 1": contours, MARKER: contours, "Kidney_L": contours}), cite)
    return tmp_path / "in"


def test_series_seg_and_rtstruct_still_belong_together(patient, tmp_path):
    target = tmp_path / "out"
    report = deidentify_folder(patient, target, KEY)
    assert report.files == {"written": 6}
    assert found_below(target) == {}
    found = {pydicom.dcmread(path).Modality: path for path in target.rglob("*.dcm")}
    volume = read_dicom(found["CT"].parent)
    source = read_dicom(patient / MARKER / "ct")
    assert np.array_equal(volume.array, source.array)
    assert np.allclose(volume.geometry.affine, source.geometry.affine)
    before = read_seg(patient / MARKER / "seg.dcm", source.geometry)
    after = read_seg(found["SEG"], volume.geometry)
    names = StructureNames(Pseudonyms(KEY))
    assert list(after) == ["liver", names.name(list(before)[1])]
    for one, two in zip(before.values(), after.values(), strict=True):
        assert np.array_equal(one, two)
    regions = read_rtstruct(found["RTSTRUCT"], volume.geometry)
    # another structure than that of the SEG, so under another name
    assert list(regions) == ["GTV 1", names.name(MARKER), "Kidney_L"]
    assert list(regions)[1] != list(after)[1]
    cited = pydicom.dcmread(found["RTSTRUCT"]).ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    seg = pydicom.dcmread(found["SEG"])
    uids = {path.stem for path in found["CT"].parent.iterdir()}
    assert cited.ReferencedSOPInstanceUID in uids
    assert {
        item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    } <= uids
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == found["CT"].parent.name
    assert len({pydicom.dcmread(path).PatientID for path in found.values()}) == 1


def test_a_marker_in_every_element_of_a_seg_and_a_structure_set_is_nowhere(patient, tmp_path):
    sound = ("SegmentLabel", "ROIName", "ContourGeometricType", "SegmentationType", *SOUND)
    for name in ("seg.dcm", "rs.dcm"):
        path = patient / MARKER / name
        with quiet():
            ds = plant(pydicom.dcmread(path), sound)
            ds.PatientName = NAME
            ds.preamble = (MARKER * 13).encode()[:128]
            ds.save_as(path, enforce_file_format=True)
    target = tmp_path / "out"
    report = deidentify_folder(patient, target, KEY)
    assert (report.files["written"], report.left_out) == (6, 0)
    assert found_below(target) == {}
    geometry = read_dicom(patient / MARKER / "ct").geometry
    found = {pydicom.dcmread(path).Modality: path for path in target.rglob("*.dcm")}
    before = read_seg(patient / MARKER / "seg.dcm", geometry)
    for one, two in zip(before.values(), read_seg(found["SEG"], geometry).values(), strict=True):
        assert np.array_equal(one, two)
    assert read_rtstruct(found["RTSTRUCT"], geometry)["GTV 1"].sum() == 9


def test_the_same_key_gives_the_same_files_on_another_machine_and_another_key_others(patient, tmp_path):
    for name, key in (("one", KEY), ("two", KEY), ("three", bytes(32))):
        deidentify_folder(patient, tmp_path / name, key)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not set(files(tmp_path / "one")) & set(files(tmp_path / "three"))


def test_a_run_that_was_ended_goes_on_and_writes_nothing_twice(patient, tmp_path):
    def end(done: int, total: int | None) -> None:
        if done == 3:
            raise Cancelled

    target = tmp_path / "out"
    with pytest.raises(Cancelled):
        deidentify_folder(patient, target, KEY, progress=end)
    assert json.loads((target / "report.json").read_text())["complete"] is False
    first = files(target)
    assert len(first) == 3
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*.dcm")}
    report = deidentify_folder(patient, target, KEY)
    assert report.files == {"copied before": 3, "written": 3}
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    deidentify_folder(patient, tmp_path / "at once", KEY)
    assert files(target) == files(tmp_path / "at once")
    # a source that has changed since, though not in length, is copied again
    changed = next(path for path in target.rglob("*.dcm"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    assert deidentify_folder(patient, target, KEY).files == {"copied before": 5, "written": 1}
    assert files(target) == files(tmp_path / "at once")


@pytest.mark.parametrize(
    ("key", "options", "kept"),
    [(bytes(32), None, True), (KEY, Options(shift_dates=True), True), (KEY, None, False)],
    ids=["another key", "other options", "a key that nobody has"],
)
def test_what_another_run_began_is_not_mixed_with(patient, tmp_path, key, options, kept):
    target = tmp_path / "out"
    deidentify_folder(patient, target, KEY)
    with pytest.raises(InputError, match="begun with another key"):
        deidentify_folder(patient, target, key, options, key_is_kept=kept)


def test_folders_that_are_not_apart_or_not_empty_are_refused(patient, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for target, why in ((patient / "out", "apart"), (tmp_path, "apart"), (tmp_path / "full", "not empty")):
        with pytest.raises(InputError, match=why):
            deidentify_folder(patient, target, KEY)
    for place in (patient / "key", tmp_path / "out" / "key", patient / MARKER / ".." / "key"):
        with pytest.raises(InputError, match="lies with the data"):
            check_key_file(place, patient, tmp_path / "out")
    check_key_file(tmp_path / "key", patient, tmp_path / "out")


RISKY = {
    "an ultrasound": {"SOPClassUID": UltrasoundImageStorage, "Modality": "US"},
    "a copy of a screen": {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"},
    "burned in": {"BurnedInAnnotation": "YES"},
    "a screen among CT": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    "a film": {"ConversionType": "DF"},
    "nowhere": {"ImageType": ["DERIVED", "SECONDARY"], "ImagePositionPatient": None},
    "a document": {"SOPClassUID": EncapsulatedPDFStorage, "Modality": "DOC"},
    "a video": {"SOPClassUID": VideoPhotographicImageStorage, "Modality": "XC"},
    "of no known kind": {"SOPClassUID": "1.2.840.113619.4.30"},
    "without a study": {"StudyInstanceUID": None},
    "in two studies": {"StudyInstanceUID": ["1.2.3", "1.2.4"]},
}


@pytest.mark.parametrize("what", RISKY)
def test_what_may_show_or_hold_text_is_not_copied_and_counted(tmp_path, what):
    source, target = tmp_path / "in", tmp_path / "out"
    write(source / "a" / "b.dcm", slices(1)[0], **RISKY[what])
    write(source / f"{MARKER}.dcm", slices(1)[0])
    (source / "notes.txt").write_text("none of DICOM")
    report = deidentify_folder(source, target, KEY)
    assert report.files == {"refused": 1, "written": 1, "not DICOM": 1}
    (why,) = report.reasons
    # by the order of paths
    assert report.reasons[why] == [2]
    assert len(files(target)) == 1
    assert found_below(target) == {}


def test_damaged_files_are_counted_and_the_rest_is_done(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    paths = numbered(source, "im{}.dcm", 3)
    paths[0].write_bytes(paths[0].read_bytes()[:700])
    paths[1].write_bytes(paths[1].read_bytes()[:-8])
    report = deidentify_folder(source, target, KEY)
    assert report.left_out == 2
    assert report.files["written"] == 1


def test_an_index_of_files_is_not_copied_and_no_fault(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write(source / "a.dcm", slices(1)[0])
    write(source / "index.dcm", slices(1)[0], SOPClassUID=MediaStorageDirectoryStorage)
    report = deidentify_folder(source, target, KEY)
    assert (report.files, report.left_out) == ({"written": 1, "index of files": 1}, 0)


def test_a_file_that_is_there_twice_is_copied_once_and_one_that_differs_is_refused(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    first = write(source / "a.dcm", slices(1)[0])
    shutil.copy(first, source / "b.dcm")
    other = pydicom.dcmread(first)
    other.PixelData = bytes(len(other.PixelData))
    save(other, source / "c.dcm")
    report = deidentify_folder(source, target, KEY)
    assert report.files == {"written": 1, "duplicate": 1, "refused": 1}


def test_what_a_person_should_look_at_is_named(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write(source / "1.dcm", slices(1)[0], SeriesInstanceUID="1.2.1", BodyPartExamined="HEAD")
    write(source / "2.dcm", slices(1)[0], SeriesInstanceUID="1.2.2", StudyDescription="Sch\u00e4del nativ")
    write(source / "3.dcm", slices(1)[0], SeriesInstanceUID="1.2.3", BodyPartExamined="CHEST")
    write(source / "4.dcm", slices(1)[0], SeriesInstanceUID="1.2.4", SeriesDescription=None)
    report = deidentify_folder(source, target, KEY)
    assert {what: len(series) for what, series in report.remarks().items()} == {folder.HEAD: 2, folder.UNKNOWN_PART: 1}


def test_which_file_became_which_is_for_the_owner_alone(patient, tmp_path):
    names = tmp_path / "names.tsv"
    deidentify_folder(patient, tmp_path / "out", KEY, names=names)
    lines = [line.split("\t") for line in names.read_text().splitlines()]
    assert len(lines) == 7
    assert all(Path(line[1]).is_file() and (tmp_path / "out" / line[3]).is_file() for line in lines[1:])
    assert names.stat().st_mode & 0o077 == 0


def test_a_report_of_measurements_keeps_numbers_codes_and_references(tmp_path):
    def code(value: str, scheme: str, meaning: str) -> list[pydicom.Dataset]:
        return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]

    ds = dataset(slices(1)[0], SOPClassUID=ComprehensiveSRStorage, Modality="SR", PatientName=NAME)
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "SpecificCharacterSet"):
        ds.pop(keyword, None)
    measured = item(
        NumericValue="12.5", MeasurementUnitsCodeSequence=code("mm", "UCUM", f"mm {MARKER}"), FloatingPointValue=12.5
    )
    ds.ValueType, ds.CompletionFlag, ds.VerificationFlag = "CONTAINER", "COMPLETE", "VERIFIED"
    ds.VerifyingObserverSequence = [item(VerifyingObserverName=NAME, VerifyingOrganization=MARKER)]
    ds.ConceptNameCodeSequence = code("126000", "DCM", "Imaging Measurement Report")
    ds.ContentSequence = [
        item(ValueType="TEXT", TextValue=f"{MARKER} fell", ConceptNameCodeSequence=code("121106", "DCM", MARKER)),
        item(ValueType="PNAME", PersonName=NAME, ConceptNameCodeSequence=code("121008", "DCM", "Person Observer Name")),
        item(ValueType="NUM", MeasuredValueSequence=[measured], ConceptNameCodeSequence=code("410668003", "SCT", "L")),
        item(ValueType="UIDREF", UID="1.2.3.77", ConceptNameCodeSequence=code("112040", "DCM", "Tracking UID")),
        item(ValueType="CODE", ConceptCodeSequence=code(MARKER, "99HOUSE", MARKER)),
        item(ValueType="SCOORD", GraphicType="POLYLINE", GraphicData=[1.0, 2.0, 3.0, 4.0]),
        item(ValueType="IMAGE", ReferencedSOPSequence=[item(ReferencedSOPInstanceUID="1.2.3.9")]),
    ]
    save(ds, tmp_path / "in" / "sr.dcm")
    write(tmp_path / "in" / "ct.dcm", slices(1)[0], SOPInstanceUID="1.2.3.9")
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    assert report.files == {"written": 2}
    assert found_below(tmp_path / "out") == {}
    found = {one.Modality: one for one in map(pydicom.dcmread, (tmp_path / "out").rglob("*.dcm"))}
    content = found["SR"].ContentSequence
    assert content[0].TextValue == "REMOVED"
    assert content[2].MeasuredValueSequence[0].NumericValue == 12.5
    assert content[2].ConceptNameCodeSequence[0].CodeMeaning == "Length"
    assert content[2].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeMeaning == "mm"
    assert content[4].ConceptCodeSequence[0].CodeValue == "REMOVED"
    assert content[5].GraphicData == [1.0, 2.0, 3.0, 4.0]
    assert content[6].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == found["CT"].SOPInstanceUID
    assert found["SR"].DeidentificationMethodCodeSequence[-1].CodeValue == "113104"


def test_bytes_around_the_data_set_do_not_come_along(tmp_path):
    path = write(tmp_path / "in" / "a.dcm", slices(1)[0])
    ds = pydicom.dcmread(path)
    ds.preamble = (MARKER * 13).encode()[:128]
    ds.PixelData += (MARKER * 2).encode()
    ds.file_meta.SourceApplicationEntityTitle = MARKER
    ds[0xFFFCFFFC] = raw(0xFFFCFFFC, "OB", value_of("OB"))
    save(ds, path)
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    assert found_below(tmp_path / "out") == {}
    (found,) = (tmp_path / "out").rglob("*.dcm")
    assert pydicom.dcmread(found).PixelData == slices(1)[0].tobytes()


SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


# nothing but file meta information says that a data set is deflated
@pytest.mark.parametrize(
    ("syntax", "meta"),
    [*((syntax, meta) for syntax in SYNTAXES for meta in (True, False)), ("1.2.840.10008.1.2.1.99", True)],
)
def test_every_way_to_store_a_data_set(tmp_path, syntax, meta):
    path = write(tmp_path / "in" / "a.dcm", slices(1)[0], syntax=syntax, PatientName=NAME, KVP="120")
    expected = pydicom.dcmread(path)
    if not meta:
        data = path.read_bytes()
        # the preamble, and file meta information by its stated length
        path.write_bytes(data[132 + 12 + int.from_bytes(data[140:144], "little") :])
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    assert report.files == {"written": 1}
    assert found_below(tmp_path / "out") == {}
    (path,) = (tmp_path / "out").rglob("*.dcm")
    found = pydicom.dcmread(path)
    assert np.array_equal(found.pixel_array, expected.pixel_array if meta else slices(1)[0])
    assert (found.KVP, found.ImagePositionPatient, found.file_meta.TransferSyntaxUID) == (120, [0, 0, 0], syntax)


def test_a_picture_in_a_sequence_goes(tmp_path):
    ds = dataset(slices(1)[0])
    item = pydicom.Dataset()
    item.Rows, item.Columns = 4, 5
    item.add_new(0x7FE00010, "OW", (MARKER * 4).encode())
    ds.SourceImageSequence = [item]
    save(ds, tmp_path / "in" / "a.dcm")
    deidentify_folder(tmp_path / "in", tmp_path / "out", KEY)
    assert found_below(tmp_path / "out") == {}
