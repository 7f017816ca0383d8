"""Clicks and masks for networks that know only boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.geometry import SlicePlane, View
from medsam.inference.clicks import box_for, candidate_boxes
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import segment_slice
from medsam.prompts.prompt import SlicePrompt
from tests.phantoms import ThresholdSam, block

PLANE = SlicePlane("k", (40, 60), (1.0, 1.0), 1, View())
BOX = (10.0, 10.0, 40.0, 30.0)


@pytest.fixture
def predictor():
    sam = ThresholdSam(64)
    sam.spec.prompts = ("box",)
    return Predictor(sam, "cpu")


@given(
    clicks=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 39)), min_size=1, max_size=5),
    pitch=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)),
)
def test_candidate_boxes_hold_the_clicks_and_lie_in_the_slice(clicks, pitch):
    boxes = candidate_boxes(np.array(clicks, float), SlicePlane("k", (40, 60), pitch, 1, View()))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 60).all()
    assert (boxes[:, 3] <= 40).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    for x, y in clicks:
        assert ((boxes[:, 0] <= x) & (x + 1 <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y + 1 <= boxes[:, 3])).all()


def test_a_click_finds_the_object_without_a_box(predictor):
    scan, mask = block((1, 40, 60), (20, 10, 0, 32, 22, 1))
    found = segment_slice(predictor.encoder_for(scan), 0, [SlicePrompt(1, points=((26, 16, 1),))], zoom="off")[0]
    assert found.mask[16, 26]
    assert not (found.mask & ~mask[0]).any()
    assert found.box is not None
    assert predictor.sam.encoded == 1


@pytest.mark.parametrize("second", [(29, 19), (50, 35)])
def test_clicks_alone_one_after_another_are_clicks_at_once(predictor, second):
    scan, _ = block((1, 40, 60), (20, 10, 0, 32, 22, 1))
    encoder = predictor.encoder_for(scan)
    points = ((26, 16, 1), (*second, 1), (21, 11, 0))
    (at_once,) = segment_slice(encoder, 0, [SlicePrompt(1, points=points)])
    result = None
    for count in (1, 2, 3):
        (result,) = segment_slice(encoder, 0, [SlicePrompt(1, points=points[:count])], previous=[result])
    assert result is not None
    assert result.box == at_once.box
    np.testing.assert_array_equal(result.mask, at_once.mask)
    assert [bool(result.mask[y, x]) for x, y, _ in points] == [True, True, False]


def test_a_box_grows_to_a_click_outside_it_and_a_mask_brings_its_own(predictor):
    _, mask = block((1, 40, 60), (20, 10, 0, 32, 22, 1))

    def never():
        raise AssertionError("encoded, although there is nothing to look for")

    grown, _ = box_for(predictor, never, SlicePrompt(1, BOX, ((50, 5, 1), (2, 2, 0))), PLANE)
    assert grown.box == (10.0, 4.5, 51.5, 30.0)
    assert grown.points == ()
    masked, _ = box_for(predictor, never, SlicePrompt(1, mask=mask[0]), PLANE)
    assert masked.box == (20, 10, 32, 22)
    assert masked.mask is not None


def test_a_rough_mask_is_not_made_worse():
    # a network that answers nothing: what is left is the mask that was given
    class Silent(ThresholdSam):
        def decode(self, *arguments, **options):
            logits, predicted_iou = super().decode(*arguments, **options)
            return 0 * logits - 0.5, predicted_iou

    sam = Silent(64)
    sam.spec.prompts = ("box",)
    predictor = Predictor(sam, "cpu")
    scan, mask = block((1, 40, 60), (20, 10, 0, 32, 22, 1))
    rough = np.roll(mask[0], 2, axis=1)

    def dice(answer):
        return 2 * (answer & mask[0]).sum() / (answer.sum() + mask.sum())

    found = segment_slice(predictor.encoder_for(scan), 0, [SlicePrompt(1, mask=rough)], zoom="auto")[0]
    assert dice(found.mask) > dice(rough)


@pytest.mark.weights
def test_a_click_alone_is_answered_by_litemedsam(litemedsam):
    from scipy import ndimage

    shape = (96, 96)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = (x - 40) ** 2 + (y - 52) ** 2 <= 15**2
    rng = np.random.default_rng(0)
    array = ndimage.gaussian_filter(np.where(truth, 160.0, 60.0) + rng.normal(scale=8, size=shape), 1)[None]
    scan, _ = block((1, *shape), (0, 0, 0, 1, 1, 1))
    scan = type(scan)(array.astype(np.float32), scan.geometry)
    found = Predictor(litemedsam, "cpu").session(scan).click(0, 40, 52).mask
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
