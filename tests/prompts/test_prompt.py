import json

import numpy as np
import pytest

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.prompt import Prompt, parse_box, plan, read_prompts

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
        ("{", "not JSON"),
        ("[]", "needs"),
        ('{"axis": "z", "prompts": []}', "one of i, j, k"),
        ('{"prompts": [{"box": [1, 2, 3]}]}', 'Prompt 0 of p.json: "box" is .* list of 4 numbers'),
        ('{"prompts": [{"box": [1, 2, 3, "4"]}]}', "list of 4 numbers"),
        ('{"prompts": [{"label": "a"}]}', "either a box or a box3d"),
        ('{"prompts": [{"box": [1,2,3,4], "box3d": [1,2,3,4,5,6]}]}', "either a box or a box3d"),
        ('{"prompts": [{"box": [1,2,3,4], "slice": 1.5}]}', "not a whole number"),
        ('{"prompts": [{"box": [1,2,3,4], "slcie": 1}]}', "unknown keys: slcie"),
        ('{"prompts": [{"box": [1,2,3,4]}, {"points": [[1, 2, 1]]}]}', 'Prompt 1 .*"points" prompts are not supported'),
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
    with pytest.raises(PromptError, match="4 numbers"):
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
