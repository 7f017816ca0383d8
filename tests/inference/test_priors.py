"""What the box and the brightness of its pixels add to a network's logits."""

import numpy as np
from phantoms import disc

from medsam.inference.priors import PriorWeights, add_box_and_intensity_prior

SHAPE = (60, 80)
BOX = (20.0, 15.0, 51.0, 46.0)


def test_a_sure_answer_stays_as_it_is_inside_the_box():
    mask = disc(SHAPE, (33, 28), 9)
    logits = np.where(mask, 10.0, -10.0).astype(np.float32)
    pixels = np.random.default_rng(0).normal(size=SHAPE)
    np.testing.assert_array_equal(add_box_and_intensity_prior(logits, BOX, pixels) > 0, mask)


def test_nothing_outside_the_box_is_kept():
    logits = np.full(SHAPE, 3.0, np.float32)
    kept = add_box_and_intensity_prior(logits, BOX, np.eye(*SHAPE)) > 0
    assert kept[15:46, 20:51].all()
    assert kept.sum() == 31 * 31
    cut = add_box_and_intensity_prior(logits, (20.5, 15.0, 50.2, 46.0), np.eye(*SHAPE)) > 0
    np.testing.assert_array_equal(cut, kept)


def test_the_box_speaks_where_the_network_hesitates():
    # noise everywhere, and a network that leaves most of a tight box empty
    logits = np.where(disc(SHAPE, (35, 30), 5), 0.5, -0.5).astype(np.float32)
    found = (
        add_box_and_intensity_prior(logits, BOX, np.random.default_rng(0).normal(size=SHAPE), PriorWeights(pixels=0))
        > 0
    )
    ellipse = disc(SHAPE, (35, 30), 15)
    assert 2 * (found & ellipse).sum() / (found.sum() + ellipse.sum()) > 0.9


def test_without_any_contrast_the_box_says_nothing():
    logits = np.where(disc(SHAPE, (35, 30), 5), 0.5, -0.5).astype(np.float32)
    np.testing.assert_array_equal(add_box_and_intensity_prior(logits, BOX, np.full(SHAPE, 7)) > 0, logits > 0)


def test_a_loose_box_is_caught_by_its_pixels():
    truth = disc(SHAPE, (30, 25), 8)  # the box is twice as wide
    rng = np.random.default_rng(0)
    pixels = np.where(truth, 100.0, 20.0) + rng.normal(scale=10, size=SHAPE)
    hesitant = np.where(disc(SHAPE, (31, 26), 9), 0.5, -0.5).astype(np.float32)
    box_alone = add_box_and_intensity_prior(hesitant, BOX, pixels, PriorWeights(pixels=0)) > 0
    both = add_box_and_intensity_prior(hesitant, BOX, pixels) > 0

    def dice(mask):
        return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())

    assert dice(both) > 0.8 > 0.7 > dice(box_alone)
    colour = np.stack([pixels, pixels, pixels], axis=-1)
    np.testing.assert_array_equal(add_box_and_intensity_prior(hesitant, BOX, colour) > 0, both)


def test_evidence_does_not_depend_on_units_or_on_how_the_slice_is_stored():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=SHAPE).astype(np.float32)
    pixels = rng.integers(0, 200, SHAPE).astype(float)
    found = add_box_and_intensity_prior(logits, BOX, pixels)
    np.testing.assert_array_equal(found, add_box_and_intensity_prior(logits, BOX, 3 * pixels - 1024))
    flipped = add_box_and_intensity_prior(logits[:, ::-1], (80 - BOX[2], BOX[1], 80 - BOX[0], BOX[3]), pixels[:, ::-1])
    np.testing.assert_allclose(flipped[:, ::-1], found, atol=1e-5)
    transposed = add_box_and_intensity_prior(logits.T, (BOX[1], BOX[0], BOX[3], BOX[2]), pixels.T)
    np.testing.assert_allclose(transposed.T, found, atol=1e-5)
