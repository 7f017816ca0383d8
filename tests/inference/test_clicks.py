"""Clicks and masks for networks that know only boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.geometry import SlicePlane, View
from medsam.inference.clicks import box_for, candidate_boxes, enforce_clicks
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


def test_every_click_has_the_last_word_on_the_spot_and_nowhere_else():
    logits = np.full((40, 60), -4.0, np.float32)
    logits[10:30, 10:40] = 4.0
    pixels = np.random.default_rng(0).normal(size=(40, 60))
    honoured = ((20, 20, 1), (50, 5, 0))
    np.testing.assert_array_equal(enforce_clicks(logits, honoured, BOX, pixels, PLANE), logits)
    changed = enforce_clicks(logits, ((45, 20, 1), (15, 15, 0)), BOX, pixels, PLANE)
    assert changed[20, 45] > 0
    assert changed[15, 15] < 0
    np.testing.assert_array_equal(changed[:, 25:33] > 0, logits[:, 25:33] > 0)


def test_clicks_side_by_side_are_all_honoured():
    logits = np.full((40, 60), -3.0, np.float32)
    logits[10:30, 10:40] = 3.0
    points = ((15, 15, 1), (16, 15, 0), (17, 15, 1), (50, 20, 1), (51, 20, 0))
    changed = enforce_clicks(logits, points, BOX, np.zeros((40, 60)), PLANE)
    assert [bool(changed[y, x] > 0) for x, y, _ in points] == [bool(inside) for _, _, inside in points]


def test_a_click_takes_in_what_looks_alike():
    pixels = np.zeros((40, 60))
    pixels[:, 30:] = 100.0
    changed = enforce_clicks(np.full((40, 60), -1.0, np.float32), ((28, 20, 1),), BOX, pixels, PLANE) > 0
    assert changed[20, 27]
    assert not changed[:, 30:].any()


def test_a_click_reaches_what_no_look_saw():
    logits = np.full((40, 60), -np.inf, np.float32)
    logits[10:30, 10:40] = 1.0
    changed = enforce_clicks(logits, ((50, 20, 1),), BOX, np.zeros((40, 60)), PLANE)
    assert changed[20, 50] > 0
    assert np.isneginf(changed[0, 0])


def test_clicks_commute_with_flips():
    rng = np.random.default_rng(2)
    logits, pixels = rng.normal(size=(40, 60)).astype(np.float32), rng.normal(size=(40, 60))
    changed = enforce_clicks(logits, ((15, 12, 1), (30, 25, 0)), BOX, pixels, PLANE)
    flipped = enforce_clicks(logits[:, ::-1], ((44, 12, 1), (29, 25, 0)), (20, 10, 50, 30), pixels[:, ::-1], PLANE)
    np.testing.assert_allclose(flipped[:, ::-1], changed, atol=1e-5)


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
