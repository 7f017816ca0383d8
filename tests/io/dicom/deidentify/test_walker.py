"""Nothing that names a patient comes through, wherever it stood."""

from __future__ import annotations

from io import BytesIO

import pytest
from dicom_files import dataset, enhanced, slices
from markers import DATE, KANJI, MARKER, NAME, NUMBER, SOUND, found_in, plant, raw, text_elements, value_of
from pydicom import DataElement, Dataset, dcmread
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from medsam.errors import InputError
from medsam.io.dicom.deidentify.folder import Deidentifier, encoded
from medsam.io.dicom.deidentify.options import KEEP, Options
from medsam.io.dicom.deidentify.tags import TECHNICAL
from medsam.io.dicom.read import quiet

KEY = bytes(range(32))


def cleaned(ds: Dataset, key: bytes = KEY, **options) -> bytes:
    """The bytes of what is left of a data set as a file holds it."""
    buffer = BytesIO()
    with quiet():
        ds.save_as(buffer, enforce_file_format=True)
        # as the program reads files
        return encoded(Deidentifier(Options(**options), key).clean(dcmread(BytesIO(buffer.getvalue()))).dataset)


def read(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def planted_in(ds: Dataset, keep: tuple[str, ...] = SOUND) -> Dataset:
    with quiet():
        return plant(ds, keep)


def few() -> Dataset:
    """A marker in each kind of element, and in all that say who a patient is."""
    item = Dataset()
    seen: set[str] = set()
    for element in text_elements(frozenset(Tag(keyword) for keyword in SOUND)):
        if element.VR not in seen or element.tag.group in (0x0008, 0x0010, 0x0062, 0x3006):
            seen.add(element.VR)
            item[element.tag] = element
    return item


def planted(sop_class: str = CTImageStorage, **tags) -> Dataset:
    ds = planted_in(dataset(slices(1)[0], SOPClassUID=sop_class, **tags))
    ds.preamble = (MARKER * 13).encode()[:128]
    ds.file_meta.SourceApplicationEntityTitle = MARKER
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3"
    ds.file_meta.PrivateInformation = MARKER.encode()
    return ds


def test_a_marker_in_every_element_is_nowhere_in_the_bytes():
    data = cleaned(planted())
    assert found_in(data) == []
    # and the picture is as it was
    assert read(data).PixelData == dataset(slices(1)[0]).PixelData


def test_no_option_lets_a_name_through():
    everything = frozenset(KEEP) - {"dates"}
    assert found_in(cleaned(planted(MRImageStorage), keep=everything, shift_dates=True)) == []
    # these are what that option keeps
    found = found_in(cleaned(planted(PositronEmissionTomographyImageStorage), keep=frozenset(["dates"])))
    assert found == [f"{DATE} ({one})" for one in ENCODINGS_OF_DIGITS]


ENCODINGS_OF_DIGITS = ("latin-1", "utf-8", "iso2022_jp", "shift_jis", "euc_jp", "gb18030")


def test_a_marker_in_sequences_in_sequences_is_nowhere():
    ds = dataset(slices(1)[0])
    # one that the table leaves, one that it walks, one of a code, one that goes
    for sequence in (
        "ContributingEquipmentSequence",
        "SourceImageSequence",
        "AnatomicRegionSequence",
        "ContentSequence",
    ):
        outer = few()
        outer.ReferencedSOPSequence = [few()]
        setattr(ds, sequence, [outer])
    block = ds.private_block(0x0029, "MAKER 1", create=True)
    block.add_new(0x10, "SQ", [few()])
    assert found_in(cleaned(ds)) == []


def test_only_texts_of_scanners_and_codes_stay_when_each_element_has_its_own_words():
    ds = dataset(slices(1)[0])
    for number, element in enumerate(text_elements(frozenset(Tag(keyword) for keyword in SOUND))):
        if element.VR in ("CS", "LO", "SH", "ST", "LT", "UT", "UC", "AE"):
            # a word of its own, so that none tells of another that it names somebody
            ds[element.tag] = raw(element.tag, element.VR, value_of(element.VR, f"{number:04d}{MARKER}"))
    found = found_where(cleaned(ds))
    assert found <= set(TECHNICAL) | CODES
    assert {"Manufacturer", "ConvolutionKernel"} <= found


# (CS) elements may hold words of the standard alone, which are not all listed anywhere
CODES = {"*CS"}


def found_where(data: bytes) -> set[str]:
    """Keywords of elements whose value holds the marker; codes as one."""
    found = set()
    for element in read(data).iterall():
        if element.VR != "SQ" and MARKER in str(element.value):
            found.add("*CS" if element.VR == "CS" else element.keyword)
    return found


def test_names_in_other_scripts_and_nested_character_sets():
    ds = dataset(
        slices(1)[0], SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=f"Yamada^Tarou={KANJI[:2]}^{KANJI[2:]}"
    )
    ds.Manufacturer = KANJI
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 100"
    item.InstitutionName = "\u00c4\u00d6QZX"
    item.Manufacturer = "\u00c4\u00d6QZX"
    ds.ContributingEquipmentSequence = [item]
    ds.OperatorsName = "\u00c4\u00d6QZX"
    data = cleaned(ds)
    assert found_in(data) == []
    assert read(data).SpecificCharacterSet == "ISO_IR 192"


def test_a_technical_text_stays_unless_it_holds_the_name_however_spelt():
    ds = dataset(slices(1)[0], PatientName="M\u00fcller-L\u00fcdenscheidt^Hans", SpecificCharacterSet="ISO_IR 192")
    ds.Manufacturer, ds.ManufacturerModelName = "SIEMENS", "Somatom for mueller"
    ds.SequenceName, ds.ConvolutionKernel = "LUDENSCHEIDT", "B30f"
    ds.ReconstructionMethod = "by hansM\u00dcLLER"
    found = read(cleaned(ds))
    assert (found.Manufacturer, found.ConvolutionKernel) == ("SIEMENS", "B30f")
    assert (found.SequenceName, found.ReconstructionMethod) == ("REMOVED", "REMOVED")
    assert found.ManufacturerModelName == "REMOVED"


@pytest.mark.parametrize(
    ("name", "said"),
    [("Mueller", "M\u00dcLLER"), ("S\u00f8rensen", "soerensen"), ("S\u00f8rensen", "Sorensen 2"), ("Bauer", "BAUER")],
)
def test_names_without_the_letters_of_their_language_are_found(name, said):
    ds = dataset(slices(1)[0], PatientName=f"{name}^X", SpecificCharacterSet="ISO_IR 192", ManufacturerModelName=said)
    assert read(cleaned(ds)).ManufacturerModelName == "REMOVED"


@pytest.mark.parametrize("said", ["b. 31.12.1970", "1970-12-31", "12/31/1970", "19701231", "31.12.70x"])
def test_a_date_of_birth_in_a_text_goes_in_any_order(said):
    ds = dataset(slices(1)[0], PatientBirthDate="19701231", ManufacturerModelName=said)
    # of a year in two digits nobody can tell
    assert (read(cleaned(ds)).ManufacturerModelName == "REMOVED") is ("70x" not in said)


def test_elements_that_are_not_what_they_should_be_go():
    ds = dataset(slices(1)[0])
    ds[0x00180050] = raw(0x00180050, "LO", value_of("LO"))  # Slice Thickness, as a text
    ds[0x00180060] = raw(0x00180060, "DS", value_of("DS"))  # KVP, no number
    ds[0x00280106] = raw(0x00280106, "OB", value_of("OB"))  # Smallest Image Pixel Value, as bytes
    ds[0x00189073] = raw(0x00189073, "FD", value_of("FD") * 4)  # Acquisition Duration, of eight numbers
    ds[0x00080008] = raw(0x00080008, "CS", b"ORIGINAL\\no code!")
    data = cleaned(ds)
    assert found_in(data) == []
    assert not any(keyword in read(data) for keyword in ("SliceThickness", "KVP", "AcquisitionDuration", "ImageType"))


def test_an_image_whose_geometry_would_be_lost_is_refused():
    ds = dataset(slices(1)[0])
    ds[0x00200032] = raw(0x00200032, "DS", value_of("DS"))
    with pytest.raises(InputError, match="Image Position"):
        cleaned(ds)


def test_uids_are_others_and_refer_to_one_another_as_before():
    ds = dataset(slices(1)[0])
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.9"
    ds.ReferencedImageSequence = [item]
    ds.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"
    other = dataset(slices(1)[0], SOPInstanceUID="1.2.3.9")
    one, two = read(cleaned(ds)), read(cleaned(other))
    assert one.ReferencedImageSequence[0].ReferencedSOPInstanceUID == two.SOPInstanceUID
    assert one.SeriesInstanceUID == two.SeriesInstanceUID != ds.SeriesInstanceUID
    assert one.SOPInstanceUID == one.file_meta.MediaStorageSOPInstanceUID
    # of the standard itself
    assert one.ReferencedImageSequence[0].ReferencedSOPClassUID == CTImageStorage
    assert one.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"


def test_the_same_key_gives_the_same_bytes_and_another_key_other_names():
    ds = dataset(slices(1)[0], SOPInstanceUID="1.2.3.9")
    assert cleaned(ds) == cleaned(ds)
    one, two = read(cleaned(ds)), read(cleaned(ds, bytes(32)))
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "PatientName"):
        assert one[keyword].value != two[keyword].value


def test_what_was_done_is_said_in_the_data_set():
    found = read(cleaned(dataset(slices(1)[0])))
    assert found.PatientIdentityRemoved == "YES"
    assert found.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert found.LongitudinalTemporalInformationModified == "REMOVED"
    kept = read(cleaned(dataset(slices(1)[0]), keep=frozenset(["device", "patient"]), shift_dates=True))
    codes = [item.CodeValue for item in kept.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113108", "113109", "113107"]
    assert kept.LongitudinalTemporalInformationModified == "MODIFIED"


def test_dates_are_moved_by_the_same_days_for_one_patient():
    ds = dataset(slices(1)[0], StudyDate="20240229", SeriesDate="20240310", ContentTime="101112.5")
    ds.AcquisitionDateTime = "20240229101112.123456+0100"
    other = dataset(slices(1)[0], StudyDate="20240310", PatientName="otherwise spelt")
    stranger = dataset(slices(1)[0], StudyDate="20240229", PatientID="other")
    one, two, three = (read(cleaned(each, shift_dates=True)) for each in (ds, other, stranger))
    assert one.SeriesDate == two.StudyDate
    assert one.StudyDate != three.StudyDate
    assert one.StudyDate < "20240229"
    assert one.AcquisitionDateTime == f"{one.StudyDate}101112.123456+0100"
    assert one.ContentTime == "101112.5"
    assert one.PatientBirthDate == ""


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((), {"PatientSex": "", "PatientAge": None, "InstitutionName": "REMOVED", "DeviceSerialNumber": "REMOVED"}),
        (("patient",), {"PatientSex": "F", "PatientAge": "090Y", "PatientWeight": 61}),
        (("institution",), {"InstitutionName": "General", "DeviceSerialNumber": "REMOVED"}),
        (("device",), {"DeviceSerialNumber": "X77", "StationName": "ROOM2", "InstitutionName": "REMOVED"}),
        (("dates",), {"StudyDate": "20200101", "PatientBirthDate": ""}),
        (("descriptors",), {"StudyDescription": "Thorax native 5mm", "SeriesDescription": "thorax of"}),
    ],
)
def test_options_keep_what_they_say(kept, expected):
    ds = dataset(
        slices(1)[0],
        PatientSex="F",
        PatientAge="093Y",
        PatientWeight=61,
        InstitutionName="General",
        DeviceSerialNumber="X77",
        StationName="ROOM2",
        StudyDate="20200101",
        StudyDescription="Thorax native 5mm Doe 12.03.2020 Dr. Who 123456",
    )
    ds.SeriesDescription = "thorax of Jane"
    found = read(cleaned(ds, keep=frozenset(kept)))
    assert {keyword: found.get(keyword) for keyword in expected} == expected


def test_uids_may_stay():
    found = read(cleaned(dataset(slices(1)[0], SOPInstanceUID="1.2.3.9"), keep=frozenset(["uids"])))
    assert (found.SOPInstanceUID, found.SeriesInstanceUID) == ("1.2.3.9", "1.2.3.1")


def test_uids_that_stay_cannot_lead_out_of_a_folder():
    ds = dataset(slices(1)[0])
    ds.add(DataElement(0x0020000D, "UI", "..", validation_mode=0))
    assert read(cleaned(ds, keep=frozenset(["uids"]))).StudyInstanceUID.startswith("2.25.")


def test_private_numbers_of_the_standards_list_may_stay_and_nothing_else_private():
    ds = dataset(slices(1)[0])
    block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.000276")
    block.add_new(0x01, "DS", "4711")
    block.add_new(0x09, "LO", MARKER)
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "1000")
    ds.private_block(0x0021, f"OF {MARKER}", create=True).add_new(0x0C, "IS", "1000")
    data = cleaned(ds, keep=frozenset(["private"]))
    found = read(data)
    private = {f"{element.tag:08x}": element.value for element in found if element.tag.is_private}
    assert private == {
        "00190010": "SIEMENS MR HEADER",
        "0019100c": 1000,
        "70530010": "Philips PET Private Group",
        "70531000": pytest.approx(0.000276),
    }
    assert found_in(data) == []
    assert not any(element.tag.is_private for element in read(cleaned(ds)))


def test_frames_of_an_enhanced_image_are_walked_and_keep_their_places():
    ds = enhanced(slices(3), [(0, 0, 2 * k) for k in range(3)])
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].FrameComments = MARKER
        group.FrameContentSequence[0].FrameAcquisitionDateTime = DATE
        group.FrameContentSequence[0].FrameLabel = MARKER
    ds.PatientID = NUMBER
    data = cleaned(ds)
    assert found_in(data) == []
    places = [g.PlanePositionSequence[0].ImagePositionPatient[2] for g in read(data).PerFrameFunctionalGroupsSequence]
    assert places == [0, 2, 4]


def test_a_name_that_is_a_word_of_anatomy_does_not_take_the_anatomy_away():
    ds = dataset(slices(1)[0], PatientName="LIVER^01", BodyPartExamined="LIVER")
    assert read(cleaned(ds)).BodyPartExamined == "LIVER"
    named = dataset(slices(1)[0], PatientName=NAME, BodyPartExamined=MARKER)
    assert "BodyPartExamined" not in read(cleaned(named))


def test_a_name_that_is_part_of_a_code_does_not_take_the_code_away():
    ds = dataset(slices(1)[0], PatientName="Prima^Original", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    assert list(read(cleaned(ds)).ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_a_code_stored_as_a_text_must_be_a_code_and_a_number_that_is_the_patients_goes():
    ds = dataset(slices(1)[0], PatientID="90817263", AccessionNumber="55512345")
    ds[0x00180015] = raw(0x00180015, "LO", b"the knee of a teacher ")  # Body Part Examined
    ds[0x00180022] = raw(0x00180022, "LO", b"FAST")  # Scan Options
    ds[0x00080070] = raw(0x00080070, "LT", b"ACME " * 50)  # Manufacturer
    ds.AcquisitionNumber, ds.InstanceNumber, ds.KVP = 90817263, 12, "55512345"
    found = read(cleaned(ds))
    assert "BodyPartExamined" not in found
    assert (found.ScanOptions, found.Manufacturer, found.InstanceNumber) == ("FAST", "REMOVED", 12)
    assert "AcquisitionNumber" not in found
    # a short number is a slice's as likely as not
    assert read(cleaned(dataset(slices(1)[0], PatientID="0012", InstanceNumber=12))).InstanceNumber == 12
    assert read(cleaned(dataset(slices(1)[0], PatientID="4711", InstanceNumber=4711))).InstanceNumber == 4711


@pytest.mark.parametrize(("keep", "answers"), [((), (0, "REMOVED")), (("patient",), (1, "248152002"))])
def test_age_and_sex_in_a_report_go_like_those_in_the_header(keep, answers):
    ds = planted("1.2.840.10008.5.1.4.1.1.88.33")
    for keyword in [one for one in ds.dir() if one.startswith(("Pixel", "Bits", "HighBit", "Rows", "Columns"))]:
        del ds[keyword]
    age, sex = item("121033", "DCM"), item("121032", "DCM")
    measured = Dataset()
    measured.NumericValue = "97"
    age.MeasuredValueSequence, sex.ConceptCodeSequence = [measured], [code("248152002", "SCT")]
    ds.ContentSequence = [age, sex]
    first, second = read(cleaned(ds, keep=frozenset(keep))).ContentSequence
    assert (len(first.MeasuredValueSequence), second.ConceptCodeSequence[0].CodeValue) == answers


@pytest.mark.parametrize("keep", [(), ("patient",)])
def test_measures_of_the_body_and_diagnoses(keep):
    ds = dataset(slices(1)[0], PatientBodyMassIndex=31, MeasuredAPDimension=280)
    ds.DischargeDiagnosisCodeSequence = [code("22298006", "SCT")]
    found = read(cleaned(ds, keep=frozenset(keep)))
    assert ("PatientBodyMassIndex" in found, "MeasuredAPDimension" in found) == (bool(keep), bool(keep))
    assert "DischargeDiagnosisCodeSequence" not in found


@pytest.mark.parametrize(("value", "expected"), [("SEG", "SEG"), ("121322", "121322"), ("SMITH", "REMOVED")])
def test_codes_of_the_standard_that_are_words_stay(value, expected):
    ds = dataset(slices(1)[0])
    ds.DerivationCodeSequence = [code(value, "DCM")]
    assert read(cleaned(ds)).DerivationCodeSequence[0].CodeValue == expected


def test_a_number_of_the_patient_is_no_code():
    ds = dataset(slices(1)[0], PatientID="77665544")
    ds.AnatomicRegionSequence = [code("77665544", "SCT")]
    assert b"77665544" not in cleaned(ds)


def code(value: str, scheme: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, "x"
    return made


def item(value: str, scheme: str) -> Dataset:
    made = Dataset()
    made.ConceptNameCodeSequence = [code(value, scheme)]
    return made
