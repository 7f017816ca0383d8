"""How the answers of several looks, the priors, the corrections and the bounds become one mask: known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsam.geometry import VolumeGeometry
from medsam.inference.combine import base_logits, bounds, combine, corrected, mean_logits
from medsam.inference.image_predictor import Crop
from medsam.inference.predictor import Predictor
from medsam.inference.priors import PriorWeights, add_box_and_intensity_prior
from medsam.inference.slice_request import CropAnswer, SliceRequest
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import Scribble
from medsam.volume import Volume
from tests.phantoms import ThresholdSam, disc

SHAPE = (40, 60)
BOX = (20.0, 10.0, 41.0, 31.0)
INSIDE = (slice(10, 31), slice(20, 41))
SPOT = disc(SHAPE, (30, 20), 7)
NOISE = np.random.default_rng(0).normal(50, 10, SHAPE).astype(np.float32)


def encoder(pixels=NOISE, *, knows_clicks=False, size=64, use_priors=True):
    sam = ThresholdSam(size)
    sam.spec.prompts = ("box", "points", "mask") if knows_clicks else ("box",)
    sam.spec.use_priors = use_priors
    scan = Volume(pixels[None], VolumeGeometry((1, *SHAPE), np.diag([0.8, 0.8, 2, 1.0])))
    return Predictor(sam, "cpu").encoder_for(scan)


def hesitant(mask, logit=0.5):
    return np.where(mask, logit, -logit).astype(np.float32)


def answer(logits, predicted_iou=0.9, no_contrast=False):
    return CropAnswer(logits, torch.full((2, 2), predicted_iou), predicted_iou, no_contrast)


def request(prompt, crops=1):
    return SliceRequest(prompt, prompt, tuple(Crop(0) for _ in range(crops)), None)


def boxed(**more):
    return SlicePrompt(1, BOX, **more)


# -- the base -----------------------------------------------------------------------------------------------------


def test_looks_count_where_they_reach():
    one, other = np.full(SHAPE, 2.0, np.float32), np.full(SHAPE, -6.0, np.float32)
    one[:5], other[:, :9] = -np.inf, -np.inf
    mean = mean_logits([one, other])
    assert mean.dtype == np.float32
    assert (mean[:5, :9] == -np.inf).all()
    assert (mean[:5, 9:] == -6).all()
    assert (mean[5:, :9] == 2).all()
    assert (mean[5:, 9:] == -2).all()
    np.testing.assert_array_equal(mean_logits([one]), one)


@pytest.mark.parametrize("zoom", ["off", "on"])
def test_the_published_answer_is_the_mean_of_the_looks_and_nothing_else(zoom):
    looks = [answer(hesitant(SPOT, 3.0), 0.9), answer(hesitant(~SPOT, 1.0), 0.5, no_contrast=True)]
    found = combine(encoder(), 0, request(boxed(), 2), looks, zoom)
    np.testing.assert_array_equal(found.logits, hesitant(SPOT, 1.0))
    np.testing.assert_array_equal(found.mask, SPOT)
    assert found.predicted_iou == pytest.approx(0.7)
    assert found.low_res_logits[:, 0, 0].tolist() == pytest.approx([0.9, 0.5])
    assert (found.no_contrast, found.box, len(found.crops)) == (True, BOX, 2)


@pytest.mark.parametrize("knows_clicks", [False, True])
@pytest.mark.parametrize(("size", "blind"), [(64, 0.0), (90, 28.0)])
def test_a_box_is_answered_with_the_priors_those_of_coarse_pictures_where_it_is_one(knows_clicks, size, blind):
    # 60 columns are shown 64 pixels, or 1.5 each
    logits = hesitant(SPOT, 3.0)
    logits[disc(SHAPE, (30, 20), 8) & ~SPOT] = -0.9
    found = base_logits(encoder(knows_clicks=knows_clicks, size=size), 0, request(boxed()), [answer(logits)], "auto")
    expected, other = (
        add_box_and_intensity_prior(logits, BOX, NOISE, PriorWeights(blind=one), pitch_mm=(0.8, 0.8))
        for one in (blind, 28 - blind)
    )
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, other)


def test_of_a_network_that_wants_no_priors_the_logits_in_the_box_stay():
    found = combine(encoder(use_priors=False), 0, request(boxed()), [answer(hesitant(SPOT))], "auto")
    np.testing.assert_array_equal(found.logits[INSIDE], hesitant(SPOT)[INSIDE])
    assert np.isneginf(np.delete(found.logits, np.r_[20:41], axis=1)).all()


def test_a_rough_mask_speaks_by_its_outline_unless_the_network_was_shown_it():
    rough = np.zeros(SHAPE, bool)
    rough[14:27, 24:37] = True
    asked, empty = request(boxed(mask=rough)), [answer(np.full(SHAPE, -0.5, np.float32))]
    for use_priors in (True, False):
        # a network that says nothing at all: the square that was drawn
        found = combine(encoder(use_priors=use_priors), 0, asked, empty, "auto").mask
        assert (found & rough).sum() > 0.95 * max(found.sum(), rough.sum())
    shown = base_logits(encoder(knows_clicks=True, use_priors=False), 0, asked, empty, "auto")
    assert not (shown > 0).any()


def test_a_picture_in_colour_is_answered_as_in_grey():
    grey = np.where(SPOT, 200, 60).astype(np.uint8)
    of_grey, of_colour = (
        combine(encoder(pixels), 0, request(boxed()), [answer(hesitant(SPOT))], "auto").mask
        for pixels in (grey, np.repeat(grey[..., None], 3, axis=-1))
    )
    np.testing.assert_array_equal(of_colour, of_grey)
    assert of_grey.any()


@pytest.mark.parametrize("box", [(30.0, 20.0, 31.0, 21.0), (0.0, 0.0, 60.0, 40.0), (29.5, 19.5, 31.2, 21.1)])
@pytest.mark.parametrize("pixels", [NOISE, np.full(SHAPE, 7.0, np.float32)])
@pytest.mark.parametrize("points", [(), ((30, 20, 1), (2, 2, 0))])
def test_of_the_smallest_box_and_of_the_whole_slice_there_is_an_answer(box, pixels, points):
    found = combine(encoder(pixels), 0, request(SlicePrompt(1, box, points)), [answer(hesitant(SPOT))], "auto")
    assert not np.isnan(found.logits).any()
    assert found.mask[19:21, 29:31].any()
    assert found.mask[20, 30] or not points
    assert not found.mask[2, 2]


# -- clicks and strokes -------------------------------------------------------------------------------------------


def two_blobs(logit=3.0):
    """A bright disc that the network found, and one that it did not, both in the box of everything."""
    missed = disc(SHAPE, (45, 20), 5)
    pixels = np.where(SPOT | missed, 150, 30).astype(np.float32) + (NOISE - 50) / 5
    return pixels.astype(np.float32), hesitant(SPOT, logit), missed


def after_clicks(logits, scan_encoder, asked, zoom="auto"):
    inside = bounds(asked.given, zoom, scan_encoder.plane)
    return corrected(logits, scan_encoder, 0, asked, inside, zoom)[0]


def test_clicks_come_after_the_base_and_in_their_order():
    pixels, logits, missed = two_blobs()
    spilt = disc(SHAPE, (12, 20), 5)
    logits[spilt] = 3.0
    scan_encoder = encoder(pixels)
    inside, outside = (45, 20, 1), (12, 20, 0)
    one = after_clicks(logits, scan_encoder, request(SlicePrompt(1, None, (inside,)))) > 0
    assert (one & missed).sum() > 0.9 * missed.sum()
    np.testing.assert_array_equal(one[SPOT | spilt], True)
    both = after_clicks(logits, scan_encoder, request(SlicePrompt(1, None, (inside, outside)))) > 0
    assert not (both & spilt).any()
    # what was there, and what the first click has added, stays
    np.testing.assert_array_equal(both[SPOT | missed], one[SPOT | missed])


def test_nothing_said_changes_nothing():
    logits = hesitant(SPOT)
    assert after_clicks(logits, encoder(), request(boxed())) is logits


@pytest.mark.parametrize("zoom", ["off", "on"])
def test_a_network_that_knows_clicks_is_left_alone_as_published(zoom):
    pixels, logits, _ = two_blobs()
    asked = request(SlicePrompt(1, None, ((45, 20, 1),)))
    assert after_clicks(logits, encoder(pixels, knows_clicks=True), asked, zoom) is logits
    assert after_clicks(logits, encoder(pixels, knows_clicks=True), asked)[20, 45] > 0
    assert after_clicks(logits, encoder(pixels), asked, zoom)[20, 45] > 0


@pytest.mark.parametrize("knows_clicks", [False, True])
def test_a_mask_that_stands_comes_back_but_for_what_is_corrected(knows_clicks):
    pixels, logits, missed = two_blobs()
    scan_encoder = encoder(pixels, knows_clicks=knows_clicks)
    stands = SPOT | disc(SHAPE, (8, 8), 3)
    kept = combine(scan_encoder, 0, request(SlicePrompt(1, mask=stands, standing=True)), [answer(logits)], "auto")
    np.testing.assert_array_equal(kept.mask, stands)
    asked = SlicePrompt(1, None, ((45, 20, 1),), stands, standing=True)
    found = combine(scan_encoder, 0, request(asked), [answer(logits)], "auto").mask
    assert (found & missed).sum() > 0.9 * missed.sum()
    np.testing.assert_array_equal(found[stands], True)
    np.testing.assert_array_equal(found[:, :13], stands[:, :13])


# -- bounds -------------------------------------------------------------------------------------------------------


def test_what_bounds_a_mask():
    plane = encoder().plane
    loop = disc(SHAPE, (34, 20), 9)
    box = np.zeros(SHAPE, bool)
    box[INSIDE] = True
    assert bounds(SlicePrompt(1, None, ((3, 3, 1),)), "auto", plane) is None
    assert bounds(boxed(), "off", plane) is None
    np.testing.assert_array_equal(bounds(boxed(), "auto", plane), box)
    np.testing.assert_array_equal(bounds(boxed(within=loop), "off", plane), loop)
    np.testing.assert_array_equal(bounds(boxed(within=loop), "auto", plane), loop & box)
    # a click inside moves the box out to it and a pixel further; one outside does not, nor does it move a lasso
    wider = box.copy()
    wider[10:31, 20:52] = True
    np.testing.assert_array_equal(bounds(boxed(points=((50, 20, 1), (5, 5, 0))), "auto", plane), wider)
    np.testing.assert_array_equal(bounds(boxed(points=((50, 20, 1),), within=loop), "auto", plane), loop & wider)
    stroke = Scribble(((45, 20), (50, 20)), True, None, None)
    np.testing.assert_array_equal(bounds(boxed(scribbles=(stroke,)), "auto", plane), wider)


@pytest.mark.parametrize("zoom", ["off", "auto"])
def test_nothing_beyond_a_lasso_but_the_piece_that_was_asked_for(zoom):
    pixels, _, missed = two_blobs()
    both = disc(SHAPE, (30, 20), 9)
    far = disc(SHAPE, (8, 30), 4)
    logits = hesitant(SPOT | missed | far, 3.0)
    # a network without priors, so that what is left is known to the pixel
    scan_encoder = encoder(pixels, use_priors=False)
    alone = combine(scan_encoder, 0, request(SlicePrompt(1, within=both)), [answer(logits)], zoom).mask
    np.testing.assert_array_equal(alone, (SPOT | missed) & both)
    clicked = SlicePrompt(1, None, ((45, 20, 1),), within=both)
    found = combine(scan_encoder, 0, request(clicked), [answer(logits)], zoom).mask
    assert (found & missed).sum() > 0.9 * missed.sum()
    assert not (found & far).any()
