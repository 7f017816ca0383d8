"""Prompts on the slices of a scan: objects, combinations, what lies outside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantoms import drawn

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.parse import parse_box, parse_point
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.prompts.strokes import Scribble

GRID = VolumeGeometry((6, 20, 30), np.diag([1, 1, 3, 1.0]))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt("liver", box=(1, 1, 5, 5), slice=6), r"box 6:1,1,5,5 for 'liver' needs slice 6.*slices 0 ... 5"),
        (Prompt("liver", box=(1, 1, 5, 5), slice=-1), "needs slice -1"),
        (Prompt("liver", box=(1, 1, 31, 5), slice=0), "x runs from 0 to 30 and y from 0 to 20"),
        (Prompt("liver", box=(-1, 1, 5, 5), slice=0), "reaches outside"),
        (Prompt("liver", box=(1, 1, 5, 5)), "does not say which slice: axis k has 6"),
        (Prompt("liver", box3d=(0, 0, 4, 5, 5, 7)), "needs slice 6"),
        (Prompt("liver", box3d=(0, 0, 1.6, 5, 5, 2.4)), "between two slices"),
    ],
)
def test_a_prompt_outside_the_scan_is_named(prompt, message):
    with pytest.raises(PromptError, match=message):
        plan([prompt], GRID)


def test_no_prompt_at_all():
    with pytest.raises(PromptError, match="at least one box"):
        plan([], GRID)


def test_labels_get_ids_in_order_of_first_appearance_and_slices_are_sorted():
    todo = plan(
        [
            Prompt("spleen", box=(0, 0, 2, 2), slice=4),
            Prompt("liver", box=(1, 1, 3, 3), slice=1),
            Prompt("spleen", box=(2, 2, 4, 4), slice=1),
        ],
        GRID,
    )
    assert todo.names == {1: "spleen", 2: "liver"}
    assert list(todo.slices) == [1, 4]
    assert [(p.label, p.box) for p in todo.slices[1]] == [(2, (1, 1, 3, 3)), (1, (2, 2, 4, 4))]


@pytest.mark.parametrize(
    ("axis", "slices", "box"),
    [("k", [2, 3], (4, 5, 10, 9)), ("j", [5, 6, 7, 8], (4, 2, 10, 4)), ("i", [4, 5, 6, 7, 8, 9], (5, 2, 9, 4))],
)
def test_a_box3d_gives_its_cross_section_to_every_slice_it_meets(axis, slices, box):
    todo = plan([Prompt("node", box3d=(4, 5, 2, 10, 9, 4))], GRID, axis)
    assert list(todo.slices) == slices
    assert {p.box for on_slice in todo.slices.values() for p in on_slice} == {box}


def test_one_slice_needs_no_number():
    picture = VolumeGeometry.uncalibrated((1, 20, 30))
    assert list(plan([Prompt(box=(0, 0, 30, 20))], picture).slices) == [0]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            Prompt("liver", points=((30, 5, 1),), slice=0),
            "point 30,5 outside .* x runs from 0 to 29 and y from 0 to 19",
        ),
        (Prompt("liver", points=((5, 5, 1), (5, 19.6, 0)), slice=0), "the point 5,19.6 outside"),
        (Prompt("liver", points=((-0.6, 5, 1),), slice=0), "outside the slice"),
        (Prompt("liver", points=((5, 5, 1),), slice=6), r"The point 6:5,5\+ for 'liver' needs slice 6"),
        (Prompt("liver", points=((5, 5, 1),)), "does not say which slice: axis k has 6. Write SLICE:X,Y"),
        (
            Prompt("liver", points=((5, 5, 0), (6, 6, 0)), slice=1),
            "points 1:5,5- 6,6- for 'liver' has no foreground point",
        ),
        (Prompt("liver", box3d=(0, 0, 0, 5, 5, 5), points=((2, 2, 1),)), "with point 2,2. for .* say which slice"),
        (Prompt("liver", box3d=(0, 0, 0, 5, 5, 5), points=((2, 2, 1),), slice=5), "slice 5, which its box3d does not"),
        (Prompt("liver", mask=drawn((1, 1))), 'The mask for .liver. does not say which slice.*"slice"'),
        (Prompt("liver", mask=drawn((1, 1), shape=(20, 31)), slice=1), r"\(20, 31\).*\(20, 30\)"),
        (Prompt("liver", mask=drawn((1, 1), shape=(30, 20)), slice=1), "as the file stores them"),
        (Prompt("liver", mask=drawn((0, 1, 1), shape=(6, 30, 20))), r"\(6, 30, 20\).*\(6, 20, 30\) \(K, J, I\)"),
        (
            Prompt("liver", mask=drawn((0, 1, 1), shape=(6, 20, 30)), slice=2),
            "mask on slice 2 for .* empty on slice 2",
        ),
        (Prompt("liver", mask=drawn((0, 1, 1), shape=(6, 20, 30)), slice=-1), "needs slice -1"),
    ],
)
def test_points_and_masks_outside_the_scan_are_named(prompt, message):
    with pytest.raises(PromptError, match=message):
        plan([Prompt("spleen", box=(1, 1, 5, 5), slice=0), prompt], GRID)


def test_points_on_the_very_border_of_the_picture_lie_in_it():
    corners = ((-0.5, -0.5, 1), (29.5, 19.5, 1))
    assert plan([Prompt(points=corners, slice=0)], GRID).slices == {0: [SlicePrompt(1, points=corners)]}
    assert plan([Prompt(points=((19.5, -0.5, 1),), slice=29)], GRID, "i").slices[29][0].points == ((19.5, -0.5, 1),)


def test_clicks_and_a_box_of_one_label_on_one_slice_are_one_object():
    todo = plan(
        [
            parse_point("3:4,5-=kidney"),
            parse_box("3:1,2,9,9=kidney"),
            parse_point("3:6,6=kidney"),
            parse_point("3:6,6=kidney"),  # said twice
            parse_point("4:6,6=kidney"),
            parse_point("3:15,6=spleen"),
        ],
        GRID,
    )
    assert todo.slices == {
        3: [SlicePrompt(1, (1, 2, 9, 9), ((4, 5, 0), (6, 6, 1))), SlicePrompt(2, None, ((15, 6, 1),))],
        4: [SlicePrompt(1, None, ((6, 6, 1),))],
    }


def test_two_boxes_stay_two_objects_and_clicks_go_where_they_lie():
    left, right = Prompt("kidney", box=(1, 1, 9, 9), slice=2), Prompt("kidney", box=(15, 1, 25, 9), slice=2)
    todo = plan([left, parse_point("2:20,5=kidney"), right, parse_point("2:12,5-=kidney")], GRID)
    assert todo.slices == {
        2: [
            SlicePrompt(1, (1, 1, 9, 9), ((12, 5, 0),)),
            SlicePrompt(1, (15, 1, 25, 9), ((20, 5, 1), (12, 5, 0))),
        ]
    }
    with pytest.raises(PromptError, match="point 2:12,5. for 'kidney' lies in none of the 2 .* slice 2"):
        plan([left, right, parse_point("2:12,5=kidney")], GRID)
    with pytest.raises(PromptError, match="lies in 2 of the 2 .* label of its own"):
        plan([left, Prompt("kidney", box=(5, 1, 25, 9), slice=2), parse_point("2:7,5=kidney")], GRID)


def test_a_click_between_two_boxes_side_by_side_goes_to_the_one_whose_pixel_it_is():
    left, right = Prompt("kidney", box=(1, 1, 9, 9), slice=2), Prompt("kidney", box=(9, 1, 17, 9), slice=2)
    clicks = [Prompt("kidney", slice=2, points=((x, y, 1),)) for x, y in ((8, 1), (9, 8), (1, 8), (16, 1))]
    todo = plan([left, right, *clicks], GRID)
    assert [one.points for one in todo.slices[2]] == [((8, 1, 1), (1, 8, 1)), ((9, 8, 1), (16, 1, 1))]


def test_objects_of_a_slice_and_clicks_of_an_object_keep_the_order_they_were_given_in():
    todo = plan(
        [
            parse_point("2:3,3-=kidney"),
            Prompt("kidney", box=(1, 1, 9, 9), slice=2, points=((4, 4, 1),)),
            Prompt("spleen", box=(1, 1, 5, 5), slice=2),
            Prompt("kidney", box=(15, 1, 25, 9), slice=2),
        ],
        GRID,
    )
    assert todo.slices == {
        2: [
            SlicePrompt(1, (1, 1, 9, 9), ((3, 3, 0), (4, 4, 1))),
            SlicePrompt(2, (1, 1, 5, 5)),
            SlicePrompt(1, (15, 1, 25, 9), ((3, 3, 0),)),
        ]
    }


def test_points_given_with_a_box_stay_with_it():
    prompts = [
        Prompt("kidney", box=(1, 1, 9, 9), slice=2, points=((12, 5, 1),)),
        Prompt("kidney", box=(15, 1, 25, 9), slice=2, points=((3, 3, 0),)),
    ]
    assert [one.points for one in plan(prompts, GRID).slices[2]] == [((12, 5, 1),), ((3, 3, 0),)]


def test_clicks_and_strokes_come_in_the_order_of_the_prompts():
    stroke = Scribble([(5, 5), (9, 5)])
    first, second = Prompt("a", slice=1, scribbles=stroke), Prompt("a", slice=1, points=((6, 5, 0), (7, 7, 1)))
    ((one,),) = plan([Prompt("a", slice=1, box=(2, 2, 12, 12)), first, second], GRID).slices.values()
    assert one.marks == (stroke, (6, 5, 0), (7, 7, 1))
    # of one prompt points first; what is said twice running is said once
    both = replace(second, scribbles=(stroke, stroke))
    ((one,),) = plan([both, first, second, second], GRID).slices.values()
    assert one.marks == (*second.points, stroke, *second.points)
    # who adds or takes some away later keeps the order of the others
    assert replace(one, points=(*one.points, (3, 3, 1))).marks == (*one.marks, (3, 3, 1))
    assert replace(one, points=second.points[:1]).marks == (second.points[0], stroke)
    assert replace(one, points=(), scribbles=()) == SlicePrompt(1)


def test_clicks_that_contradict_each_other_are_both_named():
    with pytest.raises(PromptError, match=r"The point 1:5,5- for 'a' contradicts the point 1:5,5\+ for 'a': pixel 5,5"):
        plan([parse_point("1:5,5+=a"), parse_point("1:5,5-=a")], GRID)
    # another label or another slice is no contradiction
    plan([parse_point("1:5,5+=a"), parse_point("1:5,5-=b"), parse_point("1:6,6=b"), parse_point("2:5,5=a")], GRID)


def test_a_point_outside_needs_something_inside_on_its_own_slice():
    with pytest.raises(PromptError, match=r"The point 2:5,5- for 'a' has no foreground point .*X,Y\+"):
        plan([parse_point("1:5,5+=a"), parse_point("2:5,5-=a")], GRID)
    plan([parse_point("1:5,5-=a"), Prompt("a", mask=drawn((3, 3)), slice=1)], GRID)


def test_a_mask_goes_to_every_slice_it_touches_on_any_axis():
    mask = drawn((2, 4, 7), (3, 4, 8), (3, 5, 8), shape=(6, 20, 30))
    for axis, touched in (("k", [2, 3]), ("j", [4, 5]), ("i", [7, 8])):
        todo = plan([Prompt("node", mask=mask)], GRID, axis)
        assert list(todo.slices) == touched
        plane = GRID.plane(axis)
        for index in touched:
            (one,) = todo.slices[index]
            np.testing.assert_array_equal(one.mask, plane.take(mask, index))
            assert one.mask.shape == plane.shape
            assert one.box is None
    assert list(plan([Prompt("node", mask=mask, slice=3)], GRID).slices) == [3]


def test_a_mask_of_one_slice_beside_box_and_points():
    mask = drawn((5, 5), (5, 6))
    apart = [Prompt("a", mask=mask, slice=1), parse_box("1:4,4,9,9=a"), parse_point("1:6,6=a")]
    together = Prompt("a", mask=mask, slice=1, box=(4, 4, 9, 9), points=((6, 6, 1),))
    expected = {1: [SlicePrompt(1, (4, 4, 9, 9), ((6, 6, 1),), mask)]}
    assert plan(apart, GRID).slices == expected
    assert plan([together], GRID).slices == expected
    assert str(together) == "The box 1:4,4,9,9 with point 6,6+ with mask for 'a'"


def test_a_mask_and_a_box_apart_are_two_objects():
    mask = drawn((5, 5), (5, 6))
    todo = plan([Prompt("a", mask=mask, slice=1), parse_box("1:14,4,19,9=a"), parse_point("1:6,5=a")], GRID)
    assert todo.slices == {1: [SlicePrompt(1, None, ((6, 5, 1),), mask), SlicePrompt(1, (14, 4, 19, 9))]}
    two = plan([Prompt("a", mask=mask, slice=1), Prompt("a", mask=drawn((9, 9)), slice=1)], GRID)
    assert len(two.slices[1]) == 2


def test_a_box3d_takes_points_on_one_of_its_slices():
    body = (4, 5, 2, 10, 9, 4)
    expected = {2: [SlicePrompt(1, (4, 5, 10, 9))], 3: [SlicePrompt(1, (4, 5, 10, 9), ((6, 6, 1),))]}
    assert plan([Prompt("node", box3d=body), parse_point("3:6,6=node")], GRID).slices == expected
    assert plan([Prompt("node", box3d=body, points=((6, 6, 1),), slice=3)], GRID).slices == expected


def test_one_slice_needs_no_number_for_points_and_masks():
    picture = VolumeGeometry.uncalibrated((1, 20, 30))
    mask = drawn((3, 3))
    assert plan([parse_point("4,5")], picture).slices == {0: [SlicePrompt(1, points=((4, 5, 1),))]}
    assert plan([Prompt(mask=mask)], picture).slices == plan([Prompt(mask=mask[None])], picture).slices


def test_one_prompt_stands_for_a_list_of_one():
    grid = VolumeGeometry((1, 30, 40), np.eye(4))
    one = Prompt("a", box=(1, 2, 3, 4))
    assert plan(one, grid) == plan([one], grid) == plan(iter((one,)), grid)
    with pytest.raises(PromptError, match=r"a medsam.Prompt, such as .*, not dict"):
        plan([{"box": [1, 2, 3, 4]}], grid)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 29), st.integers(0, 19), st.integers(0, 1), st.integers(0, 5), st.sampled_from(["a", "b"])
        ),
        max_size=30,
    ),
    st.sets(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b"]))),
)
def test_every_click_lands_once_on_its_slice_with_its_label(clicks, boxes):
    """One box a label and slice at most: then each label is one object a slice, whatever the order."""
    once = {(x, y, index, label): inside for x, y, inside, index, label in clicks}
    # a point inside for each, so that no point outside stands alone
    once |= {(0, 0, index, label): 1 for _, _, _, index, label in clicks}
    prompts = [Prompt(label, slice=index, points=((x, y, inside),)) for (x, y, index, label), inside in once.items()]
    prompts += [Prompt(label, slice=index, box=(1, 1, 5, 5)) for index, label in boxes]
    if not prompts:
        return
    todo = plan(prompts, GRID)
    assert list(todo.slices) == sorted({prompt.slice for prompt in prompts})
    found = {}
    for index, on_slice in todo.slices.items():
        assert len({one.label for one in on_slice}) == len(on_slice)
        for one in on_slice:
            assert one.box == ((1, 1, 5, 5) if (index, todo.names[one.label]) in boxes else None)
            found |= {(x, y, index, todo.names[one.label]): inside for x, y, inside in one.points}
    assert found == once


@given(arrays(bool, (6, 20, 30), elements=st.booleans()).filter(lambda mask: mask.any()), st.sampled_from("kji"))
def test_a_planned_mask_is_the_mask(mask, axis):
    rebuilt = np.zeros_like(mask)
    for index, (one,) in plan([Prompt(mask=mask)], GRID, axis).slices.items():
        GRID.plane(axis).take(rebuilt, index)[...] = one.mask
    np.testing.assert_array_equal(rebuilt, mask)


def test_a_lasso_that_no_hand_draws_is_named():
    grid = VolumeGeometry((1, 4000, 8), np.eye(4))
    zigzag = [(x, y) for x in (1.0, 2.0, 5.0) for y in (0.0, 3999.0)] * 3000
    with pytest.raises(
        PromptError, match=r"The lasso 0:1,0 .* for 'cyst' cannot be filled: its outline of 18000 points"
    ):
        plan(Prompt("cyst", slice=0, lasso=zigzag), grid)
