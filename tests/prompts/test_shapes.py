"""Lassos, lines and ellipses: what they enclose, and the boxes that follow from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import drawn

from medsam.errors import PromptError
from medsam.geometry import AXES, VolumeGeometry
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.prompts.shapes import axes_distance, cross, has_area, lassoed
from medsam.prompts.strokes import Scribble

SHAPE = (20, 30)
GRID = VolumeGeometry((6, 20, 30), np.diag([1, 1, 3, 1.0]))


def plate(rows, columns):
    mask = np.zeros(SHAPE, bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(
    ("corners", "mask"),
    [
        # through the centres of pixels: those on the line are in
        ([(5, 4), (12, 4), (12, 9), (5, 9)], plate(slice(4, 10), slice(5, 13))),
        # between them
        ([(4.5, 3.5), (12.5, 3.5), (12.5, 9.5), (4.5, 9.5)], plate(slice(4, 10), slice(5, 13))),
        # the other way round, and closed by hand
        ([(5, 4), (5, 9), (12, 9), (12, 4), (5, 4)], plate(slice(4, 10), slice(5, 13))),
        # a loop that is drawn twice is no hole
        ([(5, 4), (12, 4), (12, 9), (5, 9)] * 2, plate(slice(4, 10), slice(5, 13))),
        # two lobes
        ([(4.6, 4), (4.6, 8), (12.4, 4), (12.4, 8)], plate(6, slice(5, 6)) | plate(6, slice(12, 13))),
        # thinner than a pixel
        ([(5, 4.2), (8, 4.2), (8, 4.3)], plate(4, slice(5, 9))),
    ],
)
def test_a_lasso_has_what_it_runs_round(corners, mask):
    found = lassoed(tuple(corners), SHAPE)
    if len(corners) == 4 and corners[0][0] == 4.6:
        assert found[4:9, 5].any()
        assert found[4:9, 12].any()
        assert not found[4, 8]
    else:
        np.testing.assert_array_equal(found, mask)


halves = st.integers(0, 38).map(lambda n: n / 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(halves, halves), min_size=3, max_size=7), st.booleans(), st.booleans(), st.booleans())
def test_a_lasso_has_the_same_however_the_slice_is_stored(corners, turned, left, up):
    if not has_area(tuple(corners)):
        return
    stored = lassoed(tuple(corners), (20, 20))
    x, y = np.array(corners).T
    if left:
        x, stored = 19 - x, stored[:, ::-1]
    if up:
        y, stored = 19 - y, stored[::-1]
    if turned:
        x, y, stored = y, x, stored.T
    np.testing.assert_array_equal(lassoed(tuple(zip(x.tolist(), y.tolist(), strict=True)), (20, 20)), stored)


@pytest.mark.parametrize("axis", AXES)
def test_every_kind_lies_on_its_slice_of_any_axis(axis):
    cube = VolumeGeometry((20, 20, 20), np.diag([1.0, 2.0, 4.0, 1.0]))
    plane = cube.plane(axis)
    loop = ((4, 5), (10, 5), (10, 9), (4, 9))
    prompts = [
        Prompt("a", slice=7, scribbles=[Scribble([(4, 5), (9, 5)], width_mm=4)], lasso=loop),
        Prompt("b", slice=7, lines=((4, 5), (10, 5))),
        Prompt("c", slice=7, ellipse=(4, 5, 10, 9)),
    ]
    todo = plan(prompts, cube, axis)
    assert list(todo.slices) == [7]
    lassoed_one, line, ellipse = todo.slices[7]
    expected = np.zeros((20, 20), bool)
    expected[5:10, 4:11] = True
    np.testing.assert_array_equal(lassoed_one.mask, expected)
    assert lassoed_one.within is lassoed_one.mask
    assert lassoed_one.box is None
    (stroke,) = lassoed_one.scribbles
    rows, columns = np.nonzero(stroke.to_mask(plane.shape, plane.spacing_mm))
    pitch = plane.spacing_mm
    assert (np.ptp(rows), columns.min()) == (2 * (2 // pitch[0]), 4 - 2 // pitch[1])
    # the square of that length in mm round its middle, as edges
    half = 3 * pitch[1] / pitch[0]
    assert line.lines == (((4, 5), (10, 5)),)
    assert line.box == (4.5, max(5.5 - half, 0), 10.5, 5.5 + half)
    assert ellipse.box == (4, 5, 10, 9)


def test_lines_one_behind_the_other_are_no_axes_of_one_thing():
    for one, other in (
        ([(0, 5), (10, 5)], [(20, 5), (30, 5)]),
        ([(0, 0), (4, 4)], [(2, 2), (9, 9)]),
        ([(3, 1), (3, 7)], [(3, 1), (3, 7)]),
    ):
        assert not cross(np.array(one, float), np.array(other, float))
    assert cross(np.array([(0.0, 5), (10, 5)]), np.array([(10.0, 5), (10, 9)]))


def test_a_second_line_that_crosses_is_the_short_axis():
    together = Prompt("node", slice=2, lines=[((12, 2), (12, 8)), ((5, 5), (20, 5))])
    apart = [Prompt("node", slice=2, lines=line) for line in (((12, 2), (12, 8)), ((5, 5), (20, 5)))]
    (one,) = plan(together, GRID).slices[2]
    assert one.lines == (((5, 5), (20, 5)), ((12, 2), (12, 8)))
    assert one.box == (5.5, 2.5, 20.5, 8.5)
    assert plan(apart, GRID).slices == plan(together, GRID).slices
    # with a click of each
    clicked = [
        Prompt("node", slice=2, lines=((12, 2), (12, 8)), points=((12, 4, 1),)),
        Prompt("node", slice=2, lines=((5, 5), (20, 5)), points=((2, 2, 0),)),
    ]
    (one,) = plan(clicked, GRID).slices[2]
    assert one.points == ((12, 4, 1), (2, 2, 0))
    # lines that do not cross are two nodes
    two = [Prompt("node", slice=2, lines=line) for line in (((1, 2), (1, 8)), ((5, 5), (20, 5)))]
    assert [len(found.lines) for found in plan(two, GRID).slices[2]] == [1, 1]


def test_the_ellipse_of_axes_lies_as_they_do_in_mm():
    pitch = (2.0, 1.0)
    # 10 mm and 4 mm half-axes, at a right angle in mm, centred at pixel 12, 6 of a part that begins at 2, 1
    long, short = ((4, 3), (20, 9)), ((10.8, 6.8), (13.2, 5.2))
    found = axes_distance((long, short), (2, 1), (12, 20), pitch)
    y, x = np.mgrid[1:13, 2:22]
    across, down = (x - 12) * 1.0, (y - 6) * 2.0
    u, v = np.array([8, 6]) / 10, np.array([-6, 8]) / 10
    half = np.abs(np.array([1.2, -1.6]) @ v)
    expected = ((across * u[0] + down * u[1]) / 10) ** 2 + ((across * v[0] + down * v[1]) / half) ** 2
    np.testing.assert_allclose(found, expected, atol=1e-8)
    alone = axes_distance((long,), (0, 0), (20, 30), pitch)
    assert alone[6, 12] == 0
    assert alone[9, 20] == alone[3, 4] == 1
    # a short axis that has no width has half a pixel's
    assert np.isfinite(axes_distance((long, ((6, 3), (14, 6))), (0, 0), (20, 30), pitch)).all()


def test_the_longer_of_two_axes_is_so_in_mm():
    flat = VolumeGeometry((3, 20, 30), np.diag([1.0, 4.0, 9.0, 1.0]))
    (one,) = plan(Prompt("a", slice=1, lines=[((5, 5), (15, 5)), ((10, 3), (10, 7))]), flat).slices[1]
    assert one.lines[0] == ((10, 3), (10, 7))


def test_a_line_at_the_rim_has_a_box_that_ends_there():
    (one,) = plan(Prompt("a", slice=1, lines=((0, 0), (29, 0))), GRID).slices[1]
    assert one.box == (0.5, 0, 29.5, 15)


def test_scribbles_go_where_clicks_go():
    left, right = Prompt("a", box=(1, 1, 9, 9), slice=2), Prompt("a", lasso=((15, 1), (25, 1), (20, 9)), slice=2)
    stroke = Scribble([(20, 3), (21, 3)])
    beside = Scribble([(8, 15), (20, 15)], inside=False)
    one, other = plan([left, right, Prompt("a", slice=2, scribbles=[stroke, beside])], GRID).slices[2]
    assert (one.scribbles, other.scribbles) == ((beside,), (stroke, beside))
    for wrong, count in ((Scribble([(8, 15), (12, 15)]), "none"), (Scribble([(8, 5), (20, 5)]), "2")):
        with pytest.raises(PromptError, match=f"scribble 2:8,.* lies in {count} of the 2 boxes or masks"):
            plan([left, right, Prompt("a", slice=2, scribbles=[wrong])], GRID)
    (alone,) = plan(Prompt("a", slice=2, scribbles=stroke, points=((1, 1, 0),)), GRID).slices[2]
    assert (alone.scribbles, alone.points, alone.box, alone.mask) == ((stroke,), ((1, 1, 0),), None, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lasso": [(1, 2), (3, 4)]}, r"corners of the lasso of 'a' are \(x, y\) each, at least 3"),
        ({"lasso": [(1, 2), (3, 4), (5, 6)]}, "The lasso 1,2 3,4 5,6 for 'a' encloses nothing: .* on one line"),
        ({"lasso": [(1, 2), (1, 2), (1, 2)]}, "encloses nothing"),
        ({"lasso": [(1, 2), (3, 4), (5, float("inf"))]}, "not finite"),
        ({"lines": ((1, 2), (1, 2))}, "The line 1,2,1,2 for 'a' has no length"),
        ({"lines": ((1, 2), (1, float("nan")))}, "not finite"),
        ({"lines": ((1, 2), (3, 4), (5, 6))}, r"is from \(x, y\) to \(x, y\), and two are"),
        ({"lines": 5}, r"is from \(x, y\) to \(x, y\)"),
        ({"ellipse": (5, 2, 1, 9)}, "The ellipse 5,2,1,9 for 'a' is empty or inverted"),
        ({"ellipse": (1, 2, 3)}, "ellipse of 'a' is 4 numbers"),
        ({"box": (1, 2, 3, 4), "ellipse": (1, 2, 3, 4)}, "either a box or an ellipse, not both"),
        ({"box3d": (1, 2, 3, 4, 5, 6), "lines": ((1, 2), (3, 4))}, "either a box3d or a line, not both"),
        ({"mask": drawn((1, 1)), "lasso": [(1, 2), (3, 4), (5, 1)]}, "either a mask or a lasso, not both"),
        ({"scribbles": [((1, 2), (3, 4))]}, r"is a medsam.Scribble, such as Scribble\(\[.*, not tuple"),
        ({"scribbles": 5}, "not int"),
    ],
)
def test_a_drawing_that_says_nonsense_is_named(fields, message):
    with pytest.raises(PromptError, match=message):
        Prompt("a", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lasso": [(1, 2), (31, 4), (5, 1)]}, "a corner at 31,4 outside the slice, whose x runs from 0 to 29"),
        ({"lines": ((1, 2), (1, 20))}, "an end at 1,20 outside the slice"),
        ({"ellipse": (1, 2, 31, 9)}, "reaches outside the slice"),
        ({"scribbles": Scribble([(1, 2), (-3, 2)])}, r"scribble 1:1,2\+ for 'a' has a scribble through -3,2 outside"),
        ({"scribbles": Scribble([(1, 2), (3, 2)], inside=False)}, "no foreground point .* a point or a scribble"),
        (
            {"scribbles": [Scribble([(1, 2), (3, 2)]), Scribble([(0, 2), (4, 2)], inside=False)]},
            "nothing inside that later strokes outside do not cover",
        ),
    ],
)
def test_a_drawing_that_does_not_fit_the_scan_is_named(fields, message):
    with pytest.raises(PromptError, match=message):
        plan(Prompt("a", slice=1, **fields), GRID)


def test_a_width_in_mm_needs_millimetres():
    picture = VolumeGeometry.uncalibrated((1, 20, 30))
    with pytest.raises(PromptError, match="2 mm wide, and the file of this scan states no physical size.*`width_px`"):
        plan(Prompt(scribbles=Scribble([(1, 2)], width_mm=2)), picture)
    plan(Prompt(scribbles=Scribble([(1, 2)], width_px=2)), picture)


def test_a_box3d_takes_a_lasso_and_strokes_on_one_of_its_slices():
    body, loop = (4, 5, 2, 10, 9, 4), [(4, 5), (9, 5), (9, 8)]
    todo = plan(Prompt("a", box3d=body, slice=3, lasso=loop, scribbles=Scribble([(5, 6)])), GRID)
    assert [one.within is None for (one,) in todo.slices.values()] == [True, False]
    with pytest.raises(PromptError, match="lies on slice 5, which its box3d does not meet"):
        plan(Prompt("a", box3d=body, slice=5, lasso=loop), GRID)


def test_corners_as_large_as_numbers_get_are_no_trouble():
    far = 1.7e308
    assert has_area(((far, far), (-far, far), (3, -far)))
    # beside its length the others are one line
    with pytest.raises(PromptError, match="encloses nothing"):
        Prompt(lasso=[(far, 1), (-far, 2), (3, 4)])
    with pytest.raises(PromptError, match="outside the slice"):
        plan(Prompt(lasso=[(far, far), (-far, far), (3, -far)]), VolumeGeometry((1, 8, 8), np.eye(4)))
