"""Clicks and masks for networks that know only boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.errors import PromptError
from medsam.geometry import SlicePlane, View
from medsam.inference.clicks import Said, as_box, box_including, candidate_boxes, refuted
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import segment_slice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import Scribble
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


@pytest.mark.parametrize("how", ["click", "stroke"])
def test_a_decoder_that_knows_clicks_proposes_what_no_square_holds(predictor, how):
    # longer than the longest square, and clicked at its end
    scan, mask = block((1, 20, 300), (4, 8, 0, 296, 12, 1))
    encoder = predictor.encoder_for(scan)
    asked = {"points": ((8, 10, 1),)} if how == "click" else {"scribbles": (Scribble(((6, 10), (12, 10))),)}
    prompt = SlicePrompt(1, **asked)
    (without,) = segment_slice(encoder, 0, [prompt])
    assert np.count_nonzero(without.mask & mask[0]) < 0.9 * mask.sum()
    predictor.sam.propose_by(ThresholdSam(64))
    (proposed,) = segment_slice(encoder, 0, [prompt])
    assert np.count_nonzero(proposed.mask & mask[0]) > 0.95 * mask.sum()
    # a box alone asks for no proposal
    predictor.sam.proposer.decoded = 0
    segment_slice(encoder, 0, [SlicePrompt(1, box=(4.0, 8.0, 296.0, 12.0))])
    assert predictor.sam.proposer.decoded == 0


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


def test_a_box_grows_to_a_click_outside_it_and_a_mask_brings_its_own():
    _, mask = block((1, 40, 60), (20, 10, 0, 32, 22, 1))
    grown = as_box(SlicePrompt(1, BOX, ((50, 5, 1), (2, 2, 0))), PLANE)
    assert grown.box == (10.0, 4.5, 51.5, 30.0)
    assert grown.points == ()
    masked = as_box(SlicePrompt(1, mask=mask[0]), PLANE)
    assert masked.box == (20, 10, 32, 22)
    assert masked.mask is not None


@pytest.mark.parametrize(
    ("at", "inside", "expected"),
    [
        # the mask is 20 pixels wide and high: 10 deep
        ((20, 20), False, True),
        ((12, 20), False, False),
        ((20, 34), True, False),
        ((20, 37), True, True),
        ((20, 20), True, False),
        ((50, 35), False, False),
    ],
)
@pytest.mark.parametrize("pitch", [1.0, 0.2])
def test_a_click_refutes_a_mask_when_it_lies_half_as_deep_in_the_error_as_the_mask_is(at, inside, expected, pitch):
    mask, where = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    mask[10:30, 10:30] = True
    where[at[1], at[0]] = True
    assert refuted(mask, where, inside, SlicePlane("k", (40, 60), (pitch, pitch), 1, View())) is expected
    assert refuted(np.zeros_like(mask), where, inside, PLANE) is inside


def test_marks_are_honoured_each_as_much_as_another():
    mask = np.zeros((40, 60), bool)
    mask[:, :30] = True
    stroke = Scribble(((25, 5), (34, 5)))
    said = Said.by(SlicePrompt(1, points=((3, 3, 1), (4, 4, 0)), scribbles=(stroke,)), PLANE)
    assert said.honoured_by(mask) == pytest.approx(1 + 0 + 0.5)
    with pytest.raises(PromptError, match="one inside"):
        Said.by(SlicePrompt(1, points=((4, 4, 0),)), PLANE)


def test_a_click_on_another_object_leads_to_a_box_of_both(predictor):
    scan, one = block((1, 40, 60), (8, 10, 0, 20, 22, 1))
    _, other = block((1, 40, 60), (36, 10, 0, 50, 26, 1))
    scan = type(scan)(np.where(other, scan.array.max(), scan.array), scan.geometry)
    encoder = predictor.encoder_for(scan)
    points = ((13, 15, 1), (43, 18, 1))
    (first,) = segment_slice(encoder, 0, [SlicePrompt(1, points=points[:1])])
    (both,) = segment_slice(encoder, 0, [SlicePrompt(1, points=points)], previous=[first])
    assert first.box is not None
    assert both.box is not None
    assert first.box[2] < 36
    assert both.box[0] <= 13
    assert both.box[2] >= 43
    assert (both.mask & other[0]).sum() > 0.5 * other.sum()
    assert (both.mask & one[0]).sum() > 0.5 * one.sum()


def test_a_stroke_adds_another_object_and_not_all_that_lies_between():
    # a network that fills each box: a search for both objects finds the ground between them, too
    class Filling(ThresholdSam):
        def decode(self, embedding, **options):
            return super().decode(0 * embedding + 1, **options)

    sam = Filling(64)
    sam.spec.prompts = ("box",)
    scan, _ = block((1, 40, 60), (8, 10, 0, 20, 22, 1))
    _, other = block((1, 40, 60), (36, 10, 0, 50, 26, 1))
    scan = type(scan)(np.where(other, scan.array.max(), scan.array), scan.geometry)
    encoder = Predictor(sam, "cpu").encoder_for(scan)
    strokes = (Scribble(((10, 15), (18, 15))), Scribble(((38, 18), (47, 18))))
    (first,) = segment_slice(encoder, 0, [SlicePrompt(1, scribbles=strokes[:1])])
    (both,) = segment_slice(encoder, 0, [SlicePrompt(1, scribbles=strokes)], previous=[first])
    assert both.box == first.box
    assert both.mask[15, 10:19].all()
    assert (both.mask & other[0]).sum() > 0.9 * other.sum()
    assert not both.mask[:, 24:32].any()
    (at_once,) = segment_slice(encoder, 0, [SlicePrompt(1, scribbles=strokes)])
    np.testing.assert_array_equal(both.mask, at_once.mask)
    # clicks tell less: the object that they lead to may be the larger one
    (clicked,) = segment_slice(encoder, 0, [SlicePrompt(1, points=((13, 15, 1), (43, 18, 1)))])
    assert clicked.mask[15:20, 24:32].all()


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


@given(st.integers(0, 59), st.integers(0, 39))
def test_a_box_moves_out_to_clicks_beyond_its_last_pixels_alone(x, y):
    plane = block((1, 40, 60), (6, 10, 0, 24, 30, 1))[0].geometry.plane()
    found = box_including((6, 10, 24, 30), np.array([[12.0, 15.0], [x, y]]), plane)
    if 6 <= x < 24 and 10 <= y < 30:
        assert found == (6, 10, 24, 30)
    else:
        assert found != (6, 10, 24, 30)
        assert found[0] <= x < x + 1 <= found[2]
        assert found[1] <= y < y + 1 <= found[3]
