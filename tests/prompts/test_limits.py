"""What masks keep to: a range of values, an editable region, locked labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from phantoms import drawn

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.masks import CompactMask
from medsam.prompts.limits import Limits
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import Scribble
from medsam.volume import Volume

SHAPE = (2, 4, 6)
SCAN = Volume(np.arange(48, dtype=np.float32).reshape(SHAPE), VolumeGeometry(SHAPE, np.eye(4)))
PLANE = SCAN.geometry.plane("k")
ALL = np.ones((4, 6), bool)


@pytest.mark.parametrize(
    ("values", "kept"),
    [((30, 35), range(30, 36)), ((None, 26), range(24, 27)), ((46, np.inf), range(46, 48)), ((3.5, 3.6), ())],
)
def test_a_range_of_values_has_both_its_ends(values, kept):
    mask = Limits(values).on_slice(SCAN, PLANE, 1).applied(ALL, "a")
    assert SCAN.array[1][mask].tolist() == list(kept)


def test_what_is_no_number_is_in_no_range():
    array = np.full(SHAPE, np.nan, np.float32)
    array[1, 2, 3] = 5
    scan = Volume(array, SCAN.geometry)
    mask = Limits((0, None)).on_slice(scan, PLANE, 1).applied(ALL, "a")
    np.testing.assert_array_equal(mask, drawn((2, 3), shape=(4, 6)))


masks = arrays(bool, (4, 6))


@settings(max_examples=50, deadline=None)
@given(masks, masks, masks, masks, masks)
def test_limits_hold_and_nothing_changes_outside_of_the_editable_region(mask, before, editable, spared, locked):
    limits = Limits((26, 44), np.stack([~editable, editable]), ("other",), np.stack([spared, spared]))
    there = {"other": CompactMask.of(locked), "free": CompactMask.of(~locked)}
    here = limits.on_slice(SCAN, PLANE, 1, there)
    for standing in (False, True):
        prompt = SlicePrompt(1, mask=before, standing=standing)
        found = here.applied(mask, "a", CompactMask.of(before), prompt)
        np.testing.assert_array_equal(found[~editable], before[~editable])
        added = found & editable & ~(before if standing else np.zeros_like(before))
        assert not (added & (spared | locked)).any()
        assert ((SCAN.array[1][added] >= 26) & (SCAN.array[1][added] <= 44)).all()
        # and no more is taken away
        inside = (SCAN.array[1] >= 26) & (SCAN.array[1] <= 44) & editable & ~spared & ~locked
        np.testing.assert_array_equal(found[inside], mask[inside])
        if standing:
            np.testing.assert_array_equal(found[editable & before], mask[editable & before])
    np.testing.assert_array_equal(
        here.applied(mask, "other", CompactMask.of(mask))[editable & ~spared], (mask & here.within)[editable & ~spared]
    )


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            SlicePrompt(1, points=((0, 0, 1),)),
            r"The point 0,0 for 'a' on slice 1 lies where the scan has 24, outside of",
        ),
        (SlicePrompt(1, points=((5, 3, 1),)), "lies outside of the `editable` region"),
        (SlicePrompt(1, points=((2, 1, 1),)), "lies in 'Left Kidney', which is `locked`"),
        (SlicePrompt(1, points=((3, 1, 1),)), "lies in a structure, which is `locked`"),
        (SlicePrompt(1, scribbles=(Scribble([(0, 0), (1, 0)]),)), "All of a scribble for 'a' .* has 24"),
    ],
)
def test_a_click_where_nothing_may_change_is_told_why(prompt, message):
    editable = np.ones(SHAPE, bool)
    editable[1, 3] = False
    limits = Limits((26, None), editable, "left kidney", np.stack([drawn((1, 3), shape=(4, 6))] * 2))
    here = limits.on_slice(SCAN, PLANE, 1, {"Left Kidney": CompactMask.of(drawn((1, 2), shape=(4, 6)))})
    with pytest.raises(PromptError, match=message):
        here.check(prompt, "a", stands=False)
    # outside is nothing that could be had
    here.check(
        SlicePrompt(1, points=((0, 0, 0), (4, 1, 1)), scribbles=(Scribble([(0, 0), (5, 0)]),)), "a", stands=False
    )
    with pytest.raises(PromptError, match="'LEFT-kidney' is locked .* would change it"):
        here.check(SlicePrompt(1, box=(0, 0, 2, 2)), "LEFT-kidney", stands=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"values": (5, 3)}, "from 5 to 3 holds nothing"),
        ({"values": (None, None)}, "one of them None"),
        ({"values": (1, 2, 3)}, r"is a range \(low, high\)"),
        ({"values": ("a", 3)}, r"is a range \(low, high\)"),
        ({"values": 3}, r"is a range \(low, high\)"),
        ({"values": (float("nan"), 3)}, r"is a range \(low, high\)"),
        ({"editable": np.full(SHAPE, 3)}, "The mask `editable` is bool"),
        ({"spared": np.ones(3, bool)}, "The mask `spared` is bool"),
        ({"values": ([1, 2], 3)}, r"is a range \(low, high\)"),
        ({"values": (np.array([1, 2]), 3)}, r"is a range \(low, high\)"),
        ({"editable": [[1], [1, 2]]}, "The mask `editable` is bool"),
        ({"locked": (" ",)}, "names of labels"),
        ({"locked": 5}, "names of labels"),
        ({"locked": None}, "names of labels"),
    ],
)
def test_limits_that_mean_nothing_are_told(wrong, message):
    with pytest.raises(PromptError, match=message):
        Limits(**wrong)


def test_limits_that_do_not_fit_the_scan_are_told():
    with pytest.raises(PromptError, match=r"`editable` has shape \(1, 4, 6\); the scan has the shape \(2, 4, 6\)"):
        Limits(editable=ALL).check(SCAN)
    with pytest.raises(PromptError, match="There is no 'spleen' to be locked .* labels are 'Liver', 'a'"):
        Limits(locked=("liver", "spleen")).check(SCAN, ["Liver", "a"])
    colour = Volume(np.zeros((1, 4, 6, 3), np.uint8), VolumeGeometry.uncalibrated((1, 4, 6)))
    with pytest.raises(PromptError, match="this scan is in colour"):
        Limits((0, 3)).check(colour)
    Limits(editable=ALL).check(colour)


def test_limits_compare_go_into_json_and_back_and_say_what_they_are():
    limits = Limits((-100, None), np.stack([ALL, ~ALL]), ("liver",), np.stack([ALL, ALL]))
    again = Limits.from_dict(json.loads(json.dumps(limits.to_dict())), SHAPE)
    assert again == limits
    assert again != Limits((-100, None), locked=("liver",))
    assert Limits.from_dict({}, SHAPE) == Limits()
    assert str(limits) == "to values from -100 and to the editable region and off 'liver' and off the locked structures"
    assert str(Limits((2, 3))) == "to values from 2 to 3"


def test_a_stroke_in_mm_is_as_wide_as_in_the_patient_where_it_is_forbidden():
    fine = Volume(SCAN.array, VolumeGeometry(SHAPE, np.diag([0.5, 0.5, 1, 1.0])))
    here = Limits((28, 28)).on_slice(fine, fine.geometry.plane("k"), 1)
    # two pixels to each side, of which one is allowed
    here.check(SlicePrompt(1, scribbles=(Scribble([(2, 0)], width_mm=2),)), "a", stands=False)
    with pytest.raises(PromptError, match="All of a scribble"):
        here.check(SlicePrompt(1, scribbles=(Scribble([(2, 0)], width_mm=1),)), "a", stands=False)
