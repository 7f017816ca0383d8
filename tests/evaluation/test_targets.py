"""What each kind of prompt asks with, drawn from a reference."""

import numpy as np
import pytest

from medsam.evaluation.protocol import Protocol
from medsam.evaluation.targets import targets_on
from medsam.geometry import VolumeGeometry
from medsam.metrics.overlap import dice

ROWS, COLUMNS = np.mgrid[:60, :80]
TRUTH = (COLUMNS - 40) ** 2 / 20**2 + (ROWS - 30) ** 2 / 12**2 <= 1
# a row is twice as high as a column is wide
PLANE = VolumeGeometry((1, 60, 80), np.diag([1.0, 2.0, 5.0, 1.0])).plane("k")


def drawn(*prompts, truths=None, **changes):
    """The prompts of a structure, and what they describe without a model, by name."""
    protocol = Protocol(prompts=prompts, **changes)
    (target,) = targets_on("case", truths or {"one": TRUTH}, 0, protocol, PLANE)
    first = {setting.name: prompt for setting, prompt in target.first.items()}
    return first, {setting.name: mask for setting, mask in target.given.items()}


def test_boxes_and_clicks_have_no_mask_of_their_own():
    first, given = drawn("box", "point", "box+scribbles:2", "scribble")
    assert first["box"].box == first["box+scribbles:2"].box == (20, 18, 61, 43)
    assert list(first) == ["box", "box+scribbles:2"]
    assert given == {}


def test_a_lasso_is_a_mask_that_nothing_lies_beyond():
    first, given = drawn("lasso", "lasso+points:1")
    prompt = first["lasso"]
    assert prompt.box is None
    assert prompt.mask is prompt.within is given["lasso"]
    assert prompt.lasso is not None
    assert dice(TRUTH, prompt.mask) > 0.85
    np.testing.assert_array_equal(first["lasso+points:1"].mask, prompt.mask)


def test_lines_bring_their_box_and_describe_an_ellipse_in_millimetres():
    first, given = drawn("line", "lines")
    # 41 mm from left to right, 25 rows of 2 mm from top to bottom: the longest line stands
    (short,) = first["lines"].lines[1:]
    assert abs(short[0][1] - short[1][1]) < 1
    assert len(first["line"].lines) == 1
    assert dice(TRUTH, given["lines"]) > 0.95
    # the circle is wider
    assert 0.7 < dice(TRUTH, given["line"]) < 0.95
    assert first["lines"].box == pytest.approx((20, 18, 61, 43), abs=1)


def test_an_ellipse_is_a_box_that_says_so():
    first, given = drawn("ellipse")
    assert first["ellipse"].box == first["ellipse"].ellipse == pytest.approx((20, 18, 61, 43), abs=1)
    assert dice(TRUTH, given["ellipse"]) > 0.97


def test_a_pair_of_scribbles_has_one_inside_and_one_outside():
    first, _ = drawn("scribble-pair")
    assert {stroke.inside for stroke in first["scribble-pair"].scribbles} == {True, False}


def test_what_is_drawn_depends_on_nothing_else_that_is_drawn():
    kinds = ("mask", "lasso", "line", "lines", "ellipse", "scribble-pair")
    for noise in ("clean", "noisy"):
        together, _ = drawn("box", *kinds, noise=noise, jitter_px=(5,), truths={"two": TRUTH[:5], "one": TRUTH})
        for kind in kinds:
            alone, _ = drawn(kind, noise=noise)
            assert alone[kind] == together[kind]
            np.testing.assert_array_equal(alone[kind].mask, together[kind].mask)


def test_noise_leaves_boxes_and_moves_the_rest():
    clean, exact = drawn("box", "mask", "lasso", "lines", "ellipse")
    noisy, near = drawn("box", "mask", "lasso", "lines", "ellipse", noise="noisy")
    assert noisy["box"] == clean["box"]
    for kind in ("mask", "lasso", "lines", "ellipse"):
        assert 0.7 < dice(exact[kind], near[kind]) < 1
