"""DICOM SEG -> masks: every frame goes where it says it lies, whatever the grid it is asked for on."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from drawn import change, grid, make_seg, refusal_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.seg import read_seg
from medsam.io.dicom.series import read_dicom
from medsam.io.dicom.tree import structure_names


def blob(shape, seed=0) -> np.ndarray:
    """A random mask with no symmetry, so that a flip or a swap of axes shows."""
    return np.random.default_rng(seed).random(shape) < 0.4


def no_spacing_between_slices(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices


# -- same grid ----------------------------------------------------------------------------------------------


def test_frames_on_the_grid_come_back_to_the_voxel(tmp_path):
    here, mask = grid(), blob((4, 6, 5))
    mask[2] = False  # a frame the writer leaves out
    read = read_seg(make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), here), here)
    assert list(read) == ["liver"]
    assert read["liver"].dtype == bool
    assert np.array_equal(read["liver"], mask)


@pytest.mark.parametrize("header", ["with the spacing of slices", "without it"])
def test_frames_may_come_in_any_order_and_leave_gaps(tmp_path, header):
    here, mask = grid((9, 4, 4)), blob((9, 4, 4), seed=3)
    mask[[1, 2, 3, 5]] = False
    path = make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), here, kind="FRACTIONAL")

    def shuffle(dataset):
        order = np.random.default_rng(1).permutation(int(dataset.NumberOfFrames))
        frames = dataset.pixel_array[order]
        dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[n] for n in order]
        dataset.PixelData = frames.tobytes()
        if header == "without it":
            no_spacing_between_slices(dataset)

    assert np.array_equal(read_seg(change(path, shuffle), here)["liver"], mask)


def test_references_to_the_source_images_are_not_needed(tmp_path):
    here, mask = grid(), blob((4, 6, 5))
    path = make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), here)

    def forget(dataset):
        for item in dataset.PerFrameFunctionalGroupsSequence:
            item.pop("DerivationImageSequence", None)
        dataset.pop("ReferencedSeriesSequence", None)

    assert np.array_equal(read_seg(change(path, forget), here)["liver"], mask)


def test_fractions_count_from_half_of_the_maximum_on(tmp_path):
    here = grid((1, 1, 4))
    fractions = np.array([0.0, 0.49, 0.5, 1.0]).reshape(1, 1, 4, 1)
    path = make_seg(tmp_path / "s.dcm", fractions, here, kind="FRACTIONAL", max_fractional_value=200)
    assert pydicom.dcmread(path).pixel_array.ravel().tolist() == [0, 98, 100, 200]
    assert read_seg(path, here)["liver"].ravel().tolist() == [False, False, True, True]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_of_one_label_are_one_structure_and_may_overlap(tmp_path, kind):
    here = grid()
    masks = np.stack([blob((4, 6, 5), seed) for seed in range(4)], axis=-1)
    labels = ("cyst", "liver", "Cyst", "left_kidney")
    read = read_seg(make_seg(tmp_path / "s.dcm", masks.astype(np.uint8), here, labels, kind), here)
    assert list(read) == ["cyst", "liver", "left_kidney"]
    assert np.array_equal(read["cyst"], masks[..., 0] | masks[..., 2])
    assert np.array_equal(read["liver"], masks[..., 1])
    assert read.notes == ("2 segments named 'cyst' are read as one structure.",)


def test_segments_of_one_label_and_other_codes_are_united_with_a_word(tmp_path):
    here = grid()
    masks = np.stack([blob((4, 6, 5), seed) for seed in range(2)], axis=-1)
    path = make_seg(tmp_path / "s.dcm", masks.astype(np.uint8), here, ("kidney", "kidney"))

    def left(dataset):
        dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeValue = "64033007"

    read = read_seg(change(path, left), here)
    assert np.array_equal(read["kidney"], masks.any(axis=-1))
    assert any("differ in their property codes" in note for note in read.notes)


def test_segments_of_a_label_map_share_a_name_too(tmp_path):
    here = grid()
    labels = np.random.default_rng(5).integers(0, 4, (4, 6, 5), dtype=np.uint8)
    read = read_seg(make_seg(tmp_path / "s.dcm", labels, here, ("cyst", "liver", "CYST"), "LABELMAP"), here)
    assert list(read) == ["cyst", "liver"]
    assert np.array_equal(read["cyst"], (labels == 1) | (labels == 3))


def test_segments_without_a_label_stay_apart(tmp_path):
    here = grid()
    masks = np.stack([blob((4, 6, 5), seed) for seed in range(2)], axis=-1)
    path = make_seg(tmp_path / "s.dcm", masks.astype(np.uint8), here, ("a", "b"))

    def forget(dataset):
        for item in dataset.SegmentSequence:
            item.SegmentLabel = ""

    assert list(read_seg(change(path, forget), here)) == ["unnamed", "unnamed (2)"]


# -- background ---------------------------------------------------------------------------------------------


def background(dataset: Dataset) -> Dataset:
    """The item in which highdicom describes number 0."""
    return next(item for item in dataset.SegmentSequence if item.SegmentNumber == 0)


def _another_name(dataset):
    background(dataset).SegmentLabel = "everything else"


def _another_name_and_code(dataset):
    item = background(dataset)
    item.SegmentLabel = "Tissue"
    for keyword in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        item[keyword].value[0].CodeValue, item[keyword].value[0].CodingSchemeDesignator = "85756007", "SCT"


def _swapped_with_the_liver(dataset):
    """Background is number 1 and says so by its code; the liver is 0 where nothing pads."""
    for item in dataset.SegmentSequence:
        item.SegmentNumber = {0: 3, 1: 1, 2: 2}[item.SegmentNumber]
        if item.SegmentNumber == 3:
            item.SegmentLabel = "the rest"


def _padding(dataset):
    dataset.SegmentSequence[2].SegmentLabel = "spleen"
    dataset.PixelPaddingValue = 2


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        (lambda dataset: None, ["liver", "spleen"]),
        (_another_name, ["liver", "spleen"]),
        (_another_name_and_code, ["liver", "spleen"]),
        (_swapped_with_the_liver, ["liver", "spleen"]),
        (_padding, ["liver"]),
    ],
)
def test_the_background_of_a_label_map_is_no_structure(tmp_path, edit, left):
    here = grid()
    labels = np.random.default_rng(5).integers(0, 3, (4, 6, 5), dtype=np.uint8)
    path = make_seg(tmp_path / "s.dcm", labels, here, ("liver", "spleen"), "LABELMAP")
    assert background(pydicom.dcmread(path)).SegmentLabel == "Background"
    change(path, edit)
    read = read_seg(path, here)
    assert list(read) == left == structure_names(path)
    assert np.array_equal(read["liver"], labels == 1)


def test_a_binary_segment_of_background_is_no_structure(tmp_path):
    here = grid()
    masks = np.stack([blob((4, 6, 5), seed) for seed in range(2)], axis=-1)
    path = make_seg(tmp_path / "s.dcm", masks.astype(np.uint8), here, ("background", "liver"))
    assert list(read_seg(path, here)) == ["liver"] == structure_names(path)


def test_a_seg_of_nothing_but_background_is_refused(tmp_path):
    path = make_seg(tmp_path / "s.dcm", blob((4, 6, 5))[..., None].astype(np.uint8), grid(), ("Background",))
    assert "nothing but background" in refusal(path)


def test_label_maps_split_into_their_segments(tmp_path):
    here = grid()
    labels = np.random.default_rng(5).integers(0, 3, (4, 6, 5), dtype=np.uint8)
    read = read_seg(make_seg(tmp_path / "s.dcm", labels, here, ("liver", "spleen"), "LABELMAP"), here)
    assert np.array_equal(read["liver"], labels == 1)
    assert np.array_equal(read["spleen"], labels == 2)


# -- another grid -------------------------------------------------------------------------------------------


def turned(geometry: VolumeGeometry, order, flips) -> VolumeGeometry:
    """The same voxels stored along other axes: new axis n is old axis order[n], reversed if flips[n]."""
    size = np.array(geometry.shape[::-1])
    move = np.zeros((4, 4))
    move[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        move[old, new] = -1 if flip else 1
        move[old, 3] = size[old] - 1 if flip else 0
    return VolumeGeometry(tuple(size[list(order)][::-1]), geometry.affine @ move)


@settings(max_examples=48, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.sampled_from(list(permutations(range(3)))),
    flips=st.sampled_from(list(product([False, True], repeat=3))),
)
def test_grids_along_other_axes_get_the_same_voxels(tmp_path, order, flips):
    # an oblique acquisition, written once
    angle = np.deg2rad(17)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    here, mask = grid(direction=rotation[[2, 0, 1]]), blob((4, 6, 5))
    path = tmp_path / "s.dcm"
    if not path.exists():
        make_seg(path, mask[..., None].astype(np.uint8), here)

    there = turned(here, order, flips)
    expected = mask.T.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)].T
    assert np.array_equal(read_seg(path, there)["liver"], expected)


def test_a_larger_grid_is_filled_only_where_the_frames_are(tmp_path):
    here, mask = grid(), blob((4, 6, 5))
    path = make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), here)
    wide = VolumeGeometry((8, 12, 11), here.affine.copy())
    wide = grid((8, 12, 11), origin=tuple(wide.to_mm([-3, -2, -1])))
    expected = np.zeros(wide.shape, dtype=bool)
    expected[1:5, 2:8, 3:8] = mask
    assert np.array_equal(read_seg(path, wide)["liver"], expected)


@pytest.mark.parametrize(("shift", "moved"), [(0.5, 0), (-0.5, 1), (0.25, 0), (-0.25, 0), (0.75, -1)])
def test_a_shift_by_half_a_pixel_takes_the_lower_neighbour(tmp_path, shift, moved):
    """The target's pixel 0 lies `shift` SEG pixels after the SEG's: SEG column -> target column + moved."""
    here = grid((1, 1, 7), (0.7, 0.7, 2.0), (0.1, -106.7, 78.0))
    mask = np.zeros((1, 1, 7), dtype=bool)
    mask[0, 0, 3] = True
    path = make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), here)
    there = grid((1, 1, 7), (0.7, 0.7, 2.0), tuple(here.to_mm([shift, 0, 0])))
    assert np.flatnonzero(read_seg(path, there)["liver"]).tolist() == [3 + moved]


def test_every_voxel_takes_the_seg_voxel_its_centre_lies_in(tmp_path):
    """Another spacing and an oblique direction, against the definition written out voxel by voxel."""
    here, mask = grid((6, 9, 8), (0.8, 0.9, 2.0)), blob((6, 9, 8), seed=7)
    path = make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), here)
    angle = np.deg2rad(25)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    for direction in (np.eye(3), tilt):
        there = grid((7, 10, 9), (0.53, 0.71, 1.37), (-12.11, 41.03, 6.37), direction)
        expected = np.zeros(there.shape, dtype=bool)
        for k, j, i in np.ndindex(there.shape):
            at = np.floor(here.to_voxel(there.to_mm([i, j, k])) + 0.5).astype(int)[::-1]
            if (at >= 0).all() and (at < here.shape).all():
                expected[k, j, i] = mask[tuple(at)]
        assert 0 < expected.sum() < expected.size
        assert np.array_equal(read_seg(path, there)["liver"], expected)


def test_thick_slices_spread_over_thin_ones_but_not_over_gaps(tmp_path):
    thick = grid((5, 2, 4), (1.0, 1.0, 4.0), (0.0, 0.0, 0.0))
    mask = np.zeros((5, 2, 4, 1), dtype=np.uint8)
    mask[[0, 1, 4]] = 1
    path = make_seg(tmp_path / "s.dcm", mask, thick)
    thin = grid((24, 2, 4), (1.0, 1.0, 1.0), (0.0, 0.0, -3.0))
    # planes at z = 0, 4, 16, each standing for more than z - 2 up to z + 2
    heights = np.arange(24) - 3
    filled = read_seg(path, thin)["liver"].all(axis=(1, 2))
    assert heights[filled].tolist() == [*range(-1, 7), 15, 16, 17, 18]


def test_a_tilted_gantry_is_followed(tmp_path):
    sheared = grid((4, 12, 5)).affine.copy()
    sheared[1, 2] = 1.3
    here, mask = VolumeGeometry((4, 12, 5), sheared), blob((4, 12, 5))
    path = make_seg(tmp_path / "s.dcm", mask[..., None].astype(np.uint8), grid((4, 12, 5)), omit_empty_frames=False)

    def tilt(dataset):
        for item in dataset.PerFrameFunctionalGroupsSequence:
            place = item.PlanePositionSequence[0]
            k = round(float(here.to_voxel(place.ImagePositionPatient)[2]))
            place.ImagePositionPatient = [round(float(v), 6) for v in here.to_mm([0, 0, k])]

    assert np.array_equal(read_seg(change(path, tilt), here)["liver"], mask)


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.fixture
def seg(tmp_path) -> Path:
    return make_seg(tmp_path / "seg.dcm", blob((4, 6, 5))[..., None].astype(np.uint8), grid())


refusal = partial(refusal_of, read_seg, grid())


def test_a_seg_of_another_place_is_refused(seg):
    message = refusal(seg, grid(origin=(500.0, 40.25, 7.0)))
    assert "no frame of the SEG touches the scan" in message
    assert "x -12.5 to -9.3" in message


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.__setattr__("SegmentSequence", []), "(0062,0002) Segment Sequence"),
        (lambda d: d.__delattr__("SegmentSequence"), "(0062,0002) Segment Sequence"),
        (lambda d: d.__delattr__("PerFrameFunctionalGroupsSequence"), "(5200,9230)"),
        (
            lambda d: d.PerFrameFunctionalGroupsSequence[1].__delattr__("PlanePositionSequence"),
            "(0020,9113) Plane Position Sequence",
        ),
        (
            lambda d: (
                d.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].__delattr__("ImagePositionPatient")
            ),
            "(0020,0032) Image Position (Patient)",
        ),
        (
            lambda d: (
                d.SharedFunctionalGroupsSequence[0]
                .PlaneOrientationSequence[0]
                .__setattr__("ImageOrientationPatient", [1, 0, 0, 1, 0, 0])
            ),
            "describes no plane",
        ),
        (
            lambda d: d.PerFrameFunctionalGroupsSequence[1].__setattr__("PixelMeasuresSequence", [_measures(0.8, 1.1)]),
            "its frames differ in",
        ),
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "(5200,9230)"),
        (
            lambda d: d.PerFrameFunctionalGroupsSequence[1].__setattr__(
                "SegmentIdentificationSequence", [_identity(9)]
            ),
            "(0062,000B) Referenced Segment Number",
        ),
    ],
)
def test_a_seg_without_what_places_its_frames_is_refused(seg, edit, named):
    assert named in refusal(change(seg, edit))


def _identity(number) -> Dataset:
    identity = Dataset()
    identity.ReferencedSegmentNumber = number
    return identity


def _measures(row, column) -> Dataset:
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [row, column], 3
    return measures


def _fractional(**values):
    def edit(dataset):
        dataset.SegmentationType, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = "FRACTIONAL", 8, 8, 7
        count = int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns
        dataset.PixelData = (np.arange(count) % 200).astype(np.uint8).tobytes()
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


@pytest.mark.parametrize("most", [0, 100, None])
def test_a_fractional_seg_whose_whole_is_not_known_is_refused(seg, most):
    """0, less than a pixel holds, and missing."""
    edit = _fractional(**({} if most is None else {"MaximumFractionalValue": most}))
    assert "(0062,000E) Maximum Fractional Value" in refusal(change(seg, edit))
    assert read_seg(change(seg, _fractional(MaximumFractionalValue=199)), grid())["liver"].any()


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.__setattr__("NumberOfFrames", 20_000_000), "(0028,0008) Number of Frames is 2e+07"),
        (lambda d: d.__setattr__("NumberOfFrames", 1), "(0028,0008) Number of Frames is 1"),
        (lambda d: d.__setattr__("PixelData", bytes(d.PixelData) * 3), "(7FE0,0010) Pixel Data has"),
        (lambda d: d.__setattr__("Rows", 65535), "(7FE0,0010) Pixel Data holds"),
        (lambda d: d.__setattr__("Rows", 3), "(7FE0,0010) Pixel Data has"),
        (lambda d: d.__setattr__("SegmentationType", "LABEL"), "(0062,0001) Segmentation Type"),
        (lambda d: d.SegmentSequence[0].__delattr__("SegmentNumber"), "(0062,0004) Segment Number"),
        (
            lambda d: d.add(pydicom.DataElement("SegmentSequence", "LO", "liver")),
            "(0062,0002) Segment Sequence is no sequence of items",
        ),
        (
            lambda d: d.add(pydicom.DataElement("PerFrameFunctionalGroupsSequence", "LO", "liver")),
            "(5200,9230)",
        ),
        (
            lambda d: d.SegmentSequence.append(_twin(d.SegmentSequence[0])),
            "'liver' and 'spleen' have the same (0062,0004) Segment Number 1",
        ),
        (
            lambda d: (
                d.PerFrameFunctionalGroupsSequence[0]
                .PlanePositionSequence[0]
                .__setattr__("ImagePositionPatient", [0, 0, 1e300])
            ),
            "(0020,0037)",
        ),
    ],
)
def test_a_seg_that_contradicts_itself_is_refused(seg, edit, named):
    with pydicom.config.disable_value_validation():
        assert named in refusal(change(seg, edit))


def test_frames_that_would_fill_the_memory_are_refused_by_their_bytes(tmp_path):
    labels = np.ones((4, 6, 5), np.uint8)
    path = make_seg(tmp_path / "s.dcm", labels, grid(), ("a",), "LABELMAP", transfer_syntax_uid=RLELossless)

    def swell(dataset):
        dataset.Rows = dataset.Columns = 65535

    with pytest.raises(InputError, match=r"s.dcm states .* MiB"):
        read_seg(change(path, swell), grid())


def _twin(item: Dataset) -> Dataset:
    twin = deepcopy(item)
    twin.SegmentLabel = "spleen"
    return twin


# -- real files ---------------------------------------------------------------------------------------------


def test_the_real_liver_equals_its_nrrd(data):
    scan = read_dicom(data / "liver_ct_dicom_seg" / "ct_series")
    here, path = scan.geometry, data / "liver_ct_dicom_seg" / "seg" / "liver.dcm"
    image = sitk.ReadImage(data / "liver_ct_dicom_seg" / "labels_nrrd" / "liver_seg.nrrd")
    expected = sitk.GetArrayFromImage(image) == 1
    there = VolumeGeometry.from_itk(expected.shape, image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    assert there.same_grid(here)
    read = read_seg(path, here, frame_of_reference=scan.uids["frame_of_reference"])
    assert list(read) == ["Liver"]
    assert np.array_equal(read["Liver"], expected)


def test_the_real_fractional_breast_lands_on_bright_tissue(data):
    """Sagittal, no source references, no spacing between slices, 42 of 60 slices."""
    scan = read_dicom(data / "breast_mr_dicom_seg" / "UCSF-BR-06" / "mr_series")
    pixels, here = scan.array, scan.geometry
    path = data / "breast_mr_dicom_seg" / "UCSF-BR-06" / "seg" / "breast_voi_seg.dcm"
    mask = read_seg(path, here)["Breast"]
    raw = pydicom.dcmread(path)
    assert mask.sum() == (raw.pixel_array == 255).sum()
    slices = mask.any(axis=(1, 2))
    assert slices.sum() == 42
    drawn = {
        round(float(item.PlanePositionSequence[0].ImagePositionPatient[0]), 3)
        for item in raw.PerFrameFunctionalGroupsSequence
    }
    assert {round(float(here.to_mm([0, 0, k])[0]), 3) for k in np.flatnonzero(slices)} == drawn
    # a mask mirrored or turned would fall on air; the reference was drawn by a threshold, so it is bright
    k, j, i = (slice(low, high + 1) for low, high in zip(*np.sort(np.argwhere(mask), axis=0)[[0, -1]], strict=True))
    box, inside = pixels[k, j, i], mask[k, j, i]
    assert box[inside].mean() > 1.3 * box[~inside].mean()


def test_the_real_breast_half_a_pixel_off_keeps_its_volume(data):
    """The case of UCSF-BR-08, whose SEG lies half a pixel off the scan in both directions of the slice."""
    here = read_dicom(data / "breast_mr_dicom_seg" / "UCSF-BR-06" / "mr_series").geometry
    path = data / "breast_mr_dicom_seg" / "UCSF-BR-06" / "seg" / "breast_voi_seg.dcm"
    affine = here.affine.copy()
    affine[:3, 3] = here.to_mm([0.5, 0.5, 0])
    shifted = read_seg(path, VolumeGeometry(here.shape, affine))["Breast"]
    assert np.array_equal(shifted, read_seg(path, here)["Breast"])
