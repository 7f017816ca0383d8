"""What objects made from a series inherit from it, and what is mended on the way."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_files import FRAME, PATIENT, SAGITTAL, SERIES, STUDY, enhanced, save, series, slices, write
from pydicom import DataElement, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, generate_uid

from medsam.drawing.colours import LABELS, rgb
from medsam.errors import InputError, SeveralSeries
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.derive import PALETTE, derived_dataset, source_images, uid_from
from medsam.io.dicom.series import read_dicom
from medsam.io.load import load_volume

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def derived(folder: Path, tmp_path: Path, texts: tuple[str, ...] = ()):
    """What is written from a series and read again."""
    source = source_images(folder, read_dicom(folder).geometry)
    ds = derived_dataset(source, RTSTRUCT, "RTSTRUCT", series_number=9, series_description="ours", texts=texts)
    ds.StructureSetDescription = " ".join(texts)
    ds.save_as(tmp_path / "derived.dcm", enforce_file_format=True)
    return dcmread(tmp_path / "derived.dcm")


def said(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert not any(secret in text for secret in ("DOE", "JANE", "4711", "1950"))
    return text


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), SAGITTAL, (1, 0, 0, 0, -1, 0)])
def test_images_come_in_the_order_of_k_with_their_places(tmp_path, orientation):
    folder = series(tmp_path / "s", slices(4), orientation)
    scan = read_dicom(folder)
    source = source_images(scan, scan.geometry)
    assert source.geometry == scan.geometry
    assert (source.study, source.series, source.frame_of_reference) == (STUDY, SERIES, FRAME)
    for k, image in enumerate(source.images):
        np.testing.assert_allclose(image.position, scan.affine[:3, 3] + k * scan.affine[:3, 2])
        assert (image.sop_class, image.frame) == (CTImageStorage, None)
    assert (source.plane.orientation, source.plane.spacing) == (orientation, (0.5, 0.75))
    assert len({image.sop_instance for image in source.images}) == 4


def test_frames_of_one_file_keep_their_numbers(tmp_path):
    path = save(enhanced(slices(3), [(0, 0, 4), (0, 0, 0), (0, 0, 2)]), tmp_path / "e.dcm")
    scan = read_dicom(path)
    assert [image.frame for image in source_images(path, scan.geometry).images] == [2, 3, 1]


def test_the_scan_knows_its_series_and_its_zip(tmp_path):
    folder = series(tmp_path / "s", slices(3))
    series(folder / "other", slices(3) + 1, SeriesInstanceUID="1.2.3.99")
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    for path in (folder, packed):
        scan = load_volume(path, series=SERIES)
        assert source_images(scan, scan.geometry).series == SERIES
        with pytest.raises(SeveralSeries):
            source_images(path, scan.geometry)


def test_files_in_memory_are_a_source_and_a_scan_read_from_them_is_none(tmp_path):
    files = [path.read_bytes() for path in series(tmp_path / "s", slices(3)).iterdir()]
    scan = read_dicom(files)
    assert len(source_images(files, scan.geometry).images) == 3
    with pytest.raises(InputError, match="Pass those files") as error:
        source_images(scan, scan.geometry)
    assert error.value.parameter == "source"


def test_another_grid_is_refused_and_one_that_differs_by_rounding_is_not(tmp_path):
    folder = series(tmp_path / "s", slices(3))
    geometry = read_dicom(folder).geometry
    affine = geometry.affine + 1e-6
    affine[3] = (0, 0, 0, 1)
    assert source_images(folder, VolumeGeometry(geometry.shape, affine)).geometry == geometry
    affine[0, 3] += 0.5
    with pytest.raises(InputError, match="another grid") as error:
        source_images(folder, VolumeGeometry(geometry.shape, affine))
    said(error)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_what_nothing_can_refer_to_is_refused(tmp_path, keyword):
    path = write(tmp_path / "one.dcm", slices(1)[0])
    ds = dcmread(path)
    del ds[keyword]
    ds.save_as(path)
    with pytest.raises(InputError, match="nothing can refer") as error:
        source_images(path, read_dicom(path).geometry)
    said(error)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SOPInstanceUID": "1.2.3.77"}, r"have the same \(0008,0018\) SOP Instance UID"),
        (
            {"StudyInstanceUID": ["1.2.3.2", "1.2.3.2", "1.2.3.9"]},
            r"state 2 different \(0020,000D\) Study Instance UID",
        ),
    ],
)
def test_images_that_no_reference_tells_apart_and_those_of_two_studies_are_refused(tmp_path, tags, message):
    folder = series(tmp_path / "ct", slices(3), **tags)
    with pytest.raises(InputError, match=message) as error:
        source_images(folder, read_dicom(folder).geometry)
    said(error)


def test_no_dicom_and_a_scan_that_is_gone_are_refused(tmp_path):
    geometry = VolumeGeometry.uncalibrated((1, 2, 2))
    (tmp_path / "a.nii").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match="is not DICOM"):
        source_images(tmp_path / "a.nii", geometry)
    with pytest.raises(InputError, match="is not there"):
        source_images(tmp_path / "b", geometry)


def test_patient_study_and_place_are_inherited_and_nothing_private(tmp_path):
    folder = series(tmp_path / "s", slices(2), PatientComments="of note", PatientAge="071Y", StationName="CT1")
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "secret")
        ds.save_as(path)
    ds = derived(folder, tmp_path)
    assert (ds.PatientName, ds.PatientID, ds.StudyInstanceUID) == (PATIENT, "MRN-4711", STUDY)
    assert (ds.FrameOfReferenceUID, ds.PatientAge, ds.PatientComments) == (FRAME, "071Y", "of note")
    assert not [element for element in ds if element.tag.is_private]
    assert "StationName" not in ds
    assert ds.SeriesInstanceUID.startswith("2.25.")
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID


@pytest.mark.parametrize(
    ("charset", "stored", "name"),
    [
        (None, b"DOE^JANE", "DOE^JANE"),
        ("", b"DOE^JANE", "DOE^JANE"),
        ("ISO_IR 100", "MÜLLER^JÖRG".encode("latin-1"), "MÜLLER^JÖRG"),
        ("ISO_IR 192", "MÜLLER^漢字".encode(), "MÜLLER^漢字"),
        pytest.param(
            ["", "ISO 2022 IR 87"],
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            id="japanese",
        ),
    ],
)
@pytest.mark.parametrize("texts", [("liver",), ("Gallenblase, groß",), ("肝臓",)])
def test_names_and_texts_survive_whatever_set_the_source_is_in(tmp_path, charset, stored, name, texts):
    folder = series(tmp_path / "s", slices(2), SpecificCharacterSet=[charset] * 2)
    for path in folder.iterdir():
        ds = dcmread(path)
        # as bytes: what an encoder makes of it is not the question
        ds[Tag("PatientName")] = RawDataElement(Tag("PatientName"), "PN", len(stored), stored, 0, False, True)
        ds.save_as(path)
    ds = derived(folder, tmp_path, texts)
    assert str(ds.PatientName) == name
    assert ds.StructureSetDescription == texts[0]
    kept = charset == "ISO_IR 100" and "肝臓" not in texts
    assert ds.SpecificCharacterSet == ("ISO_IR 100" if kept else "ISO_IR 192")


def test_missing_and_senseless_values_are_left_empty_and_nothing_is_logged(tmp_path, caplog):
    broken = {
        "PatientName": "a name without a caret", "PatientSex": None, "PatientBirthDate": None, "PatientID": None,
        "SliceThickness": None, "FrameOfReferenceUID": None,
    }  # fmt: skip
    folder = series(tmp_path / "s", slices(2), **broken)
    with caplog.at_level(logging.DEBUG):
        ds = derived(folder, tmp_path)
    assert not [record for record in caplog.records if "caret" in record.getMessage()]
    for keyword in ("PatientSex", "PatientBirthDate", "PatientID", "StudyDate", "StudyTime", "AccessionNumber"):
        assert keyword in ds
        assert not ds[keyword].value
    assert ds.StudyID == "1"
    assert ds.FrameOfReferenceUID == uid_from(SERIES, "frame of reference")
    source = source_images(folder, read_dicom(folder).geometry)
    assert source.frame_of_reference == ds.FrameOfReferenceUID
    assert "was made from the UID of their series" in source.notes[0]


@pytest.mark.parametrize(
    "bad", [{"StudyDate": "unknown"}, {"PatientBirthDate": "1950"}, {"StudyTime": "99:99"}, {"PatientSex": "W"}]
)
def test_a_value_that_no_reader_takes_is_left_empty(tmp_path, bad):
    folder = series(tmp_path / "s", slices(2))
    ((keyword, value),) = bad.items()
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.add_new(keyword, "LO", value)
        ds[keyword].VR = {"StudyTime": "TM", "PatientSex": "CS"}.get(keyword, "DA")
        ds.save_as(path)
    assert not derived(folder, tmp_path)[keyword].value


def test_what_cannot_be_parsed_is_left_out(tmp_path):
    folder = series(tmp_path / "s", slices(2), ReferringPhysicianName="DOE^WHO", StudyDescription="kept")
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content.count(b"\x08\0\x90\0PN") == 1
        path.write_bytes(content.replace(b"\x08\0\x90\0PN", b"\x08\0\x90\0TN"))
    ds = derived(folder, tmp_path)
    assert (ds.ReferringPhysicianName, ds.StudyDescription, ds.PatientName) == ("", "kept", PATIENT)


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "kept"),
    [
        ("PatientName", "US", 7, ""),
        ("StudyID", "FD", 1.5, "1"),
        ("StudyDescription", "FD", 1.5, None),
        ("StudyDescription", "ST", "thorax", "thorax"),
        ("PatientID", "LT", "4712", "4712"),
    ],
)
def test_a_value_of_another_kind_is_a_text_or_left_out(tmp_path, keyword, vr, value, kept):
    folder = series(tmp_path / "s", slices(2))
    for path in folder.iterdir():
        ds = dcmread(path)
        ds[keyword] = DataElement(keyword, vr, value)
        ds.save_as(path)
    ds = derived(folder, tmp_path)
    assert ds.get(keyword) == kept


@pytest.mark.parametrize("method", [None, "cleaned by hand"])
def test_a_source_without_identity_says_how_or_that_it_does_not_say(tmp_path, method):
    folder = series(tmp_path / "s", slices(2), PatientIdentityRemoved="YES", DeidentificationMethod=method)
    assert derived(folder, tmp_path).DeidentificationMethod == (method or "not stated by the source")


def test_an_unknown_class_of_images_is_referred_to_by_its_own_uid(tmp_path):
    private = "1.3.12.2.1107.5.9.1"
    folder = series(tmp_path / "s", slices(2), SOPClassUID=private)
    source = source_images(folder, read_dicom(folder).geometry)
    assert {image.sop_class for image in source.images} == {private}
    assert derived(folder, tmp_path).PatientID == "MRN-4711"


def test_an_image_without_place_has_no_frame_of_reference(tmp_path):
    path = write(
        tmp_path / "dx.dcm", slices(1)[0], Modality="DX", ImagePositionPatient=None, ImageOrientationPatient=None
    )
    source = source_images(path, read_dicom(path).geometry)
    assert source.frame_of_reference is None
    assert source.plane is None
    assert source.images[0].frame is None


def test_uids_from_the_same_names_are_equal():
    assert uid_from("1.2", "a") == uid_from("1.2", "a") != uid_from("1.2", "b")
    assert len(uid_from(generate_uid(), "a")) <= 64


def test_colours_of_structures_without_one_of_their_own_are_those_of_previews():
    assert tuple(map(rgb, LABELS)) == PALETTE
