"""Labels that stand before anything is asked: what they are called, and what a click changes of them."""

from __future__ import annotations

import numpy as np
import pytest

from medsam.errors import InputError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.prompts.standing import Standing
from medsam.volume import LabelVolume

GRID = VolumeGeometry((3, 8, 10), np.diag([1, 1, 3, 1.0]))
MAP = np.zeros(GRID.shape, np.uint8)
MAP[:2, 1:5, 1:6] = 5
MAP[1, 5:7, 2:4] = 2
STANDING = Standing.of(LabelVolume(MAP, GRID, {5: "Liver", 2: "lesion"}), GRID, "k")


def test_a_label_is_found_in_any_spelling_and_the_default_means_the_only_one():
    assert [STANDING.called(label) for label in ("Liver", "LIVER", "object", "spleen")] == [
        "Liver",
        "Liver",
        "object",
        "spleen",
    ]
    assert Standing.of({"tumour": MAP == 5}, GRID).called("object") == "tumour"


def test_points_alone_are_a_correction_and_ids_stay():
    prompts = [
        # outside alone is enough where something stands
        Prompt("liver", slice=0, points=((2, 2, 0),)),
        Prompt("Liver", slice=1, box=(1, 1, 5, 5)),
        Prompt("spleen", slice=2, points=((2, 2, 1),)),
    ]
    todo = plan(prompts, GRID, "k", STANDING)
    assert todo.names == {2: "lesion", 5: "Liver", 6: "spleen"}
    ((first,), (second,), (third,)) = todo.slices.values()
    assert (first.label, first.standing, second.standing, third.standing) == (5, True, False, False)
    np.testing.assert_array_equal(first.mask, MAP[0] == 5)
    assert (second.box, second.mask) == ((1, 1, 5, 5), None)
    with pytest.raises(PromptError, match="no foreground point to go with it"):
        plan(Prompt("liver", slice=2, points=((2, 2, 0),)), GRID, "k", STANDING)


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (LabelVolume(MAP * 0, GRID, {}), PromptError, "are empty"),
        ({"a": MAP > 9}, PromptError, "are empty"),
        ({"a": MAP}, InputError, "is uint8 of shape"),
        ({"a": MAP[0] > 0}, InputError, r"is bool of shape \(8, 10\)"),
        (LabelVolume(MAP.astype(np.int32) * 20000, GRID, {}), InputError, "numbers from 1 to 65535"),
        (MAP, InputError, "are a LabelVolume, or masks by name"),
        (LabelVolume(MAP, VolumeGeometry(MAP.shape, np.eye(4)), {}), InputError, "on another grid"),
    ],
)
def test_what_is_no_start(labels, kind, message):
    with pytest.raises(kind, match=message):
        Standing.of(labels, GRID)


def test_values_without_a_name_go_by_their_number():
    assert Standing.of(LabelVolume(MAP, GRID, {5: "Liver"}), GRID).names == {2: "2", 5: "Liver"}


def test_numbers_of_one_name_are_one_structure():
    standing = Standing.of(LabelVolume(MAP, GRID, {5: "lesion", 2: "lesion"}), GRID)
    assert standing.names == {2: "lesion"}
    for index in (0, 1):
        np.testing.assert_array_equal(standing.at("lesion", index).to_array(), MAP[index] > 0)
