"""Detection's figures, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medsam.metrics.detection import box_iou, sensitivity_at


def test_sensitivity_at_false_alarms_by_hand():
    # two scans, three objects: the best candidate hits 0, then an alarm, 1, another hit of 1, an alarm; 2 is missed
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    found = np.array([0, -1, 1, 1, -1])
    assert sensitivity_at(score, found, 3, 2, (0.0, 0.25, 0.5, 1.0)) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_candidates_of_equal_score_are_taken_together():
    assert sensitivity_at(np.array([0.5, 0.5]), np.array([0, -1]), 1, 1, (0.0, 1.0)) == [0.0, 1.0]


def test_nothing_found_and_nothing_there():
    nothing = np.zeros(0), np.zeros(0, int)
    assert sensitivity_at(*nothing, 2, 1, (1.0,)) == [0.0]
    assert math.isnan(sensitivity_at(*nothing, 0, 1, (1.0,))[0])


def test_boxes_overlap_by_their_areas():
    assert box_iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert box_iou((0, 0, 2, 2), (2, 0, 3, 2)) == 0.0
    assert box_iou((1, 1, 1, 5), (1, 1, 1, 5)) == 0.0
