from __future__ import annotations

import math

import numpy as np
import pytest

from medsam.errors import InputError
from medsam.metrics.overlap import dice, iou, overlap


def block(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


# 4 x 4 x 4 = 64 voxels, and the same one voxel on along the first axis: 48 in common, 80 in either
CUBE = block((8, 8, 8), (1, 5), (1, 5), (1, 5))
SHIFTED = block((8, 8, 8), (2, 6), (1, 5), (1, 5))
NOTHING = np.zeros((8, 8, 8), bool)


def test_a_cube_and_its_neighbour():
    assert dice(CUBE, SHIFTED) == 96 / 128
    assert iou(CUBE, SHIFTED) == 48 / 80
    assert dice(CUBE, CUBE) == iou(CUBE, CUBE) == 1


def test_volumes_under_uneven_spacing():
    # voxels of 5 x 2 x 0.5 mm = 5 mm³; 64 of them are 0.32 ml, 32 are 0.16 ml
    half = block((8, 8, 8), (1, 3), (1, 5), (1, 5))
    counts = overlap(CUBE, half, (5, 2, 0.5))
    assert counts.volume_ref_ml == pytest.approx(0.32, rel=1e-12)
    assert counts.volume_ml == pytest.approx(0.16, rel=1e-12)
    assert counts.volume_error_ml == pytest.approx(-0.16, rel=1e-12)
    assert counts.volume_error_percent == -50
    assert overlap(half, CUBE, (5, 2, 0.5)).volume_error_percent == 100


def test_nothing_to_find_is_no_score_rather_than_a_perfect_one():
    counts = overlap(NOTHING, NOTHING, (1, 1, 1))
    scores = (counts.dice, counts.iou, counts.volume_error_ml, counts.volume_error_percent)
    assert all(math.isnan(score) for score in scores)
    assert counts.volume_ml == counts.volume_ref_ml == 0


def test_a_miss_and_a_phantom_score_zero():
    miss, phantom = overlap(CUBE, NOTHING, (1, 1, 1)), overlap(NOTHING, CUBE, (1, 1, 1))
    assert miss.dice == miss.iou == phantom.dice == phantom.iou == 0
    assert miss.volume_error_ml == -0.064
    assert miss.volume_error_percent == -100
    assert phantom.volume_error_ml == 0.064
    assert phantom.volume_error_percent == math.inf


def test_a_slice_has_an_area_error_but_no_volume():
    counts = overlap(block((6, 6), (0, 2), (0, 4)), block((6, 6), (0, 3), (0, 4)), (0.5, 0.5))
    assert counts.dice == 16 / 20
    assert counts.volume_error_percent == 50
    assert math.isnan(counts.volume_ml)
    assert math.isnan(counts.volume_error_ml)


def test_without_a_spacing_there_is_no_volume():
    assert math.isnan(overlap(CUBE, CUBE).volume_ml)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="same grid"):
        dice(CUBE, CUBE[1:])
    with pytest.raises(InputError, match="uint8"):
        dice(CUBE, CUBE.astype(np.uint8))
    with pytest.raises(InputError, match="2 or 3 axes"):
        dice(np.ones(3, bool), np.ones(3, bool))
    for spacing in ((1, 1), (1, 1, 0), (1, 1, math.nan), (1, -1, 1)):
        with pytest.raises(InputError, match="3 positive numbers"):
            overlap(CUBE, CUBE, spacing)


def test_dice_agrees_with_monai_on_real_masks(data):
    """An organ against its neighbour in the label list, and against itself one voxel on."""
    import nibabel as nib
    import torch
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou

    labels = np.asarray(nib.load(data / "totalseg_abdomen_ct" / "labels" / "ct_full.nii.gz").dataobj)
    compared = 0
    for label in (1, 4, 5, 7, 19, 52):
        reference = labels == label
        for prediction in (np.roll(reference, 1, 0), np.roll(reference, (2, 3), (1, 2)), reference | (labels == 6)):
            ours = overlap(reference, prediction)
            pair = [torch.from_numpy(mask.astype(np.float32))[None, None] for mask in (prediction, reference)]
            assert ours.dice == pytest.approx(compute_dice(*pair).item(), abs=1e-6)
            assert ours.iou == pytest.approx(compute_iou(*pair).item(), abs=1e-6)
            compared += 1
    assert compared == 18
