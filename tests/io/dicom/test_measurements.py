"""What presentation states and structured reports say was measured, as highdicom and as others write them."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
from drawn import change, grid, source
from measured import (
    COMPREHENSIVE,
    bidirectional,
    code,
    graphic,
    gsps,
    image_item,
    item,
    plain_report,
    planar,
    region,
    report,
    scoord,
)
from pydicom.sr.codedict import codes

from medsam.errors import InputError
from medsam.io.dicom.measurements.common import shape_of
from medsam.io.dicom.measurements.read import read_measurements

GRID = grid(shape=(4, 30, 40))
LENGTH, GROUP = ("SRT", "G-D7FE", "Length"), ("DCM", "125007", "Measurement Group")
LONG, SHORT = ("SRT", "G-A185", "Long Axis"), ("SRT", "G-A186", "Short Axis")
SQUARE = [(1, 2), (9, 2), (9, 8), (1, 8), (1, 2)]


@pytest.fixture(scope="module")
def images():
    return source(GRID)


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_measurements(path)
    message = str(caught.value)
    assert path.name in message
    assert not any(secret in message for secret in ("Secret", "4711", "12 mm"))
    return message


@pytest.mark.parametrize(
    ("stated", "numbers", "kind", "points"),
    [
        ("POINT", (3, 4), "points", [(3, 4)]),
        ("MULTIPOINT", (3, 4, 5, 6), "points", [(3, 4), (5, 6)]),
        ("POLYLINE", (0, 0, 4, 0), "line", [(0, 0), (4, 0)]),
        ("POLYLINE", (0, 0, 4, 0, 0, 0), "line", [(0, 0), (4, 0)]),
        ("POLYLINE", (0, 0, 4, 0, 4, 4), "open", [(0, 0), (4, 0), (4, 4)]),
        ("POLYLINE", (0, 0, 4, 0, 4, 4, 0, 0), "outline", [(0, 0), (4, 0), (4, 4)]),
        ("INTERPOLATED", (0, 0, 4, 0, 4, 4, 4, 4, 0, 0), "outline", [(0, 0), (4, 0), (4, 4)]),
        ("CIRCLE", (5, 5, 5, 9), "circle", [(5, 5), (5, 9)]),
        ("ELLIPSE", (0, 5, 10, 5, 5, 2, 5, 8), "ellipse", [(5, 5), (10, 5), (5, 8)]),
    ],
)
def test_graphic_types_and_what_they_are(stated, numbers, kind, points):
    found, placed = shape_of(stated, numbers, 2)
    assert found == kind
    np.testing.assert_allclose(placed, points)


@pytest.mark.parametrize(
    ("stated", "numbers"),
    [
        ("POINT", ()),
        ("POINT", (1,)),
        ("POINT", (1, float("nan"))),
        ("POINT", (1, 1e9)),
        ("POLYLINE", (3, 3, 3, 3)),
        ("CIRCLE", (5, 5)),
        ("CIRCLE", (5, 5, 5, 5)),
        ("ELLIPSE", (0, 5, 10, 5)),
        ("ELLIPSE", (0, 5, 10, 5, 5, 2, 5, 2)),
        ("SPIRAL", (1, 2)),
    ],
)
def test_coordinates_that_make_no_shape(stated, numbers):
    assert shape_of(stated, numbers, 2) is None


def test_graphics_of_a_presentation_state_keep_their_edges(tmp_path, images):
    circle = graphic("CIRCLE", [(10, 10), (14, 10)])
    drawn = [graphic("POLYLINE", [(10.5, 10), (20, 10)]), circle, graphic("POINT", [(0.5, 0.5)])]
    found = read_measurements(gsps(tmp_path / "a.dcm", [(images[2], drawn)], text="12 mm"))
    assert [[shape.kind for shape in one.shapes] for one in found.items] == [["line"], ["circle"], ["points"]]
    line = found.items[0].shapes[0]
    np.testing.assert_allclose(line.points, [(10.5, 10), (20, 10)])
    assert (line.image.uid, line.image.frames) == (images[2].SOPInstanceUID, ())
    assert {one.label for one in found.items} == {None}
    assert found.unused == ("1 text annotation says nothing of a place",)


def test_graphics_of_one_tracking_uid_are_one_thing_on_many_slices(tmp_path, images):
    uid = pydicom.uid.generate_uid()
    lines = [graphic("POLYLINE", SQUARE, tracking_id="Lesion 1", tracking_uid=uid) for _ in range(2)]
    (found,) = read_measurements(gsps(tmp_path / "a.dcm", [(images[0], lines[:1]), (images[3], lines[1:])])).items
    assert found.label == "Lesion 1"
    assert [shape.image.uid for shape in found.shapes] == [images[0].SOPInstanceUID, images[3].SOPInstanceUID]


@pytest.mark.parametrize(
    ("corners", "rotation", "expected"),
    [
        # the whole of 40 x 30 pixels
        (((1, 1), (40, 30)), 0, (10, 15)),
        # pixels 11 to 20 across, 6 to 15 down
        (((11, 6), (20, 15)), 0, (12.5, 10)),
        # mirrored: what is shown at the top left is the last column
        (((40, 1), (1, 30)), 0, (30, 15)),
        # turned by a quarter to the right: shown top left is stored bottom left; across runs up the rows
        (((1, 30), (40, 1)), 90, (20, 22.5)),
    ],
)
def test_fractions_of_the_displayed_area_become_pixels(tmp_path, images, corners, rotation, expected):
    path = gsps(tmp_path / "a.dcm", [(images[1], [graphic("POINT", [(0.25, 0.5)], units="DISPLAY")])])

    def edit(dataset):
        (area,) = dataset.DisplayedAreaSelectionSequence
        area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = map(list, corners)
        dataset.ImageRotation = rotation

    (found,) = read_measurements(change(path, edit)).items
    np.testing.assert_allclose(found.shapes[0].points, [expected])


def _compound(kind, points, **tags):
    found = pydicom.Dataset()
    found.CompoundGraphicType, found.CompoundGraphicUnits, found.CompoundGraphicInstanceID = kind, "PIXEL", 7
    found.GraphicDimensions, found.NumberOfGraphicPoints = 2, len(points)
    found.GraphicData = [float(v) for v in np.ravel(points)]
    for keyword, value in tags.items():
        setattr(found, keyword, value)
    return found


@pytest.mark.parametrize(
    ("kind", "points", "tags", "expected"),
    [
        ("RULER", [(1, 1), (9, 1)], {}, "line"),
        ("RECTANGLE", [(1, 1), (9, 5)], {}, "outline"),
        ("ELLIPSE", [(1, 3), (9, 3), (5, 1), (5, 5)], {}, "ellipse"),
        ("ELLIPSE", [(1, 1), (9, 5)], {}, None),
        ("RECTANGLE", [(1, 1), (9, 5)], {"RotationAngle": 30.0}, None),
        ("ARROW", [(1, 1), (9, 5)], {}, None),
    ],
)
def test_a_compound_graphic_is_taken_whole_and_not_with_its_ticks(tmp_path, images, kind, points, tags, expected):
    path = gsps(tmp_path / "a.dcm", [(images[1], [graphic("POLYLINE", [(1, 0), (1, 2)]), graphic("POINT", [(3, 3)])])])

    def edit(dataset):
        annotation = dataset.GraphicAnnotationSequence[0]
        annotation.GraphicObjectSequence[0].CompoundGraphicInstanceID = 7
        annotation.CompoundGraphicSequence = [_compound(kind, points, **tags)]

    found = read_measurements(change(path, edit))
    kinds = sorted(shape.kind for one in found.items for shape in one.shapes)
    assert kinds == sorted(["points", *([expected] if expected else [])])
    assert bool(found.unused) == (expected is None)


def test_a_graphic_that_is_shown_on_several_images_was_measured_on_none(tmp_path, images):
    path = gsps(tmp_path / "a.dcm", [(images[0], [graphic("POLYLINE", SQUARE)])])

    def everywhere(dataset):
        del dataset.GraphicAnnotationSequence[0].ReferencedImageSequence
        series = dataset.ReferencedSeriesSequence[0]
        again = pydicom.Dataset()
        again.ReferencedSOPClassUID, again.ReferencedSOPInstanceUID = images[1].SOPClassUID, images[1].SOPInstanceUID
        series.ReferencedImageSequence.append(again)

    assert "1 graphic is shown on several images" in refusal(change(path, everywhere))


def test_a_graphic_that_names_no_image_lies_on_the_only_one(tmp_path, images):
    path = gsps(tmp_path / "a.dcm", [(images[2], [graphic("POLYLINE", SQUARE)])])

    def unnamed(dataset):
        del dataset.GraphicAnnotationSequence[0].ReferencedImageSequence

    (found,) = read_measurements(change(path, unnamed)).items
    assert found.shapes[0].image.uid == images[2].SOPInstanceUID


def test_groups_of_a_measurement_report(tmp_path, images):
    uid = pydicom.uid.generate_uid()
    side = hd.sr.FindingSite(codes.SCT.Kidney, codes.SCT.Left)
    groups = [
        planar(region(images[2], "POLYLINE", SQUARE), "Lesion 1", uid, site=codes.SCT.Liver),
        bidirectional(images[1], [(10, 10), (20, 10)], [(15, 6), (15, 14)], "L2"),
        planar(region(images[3], "CIRCLE", [(5, 5), (5, 9)]), "3", site=side),
        planar(region(images[3], "POLYLINE", SQUARE), "Lesion 1", uid, site=codes.SCT.Liver),
    ]
    first, second, third = read_measurements(report(tmp_path / "a.dcm", images, groups)).items
    assert [one.label for one in (first, second, third)] == ["Lesion 1", "L2", "kidney_lesion_left 3"]
    assert [shape.image.uid for shape in first.shapes] == [images[2].SOPInstanceUID, images[3].SOPInstanceUID]
    assert [(shape.kind, shape.axis) for shape in second.shapes] == [("line", "long"), ("line", "short")]


def test_a_region_in_space_keeps_its_millimetres(tmp_path, images):
    points = GRID.to_mm([(1, 1, 2), (9, 1, 2), (9, 8, 2), (1, 1, 2)])
    space = hd.sr.ImageRegion3D("POLYGON", points, frame_of_reference_uid=images[0].FrameOfReferenceUID)
    (found,) = read_measurements(report(tmp_path / "a.dcm", images, [planar(space, site=codes.SCT.Liver)])).items
    (shape,) = found.shapes
    assert (found.label, shape.kind, shape.image) == ("liver_lesion", "outline", None)
    assert shape.frame_of_reference == images[0].FrameOfReferenceUID
    np.testing.assert_allclose(shape.points, points[:3], atol=1e-4)


def test_an_old_tree_without_groups_is_read_number_by_number(tmp_path, images):
    numbers = [
        item("NUM", LENGTH, scoord("POLYLINE", [10, 10, 20, 10], image_item(images[3]))),
        item("NUM", LENGTH, scoord("POLYLINE", [1, 1, 5, 5], image_item(images[0]))),
        item("TEXT", ("DCM", "121106", "Comment"), TextValue="Secret 12 mm"),
    ]
    first, second = read_measurements(plain_report(tmp_path / "a.dcm", *numbers)).items
    assert (first.label, second.label) == (None, None)
    assert first.shapes[0].image.uid == images[3].SOPInstanceUID


def test_both_axes_below_one_container_are_one_thing(tmp_path, images):
    axes = [
        item("NUM", name, scoord("POLYLINE", line, image_item(images[1])))
        for name, line in ((LONG, [10, 10, 20, 10]), (SHORT, [15, 6, 15, 14]))
    ]
    site = item("CODE", ("SRT", "G-C0E3", "Finding Site"), ConceptCodeSequence=[code("SRT", "T-62000", "Liver")])
    lesion = item("CONTAINER", ("99TEST", "1", "Target"), site, *axes)
    (found,) = read_measurements(plain_report(tmp_path / "a.dcm", lesion, sop_class=COMPREHENSIVE)).items
    assert found.label == "liver"
    assert [shape.axis for shape in found.shapes] == ["long", "short"]


def test_an_image_is_found_by_reference_and_beside_the_coordinates(tmp_path, images):
    library = item("CONTAINER", ("DCM", "111028", "Image Library"), image_item(images[2], relation="CONTAINS"))
    pointer = pydicom.Dataset()
    pointer.RelationshipType, pointer.ReferencedContentItemIdentifier = "SELECTED FROM", [1, 1, 1]
    referred = item("CONTAINER", GROUP, item("NUM", LENGTH, scoord("POLYLINE", [1, 1, 5, 5], pointer)))
    beside = item("CONTAINER", GROUP, image_item(images[1]), item("NUM", LENGTH, scoord("POLYLINE", [1, 1, 5, 5])))
    path = plain_report(tmp_path / "a.dcm", library, referred, beside, sop_class=COMPREHENSIVE)
    first, second = read_measurements(path).items
    assert first.shapes[0].image.uid == images[2].SOPInstanceUID
    assert second.shapes[0].image.uid == images[1].SOPInstanceUID


@pytest.mark.parametrize("name", ["Cornerstone3DTools@^0.1.0:Length", "a\x07b", "x" * 65, " "])
def test_the_name_of_a_tool_and_what_is_no_name_are_no_label(tmp_path, images, name):
    tracked = item("TEXT", ("DCM", "112039", "Tracking Identifier"), TextValue=name)
    words = item("CODE", ("DCM", "121071", "Finding"), ConceptCodeSequence=[code("CORNERSTONEJS", "FREE", "Secret")])
    group = item(
        "CONTAINER", GROUP, tracked, words, item("NUM", LENGTH, scoord("POINT", [1, 1], image_item(images[1])))
    )
    (found,) = read_measurements(plain_report(tmp_path / "a.dcm", group)).items
    assert found.label is None


def test_one_report_of_frames_is_on_each_of_them(tmp_path, images):
    several = image_item(images[1])
    several.ReferencedSOPSequence[0].ReferencedFrameNumber = [2, 3]
    (found,) = read_measurements(
        plain_report(tmp_path / "a.dcm", item("NUM", LENGTH, scoord("POLYLINE", [1, 1, 5, 5], several)))
    ).items
    assert [shape.image.frames for shape in found.shapes] == [(2,), (3,)]


def test_files_without_a_place_are_refused_and_say_what_they_hold(tmp_path, images):
    empty = plain_report(tmp_path / "empty.dcm", item("TEXT", None, TextValue="Secret"))
    assert "no graphic, and no item with spatial coordinates" in refusal(empty)
    segment = image_item(images[0])
    segment.ReferencedSOPSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    assert "1 segment of a DICOM SEG is referred to: pass that file itself" in refusal(
        plain_report(tmp_path / "seg.dcm", item("CONTAINER", GROUP, segment))
    )
    nowhere = plain_report(tmp_path / "nowhere.dcm", item("NUM", LENGTH, scoord("POINT", [1, 1])))
    assert "1 item does not say on which image it lies" in refusal(nowhere)
    keys = plain_report(tmp_path / "ko.dcm", sop_class="1.2.840.10008.5.1.4.1.1.88.59")
    assert "is a key object selection" in refusal(keys)
    other = plain_report(tmp_path / "plan.dcm", sop_class="1.2.840.10008.5.1.4.1.1.481.5")
    assert "plan.dcm (RT Plan Storage) holds no prompts" in refusal(other)


def test_a_damaged_report_is_our_error(tmp_path, images):
    path = report(tmp_path / "a.dcm", images, [planar(region(images[2], "POLYLINE", SQUARE), "Lesion 1")])
    whole = path.read_bytes()
    for size in range(200, len(whole), 997):
        path.write_bytes(whole[:size])
        said = ""
        try:
            read_measurements(path)
        except InputError as error:
            said = str(error)
        assert "Secret" not in said
