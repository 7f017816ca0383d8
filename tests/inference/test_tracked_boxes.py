"""Boxes on slices become objects."""

from __future__ import annotations

import pytest

from medsam.inference.tracked_boxes import BoxTrack, best_path, clipped, tracked


def square(x: float, y: float, side: float = 10.0):
    return x, y, x + side, y + side


def test_boxes_that_overlap_are_one_object_and_others_are_not():
    tracks = tracked(
        {
            0: [(square(0, 0), 0.9), (square(50, 50), 0.4)],
            1: [(square(52, 50), 0.5), (square(1, 0), 0.8)],
            2: [(square(2, 0), 0.7)],
        }
    )
    assert [sorted(track.boxes) for track in tracks] == [[0, 1, 2], [0, 1]]
    assert tracks[0].boxes[1] == square(1, 0)
    assert tracks[1].boxes[1] == square(52, 50)


def test_a_box_goes_to_the_object_it_overlaps_most():
    tracks = tracked({0: [(square(0, 0), 0.5), (square(6, 0), 0.5)], 1: [(square(5, 0), 0.5)]})
    assert [sorted(track.boxes) for track in tracks] == [[0], [0, 1]]


def test_a_few_missed_slices_are_crossed_and_filled_between():
    (track,) = tracked({0: [(square(0, 0), 0.9)], 1: [], 2: [], 3: [(square(3, 0), 0.6)]})
    filled = track.filled()
    assert filled.boxes[1] == pytest.approx(square(1, 0))
    assert filled.boxes[2] == pytest.approx(square(2, 0))
    assert filled.scores == {0: 0.9, 1: 0.6, 2: 0.6, 3: 0.6}
    # three are too many
    assert len(tracked({0: [(square(0, 0), 0.9)], 4: [(square(0, 0), 0.9)]})) == 2


def test_a_doubtful_box_does_not_lead_astray_what_a_scan_has_once():
    """Slices are thick, and the structure bends: its boxes on neighbouring slices need not overlap."""
    there = {n: (square(7 * n, 12 * n), 0.8) for n in range(4)}
    seen = {n: [one] for n, one in there.items()}
    seen[0].append((square(60, 0), 0.3))
    seen[1].append((square(1, 0), 0.25))  # overlaps the first one as the right one does not
    seen[3].insert(0, (square(58, 2), 0.3))
    path = best_path(seen, 0.2)
    assert path is not None
    assert path.boxes == {n: box for n, (box, _) in there.items()}
    assert path.scores == dict.fromkeys(range(4), 0.8)


def test_the_surer_of_two_ways_is_taken_and_not_the_longer_one():
    sure = {n: [(square(0, 0), 0.9)] for n in (5, 6)}
    doubtful = {n: [(square(50, 50), 0.25)] for n in range(12)}
    path = best_path({n: [*sure.get(n, []), *doubtful[n]] for n in range(12)}, 0.2)
    assert path is not None
    assert sorted(path.boxes) == [5, 6]


def test_a_way_crosses_a_few_slices_and_no_jump():
    path = best_path({0: [(square(0, 0), 0.9)], 3: [(square(12, 0), 0.9)], 7: [(square(12, 0), 0.9)]})
    assert path is not None
    assert sorted(path.boxes) == [0, 3], "three slices without a box end it"
    far = best_path({0: [(square(0, 0), 0.8)], 1: [(square(16, 0), 0.9)]})
    assert far is not None
    assert sorted(far.boxes) == [1], "more than half a side lies between"
    assert best_path({4: []}) is None


def test_a_lone_box_in_a_volume_is_believed_half_and_in_a_picture_whole():
    track = BoxTrack({3: square(0, 0)}, {3: 0.8})
    assert track.confidence(30) == pytest.approx(0.4)
    assert track.confidence(1) == pytest.approx(0.8)


def test_boxes_are_clipped_to_the_slice():
    assert clipped((-3, 2, 8, 30), (20, 10)) == (0, 2, 8, 20)
    assert clipped((12, 2, 18, 30), (20, 10)) is None
