"""A series, or the frames of one object, whose numbers do not mean the same, and words that hold more than numbers."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_files import dataset, pack, save, series, slices, write
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from medsam.errors import InconsistentSeries, InputError
from medsam.io.dicom.series import read_dicom

CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}
PT = {"Modality": "PT", "RescaleSlope": 2.5, "RescaleIntercept": 0, "Units": "BQML"}


def one_differs(folder, common, change, number=5):
    """Slices 2 mm apart, IM2 of which has `change`."""
    pixels = slices(number, dtype="uint16", top=2000)
    for k, picture in enumerate(pixels):
        tags = common | (change if k == 2 else {})
        write(folder / f"IM{k}", picture, ImagePositionPatient=[0, 0, 2 * k], **tags)
    return pixels


def table(kind="HU"):
    item = Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [4, 0, 16], np.arange(4, dtype="<u2").tobytes(), kind
    return [item]


def value_map(code="[hnsf'U]"):
    unit, item = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = code, "UCUM", "unit"
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 2.0, -3.0
    item.MeasurementUnitsCodeSequence = [unit]
    return [item]


@pytest.mark.parametrize(
    ("common", "change", "tag"),
    [
        (CT, {"RescaleSlope": None, "RescaleIntercept": None}, "Rescale Slope"),
        (CT, {"RescaleSlope": None}, "Rescale Slope"),
        (PT, {"RescaleSlope": None, "RescaleIntercept": None}, "Rescale Slope"),
        (CT, {"ModalityLUTSequence": table()}, "Rescale Slope"),
        (
            {"Modality": "MR", "RealWorldValueMappingSequence": value_map()},
            {"RealWorldValueMappingSequence": None},
            "Rescale Slope",
        ),
        (
            {"Modality": "MR", "RealWorldValueMappingSequence": value_map()},
            {"RealWorldValueMappingSequence": value_map("s")},
            "Rescale Type",
        ),
        (CT, {"RescaleType": "HU_MOD"}, "Rescale Type"),
        (PT, {"Units": "CNTS"}, "Units"),
        (CT, {"PhotometricInterpretation": "MONOCHROME1"}, "Photometric Interpretation"),
        (CT, {"PixelRepresentation": 1}, "Pixel Representation"),
        ({"Modality": "CR", "PhotometricInterpretation": "MONOCHROME1"}, {"BitsStored": 12}, "Bits Stored"),
    ],
)
def test_the_slice_whose_numbers_mean_something_else_is_named(tmp_path, common, change, tag):
    one_differs(tmp_path / "s", common, change)
    with pytest.raises(InconsistentSeries, match=rf"{tag}.*4 have .*1 differs: IM2 \("):
        read_dicom(tmp_path / "s")


@pytest.mark.parametrize("change", [{"RescaleType": None}, {"BitsStored": 12}, {"RescaleSlope": 2}])
def test_what_may_differ_from_slice_to_slice_is_applied_to_each(tmp_path, change):
    pixels = one_differs(tmp_path / "s", CT, change)
    expected = pixels.astype(int)
    expected[2] *= change.get("RescaleSlope", 1)
    volume = read_dicom(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, expected - 1024)
    assert volume.units == "HU"


def enhanced(path, per_frame):
    """An enhanced CT whose frames have these pixel value transformations, None for a frame without."""
    pixels = slices(len(per_frame), dtype="uint16", top=100)
    ds = dataset(pixels, SOPClassUID=EnhancedCTImageStorage, ImagePositionPatient=None, RescaleType=None)
    groups = []
    for k, values in enumerate(per_frame):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, k]
        group.PlanePositionSequence = [position]
        if values is not None:
            item = Dataset()
            item.RescaleSlope, item.RescaleIntercept, item.RescaleType = values
            group.PixelValueTransformationSequence = [item]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return pixels, save(ds, path)


def test_frames_have_their_own_rescale_and_all_of_them_one(tmp_path):
    values = [(1, -10, "HU"), (2, -20, "HU"), (3, 0, "HU")]
    pixels, path = enhanced(tmp_path / "a.dcm", values)
    expected = [picture * float(slope) + shift for picture, (slope, shift, _) in zip(pixels, values, strict=True)]
    np.testing.assert_array_equal(read_dicom(path).array, expected)
    for wrong in (None, (1, 0, "MGML")):
        _, path = enhanced(tmp_path / "b.dcm", [values[0], wrong, values[2]])
        with pytest.raises(InconsistentSeries, match=r"1 differs: b.dcm frame 2 \("):
            read_dicom(path)


@pytest.mark.parametrize(
    ("tags", "units"),
    [
        (CT, "HU"),
        (CT | {"RescaleType": None}, "HU"),
        (CT | {"RescaleSlope": None, "RescaleIntercept": None}, "US"),
        (CT | {"RescaleSlope": None}, "US"),
        (CT | {"RescaleType": "MGML"}, "MGML"),
        (CT | {"RescaleType": "US"}, "US"),
        ({"Modality": "CT", "ModalityLUTSequence": table("HU")}, "HU"),
        ({"Modality": "CT", "ModalityLUTSequence": table("OD")}, "OD"),
        ({"Modality": "CT", "RealWorldValueMappingSequence": value_map()}, "HU"),
        (PT, "BQML"),
        ({"Modality": "MR"}, None),
    ],
)
def test_the_units_are_those_of_the_file(tmp_path, tags, units):
    pixels = np.arange(4, dtype=np.uint16).reshape(2, 2)
    assert read_dicom(write(tmp_path / "a.dcm", pixels, **tags)).units == units


# -- words that hold more than numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(("dtype", "value"), [("uint16", 5000), ("int16", 5000), ("int16", -2049)])
def test_a_number_beyond_bits_stored_is_an_error(tmp_path, syntax, dtype, value):
    pixels = slices(1, dtype=dtype)[0]
    pixels[1, 2] = value
    ds = dataset(pixels)
    if syntax == RLELossless:
        ds.compress(syntax)
    ds.BitsStored, ds.HighBit = 12, 11
    with pytest.raises(InputError, match=rf"a.dcm: \(0028,0101\) Bits Stored is 12 .* run from .*{value}"):
        read_dicom(save(ds, tmp_path / "a.dcm"))


def test_signs_written_in_two_ways_are_an_error(tmp_path):
    tags = {"BitsStored": 12, "PixelRepresentation": 1}
    for k, number in enumerate((-5, 3000)):
        pixels = np.full((2, 2), number, np.int16)
        write(tmp_path / "s" / f"{k}", pixels, ImagePositionPatient=[0, 0, k], **tags)
    with pytest.raises(InputError, match="1 lie above what .*Bits Stored.* of 0 below zero"):
        read_dicom(tmp_path / "s")


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_numbers_at_the_upper_end_of_their_words_are_moved_down(tmp_path, dtype):
    pixels = slices(1, dtype=dtype)[0] - (500 if dtype == "int16" else 0)
    ds = dataset(pixels << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_dicom(save(ds, tmp_path / "a.dcm")).array[0], pixels)


def test_a_high_bit_that_the_words_deny_moves_nothing(tmp_path):
    pixels = slices(1, dtype="uint16")[0] | 1
    volume = read_dicom(write(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=15))
    np.testing.assert_array_equal(volume.array[0], pixels)


def test_a_high_bit_that_the_words_leave_open_is_an_error(tmp_path):
    pixels = np.array([[16, 32], [160, 320]], np.uint16)
    with pytest.raises(InputError, match=r"\(0028,0102\) High Bit is 15 .* do not show"):
        read_dicom(write(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=15))
    with pytest.raises(InputError, match=r"\(0028,0102\) High Bit is 7; expected 11 to 15"):
        read_dicom(write(tmp_path / "b.dcm", pixels, BitsStored=12, HighBit=7))


@pytest.mark.parametrize("fills", [True, False])
def test_overlays_in_signed_words_are_taken_out(tmp_path, fills):
    pixels = np.array([[-2048, -1], [0, 2047]], np.int16)
    words = (pixels.astype(np.uint16) if fills else pixels.astype(np.uint16) & 0x0FFF) ^ np.uint16(0x2000)
    ds = dataset(words, BitsStored=12, PixelRepresentation=1)
    ds.add_new((0x6000, 0x0102), "US", 13)
    np.testing.assert_array_equal(read_dicom(save(ds, tmp_path / "a.dcm")).array[0], pixels)


# -- how much there is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"Rows": 2}, {"Columns": 2}, {"Rows": 3}, {"Columns": 4}, {"NumberOfFrames": 1}], ids=str
)
def test_more_pixels_than_the_header_tells_are_an_error(tmp_path, change):
    nowhere = {"ImagePositionPatient": None, "PixelSpacing": None}
    pixels = slices(2, dtype="uint16") + 1
    with pytest.raises(InputError, match=r"\(7FE0,0010\) Pixel Data has 80"):
        read_dicom(write(tmp_path / "a.dcm", pixels, **nowhere, **change))


def test_zeros_that_fill_a_block_are_no_pixels(tmp_path):
    pixels = slices(1, dtype="uint8", top=200)[0]
    for more in (0, 1, 5, 19):
        path = write(tmp_path / "a.dcm", pixels, PixelData=pixels.tobytes() + bytes(more + (20 + more) % 2))
        if more < 19:
            np.testing.assert_array_equal(read_dicom(path).array[0], pixels)
        else:
            with pytest.raises(InputError, match="Pixel Data has 40"):
                read_dicom(path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("stated", [None, 2, 4, 50, 1.5, 20_000_000])
def test_compressed_frames_are_counted(tmp_path, syntax, has_table, stated):
    nowhere = {"ImagePositionPatient": None, "PixelSpacing": None}
    ds = dataset(slices(3, 32, 32, "uint16"), **nowhere)
    ds.compress(syntax)
    frames = [*pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=3)]
    ds.PixelData = pydicom.encaps.encapsulate(frames, has_bot=has_table)
    del ds.NumberOfFrames
    if stated is not None:
        ds.add_new("NumberOfFrames", "IS", str(stated)) if stated != 1.5 else ds.add_new("NumberOfFrames", "DS", "1.5")
    with pytest.raises(InputError, match="Number of Frames"):
        read_dicom(save(ds, tmp_path / "a.dcm"))


@pytest.mark.parametrize(("stated", "held"), [("YBR_FULL_422", "RGB"), ("RGB", "YBR_FULL_422")])
def test_the_wrong_kind_of_colour_is_the_reason_given(tmp_path, stated, held):
    pixels = slices(4, 6, 3, "uint8", 255).reshape(4, 6, 3)
    data = pixels.tobytes() if held == "RGB" else pixels.tobytes()[:48]
    path = write(tmp_path / "a.dcm", pixels, PhotometricInterpretation=stated, PixelData=data, Modality="US")
    with pytest.raises(InputError, match=rf"Interpretation is {stated}, .* as {held} would need: the photometric"):
        read_dicom(path)


# -- one name, two images ----------------------------------------------------------------------------------------


def test_two_time_points_of_one_uid_are_no_copies(tmp_path):
    pixels = slices(2)
    for name, picture in zip("ab", pixels, strict=True):
        write(tmp_path / "s" / name, picture, SOPInstanceUID="1.2.3.9", InstanceNumber=1)
    with pytest.raises(InconsistentSeries, match="share one .*SOP Instance UID.*pixels differ"):
        read_dicom(tmp_path / "s")


def test_a_copy_in_another_encoding_is_a_copy(tmp_path):
    ds = dataset(slices(1, dtype="uint16")[0], SOPInstanceUID="1.2.3.9")
    save(ds, tmp_path / "s" / "a")
    ds.compress(RLELossless, generate_instance_uid=False)
    save(ds, tmp_path / "s" / "b")
    assert read_dicom(tmp_path / "s").array.shape[0] == 1


def test_one_uid_for_every_place_is_a_volume(tmp_path):
    pixels = slices(3)
    folder = series(tmp_path / "s", pixels, SOPInstanceUID=["1.2.3.9"] * 3)
    np.testing.assert_array_equal(read_dicom(folder).array, pixels)


# -- headers that lie -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [65535, 12, 0])
def test_a_modality_table_of_impossible_depth_is_an_error(tmp_path, bits):
    item = table()
    item[0].LUTDescriptor = [4, 0, bits]
    pixels = np.arange(4, dtype=np.uint16).reshape(2, 2)
    with pytest.raises(InputError, match=r"\(0028,3002\) LUT Descriptor"):
        read_dicom(write(tmp_path / "a.dcm", pixels, ModalityLUTSequence=item))


@pytest.mark.parametrize(
    "keyword",
    ["ModalityLUTSequence", "PerFrameFunctionalGroupsSequence", "RealWorldValueMappingSequence"],
)
def test_text_in_place_of_a_sequence_is_an_error(tmp_path, keyword):
    ds = dataset(slices(1)[0])
    ds.add_new(keyword, "LO", "ABC")
    with pytest.raises(InputError, match="is no sequence"):
        read_dicom(save(ds, tmp_path / "a.dcm"))


# -- decoders that crash ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [(b"\xff\xc3", 2, 8), (b"\xff\xc4", 5, 20)])
def test_damage_that_may_crash_a_decoder_leaves_the_process_alone(tmp_path, damage):
    plain = write(tmp_path / "plain.dcm", slices(1, 16, 20, "uint16", top=120)[0], BitsStored=12)
    packed = pack(plain, tmp_path / "packed.dcm")
    content, (marker, start, length) = bytearray(packed.read_bytes()), damage
    place = content.index(marker, content.index(b"\xff\xd8\xff")) + start
    content[place : place + length] = b"\xff" * length
    packed.write_bytes(content)
    with pytest.raises(InputError, match="packed.dcm"):
        read_dicom(packed)


@pytest.mark.parametrize("plain", [0, 2])
def test_one_uncompressed_slice_among_those_of_gdcm_is_read_too(tmp_path, plain):
    voxels = slices(4, 16, 20, "uint16", top=120)
    for k, pixels in enumerate(voxels):
        path = write(tmp_path / "in" / f"{k}.dcm", pixels, BitsStored=12, ImagePositionPatient=[0, 0, k], **CT)
        (tmp_path / "out").mkdir(exist_ok=True)
        path.rename(tmp_path / "out" / path.name) if k == plain else pack(path, tmp_path / "out" / path.name)
    np.testing.assert_array_equal(read_dicom(tmp_path / "out").array, voxels.astype(int) - 1024)
