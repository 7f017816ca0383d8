"""What a user asks for: boxes, clicks and rough masks, each with a label. No scans, no networks.

Positions are in the stored index order of the file, 0-based. On slice axis k, x is i and y is j; on axis j they are i
and k; on axis i they are j and k. Boxes are half-open edges: (x0, y0, x1, y1) covers columns x0 ... x1 - 1. Points are
pixel indices: the centre of column n is n.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.geometry import AXES, Axis, SlicePlane, VolumeGeometry, alike
from medsam.io.files import read_json

DEFAULT_LABEL = "object"

Box = tuple[float, float, float, float]
# (x, y, 1 inside | 0 outside)
Point = tuple[float, float, int]


@dataclass(frozen=True)
class Prompt:
    """What is said of one object: a box, points, a mask or several of them, with a label.

    box: (x0, y0, x1, y1). points: ((x, y, 1 inside | 0 outside), ...). Both lie on `slice`.
    slice: its number along the slice axis; None where the scan has only one.
    box3d: (i0, j0, k0, i1, j1, k1), through a volume; `slice` then says where the points or the mask beside it lie.
    mask: bool (or 0 and 1), (K, J, I) on the scan's grid, counting on every slice it touches or on `slice` alone;
        or (rows, columns) of `slice`. Copied, and read-only from then on.
    Points outside alone say nothing of an object, so `plan` looks for others of their label; see there.
    Raises PromptError when a number is not finite, a box is empty or inverted, a mask marks nothing, two points
    contradict each other, both a box and a box3d are given, or nothing is.
    """

    label: str = DEFAULT_LABEL
    box: Box | None = None
    slice: int | None = None
    box3d: tuple[float, float, float, float, float, float] | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, Prompt) else NotImplemented

    def __post_init__(self) -> None:
        if not isinstance(self.label, str):
            raise PromptError(f"A label is a text, not {self.label!r}.")
        for name, count in (("box", 4), ("box3d", 6)):
            object.__setattr__(self, name, _corners(getattr(self, name), name, count, self.label))
        object.__setattr__(self, "points", _points(self.points, self.label))
        object.__setattr__(self, "mask", _mask(self.mask, self.label))
        if self.slice is not None:
            try:
                object.__setattr__(self, "slice", operator.index(self.slice))
            except TypeError:
                raise PromptError(f"The slice of {self.label!r} is a whole number, not {self.slice!r}.") from None
        if self.box is not None and self.box3d is not None:
            raise PromptError(f"The prompt for {self.label!r} takes either a box or a box3d, not both.")
        on_slice = bool(self.points) or self.mask is not None
        if self.box is None and self.box3d is None and not on_slice:
            raise PromptError(f"The prompt for {self.label!r} says nothing: it needs a box, a box3d, points or a mask.")
        if not self.label.strip():
            raise PromptError(f"{self} has an empty label. Name it, or leave the label out.")
        if any(unicodedata.category(letter).startswith("C") for letter in self.label):
            raise PromptError(f"The label {self.label!r} holds control characters. Name it with letters.")
        if self.box3d is not None and self.slice is not None and not on_slice:
            raise PromptError(f"{self} names a slice, but a box3d has its own. Leave the slice out.")
        corners = self.box or self.box3d or ()
        half = len(corners) // 2
        if not all(math.isfinite(number) for number in (*corners, *(c for point in self.points for c in point))):
            raise PromptError(f"{self} has a number that is not finite.")
        if any(low >= high for low, high in zip(corners[:half], corners[half:], strict=True)):
            order = "x0,y0,x1,y1" if half == 2 else "i0,j0,k0,i1,j1,k1"
            raise PromptError(f"{self} is empty or inverted: it needs {order} with each first below its second.")
        if self.mask is not None and not self.mask.any():
            raise PromptError(f"{self} has an empty mask: no pixel of it is set. Draw one, or leave the mask out.")
        _agreed([(self, self.points)])

    def __str__(self) -> str:
        corners = ",".join(f"{number:g}" for number in self.box or self.box3d or ())
        where = f"{self.slice}:" if self.slice is not None else ""
        said = []
        if self.box is not None:
            said.append(f"box {where}{corners}")
        if self.box3d is not None:
            said.append(f"box3d {corners}")
        if self.points:
            shown = " ".join(f"{x:g},{y:g}{'+' if inside else '-'}" for x, y, inside in self.points[:4])
            more = f" ... ({len(self.points)} in all)" if len(self.points) > 4 else ""
            one = len(self.points) == 1
            said.append(f"{'point' if one else 'points'} {where if self.box is None else ''}{shown}{more}")
        if self.mask is not None:
            said.append("mask" if self.slice is None or self.box or self.points else f"mask on slice {self.slice}")
        return f"The {' with '.join(said)} for {self.label!r}"


def _corners(value: Any, name: str, count: int, label: str) -> tuple[float, ...] | None:
    """`count` numbers from any sequence of numbers, as a tuple."""
    if value is None:
        return None
    try:
        corners = tuple(float(number) for number in value) if not isinstance(value, str) else ()
    except (TypeError, ValueError, OverflowError):
        corners = ()
    if len(corners) != count:
        raise PromptError(f"The {name} of {label!r} is {count} numbers, not {str(value)[:60]!r}.")
    return corners


def _points(value: Any, label: str) -> tuple[Point, ...]:
    """(x, y, 1 | 0) rows from any sequence of three numbers each."""
    if value is None:
        return ()
    try:
        rows = [tuple(row) for row in value]
        points = tuple((float(x), float(y), inside) for x, y, inside in rows) if not isinstance(value, str) else None
    except (TypeError, ValueError, OverflowError):
        points = None
    if points is None:
        raise PromptError(f"The points of {label!r} are (x, y, 1 or 0) each, not {str(value)[:60]!r}.")
    for x, y, inside in points:
        if inside not in (0, 1):
            raise PromptError(
                f"The point {x:g},{y:g} for {label!r} ends in {str(inside)[:20]}; write 1 for inside or 0 for outside."
            )
    return tuple((x, y, int(inside)) for x, y, inside in points)


def _mask(value: Any, label: str) -> np.ndarray | None:
    """A read-only bool copy of a mask of two or three dimensions."""
    if value is None:
        return None
    try:
        given = np.asarray(value)
    except ValueError:
        given = np.empty(0, dtype=object)
    if given.ndim not in (2, 3):
        raise PromptError(
            f"The mask of {label!r} has shape {given.shape}; it is (K, J, I) like the scan, or (rows, columns)."
        )
    if given.dtype != bool and (given.dtype.kind not in "iuf" or not ((given == 0) | (given == 1)).all()):
        raise PromptError(
            f"The mask of {label!r} holds other things than 0 and 1. Say which value is meant, for example mask == 2."
        )
    mask = np.array(given, dtype=bool)
    mask.setflags(write=False)
    return mask


def pixel_at(point: Sequence[float], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Which element of an array of `shape` a point lies in, (x, y) or (i, j, k) -> (row, column) or (k, j, i).

    A point on the rim, half a pixel beyond the last centre, belongs to the last pixel.
    """
    return tuple(
        min(max(math.floor(at + 0.5), 0), length - 1) for at, length in zip(reversed(point), shape, strict=True)
    )


def _agreed(said: Sequence[tuple[Prompt, tuple[Point, ...]]]) -> tuple[Point, ...]:
    """The points of prompts of one object, repeats left out; PromptError when a pixel is both inside and outside."""
    seen: dict[tuple[int, int], tuple[int, Prompt]] = {}
    for prompt, points in said:
        for x, y, inside in points:
            pixel = math.floor(x + 0.5), math.floor(y + 0.5)
            before, who = seen.setdefault(pixel, (inside, prompt))
            if before != inside:
                whom = "itself" if who is prompt else f"the{str(who)[3:]}"
                raise PromptError(
                    f"{prompt} contradicts {whom}: pixel {pixel[0]},{pixel[1]} is both inside and outside."
                )
    return tuple(dict.fromkeys(point for _, points in said for point in points))


@dataclass(frozen=True)
class SlicePrompt:
    """One object asked for on one slice: at least a box, a mask or a point inside.

    label: id >= 1. box: half-open (x0, y0, x1, y1) in stored pixels. points: (x, y, 1 inside | 0 outside), pixel
    indices. mask: bool (rows, columns) of the stored slice, read-only.
    """

    label: int
    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, SlicePrompt) else NotImplemented


@dataclass(frozen=True)
class PromptPlan:
    """Prompts sorted by the slices that have to be looked at.

    axis: the slice axis. names: label id -> name, ids in order of first appearance.
    slices: slice number -> its prompts, ascending.
    """

    axis: Axis
    names: dict[int, str]
    slices: dict[int, list[SlicePrompt]]


@dataclass(frozen=True)
class _Said:
    """What one of the prompts says on one slice. order: its place among the prompts."""

    order: int
    prompt: Prompt
    here: SlicePrompt

    @property
    def loose(self) -> bool:
        """Points without a box or a mask of their own."""
        return self.here.box is None and self.here.mask is None


def as_prompts(prompts: Prompt | Iterable[Prompt]) -> list[Prompt]:
    """One prompt, or several, as a list. Raises PromptError for none, or for what is no `Prompt`."""
    if isinstance(prompts, Prompt):
        return [prompts]
    listed = list(prompts) if isinstance(prompts, Iterable) else [] if prompts is None else [prompts]
    if not listed:
        raise PromptError("There is nothing to segment: give at least one box, point inside, or mask.")
    for one in listed:
        if not isinstance(one, Prompt):
            raise PromptError(
                f"A prompt is a medsam.Prompt, such as Prompt('liver', box=(60, 40, 210, 180), slice=41), not "
                f"{type(one).__name__}."
            )
    return listed


def plan(prompts: Prompt | Iterable[Prompt], geometry: VolumeGeometry, axis: Axis | None = None) -> PromptPlan:
    """Place prompts on the slices of a grid, one SlicePrompt an object.

    A box3d gives its cross-section to every slice it meets, a (K, J, I) mask its own to every slice it touches.

    What several prompts say of one label on one slice is one object: a box, a mask that meets it, any number of
    points. Two boxes, two masks, or a box and a mask apart are objects of their own; prompts of points alone then go
    where they lie: a point inside to the one box or mask that holds it, a point outside to all, because what is not
    the label is no part of it.

    axis: default the acquired one. Raises PromptError naming the prompt that lies outside the scan, has a mask of
    another grid, contradicts another, has no point inside to go with its points outside, or fits several objects.
    """
    prompts = as_prompts(prompts)
    plane = geometry.plane(axis)
    ids: dict[str, int] = {}
    said: dict[int, dict[int, list[_Said]]] = {}
    for order, prompt in enumerate(prompts):
        label = ids.setdefault(prompt.label, len(ids) + 1)
        for index, here in _on_slices(prompt, label, plane, geometry).items():
            said.setdefault(index, {}).setdefault(label, []).append(_Said(order, prompt, here))
    slices = {}
    for index in sorted(said):
        objects = [one for of_label in said[index].values() for one in _objects(of_label, index)]
        slices[index] = [here for _, here in sorted(objects, key=lambda one: one[0])]
    return PromptPlan(plane.axis, {number: name for name, number in ids.items()}, slices)


def _on_slices(prompt: Prompt, label: int, plane: SlicePlane, geometry: VolumeGeometry) -> dict[int, SlicePrompt]:
    """What a prompt says on each slice it concerns. Raises PromptError when that lies outside the scan."""
    boxes: dict[int, Box] = {}
    masks: dict[int, np.ndarray] = {}
    points: dict[int, tuple[Point, ...]] = {}
    mask = prompt.mask
    if prompt.box3d is not None:
        boxes = _cross_sections(prompt, plane)
    if prompt.box is not None or prompt.points or (mask is not None and mask.ndim == 2):
        index = _slice_of(prompt, plane)
        if prompt.box is not None:
            _check_box(prompt, prompt.box, plane)
            boxes[index] = prompt.box
        if prompt.points:
            _check_points(prompt, plane)
            if boxes and index not in boxes:
                raise PromptError(f"{prompt} has points on slice {index}, which its box3d does not meet.")
            points[index] = prompt.points
        if mask is not None and mask.ndim == 2:
            if mask.shape != plane.shape:
                raise PromptError(
                    f"{prompt} has a mask of shape {mask.shape}, but slices of axis {plane.axis} have the shape "
                    f"{plane.shape} (rows, columns as the file stores them)."
                )
            masks[index] = mask
    if mask is not None and mask.ndim == 3:
        if mask.shape != geometry.shape:
            raise PromptError(
                f"{prompt} has a mask of shape {mask.shape}, but the scan has the shape {geometry.shape} (K, J, I). "
                "Draw it on the grid of the scan, or resample it."
            )
        if prompt.slice is not None:
            touched = [_slice_of(prompt, plane)]
        else:
            others = tuple(number for number in range(3) if number != plane.array_axis)
            touched = np.flatnonzero(mask.any(axis=others)).tolist()
        masks = {index: plane.take(mask, index) for index in touched}
        if not all(part.any() for part in masks.values()):
            raise PromptError(f"{prompt} has a mask that is empty on slice {prompt.slice} of axis {plane.axis}.")
    return {
        index: SlicePrompt(label, boxes.get(index), points.get(index, ()), masks.get(index))
        for index in sorted(boxes.keys() | points.keys() | masks.keys())
    }


def _slice_of(prompt: Prompt, plane: SlicePlane) -> int:
    """The one slice a box, points or mask lie on."""
    if prompt.slice is None:
        if plane.count != 1:
            how = "SLICE:X0,Y0,X1,Y1" if prompt.box is not None else "SLICE:X,Y" if prompt.points else 'its "slice"'
            raise PromptError(f"{prompt} does not say which slice: axis {plane.axis} has {plane.count}. Write {how}.")
        return 0
    _check_slices(prompt, prompt.slice, prompt.slice, plane)
    return prompt.slice


def _check_slices(prompt: Prompt, first: int, last: int, plane: SlicePlane) -> None:
    if first < 0 or last >= plane.count:
        raise PromptError(
            f"{prompt} needs slice {first if first < 0 else last}, but axis {plane.axis} "
            f"has slices 0 ... {plane.count - 1}."
        )


def _check_box(prompt: Prompt, box: Box, plane: SlicePlane) -> None:
    rows, columns = plane.shape
    if box[0] < 0 or box[1] < 0 or box[2] > columns or box[3] > rows:
        raise PromptError(
            f"{prompt} reaches outside the slice, whose x runs from 0 to {columns} and y from 0 to {rows} "
            f"on axis {plane.axis} (columns and rows as the file stores them)."
        )


def _check_points(prompt: Prompt, plane: SlicePlane) -> None:
    rows, columns = plane.shape
    for x, y, _ in prompt.points:
        # the centre of pixel n is n, so the picture ends half a pixel beyond its first and last centre
        if not (-0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5):
            raise PromptError(
                f"{prompt} has the point {x:g},{y:g} outside the slice, whose x runs from 0 to {columns - 1} and y "
                f"from 0 to {rows - 1} on axis {plane.axis} (columns and rows as the file stores them)."
            )


def _cross_sections(prompt: Prompt, plane: SlicePlane) -> dict[int, Box]:
    """The box a box3d puts on each slice it meets."""
    box3d = np.array(prompt.box3d, dtype=float).reshape(2, 3)
    number = AXES.index(plane.axis)
    # every slice whose centre lies inside the half-open range of edges
    first, after = (math.ceil(edge - 0.5) for edge in box3d[:, number])
    if after <= first:
        raise PromptError(f"{prompt} lies between two slices of axis {plane.axis} and meets none.")
    _check_slices(prompt, first, after - 1, plane)
    x0, y0, x1, y1 = np.delete(box3d, number, axis=1).ravel().tolist()
    box = (x0, y0, x1, y1)
    _check_box(prompt, box, plane)
    return dict.fromkeys(range(first, after), box)


def _objects(said: list[_Said], index: int) -> list[tuple[int, SlicePrompt]]:
    """What was said of one label on one slice, joined to one SlicePrompt an object (rule: `plan`), with its order."""
    anchors = [one for one in said if not one.loose]
    if len(anchors) <= 1 or (len(anchors) == 2 and _complete(anchors[0].here, anchors[1].here)):
        return [_join(said)]
    groups = [[one] for one in anchors]
    for one in said:
        for point in one.here.points if one.loose else ():
            click = replace(one, here=replace(one.here, points=(point,)))
            meant = [group for group in groups if _holds(group[0].here, point)] if point[2] else groups
            if point[2] and len(meant) != 1:
                raise PromptError(
                    f"{one.prompt} lies in {len(meant) or 'none'} of the {len(groups)} boxes or masks of that label on "
                    f"slice {index}, so it is not clear which object it means. Give each object a label of its own, or "
                    "put box and points into one entry of a prompts file."
                )
            for group in meant:
                group.append(click)
    return [_join(group) for group in groups]


def _complete(one: SlicePrompt, other: SlicePrompt) -> bool:
    """Whether one is a box without a mask, the other a mask without a box, and some of the mask lies in the box."""
    if one.box is None:
        one, other = other, one
    if one.box is None or one.mask is not None or other.box is not None or other.mask is None:
        return False
    x0, y0, x1, y1 = one.box
    inside = np.s_[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)]
    return bool(other.mask[inside].any())


def _holds(anchor: SlicePrompt, point: Point) -> bool:
    """Whether a point lies in the box, or without one in the mask, of an object."""
    x, y, _ = point
    if anchor.box is not None:
        x0, y0, x1, y1 = anchor.box
        return x0 <= x + 0.5 <= x1 and y0 <= y + 0.5 <= y1
    if anchor.mask is None:
        return False
    rows, columns = anchor.mask.shape
    return bool(anchor.mask[min(math.floor(y + 0.5), rows - 1), min(math.floor(x + 0.5), columns - 1)])


def _join(group: list[_Said]) -> tuple[int, SlicePrompt]:
    """One object from all that is said of it: at most one box, at most one mask, and points."""
    points = _agreed([(one.prompt, one.here.points) for one in sorted(group, key=lambda one: one.order)])
    if all(one.loose for one in group) and not any(inside for _, _, inside in points):
        raise PromptError(
            f"{group[0].prompt} has no foreground point to go with it: outside alone does not say what is meant. "
            "Add a point inside the object (X,Y+), a box or a mask."
        )
    box = next((one.here.box for one in group if one.here.box is not None), None)
    mask = next((one.here.mask for one in group if one.here.mask is not None), None)
    return group[0].order, SlicePrompt(group[0].here.label, box, points, mask)


_BOX = re.compile(r"^(?:(?P<slice>-?\d{1,9}):)?(?P<corners>[^=:]+)(?:=(?P<label>.*))?$")


def parse_box(text: str) -> Prompt:
    """`[S:]X0,Y0,X1,Y1[=LABEL]`, as typed after --box. Raises PromptError showing what was typed."""
    match = _BOX.match(text.strip())
    try:
        corners = tuple(float(number) for number in match["corners"].split(",")) if match else ()
    except ValueError:
        corners = ()
    if match is None or len(corners) != 4:
        raise PromptError(f"--box {text!r} is not [SLICE:]X0,Y0,X1,Y1[=LABEL], for example 41:120,88,212,176=spleen.")
    label = DEFAULT_LABEL if match["label"] is None else match["label"].strip()
    index = None if match["slice"] is None else int(match["slice"])
    return Prompt(label, box=corners, slice=index)


_POINT = re.compile(r"^(?:(?P<slice>-?\d{1,9}):)?(?P<x>[^,=:]+),(?P<y>[^,=:]+?)(?P<side>[+-])?(?:=(?P<label>.*))?$")


def parse_point(text: str) -> Prompt:
    """`[S:]X,Y[+|-][=LABEL]`, as typed after --point; + (inside) when left out. PromptError showing what was typed."""
    match = _POINT.match(text.strip())
    try:
        if match is None:
            raise ValueError
        point = (float(match["x"]), float(match["y"]), 0 if match["side"] == "-" else 1)
    except ValueError:
        raise PromptError(
            f"--point {text!r} is not [SLICE:]X,Y[+|-][=LABEL], for example 41:101,77=kidney, or 41:120,90-=kidney for "
            "a point outside it."
        ) from None
    label = DEFAULT_LABEL if match["label"] is None else match["label"].strip()
    index = None if match["slice"] is None else int(match["slice"])
    return Prompt(label, slice=index, points=(point,))


def read_prompts(path: Path, load_mask: Callable[[Path], np.ndarray] | None = None) -> tuple[list[Prompt], Axis | None]:
    """A prompts file (JSON): `{"axis": "k", "prompts": [{"label", "slice", "box", "box3d", "points", "mask"}, ...]}`.

    "points" are [x, y, 1 or 0]; "mask" is a file, its path relative to the prompts file.
    load_mask: reads such a file as bool (K, J, I) on the grid of the scan; called once a file. Without it a "mask" is
        refused.
    Returns the prompts and the axis, None when the file leaves it open. Raises PromptError naming the entry, and
    InputError naming it when its mask cannot be read.
    """
    try:
        document = read_json(Path(path))
    except InputError as error:
        raise PromptError(f"The prompts file {Path(path).name} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("prompts"), list):
        raise PromptError(f'The prompts file {Path(path).name} needs {{"axis": "k", "prompts": [...]}}.')
    unknown = document.keys() - {"axis", "prompts"}
    if unknown:
        raise PromptError(f"The prompts file {Path(path).name} has unknown keys: {', '.join(sorted(unknown))[:200]}.")
    axis = document.get("axis")
    if axis is not None and axis not in AXES:
        raise PromptError(f"The axis in {Path(path).name} is {str(axis)[:60]}; it is one of i, j, k.")
    loaded: dict[Path, np.ndarray] = {}

    def mask_of(name: str) -> np.ndarray:
        if load_mask is None:
            raise PromptError('"mask" names a file, and masks in files are not read here; give a box or points.')
        file = Path(path).parent / name
        if file not in loaded:
            loaded[file] = load_mask(file)
        return loaded[file]

    prompts = []
    for number, entry in enumerate(document["prompts"]):
        try:
            prompts.append(_from_json(entry, mask_of))
        except (PromptError, InputError) as error:
            kind = PromptError if isinstance(error, PromptError) else InputError
            raise kind(f"Prompt {number} of {Path(path).name}: {error}") from error
    return prompts, axis


def _from_json(entry: Any, mask_of: Callable[[str], np.ndarray]) -> Prompt:
    if not isinstance(entry, dict):
        raise PromptError(f"it is {type(entry).__name__}, not an object.")
    if "text" in entry:
        raise PromptError('"text" prompts are not supported by this version; use "box", "box3d", "points" or "mask".')
    unknown = entry.keys() - {"label", "box", "box3d", "slice", "points", "mask"}
    if unknown:
        raise PromptError(f"it has unknown keys: {', '.join(sorted(unknown))[:200]}.")
    label, index = entry.get("label", DEFAULT_LABEL), entry.get("slice")
    if not isinstance(label, str):
        raise PromptError(f'"label" is {str(label)[:100]}, not a text.')
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise PromptError(f'"slice" is {str(index)[:100]}, not a whole number.')
    points, file = entry.get("points"), entry.get("mask")
    if points is not None and not (isinstance(points, list) and all(_is_numbers(point, 3) for point in points)):
        raise PromptError(f'"points" is {str(points)[:100]}, not a list of [x, y, 1 or 0].')
    if file is not None and not (isinstance(file, str) and file.strip()):
        raise PromptError(f'"mask" is {str(file)[:100]!r}, not the name of a file.')
    return Prompt(
        label,
        box=_numbers(entry, "box", 4),
        slice=index,
        box3d=_numbers(entry, "box3d", 6),
        points=tuple(points or ()),
        mask=None if file is None else mask_of(file),
    )


def _numbers(entry: dict[str, Any], key: str, count: int) -> Any:
    values = entry.get(key)
    if values is not None and not _is_numbers(values, count):
        raise PromptError(f'"{key}" is {str(values)[:100]}, not a list of {count} numbers.')
    return values


def _is_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    )
