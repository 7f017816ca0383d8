"""Closed contours of one plane -> pixels: one loop, the same loop again, loops in loops and over loops."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import HOLE, drawing, rectangle
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from medsam.errors import InputError
from medsam.io.contours import enclosed, fill


def test_a_pixel_is_in_when_its_centre_is():
    # from half a pixel before column 1 to a bit beyond the centre of column 3; row 1 just misses
    assert drawing(fill([rectangle(0.5, 1.1, 3.2, 3.9)], (5, 5))) == [
        ".....",
        ".....",
        ".###.",
        ".###.",
        ".....",
    ]


def test_a_slanted_edge_cuts_between_centres():
    assert drawing(fill([np.array([(-0.5, -0.5), (3.6, -0.5), (-0.5, 3.6)])], (4, 5))) == [
        "####.",
        "###..",
        "##...",
        "#....",
    ]


def test_centres_on_the_outline_are_in_at_the_low_sides_and_out_at_the_high_sides():
    assert drawing(fill([rectangle(1, 1, 3, 3)], (5, 5))) == [
        ".....",
        ".##..",
        ".##..",
        ".....",
        ".....",
    ]
    # the same through the error of decimal strings, in either sense of rotation
    nudged = rectangle(1, 1, 3, 3) + np.array([(4e-4, -4e-4), (-4e-4, 3e-4), (1e-4, 2e-4), (-2e-4, -3e-4)])
    for outline in (nudged, nudged[::-1]):
        assert np.array_equal(fill([outline], (5, 5)), fill([rectangle(1, 1, 3, 3)], (5, 5)))


def test_a_loop_inside_a_loop_is_a_hole_whichever_way_it_runs():
    outer, inner = rectangle(-0.5, -0.5, 6.5, 6.5), rectangle(1.5, 1.5, 4.5, 4.5)
    for hole in (inner, inner[::-1]):
        assert drawing(fill([outer, hole], (7, 7))) == HOLE
    island = rectangle(2.5, 2.5, 3.5, 3.5)
    assert fill([outer, inner, island], (7, 7)).sum() == sum(row.count("#") for row in HOLE) + 1


@pytest.mark.parametrize("row", [3.0, 3.3])
def test_a_keyhole_leaves_no_seam(row):
    """One loop: round the outside, in along a cut, round the hole, and out along the same cut."""
    keyhole = [(6.5, row), (6.5, 6.5), (-0.5, 6.5), (-0.5, -0.5), (6.5, -0.5), (6.5, row)]
    keyhole += [(4.5, row), (4.5, 1.5), (1.5, 1.5), (1.5, 4.5), (4.5, 4.5), (4.5, row)]
    assert drawing(fill([np.array(keyhole)], (7, 7))) == HOLE


def test_a_polygon_reaching_beyond_the_picture_is_cut_at_its_edge():
    assert fill([rectangle(-50, -50, 50, 50)], (4, 6)).all()
    assert drawing(fill([rectangle(3.5, -9, 99, 1.5)], (3, 6))) == ["....##", "....##", "......"]
    assert not fill([rectangle(-9, 0, -1, 3)], (4, 6)).any()
    assert not fill([rectangle(7, 0, 9, 3)], (4, 6)).any()


# tenths of pixels, moved off the centres below
_points = st.lists(st.tuples(st.integers(-40, 160), st.integers(-40, 160)), min_size=3, max_size=9, unique=True)


@settings(max_examples=150, deadline=None)
@given(_points)
def test_filling_agrees_with_a_point_in_polygon_test(points):
    polygon = np.array(points) / 10.0 + np.array([0.037, 0.053])
    rows, columns = 11, 13
    y, x = np.mgrid[:rows, :columns]
    centres = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    begin, end = polygon, np.roll(polygon, -1, axis=0)
    along = end - begin
    # leave out centres on an edge, where the two rules differ on purpose
    t = np.clip(((centres[:, None] - begin) * along).sum(-1) / (along**2).sum(-1), 0, 1)
    clear = (np.linalg.norm(centres[:, None] - (begin + t[..., None] * along), axis=-1) > 2e-3).all(axis=1)
    # matplotlib fills by the even-odd rule, too
    expected = Outline(np.vstack([polygon, polygon[:1]]), closed=True).contains_points(centres)
    assert np.array_equal(fill([polygon], (rows, columns)).ravel()[clear], expected[clear])


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.lists(
        st.sampled_from([(0, 0), (9, 0), (9, 9), (0, 9), (4, 0), (9, 5), (3, 9), (0, 2)]), min_size=3, unique=True
    ),
)
def test_triangles_of_a_fan_share_no_pixel_and_leave_no_gap(centre, rim):
    """Everything at integers, so that many centres lie on shared edges."""
    centre = np.array(centre, dtype=float)
    rim = sorted({*rim, (0, 0), (9, 0), (9, 9), (0, 9)}, key=lambda p: np.arctan2(p[1] - centre[1], p[0] - centre[0]))
    count = np.zeros((10, 10), dtype=int)
    for a, b in zip(rim, rim[1:] + rim[:1], strict=True):
        count += fill([np.array([centre, a, b], dtype=float)], (10, 10))
    assert np.array_equal(count, fill([rectangle(0, 0, 9, 9)], (10, 10)))
    assert count.sum() == 81


def test_a_long_outline_is_filled_in_parts_like_a_short_one():
    """More crossings than are kept at a time."""
    teeth = 2200
    x = np.repeat(np.arange(teeth) / teeth * 9.0, 2)
    y = np.tile([-1.0, 1500.0], teeth)
    comb = np.column_stack([x, y])
    once = fill([comb, rectangle(-0.5, -0.5, 9.5, 999.5)], (1000, 10))
    assert np.array_equal(once, ~fill([comb], (1000, 10)))


def test_an_outline_nobody_can_have_drawn_is_refused():
    comb = np.column_stack([np.zeros(200_000), np.tile([-1.0, 600.0], 100_000)])
    with pytest.raises(InputError, match="crosses the rows"):
        fill([comb], (512, 512))


# -- the same outline again ---------------------------------------------------------------------------------

_ROUND = np.array([(3 * np.cos(a) + 6, 4 * np.sin(a) + 5) for a in np.linspace(0, 2 * np.pi, 40, endpoint=False)])


@pytest.mark.parametrize(
    "again",
    [
        _ROUND,
        _ROUND[::-1],
        np.roll(_ROUND, 7, axis=0),
        np.vstack([_ROUND, _ROUND[:1]]),
        np.repeat(_ROUND, 2, axis=0),
        np.round(_ROUND, 1),
        _ROUND + np.random.default_rng(0).normal(0, 0.02, _ROUND.shape),
        # points between the points, where the outline runs straight
        np.stack([_ROUND, (_ROUND + np.roll(_ROUND, -1, axis=0)) / 2], axis=1).reshape(-1, 2),
    ],
    ids=["itself", "reversed", "other start", "closed", "doubled points", "rounded", "noise", "more points"],
)
@pytest.mark.parametrize("exclusive", [False, True])
def test_the_same_outline_again_counts_once(again, exclusive):
    once = fill([_ROUND], (12, 12))
    for loops in ([_ROUND, again], [_ROUND, again, again]):
        found = enclosed(loops, (12, 12), exclusive=exclusive)
        assert np.array_equal(found.pixels, once)
        assert (found.repeated, found.overlapping) == (len(loops) - 1, 0)


def test_a_hole_drawn_twice_stays_a_hole():
    outer, inner = rectangle(-0.5, -0.5, 6.5, 6.5), rectangle(1.5, 1.5, 4.5, 4.5)
    found = enclosed([outer, inner, inner[::-1], outer], (7, 7))
    assert drawing(found.pixels) == HOLE
    assert found.repeated == 2


def test_a_thin_wall_is_not_the_same_outline():
    outer, inner = rectangle(0.6, 0.6, 5.4, 5.4), rectangle(1.1, 1.1, 4.9, 4.9)
    found = enclosed([outer, inner], (7, 7))
    assert found.repeated == 0
    assert found.pixels.sum() == 25 - 9


def test_an_outline_that_leaves_the_way_is_another_one():
    """All points of the first lie on the second, which has a dent between them."""
    square = rectangle(0.5, 0.5, 6.5, 6.5)
    dented = np.insert(square, 1, [3.5, 3.5], axis=0)
    found = enclosed([square, dented], (8, 8))
    assert found.repeated == 0


# -- loops in loops, and over loops -------------------------------------------------------------------------


def test_nested_loops_alternate_in_any_order():
    loops = [rectangle(n - 0.5, n - 0.5, 12.5 - n, 12.5 - n) for n in (0, 2, 4, 5)]
    expected = fill(loops, (13, 13))
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        found = enclosed([loops[n] for n in order], (13, 13))
        assert np.array_equal(found.pixels, expected)
        assert found.overlapping == 0


def test_loops_that_partly_overlap_are_united():
    loops = [rectangle(-0.5, -0.5, 3.5, 3.5), rectangle(1.5, 1.5, 5.5, 5.5)]
    found = enclosed(loops, (6, 6))
    assert drawing(found.pixels) == ["####..", "####..", "######", "######", "..####", "..####"]
    assert (found.repeated, found.overlapping) == (0, 2)


def test_contours_that_say_xor_get_just_that():
    loops = [rectangle(-0.5, -0.5, 3.5, 3.5), rectangle(1.5, 1.5, 5.5, 5.5)]
    found = enclosed(loops, (6, 6), exclusive=True)
    assert drawing(found.pixels) == ["####..", "####..", "##..##", "##..##", "..####", "..####"]


def test_a_hole_in_both_of_two_overlapping_loops_is_a_hole():
    loops = [rectangle(-0.5, -0.5, 5.5, 5.5), rectangle(2.5, -0.5, 8.5, 5.5), rectangle(3.5, 1.5, 4.5, 3.5)]
    pixels = enclosed(loops, (6, 9)).pixels
    assert pixels.sum() == 9 * 6 - 2
    assert not pixels[2:4, 4].any()


def test_two_overlapping_holes_are_one_hole():
    outer = rectangle(-0.5, -0.5, 8.5, 8.5)
    holes = [rectangle(1.5, 1.5, 4.5, 4.5), rectangle(3.5, 3.5, 6.5, 6.5)]
    assert enclosed([holes[0], outer, holes[1]], (9, 9)).pixels.sum() == 81 - (9 + 9 - 1)


def test_a_hole_that_crosses_the_rim_by_the_error_of_drawing_stays_a_hole():
    outer, hole = rectangle(0.5, 0.5, 9.5, 9.5), rectangle(3.5, -0.4, 6.5, 4.5)
    pixels = enclosed([outer, hole], (10, 10)).pixels
    assert not pixels[:5, 4:7].any()
    assert pixels.sum() == 81 - 4 * 3


def test_loops_that_touch_keep_all_of_both():
    loops = [rectangle(0, 0, 3, 3), rectangle(3, 0, 6, 3), rectangle(7.5, 7.5, 8.5, 8.5)]
    found = enclosed(loops, (9, 9))
    assert found.pixels.sum() == 9 + 9 + 1
    assert found.overlapping == 0


@pytest.mark.parametrize(
    "loops",
    [
        [rectangle(0.5, 0.5, 10.5, 4.5), rectangle(-1, -1, 7.5, 4.5)],
        [rectangle(0.5, 0.5, 4.5, 4.5), rectangle(0.3, 0.3, 4.3, 4.3)],
    ],
    ids=["40 pixels each", "the same pixels"],
)
def test_loops_of_equal_size_are_united_in_either_order(loops):
    one, other = (fill([loop], (11, 13)) for loop in loops)
    assert one.sum() == other.sum()
    for order in (loops, loops[::-1]):
        found = enclosed(order, (11, 13))
        assert np.array_equal(found.pixels, one | other)
        assert found.overlapping == 2


_boxes = st.tuples(*[st.integers(-3, 14)] * 4).filter(lambda b: abs(b[0] - b[2]) > 1 and abs(b[1] - b[3]) > 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(_boxes, min_size=1, max_size=5), st.randoms())
def test_order_and_direction_of_loops_do_not_matter(boxes, random):
    loops = [rectangle(*box) + 0.5 for box in boxes]
    first = enclosed(loops, (11, 13)).pixels
    shuffled = [loop[:: random.choice([1, -1])] for loop in random.sample(loops, len(loops))]
    assert np.array_equal(enclosed(shuffled, (11, 13)).pixels, first)
    # nothing outside all loops, and at least what is in exactly one
    count = np.sum([fill([loop], (11, 13)) for loop in loops], axis=0)
    assert not first[count == 0].any()


def test_many_contours_on_a_plane_are_read_and_too_many_refused():
    small = [rectangle(x, y, x + 0.7, y + 0.7) - 0.3 for x in range(40) for y in range(30)]
    assert enclosed(small, (30, 40)).pixels.all()
    heap = [rectangle(0, 0, 40 + 0.11 * n, 40) for n in range(250)]
    with pytest.raises(InputError, match="pairs of contours"):
        enclosed(heap, (64, 64))
    with pytest.raises(InputError, match="10001 contours"):
        enclosed(heap[:1] * 10_001, (64, 64))
