import numpy as np

from medsam.postprocess.merge import merge_by_quality


def masks(*rows):
    return np.array([[[c == "#" for c in row]] for row in rows])


def test_a_contested_pixel_goes_to_the_better_mask():
    merged = merge_by_quality(masks("##..", ".##."), np.array([0.7, 0.9]), np.array([1, 2]))
    assert merged.tolist() == [[1, 2, 2, 0]]
    merged = merge_by_quality(masks("##..", ".##."), np.array([0.9, 0.7]), np.array([1, 2]))
    assert merged.tolist() == [[1, 1, 2, 0]]


def test_equal_quality_keeps_the_earlier_mask():
    assert merge_by_quality(masks("##", "##"), np.array([0.8, 0.8]), np.array([5, 6])).tolist() == [[5, 5]]


def test_masks_of_one_label_are_united():
    merged = merge_by_quality(masks("#...", "..#."), np.array([0.1, 0.9]), np.array([3, 3]))
    assert merged.tolist() == [[3, 0, 3, 0]]


def test_a_mask_of_unknown_quality_loses():
    assert merge_by_quality(masks("##", "#."), np.array([np.nan, 0.1]), np.array([1, 2])).tolist() == [[2, 1]]
