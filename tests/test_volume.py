"""What users hand over as a scan: every array there is, and what a volume says of itself."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import ThresholdSam, block

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.prompts.prompt import Prompt
from medsam.volume import LabelVolume, Volume

GRID = VolumeGeometry((2, 3, 4), np.diag([0.5, 0.75, 5, 1]))


def scan(**fields):
    return Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), GRID, **fields)


# -- what it says -----------------------------------------------------------------------------------------------


def test_a_repr_is_one_line_without_voxels_places_or_names():
    shown = repr(scan(modality="CT", source=Path("DOE_JOHN.nii.gz"), uids={"series": "1.2.3"}))
    assert shown == "Volume(shape=(2, 3, 4), dtype=int16, spacing_mm=(5, 0.75, 0.5), axes=LPS, modality=CT)"
    assert repr(GRID) == "VolumeGeometry(shape=(2, 3, 4), spacing_mm=(5, 0.75, 0.5), axes=LPS)"
    colour = Volume.from_array(np.zeros((1, 5, 6, 3), np.uint8))
    assert repr(colour) == "Volume(shape=(1, 5, 6), colour, dtype=uint8, spacing_mm=None, modality=None)"
    labels = LabelVolume(np.zeros((2, 3, 4), np.uint8), GRID, {n: f"part {n}" for n in range(1, 9)})
    assert repr(labels).endswith("6: 'part 6', ... (8 in all)})")
    assert "\n" not in repr(labels)


def test_shape_affine_and_spacing_are_those_of_the_grid():
    assert scan().shape == (2, 3, 4)
    assert scan().affine is GRID.affine
    assert scan().spacing_mm == (5.0, 0.75, 0.5)
    assert Volume.from_array(np.zeros((5, 6))).spacing_mm is None


def test_equal_is_what_shows_the_same():
    assert scan() == scan(source=Path("elsewhere"))
    assert hash(scan()) == hash(scan(source=Path("elsewhere")))
    assert scan() != scan(modality="MR")
    assert scan() != Volume(scan().array + 1, GRID)
    assert scan() != Volume(scan().array, VolumeGeometry((2, 3, 4), np.eye(4)))
    assert scan() != "a scan"
    assert len({scan(), scan(), Volume(scan().array, VolumeGeometry((2, 3, 4), np.eye(4)))}) == 2
    holes = np.where(scan().array > 3, scan().array, np.nan)
    assert Volume(holes, GRID) == Volume(holes.copy(), GRID)


def test_label_maps_are_compared_and_hashed():
    ones = LabelVolume(np.ones((2, 3, 4), np.uint8), GRID, {1: "liver"})
    assert ones == LabelVolume(np.ones((2, 3, 4), np.uint16), GRID, {1: "liver"})
    assert hash(ones) == hash(LabelVolume(np.ones((2, 3, 4), np.uint16), GRID, {1: "liver"}))
    assert ones != LabelVolume(ones.array, GRID, {1: "spleen"})


def test_a_volume_goes_through_pickle_and_is_an_array_to_numpy():
    again = pickle.loads(pickle.dumps(scan(modality="MR")))
    assert again == scan(modality="MR")
    assert not again.affine.flags.writeable
    volume = scan()
    assert np.shares_memory(np.asarray(volume), volume.array)
    np.testing.assert_array_equal(np.asarray(scan(), dtype=np.float32), scan().array)


# -- what it takes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "affine"),
    [((5, 0.75, 0.5), None), (None, np.diag([0.5, 0.75, 5, 1])), ([5.0, 0.75, 0.5], None)],
)
def test_from_array_takes_a_spacing_in_the_order_of_the_axes_or_an_affine(spacing, affine):
    made = Volume.from_array(scan().array, spacing, affine=affine, modality=" ct")
    assert made == scan(modality="CT")
    assert made.geometry.calibrated


def test_a_nibabel_array_lands_as_load_volume_would_have_it(tmp_path):
    import nibabel as nib

    from medsam.io.load import load_volume

    affine = np.array([[0, -2.0, 0, 3], [1.0, 0, 0, 4], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(4, 3, 2), affine)
    nib.save(image, tmp_path / "a.nii")
    data = np.asarray(image.dataobj)
    made = Volume.from_array(data.transpose(2, 1, 0), affine=np.diag([-1, -1, 1, 1]) @ image.affine)
    assert made == load_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("shape", "spacing", "found"),
    [
        ((5, 6), None, (1, 5, 6)),
        ((5, 6), (0.2, 0.4), (1, 5, 6)),
        ((5, 6, 3), (0.2, 0.4), (1, 5, 6)),
        ((5, 6, 3), (1, 1, 1), (5, 6, 3)),
        ((4, 5, 6), None, (4, 5, 6)),
        ((4, 5, 6, 3), None, (4, 5, 6)),
    ],
)
def test_from_array_tells_pictures_volumes_and_colour_apart(shape, spacing, found):
    made = Volume.from_array(np.zeros(shape, np.uint8), spacing)
    assert made.shape == found
    assert made.is_colour == (len(shape) - len(found) == 1 or (len(shape) == 3 and found[0] == 1))
    assert made.geometry.calibrated == (spacing is not None)
    if spacing == (0.2, 0.4):
        assert made.spacing_mm == (0.4, 0.2, 0.4)
        assert (made.geometry.plane().axis, made.geometry.plane().shape) == ("k", (5, 6))


@pytest.mark.parametrize(
    ("array", "how", "message"),
    [
        (np.zeros((5, 6, 3)), {}, "either a colour picture or a volume"),
        (np.zeros(6), {}, "is no scan"),
        (np.zeros((2, 3, 4)), {"spacing_mm": (1, 2)}, "three numbers"),
        (np.zeros((2, 3, 4)), {"spacing_mm": (1, 0, 2)}, "positive numbers"),
        (np.zeros((2, 3, 4)), {"spacing_mm": 2}, "positive numbers"),
        (np.zeros((2, 3, 4)), {"spacing_mm": (1, 1, 1), "affine": np.eye(4)}, "either a spacing or an affine"),
        (np.zeros((2, 3, 4)), {"affine": np.eye(3)}, "4 x 4"),
        (np.zeros((2, 3, 4)), {"modality": 3}, "such as 'CT'"),
        (np.zeros((2, 3, 4)), {"affine": "diagonal"}, "4 x 4"),
        (np.zeros((2, 0, 4)), {}, "no voxels"),
        (np.zeros((2, 3, 4, 4)), {}, "3 channels"),
        (np.zeros((2, 3, 4), complex), {}, r"np\.abs"),
        (np.full((2, 3, 4), "a"), {}, "real numbers, not an array of <U1"),
        (np.zeros((2, 3, 4), "M8[s]"), {}, "real numbers"),
        (None, {}, "real numbers, not NoneType"),
        ({"image": 1}, {}, "real numbers, not dict"),
        ([[1, 2], [3]], {}, "no array of numbers"),
    ],
)
def test_what_is_no_scan_is_an_input_error_that_says_so(array, how, message):
    with pytest.raises(InputError, match=message):
        Volume.from_array(array, **how)


def test_an_affine_in_place_of_a_grid_is_an_input_error():
    with pytest.raises(InputError, match=r"VolumeGeometry, not ndarray.*from_array"):
        Volume(scan().array, np.eye(4))
    with pytest.raises(InputError, match="three whole numbers"):
        VolumeGeometry((2.0, 3.0, 4.0), np.eye(4))


def strange(name: str, array: np.ndarray, folder: Path):
    """`array`, whole numbers from 0 to 100, as somebody may hold it."""
    if name == "memory-mapped":
        np.save(folder / "a.npy", array)
        return np.load(folder / "a.npy", mmap_mode="r")
    if name == "read-only":
        array.setflags(write=False)
    turned = {
        "lists": array.tolist,
        "tensor": lambda: torch.from_numpy(array),
        "column-major": lambda: np.asfortranarray(array),
        "every second": lambda: np.repeat(array, 2, axis=2)[:, :, ::2],
        "backwards": lambda: array[::-1, ::-1, ::-1][::-1, ::-1, ::-1],
        "masked": lambda: np.ma.masked_array(array, np.zeros(array.shape, bool)),
        "long double": lambda: array.astype(np.longdouble),
    }
    if name in turned:
        return turned[name]()
    return array if name == "read-only" else array.astype(name)


@pytest.mark.parametrize(
    "name",
    [
        *("u1", "i1", "<u2", ">u2", "<i2", ">i2", "u4", ">u4", "i4", "u8", "i8", "<f2", ">f2", ">f4", ">f8"),
        *("long double", "lists", "tensor", "column-major", "every second", "backwards", "masked"),
        *("read-only", "memory-mapped"),
    ],
)
def test_every_kind_of_array_gets_the_same_mask(name, tmp_path):
    made, mask = block((2, 20, 30), (4, 6, 0, 14, 12, 2), inside=100.0)
    found = Predictor(ThresholdSam(64), "cpu").segment(
        Volume(strange(name, made.array.astype(np.int16), tmp_path), made.geometry), Prompt(box3d=(4, 6, 0, 14, 12, 2))
    )
    np.testing.assert_array_equal(found.labels.array == 1, mask)


def test_yes_and_no_are_seen_as_one_and_nought():
    made, mask = block((2, 20, 30), (4, 6, 0, 14, 12, 2))
    volume = Volume(mask, made.geometry)
    assert volume.array.dtype == np.uint8
    network = Predictor(ThresholdSam(64), "cpu")
    found = network.segment(volume, Prompt(box3d=(4, 6, 0, 14, 12, 2)), zoom="off")
    np.testing.assert_array_equal(found.labels.array == 1, mask)
    assert found.notes == ()


def test_masked_out_voxels_are_not_finite_and_voxels_are_not_copied():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    assert np.isnan(Volume(np.ma.masked_less(array, 5), GRID).array).sum() == 5
    assert Volume(array, GRID).array is array


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_pixels_without_signal_are_found_on_every_axis(axis):
    mask = np.random.default_rng(0).random((4, 5, 19)) < 0.3
    volume = replace(Volume.from_array(np.zeros(mask.shape)), no_signal=mask)
    plane = volume.geometry.plane(axis)
    for index in range(plane.count):
        np.testing.assert_array_equal(volume.without_signal(plane, index), plane.take(mask, index))
    assert volume.no_signal.nbytes < mask.nbytes / 5
    voxels = np.arange(0, mask.size, 3)
    assert np.array_equal(volume.lack_signal(voxels), mask.ravel()[voxels])
    assert not Volume.from_array(np.zeros(mask.shape)).lack_signal(voxels).any()
    assert replace(volume, modality="MR").no_signal is volume.no_signal
    assert volume != replace(volume, no_signal=None)


def test_a_mask_of_no_signal_must_fit_and_may_be_empty():
    volume = Volume.from_array(np.zeros((2, 3, 9)))
    assert volume.without_signal(volume.geometry.plane("k"), 0) is None
    with pytest.raises(InputError, match="does not fit"):
        replace(volume, no_signal=np.zeros((2, 3, 17), bool))


@pytest.mark.parametrize("names", [{"liver": 1}, {1: 5}, {1: None}])
def test_names_of_labels_are_texts_by_number(names):
    with pytest.raises(InputError, match="label id -> name, such as"):
        LabelVolume(np.ones((2, 3, 4), np.uint8), GRID, names)


def test_voxels_that_nobody_can_change_are_digested_once(monkeypatch):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    own, read_only = Volume.from_array(array), np.frombuffer(array.tobytes(), np.int16).reshape(array.shape)
    scan = Volume.from_array(read_only)
    first = scan.voxel_digest()
    assert own.voxel_digest() == first
    array[0, 0, 0] = 7
    assert own.voxel_digest() != first
    assert Volume.from_array(read_only + 1).voxel_digest() != first
    monkeypatch.setattr("medsam.volume.hashlib", None)
    assert scan.voxel_digest() == first
