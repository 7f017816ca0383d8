import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medsam.postprocess.merge import mask_boxes, merge_by_predicted_iou, nms, stability_score


def masks(*rows):
    return np.array([[[c == "#" for c in row]] for row in rows])


def test_a_contested_pixel_goes_to_the_better_mask():
    merged = merge_by_predicted_iou(masks("##..", ".##."), np.array([0.7, 0.9]), np.array([1, 2]))
    assert merged.tolist() == [[1, 2, 2, 0]]
    merged = merge_by_predicted_iou(masks("##..", ".##."), np.array([0.9, 0.7]), np.array([1, 2]))
    assert merged.tolist() == [[1, 1, 2, 0]]


def test_equal_quality_keeps_the_earlier_mask():
    assert merge_by_predicted_iou(masks("##", "##"), np.array([0.8, 0.8]), np.array([5, 6])).tolist() == [[5, 5]]


def test_masks_of_one_label_are_united():
    merged = merge_by_predicted_iou(masks("#...", "..#."), np.array([0.1, 0.9]), np.array([3, 3]))
    assert merged.tolist() == [[3, 0, 3, 0]]


def test_a_mask_of_unknown_quality_loses():
    assert merge_by_predicted_iou(masks("##", "#."), np.array([np.nan, 0.1]), np.array([1, 2])).tolist() == [[2, 1]]


def test_a_duplicate_gives_way_to_the_better_box():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10]])
    assert nms(boxes, np.array([0.7, 0.9, 0.8]), 0.5).tolist() == [1, 2]
    assert nms(boxes, np.array([0.7, 0.9, 0.8]), 0.9).tolist() == [1, 2, 0]  # the IoU is 0.9, not above it
    assert nms(boxes, np.array([0.7, 0.7, 0.7]), 0.5).tolist() == [0, 2]


def test_a_box_that_is_gone_removes_nothing():
    # the second removes the first, which would have removed the third
    boxes = np.array([[3, 0, 13, 10], [0, 0, 10, 10], [6, 0, 16, 10]])
    assert nms(boxes, np.array([0.8, 0.9, 0.7]), 0.5).tolist() == [1, 2]


def test_boxes_without_area_stay():
    boxes = np.array([[2, 2, 2, 8], [2, 2, 2, 8], [0, 0, 9, 9]])
    assert nms(boxes, np.array([1, 1, 1]), 0.0).tolist() == [0, 1, 2]
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


def naive_nms(boxes, scores, threshold):
    """As the definition says it, a pair at a time."""
    order = sorted(range(len(boxes)), key=lambda n: (-scores[n], n))
    kept = []
    for n in order:
        for m in kept:
            (a0, b0, a1, b1), (c0, d0, c1, d1) = boxes[n], boxes[m]
            common = max(0, min(a1, c1) - max(a0, c0)) * max(0, min(b1, d1) - max(b0, d0))
            union = (a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - common
            if union and np.float32(common) / np.float32(union) > threshold:
                break
        else:
            kept.append(n)
    return kept


edge = st.integers(0, 12)
any_box = st.tuples(edge, edge, edge, edge).map(
    lambda e: (min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]), max(e[1], e[3]))
)


@given(
    st.lists(st.tuples(any_box, st.sampled_from([0.2, 0.5, 0.9])), max_size=25),
    st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.7, 1.0]),
)
def test_nms_is_its_definition(pairs, threshold):
    boxes, scores = [box for box, _ in pairs], [score for _, score in pairs]
    found = nms(np.array(boxes).reshape(-1, 4), np.array(scores), threshold)
    assert found.tolist() == naive_nms(boxes, scores, np.float64(threshold))


def test_a_mask_box_ends_inside():
    found = mask_boxes(np.array([[[0, 0, 0], [0, 1, 1]], [[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype=bool))
    assert found.tolist() == [[1, 1, 2, 1], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_stability_is_the_iou_of_a_strict_and_a_lax_threshold():
    logits = torch.tensor([[[2.0, 2.0, 0.5, -0.5, -2.0]], [[9.0, 9.0, -9.0, -9.0, -9.0]], [[-5.0] * 5]])
    assert stability_score(logits).tolist()[:2] == [0.5, 1.0]
    assert torch.isnan(stability_score(logits)[2])
    assert stability_score(logits, offset=0.25).tolist()[0] == 1.0
    assert stability_score(logits, threshold=1.0, offset=1.25).tolist()[0] == pytest.approx(0 / 3)
