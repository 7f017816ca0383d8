"""A result enters its source's study, or nothing."""

import shutil

import dicom_files
import pytest
from made_results import rtstruct
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from medsam.errors import InputError
from medsam.pacs.listen.names import SeriesKey
from medsam.pacs.listen.results import check_results
from medsam.pacs.listen.rules import Match, read_facts

KEY = SeriesKey(dicom_files.STUDY, dicom_files.SERIES)
PIXELS = dicom_files.slices(4, 16, 16)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A series as it lies in the receiver's folder: files named by their UIDs."""
    folder = dicom_files.series(tmp_path_factory.mktemp("scan"), PIXELS, BodyPartExamined="CHEST")
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"{dcmread(path).SOPInstanceUID}.dcm")
    return folder


@pytest.fixture(scope="module")
def sound(scan, tmp_path_factory):
    return rtstruct(scan, tmp_path_factory.mktemp("sound") / "result.dcm")


def facts(scan):
    return read_facts(KEY, sorted(scan.iterdir()))


def changed(sound, path, **changes):
    ds = dcmread(sound)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def test_a_result_of_the_series_may_be_sent(scan, sound, tmp_path):
    shutil.copy(sound, tmp_path / "a.dcm")
    (tmp_path / "report.txt").write_text("volume")
    (found,) = check_results(tmp_path, facts(scan))
    assert found.path == tmp_path / "a.dcm"


def test_a_result_without_the_name_is_still_the_patients_and_one_without_the_id_is_not(scan, sound, tmp_path):
    changed(sound, tmp_path / "a.dcm", PatientName="", PatientBirthDate="")
    assert len(check_results(tmp_path, facts(scan))) == 1
    changed(sound, tmp_path / "a.dcm", PatientID="")
    with pytest.raises(InputError, match="Patient ID"):
        check_results(tmp_path, facts(scan))


def test_a_result_may_lack_file_meta_information(scan, sound, tmp_path):
    bare = Dataset({element.tag: element for element in dcmread(sound)})
    bare.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True)
    assert len(check_results(tmp_path, facts(scan))) == 1


def test_no_results_are_none(scan, tmp_path):
    assert check_results(tmp_path, facts(scan)) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"StudyInstanceUID": "1.2.3.999"}, "(0020,000D) Study Instance UID"),
        ({"PatientID": "MRN-0815"}, "(0010,0020) Patient ID"),
        ({"PatientName": "ROE^RICHARD"}, "(0010,0010) Patient's Name"),
        ({"PatientBirthDate": "19710101"}, "(0010,0030) Patient's Birth Date"),
        ({"SeriesInstanceUID": dicom_files.SERIES}, "(0020,000E) Series Instance UID"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "(0008,0016) SOP Class UID"),
        ({"SOPInstanceUID": ""}, "(0008,0018) SOP Instance UID"),
        ({"FrameOfReferenceUID": "1.2.3.998"}, "(0020,0052) Frame of Reference UID"),
        ({"ReferencedFrameOfReferenceSequence": [], "ROIContourSequence": []}, "(0008,1155)"),
    ],
)
def test_a_result_of_something_else_is_not_sent(scan, sound, tmp_path, changes, named):
    changed(sound, tmp_path / "bad.dcm", **changes)
    with pytest.raises(InputError) as caught:
        check_results(tmp_path, facts(scan))
    message = str(caught.value)
    assert message.startswith("The result bad.dcm is not sent: ")
    assert named in message
    assert not any(secret in message for secret in ("MRN", "DOE", "ROE", "19710101", "1.2.3.999"))


def test_a_result_drawn_on_images_of_another_series_is_not_sent(scan, sound, tmp_path):
    ds = dcmread(sound)
    for contour in ds.ROIContourSequence[0].ContourSequence:
        contour.ContourImageSequence[0].ReferencedSOPInstanceUID = generate_uid()
    ds.save_as(tmp_path / "bad.dcm")
    with pytest.raises(InputError, match="images that are not of the series"):
        check_results(tmp_path, facts(scan))


@pytest.mark.parametrize(
    ("keyword", "where"),
    [
        ("FrameOfReferenceUID", ()),
        ("ReferencedSOPInstanceUID", ("RTReferencedStudySequence",)),
        ("SeriesInstanceUID", ("RTReferencedStudySequence", "RTReferencedSeriesSequence")),
    ],
)
def test_a_result_that_refers_to_another_frame_study_or_series_is_not_sent(scan, sound, tmp_path, keyword, where):
    ds = dcmread(sound)
    item = ds.ReferencedFrameOfReferenceSequence[0]
    for sequence in where:
        item = item[sequence].value[0]
    setattr(item, keyword, "1.2.3.999")
    ds.save_as(tmp_path / "bad.dcm")
    with pytest.raises(InputError, match="of what it refers to is not that of the images"):
        check_results(tmp_path, facts(scan))


def test_a_damaged_result_and_a_link_are_not_sent(scan, sound, tmp_path):
    (tmp_path / "cut.dcm").write_bytes(sound.read_bytes()[:-300])
    with pytest.raises(InputError):
        check_results(tmp_path, facts(scan))
    (tmp_path / "cut.dcm").unlink()
    (tmp_path / "link.dcm").symlink_to(sound)
    assert check_results(tmp_path, facts(scan)) == []


def test_one_result_twice_is_not_sent(scan, sound, tmp_path):
    shutil.copy(sound, tmp_path / "a.dcm")
    shutil.copy(sound, tmp_path / "b.dcm")
    with pytest.raises(InputError, match="Two results"):
        check_results(tmp_path, facts(scan))


def test_a_series_of_two_patients_is_not_worked_on(tmp_path):
    dicom_files.series(tmp_path, PIXELS, PatientID=["A", "A", "B", "A"])
    with pytest.raises(InputError, match=r"\(0010,0020\) Patient ID") as caught:
        facts(tmp_path)
    assert "MRN" not in str(caught.value)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(), True),
        (Match(modality=("MR",)), False),
        (Match(modality=("MR", "CT")), True),
        (Match(body_part=("chest",)), True),
        (Match(body_part=("head*",)), False),
        (Match(description=("*THORAX*",)), True),
        (Match(description=("thorax",)), False),
        (Match(sop_class=("1.2.840.10008.5.1.4.1.1.2",)), True),
        (Match(sop_class=("1.2.840.10008.5.1.4.1.1.4",)), False),
        (Match(calling_aet=("CT1",)), False),
        (Match(at_least=4), True),
        (Match(at_least=5), False),
    ],
)
def test_rules_match_what_they_state(scan, match, fits):
    assert match(facts(scan)) == fits


def test_results_that_come_back_are_not_images(tmp_path):
    dicom_files.series(tmp_path, PIXELS, Modality="SEG")
    found = facts(tmp_path)
    assert not Match()(found)
    assert Match(modality=("SEG",))(found)
