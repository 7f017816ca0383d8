"""The masks of a track: how they overlap, what of a neighbour belongs to them, and where two tracks meet."""

import math

import numpy as np
import pytest
from phantoms import disc

from medsam.inference.tracks import Track, TrackMask, fill_in, join_tracks
from medsam.masks import CompactMask

SPACING = (1.0, 1.0)


def drawn(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


def found(mask, predicted_iou=0.9, agreement=1.0):
    return TrackMask(CompactMask.of(mask), predicted_iou, agreement)


def test_a_mask_knows_its_box_and_its_overlap_with_a_neighbour():
    one = found(drawn("..... .##.. .##.. ....."))
    assert one.area == 4
    assert one.box == (1.0, 1.0, 3.0, 3.0)
    assert one.overlap(drawn("..... .##.. .##.. .....")) == 1
    assert one.overlap(drawn("..... ..##. ..##. .....")) == pytest.approx(2 / 6)
    assert one.overlap(drawn("....# ..... ..... .....")) == 0


def test_pieces_of_a_neighbour_that_do_not_meet_a_mask_are_left_out():
    one = found(drawn("##... ##... ..... ....."))
    neighbour = drawn(".##.. ...#. ..... #...#")
    np.testing.assert_array_equal(one.meeting(neighbour), drawn(".##.. ...#. ..... ....."))
    assert not one.meeting(drawn("..... ..... ..... #...#")).any()
    assert not one.meeting(np.zeros((4, 5), bool)).any()


@pytest.mark.parametrize(
    ("predicted_iou", "agreement", "certainty", "confidence"),
    [(0.8, 0.25, 1, 0.4), (1.3, 0.25, 0.5, 0.25), (-0.1, 1.0, 1, 0.0), (math.nan, 0.49, 1, 0.7)],
)
def test_confidence_is_the_clamped_predicted_iou_times_certainty_and_agreement(
    predicted_iou, agreement, certainty, confidence
):
    one = TrackMask(CompactMask.of(np.ones((2, 2), bool)), predicted_iou, agreement, certainty)
    assert one.confidence == pytest.approx(confidence)


def test_a_track_visits_what_lies_ahead_of_it():
    up, down = Track("a", 4, 1, 7, "met"), Track("a", 4, -1, -1, "end of scan")
    assert [index for index in range(9) if up.visits(index)] == [5, 6]
    assert [index for index in range(9) if down.visits(index)] == [0, 1, 2, 3]
    down.end = (2, "vanished")
    assert not any(down.visits(index) for index in range(9))


def test_where_two_tracks_meet_the_outline_lies_between_theirs():
    small, large = disc((60, 60), (30, 30), 8), disc((60, 60), (30, 30), 16)
    up, down = Track("a", 0, 1, 4, "met"), Track("a", 4, -1, 0, "met")
    up.steps = {1: found(small), 2: found(small)}
    down.steps = {2: found(large), 3: found(large, 0.7)}
    joined = join_tracks([up], [down], SPACING)
    assert list(joined) == [1, 2, 3]
    assert joined[1] == (up.steps[1], pytest.approx(0.9))
    assert joined[3] == (down.steps[3], pytest.approx(0.7))
    between, confidence = joined[2]
    assert between.predicted_iou == pytest.approx(0.9)
    assert confidence == pytest.approx(0.9 * small.sum() / large.sum())
    # half way between discs of 8 and 16
    assert math.sqrt(between.area / math.pi) == pytest.approx(12, abs=0.5)


def test_of_two_masks_apart_the_surer_one_is_believed():
    left, right = disc((40, 60), (12, 20), 6), disc((40, 60), (46, 20), 6)
    up, down = Track("a", 0, 1, 4, "met"), Track("a", 4, -1, 0, "met")
    up.steps, down.steps = {2: found(left, 0.7)}, {2: found(right, 0.8)}
    ((between, confidence),) = join_tracks([up], [down], SPACING).values()
    np.testing.assert_array_equal(between.mask.to_array(), right)
    assert confidence == 0


def test_slices_that_no_track_reached_are_drawn_between_the_prompted_ones():
    seeds = {0: found(disc((60, 60), (30, 30), 8)), 4: found(disc((60, 60), (30, 30), 16), 0.7)}
    up = [Track("a", 0, 1, 4, "met"), Track("a", 4, 1, 9, "end of scan")]
    filled = fill_in(seeds, up, {0, 1, 4}, SPACING)
    assert list(filled) == [2, 3]
    assert [math.sqrt(mask.area / math.pi) for mask, _ in filled.values()] == pytest.approx([12, 14], abs=0.5)
    assert [confidence for _, confidence in filled.values()] == pytest.approx(2 * [0.7 * 8**2 / 16**2], rel=0.05)
    assert [mask.predicted_iou for mask, _ in filled.values()] == pytest.approx([0.8, 0.75])
    # a mask that is empty, and two that lie far apart, have nothing between them
    assert not fill_in(seeds | {4: found(np.zeros((60, 60), bool))}, up, {0, 4}, SPACING)
    assert not fill_in(
        {0: found(disc((60, 60), (9, 9), 4)), 4: found(disc((60, 60), (50, 50), 4))}, up, {0, 4}, SPACING
    )
