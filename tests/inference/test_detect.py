"""What a head finds comes back on the stored grid of the scan, however it is stored."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.errors import PromptError
from medsam.inference.auto import AutoSettings, fed_back, head_for, prompts_of, segment_found
from medsam.inference.detect import Detections, FoundObject, SliceDetector, asked_classes
from medsam.inference.image_predictor import ImagePredictor
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import segment_slice
from medsam.models.build import build_model
from medsam.models.detector import Detector, DetectorMaps, DetectorSizes
from medsam.models.heads import Head, HeadCard, encoder_digest, save_head
from medsam.models.specs import tiny_spec
from medsam.prompts.prompt import SlicePrompt

SIDE = 64


class Brightness(torch.nn.Module):
    """A detector of what is bright, which shows its box exactly: the network's part is known by hand."""

    def forward(self, features: torch.Tensor) -> DetectorMaps:
        heat = torch.full((1, 1, SIDE, SIDE), -20.0)
        box = torch.zeros(1, 1, 4, SIDE, SIDE)
        rows, columns = np.nonzero(features[0, 0].numpy() > 0.5)
        step = features.shape[-1] / SIDE
        if len(rows) and features.amax() > features.amin():
            low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
            middle, size = (low + high) / 2 / step, (high - low) / step
            cell = np.floor(middle).astype(int)
            heat[0, 0, cell[1], cell[0]] = 5.0
            box[0, 0, :2, cell[1], cell[0]] = torch.tensor(middle - cell - 0.5)
            box[0, 0, 2:, cell[1], cell[0]] = torch.tensor(np.log(size))
        return DetectorMaps(heat, box, torch.full((1, 1), 9.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["i", "j", "k"]))
def test_boxes_come_back_on_the_stored_slices_whatever_the_orientation(seed, axis):
    rng = np.random.default_rng(seed)
    affine = phantoms.random_affine(rng, rng.choice([0.7, 1.0, 2.5], 3), oblique=False)
    box = (4, 6, 3, 15, 13, 7)
    scan, mask = phantoms.block((11, 21, 24), box, affine)
    images = ImagePredictor(phantoms.ThresholdSam(), "cpu")
    encoder = images.encoder_for(scan, axis=axis, window="auto")
    plane = encoder.plane
    detector = SliceDetector(Brightness(), {0: 0.5}, 256, plane)
    for index in range(plane.count):
        detector.add(index, index, encoder.encode(index))
    seen = detector.seen
    for index in range(plane.count):
        there = plane.take(mask, index)
        found = seen.boxes[0].get(index, [])
        assert bool(found) == bool(there.any())
        if found:
            rows, columns = np.nonzero(there)
            tight = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            # a pixel of the network is at most a tenth of one of the scan's
            assert found[0][0] == pytest.approx(tight, abs=0.6)
            assert seen.presence[0][index] > 0.9
    assert np.isnan(seen.presence[0]).sum() == sum(not plane.take(mask, k).any() for k in range(plane.count))


def detections(*objects: FoundObject, missing=None, asked=("block", "other")) -> Detections:
    return Detections(objects, asked, missing or {}, ("other",), "shapes")


def block_on(scan, confidence=0.9) -> FoundObject:
    boxes = dict.fromkeys((3, 4, 5, 6), (5.0, 6.0, 14.0, 13.0))
    return FoundObject("block", boxes, dict.fromkeys(boxes, confidence), confidence)


def head(**changes) -> Head:
    card = HeadCard("detector", "shapes", ("block", "other"), "threshold", "0" * 64, {"width": 1}, "CC BY-SA 4.0")
    return Head(replace(card, **changes), {})


def test_what_was_found_is_segmented_and_what_was_not_is_said():
    scan, mask = phantoms.block((11, 21, 24), (4, 6, 3, 15, 13, 7))
    encoder = ImagePredictor(phantoms.ThresholdSam(), "cpu").encoder_for(scan, axis="k")
    found = segment_found(encoder, detections(block_on(scan), missing={"other": 0.12}), head(), zoom="off")
    # each side of the box was a column short, and a box is a little larger before it asks
    assert found.labels.names == {1: "block", 2: "other"}
    assert np.array_equal(found.labels.array == 1, mask)
    document = found.to_dict(masks=False)
    assert document["auto"]["found"] == [
        {"name": "block", "confidence": 0.9, "slices": [3, 4, 5, 6], "box": [5.0, 6.0, 14.0, 13.0]}
    ]
    assert document["auto"]["not_found"] == [{"name": "other", "confidence": 0.12}]
    assert any("Not found: other (best confidence 0.12)." in note for note in found.notes)
    assert any(note.startswith("UNTESTED: nothing was measured of other") for note in found.notes)
    assert (found.algorithm.kind, found.algorithm.licence) == ("AUTOMATIC", "CC BY-SA 4.0")


def test_nothing_found_is_an_empty_label_map_that_says_so():
    scan, _ = phantoms.block((5, 21, 24), (4, 6, 1, 15, 13, 3))
    encoder = ImagePredictor(phantoms.ThresholdSam(), "cpu").encoder_for(scan, axis="k")
    found = segment_found(encoder, detections(missing={"block": 0.1, "other": 0.0}), head())
    assert not found.labels.array.any()
    assert found.labels.names == {1: "block", 2: "other"}
    assert "Nothing was found of block, other: the label map is empty." in found.notes


def test_the_box_of_the_mask_is_asked_again_unless_it_is_of_something_else():
    scan, _ = phantoms.block((11, 21, 24), (4, 6, 3, 15, 13, 7))
    encoder = ImagePredictor(phantoms.ThresholdSam(), "cpu").encoder_for(scan, axis="k")
    near, far = SlicePrompt(1, (3.0, 5.0, 17.0, 14.0)), SlicePrompt(1, (0.0, 0.0, 23.0, 20.0))
    results = segment_slice(encoder, 4, [near, far], zoom="off")
    again = fed_back(encoder, [near, far], results, 0.0)
    assert again[0].box == (4.0, 6.0, 15.0, 13.0)
    assert again[1] == far


def test_boxes_are_a_little_larger_before_they_ask():
    scan, _ = phantoms.block((11, 21, 24), (4, 6, 3, 15, 13, 7))
    encoder = ImagePredictor(phantoms.ThresholdSam(), "cpu").encoder_for(scan, axis="k")
    todo = prompts_of(detections(block_on(scan)), encoder, 0.1)
    assert todo.slices[3][0].box == pytest.approx((4.1, 5.3, 14.9, 13.7))
    assert AutoSettings().feed_back


def test_only_what_was_measured_is_offered():
    tested = head(measured={"block": {"dice": 0.9}})
    assert asked_classes(tested, None, untested=False) == [0]
    assert asked_classes(tested, None, untested=True) == [0, 1]
    assert asked_classes(tested, ["BLOCK"], untested=False) == [0]
    with pytest.raises(PromptError, match="other of the head 'shapes' was never measured .* `untested`"):
        asked_classes(tested, ["other"], untested=False)
    with pytest.raises(PromptError, match="knows no liver; it knows block, other"):
        asked_classes(tested, ["liver"], untested=True)
    with pytest.raises(PromptError, match="Nothing of what the head 'shapes' knows"):
        asked_classes(head(), None, untested=False)


def test_a_predictor_finds_with_the_head_of_a_file(tmp_path):
    torch.manual_seed(0)
    sam = build_model(tiny_spec("tiny_vit")).eval()
    sizes = DetectorSizes(1, sam.spec.decoder.width, 16, 16)
    card = HeadCard("detector", "tiny", ("block",), sam.spec.name, encoder_digest(sam), asdict(sizes))
    save_head(Head(replace(card, thresholds={"block": 0.9}), Detector(sizes).state_dict()), tmp_path / "h.safetensors")
    scan, _ = phantoms.block((4, 21, 24), (4, 6, 1, 15, 13, 3))
    predictor = Predictor(sam, "cpu", heads=[tmp_path / "h.safetensors"])
    found = predictor.find(scan, untested=True)
    # read once, however often it looks
    assert predictor.detector(["block"]) is predictor.detector(None, "CT")
    # it has learnt nothing, so nothing is believed
    assert found.found is not None
    assert found.found.missing.keys() == {"block"}
    # of four slices two and two are alike
    assert found.usage.encoded == 2
    with pytest.raises(PromptError, match="never measured"):
        predictor.find(scan, ["block"])
    with pytest.raises(PromptError, match="No detector of medsam reads the embeddings of tiny-tinyvit"):
        head_for((), sam, None, "MR")
