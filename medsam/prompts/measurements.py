"""Measurements of a PACS as prompts: what a radiologist drew on a slice becomes a rough mask, a box, or clicks.

    points               clicks inside
    a line               RECIST's longest diameter, as a line
    two lines            longest and shortest axis, as such
    outline              what it encloses, as a rough mask: it is the object's own border, drawn in a hurry and often a
                         little inside, so unlike a lasso it bounds nothing
    circle, ellipse      its box
    ellipsoid            its box through the volume

Which of these gives the better masks is measured in docs/prompts.md. Each measurement is an object of its own, by its
own label; what one object has on several slices stays one.

Letters: x, y edges of a slice's stored pixels; N points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medsam.errors import PromptError, counted
from medsam.geometry import AXES, Axis, SlicePlane, VolumeGeometry
from medsam.io.contours import enclosed
from medsam.io.dicom.measurements.common import ImageReference, Measurement, Measurements, Shape
from medsam.prompts.prompt import Box, Point, Prompt
from medsam.prompts.shapes import box_of, cross, length_mm, lines_box, on_slice
from medsam.prompts.values import lies_on

# (SOP Instance UID, frame or None) -> k of a scan
Instances = Mapping[tuple[str, int | None], int]

# what is called nothing in its file
UNNAMED = "measurement"
# How far a shape in mm may stray from a slice, in slices, and still lie in it.
_FLAT = 0.5 + 1e-3
# Two lines are axes of one thing when they cross at more than this (RECIST and WHO want a right angle).
_LEAST_DEGREES = 60.0


@dataclass(frozen=True)
class Placed:
    """A shape on a slice. points: (N, 2) edges. spacing: (x, y) mm of a pixel."""

    kind: str
    points: np.ndarray
    axis: str | None = None


@dataclass
class _Left:
    """What could not be used: reason -> how many."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, one: str, several: str) -> None:
        self.counts[one, several] += 1


def measured_prompts(
    found: Measurements,
    geometry: VolumeGeometry,
    instances: Instances | None,
    *,
    frame_of_reference: str | None = None,
    axis: Axis | None = None,
    taken: int = 0,
    file: str = "The file",
    notes: list[str] | None = None,
) -> tuple[list[Prompt], Axis]:
    """The prompts of all measurements that lie on a scan, and the slice axis they lie across.

    instances: which k each image of the scan is, None for one whose images are not known (no DICOM): measurements in
    pixels of an image then have no place. axis: the only one that may be; default: that of most of them.
    taken: how many measurements without a label of their own others brought, which this file's are numbered after.
    file: its name, for messages. notes: receives what was left out.
    Raises PromptError when nothing can be used, saying what there is.
    """
    left = _Left()
    across = axis or _usual_axis(found, geometry)
    prompts: list[Prompt] = []
    items = [part for item in found.items for part in _parted(item, geometry)]
    for label, measurement in zip(_labels(items, taken), items, strict=True):
        by_slice: dict[int, list[Placed]] = {}
        for shape in measurement.shapes:
            if shape.kind == "ellipsoid":
                prompts += _through(shape, label, geometry, frame_of_reference, left)
                continue
            for index, placed in _on_slices(shape, geometry, across, instances, frame_of_reference, left):
                by_slice.setdefault(index, []).append(placed)
        plane = geometry.plane(across)
        for index, shapes in sorted(by_slice.items()):
            prompts += _prompts_on(_each_once(shapes), label, index, plane, left)
    unused = [*found.unused, *(counted(number, *words) for words, number in left.counts.items())]
    if not prompts:
        raise PromptError(_nothing(file, unused, found, instances))
    if notes is not None and unused:
        notes.append(f"{file}, left out: {'; '.join(unused)}.")
    return prompts, across


def _nothing(file: str, unused: Sequence[str], found: Measurements, instances: Instances | None) -> str:
    cited = {shape.image.uid for item in found.items for shape in item.shapes if shape.image is not None}
    missing = cited - {uid for uid, _ in instances} if instances is not None else set[str]()
    if cited and instances is None:
        return (
            f"{file} measures on images that it names by (0008,1155) Referenced SOP Instance UID, and this scan is no "
            "DICOM series that says which images it has. Pass the DICOM series."
        )
    if missing and len(missing) == len(cited):
        return (
            f"{file} measures on other images: {len(missing)} of the {counted(len(cited), 'image')} that it names by "
            "(0008,1155) Referenced SOP Instance UID are not in the scan. Pass the series that was measured."
        )
    return f"{file} holds nothing that can be a prompt on this scan: {'; '.join(unused)}."


# -- where a shape lies -------------------------------------------------------------------------------------


def _usual_axis(found: Measurements, geometry: VolumeGeometry) -> Axis:
    """k for what was drawn on images, which are stacked along it; else that along which most shapes in mm are flat."""
    votes: Counter[Axis] = Counter()
    for item in found.items:
        for shape in item.shapes:
            if shape.image is not None:
                votes["k"] += 1
            elif shape.kind not in ("ellipsoid", "points"):
                votes.update(_flat_along(geometry.to_voxel(shape.points), geometry)[:1])
    return votes.most_common(1)[0][0] if votes else geometry.plane().axis


def _flat_along(voxels: np.ndarray, geometry: VolumeGeometry) -> list[Axis]:
    """The axes (N, 3) positions stray little along, the acquired one first."""
    strays = np.ptp(voxels, axis=0)
    acquired = geometry.acquired_axis
    return sorted((a for n, a in enumerate(AXES) if strays[n] <= 2 * _FLAT), key=lambda a: (a != acquired, a != "k"))


def _on_slices(
    shape: Shape,
    geometry: VolumeGeometry,
    axis: Axis,
    instances: Instances | None,
    frame_of_reference: str | None,
    left: _Left,
) -> list[tuple[int, Placed]]:
    """A shape as it lies on each slice it meets; more than one slice only for points in mm."""
    if shape.image is not None:
        found = _slices_of_image(shape.image, instances)
        if not found:
            left.add("shape lies on an image that is not in the scan", "shapes lie on images that are not in the scan")
            return []
        if len(found) > 1:
            left.add("shape does not say on which frame it lies", "shapes do not say on which frame they lie")
            return []
        if axis != "k":
            left.add("shape lies across another axis", "shapes lie across another axis")
            return []
        return [(found[0], Placed(shape.kind, shape.points, shape.axis))]
    if not _comparable(shape, geometry, frame_of_reference, left):
        return []
    voxels = geometry.to_voxel(shape.points)
    number = AXES.index(axis)
    flat = [voxels[n : n + 1] for n in range(len(voxels))] if shape.kind == "points" else [voxels]
    placed: list[tuple[int, Placed]] = []
    for part in flat:
        low, high = part[:, number].min(), part[:, number].max()
        index = math.floor((low + high) / 2 + 0.5)
        if high - low > 2 * _FLAT:
            left.add("shape lies across another axis", "shapes lie across another axis")
        elif not 0 <= index < geometry.plane(axis).count:
            left.add("shape lies beyond the scan", "shapes lie beyond the scan")
        else:
            # an index names a pixel's centre, an edge counts from its border
            placed.append((index, Placed(shape.kind, np.delete(part, number, axis=1) + 0.5, shape.axis)))
    return placed


def _slices_of_image(image: ImageReference, instances: Instances | None) -> list[int]:
    """Each k of a scan that an image is; several for a file of several frames of which none is named."""
    if instances is None:
        return []
    if image.frames:
        # one frame of a file of one, which needs not count it
        known = [(image.uid, frame) for frame in image.frames]
        return [instances[one] for one in known if one in instances] or [
            k for (uid, frame), k in instances.items() if uid == image.uid and frame is None
        ]
    return [k for (uid, _), k in instances.items() if uid == image.uid]


def _comparable(shape: Shape, geometry: VolumeGeometry, frame_of_reference: str | None, left: _Left) -> bool:
    """Whether the millimetres of a shape are those of the scan."""
    if not geometry.calibrated:
        left.add("shape lies in millimetres, and the scan has none", "shapes lie in millimetres, and the scan has none")
        return False
    if frame_of_reference and shape.frame_of_reference and frame_of_reference != shape.frame_of_reference:
        left.add("shape lies in another frame of reference", "shapes lie in another frame of reference")
        return False
    return True


def _through(
    shape: Shape, label: str, geometry: VolumeGeometry, frame_of_reference: str | None, left: _Left
) -> list[Prompt]:
    """The box through the volume of an ellipsoid."""
    if not _comparable(shape, geometry, frame_of_reference, left):
        return []
    centre, *ends = geometry.to_voxel(shape.points)
    half = np.sqrt(sum((end - centre) ** 2 for end in ends))
    size = np.array(geometry.shape[::-1], dtype=float)
    low, high = np.clip(centre - half + 0.5, 0, size), np.clip(centre + half + 0.5, 0, size)
    # every axis must meet the middle of a voxel, or it meets no slice
    if (np.floor(high + 0.5) <= np.ceil(low - 0.5) + 0.0).any() or (high - low <= 0).any():
        left.add("shape lies beyond the scan", "shapes lie beyond the scan")
        return []
    return [Prompt(label, box3d=(*low.tolist(), *high.tolist()))]


# -- what it asks for ---------------------------------------------------------------------------------------


def _prompts_on(shapes: Sequence[Placed], label: str, index: int, plane: SlicePlane, left: _Left) -> list[Prompt]:
    """What is said of one object on one slice: a rough mask or boxes, and clicks."""
    prompts = []
    mask = _outlined([shape.points for shape in shapes if shape.kind == "outline"], plane)
    if mask is not None:
        prompts.append(Prompt(label, mask=mask, slice=index))
    spacing = np.array(plane.spacing_mm[::-1])
    for drawn, box in _areas(shapes, spacing, lines=mask is None):
        if (inside := on_slice(box, plane.shape)) is None:
            left.add("shape lies beyond its image", "shapes lie beyond their images")
        else:
            prompts.append(_prompt_of(drawn, inside, label, index, plane))
    points: list[Point] = []
    for shape in shapes:
        if shape.kind == "open":
            left.add("open line or angle encloses nothing", "open lines and angles enclose nothing")
        for x, y in (shape.points - 0.5).tolist() if shape.kind == "points" else ():
            if lies_on((x, y), plane.shape):
                points.append((x, y, 1))
            else:
                left.add("point lies beyond its image", "points lie beyond their images")
    if points and len(prompts) == 1:
        return [replace(prompts[0], points=tuple(points))]
    return [*prompts, *([Prompt(label, slice=index, points=tuple(points))] if points else [])]


def _each_once(shapes: Sequence[Placed]) -> list[Placed]:
    """Reports draw a shape again for each number that was measured on it: its area, its mean, ..."""
    return list({(shape.kind, shape.points.tobytes()): shape for shape in shapes}.values())


def _outlined(loops: Sequence[np.ndarray], plane: SlicePlane) -> np.ndarray | None:
    """The pixels that outlines enclose, one in another as a hole, bool (rows, columns); None where they are none."""
    if not loops:
        return None
    mask = enclosed([loop - 0.5 for loop in loops], plane.shape).pixels
    return mask if mask.any() else None


def _areas(shapes: Sequence[Placed], spacing: np.ndarray, *, lines: bool) -> list[tuple[list[Placed], Box]]:
    """What was drawn round a thing, or measured of it, with its box. What is drawn round it counts for more than axes.

    lines: whether axes count at all. An outline has a box only where it encloses no pixel's centre.
    """
    round_one = ("circle", "ellipse", *(("outline",) if lines else ()))
    areas = [([shape], area_box(shape, spacing)) for shape in shapes if shape.kind in round_one]
    if areas or not lines:
        return areas
    return [
        (pair, lines_box([line.points for line in pair], spacing))
        for pair in pairs([shape for shape in shapes if shape.kind == "line"], spacing)
    ]


def _prompt_of(drawn: Sequence[Placed], box: Box, label: str, index: int, plane: SlicePlane) -> Prompt:
    """Lines as such, where a user could have drawn them so on the slice; all else as its box."""
    # an index names a pixel's centre, an edge counts from its border
    lines = [shape.points - 0.5 for shape in drawn if shape.kind == "line"]
    on_it = all(lies_on(end, plane.shape) for line in lines for end in line.tolist())
    if not lines or not on_it or not all(np.ptp(line, axis=0).any() for line in lines):
        return Prompt(label, box=box, slice=index)
    return Prompt(label, slice=index, lines=tuple((tuple(a), tuple(b)) for a, b in np.array(lines).tolist()))


def pairs(lines: Sequence[Placed], spacing: np.ndarray) -> list[list[Placed]]:
    """Lines that are the two axes of one thing together, the longer first; others alone.

    They are when the file says so, or when they cross at about a right angle.
    """
    waiting, found = list(lines), []
    while waiting:
        first = waiting.pop(0)
        other = next((line for line in waiting if _axes_of_one(first, line, spacing)), None)
        if other is None:
            found.append([first])
            continue
        waiting.remove(other)
        found.append(sorted([first, other], key=lambda line: -length_mm(line.points, spacing)))
    return found


def _axes_of_one(one: Placed, other: Placed, spacing: np.ndarray) -> bool:
    if one.axis and other.axis:
        return one.axis != other.axis
    (a0, a1), (b0, b1) = one.points * spacing, other.points * spacing
    along, across = a1 - a0, b1 - b0
    cosine = abs(along @ across) / (np.linalg.norm(along) * np.linalg.norm(across))
    if cosine > math.cos(math.radians(_LEAST_DEGREES)):
        return False
    return cross(one.points * spacing, other.points * spacing)


def area_box(shape: Placed, spacing: np.ndarray) -> Box:
    """The box of an outline, a circle (round in mm) or an ellipse."""
    points = shape.points
    if shape.kind == "outline":
        return box_of(points.min(axis=0), points.max(axis=0))
    if shape.kind == "circle":
        half = np.linalg.norm((points[1] - points[0]) * spacing) / spacing
    else:
        half = np.sqrt(((points[1:] - points[0]) ** 2).sum(axis=0))
    return box_of(points[0] - half, points[0] + half)


def _parted(item: Measurement, geometry: VolumeGeometry) -> list[Measurement]:
    """Lines on an image that nothing holds together, each for itself, but for those that are axes of one thing."""
    loose = all(shape.kind == "line" and shape.image is not None and shape.axis is None for shape in item.shapes)
    if item.label is not None or not loose:
        return [item]
    spacing = np.array(geometry.plane("k").spacing_mm[::-1])
    lines = {id(placed := Placed("line", shape.points)): (placed, shape) for shape in item.shapes}
    found = pairs([placed for placed, _ in lines.values()], spacing)
    return [Measurement(None, tuple(lines[id(placed)][1] for placed in pair)) for pair in found]


# -- what it is called --------------------------------------------------------------------------------------


def _labels(items: Sequence[Measurement], taken: int) -> list[str]:
    """A label for each: its own, told apart by a number where several have one; "measurement" without one."""
    stated = [item.label or UNNAMED for item in items]
    several, seen = Counter(stated), Counter({UNNAMED: taken})
    labels = []
    for label in stated:
        seen[label] += 1
        alone = several[label] == 1 and seen[label] == 1
        labels.append(label if alone else f"{label} {seen[label]}")
    return labels
