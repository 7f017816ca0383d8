"""Prompts placed on the slices of a scan: what is asked of each slice, one `SlicePrompt` an object."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.geometry import AXES, Axis, SlicePlane, VolumeGeometry
from medsam.masks import CompactMask
from medsam.prompts.prompt import Box, Prompt, SlicePrompt, as_prompts, check_agreed, pixel_at
from medsam.prompts.shapes import cross, lassoed, length_mm, lines_box, on_slice
from medsam.prompts.standing import Standing
from medsam.prompts.strokes import marks
from medsam.prompts.values import Line, Position, lies_on

# what one of the prompts of an object says at most, beside its lines
_SAID_ONCE = ("box", "mask", "within", "lasso", "ellipse")


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
        """Points and scribbles without a box or a mask of their own."""
        return self.here.box is None and self.here.mask is None


def plan(
    prompts: Prompt | Iterable[Prompt],
    geometry: VolumeGeometry,
    axis: Axis | None = None,
    standing: Standing | None = None,
) -> PromptPlan:
    """Place prompts on the slices of a grid, one SlicePrompt an object.

    A box3d gives its cross-section to every slice it meets, a (K, J, I) mask its own to every slice it touches. A lasso
    is a mask that nothing of the object lies beyond; an ellipse and a line are the boxes that follow from them.

    What several prompts say of one label on one slice is one object: a box, a mask that meets it, any number of
    points and scribbles; and of two lines that cross the longer is the long axis, the other the short one. Two boxes,
    two masks, or a box and a mask apart are objects of their own; prompts of points and scribbles alone then go where
    they lie: one inside to the one box or mask that holds it (a stroke: a part of it), one outside to all, because
    what is not the label is no part of it. They come in the order of the prompts; of one prompt points first. A drawn
    mask is all that there is of its label on its slice, but for points and scribbles; an empty one counts where nothing
    else is said.

    axis: default the acquired one. standing: labels that are there before, along the same axis: their ids stay, and
    points and scribbles alone on a slice of one correct its mask.
    Raises PromptError naming the prompt that lies outside the scan, has a mask of another grid or a width in mm on a
    scan that has none, contradicts another, has nothing inside to go with what is outside, or fits several objects.
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
        objects = [one for of_label in placed[index].values() for one in _objects(of_label, index, plane)]
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
    found: dict[int, SlicePrompt] = {}
    if prompt.text is not None:
        raise PromptError(f"{prompt} has no slice: names are answered by `Predictor.segment` alone.", parameter="text")
    if prompt.box3d is not None:
        found = {index: SlicePrompt(label, box) for index, box in _cross_sections(prompt, plane).items()}
    if prompt.flat:
        index = _slice_of(prompt, plane)
        if prompt.box3d is not None and index not in found and (prompt.points or prompt.scribbles or prompt.lasso):
            raise PromptError(f"{prompt} lies on slice {index}, which its box3d does not meet.")
        there = found.get(index, SlicePrompt(label))
        found[index] = _drawn(prompt, there, plane, geometry.calibrated)
    if prompt.mask is not None and prompt.mask.ndim == 3:
        for index, part in _masks_of_slices(prompt, prompt.mask, plane, geometry).items():
            found[index] = replace(found.get(index, SlicePrompt(label)), mask=part)
    if prompt.drawn is not None and prompt.drawn.ndim == 3:
        for index, part in _masks_of_slices(prompt, prompt.drawn, plane, geometry).items():
            found[index] = replace(found.get(index, SlicePrompt(label)), mask=part, standing=True, drawn=True)
    return dict(sorted(found.items()))


def _drawn(prompt: Prompt, there: SlicePrompt, plane: SlicePlane, calibrated: bool) -> SlicePrompt:
    """What a prompt says on the one slice that it lies on. there: what its box3d says there."""
    for box in (prompt.box, prompt.ellipse):
        if box is not None:
            _check_box(prompt, box, plane)
            there = replace(there, box=box)
    _check_positions(prompt, "the point", [(x, y) for x, y, _ in prompt.points], plane)
    for scribble in prompt.scribbles:
        _check_positions(prompt, "a scribble through", scribble.points, plane)
        if scribble.width_mm is not None and not calibrated:
            raise PromptError(
                f"{prompt} has a scribble {scribble.width_mm:g} mm wide, and the file of this scan states no physical "
                "size. Give its width in pixels: `width_px`.",
                parameter=("width_px", "width_mm"),
            )
    there = replace(there, points=prompt.points, scribbles=prompt.scribbles, ellipse=prompt.ellipse)
    if prompt.lines:
        _check_positions(prompt, "an end at", [end for line in prompt.lines for end in line], plane)
        lines, box = axes(prompt.lines, plane)
        there = replace(there, lines=lines, box=box)
    if prompt.lasso is not None:
        _check_positions(prompt, "a corner at", prompt.lasso, plane)
        try:
            mask = lassoed(prompt.lasso, plane.shape)
        except InputError as error:
            raise PromptError(f"{prompt} cannot be filled: {error}") from error
        mask.setflags(write=False)
        there = replace(there, mask=mask, within=mask, lasso=prompt.lasso)
    if prompt.mask is not None and prompt.mask.ndim == 2:
        there = replace(there, mask=_checked_mask(prompt, prompt.mask, plane))
    if prompt.drawn is not None and prompt.drawn.ndim == 2:
        there = replace(there, mask=_checked_mask(prompt, prompt.drawn, plane), standing=True, drawn=True)
    return there


def axes(lines: Sequence[Line], plane: SlicePlane) -> tuple[tuple[Line, ...], Box]:
    """One line or two, the longer in mm first, and the box that follows from them."""
    spacing = np.array(plane.spacing_mm[::-1])
    ordered = sorted(lines, key=lambda line: -length_mm(np.array(line), spacing))
    # an index names a pixel's centre, an edge counts from its border
    edges = [np.array(line) + 0.5 for line in ordered]
    box = lines_box(edges, spacing)
    # the ends lie on the slice
    return tuple(ordered), on_slice(box, plane.shape) or box


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
    if prompt.drawn is None and not all(part.any() for part in masks.values()):
        raise PromptError(f"{prompt} has a mask that is empty on slice {prompt.slice} of axis {plane.axis}.")
    return masks


def _slice_of(prompt: Prompt, plane: SlicePlane) -> int:
    """The one slice that all but a box3d lies on."""
    if prompt.slice is None:
        if plane.count != 1:
            boxed = prompt.box is not None or prompt.ellipse is not None or prompt.lines
            drawn = prompt.points or prompt.scribbles or prompt.lasso
            how = "SLICE:X0,Y0,X1,Y1" if boxed else "SLICE:X,Y" if drawn else 'its "slice"'
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


def _check_positions(prompt: Prompt, what: str, positions: Iterable[Position], plane: SlicePlane) -> None:
    """what: each of the positions, for the message."""
    rows, columns = plane.shape
    for x, y in positions:
        if not lies_on((x, y), plane.shape):
            raise PromptError(
                f"{prompt} has {what} {x:g},{y:g} outside the slice, whose x runs from 0 to {columns - 1} and y "
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


def _objects(given: list[_PlacedPrompt], index: int, plane: SlicePlane) -> list[tuple[int, SlicePrompt]]:
    """What is said of one label on one slice, joined to one SlicePrompt an object (rule: `plan`), with its order."""
    given = _crossed([one for one in given if not one.here.erased] or given[-1:], plane)
    anchors = [one for one in given if not one.loose]
    _check_drawn(anchors, index)
    if len(anchors) <= 1 or (len(anchors) == 2 and _complete(anchors[0].here, anchors[1].here)):
        return [_join(given, plane)]
    groups = [[one] for one in anchors]
    for one in given:
        for click in _apart(one) if one.loose else ():
            for group in _meant(click, groups, index, plane):
                group.append(click)
    return [_join(group, plane) for group in groups]


def _check_drawn(anchors: list[_PlacedPrompt], index: int) -> None:
    """Raise PromptError where a drawn mask is not all that there is."""
    for one in anchors:
        if one.here.drawn and len(anchors) > 1:
            raise PromptError(
                f"{one.prompt} is all that there is of {one.prompt.label!r} on slice {index}, and another prompt says "
                "more. Leave one of them out."
            )


def _crossed(given: list[_PlacedPrompt], plane: SlicePlane) -> list[_PlacedPrompt]:
    """Lines that cross, as the two axes of one object; all else as it is."""
    joined: list[_PlacedPrompt] = []
    for one in given:
        line = np.array(one.here.lines)
        place = next((n for n, other in enumerate(joined) if len(line) == 1 and _other_axis(other.here, line[0])), None)
        if place is None:
            joined.append(one)
            continue
        first = joined[place]
        lines, box = axes((*first.here.lines, *one.here.lines), plane)
        rest = replace(one, here=replace(one.here, lines=(), box=None))
        joined[place] = replace(first, here=replace(first.here, lines=lines, box=box))
        joined += [rest] if rest.here != SlicePrompt(one.here.label) else []
    return joined


def _other_axis(first: SlicePrompt, line: np.ndarray) -> bool:
    return len(first.lines) == 1 and cross(np.array(first.lines[0]), line)


def _apart(one: _PlacedPrompt) -> list[_PlacedPrompt]:
    """Every point and scribble of a prompt of nothing else, each for itself."""
    return [replace(one, here=one.here.marked((mark,))) for mark in one.here.marks]


def _meant(
    click: _PlacedPrompt, groups: list[list[_PlacedPrompt]], index: int, plane: SlicePlane
) -> list[list[_PlacedPrompt]]:
    """The objects a click or stroke on its own goes to: inside, the one that holds it; outside, all."""
    if not click.here.says_inside:
        return groups
    meant = [group for group in groups if _holds(group[0].here, click.here, plane)]
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
    return bool(other.mask[_pixels(one.box)].any())


def _pixels(box: Box) -> tuple[slice, slice]:
    """The pixels that a box touches."""
    x0, y0, x1, y1 = box
    return slice(math.floor(y0), math.ceil(y1)), slice(math.floor(x0), math.ceil(x1))


def _holds(anchor: SlicePrompt, click: SlicePrompt, plane: SlicePlane) -> bool:
    """Whether a point, or a part of a scribble, lies in the box, or without one in the mask, of an object."""
    if click.scribbles:
        stroke = click.scribbles[0].to_mask(plane.shape, plane.spacing_mm)
        return bool(stroke[_pixels(anchor.box) if anchor.box is not None else anchor.mask].any())
    x, y, _ = click.points[0]
    if anchor.box is not None:
        x0, y0, x1, y1 = anchor.box
        return x0 <= x + 0.5 <= x1 and y0 <= y + 0.5 <= y1
    return anchor.mask is not None and bool(anchor.mask[pixel_at((x, y), anchor.mask.shape)])


def _join(group: list[_PlacedPrompt], plane: SlicePlane) -> tuple[int, SlicePrompt]:
    """One object from all that is said of it: at most one box, at most one mask, points and scribbles."""
    ordered = sorted(group, key=lambda one: one.order)
    check_agreed([(one.prompt, one.here.points) for one in ordered])
    said = tuple(mark for one in ordered for mark in one.here.marks)
    if all(one.loose for one in group):
        _check_inside(group, marks(said, plane.shape, plane.spacing_mm))
    # of the rest one at most says each
    first = SlicePrompt(group[0].here.label)
    for one in group:
        here = one.here
        given = {name: getattr(here, name) for name in _SAID_ONCE if getattr(first, name) is None}
        first = replace(
            first,
            **given,
            lines=first.lines or here.lines,
            standing=first.standing or here.standing,
            drawn=first.drawn or here.drawn,
        )
    return group[0].order, first.marked(said)


def _check_inside(group: list[_PlacedPrompt], said: np.ndarray) -> None:
    """said: what clicks and strokes leave of each pixel, see `marks`."""
    if (said > 0).any():
        return
    if any(one.here.says_inside for one in group):
        raise PromptError(
            f"{group[0].prompt} has nothing inside that later strokes outside do not cover: where clicks and strokes "
            "cross, the later one counts. Mark the inside again, or leave those outside out."
        )
    raise PromptError(
        f"{group[0].prompt} has no foreground point to go with it: outside alone does not say what is meant. "
        "Add a point or a scribble inside the object (X,Y+), a box or a mask."
    )
