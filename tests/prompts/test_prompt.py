import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medsam.errors import InputError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.prompt import Prompt, SlicePrompt, parse_box, parse_point, pixel_at, plan, read_prompts
from medsam.volume import LabelVolume

GRID = VolumeGeometry((6, 20, 30), np.diag([1, 1, 3, 1.0]))


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("41:120,88,212,176=spleen", Prompt("spleen", box=(120, 88, 212, 176), slice=41)),
        ("1,2,3,4", Prompt("object", box=(1, 2, 3, 4))),
        ("0:1.5,2,3,4", Prompt("object", box=(1.5, 2, 3, 4), slice=0)),
        ("2:1,2,3,4=left kidney=cyst: 1", Prompt("left kidney=cyst: 1", box=(1, 2, 3, 4), slice=2)),
    ],
)
def test_a_typed_box(text, prompt):
    assert parse_box(text) == prompt


@pytest.mark.parametrize("text", ["", "1,2,3", "x:1,2,3,4", "1:1,2,3,4,5", "1:a,b,c,d", "1,2,3,4:5"])
def test_a_mistyped_box_is_shown_with_an_example(text):
    with pytest.raises(PromptError, match="for example 41:120,88,212,176=spleen"):
        parse_box(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:5,5,5,9", "empty or inverted"),
        ("0:9,5,5,9", "empty or inverted"),
        ("0:nan,5,8,9", "not finite"),
        ("0:1,2,inf,9", "not finite"),
        ("0:1,2,3,4=", "empty label"),
    ],
)
def test_a_box_that_covers_nothing_is_refused(text, message):
    with pytest.raises(PromptError, match=message):
        parse_box(text)


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


def test_a_prompts_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(
        json.dumps(
            {
                "axis": "j",
                "prompts": [
                    {"label": "spleen", "box": [1, 2, 3, 4], "slice": 5},
                    {"label": "liver", "box3d": [1, 2, 3, 4, 5, 6]},
                ],
            }
        )
    )
    prompts, axis = read_prompts(path)
    assert axis == "j"
    assert prompts == [Prompt("spleen", box=(1, 2, 3, 4), slice=5), Prompt("liver", box3d=(1, 2, 3, 4, 5, 6))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompts": [{"points": [[1, 2]]}]}', r'"points" is \[\[1, 2\]\], not a list of \[x, y, 1 or 0\]'),
        ('{"prompts": [{"points": [[1, 2, true]]}]}', "not a list of"),
        ('{"prompts": [{"points": [1, 2, 1]}]}', "not a list of"),
        ('{"prompts": [{"points": {"x": 1}}]}', "not a list of"),
        ('{"prompts": [{"points": []}]}', "says nothing"),
        ('{"prompts": [{"points": [[1, 2, 2]]}]}', "Prompt 0 of p.json: The point 1,2 for 'object' ends in 2"),
        ('{"prompts": [{"points": [[1, NaN, 1]]}]}', "not finite"),
        ('{"prompts": [{"points": [[1, 2, 1], [1, 2, 0]]}]}', "contradicts itself: pixel 1,2"),
        ('{"prompts": [{"mask": 3}]}', '"mask" is .3., not the name of a file'),
        ('{"prompts": [{"mask": "rough.nii.gz"}]}', "masks in files are not read here"),
        ('{"prompts": [{"text": "spleen"}]}', '"text" prompts are not supported'),
        ("{", "not JSON"),
        ("[]", "needs"),
        ('{"axis": "z", "prompts": []}', "one of i, j, k"),
        ('{"prompts": [{"box": [1, 2, 3]}]}', 'Prompt 0 of p.json: "box" is .* list of 4 numbers'),
        ('{"prompts": [{"box": [1, 2, 3, "4"]}]}', "list of 4 numbers"),
        ('{"prompts": [{"label": "a"}]}', "needs a box, a box3d, points or a mask"),
        ('{"prompts": [{"box": [1,2,3,4], "box3d": [1,2,3,4,5,6]}]}', "either a box or a box3d"),
        ('{"prompts": [{"box": [1,2,3,4], "slice": 1.5}]}', "not a whole number"),
        ('{"prompts": [{"box": [1,2,3,4], "slcie": 1}]}', "unknown keys: slcie"),
        ('{"prompts": [{"label": 3, "box": [1,2,3,4]}]}', "not a text"),
    ],
)
def test_a_wrong_prompts_file_says_which_entry(tmp_path, text, message):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(PromptError, match=message):
        read_prompts(path)


def test_a_missing_prompts_file(tmp_path):
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(tmp_path / "none.json")


def test_a_file_from_notepad_and_one_with_a_slip(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"prompts": [{"box": [1, 2, 3, 4]}]}', encoding="utf-8-sig")
    assert read_prompts(path)[0] == [Prompt(box=(1, 2, 3, 4))]
    path.write_text('{"prompts": [], "zoom": 3}')
    with pytest.raises(PromptError, match="unknown keys: zoom"):
        read_prompts(path)
    path.write_text("[" * 100_000)
    with pytest.raises(PromptError, match="not JSON"):
        read_prompts(path)
    path.write_text('{"prompts": [{"box": [1, 2, 3, 1' + "0" * 400 + "]}]}")
    with pytest.raises(PromptError, match="401 digits"):
        read_prompts(path)


def test_prompts_from_arrays_and_what_is_no_box():
    assert Prompt("a", box=np.array([1, 2, 3, 4]), slice=np.int64(2)) == Prompt("a", box=(1, 2, 3, 4), slice=2)
    for wrong in ({"box": "1,2,3,4"}, {"box": 3}, {"box": (1, 2, 3)}, {"box": ("a", 1, 2, 3)}):
        with pytest.raises(PromptError, match="is 4 numbers"):
            Prompt("a", **wrong)
    with pytest.raises(PromptError, match="whole number"):
        Prompt("a", box=(1, 2, 3, 4), slice=1.5)
    with pytest.raises(PromptError, match="a text"):
        Prompt(None, box=(1, 2, 3, 4))
    with pytest.raises(PromptError, match="Leave the slice out"):
        Prompt("a", box3d=(1, 2, 3, 4, 5, 6), slice=1)
    with pytest.raises(PromptError, match="control characters"):
        Prompt("a\x1b[0m", box=(1, 2, 3, 4))


# -- points, masks, combinations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("41:101,77", Prompt(slice=41, points=((101, 77, 1),))),
        ("41:101,77+", Prompt(slice=41, points=((101, 77, 1),))),
        ("41:101,77-", Prompt(slice=41, points=((101, 77, 0),))),
        ("101,77-=kidney", Prompt("kidney", points=((101, 77, 0),))),
        (" 0:1.5,2e1+=a=b: 1 ", Prompt("a=b: 1", slice=0, points=((1.5, 20, 1),))),
        ("-0.5,-0.5-", Prompt(points=((-0.5, -0.5, 0),))),
    ],
)
def test_a_typed_point(text, prompt):
    assert parse_point(text) == prompt


@pytest.mark.parametrize(
    "text", ["", "1", "1,2,3", "1,2,1", "x:1,2", "1:a,b", "1,2*", "1,2:5", "1,2+-", "1,+", "1:2:3,4"]
)
def test_a_mistyped_point_is_shown_with_an_example(text):
    with pytest.raises(PromptError, match=r"is not \[SLICE:\]X,Y.*for example 41:101,77=kidney") as error:
        parse_point(text)
    assert repr(text) in str(error.value)


@given(
    x=st.floats(-1e5, 1e5).map(lambda number: round(number, 3)),
    y=st.floats(-1e5, 1e5).map(lambda number: round(number, 3)),
    inside=st.integers(0, 1),
    index=st.none() | st.integers(-999, 999),
    label=st.text(st.characters(categories=("L", "N", "P")), min_size=1),
)
def test_what_is_typed_after_point_comes_back(x, y, inside, index, label):
    where = "" if index is None else f"{index}:"
    found = parse_point(f"{where}{x!r},{y!r}{'-+'[inside]}={label}")
    assert found == Prompt(label, slice=index, points=((x, y, inside),))


def drawn(*pixels, shape=(20, 30)):
    """A bool mask with the pixels (..., row, column)."""
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "The prompt for 'a' says nothing: it needs a box, a box3d, points or a mask"),
        ({"points": ((1, 2, 2),)}, "The point 1,2 for 'a' ends in 2; write 1 for inside or 0 for outside"),
        ({"points": ((1, 2, float("nan")),)}, "ends in nan"),
        ({"points": ((1, 2, -1),)}, "ends in -1"),
        ({"points": ((1, float("nan"), 1),)}, "The point 1,nan. for 'a' has a number that is not finite"),
        ({"points": ((float("-inf"), 1, 1),), "slice": 3}, "The point 3:-inf,1. for 'a' .* not finite"),
        ({"points": (1, 2, 1)}, r"are \(x, y, 1 or 0\) each, not '\(1, 2, 1\)'"),
        ({"points": ((1, 2),)}, "1 or 0"),
        ({"points": "1,2,1"}, "1 or 0"),
        ({"points": 7}, "1 or 0"),
        ({"points": ((10**400, 1, 1),)}, "1 or 0"),
        ({"points": ((1, 2, 1), (1, 2, 0))}, "points 1,2. 1,2- for 'a' contradicts itself: pixel 1,2 is both"),
        ({"points": ((1.4, 2, 1), (0.6, 2.2, 0))}, "pixel 1,2 is both inside and outside"),
        ({"mask": drawn()}, "The mask for 'a' has an empty mask"),
        ({"mask": drawn(), "box": (1, 2, 3, 4), "slice": 1}, "The box 1:1,2,3,4 with mask for 'a' has an empty mask"),
        ({"mask": np.ones(5)}, r"shape \(5,\); it is \(K, J, I\)"),
        ({"mask": [[1, 0], [1]]}, "has shape"),
        ({"mask": np.full((4, 4), 2)}, "other things than 0 and 1.*mask == 2"),
        ({"mask": np.full((4, 4), np.nan)}, "other things than 0 and 1"),
        ({"mask": np.full((4, 4), "1")}, "other things than 0 and 1"),
        ({"box3d": (1, 2, 3, 4, 5, 6), "box": (1, 2, 3, 4), "points": ((1, 2, 1),)}, "either a box or a box3d"),
        ({"points": ((1, 2, 1),), "label": " "}, "empty label"),
    ],
)
def test_a_prompt_that_says_nothing_or_nonsense_is_named(wrong, message):
    with pytest.raises(PromptError, match=message):
        Prompt(**{"label": "a", **wrong})


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
        (Prompt("liver", mask=drawn((0, 1, 1), shape=(6, 20, 30)), slice=2), "mask on slice 2 for .* empty on slice 2"),
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


def test_prompts_compare_by_what_they_say_and_cannot_be_changed():
    mask = drawn((3, 3)).astype(np.uint8)
    prompt = Prompt("a", mask=mask, slice=1)
    same = Prompt("a", mask=mask.astype(float), slice=np.int64(1), points=None)
    assert prompt == same
    assert hash(prompt) == hash(same)
    assert prompt != Prompt("a", mask=drawn((3, 4)), slice=1)
    assert prompt != Prompt("a", points=((3, 3, 1),), slice=1)
    assert prompt != "a"
    mask[:] = 0
    assert prompt.mask.sum() == 1
    with pytest.raises(ValueError, match="read-only"):
        prompt.mask[0, 0] = True
    assert Prompt(points=np.array([[1, 2, 1], [3, 4, 0]])).points == ((1.0, 2.0, 1), (3.0, 4.0, 0))


@pytest.mark.parametrize("kind", [list, np.array, np.float32, np.uint8, torch.tensor, "numbers of numpy"])
def test_numbers_may_come_in_any_container(kind):
    numbers, rows = [4, 6, 14, 12], [[5, 7, 1], [13, 11, 0]]
    if isinstance(kind, str):
        box, points = tuple(np.int16(n) for n in numbers), tuple(tuple(np.int64(n) for n in row) for row in rows)
    else:
        box, points = kind(numbers), kind(rows)
    expected = Prompt("a", (4.0, 6.0, 14.0, 12.0), 3, points=((5.0, 7.0, 1), (13.0, 11.0, 0)))
    for index in (3, np.uint8(3), torch.tensor(3)):
        assert Prompt("a", box=box, slice=index, points=points) == expected
    assert isinstance(Prompt(box=box).box[0], float)


@pytest.mark.parametrize(
    "box", [torch.tensor([[1, 2, 3, 4]]), np.zeros(3), "1,2,3,4", 5, [1, 2, 3, "four"], [1, 2, 3j, 4]]
)
def test_what_is_no_box_is_told(box):
    with pytest.raises(PromptError, match="is 4 numbers, not"):
        Prompt(box=box)


def test_a_mask_may_be_a_tensor_or_a_label_map():
    grid = VolumeGeometry((1, 3, 4), np.eye(4))
    drawn = np.zeros((1, 3, 4), np.uint8)
    drawn[0, 1, 1:3] = 1
    for mask in (torch.from_numpy(drawn), LabelVolume(drawn, grid, {1: "a"}), drawn.tolist(), drawn.astype(bool)):
        np.testing.assert_array_equal(Prompt(mask=mask).mask, drawn == 1)


def test_one_prompt_stands_for_a_list_of_one():
    grid = VolumeGeometry((1, 30, 40), np.eye(4))
    one = Prompt("a", box=(1, 2, 3, 4))
    assert plan(one, grid) == plan([one], grid) == plan(iter((one,)), grid)
    with pytest.raises(PromptError, match=r"a medsam.Prompt, such as .*, not dict"):
        plan([{"box": [1, 2, 3, 4]}], grid)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (Prompt("a", slice=3, points=((1, 2, 1), (3.5, 4, 0))), "The points 3:1,2+ 3.5,4- for 'a'"),
        (Prompt("a", points=[(n, 0, 1) for n in range(6)]), "The points 0,0+ 1,0+ 2,0+ 3,0+ ... (6 in all) for 'a'"),
        (Prompt("a", mask=drawn((1, 1)), slice=3), "The mask on slice 3 for 'a'"),
        (
            Prompt("a", box3d=(0, 0, 0, 5, 5, 5), points=((1, 2, 1),), slice=3),
            "The box3d 0,0,0,5,5,5 with point 3:1,2+ for 'a'",
        ),
    ],
)
def test_a_prompt_says_what_it_is(prompt, text):
    assert str(prompt) == text


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


def test_a_prompts_file_with_every_kind_of_entry(tmp_path):
    mask = drawn((2, 4, 7), shape=(6, 20, 30))
    asked = []

    def load(path):
        asked.append(path)
        return mask

    entries = [
        {"label": "spleen", "box": [12, 8, 21, 17], "slice": 4},
        {"label": "liver", "box3d": [6, 4, 2, 21, 18, 6]},
        {"label": "kidney", "points": [[10, 7, 1], [12, 9, 0]], "slice": 3},
        {"label": "tumour", "mask": "rough/rough.nii.gz"},
        {"label": "cyst", "mask": "rough/rough.nii.gz", "slice": 2, "box": [1, 1, 9, 9], "points": [[7, 4, 1]]},
        {"label": "node", "box3d": [6, 4, 2, 21, 18, 6], "points": [[8, 8, 1]], "slice": 3},
    ]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"axis": "k", "prompts": entries}))
    prompts, axis = read_prompts(path, load)
    assert axis == "k"
    assert asked == [tmp_path / "rough" / "rough.nii.gz"]
    assert prompts == [
        Prompt("spleen", box=(12, 8, 21, 17), slice=4),
        Prompt("liver", box3d=(6, 4, 2, 21, 18, 6)),
        Prompt("kidney", points=((10, 7, 1), (12, 9, 0)), slice=3),
        Prompt("tumour", mask=mask),
        Prompt("cyst", mask=mask, slice=2, box=(1, 1, 9, 9), points=((7, 4, 1),)),
        Prompt("node", box3d=(6, 4, 2, 21, 18, 6), points=((8, 8, 1),), slice=3),
    ]
    todo = plan(prompts, GRID, axis)
    assert [len(on_slice) for on_slice in todo.slices.values()] == [4, 3, 3, 2]


def test_a_mask_that_cannot_be_used_says_which_entry(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"prompts": [{"box": [1, 2, 3, 4]}, {"label": "a", "mask": "none.nii.gz"}]}')

    def missing(file):
        raise InputError(f"{file.name} does not exist.")

    with pytest.raises(InputError, match="Prompt 1 of p.json: none.nii.gz does not exist"):
        read_prompts(path, missing)
    with pytest.raises(PromptError, match="Prompt 1 of p.json: The mask for 'a' has an empty mask"):
        read_prompts(path, lambda file: np.zeros((6, 20, 30), bool))


def test_a_point_lies_in_one_pixel_also_on_the_rim():
    shape = (4, 6)
    assert pixel_at((2, 3), shape) == (3, 2)
    assert pixel_at((1.5, 0.4), shape) == (0, 2)
    assert pixel_at((-0.5, 3.5), shape) == (3, 0)
    assert pixel_at((5, 3, 1), (2, 4, 6)) == (1, 3, 5)
