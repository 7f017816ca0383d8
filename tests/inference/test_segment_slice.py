"""Which crops are taken, and how the logits of them, the box and the clicks become one mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.errors import PromptError
from medsam.geometry import SlicePlane, View, VolumeGeometry
from medsam.inference.combine import mean_logits
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.looks import closer_region
from medsam.inference.predictor import Predictor
from medsam.inference.priors import add_box_and_intensity_prior
from medsam.inference.segment_slice import segment_slice
from medsam.postprocess.clean import Cleanup
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.volume import Volume
from tests.phantoms import ThresholdSam, block, disc


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(64), "cpu")


# -- crops ------------------------------------------------------------------------------------------------------


def test_off_is_the_published_answer(predictor):
    scan, mask = block((2, 20, 30), (4, 6, 0, 14, 12, 2))
    scan_encoder = predictor.encoder_for(scan)
    prompts = [SlicePrompt(1, (4, 6, 14, 12)), SlicePrompt(2, None, ((8, 8, 1), (20, 2, 0)))]
    found = segment_slice(scan_encoder, 1, prompts, zoom="off")
    expected = predictor.predict(scan_encoder.encode(1), prompts)
    for n in range(2):
        np.testing.assert_array_equal(found[n].mask, expected.masks[n, 0])
        np.testing.assert_array_equal(found[n].mask, mask[1])
        assert found[n].predicted_iou == expected.predicted_iou[n, 0]
    assert predictor.sam.encoded == 1


@pytest.mark.parametrize(
    ("prompt", "zoom", "extent"),
    [
        (SlicePrompt(1, (4, 6, 14, 12)), "auto", "in_box"),
        (SlicePrompt(1, (4, 6, 14, 12)), "off", "near_box"),
        (SlicePrompt(1, (4, 6, 14, 12)), "on", "near_box"),
        (SlicePrompt(1, (4, 6, 14, 12), ((8, 8, 1),)), "off", "all"),
        (SlicePrompt(1, (4, 6, 14, 12), mask=np.ones((20, 30), bool)), "auto", "all"),
    ],
)
@pytest.mark.parametrize("knows_clicks", [False, True])
def test_logits_that_become_no_mask_are_not_asked_for(predictor, monkeypatch, prompt, zoom, extent, knows_clicks):
    if not knows_clicks:
        monkeypatch.setattr(predictor.sam.spec, "prompts", ("box",))
    asked = []
    predict = predictor.images.predict
    monkeypatch.setattr(
        predictor.images, "predict", lambda *given, **how: asked.append(how.get("logits_for")) or predict(*given, **how)
    )
    scan, _ = block((2, 20, 30), (4, 6, 0, 14, 12, 2))
    segment_slice(predictor.encoder_for(scan), 1, [prompt], zoom=zoom)
    assert asked[-1] == ("all" if knows_clicks else extent)


def test_a_slice_the_network_sees_in_full_is_encoded_once(predictor):
    scan, _ = block((1, 60, 60), (4, 6, 0, 14, 12, 1))
    segment_slice(predictor.encoder_for(scan), 0, [SlicePrompt(1, (4, 6, 14, 12)), SlicePrompt(2, (3, 6, 14, 12))])
    assert predictor.sam.encoded == 1


def test_a_shrunk_slice_is_looked_at_once_and_small_boxes_once_more(predictor):
    scan, _ = block((1, 256, 256), (46, 66, 0, 50, 70, 1))
    scan_encoder = predictor.encoder_for(scan)
    prompts = [SlicePrompt(1, (40, 60, 60, 80)), SlicePrompt(2, (38, 58, 62, 82)), SlicePrompt(3, (2, 2, 250, 250))]
    found = segment_slice(scan_encoder, 0, prompts)
    assert [len(one.crops) for one in found] == [2, 2, 1]
    assert predictor.sam.encoded == 2
    segment_slice(scan_encoder, 0, prompts)
    assert predictor.sam.encoded == 2
    segment_slice(scan_encoder, 0, prompts[:1], zoom="on")
    assert predictor.sam.encoded == 3


@pytest.mark.parametrize(
    ("prompt", "zoom", "crops"),
    [
        (SlicePrompt(1, (40, 60, 60, 80), ((50, 70, 1),)), "on", 1),
        (SlicePrompt(1, (40, 60, 60, 80), ((50, 70, 1),)), "auto", 2),
        (SlicePrompt(1, None, (), np.pad(np.ones((20, 30), bool), 100)), "on", 1),
        (SlicePrompt(1, None, ((50, 70, 1),)), "off", 1),
        (SlicePrompt(1, None, ((50, 70, 1),)), "auto", 1),
    ],
)
def test_each_crop_of_a_slice_is_prepared_once(predictor, monkeypatch, prompt, zoom, crops):
    # of a network that takes boxes only: clicks and masks become a box, which may need a look at the slice first
    predictor.sam.spec.prompts = ("box",)
    prepared = []
    encode_many = ScanEncoder.encode_many
    monkeypatch.setattr(ScanEncoder, "encode_many", lambda self, some: prepared.extend(some) or encode_many(self, some))
    scan, _ = block((1, 256, 256) if prompt.mask is None else (1, 220, 230), (48, 68, 0, 52, 72, 1))
    (found,) = segment_slice(predictor.encoder_for(scan), 0, [prompt], zoom=zoom)
    assert prepared == list(dict.fromkeys(prepared))
    assert len(found.crops) == crops
    assert set(found.crops) <= set(prepared)
    assert len(prepared) == crops


@pytest.mark.parametrize("prompts", [("box",), ("box", "points", "mask")])
def test_there_is_no_slice_beyond_the_last(predictor, prompts):
    predictor.sam.spec.prompts = prompts
    scan = Volume(np.full((2, 60, 60), 40, np.int16), VolumeGeometry((2, 60, 60), np.eye(4)), modality="CT")
    for index in (-1, 2):
        with pytest.raises(PromptError, match=f"There is no slice {index} on axis k; it has 0 ... 1"):
            segment_slice(predictor.encoder_for(scan), index, [SlicePrompt(1, (10, 10, 30, 30), ((20, 20, 1),))])


def test_a_closer_look_sees_what_the_whole_look_cannot(predictor):
    # a line one pixel wide in a slice that is shrunk by eight
    array = np.full((1, 512, 512), 20.0, np.float32)
    array[0, 200:240, 300] = 200
    scan = Volume(array, VolumeGeometry(array.shape, np.eye(4)))
    prompt = [SlicePrompt(1, (290, 200, 311, 240))]
    scan_encoder = predictor.encoder_for(scan, window="110,180")
    whole, closer = (segment_slice(scan_encoder, 0, prompt, zoom=zoom)[0].mask for zoom in ("off", "on"))
    assert closer[200:240, 300].mean() > 0.9
    assert closer.sum() < 130 < 200 < whole.sum()


def test_the_wide_window_is_taken_where_soft_tissue_hides_the_object(predictor):
    array = np.full((1, 60, 60), 40.0, np.float32)
    array[0, 10:30, 10:30] = -850  # a lung
    scan = Volume(array, VolumeGeometry(array.shape, np.eye(4)), modality="CT")
    lung, soft = SlicePrompt(1, (10, 10, 30, 30)), SlicePrompt(2, (40, 40, 55, 55))
    in_lung, in_soft = segment_slice(predictor.encoder_for(scan), 0, [lung, soft])
    assert in_lung.crops[0].window.name == "wide"
    assert in_soft.crops[0].window is None
    asked_for = segment_slice(predictor.encoder_for(scan, window="soft-tissue"), 0, [lung])[0]
    assert asked_for.crops[0].window is None
    no_ct = Volume(array, scan.geometry, modality="MR")
    assert segment_slice(predictor.encoder_for(no_ct), 0, [lung])[0].crops[0].window is None


def test_earlier_logits_go_back_into_the_same_looks(predictor):
    scan, _mask = block((1, 20, 30), (4, 6, 0, 14, 12, 1))
    scan_encoder = predictor.encoder_for(scan)
    first = segment_slice(scan_encoder, 0, [SlicePrompt(1, (4, 6, 9, 12))])
    again = segment_slice(scan_encoder, 0, [SlicePrompt(1, None, ((6, 8, 1),))], previous=first)[0]
    # ThresholdSam keeps to a given mask: the click alone would have taken the whole block
    assert again.mask[:, :9].any()
    assert not again.mask[:, 11:].any()
    assert predictor.sam.encoded == 1


def test_wrong_wishes_are_told(predictor):
    scan, _ = block((1, 20, 30), (4, 6, 0, 14, 12, 1))
    with pytest.raises(PromptError, match="no zoom 'near'"):
        segment_slice(predictor.encoder_for(scan), 0, [SlicePrompt(1, (4, 6, 9, 12))], zoom="near")
    with pytest.raises(PromptError, match="at least one box"):
        segment_slice(predictor.encoder_for(scan), 0, [])


@given(
    rows=st.integers(8, 300),
    columns=st.integers(8, 300),
    pitch=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    size=st.tuples(st.floats(0.02, 1), st.floats(0.02, 1)),
)
def test_a_closer_region_holds_the_box_and_lies_in_the_slice(rows, columns, pitch, corner, size):
    plane = SlicePlane("k", (rows, columns), pitch, 1, View())
    x0, y0 = corner[0] * columns, corner[1] * rows
    box = (x0, y0, min(columns, x0 + size[0] * columns), min(rows, y0 + size[1] * rows))
    left, top, right, bottom = closer_region(box, plane)
    assert 0 <= left <= box[0]
    assert box[2] <= right <= columns
    assert 0 <= top <= box[1]
    assert box[3] <= bottom <= rows
    if right - left < columns and bottom - top < rows:
        # square in millimetres, to whole pixels
        assert abs((right - left) * pitch[1] - (bottom - top) * pitch[0]) <= 2 * sum(pitch)


# -- inside the box ---------------------------------------------------------------------------------------------


class BrightEverywhere(ThresholdSam):
    """Finds the object on the whole slice, whatever it is asked: nothing but our own care keeps it in a box."""

    def decode(self, embedding, *, boxes=None, multimask=False, **more):
        count = next(given.shape[1] for given in (boxes, *more.values()) if given is not None)
        logits = torch.full((len(embedding), count, 3 if multimask else 1, *embedding.shape[-2:]), 4.0)
        return logits, torch.full(logits.shape[:3], 0.9)


GRID = VolumeGeometry((1, 90, 120), np.eye(4))
NOISE = Volume(np.random.default_rng(0).integers(0, 200, GRID.shape).astype(np.float32), GRID)


@settings(max_examples=30, deadline=None)
@given(
    corner=st.tuples(st.floats(0, 100), st.floats(0, 70)),
    size=st.tuples(st.floats(0.3, 60), st.floats(0.3, 60)),
    clicks=st.lists(
        st.tuples(st.integers(0, 119), st.integers(0, 89), st.integers(0, 1)), max_size=3, unique_by=lambda c: c[:2]
    ),
    knows=st.sampled_from([("box",), ("box", "points", "mask")]),
    drawn=st.booleans(),
    smooth_mm=st.sampled_from([0.0, 2.0]),
)  # fmt: skip
def test_an_answer_lies_in_the_pixels_of_its_box_and_of_its_clicks(corner, size, clicks, knows, drawn, smooth_mm):
    (x0, y0), (x1, y1) = corner, (min(corner[0] + size[0], 120), min(corner[1] + size[1], 90))
    image_predictor = Predictor(BrightEverywhere(64), "cpu")
    image_predictor.sam.spec.prompts = knows
    mask = disc((90, 120), (x0, y0), 15) if drawn else None
    prompt = Prompt("lesion", (x0, y0, x1, y1), 0, points=clicks, mask=mask)
    found = image_predictor.segment(NOISE, prompt, tidy=Cleanup(smooth_mm=smooth_mm)).labels.array[0] > 0
    inside = [(x, y) for x, y, label in clicks if label]
    left, right = min([x0, *(x - 0.5 for x, _ in inside)]), max([x1, *(x + 1.5 for x, _ in inside)])
    top, bottom = min([y0, *(y - 0.5 for _, y in inside)]), max([y1, *(y + 1.5 for _, y in inside)])
    rows, columns = np.nonzero(found)
    assert found.any()
    assert left < columns.min() + 1
    assert columns.max() < right
    assert top < rows.min() + 1
    assert rows.max() < bottom


def test_what_spreads_through_the_volume_stays_in_the_box_of_its_prompted_slice():
    scan = Volume(np.repeat(NOISE.array, 3, axis=0), VolumeGeometry((3, 90, 120), np.eye(4)))
    image_predictor = Predictor(BrightEverywhere(64), "cpu")
    found = image_predictor.segment(
        scan, Prompt(box=(20, 30, 60, 70), slice=1), propagate=True, tidy=Cleanup(smooth_mm=3)
    )
    rows, columns = np.nonzero(found.labels.array[1])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) >= (20, 30, 0, 0)
    assert columns.max() < 60
    assert rows.max() < 70
    session = image_predictor.session(scan)
    session.tidy = Cleanup(smooth_mm=3)
    session.box(1, (20, 30, 60, 70))
    outside = session.labels.array[1].copy()
    outside[30:70, 20:60] = 0
    assert not outside.any()


# -- how crops and priors are combined ----------------------------------------------------------------------------


def test_crops_are_averaged_where_they_reach():
    whole, closer = np.full((2, 3), 2.0), np.array([[-4.0, -np.inf, -np.inf], [0.0, -np.inf, -np.inf]])
    np.testing.assert_array_equal(mean_logits([whole, closer]), [[-1, 2, 2], [1, 2, 2]])
    assert np.isneginf(mean_logits([closer])[0, 1])


def test_a_network_that_knows_masks_is_not_told_of_a_mask_twice(predictor):
    scan, mask = block((1, 40, 60), (20, 10, 0, 32, 22, 1))
    scan_encoder = predictor.encoder_for(scan)
    box = (20.0, 10.0, 32.0, 22.0)
    given = SlicePrompt(1, box, mask=mask[0])
    found = segment_slice(scan_encoder, 0, [given])[0]
    asked = predictor.predict(scan_encoder.encode(0), [given])
    alone = add_box_and_intensity_prior(
        mean_logits([asked.frame.restore(asked.logits[0, 0]).numpy()]), box, scan_encoder.pixels(0)
    )
    np.testing.assert_array_equal(found.logits, alone)


def test_a_network_that_learned_loose_boxes_answers_alone(predictor):
    # a bright bar across a loose box: the box's ellipse would round it off
    scan, _ = block((1, 40, 60), (12, 14, 0, 44, 18, 1))
    scan_encoder = predictor.encoder_for(scan)
    prompt = SlicePrompt(1, (10.0, 8.0, 46.0, 30.0))
    alone = segment_slice(scan_encoder, 0, [prompt], zoom="off")[0]
    witnessed = segment_slice(scan_encoder, 0, [prompt])[0]
    predictor.sam.spec.use_priors = False
    found = segment_slice(scan_encoder, 0, [prompt])[0]
    np.testing.assert_array_equal(found.mask, alone.mask)
    inside = np.isfinite(found.logits)
    np.testing.assert_allclose(found.logits[inside], alone.logits[inside], rtol=1e-6)
    assert not np.allclose(witnessed.logits[inside], found.logits[inside])
    assert not inside[:, 50:].any(), "nothing outside the box is kept"
