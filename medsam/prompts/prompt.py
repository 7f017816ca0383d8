"""What a user asks for: boxes on slices or through a volume, each with a label. No pixels, no networks.

Positions are in the stored index order of the file, 0-based, and boxes are half-open edges: (x0, y0, x1, y1) covers
columns x0 ... x1 - 1. On slice axis k, x is i and y is j; on axis j they are i and k; on axis i they are j and k.
"""

from __future__ import annotations

import json
import math
import operator
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import AXES, Axis, SlicePlane, VolumeGeometry

DEFAULT_LABEL = "object"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Prompt:
    """One box with its label: `box` on `slice`, or `box3d` through a volume.

    box: (x0, y0, x1, y1). slice: its number along the slice axis; None where the scan has only one.
    box3d: (i0, j0, k0, i1, j1, k1).
    Raises PromptError when a box is not finite, is empty or inverted, or not exactly one of them is given.
    """

    label: str = DEFAULT_LABEL
    box: Box | None = None
    slice: int | None = None
    box3d: tuple[float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.label, str):
            raise PromptError(f"A label is a text, not {self.label!r}.")
        for name, count in (("box", 4), ("box3d", 6)):
            object.__setattr__(self, name, _corners(getattr(self, name), name, count, self.label))
        if self.slice is not None:
            try:
                object.__setattr__(self, "slice", operator.index(self.slice))
            except TypeError:
                raise PromptError(f"The slice of {self.label!r} is a whole number, not {self.slice!r}.") from None
        if (self.box is None) == (self.box3d is None):
            raise PromptError(f"The prompt for {self.label!r} needs either a box or a box3d.")
        if not self.label.strip():
            raise PromptError(f"{self} has an empty label. Name it, or leave the label out.")
        if any(unicodedata.category(letter).startswith("C") for letter in self.label):
            raise PromptError(f"The label {self.label!r} holds control characters. Name it with letters.")
        if self.box3d is not None and self.slice is not None:
            raise PromptError(f"{self} names a slice, but a box3d has its own. Leave the slice out.")
        corners = self.box or self.box3d or ()
        half = len(corners) // 2
        if not all(math.isfinite(number) for number in corners):
            raise PromptError(f"{self} has a number that is not finite.")
        if any(low >= high for low, high in zip(corners[:half], corners[half:], strict=True)):
            order = "x0,y0,x1,y1" if half == 2 else "i0,j0,k0,i1,j1,k1"
            raise PromptError(f"{self} is empty or inverted: it needs {order} with each first below its second.")

    def __str__(self) -> str:
        corners = ",".join(f"{number:g}" for number in self.box or self.box3d or ())
        where = f"{self.slice}:" if self.slice is not None else ""
        return f"The {'box' if self.box is not None else 'box3d'} {where}{corners} for {self.label!r}"


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


@dataclass(frozen=True)
class SlicePrompt:
    """A box placed on one slice. label: id >= 1. box: half-open (x0, y0, x1, y1) in stored pixels."""

    label: int
    box: Box


@dataclass(frozen=True)
class PromptPlan:
    """Prompts sorted by the slices that have to be looked at.

    axis: the slice axis. names: label id -> name, ids in order of first appearance.
    slices: slice number -> its prompts, ascending.
    """

    axis: Axis
    names: dict[int, str]
    slices: dict[int, list[SlicePrompt]]


def plan(prompts: Sequence[Prompt], geometry: VolumeGeometry, axis: Axis | None = None) -> PromptPlan:
    """Place prompts on the slices of a grid; a box3d gives its cross-section to every slice it meets.

    axis: default the acquired one. Raises PromptError naming the prompt that lies outside the scan.
    """
    if not prompts:
        raise PromptError("There is nothing to segment: give at least one box.")
    plane = geometry.plane(axis)
    ids: dict[str, int] = {}
    slices: dict[int, list[SlicePrompt]] = {}
    rows, columns = plane.shape
    for prompt in prompts:
        label = ids.setdefault(prompt.label, len(ids) + 1)
        box, first, last = _cross_section(prompt, plane)
        if first < 0 or last >= plane.count:
            raise PromptError(
                f"{prompt} needs slice {first if first < 0 else last}, but axis {plane.axis} "
                f"has slices 0 ... {plane.count - 1}."
            )
        if box[0] < 0 or box[1] < 0 or box[2] > columns or box[3] > rows:
            raise PromptError(
                f"{prompt} reaches outside the slice, whose x runs from 0 to {columns} and y from 0 to {rows} "
                f"on axis {plane.axis} (columns and rows as the file stores them)."
            )
        for index in range(first, last + 1):
            slices.setdefault(index, []).append(SlicePrompt(label, box))
    return PromptPlan(plane.axis, {number: name for name, number in ids.items()}, dict(sorted(slices.items())))


def _cross_section(prompt: Prompt, plane: SlicePlane) -> tuple[Box, int, int]:
    """The box a prompt puts on a slice, and the first and last slice it puts it on."""
    if prompt.box is not None:
        index = prompt.slice
        if index is None:
            if plane.count != 1:
                raise PromptError(
                    f"{prompt} does not say which slice: axis {plane.axis} has {plane.count}. Write SLICE:X0,Y0,X1,Y1."
                )
            index = 0
        return prompt.box, index, index
    box3d = np.array(prompt.box3d, dtype=float).reshape(2, 3)
    number = AXES.index(plane.axis)
    # every slice whose centre lies inside the half-open range of edges
    first, after = (math.ceil(edge - 0.5) for edge in box3d[:, number])
    if after <= first:
        raise PromptError(f"{prompt} lies between two slices of axis {plane.axis} and meets none.")
    x0, y0, x1, y1 = np.delete(box3d, number, axis=1).ravel().tolist()
    return (x0, y0, x1, y1), first, after - 1


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


def read_prompts(path: Path) -> tuple[list[Prompt], Axis | None]:
    """A prompts file (JSON): `{"axis": "k", "prompts": [{"label", "box", "slice"} | {"label", "box3d"}]}`.

    Returns the prompts and the axis, None when the file leaves it open. Raises PromptError naming the entry.
    """
    try:
        # Notepad puts a mark of byte order in front
        document = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PromptError(f"The prompts file {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise PromptError(f"The prompts file {Path(path).name} is not JSON: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("prompts"), list):
        raise PromptError(f'The prompts file {Path(path).name} needs {{"axis": "k", "prompts": [...]}}.')
    unknown = document.keys() - {"axis", "prompts"}
    if unknown:
        raise PromptError(f"The prompts file {Path(path).name} has unknown keys: {', '.join(sorted(unknown))}.")
    axis = document.get("axis")
    if axis is not None and axis not in AXES:
        raise PromptError(f"The axis in {Path(path).name} is {axis!r}; it is one of i, j, k.")
    prompts = []
    for number, entry in enumerate(document["prompts"]):
        try:
            prompts.append(_from_json(entry))
        except PromptError as error:
            raise PromptError(f"Prompt {number} of {Path(path).name}: {error}") from error
    return prompts, axis


def _from_json(entry: Any) -> Prompt:
    if not isinstance(entry, dict):
        raise PromptError(f"it is {type(entry).__name__}, not an object.")
    for key in entry.keys() & {"points", "mask", "text"}:
        raise PromptError(f'"{key}" prompts are not supported by this version; use "box" or "box3d".')
    unknown = entry.keys() - {"label", "box", "box3d", "slice"}
    if unknown:
        raise PromptError(f"it has unknown keys: {', '.join(sorted(unknown))}.")
    label, index = entry.get("label", DEFAULT_LABEL), entry.get("slice")
    if not isinstance(label, str):
        raise PromptError(f'"label" is {label!r}, not a text.')
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise PromptError(f'"slice" is {index!r}, not a whole number.')
    return Prompt(label, box=_numbers(entry, "box", 4), slice=index, box3d=_numbers(entry, "box3d", 6))


def _numbers(entry: dict[str, Any], key: str, count: int) -> Any:
    values = entry.get(key)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != count
        or any(isinstance(value, bool) or not isinstance(value, int | float) for value in values)
    ):
        raise PromptError(f'"{key}" is {values!r}, not a list of {count} numbers.')
    return values
