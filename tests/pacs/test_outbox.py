"""Where a result may go: the study of what it was made from, of the same patient, and no other."""

from __future__ import annotations

import warnings
from pathlib import Path

import dicom_files
import pytest
from dicom_files import SERIES, STUDY, item
from pydicom.uid import ComprehensiveSRStorage, RTStructureSetStorage, SegmentationStorage

from medsam.errors import InputError
from medsam.io.dicom.read import quiet
from medsam.pacs.outbox import check_own_study, check_there, outgoing, reason_text
from medsam.pacs.query import Found, Match, Query

OTHER = "1.2.3.99"
SOP_CLASSES = {"seg": SegmentationStorage, "rtstruct": RTStructureSetStorage, "sr": ComprehensiveSRStorage}


def references(kind: str, studies: list[str]) -> dict:
    """Elements by which a result of this kind refers to `SERIES` of these studies."""
    series = [item(SeriesInstanceUID=SERIES)]
    if kind == "rtstruct":
        cited = [item(ReferencedSOPInstanceUID=one, RTReferencedSeriesSequence=series) for one in studies]
        return {"ReferencedFrameOfReferenceSequence": [item(RTReferencedStudySequence=cited)]}
    cited = [item(StudyInstanceUID=one, ReferencedSeriesSequence=series) for one in studies]
    if kind == "sr":
        return {"CurrentRequestedProcedureEvidenceSequence": cited}
    own = {"ReferencedSeriesSequence": series} if STUDY in studies else {}
    return own | {"StudiesContainingOtherReferencedInstancesSequence": cited[STUDY in studies :]}


def result(folder: Path, kind: str, studies: list[str], **tags) -> Path:
    """A result of `STUDY`, made from images of `studies`. Its pixels are nobody's concern here."""
    given = {"SOPClassUID": SOP_CLASSES[kind], "SeriesInstanceUID": "1.2.3.50"} | references(kind, studies) | tags
    return dicom_files.write(folder / f"{kind}.dcm", dicom_files.slices(1)[0], **given)


def archive(*studies: tuple[str, str], series: tuple[str, ...] = (SERIES,)):
    """What a server finds that has these studies, as (UID, patient id), each with these series."""

    def find(query: Query) -> Found:
        asked = query.keys["StudyInstanceUID"]
        found = [Match(uid, patient_id=patient) for uid, patient in studies if uid == asked]
        if query.level == "series":
            found = [Match(match.study, one) for match in found for one in series]
        return Found(tuple(found))

    return find


@pytest.mark.parametrize("kind", SOP_CLASSES)
def test_a_result_of_its_own_study_may_go_there(tmp_path, kind):
    files = outgoing([result(tmp_path, kind, [STUDY])])
    assert (files[0].derived, files[0].studies, files[0].sources) == (True, {STUDY}, {SERIES})
    assert check_own_study(files) == []
    assert check_there(files, archive((STUDY, "MRN-4711")), "main") == []


@pytest.mark.parametrize(
    ("kind", "studies"),
    [(kind, [OTHER]) for kind in SOP_CLASSES] + [("seg", [STUDY, OTHER]), ("rtstruct", [STUDY, OTHER])],
)
def test_a_result_of_another_study_goes_nowhere(tmp_path, kind, studies):
    with pytest.raises(InputError, match="refers to images of another study than its own"):
        check_own_study(outgoing([result(tmp_path, kind, studies)]))


def test_a_report_may_compare_with_an_earlier_study(tmp_path):
    assert check_own_study(outgoing([result(tmp_path, "sr", [STUDY, OTHER])])) == []


def test_a_result_that_cites_nothing_is_said(tmp_path):
    (note,) = check_own_study(outgoing([result(tmp_path, "seg", [])]))
    assert "cites neither series nor images" in note


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
@pytest.mark.parametrize(("image", "fits"), [("1.2.3.4.1", True), ("1.2.3.99.1", False)])
def test_a_result_that_names_images_alone_goes_where_they_are(tmp_path, kind, image, fits):
    def find(query: Query) -> Found:
        if query.level == "instance":
            return Found((Match(STUDY, SERIES, "1.2.3.4.1"),))
        return archive((STUDY, "MRN-4711"))(query)

    cited = [item(ReferencedSOPInstanceUID=image)]
    tags = {"PerFrameFunctionalGroupsSequence": [item(DerivationImageSequence=[item(SourceImageSequence=cited)])]}
    if kind == "rtstruct":
        tags = {"ROIContourSequence": [item(ContourSequence=[item(ContourImageSequence=cited)])]}
    files = outgoing([result(tmp_path, kind, [], **tags)])
    assert check_own_study(files) == []
    if fits:
        assert check_there(files, find, "main") == []
        return
    with pytest.raises(InputError, match="1 image that it refers to cannot be found in its study"):
        check_there(files, find, "main")


@pytest.mark.parametrize(
    ("find", "said"),
    [
        (archive(), "does not have the study this was made from"),
        (archive((STUDY, "SOMEBODY-ELSE")), r"under another \(0010,0020\) Patient ID"),
        (archive((STUDY, "")), r"under another \(0010,0020\) Patient ID"),
        (archive((STUDY, "MRN-4711"), series=("1.2.3.51",)), "1 series that it refers to cannot be found"),
    ],
)
def test_the_server_must_have_the_source_of_the_same_patient(tmp_path, find, said):
    files = outgoing([result(tmp_path, "seg", [STUDY])])
    with pytest.raises(InputError, match=said) as caught:
        check_there(files, find, "main")
    assert not any(secret in str(caught.value) for secret in ("MRN-4711", "SOMEBODY", "DOE"))


def test_images_may_come_along_and_go_first(tmp_path, series):
    files = outgoing([result(tmp_path, "seg", [STUDY]), series])
    assert [file.derived for file in files] == [False] * 6 + [True]
    assert check_there(files, archive(), "main") == []


def test_one_study_under_two_patient_ids_goes_nowhere(tmp_path, series):
    files = outgoing([result(tmp_path, "seg", [STUDY], PatientID="SOMEBODY-ELSE"), series])
    with pytest.raises(InputError, match=r"another \(0010,0020\) Patient ID than other files of its study") as caught:
        check_own_study(files)
    assert "SOMEBODY" not in str(caught.value)


def test_files_that_are_none_damaged_or_differ_under_one_uid_are_refused(tmp_path, series):
    one, other, *_ = sorted(series.iterdir())
    assert len(outgoing([series, one])) == 6
    other.write_bytes(other.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut off within"):
        outgoing([series])
    twin = dicom_files.write(tmp_path / "twin.dcm", dicom_files.slices(1)[0] + 1, SOPInstanceUID="1.2.3.4")
    again = dicom_files.write(tmp_path / "again.dcm", dicom_files.slices(1)[0], SOPInstanceUID="1.2.3.4")
    with pytest.raises(InputError, match="differ and have one SOP Instance UID"):
        outgoing([twin, again])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM file to store"):
        outgoing([tmp_path / "empty"])


def test_reasons_are_named():
    assert reason_text(0xA701) == "0xA701, out of resources"
    assert reason_text(0xC123) == "0xC123, the server cannot understand it"
    assert reason_text(0x0122) == "0x0122, SOP class not supported"
    assert reason_text(0x9999) == "0x9999"
    assert reason_text(None) == "no reason given"


def test_what_is_wrong_with_a_patient_is_not_remarked_on(tmp_path):
    path = tmp_path / "long.dcm"
    with quiet():
        dicom_files.write(path, dicom_files.slices(1)[0], PatientID="DOE^JANE " * 10)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        assert outgoing([path])[0].patient_id.startswith("DOE^JANE DOE^JANE")
    assert remarks == []
