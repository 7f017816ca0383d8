"""Drawings in a presentation state (GSPS and its kin) -> measurements.

A presentation state says how images are shown, and what was drawn on them: lines, ellipses, arrows, words. Graphics of
one tracking UID or of one group are one measurement, else each is one of its own. What they show is said in a tracking
identifier, or in words alone, which are not read.
A compound graphic (a ruler, a rectangle) is written twice, whole and as simple ones for who does not know it; it is
taken whole where it encloses or spans something, and its simple ones, ticks of a ruler among them, are left out.

Source: DICOM PS3.3 C.10.4 (displayed area), C.10.5 (graphic annotation), C.10.12 (compound graphics), C.11.11 (what a
presentation state is of).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset

from medsam.errors import InputError
from medsam.io.dicom.measurements.common import (
    ImageReference,
    Kind,
    Measurement,
    Measurements,
    Shape,
    Unused,
    presentable,
    shape_of,
)
from medsam.io.dicom.tags import numbers, sequence_items, text, whole_number

PRESENTATION_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.11.1": "Grayscale Softcopy Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.11.2": "Color Softcopy Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.11.3": "Pseudo-Color Softcopy Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.11.4": "Blending Softcopy Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.11.5": "XA/XRF Grayscale Softcopy Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.11.8": "Advanced Blending Presentation State Storage",
}

_CORNERS = ("TopLeftHandCorner", "BottomRightHandCorner")
# compound graphics that span, or enclose, something
_LINES = ("RULER", "RANGELINE", "MULTILINE")
_COMPOUND = (*_LINES, "RECTANGLE", "ELLIPSE")


def read_presentation(dataset: Dataset, name: str) -> Measurements:
    """The graphics of a presentation state. name: the file's, for messages. Raises InputError for a damaged one."""
    unused = Unused()
    grouped: dict[object, list[Shape]] = {}
    labels: dict[object, str | None] = {}
    everything = _all_images(dataset, name)
    for number, annotation in enumerate(sequence_items(dataset, "GraphicAnnotationSequence", name)):
        images = [_reference(item) for item in sequence_items(annotation, "ReferencedImageSequence", name)]
        images = [image for image in images if image.uid] or everything
        words = len(sequence_items(annotation, "TextObjectSequence", name))
        if words:
            unused.add("text annotation says nothing of a place", "text annotations say nothing of a place", words)
        drawn = list(_graphics(annotation, images, dataset, name, unused))
        if drawn and len(images) != 1:
            unused.add(
                "graphic is shown on several images, or on none, and so was measured on none",
                "graphics are shown on several images, or on none, and so were measured on none",
                len(drawn),
            )
            continue
        for at, (item, shape) in enumerate(drawn):
            group, tracked = whole_number(item, "GraphicGroupID"), text(item, "TrackingUID")
            key: object = ("group", group) if group else (number, at)
            if tracked:
                key = tracked
            elif shape.kind == "line" and not group:
                # two lines of one annotation may cross, and be two axes of one thing: who places them looks
                key = ("lines", number)
            labels[key] = labels.get(key) or presentable(text(item, "TrackingID"))
            grouped.setdefault(key, []).append(shape)
    items = tuple(Measurement(labels[key], tuple(shapes)) for key, shapes in grouped.items())
    return Measurements(items, tuple(unused.sentences()))


def _all_images(dataset: Dataset, name: str) -> list[ImageReference]:
    """Every image that the presentation state is of."""
    found = []
    for series in sequence_items(dataset, "ReferencedSeriesSequence", name):
        found += [_reference(item) for item in sequence_items(series, "ReferencedImageSequence", name)]
    return [image for image in found if image.uid]


def _reference(item: Dataset) -> ImageReference:
    return ImageReference(text(item, "ReferencedSOPInstanceUID") or "", frames_of_reference(item))


def frames_of_reference(item: Dataset) -> tuple[int, ...]:
    """(0008,1160) Referenced Frame Number: 1-based; () where it is not there, or unreadable."""
    try:
        found = numbers(item, "ReferencedFrameNumber", "")
    except InputError:
        return ()
    return tuple(int(number) for number in found or ())


def _graphics(
    annotation: Dataset, images: Sequence[ImageReference], dataset: Dataset, name: str, unused: Unused
) -> Iterator[tuple[Dataset, Shape]]:
    """The shapes of one annotation, each with its item."""
    image = images[0] if len(images) == 1 else None
    compounds = sequence_items(annotation, "CompoundGraphicSequence", name)
    whole = {whole_number(item, "CompoundGraphicInstanceID") for item in compounds} - {None}
    for item in sequence_items(annotation, "GraphicObjectSequence", name):
        # else a part of a compound one
        if whole_number(item, "CompoundGraphicInstanceID") not in whole:
            points = _in_pixels(item, text(item, "GraphicAnnotationUnits"), image, dataset, name)
            filled = text(item, "GraphicFilled") == "Y"
            stated = text(item, "GraphicType") or ""
            found = None if points is None else shape_of(stated, points.ravel().tolist(), 2, filled=filled)
            yield from _counted(item, found, image, unused)
    for item in compounds:
        compound = text(item, "CompoundGraphicType")
        if compound not in _COMPOUND:
            unused.add("axis, arrow or cut line measures nothing", "axes, arrows and cut lines measure nothing")
            continue
        points = _in_pixels(item, text(item, "CompoundGraphicUnits"), image, dataset, name)
        found = None if points is None else _compound(compound, points, item, name)
        yield from _counted(item, found, image, unused)


def _counted(
    item: Dataset, found: tuple[Kind, np.ndarray] | None, image: ImageReference | None, unused: Unused
) -> Iterator[tuple[Dataset, Shape]]:
    if found is None:
        unused.add("graphic has coordinates that make no shape", "graphics have coordinates that make no shape")
    else:
        yield item, Shape(*found, image=image)


def _in_pixels(
    item: Dataset, units: str | None, image: ImageReference | None, dataset: Dataset, name: str
) -> np.ndarray | None:
    """(0070,0022) Graphic Data as (N, 2) edges of pixels; None where its units mean no pixels of the image."""
    values = numbers(item, "GraphicData", name)
    if not values or len(values) % 2 or whole_number(item, "GraphicDimensions") not in (2, None):
        return None
    points = np.reshape(values, (-1, 2))
    if units in ("PIXEL", None):
        return points
    area = _displayed_area(dataset, image, name) if units == "DISPLAY" else None
    return None if area is None else area.to_pixels(points)


class _DisplayedArea:
    """The part of an image that is shown, and how it is turned. corners: ((column, row) of the pixels shown at the top
    left and at the bottom right), 1-based, of the stored image. turned: by a quarter.
    """

    def __init__(self, corners: np.ndarray, turned: bool) -> None:
        self.corners, self.turned = corners, turned

    def to_pixels(self, fractions: np.ndarray) -> np.ndarray:
        """(N, 2) fractions of the shown area, across and down -> edges of stored pixels."""
        first, last = self.corners
        # from the outer edge of one corner's pixel to that of the other's; backwards where it is shown mirrored
        start, end = np.where(last >= first, (first - 1, last), (first, last - 1))
        return start + (fractions[:, ::-1] if self.turned else fractions) * (end - start)


def _displayed_area(dataset: Dataset, image: ImageReference | None, name: str) -> _DisplayedArea | None:
    """What is shown of an image (PS3.3 C.10.4, C.10.6)."""
    for item in sequence_items(dataset, "DisplayedAreaSelectionSequence", name):
        images = [_reference(one).uid for one in sequence_items(item, "ReferencedImageSequence", name)]
        corners = [numbers(item, f"DisplayedArea{end}", name, 2) for end in _CORNERS]
        if (not images or (image is not None and image.uid in images)) and all(corners):
            turned = (whole_number(dataset, "ImageRotation") or 0) % 180 == 90
            return _DisplayedArea(np.array(corners), turned)
    return None


def _compound(compound: str, points: np.ndarray, item: Dataset, name: str) -> tuple[Kind, np.ndarray] | None:
    """A ruler or lines; an ellipse by the ends of its axes; a rectangle by its corners, or by two if upright."""
    if compound in _LINES:
        return shape_of("POLYLINE", points.ravel().tolist(), 2)
    if compound == "ELLIPSE" or len(points) == 4:
        return shape_of("POLYGON" if compound == "RECTANGLE" else compound, points.ravel().tolist(), 2)
    angle = numbers(item, "RotationAngle", name) or (0.0,)
    if angle[0] % 180 or len(points) != 2 or not (np.abs(points[1] - points[0]) > 0).all():
        return None
    (x0, y0), (x1, y1) = points.tolist()
    return shape_of("POLYGON", (x0, y0, x1, y0, x1, y1, x0, y1), 2)
