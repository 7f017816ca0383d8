"""Signs of an answer, of drawings whose numbers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medsam.geometry import SlicePlane, VolumeGeometry
from medsam.inference.image_predictor import Embedding
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import segment_slice
from medsam.inference.signs import NAMES, pooled, signs
from medsam.prompts.prompt import SlicePrompt
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import IntensityWindow
from medsam.transforms.preprocess import Preprocess
from tests.phantoms import ThresholdSam, block, disc

WINDOW = IntensityWindow(0.0, 200.0, "test")


def plane(shape: tuple[int, int], pitch_mm: float = 1.0) -> SlicePlane:
    return VolumeGeometry((1, *shape), np.diag([pitch_mm, pitch_mm, 1, 1])).plane("k")


def of(mask, box, looks=None, *, sure=6.0, shape=(64, 64), pixels=None, pitch_mm=1.0, calibrated=True, iou=(0.9,)):
    """{name: value} of a mask whose logits are all as sure."""
    logits = np.where(mask, sure, -sure)
    looks = [logits] if looks is None else [np.where(one, sure, -sure) for one in looks]
    pixels = np.where(mask, 150.0, 50.0) if pixels is None else pixels
    at = plane(shape, pitch_mm)
    return dict(zip(NAMES, signs(logits, looks, iou, box, pixels, WINDOW, at, 256, calibrated), strict=True))


def test_a_disc_that_fills_its_box_agrees_with_everything():
    found = of(disc((64, 64), (31.5, 31.5), 16), (16, 16, 48, 48))
    for name in ("stability", "looks_agree", "priors_agree", "fit", "fit_after", "largest"):
        assert found[name] == 1, name
    for name in ("doubtful", "several_looks", "pieces", "aspect", "clipped"):
        assert found[name] == 0, name
    assert found["fill"] == pytest.approx(math.pi / 4, abs=0.01)
    assert found["ellipse"] == pytest.approx(1, abs=0.001)
    assert found["off_centre"] == pytest.approx(0, abs=1e-9)
    # 64 pixels are 256 of the network: a box of 32 has sides of 128
    assert found["side"] == pytest.approx(7)
    assert found["coarse"] == pytest.approx(2)
    assert found["side_mm"] == pytest.approx(5)
    assert found["own_dice"] == pytest.approx(1, abs=0.02)
    assert found["edge"] > 3
    assert found["follows"] > 0.95


def test_looks_that_differ_say_so():
    first, last = np.zeros((2, 64, 64), bool)
    first[20:40, 20:30] = True
    last[20:40, 20:40] = True
    found = of(last, (20, 20, 40, 40), [first, last], iou=(0.9, 0.5))
    assert found["looks_agree"] == pytest.approx(2 * 200 / (200 + 400))
    assert (found["several_looks"], found["predicted_iou"], found["lowest_predicted_iou"]) == (
        1,
        pytest.approx(0.7),
        0.5,
    )


def test_a_half_filled_box_and_two_pieces():
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:25] = True
    mask[20:25, 35:40] = True
    found = of(mask, (20, 20, 40, 40))
    assert found["fill"] == pytest.approx(125 / 400)
    assert found["pieces"] == 1
    assert found["largest"] == pytest.approx(0.8)
    assert found["off_centre"] > 0.3


def test_logits_near_the_threshold_are_doubtful():
    mask = disc((64, 64), (31.5, 31.5), 16)
    found = of(mask, (16, 16, 48, 48), sure=0.5)
    assert found["stability"] == 0
    assert found["doubtful"] > 1
    assert found["own_dice"] < 0.75


@pytest.mark.parametrize("pixels", [np.zeros((64, 64)), np.full((64, 64, 3), np.nan), np.full((64, 64), 1e9)])
@pytest.mark.parametrize("box", [(16, 16, 48, 48), (63.2, 0.1, 63.9, 0.2), (0, 0, 64, 64)])
def test_an_empty_mask_or_picture_has_finite_signs(pixels, box):
    found = of(np.zeros((64, 64), bool), box, pixels=pixels)
    assert all(map(math.isfinite, found.values()))
    assert found["fill"] == found["own_dice"] == found["stability"] == 0


def test_a_picture_has_no_millimetres():
    found = of(disc((64, 64), (31.5, 31.5), 16), (16, 16, 48, 48), calibrated=False)
    assert math.isnan(found["side_mm"])


def test_a_large_box_on_a_coarser_grid_has_the_signs_of_the_same_drawing_small():
    small = of(disc((64, 64), (31.5, 31.5), 16), (16, 16, 48, 48))
    large = of(disc((512, 512), (255.5, 255.5), 128), (128, 128, 384, 384), shape=(512, 512), pitch_mm=0.125)
    for name in ("fill", "ellipse", "fit", "side", "side_mm", "thickness", "contrast"):
        assert large[name] == pytest.approx(small[name], rel=0.1, abs=0.15), name
    assert large["coarse"] == pytest.approx(small["coarse"] - 3)


def test_the_share_that_the_window_clips():
    pixels = np.full((64, 64), 100.0)
    pixels[:, :32] = 500
    assert of(disc((64, 64), (31.5, 31.5), 16), (16, 16, 48, 48), pixels=pixels)["clipped"] == pytest.approx(0.5)


def test_brightness_that_parts_a_box_as_the_mask_does_and_one_that_does_not():
    mask = disc((64, 64), (31.5, 31.5), 16)
    for inside in (150.0, 10.0):
        found = of(mask, (16, 16, 48, 48), pixels=np.where(mask, inside, 50.0))
        assert (found["explained"], found["parted"]) == (pytest.approx(1), 1)
    across = np.where(np.arange(64) < 32, 150.0, 50.0)[None].repeat(64, axis=0)
    found = of(mask, (16, 16, 48, 48), pixels=across)
    assert found["explained"] == pytest.approx(0, abs=1e-9)
    assert found["parted"] < 0.65
    assert found["follows"] < 0.05


def test_padding_is_not_pooled():
    preprocess = Preprocess(64, "pad", "minmax", "bilinear")
    features = torch.full((1, 2, 16, 16), 9.0)
    features[:, :, :8] = torch.tensor([1.0, 2.0])[:, None, None]
    frame = Frame.of(plane((32, 64)), preprocess)
    assert pooled(Embedding(features, frame)).tolist() == [1, 2]


def test_answers_to_a_box_alone_have_signs():
    scan, _ = block((1, 40, 40), (10, 10, 0, 30, 30, 1))
    encoder, box = Predictor(ThresholdSam(64), "cpu").encoder_for(scan), (10.0, 10.0, 30.0, 30.0)
    rough = np.ones((40, 40), bool)
    prompts = [SlicePrompt(1, box), SlicePrompt(2, box, ((20, 20, 1),)), SlicePrompt(3, box, mask=rough)]
    found = [one.signs for one in segment_slice(encoder, 0, prompts, trust=True)]
    assert found[0] is not None
    assert found[0].shape == (len(NAMES),)
    assert found[1] is found[2] is None
    assert segment_slice(encoder, 0, prompts[:1], zoom="off", trust=True)[0].signs is None
    assert segment_slice(encoder, 0, prompts[:1])[0].signs is None
