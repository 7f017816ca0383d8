"""What a prompt may say, and how it compares and reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from phantoms import drawn

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt, pixel_at
from medsam.volume import LabelVolume


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "The prompt for 'a' says nothing: it needs a box, a box3d, points, scribbles"),
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
        (
            {"mask": drawn(), "box": (1, 2, 3, 4), "slice": 1},
            "The box 1:1,2,3,4 with mask for 'a' has an empty mask",
        ),
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


def test_a_point_lies_in_one_pixel_also_on_the_rim():
    shape = (4, 6)
    assert pixel_at((2, 3), shape) == (3, 2)
    assert pixel_at((1.5, 0.4), shape) == (0, 2)
    assert pixel_at((-0.5, 3.5), shape) == (3, 0)
    assert pixel_at((5, 3, 1), (2, 4, 6)) == (1, 3, 5)
    # between two pixels: the same one from either end
    assert pixel_at((3.5, 0.5), shape) == (1, 3)
    assert pixel_at((5 - 3.5, 3 - 0.5), shape) == (2, 2)


def test_a_name_is_a_prompt_of_its_own():
    prompt = Prompt(text=" left kidney ")
    assert (prompt.label, prompt.text) == ("left kidney", " left kidney ")
    assert Prompt("K", text="left kidney").to_dict() == {"label": "K", "text": "left kidney"}
    assert Prompt.from_dict({"text": "left kidney"}) == Prompt("left kidney", text="left kidney")
    assert "left kidney" in str(Prompt("K", text="left kidney"))
    for wrong, message in (
        ({"text": "  "}, "not the name of a structure"),
        ({"text": 3}, "not the name of a structure"),
        ({"text": "liver", "box": [1, 2, 3, 4], "slice": 1}, "leave `box` out"),
        ({"text": "liver", "slice": 1}, "leave `slice` out"),
    ):
        with pytest.raises(PromptError, match=message):
            Prompt.from_dict(wrong)
    with pytest.raises(PromptError, match="answered by `Predictor.segment` alone"):
        plan([prompt], VolumeGeometry((3, 4, 5), np.eye(4)))
