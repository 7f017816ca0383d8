"""Slices for training: which there are, that nothing is lost on the way, and that a model meets them as in use."""

from __future__ import annotations

import os
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_sets as sets
import torch
from dicom_files import series
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from phantoms import ThresholdSam, random_affine
from PIL import Image

from medsam.data.manifest import Case
from medsam.data.manifest_json import read_manifest
from medsam.data.slices import ModelSlice, StoredSliced, index_slices, unpack
from medsam.errors import InputError
from medsam.evaluation.case import EvaluationCase, evaluate_case
from medsam.evaluation.protocol import Protocol
from medsam.geometry import AXES
from medsam.inference.predictor import Predictor
from medsam.metrics.overlap import dice
from medsam.prompts.prompt import Prompt
from medsam.transforms.frame import Frame
from medsam.transforms.preprocess import Preprocess

PREPROCESS = ThresholdSam(32).spec.preprocess


def blob(shape=(4, 6, 7), value=1, at=(1, 3), rows=(1, 4), columns=(1, 5)) -> np.ndarray:
    """A label map with a block of `value` on slices at[0] ... at[1] - 1: 3 x 4 pixels unless said otherwise."""
    array = np.zeros(shape, np.uint8)
    array[slice(*at), slice(*rows), slice(*columns)] = value
    return array


def one_case(folder: Path, label: np.ndarray, affine=None, labels=None, image=None, **more) -> Case:
    """A manifest of one case, read."""
    if image is None:
        image = np.random.default_rng(1).integers(-200, 300, label.shape).astype(np.int16)
    sets.nifti(folder / "x.nii.gz", image, affine)
    sets.nifti(folder / "y.nii.gz", label, affine)
    case = {"id": "x", "image": "x.nii.gz", "label": "y.nii.gz"} | more
    content = {"name": "one", "labels": labels or {"liver": 1, "spleen": 2}, "cases": [case]}
    return read_manifest(sets.write(folder / "m.json", content)).cases[0]


# -- which slices -----------------------------------------------------------------------------------------------


def test_slices_with_enough_pixels_of_each_structure(tmp_path):
    label = blob() + blob(value=2, at=(2, 4), rows=(4, 6), columns=(0, 5))
    label[0, 0, 0] = 1  # one pixel: a sliver
    case = one_case(tmp_path, label)
    found = index_slices([case])
    assert [(item.index, item.structures) for item in found.items] == [
        (1, ("liver",)),
        (2, ("liver", "spleen")),
        (3, ("spleen",)),
    ]
    assert found.empty == ()
    spleen = index_slices([case], structures=["spleen"])
    assert [(item.index, item.structures) for item in spleen.items] == [(2, ("spleen",)), (3, ("spleen",))]
    assert [item.index for item in index_slices([case], min_pixels=1).items] == [0, 1, 2, 3]
    assert [item.index for item in index_slices([case], min_pixels=12).items] == [1, 2]
    assert index_slices([case], min_pixels=13).empty == ("x",)
    across = index_slices([case], structures=["spleen"], axis="j", min_pixels=10)
    assert [(item.index, item.axis) for item in across.items] == [(4, "j"), (5, "j")]


@pytest.mark.parametrize(("intercept", "told"), [(-1024, ()), (None, ("x",))])
def test_a_ct_that_does_not_say_hounsfield_units_is_told(tmp_path, intercept, told):
    case = one_case(tmp_path, blob())
    tags = {"RescaleSlope": 1, "RescaleIntercept": intercept, "PixelSpacing": [[1, 1]] * 4}
    like_nifti = {"orientation": (-1, 0, 0, 0, -1, 0), "origin": (0, 0, 0), "step": 1}
    folder = series(tmp_path / "ct", np.zeros((4, 6, 7), np.int16), **like_nifti, **tags)
    ct = replace(case, image=folder, modality="CT", window=None)
    assert index_slices([ct], folder=tmp_path / "kept").not_hu == told
    assert index_slices([ct], folder=tmp_path / "kept").not_hu == told
    assert index_slices([ct], window="lung").not_hu == ()


def test_keys_differ_with_all_that_a_slice_is_made_from(tmp_path):
    case = one_case(tmp_path, blob())
    keys = {item.key for item in index_slices([case]).items}
    for other in (
        index_slices([case], axis="j", min_pixels=1),
        index_slices([case], window="lung"),
        index_slices([replace(case, window="bone")]),
        index_slices([replace(case, modality="MR")]),
    ):
        more = {item.key for item in other.items}
        assert more
        assert not keys & more
    assert {item.key for item in index_slices([case]).items} == keys


def test_cases_without_pixels_are_told_and_broken_ones_named(tmp_path):
    path = sets.manifest(tmp_path, 3)  # one voxel of each structure
    sets.nifti(tmp_path / "labels/a1.nii.gz", blob(sets.SHAPE, at=(0, 2)))
    cases = read_manifest(path).cases
    found = index_slices(cases)
    assert [(item.case.id, item.index) for item in found.items] == [("a1", 0), ("a1", 1)]
    assert found.empty == ("a0", "a2")

    sets.nifti(tmp_path / "labels/a0.nii.gz", blob((3, 4, 6)))
    (tmp_path / "images/a2.nii.gz").write_bytes(b"half")
    with pytest.raises(InputError) as caught:
        index_slices(cases)
    message = str(caught.value)
    assert message.startswith("2 of 3 cases cannot be read:")
    assert "Case a0, label" in message
    assert "Case a2, image" in message
    assert "a1" not in message
    assert "medsam data check" in message


def test_a_window_nobody_knows_is_told_before_training(tmp_path):
    case = one_case(tmp_path, blob(), window="lver")
    with pytest.raises(InputError, match=r"(?s)1 of 1 case .*x: There is no window 'lver'"):
        index_slices([case])


def test_a_structure_nobody_labelled(tmp_path):
    case = one_case(tmp_path, blob())
    with pytest.raises(InputError, match="No label names 'lver'. The manifest's structures are: liver, spleen"):
        index_slices([case], structures=["liver", "lver"])
    # named by the labels and nowhere drawn is another matter
    assert index_slices([case], structures=["spleen"]).empty == ("x",)


def test_progress_is_told(tmp_path):
    cases = read_manifest(sets.manifest(tmp_path, 2)).cases
    told = []
    index_slices(cases, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_the_digest_is_of_the_labels_and_not_of_their_place(tmp_path):
    here = index_slices([one_case(tmp_path / "a", blob())])
    there = index_slices([one_case(tmp_path / "b", blob())])
    assert here.digest == there.digest
    assert here.items[0].key != there.items[0].key
    other = index_slices([one_case(tmp_path / "c", blob(rows=(1, 5)))])
    assert other.digest != here.digest
    turned = index_slices([one_case(tmp_path / "d", blob(), affine=np.diag([1, 1, 3, 1]))])
    assert turned.digest != here.digest


def test_counts_are_kept_and_read_again_only_when_a_file_changes(tmp_path, monkeypatch):
    case = one_case(tmp_path, blob())
    folder = tmp_path / "kept" / "index"
    loads = []
    load = Case.load_image
    monkeypatch.setattr(Case, "load_image", lambda self: loads.append(self.id) or load(self))
    first = index_slices([case], folder=folder)
    assert (loads, [file.suffix for file in folder.iterdir()]) == (["x"], [".json"])
    assert index_slices([case], folder=folder) == first
    assert index_slices([case], folder=folder, structures=["liver"], min_pixels=12).items
    assert loads == ["x"]
    assert index_slices([case]) == first, "what was kept says the same as what is read"

    sets.nifti(case.label, blob(at=(0, 1)))
    os.utime(case.label, ns=(1, 1))
    changed = index_slices([case], folder=folder)
    assert [item.index for item in changed.items] == [0]
    assert changed.digest != first.digest
    for file in folder.iterdir():
        file.write_text("{")  # damaged: read anew, not an error
    assert index_slices([case], folder=folder) == changed


# -- nothing is lost ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    axis=st.sampled_from(AXES),
)
def test_masks_and_pixels_come_back_exactly(tmp_path_factory, seed, shape, axis):
    folder = tmp_path_factory.mktemp("case")
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, shape).astype(np.uint8)
    label.flat[0] = 1
    affine = random_affine(rng, (0.7, 1.3, 4.1), oblique=False)
    case = one_case(folder, label, affine, {"a": 1, "b": 2, "c": 3}, window="0,1000")
    scan = case.load_image()
    plane = scan.geometry.plane(axis)
    stored = StoredSliced()
    for item in index_slices([case], axis=axis, min_pixels=1).items:
        image, masks = unpack(stored(item))
        expected = np.stack([plane.take(label, item.index) == "abc".index(name) + 1 for name in item.structures])
        np.testing.assert_array_equal(masks.numpy(), expected)
        assert masks.dtype == torch.bool
        assert image.meta["plane"] == plane
        pixels = (np.clip(plane.take(scan.array, item.index), -500, 500) + 500) * 0.255
        np.testing.assert_allclose(image.as_tensor().numpy(), pixels[None], rtol=1e-5)


def test_odd_sizes_do_not_fit_into_whole_bytes(tmp_path):
    label = np.zeros((2, 3, 5), np.uint8)
    label[1, 2, 4] = 1
    label[1, 0, 0] = 2
    (item,) = index_slices([one_case(tmp_path, label)], min_pixels=1).items
    kept = StoredSliced()(item)
    assert kept["masks"].shape == (4,), "30 bits"
    image, masks = unpack(kept)
    assert (tuple(image.shape), tuple(masks.shape)) == ((1, 3, 5), (2, 3, 5))
    assert np.argwhere(masks.numpy()).tolist() == [[0, 2, 4], [1, 0, 0]]


def test_what_is_kept_is_read_back_without_running_code(tmp_path):
    item = index_slices([one_case(tmp_path, blob(), np.diag([1, 2, 3, 1]))]).items[0]
    kept = StoredSliced()(item)
    torch.save(kept, tmp_path / "kept.pt")
    image, masks = unpack(torch.load(tmp_path / "kept.pt", weights_only=True))
    expected, same = unpack(kept)
    assert torch.equal(image.as_tensor(), expected.as_tensor())
    assert torch.equal(masks, same)
    assert image.meta["plane"] == expected.meta["plane"] == item.case.load_image().geometry.plane(None)


def test_a_scan_stays_open_as_long_as_it_is_needed(tmp_path, monkeypatch):
    path = sets.manifest(tmp_path, 2)
    for n in range(2):
        sets.nifti(tmp_path / f"labels/a{n}.nii.gz", blob(sets.SHAPE, at=(0, 3)))
    items = index_slices(read_manifest(path).cases).items
    loads = []
    load = Case.load_image
    monkeypatch.setattr(Case, "load_image", lambda self: loads.append(self.id) or load(self))
    one, both = StoredSliced(), StoredSliced(open_cases=2)
    for item in items:
        one(item)
    assert loads == ["a0", "a1"]
    one(items[0])
    assert loads == ["a0", "a1", "a0"]
    loads.clear()
    for item in (*items, *items):
        both(item)
    assert loads == ["a0", "a1"]
    # a worker process is sent the settings, not the scan
    assert len(pickle.dumps(both)) < 300
    sent = pickle.loads(pickle.dumps(both))
    assert sent.open_cases == 2
    assert torch.equal(sent(items[0])["image"], both(items[0])["image"])
    assert loads == ["a0", "a1", "a0"]
    assert deepcopy(both) is not both
    assert torch.equal(deepcopy(both)(items[0])["image"], both(items[0])["image"])


# -- as in use ----------------------------------------------------------------------------------------------------


class Recording(ThresholdSam):
    """Remembers what it is shown."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__(preprocess.size)
        self.spec.preprocess = preprocess
        self.shown: list[torch.Tensor] = []

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.shown += list(images.clone())
        return super().encode_image(images)


PREPROCESSES = {
    "litemedsam": Preprocess(32, "pad", "minmax", "bilinear"),
    "medsam": Preprocess(48, "stretch", "minmax", "bicubic"),
    "sam": Preprocess(40, "pad", "standardise", "bilinear", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


def both_ways(case: Case, axis, preprocess: Preprocess, window: str = "auto"):
    """(what training makes of every slice, what `segment` shows the network, what `evaluate` shows it)."""
    items = index_slices([case], axis=axis, window=window).items
    stored = StoredSliced()
    trained = [ModelSlice.of(*unpack(stored(item)), preprocess).image for item in items]

    scan = case.load_image()
    plane = scan.geometry.plane(axis)
    prompts = [Prompt("x", box=(0, 0, *plane.shape[::-1]), slice=item.index) for item in items]
    segmenting = Recording(preprocess)
    asked = case.window or window  # what a user types
    Predictor(segmenting, device="cpu").segment(scan, prompts, axis=axis, window=asked, zoom="off")

    evaluating = Recording(preprocess)
    references = case.load_references(scan)
    subject = EvaluationCase("x", case.id, case.patient, scan, references, case.labels, case.window)
    protocol = Protocol(prompts=("box",), axis=axis, window=window, zoom="off")
    evaluate_case(subject, {"recording": Predictor(evaluating, device="cpu")}, protocol)
    return trained, segmenting.shown, evaluating.shown


def assert_same_bits(trained, segmented, evaluated):
    assert len(trained) == len(segmented) == len(evaluated) > 1
    for ours, theirs, measured in zip(trained, segmented, evaluated, strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, measured)
    assert len({tensor.numpy().tobytes() for tensor in trained}) == len(trained), "slices differ from each other"


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("model", PREPROCESSES)
def test_a_model_is_trained_on_the_very_tensors_it_meets_in_use(tmp_path, model, modality, axis):
    rng = np.random.default_rng(len(model) + AXES.index(axis))
    shape = (9, 17, 13)
    label = np.zeros(shape, np.uint8)
    label[2:7, 4:12, 3:9] = 1
    kind = np.int16 if modality == "CT" else np.float32
    image = (rng.normal(0 if modality == "CT" else 400, 300, shape)).astype(kind)
    affine = random_affine(rng, (0.8, 1.1, 3.7), oblique=True)
    case = one_case(tmp_path, label, affine, image=image, modality=modality)
    assert_same_bits(*both_ways(case, axis, PREPROCESSES[model]))


@pytest.mark.parametrize(("own", "asked"), [("lung", "auto"), ("100,300", "bone"), (None, "bone"), (None, "none")])
def test_the_window_of_a_case_comes_before_that_of_the_run(tmp_path, own, asked):
    more = {} if own is None else {"window": own}
    case = one_case(tmp_path, blob(at=(0, 4)), modality="CT", **more)
    found = both_ways(case, None, PREPROCESS, asked)
    assert_same_bits(*found)
    soft, _, _ = both_ways(replace(case, window="soft-tissue"), None, PREPROCESS)
    assert not torch.equal(found[0][0], soft[0])


def picture_case(folder: Path, mode: str) -> Case:
    """A PNG of 15 x 20 pixels and the mask of an object on it."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (15, 20, 3) if mode == "RGB" else (15, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "x.png")
    mask = np.zeros((15, 20), np.uint8)
    mask[3:11, 2:13] = 255
    Image.fromarray(mask).save(folder / "y.png")
    content = {
        "labels": {"polyp": 1},
        "threshold": 127,
        "cases": [{"id": "x", "image": "x.png", "label": "y.png"}],
    }
    return read_manifest(sets.write(folder / "m.json", content)).cases[0]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("model", PREPROCESSES)
def test_pictures_too(tmp_path, model, mode):
    case = picture_case(tmp_path, mode)
    (ours,), (theirs,), (measured,) = both_ways(case, None, PREPROCESSES[model])
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, measured)
    if model != "sam":  # which scales each channel for itself
        assert torch.equal(ours[0], ours[1]) == (mode == "L")


def model_slice(folder: Path, axis, spacing=(0.8, 1.1, 3.0), size=64) -> tuple[ModelSlice, MetaTensor]:
    k, j, i = np.ogrid[:24, :40, :32]
    ball = ((k - 11) / 9) ** 2 + ((j - 17) / 12) ** 2 + ((i - 18) / 11) ** 2 <= 1
    affine = random_affine(np.random.default_rng(5), spacing, oblique=False)
    case = one_case(folder, ball.astype(np.uint8), affine)
    item = next(item for item in index_slices([case], axis=axis).items if item.index in (11, 17, 18))
    image, masks = unpack(StoredSliced()(item))
    return ModelSlice.of(image, masks, replace(PREPROCESS, size=size)), image


@pytest.mark.parametrize("axis", AXES)
def test_boxes_and_targets_are_the_frames_own(tmp_path, axis):
    seen, image = model_slice(tmp_path, axis)
    assert seen.frame == Frame.of(image.meta["plane"], replace(PREPROCESS, size=64))
    mask = seen.masks[0].numpy()
    rows, columns = np.nonzero(mask)
    tight = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    np.testing.assert_array_equal(seen.tight_boxes(), tight)
    targets = seen.targets(64)
    assert (targets.dtype, tuple(targets.shape)) == (torch.bool, (1, 64, 64))
    # the box as the model is asked with it is tight on the mask as the model is taught it
    y, x = np.nonzero(targets[0].numpy())
    about = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    assert np.abs(about - seen.frame.boxes(tight)[0]).max() <= max(1.0, *seen.frame._scale)
    # and what the model should answer is, on the stored slice, what somebody drew
    answer = seen.frame.restore(torch.where(targets, 1.0, -1.0)) > 0
    assert dice(mask, answer[0].numpy()) > 0.95


def test_a_mask_without_pixels_has_no_box_and_no_target(tmp_path):
    seen, _ = model_slice(tmp_path, None)
    both = replace(seen, masks=torch.cat([seen.masks, torch.zeros_like(seen.masks)]))
    assert np.isfinite(both.tight_boxes()[0]).all()
    assert np.isnan(both.tight_boxes()[1]).all()
    assert both.targets(64).flatten(1).any(1).tolist() == [True, False]
    none = replace(seen, masks=seen.masks[:0])
    assert none.tight_boxes().shape == (0, 4)
