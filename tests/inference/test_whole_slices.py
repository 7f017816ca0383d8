from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.inference.whole_slices import labels_of, outlines, slice_inputs
from medsam.models.sam import Sam
from medsam.models.segmenter import SegmenterSizes
from medsam.models.specs import tiny_spec
from medsam.volume import Volume

SIDE = 64


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Sam.from_spec(tiny_spec("vit")), "cpu", engine="torch")


def scan(array: np.ndarray, spacing=(1.0, 1.5, 4.0), towards_feet: bool = False) -> Volume:
    direction = np.diag([1, 1, -1]) if towards_feet else np.eye(3)
    return Volume(array, VolumeGeometry.from_itk(array.shape[:3], (0, 0, 0), spacing, direction.ravel()), "MR")


class Brightness(nn.Module):
    """Finds class 1 where a slice is brighter than half, and class 2 where the one before it is and it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.scale = SegmenterSizes(2, SIDE), nn.Parameter(torch.tensor(40.0))

    def forward(self, images, places):
        before, here = images[:, 0], images[:, 1]
        there = (here - 0.5) * self.scale
        return torch.stack([torch.zeros_like(here), there, torch.minimum((before - 0.5) * self.scale, -there)], 1)


def squares(count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Dark slices with a bright square, farther right on each: (values, masks), (K, J, I)."""
    masks = np.zeros((count, 33, 47), bool)
    for k in range(count):
        masks[k, 10:22, 4 + 9 * k : 14 + 9 * k] = True
    return np.where(masks, 200, 0).astype(np.float32), masks


def test_a_structure_comes_back_on_the_grid_of_its_slice_with_what_lies_before_it(predictor):
    values, masks = squares()
    encoder = predictor.encoder_for(scan(values))
    found = dict(outlines(Brightness(), [("here",), ("before",)], encoder, [0, 2]))
    assert {one.structure: one.mask.tolist() for one in found[0]} == {"here": masks[0].tolist()}, "none is before it"
    here, before = found[2]
    assert (here.mask == masks[2]).all()
    assert (before.mask == (masks[1] & ~masks[2])).mean() > 0.99
    assert here.likely.shape == masks[2].shape
    assert 0.9 < here.confidence <= 1


def test_the_same_patient_stored_from_the_other_end_looks_the_same(predictor):
    values, _ = squares()
    up, down = scan(values), scan(values[::-1].copy(), towards_feet=True)
    here, places, _ = slice_inputs(predictor.encoder_for(up), [0, 1, 2, 3], SIDE)
    there, others, _ = slice_inputs(predictor.encoder_for(down), [3, 2, 1, 0], SIDE)
    assert torch.equal(here, there)
    assert torch.equal(places, others)
    assert torch.equal(here[0, 0], here[0, 1]), "at its end a slice is its own neighbour"
    assert torch.equal(here[1, 2], here[2, 1])


def test_a_picture_has_its_colours(predictor):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (1, 40, 50, 3)).astype(np.uint8)
    images, _, _ = slice_inputs(predictor.encoder_for(scan(picture, (1.0, 1.0, 1.0))), [0], SIDE)
    assert images.shape == (1, 3, SIDE, SIDE)
    assert not torch.equal(images[0, 0], images[0, 1])
    assert 0 <= images.min() < images.max() <= 1


def test_what_was_drawn_lies_where_the_slice_shows_it(predictor):
    values, masks = squares()
    images, _, frame = slice_inputs(predictor.encoder_for(scan(values)), [1], SIDE)
    labels = labels_of({"b": masks[1]}, [("a",), ("b",)], frame)
    assert set(labels.unique().tolist()) == {0, 2}
    assert ((images[0, 1] > 0.5) == (labels == 2)).float().mean() > 0.99


def test_what_two_structures_share_is_a_class_of_both(predictor):
    values, masks = squares()
    _, _, frame = slice_inputs(predictor.encoder_for(scan(values)), [2], SIDE)
    # the tumour lies within the organ but for one column
    organ, tumour = masks[2].copy(), masks[2].copy()
    organ[:, 31], tumour[:, :25] = False, False
    classes = [("organ",), ("tumour",), ("organ", "tumour")]
    labels = labels_of({"organ": organ, "tumour": tumour}, classes, frame)
    sizes = {1: (organ & ~tumour).sum(), 2: (tumour & ~organ).sum(), 3: (organ & tumour).sum()}
    shares = {number: float((labels == number).float().mean()) / float((labels > 0).float().mean()) for number in sizes}
    assert shares == pytest.approx({number: size / masks[2].sum() for number, size in sizes.items()}, abs=0.09)
    alone = labels_of({"organ": organ, "tumour": tumour}, classes[:2], frame)
    assert set(alone.unique().tolist()) == {0, 1, 2}, "the last of those that a pixel is in"


def test_a_structure_is_as_likely_as_all_classes_it_is_in(predictor):
    values, _ = squares()
    encoder = predictor.encoder_for(scan(values))
    ((_, (organ, tumour)),) = outlines(Brightness(), [("organ",), ("organ", "tumour")], encoder, [2])
    ((_, (here, before)),) = outlines(Brightness(), [("here",), ("before",)], encoder, [2])
    assert (organ.structure, tumour.structure) == ("organ", "tumour")
    np.testing.assert_array_equal(organ.mask, here.mask | before.mask)
    np.testing.assert_array_equal(tumour.mask, before.mask)
    np.testing.assert_allclose(organ.likely, here.likely + before.likely, rtol=1e-6)
    assert organ.likely.max() <= 1
    np.testing.assert_array_equal(tumour.likely, before.likely)


def test_nothing_found_is_nothing(predictor):
    encoder = predictor.encoder_for(scan(np.zeros((3, 20, 20), np.float32)))
    assert list(outlines(Brightness(), [("a",), ("b",)], encoder, [1])) == [(1, [])]
