from __future__ import annotations

import numpy as np
import pytest

from medsam.annotation.guessing import Examples, Guesser, as_pixels, as_shares, runs


def examples(patients: int = 6, each: int = 8, seed: int = 0) -> Examples:
    """A structure in the middle of the scan, whose box lies where the first two numbers of a slice say."""
    rng = np.random.default_rng(seed)
    places = np.tile(np.linspace(0, 1, each), patients)
    centres = np.repeat(rng.uniform(0.3, 0.7, (patients, 2)), each, axis=0)
    features = np.concatenate([centres, rng.normal(0, 0.01, (len(places), 3))], axis=1)
    boxes = np.concatenate([centres - 0.1, centres + 0.1], axis=1) * 256
    shares = as_shares(boxes, 256)
    shares[(places < 0.25) | (places > 0.75)] = np.nan
    names = np.repeat([f"p{n}" for n in range(patients)], each)
    return Examples(features, places, names, {"disc": shares, "bar": np.full_like(shares, np.nan)})


def test_a_box_is_the_same_in_pixels_and_shares():
    boxes = np.array([[10.0, 20, 40, 30], [0, 0, 256, 256]])
    assert as_pixels(as_shares(boxes, 256), 256) == pytest.approx(boxes)


def test_a_structure_is_found_where_slices_like_this_one_have_it():
    known = examples(12)
    guesser = Guesser.of(known, "disc")
    new = examples(1, seed=5)
    found = guesser(new.features, new.places)
    there = np.isfinite(new.boxes["disc"]).all(axis=1)
    assert ((found.presence > 0) == there).all()
    away = np.abs(found.boxes[there, :2] - new.boxes["disc"][there, :2]).max()
    assert away < 0.06, "of centres that lie anywhere in 0.4"


def test_nothing_is_guessed_of_what_nobody_has_drawn_twice():
    assert Guesser.of(examples(), "bar") is None
    assert Guesser.of(examples(patients=1), "disc") is None


def test_far_from_all_that_is_known_the_spread_is_wide():
    guesser = Guesser.of(examples(), "disc")
    known = examples()
    near, far = guesser(known.features[4:5], known.places[4:5]), guesser(known.features[4:5] + 3, known.places[4:5])
    assert far.spread[0] > 2 * near.spread[0]


def test_a_patient_left_out_is_guessed_by_the_others_alone():
    known = examples()
    guesser = Guesser.of(known, "disc")
    others = known.patients != "p2"
    rest = Examples(
        known.features[others], known.places[others], known.patients[others], {"disc": known.boxes["disc"][others]}
    )
    alone = Guesser(rest, "disc", guesser._chosen)
    # the same scales, as the closed form keeps those of all
    alone._scale, alone._usual = guesser._scale, guesser._usual
    alone._known = rest.features * alone._scale
    asked = known.patients == "p2"
    found, left = alone(known.features[asked], known.places[asked]), guesser.left_out()
    assert left.presence[asked] == pytest.approx(found.presence)
    assert left.boxes[asked] == pytest.approx(found.boxes)


def test_slices_are_runs():
    assert runs([False, True, True, False, True, True, False]) == [False, True, True, True, True, True, False]
    assert runs([False, True, False, False]) == [False] * 4
    assert runs([True]) == [True]
