"""What the box and the brightness of its pixels add to a network's logits."""

import numpy as np
import pytest
from phantoms import disc

from medsam.inference import priors
from medsam.inference.priors import PriorWeights, add_box_and_intensity_prior, box_fit, reach

SHAPE = (60, 80)
BOX = (20.0, 15.0, 51.0, 46.0)


def test_a_sure_answer_stays_as_it_is_inside_the_box():
    mask = disc(SHAPE, (33, 28), 9)
    logits = np.where(mask, 10.0, -10.0).astype(np.float32)
    pixels = np.random.default_rng(0).normal(size=SHAPE)
    found = add_box_and_intensity_prior(logits, BOX, pixels) > 0
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.97


def test_nothing_outside_the_box_is_kept():
    logits = np.full(SHAPE, 3.0, np.float32)
    kept = add_box_and_intensity_prior(logits, BOX, np.eye(*SHAPE)) > 0
    # the corners are rounded, by no more than the smoothing reaches
    assert kept[15:46, 22:49].all()
    assert kept[17:44, 20:51].all()
    kept_outside = kept.copy()
    kept_outside[15:46, 20:51] = False
    assert not kept_outside.any()
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

    assert dice(both) > 0.75 > 0.5 > dice(box_alone)
    colour = np.stack([pixels, pixels, pixels], axis=-1)
    np.testing.assert_array_equal(add_box_and_intensity_prior(hesitant, BOX, colour) > 0, both)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_of_the_smallest_boxes_something_is_left(side):
    logits = np.full(SHAPE, 3.0, np.float32)
    kept = add_box_and_intensity_prior(logits, (20.0, 15.0, 20.0 + side, 15.0 + side), np.eye(*SHAPE)) > 0
    assert kept.any()


def test_a_stable_answer_that_leaves_most_of_a_box_empty_is_learnt_from_less():
    # a bright ring, and a network that takes the dark inside of it
    ring = disc(SHAPE, (35, 30), 15) & ~disc(SHAPE, (35, 30), 8)
    rng = np.random.default_rng(0)
    pixels = np.where(ring, 100.0, 20.0) + rng.normal(scale=10, size=SHAPE)
    logits = np.where(disc(SHAPE, (35, 30), 6), 3.0, -3.0).astype(np.float32)
    logits[disc(SHAPE, (35, 30), 7) & (logits < 0)] = -0.5
    found = add_box_and_intensity_prior(logits, BOX, pixels) > 0
    assert 2 * (found & ring).sum() / (found.sum() + ring.sum()) > 0.7


def test_where_brightness_tells_nothing_an_answer_that_does_not_fit_becomes_the_ellipse():
    noise = np.random.default_rng(0).normal(size=SHAPE)
    logits = np.where(disc(SHAPE, (33, 30), 9), 3.0, -3.0).astype(np.float32)
    logits[disc(SHAPE, (33, 30), 10) & (logits < 0)] = -0.9
    ellipse = disc(SHAPE, (35, 30), 15)
    found = add_box_and_intensity_prior(logits, BOX, noise) > 0
    assert 2 * (found & ellipse).sum() / (found.sum() + ellipse.sum()) > 0.9
    # unless the picture is finer than the network's input
    fine = add_box_and_intensity_prior(logits, BOX, noise, PriorWeights(blind=0)) > 0
    assert fine.sum() < 0.7 * found.sum()
    sure = add_box_and_intensity_prior(np.where(logits > 0, 5, -5).astype(np.float32), BOX, noise) > 0
    assert 2 * (sure & (logits > 0)).sum() / (sure.sum() + (logits > 0).sum()) > 0.95


@pytest.mark.parametrize("given", ["rough", "within"])
def test_a_mask_of_the_whole_slice_favours_no_corner(given):
    hesitant = np.where(disc(SHAPE, (40, 30), 5), 0.5, -0.5).astype(np.float32)
    pixels = np.add(*np.ogrid[-30:30, -40:40]).astype(float) ** 2
    box = (0.0, 0.0, 80.0, 60.0)
    found = add_box_and_intensity_prior(hesitant, box, pixels, PriorWeights(pixels=0), **{given: np.ones(SHAPE, bool)})
    assert (found > 0).all()


def test_how_well_a_mask_fits_a_box():
    mask = np.zeros(SHAPE, bool)
    mask[15:46, 20:51] = True
    assert box_fit(mask, BOX) == 1
    mask[:, 36:] = False
    assert box_fit(mask, BOX) == pytest.approx(16 / 31)
    # a spot does not stand for the mask
    mask[30, 50] = True
    assert box_fit(mask, BOX) == pytest.approx(16 / 31)
    assert box_fit(np.zeros(SHAPE, bool), BOX) == 0


def test_how_far_logits_reach_to_the_edges_of_a_box():
    logits = np.full(SHAPE, -30.0)
    assert reach(logits, BOX) == pytest.approx(-1)
    logits[15:46, 20] = 30  # the left edge, and a corner each of the upper and the lower one
    assert reach(logits, BOX) == pytest.approx(0.5)
    assert reach(np.full(SHAPE, 0.0), BOX) == 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_pixel_without_bounds_counts_as_the_largest(sign):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=SHAPE).astype(np.float32)
    pixels = rng.normal(size=(*SHAPE, 3)).astype(np.float32)
    pixels[25, 30] = sign * 5
    expected = add_box_and_intensity_prior(logits, BOX, pixels)
    pixels[25, 30, 1:] = sign * np.inf
    np.testing.assert_array_equal(add_box_and_intensity_prior(logits, BOX, pixels), expected)
    nothing = add_box_and_intensity_prior(logits, BOX, np.full(SHAPE, np.inf))
    np.testing.assert_array_equal(nothing[15:46, 20:51], logits[15:46, 20:51])


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


@pytest.mark.parametrize("kind", ["box", "rough", "lasso", "lines"])
def test_of_a_large_slice_the_mask_is_that_of_its_coarser_pixels_made_finer(monkeypatch, kind):
    shape, box = (300, 260), (40.0, 60.0, 200.5, 250.0)
    truth, rng = disc(shape, (120, 150), 70), np.random.default_rng(0)
    logits = np.where(disc(shape, (125, 150), 75), 1.0, -1.0).astype(np.float32)
    logits[:50], pixels = -np.inf, 60.0 * truth + rng.normal(0, 10, shape)
    given = {
        "box": {},
        "rough": {"rough": disc(shape, (115, 155), 66)},
        "lasso": {"within": disc(shape, (120, 150), 76)},
        "lines": {"lines": [((50, 150), (190, 150)), ((120, 80), (120, 220))]},
    }[kind]
    fine = add_box_and_intensity_prior(logits, box, pixels, **given)
    monkeypatch.setattr(priors, "_MOST", 128)
    found = add_box_and_intensity_prior(logits, box, pixels, **given)
    assert dice(found > 0, fine > 0) > 0.97
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(fine))
    for turn in (np.flipud, np.fliplr):
        x0, y0, x1, y1 = box
        turned = (x0, 300 - y1, x1, 300 - y0) if turn is np.flipud else (260 - x1, y0, 260 - x0, y1)
        stored = {
            name: [tuple(_turned(end, turn) for end in line) for line in what] if name == "lines" else turn(what)
            for name, what in given.items()
        }
        again = add_box_and_intensity_prior(turn(logits), turned, turn(pixels), **stored)
        np.testing.assert_array_equal(turn(again) > 0, found > 0)


def _turned(point, turn):
    return (point[0], 299 - point[1]) if turn is np.flipud else (259 - point[0], point[1])


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())
