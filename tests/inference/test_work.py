"""How much is computed for a known job: counts that no clock and no machine can blur."""

import tracemalloc

import numpy as np
import pytest
import torch
from phantoms import block

from medsam.inference import looks
from medsam.inference.predictor import Predictor
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.transforms.prepare import scan_tensor

SCAN = block((12, 96, 80), (20, 24, 2, 60, 70, 10))[0]
# no two slices alike: equal ones share an embedding
SCAN.array[...] += np.random.default_rng(0).normal(size=SCAN.array.shape).astype(SCAN.array.dtype)
# two slices, three objects on each
BOXES = [Prompt(f"object {n % 3}", box=(20, 24, 40 + n, 50 + n), slice=4 + n // 3) for n in range(6)]


class Counted(Predictor):
    """Remembers how many images and prompts each pass of its network took."""

    def __init__(self, spec="tiny_vit"):
        torch.manual_seed(0)
        super().__init__(build_model(tiny_spec(spec)), "cpu")
        self.image_counts, self.prompt_counts = [], []
        encode, decode = self.sam.encode_image, self.sam.decode

        def counted_encode(images):
            self.image_counts.append(len(images))
            return encode(images)

        def counted_decode(embedding, *, multimask, **prompts):
            self.prompt_counts.append(next(iter(prompts.values())).shape[1])
            return decode(embedding, multimask=multimask, **prompts)

        self.sam.encode_image, self.sam.decode = counted_encode, counted_decode


def test_a_slice_is_encoded_once_and_its_boxes_decoded_together():
    predictor = Counted()
    found = predictor.segment(SCAN, BOXES, zoom="off")
    assert predictor.image_counts == [1, 1]  # ten slices without a prompt are not encoded
    assert predictor.prompt_counts == [3, 3]
    assert found.encoded == 2


def test_the_same_boxes_again_encode_nothing():
    predictor = Counted()
    predictor.segment(SCAN, BOXES, zoom="off")
    predictor.segment(SCAN, BOXES, zoom="off")
    assert predictor.image_counts == [1, 1]
    assert predictor.prompt_counts == [3, 3, 3, 3]


def test_a_closer_look_is_one_encoding_for_all_boxes_of_a_tile(monkeypatch):
    monkeypatch.setattr(looks, "_leaves_empty", lambda *_: True)
    wide = block((3, 200, 260), (80, 60, 0, 110, 90, 3))[0]
    predictor = Counted()
    boxes = (80, 60, 114, 94), (150, 100, 184, 134), (220, 150, 254, 184)
    predictor.segment(wide, [Prompt(f"object {n}", box=box, slice=1) for n, box in enumerate(boxes)])
    assert predictor.image_counts == [1, 1, 1]  # the slice, its middle and a corner
    assert sorted(predictor.prompt_counts) == [1, 2, 3]


def test_a_slice_with_many_prompts_is_decoded_in_parts():
    predictor = Counted()
    embedding = predictor.embed(SCAN, 5)
    predictor.predict(embedding, [SlicePrompt(1, (20, 24, 60, 70))] * 70)
    assert predictor.image_counts == [1]
    assert sum(predictor.prompt_counts) == 70
    assert max(predictor.prompt_counts) <= 32


def test_box_click_click_encodes_once():
    predictor = Counted("vit")
    session = predictor.session(SCAN, zoom="off")
    session.box(5, (20, 24, 60, 70))
    session.click(5, 30, 30)
    session.click(5, 2, 2, inside=False)
    assert predictor.image_counts == [1]
    assert predictor.prompt_counts == [1, 1, 1]


def test_propagation_encodes_each_slice_once():
    predictor = Counted()
    found = predictor.segment(SCAN, [Prompt("organ", box3d=(20, 24, 2, 60, 70, 10))], zoom="off", propagate=True)
    assert found.encoded == len(predictor.image_counts) <= 8


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.int32])
def test_the_volume_is_not_copied_for_torch(dtype):
    volume = block((4, 20, 20), (5, 5, 1, 10, 10, 3))[0]
    volume = type(volume)(volume.array.astype(dtype), volume.geometry)
    assert np.shares_memory(scan_tensor(volume).numpy(), volume.array)


def test_segmenting_costs_one_label_map_of_memory():
    big = block((300, 320, 320), (60, 60, 20, 160, 160, 100))[0]
    array = big.array.astype(np.int16)
    big = type(big)(array, big.geometry)
    predictor = Counted()
    prompts = [Prompt("organ", box=(60, 60, 160, 160), slice=50)]
    predictor.segment(big, prompts, zoom="off")  # what is imported and prepared only once
    tracemalloc.start()
    try:
        predictor.segment(big, prompts, zoom="off")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # labels are as wide as the voxels; a sample for the window takes 32 MB however large the scan is
    assert peak < 1.6 * array.nbytes
