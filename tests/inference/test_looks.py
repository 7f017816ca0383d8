"""Which tile is a box's own, which boxes are shown it, and that no other prompt has a say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medsam.geometry import SlicePlane, View, VolumeGeometry
from medsam.inference.looks import looks_for, tile_for
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import segment_slice
from medsam.inference.slice_request import CropAnswer
from medsam.prompts.prompt import SlicePrompt
from medsam.volume import Volume
from tests.phantoms import ThresholdSam

VIEWS = [View(*flags) for flags in np.ndindex(2, 2, 2)]


def plane(rows=512, columns=512, pitch=(1.0, 1.0), view=None):
    return SlicePlane("k", (rows, columns), pitch, 1, view or View())


# -- the tile of a box --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "tile"),
    [
        ((100, 100, 120, 120), (0, 0, 282, 282)),
        ((190, 190, 200, 200), (115, 115, 397, 397)),
        ((130, 135, 145, 145), (115, 115, 397, 397)),  # the middle one holds it, with a twentieth to spare
        ((129, 135, 145, 145), (0, 115, 282, 397)),  # with less than 14.08 pixels
        ((0, 500, 10, 512), (0, 230, 282, 512)),
        ((250, 300, 376, 330), (115, 115, 397, 397)),
        ((250, 300, 377, 330), None),  # more than 0.45 of a tile
    ],
)
def test_a_slice_of_twice_the_network_has_nine_tiles(box, tile):
    assert tile_for(box, plane(), 256) == tile


def test_finer_tiles_go_down_to_the_pixels_of_the_scan():
    assert tile_for((100, 100, 120, 120), plane(1024, 1024), 256) == (0, 0, 282, 282)
    assert tile_for((100, 100, 240, 120), plane(1024, 1024), 256) == (0, 0, 563, 563)
    assert tile_for((100, 100, 120, 120), plane(300, 300), 256) is None
    # what counts is the finest pitch: a slice squashed 2:1 is shrunk along its columns alone
    assert tile_for((100, 50, 120, 60), plane(150, 300, (2.0, 1.0)), 256) is None
    assert tile_for((100, 50, 120, 60), plane(256, 512, (2.0, 1.0)), 256) == (0, 0, 282, 141)


def test_a_narrow_slice_has_one_row_of_tiles():
    tiles = {tile_for((x, 90, x + 10, 100), plane(200, 512), 256) for x in range(0, 500, 5)}
    assert tiles == {(0, 0, 282, 200), (115, 0, 397, 200), (230, 0, 512, 200)}


BOXES = {
    "rows": st.integers(260, 1100),
    "columns": st.integers(260, 1100),
    "pitch": st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    "corner": st.tuples(st.floats(0, 1), st.floats(0, 1)),
    "size": st.tuples(st.floats(0, 1), st.floats(0, 1)),
}


def box_in(rows, columns, corner, size, share):
    x0, y0 = (round(at * (length - 8)) for at, length in zip(corner, (columns, rows), strict=True))
    wide, high = (2 + one * share * max(rows, columns) for one in size)
    return float(x0), float(y0), min(columns, round(x0 + wide)), min(rows, round(y0 + high))


@given(**BOXES)
def test_a_box_lies_well_inside_its_tile(rows, columns, pitch, corner, size):
    box = box_in(rows, columns, corner, size, 0.2475)
    tile = tile_for(box, plane(rows, columns, pitch), 256)
    if tile is None:
        return
    x0, y0, x1, y1 = tile
    assert 0 <= x0 < x1 <= columns
    assert 0 <= y0 < y1 <= rows
    # square in millimetres where the slice allows it, to whole pixels
    across, down = (x1 - x0) * pitch[1], (y1 - y0) * pitch[0]
    assert abs(across - down) <= 2 * sum(pitch) or x1 - x0 == columns or y1 - y0 == rows
    longest = max(across, down)
    assert max((box[2] - box[0]) * pitch[1], (box[3] - box[1]) * pitch[0]) <= 0.45 * longest + 2 * sum(pitch)
    for low, high, start, end, length, mm in (
        (box[0], box[2], x0, x1, columns, pitch[1]),
        (box[1], box[3], y0, y1, rows, pitch[0]),
    ):
        assert start == 0 or (low - start) * mm >= longest / 20 - 2 * mm
        assert end == length or (end - high) * mm >= longest / 20 - 2 * mm


@given(view=st.sampled_from(VIEWS), **BOXES)
def test_the_same_anatomy_has_the_same_tile_however_it_is_stored(view, rows, columns, pitch, corner, size):
    box = box_in(rows, columns, corner, size, 0.2475)
    upright = tile_for(box, plane(rows, columns, pitch), 256)
    stored = plane(*view.inverse.shape((rows, columns)), view.inverse.spacing(pitch), view)
    turned = tuple(view.inverse.boxes(np.array(box), (rows, columns)).tolist())
    tile = tile_for(turned, stored, 256)
    if upright is None:
        assert tile is None
    else:
        assert tuple(view.boxes(np.array(tile), stored.shape).tolist()) == upright


# -- who is shown it ----------------------------------------------------------------------------------------------


class Timid(ThresholdSam):
    """Knows boxes alone, and leaves each empty: every small one is looked at closer."""

    def __init__(self):
        super().__init__(64)
        self.spec.prompts = ("box",)

    def decode(self, embedding, *, boxes, multimask=False):
        logits, quality = super().decode(embedding, boxes=boxes, multimask=multimask)
        return logits - 1, quality


@pytest.fixture
def predictor():
    return Predictor(Timid(), "cpu")


def noise(rows=256, columns=256):
    array = np.random.default_rng(0).integers(0, 200, (2, rows, columns)).astype(np.float32)
    return Volume(array, VolumeGeometry(array.shape, np.diag([0.8, 0.8, 2, 1.0])))


def answer(box, margin):
    """That of a network whose mask lacks so many pixels on each side of the box."""
    logits = np.full((256, 256), -8, np.float32)
    x0, y0, x1, y1 = box
    logits[y0 + margin : y1 - margin, x0 + margin : x1 - margin] = 8
    return CropAnswer(logits, torch.zeros(1), 0.9, False)


def test_a_box_is_looked_at_closer_when_it_is_not_filled(predictor):
    scan_encoder = predictor.encoder_for(noise())
    box = (60, 60, 100, 100)
    # four pixels of the scan are one of the network, in which the box is 10 + 10: 0.85 * sqrt(20) = 3.8 may lack
    assert looks_for(scan_encoder, 1, box, answer(box, 0)) == ()
    assert looks_for(scan_encoder, 1, box, answer(box, 3)) == ()
    (crop,) = looks_for(scan_encoder, 1, box, answer(box, 4))
    assert (crop.index, crop.region, crop.window) == (1, tile_for(box, scan_encoder.plane, 64), None)
    assert looks_for(scan_encoder, 1, box, answer(box, 20)) == (crop,)
    assert looks_for(scan_encoder, 1, (20, 20, 140, 120), answer((20, 20, 140, 120), 20)) == ()


def many_boxes():
    rng = np.random.default_rng(1)
    corners, sizes = rng.integers(0, 230, (60, 2)), rng.integers(6, 25, (60, 2))
    return [
        SlicePrompt(1, (float(x), float(y), min(256.0, float(x + w)), min(256.0, float(y + h))))
        for (x, y), (w, h) in zip(corners.tolist(), sizes.tolist(), strict=True)
    ]


def test_sixty_boxes_share_the_tiles_of_their_slice(predictor):
    # four times the network's side: seven tiles along an axis
    found = segment_slice(predictor.encoder_for(noise()), 0, many_boxes())
    tiles = {one.crops[1].region for one in found}
    assert [len(one.crops) for one in found] == [2] * 60
    assert len(tiles) <= 49
    assert predictor.sam.encoded == len(tiles) + 1 == len(found[0].usage.crops)
    # half as many pixels: nine tiles
    predictor.sam.encoded = 0
    halves = [SlicePrompt(1, tuple(edge / 2 for edge in one.box)) for one in many_boxes()]
    found = segment_slice(predictor.encoder_for(noise(128, 128)), 0, halves)
    ends = (0, 70), (29, 99), (58, 128)
    assert {one.crops[1].region for one in found} == {(x0, y0, x1, y1) for x0, x1 in ends for y0, y1 in ends}
    assert predictor.sam.encoded == 10


def test_a_box_is_answered_the_same_alone_among_others_and_in_a_session(predictor):
    scan, prompts = noise(), many_boxes()[:12]
    together = segment_slice(predictor.encoder_for(scan), 0, prompts)
    backwards = segment_slice(predictor.encoder_for(scan), 0, prompts[::-1])[::-1]
    session = predictor.session(scan)
    for number, (prompt, one, other) in enumerate(zip(prompts, together, backwards, strict=True), 1):
        (alone,) = segment_slice(predictor.encoder_for(scan), 0, [prompt])
        assert alone.crops == one.crops == other.crops
        np.testing.assert_array_equal(alone.logits, one.logits)
        np.testing.assert_array_equal(alone.logits, other.logits)
        np.testing.assert_array_equal(session.box(0, prompt.box, f"object {number}").logits, alone.logits)


def test_a_second_box_nearby_encodes_nothing(predictor):
    session = predictor.session(noise(128, 128))
    session.box(0, (20, 20, 30, 30))
    assert predictor.sam.encoded == 2
    session.click(0, 22, 22)
    session.click(0, 28, 24, inside=False)
    assert predictor.sam.encoded == 2
    session.box(0, (24, 12, 40, 26))
    assert predictor.sam.encoded == 2


def test_an_answer_from_what_is_at_hand_encodes_nothing_and_says_what_is_missing(predictor):
    scan_encoder, prompt = predictor.encoder_for(noise(128, 128)), SlicePrompt(1, (20, 20, 30, 30))
    (first,) = segment_slice(scan_encoder, 0, [prompt], at_hand=True)
    # the whole slice was not there either
    assert predictor.sam.encoded == 1
    assert (len(first.crops), first.complete) == (1, False)
    (full,) = segment_slice(scan_encoder, 0, [prompt])
    assert (len(full.crops), full.complete, predictor.sam.encoded) == (2, True, 2)
    (again,) = segment_slice(scan_encoder, 0, [prompt], at_hand=True)
    assert (again.crops, again.complete, predictor.sam.encoded) == (full.crops, True, 2)
    np.testing.assert_array_equal(again.logits, full.logits)


def test_a_window_that_is_not_at_hand_is_left_for_later(predictor):
    array = noise().array.copy()
    array[:, 60:100, 60:100] = -900
    array[:, :20] = -1000
    scan = Volume(array, noise().geometry, modality="CT")
    scan_encoder, prompt = predictor.encoder_for(scan), SlicePrompt(1, (60, 60, 100, 100))
    assert scan_encoder.wide_window is not None
    scan_encoder.encode(0)
    (first,) = segment_slice(scan_encoder, 0, [prompt], at_hand=True)
    assert ([crop.window for crop in first.crops], first.complete, predictor.sam.encoded) == ([None], False, 1)
    (full,) = segment_slice(scan_encoder, 0, [prompt])
    assert full.complete
    assert full.crops[0].window == scan_encoder.wide_window
