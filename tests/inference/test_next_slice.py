"""What is known of an object on the next slice: from the network, the last outline, and the grey levels."""

import numpy as np
import pytest
from phantoms import disc

from medsam.inference.grey_levels import GreyLevels, radius_mm
from medsam.inference.next_slice import EvidenceWeights, evidence
from medsam.inference.outlines import signed_distance
from medsam.masks import CompactMask

ISOTROPIC = (1.0, 1.0)
SHAPE = (60, 60)
OBJECT = disc(SHAPE, (30, 30), 12)
GREY = np.where(OBJECT, 160.0, 60.0) + np.random.default_rng(0).normal(scale=4, size=SHAPE)


def known(last=OBJECT, *, logits=None, grey=GREY, levels=None, weights=None, gap_mm=1.0, spacing_mm=ISOTROPIC):
    logits = np.full(SHAPE, -np.inf, np.float32) if logits is None else logits
    weights = weights or EvidenceWeights()
    mask = CompactMask.of(last)
    return evidence(logits, mask, grey, levels, weights, spacing_mm=spacing_mm, gap_mm=gap_mm, input_mm=0.5)


def test_grey_levels_tell_the_object_from_its_surroundings():
    levels = GreyLevels.of(GREY, CompactMask.of(OBJECT), ISOTROPIC)
    assert levels.mean_odds(GREY, OBJECT) > 2
    assert levels.mean_odds(GREY, ~OBJECT) < -2
    assert levels.odds(GREY)[30, 30] > 2
    assert levels.mixed(None) is levels
    other = GreyLevels(-levels.table)
    assert not levels.mixed(other).table.any()


def test_four_pixels_tell_nothing():
    speck = np.zeros_like(OBJECT)
    speck[30:32, 30:32] = True
    assert GreyLevels.of(GREY, CompactMask.of(speck), ISOTROPIC) is None


def test_the_distance_from_an_outline_is_in_millimetres_and_the_outline_runs_between_pixels():
    mask = np.zeros((5, 9), bool)
    mask[:, 3:6] = True
    along = signed_distance(mask, (1.0, 2.0))[2]
    np.testing.assert_allclose(along, [-5.5, -3.5, -1.5, 1.5, 3.5, 1.5, -1.5, -3.5, -5.5])
    assert np.isinf(signed_distance(np.ones((3, 3), bool), ISOTROPIC)).all()


def test_where_nothing_else_is_known_the_outline_stays():
    alone = EvidenceWeights(network=0, bias=0)
    np.testing.assert_array_equal(known(weights=alone).mask(0.0), OBJECT)


def test_the_thicker_the_slices_the_farther_an_outline_may_move():
    logits = np.where(disc(SHAPE, (30, 30), 20), 6.0, -6.0).astype(np.float32)
    radii = [radius_mm(CompactMask.of(known(logits=logits, gap_mm=gap).mask(-0.5)), ISOTROPIC) for gap in (0.5, 2, 8)]
    assert 12 <= radii[0] < radii[1] < radii[2] < 20.5


def test_an_object_in_another_place_is_found_by_its_grey_levels():
    levels = GreyLevels.of(GREY, CompactMask.of(OBJECT), ISOTROPIC)
    moved = np.roll(OBJECT, 3, axis=1)
    unsure = np.zeros(SHAPE, np.float32)
    mask = known(logits=unsure, levels=levels, grey=np.roll(GREY, 3, axis=1)).mask(0.0)
    assert (mask & moved).sum() > 0.97 * (mask | moved).sum()


def test_what_the_network_was_not_asked_about_is_not_the_objects():
    assert not known(weights=EvidenceWeights(outline=0)).mask(0.0).any()


def test_a_bias_gives_the_area_that_is_known():
    logits = np.where(disc(SHAPE, (30, 30), 9), 8.0, -8.0).astype(np.float32)
    found = known(logits=logits, gap_mm=4.0)
    assert found.mask(0.0).sum() < OBJECT.sum()
    bias = found.bias_for(int(OBJECT.sum()))
    assert found.mask(bias).sum() == pytest.approx(OBJECT.sum(), rel=0.02)
    # within bounds
    assert found.bias_for(1) == -2.0
    assert found.bias_for(10**9) == 1.5
