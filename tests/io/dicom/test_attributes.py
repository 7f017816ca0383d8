"""Attributes of a series for statistics: what names nobody, in units that can be compared."""

from __future__ import annotations

import pytest
from dicom_files import dataset, enhanced, save, slices, write
from pydicom.datadict import DicomDictionary, dictionary_VR

from medsam.errors import InputError
from medsam.io.dicom.attributes import AGE, CONTRAST, TEXTS, keyword_of, series_attributes, sidecar_values


@pytest.mark.parametrize("tag", ["SliceThickness", "slicethickness", "0018,0050", "(0018,0050)", " 0018,0050 "])
def test_a_tag_may_be_given_in_every_way(tag):
    assert keyword_of(tag) == "SliceThickness"


@pytest.mark.parametrize(
    "tag",
    [
        *("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AcquisitionTime", "SOPInstanceUID"),
        *("AccessionNumber", "InstitutionAddress", "StationName", "SeriesDescription", "ProtocolName", "OperatorsName"),
        *("DeviceSerialNumber", "PatientComments", "OtherPatientIDsSequence", "0010,0010", "ImageComments"),
    ],
)
def test_what_may_tell_who_somebody_is_makes_no_group(tag):
    with pytest.raises(InputError, match="it may tell who somebody is"):
        keyword_of(tag)


def test_age_agent_and_institution_are_told_as_something_else():
    assert [keyword_of(tag) for tag in ("0010,1010", "ContrastBolusAgent", "InstitutionName")] == [
        "age",
        "contrast",
        "institution",
    ]


@pytest.mark.parametrize("tag", ["SliceThicknes", "0009,1001", "", "18,50"])
def test_what_is_no_element_is_refused(tag):
    with pytest.raises(InputError, match="is no element of the DICOM standard"):
        keyword_of(tag)


def test_of_texts_only_those_of_a_scanner_are_let_through():
    free = {"LO", "SH", "LT", "ST", "UT", "UC", "PN", "DA", "TM", "DT", "UI", "AS", "UR"}
    for entry in DicomDictionary.values():
        keyword = entry[4]
        told = ("PatientAge", "ContrastBolusAgent", "InstitutionName")  # as a bin, as yes, as a number
        if keyword and not entry[3] and dictionary_VR(keyword) in free and keyword not in (*TEXTS, *told):
            with pytest.raises(InputError):
                keyword_of(keyword)


def test_values_are_read_from_the_series_that_is_meant(tmp_path):
    pixels = slices(1)[0]
    write(tmp_path / "a.dcm", pixels, SeriesInstanceUID="1.5.1", Manufacturer="GE", SliceThickness=5)
    write(tmp_path / "b.dcm", pixels, SeriesInstanceUID="1.5.2", Manufacturer=" Philips  X", SliceThickness="1.25")
    (tmp_path / "readme.txt").write_text("no DICOM")
    wanted = ["Manufacturer", "SliceThickness", "KVP"]
    assert series_attributes(tmp_path, "1.5.2", wanted) == {"Manufacturer": "Philips X", "SliceThickness": 1.25}
    assert series_attributes(tmp_path / "a.dcm", None, wanted) == {"Manufacturer": "GE", "SliceThickness": 5.0}
    assert series_attributes(tmp_path, "1.5.3", wanted) == {}
    assert series_attributes(tmp_path / "readme.txt", None, wanted) == {}


def test_an_enhanced_image_keeps_them_in_its_functional_groups(tmp_path):
    path = save(enhanced(slices(2), [(0, 0, 0), (0, 0, 2)], slopes=[1, 2]), tmp_path / "e.dcm")
    wanted = ["SliceThickness", "PixelSpacing", "RescaleType", "TemporalPositionIndex", "KVP"]
    # of those that differ between frames the first
    assert keyword_of("TemporalPositionIndex") == "TemporalPositionIndex"
    assert series_attributes(path, None, wanted) == {
        "SliceThickness": 9.0,
        "PixelSpacing": 0.5,
        "RescaleType": "HU",
        "TemporalPositionIndex": 1.0,
    }


@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "063Y"}, 63),
        ({"PatientAge": "018M"}, 1),
        ({"PatientAge": "090D", "PatientBirthDate": "19500101"}, 0),
        ({"PatientBirthDate": "19500612", "StudyDate": "20200611"}, 69),
        ({"PatientBirthDate": "19500612", "StudyDate": "20200612"}, 70),
        ({"PatientBirthDate": "19500612", "AcquisitionDate": "20200613"}, 70),
        ({"PatientBirthDate": "19500612", "StudyDate": "18991231"}, None),
        ({"PatientBirthDate": "19500612"}, None),
        ({}, None),
    ],
)
def test_age_is_stated_or_the_years_from_birth_to_the_study(tmp_path, tags, age):
    path = write(tmp_path / "a.dcm", slices(1)[0], **{"PatientBirthDate": None, **tags})
    assert series_attributes(path, None, [AGE]).get(AGE) == age


def test_a_text_in_a_code_is_none(tmp_path):
    ds = dataset(slices(1)[0], BodyPartExamined="CHEST", ImageType=["ORIGINAL", "PRIMARY", "CT_SOM5 SPI"])
    wanted = ["BodyPartExamined", "ImageType"]
    found = series_attributes(save(ds, tmp_path / "a.dcm"), None, wanted)
    assert found == {"BodyPartExamined": "CHEST", "ImageType": "ORIGINAL\\PRIMARY\\CT_SOM5 SPI"}
    data = (tmp_path / "a.dcm").read_bytes().replace(b"CHEST", b"DOE^J").replace(b"PRIMARY", b"Doe Jan")
    (tmp_path / "b.dcm").write_bytes(data)
    assert series_attributes(tmp_path / "b.dcm", None, wanted) == {}


@pytest.mark.parametrize(("agent", "given"), [("Iomeprol", "yes"), ("NONE", None), ("", None), (None, None)])
def test_contrast_is_known_only_where_an_agent_is_stated(tmp_path, agent, given):
    path = write(tmp_path / "a.dcm", slices(1)[0], ContrastBolusAgent=agent)
    assert series_attributes(path, None, [CONTRAST]).get(CONTRAST) == given


def test_the_json_of_a_converter_is_read_by_its_own_keys():
    content = {"ManufacturersModelName": "Prisma", "MagneticFieldStrength": 3, "SliceThickness": True, "KVP": None}
    assert sidecar_values(content, ["ManufacturerModelName", "MagneticFieldStrength", "SliceThickness", "KVP"]) == {
        "ManufacturerModelName": "Prisma",
        "MagneticFieldStrength": 3.0,
    }
