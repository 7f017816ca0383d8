"""Measurements placed on a scan: which slice, which box, which clicks, and what cannot be used."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.measurements.common import ImageReference, Measurement, Measurements, Shape
from medsam.prompts.measurements import Placed, area_box, measured_prompts, pairs
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt
from medsam.prompts.shapes import axes_box, line_box

GRID = VolumeGeometry((4, 30, 40), np.diag([1.0, 1.0, 3.0, 1.0]))
INSTANCES = {(f"1.2.{k}", None): k for k in range(4)}
ONE_MM = np.ones(2)
PLATE = np.zeros((30, 40), bool)
PLATE[2:8, 1:9] = True


def on(k, kind, points, **more):
    return Shape(kind, np.array(points, dtype=float), ImageReference(f"1.2.{k}"), **more)


def in_mm(kind, voxels, **more):
    """A shape in space, by voxel indices (i, j, k)."""
    return Shape(kind, GRID.to_mm(np.array(voxels, dtype=float)), **more)


def placed(*items, unused=(), **more):
    found = Measurements(tuple(Measurement(label, tuple(shapes)) for label, *shapes in items), unused)
    return measured_prompts(found, GRID, INSTANCES, **more)


def refusal(*items, **more) -> str:
    with pytest.raises(PromptError) as caught:
        placed(*items, file="m.dcm", **more)
    assert "m.dcm" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "prompt"),
    [
        # pixels 1 to 8 across and 2 to 7 down
        (on(2, "outline", [(1, 2), (9, 2), (9, 8), (1, 8)]), Prompt("a", mask=PLATE, slice=2)),
        # a whole voxel index is the centre of a pixel, not its border
        (
            in_mm("outline", [(0.5, 1.5, 1), (8.5, 1.5, 1), (8.5, 7.5, 1.3), (0.5, 7.5, 1)]),
            Prompt("a", mask=PLATE, slice=1),
        ),
        (on(0, "circle", [(10, 10), (10, 14)]), Prompt("a", box=(6, 6, 14, 14), slice=0)),
        (on(3, "ellipse", [(10, 10), (18, 10), (10, 14)]), Prompt("a", box=(2, 6, 18, 14), slice=3)),
        # the centre of the first pixel is at 0.5, 0.5 of its edges, and is pixel 0, 0
        (on(1, "points", [(0.5, 0.5), (7, 8)]), Prompt("a", slice=1, points=((0, 0, 1), (6.5, 7.5, 1)))),
        (in_mm("points", [(3, 4, 2)]), Prompt("a", slice=2, points=((3, 4, 1),))),
        (in_mm("circle", [(10, 10, 1), (14, 10, 1)]), Prompt("a", box=(6.5, 6.5, 14.5, 14.5), slice=1)),
    ],
)
def test_a_shape_becomes_a_prompt_on_its_slice(shape, prompt):
    (found,), axis = placed(("a", shape))
    assert axis == "k"
    assert (found.label, found.slice) == (prompt.label, prompt.slice)
    assert found.box == pytest.approx(prompt.box) if prompt.box else found.box is None
    np.testing.assert_allclose(found.points, prompt.points)
    np.testing.assert_array_equal(found.mask, prompt.mask)


def test_a_bidirectional_measurement_is_one_box_of_both_axes():
    long, short = on(1, "line", [(10, 10), (20, 10)], axis="long"), on(1, "line", [(15, 6), (15, 14)], axis="short")
    ((found,), _) = placed(("a", long, short))
    assert found == Prompt("a", lines=(((9.5, 9.5), (19.5, 9.5)), ((14.5, 5.5), (14.5, 13.5))), slice=1)
    assert plan(found, GRID).slices[1][0].box == (10, 6, 20, 14)


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        ([(15, 6), (15, 14)], ["measurement"]),
        # beside it
        ([(25, 6), (25, 14)], ["measurement 1", "measurement 2"]),
        # across it, but along it nearly
        ([(10, 8), (20, 12)], ["measurement 1", "measurement 2"]),
    ],
)
def test_two_lines_of_an_annotation_are_axes_where_they_cross_at_a_right_angle(other, labels):
    prompts, _ = placed((None, on(1, "line", [(10, 10), (20, 10)]), on(1, "line", other)))
    assert [one.label for one in prompts] == labels


def test_right_angles_are_those_in_millimetres():
    flat = np.array([1.0, 0.2])
    along, across = Placed("line", np.array([(0, 0), (10, 10.0)])), Placed("line", np.array([(5.2, 0), (4.8, 10.0)]))
    assert len(pairs([along, across], ONE_MM)) == 2
    assert len(pairs([along, across], flat)) == 1


@given(
    st.floats(-5, 45), st.floats(-5, 35), st.floats(3, 30), st.floats(0, math.pi), st.floats(0.3, 3), st.floats(0.3, 3)
)
def test_the_box_of_a_line_holds_the_line_and_is_square_in_mm(x, y, length, angle, dx, dy):
    spacing = np.array([dx, dy])
    half = np.array([math.cos(angle), math.sin(angle)]) * length / 2 / spacing
    middle = np.array([x, y])
    line = np.stack([middle - half, middle + half])
    x0, y0, x1, y1 = line_box(line, spacing)
    assert ((line >= (x0 - 1e-6, y0 - 1e-6)) & (line <= (x1 + 1e-6, y1 + 1e-6))).all()
    assert (x1 - x0) * dx == pytest.approx((y1 - y0) * dy)


@given(st.floats(0, math.pi), st.floats(2, 20), st.floats(0.2, 1))
def test_the_box_of_axes_is_that_of_their_ellipse(angle, long, ratio):
    way = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-way[1], way[0]])
    box = axes_box(np.array([-way, way]) * long, np.array([-across, across]) * long * ratio)
    turns = np.linspace(0, 2 * math.pi, 720)
    outline = (np.outer(np.cos(turns), way) + np.outer(np.sin(turns), across * ratio)) * long
    assert box == pytest.approx((*outline.min(axis=0), *outline.max(axis=0)), abs=long * 1e-3)


def test_a_circle_is_round_in_millimetres():
    box = area_box(Placed("circle", np.array([(10, 10), (14, 10.0)])), np.array([1.0, 2.0]))
    assert box == pytest.approx((6, 8, 14, 12))


def test_an_ellipsoid_is_a_box_through_the_volume():
    ends = [(10, 10, 1.5), (16, 10, 1.5), (10, 14, 1.5), (10, 10, 2.5)]
    ((found,), _) = placed(("a", in_mm("ellipsoid", ends)))
    assert found.box3d == pytest.approx((4.5, 6.5, 1, 16.5, 14.5, 3))


def test_what_one_object_has_on_several_slices_stays_one_and_equal_names_are_told_apart():
    square = [(1, 2), (9, 2), (9, 8)]
    prompts, _ = placed(("a", on(2, "outline", square), on(1, "outline", square)), ("b", on(0, "outline", square)))
    assert [(one.label, one.slice) for one in prompts] == [("a", 1), ("a", 2), ("b", 0)]
    prompts, _ = placed(("a", on(2, "outline", square)), ("a", on(1, "outline", square)))
    assert [one.label for one in prompts] == ["a 1", "a 2"]


def test_a_click_goes_with_what_was_drawn_round_it():
    outline, circle = on(1, "outline", [(1, 2), (9, 2), (9, 8), (1, 8)]), on(1, "circle", [(5, 5), (5, 9)])
    for drawn, fields in ((outline, {"mask": PLATE}), (circle, {"box": (1, 1, 9, 9)})):
        prompts, _ = placed(("a", drawn, on(1, "points", [(5.5, 4.5)])))
        assert prompts == [Prompt("a", slice=1, points=((5, 4, 1),), **fields)]


def test_lines_within_an_outline_add_nothing():
    line = on(1, "line", [(1, 2), (9, 8)])
    prompts, _ = placed(("a", on(1, "outline", [(1, 2), (9, 2), (9, 8), (1, 8)]), line))
    assert prompts == [Prompt("a", mask=PLATE, slice=1)]
    prompts, _ = placed(("a", on(1, "circle", [(5, 5), (5, 9)]), line))
    assert prompts == [Prompt("a", box=(1, 1, 9, 9), slice=1)]


def test_an_outline_in_another_is_a_hole_and_one_round_no_pixel_is_a_box():
    outer, hole = [(1, 2), (9, 2), (9, 8), (1, 8)], [(3, 4), (6, 4), (6, 6), (3, 6)]
    ((found,), _) = placed(("a", on(1, "outline", outer), on(1, "outline", hole)))
    expected = PLATE.copy()
    expected[4:6, 3:6] = False
    np.testing.assert_array_equal(found.mask, expected)
    ((found,), _) = placed(("a", on(1, "outline", [(1.6, 2.6), (2.4, 2.6), (2.4, 3.4)])))
    assert found.box == pytest.approx((1.5, 2.5, 2.5, 3.5))


def test_a_frame_is_found_by_its_number():
    one = Shape("line", np.array([(1, 1), (9, 1.0)]), ImageReference("1.5", (2,)))
    found = Measurements((Measurement("a", (one,)),))
    (prompt,), _ = measured_prompts(found, GRID, {("1.5", n): k for k, n in enumerate((4, 3, 2, 1))})
    assert prompt.slice == 2


def test_a_file_of_frames_of_which_none_is_named_has_no_place():
    whole, several = (Shape("line", np.array([(1, 1), (9, 1.0)]), ImageReference("1.5", n)) for n in ((), (1, 2)))
    for shape in (whole, several):
        found = Measurements((Measurement("a", (shape,)),))
        with pytest.raises(PromptError, match="1 shape does not say on which frame it lies"):
            measured_prompts(found, GRID, {("1.5", n): n for n in range(1, 4)})
    # a file of one frame may or may not count it
    assert measured_prompts(Measurements((Measurement("a", (several,)),)), GRID, {("1.5", None): 3})[0][0].slice == 3


def test_a_shape_that_is_drawn_again_for_each_number_counts_once():
    circle, line = on(1, "circle", [(5, 5), (5, 9)]), on(1, "line", [(1, 2), (9, 2)], axis="long")
    prompts, _ = placed(("a", circle, circle, circle))
    assert prompts == [Prompt("a", box=(1, 1, 9, 9), slice=1)]
    prompts, _ = placed(("a", line, on(1, "line", [(5, 0), (5, 4)], axis="short"), line))
    assert [one.lines for one in prompts] == [(((0.5, 1.5), (8.5, 1.5)), ((4.5, -0.5), (4.5, 3.5)))]


def test_lines_that_nobody_can_draw_on_the_slice_are_their_box():
    beyond, point = on(1, "line", [(30, 10), (44, 10)]), on(1, "line", [(5, 5), (5, 5)])
    prompts, _ = placed(("a", beyond), ("b", point))
    assert [(one.lines, one.box) for one in prompts] == [((), (30, 3, 40, 17)), ((), (4.5, 4.5, 5.5, 5.5))]


def test_what_was_measured_on_another_plane_of_the_patient_gives_that_axis():
    coronal = in_mm("outline", [(0.5, 5, -0.4), (8.5, 5, -0.4), (8.5, 5, 3.4), (0.5, 5, 3.4)])
    (found,), axis = placed(("a", coronal))
    assert axis == "j"
    assert found.slice == 5
    np.testing.assert_array_equal(np.argwhere(found.mask.any(axis=0)).ravel(), np.arange(1, 9))
    assert "1 shape lies across another axis" in refusal(("a", coronal), axis="k")


def test_what_cannot_be_used_is_said():
    notes: list[str] = []
    prompts, _ = placed(
        ("a", on(1, "outline", [(1, 2), (9, 2), (9, 8)])),
        ("b", on(9, "outline", [(1, 2), (9, 2), (9, 8)])),
        ("c", on(1, "open", [(1, 2), (9, 2), (9, 8)])),
        ("d", on(1, "outline", [(50, 2), (60, 2), (60, 8)])),
        ("e", on(1, "points", [(50, 2)])),
        ("f", in_mm("points", [(3, 4, 9)])),
        ("g", in_mm("points", [(3, 4, 1)], frame_of_reference="1.9")),
        unused=("2 text annotations say nothing of a place",),
        frame_of_reference="1.8",
        file="m.dcm",
        notes=notes,
    )
    assert [one.label for one in prompts] == ["a"]
    (note,) = notes
    assert note.startswith("m.dcm, left out: 2 text annotations say nothing of a place; ")
    for reason in (
        "1 shape lies on an image that is not in the scan",
        "1 open line or angle encloses nothing",
        "1 shape lies beyond its image",
        "1 point lies beyond its image",
        "1 shape lies beyond the scan",
        "1 shape lies in another frame of reference",
    ):
        assert reason in note


def test_a_measurement_of_other_images_names_the_tag_and_how_many():
    shapes = [on(k, "outline", [(1, 2), (9, 2), (9, 8)]) for k in (8, 9)]
    assert "2 of the 2 images that it names by (0008,1155)" in refusal(("a", *shapes))
    found = Measurements((Measurement("a", tuple(shapes)),))
    with pytest.raises(PromptError, match="this scan is no DICOM series"):
        measured_prompts(found, GRID, None)


def test_shapes_in_mm_need_no_dicom_scan_but_millimetres():
    found = Measurements((Measurement("a", (in_mm("circle", [(10, 10, 1), (14, 10, 1)], frame_of_reference="1.9"),)),))
    (prompt,), _ = measured_prompts(found, GRID, None)
    assert prompt.slice == 1
    with pytest.raises(PromptError, match="1 shape lies in millimetres, and the scan has none"):
        measured_prompts(found, VolumeGeometry.uncalibrated(GRID.shape), None)


def test_a_box_that_reaches_beyond_its_image_ends_there_and_is_a_pixel_at_least():
    prompts, _ = placed(
        ("a", on(1, "ellipse", [(2, 41), (9, 41), (2, 80)])), ("b", on(1, "circle", [(5, 5), (5.1, 5)]))
    )
    assert prompts[0].box == pytest.approx((0, 2, 9, 30))
    assert prompts[1].box == pytest.approx((4.5, 4.5, 5.5, 5.5))
