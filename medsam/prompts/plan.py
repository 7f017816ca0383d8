"""Prompts placed on the slices of a scan: what is asked of each slice, one `SlicePrompt` an object."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import AXES, Axis, SlicePlane, VolumeGeometry
from medsam.masks import CompactMask
from medsam.prompts.prompt import Box, Point, Prompt, SlicePrompt, agreed_points, as_prompts
from medsam.prompts.standing import Standing


@dataclass(frozen=True)
class PromptPlan:
    """Prompts sorted by the slices that have to be encoded.

    axis: the slice axis. names: label id -> name, ids in order of first appearance.
    slices: slice number -> its prompts, ascending.
    """

    axis: Axis
    names: dict[int, str]
    slices: dict[int, list[SlicePrompt]]


@dataclass(frozen=True)
class _PlacedPrompt:
    """What one of the prompts says on one slice. order: its place among the prompts."""

    order: int
    prompt: Prompt
    here: SlicePrompt

    @property
    def loose(self) -> bool:
        """Points without a box or a mask of their own."""
        return self.here.box is None and self.here.mask is None


def plan(
    prompts: Prompt | Iterable[Prompt],
    geometry: VolumeGeometry,
    axis: Axis | None = None,
    standing: Standing | None = None,
) -> PromptPlan:
    """Place prompts on the slices of a grid, one SlicePrompt an object.

    A box3d gives its cross-section to every slice it meets, a (K, J, I) mask its own to every slice it touches.

    What several prompts say of one label on one slice is one object: a box, a mask that meets it, any number of
    points. Two boxes, two masks, or a box and a mask apart are objects of their own; prompts of points alone then go
    where they lie: a point inside to the one box or mask that holds it, a point outside to all, because what is not
    the label is no part of it.

    axis: default the acquired one. standing: labels that are there before, along the same axis: their ids stay, and
    points alone on a slice of one correct its mask.
    Raises PromptError naming the prompt that lies outside the scan, has a mask of another grid, contradicts another,
    has no point inside to go with its points outside, or fits several objects.
    """
    prompts = as_prompts(prompts)
    plane = geometry.plane(axis)
    ids = {} if standing is None else {name: number for number, name in standing.names.items()}
    placed: dict[int, dict[int, list[_PlacedPrompt]]] = {}
    for order, prompt in enumerate(prompts):
        name = prompt.label if standing is None else standing.called(prompt.label)
        label = ids.setdefault(name, max(ids.values(), default=0) + 1)
        for index, here in _on_slices(prompt, label, plane, geometry).items():
            placed.setdefault(index, {}).setdefault(label, []).append(_PlacedPrompt(order, prompt, here))
    names = {number: name for name, number in ids.items()}
    if standing is not None:
        for index, by_label in placed.items():
            for label, given in by_label.items():
                _correct(given, label, standing.at(names[label], index))
    slices = {}
    for index in sorted(placed):
        objects = [one for of_label in placed[index].values() for one in _objects(of_label, index)]
        slices[index] = [here for _, here in sorted(objects, key=lambda one: one[0])]
    return PromptPlan(plane.axis, names, slices)


def _correct(given: list[_PlacedPrompt], label: int, mask: CompactMask | None) -> None:
    """Add the mask that stands on a slice to points that were put there alone."""
    if mask is not None and all(one.loose for one in given):
        array = mask.to_array()
        array.setflags(write=False)
        given.append(replace(given[0], here=SlicePrompt(label, mask=array, standing=True)))


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
            masks[index] = _checked_mask(prompt, mask, plane)
    if mask is not None and mask.ndim == 3:
        masks = _masks_of_slices(prompt, mask, plane, geometry)
    return {
        index: SlicePrompt(label, boxes.get(index), points.get(index, ()), masks.get(index))
        for index in sorted(boxes.keys() | points.keys() | masks.keys())
    }


def _checked_mask(prompt: Prompt, mask: np.ndarray, plane: SlicePlane) -> np.ndarray:
    """A mask (rows, columns) of one slice."""
    if mask.shape != plane.shape:
        raise PromptError(
            f"{prompt} has a mask of shape {mask.shape}, but slices of axis {plane.axis} have the shape "
            f"{plane.shape} (rows, columns as the file stores them)."
        )
    return mask


def _masks_of_slices(
    prompt: Prompt, mask: np.ndarray, plane: SlicePlane, geometry: VolumeGeometry
) -> dict[int, np.ndarray]:
    """A mask (K, J, I) on every slice it touches, or on the prompt's alone."""
    if mask.shape != geometry.shape:
        raise PromptError(
            f"{prompt} has a mask of shape {mask.shape}, but the scan has the shape {geometry.shape} (K, J, I). "
            "Draw it on the grid of the scan, or resample it."
        )
    touched = plane.touched(mask) if prompt.slice is None else [_slice_of(prompt, plane)]
    masks = {index: plane.take(mask, index) for index in touched}
    if not all(part.any() for part in masks.values()):
        raise PromptError(f"{prompt} has a mask that is empty on slice {prompt.slice} of axis {plane.axis}.")
    return masks


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


def _objects(given: list[_PlacedPrompt], index: int) -> list[tuple[int, SlicePrompt]]:
    """What is said of one label on one slice, joined to one SlicePrompt an object (rule: `plan`), with its order."""
    anchors = [one for one in given if not one.loose]
    if len(anchors) <= 1 or (len(anchors) == 2 and _complete(anchors[0].here, anchors[1].here)):
        return [_join(given)]
    groups = [[one] for one in anchors]
    for one in given:
        for point in one.here.points if one.loose else ():
            click = replace(one, here=replace(one.here, points=(point,)))
            for group in _meant(click, point, groups, index):
                group.append(click)
    return [_join(group) for group in groups]


def _meant(
    click: _PlacedPrompt, point: Point, groups: list[list[_PlacedPrompt]], index: int
) -> list[list[_PlacedPrompt]]:
    """The objects a click on its own goes to: inside, the one that holds it; outside, all."""
    if not point[2]:
        return groups
    meant = [group for group in groups if _holds(group[0].here, point)]
    if len(meant) != 1:
        raise PromptError(
            f"{click.prompt} lies in {len(meant) or 'none'} of the {len(groups)} boxes or masks of that label on "
            f"slice {index}, so it is not clear which object it means. Give each object a label of its own, or "
            "put box and points into one entry of a prompts file."
        )
    return meant


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


def _join(group: list[_PlacedPrompt]) -> tuple[int, SlicePrompt]:
    """One object from all that is said of it: at most one box, at most one mask, and points."""
    points = agreed_points([(one.prompt, one.here.points) for one in sorted(group, key=lambda one: one.order)])
    if all(one.loose for one in group) and not any(inside for _, _, inside in points):
        raise PromptError(
            f"{group[0].prompt} has no foreground point to go with it: outside alone does not say what is meant. "
            "Add a point inside the object (X,Y+), a box or a mask."
        )
    box = next((one.here.box for one in group if one.here.box is not None), None)
    mask = next((one.here.mask for one in group if one.here.mask is not None), None)
    standing = any(one.here.standing for one in group)
    return group[0].order, SlicePrompt(group[0].here.label, box, points, mask, standing)
