"""What a user asks for: boxes, clicks and rough masks, each with a label. No scans, no networks.

Positions are in the stored index order of the file, 0-based. On slice axis k, x is i and y is j; on axis j they are i
and k; on axis i they are j and k. Boxes are half-open edges: (x0, y0, x1, y1) covers columns x0 ... x1 - 1. Points are
pixel indices: the centre of column n is n.

`plan` places prompts on the slices of a scan, `parse` reads them from the command line and from files.
"""

from __future__ import annotations

import math
import operator
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.geometry import alike
from medsam.masks import CompactMask
from medsam.prompts.strokes import Position, Scribble

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
        object.__setattr__(self, "slice", _slice_number(self.slice, self.label))
        self._check_parts()
        self._check_label()
        if self.box3d is not None and self.slice is not None and not self._on_slice:
            raise PromptError(f"{self} names a slice, but a box3d has its own. Leave the slice out.")
        self._check_numbers()
        if self.mask is not None and not self.mask.any():
            raise PromptError(f"{self} has an empty mask: no pixel of it is set. Draw one, or leave the mask out.")
        agreed_points([(self, self.points)])

    @property
    def _on_slice(self) -> bool:
        """Whether something is said that lies on one slice, beside a box."""
        return bool(self.points) or self.mask is not None

    def _check_parts(self) -> None:
        if self.box is not None and self.box3d is not None:
            raise PromptError(f"The prompt for {self.label!r} takes either a box or a box3d, not both.")
        if self.box is None and self.box3d is None and not self._on_slice:
            raise PromptError(f"The prompt for {self.label!r} says nothing: it needs a box, a box3d, points or a mask.")

    def _check_label(self) -> None:
        if not self.label.strip():
            raise PromptError(f"{self} has an empty label. Name it, or leave the label out.")
        if any(unicodedata.category(letter).startswith("C") for letter in self.label):
            raise PromptError(f"The label {self.label!r} holds control characters. Name it with letters.")

    def _check_numbers(self) -> None:
        corners = self.box or self.box3d or ()
        half = len(corners) // 2
        if not all(math.isfinite(number) for number in (*corners, *(c for point in self.points for c in point))):
            raise PromptError(f"{self} has a number that is not finite.")
        if any(low >= high for low, high in zip(corners[:half], corners[half:], strict=True)):
            order = "x0,y0,x1,y1" if half == 2 else "i0,j0,k0,i1,j1,k1"
            raise PromptError(f"{self} is empty or inverted: it needs {order} with each first below its second.")

    def __str__(self) -> str:
        where = f"{self.slice}:" if self.slice is not None else ""
        given = []
        if self.box is not None:
            given.append(f"box {where}{_shown(self.box)}")
        if self.box3d is not None:
            given.append(f"box3d {_shown(self.box3d)}")
        if self.points:
            points = " ".join(f"{x:g},{y:g}{'+' if inside else '-'}" for x, y, inside in self.points[:4])
            more = f" ... ({len(self.points)} in all)" if len(self.points) > 4 else ""
            kind = "point" if len(self.points) == 1 else "points"
            given.append(f"{kind} {where if self.box is None else ''}{points}{more}")
        if self.mask is not None:
            given.append("mask" if self.slice is None or self.box or self.points else f"mask on slice {self.slice}")
        return f"The {' with '.join(given)} for {self.label!r}"

    def to_dict(self) -> dict[str, Any]:
        """An entry of a prompts file, ready for JSON: what is left out is not there, and a mask is written inline."""
        entry: dict[str, Any] = {"label": self.label}
        if self.slice is not None:
            entry["slice"] = self.slice
        if self.box is not None:
            entry["box"] = [_plain(number) for number in self.box]
        if self.box3d is not None:
            entry["box3d"] = [_plain(number) for number in self.box3d]
        if self.points:
            entry["points"] = [[_plain(x), _plain(y), inside] for x, y, inside in self.points]
        if self.mask is not None:
            entry["mask"] = CompactMask.of(self.mask).to_dict()
        return entry

    @classmethod
    def from_dict(
        cls,
        entry: Any,
        load_mask: Callable[[str], np.ndarray] | None = None,
        shape: tuple[int, int, int] | None = None,
    ) -> Prompt:
        """An entry of a prompts file as JSON gives it (docs/prompts.md); the inverse of `to_dict`.

        load_mask: gives the mask that a name of a file stands for; without it such a "mask" is refused.
        shape: (K, J, I) of the scan, which an inline mask has to fit.
        Raises PromptError naming the key, and what `load_mask` raises.
        """
        if not isinstance(entry, dict):
            raise PromptError(f"it is {type(entry).__name__}, not an object.")
        if "text" in entry:
            raise PromptError(
                '"text" prompts are not supported by this version; use "box", "box3d", "points" or "mask".'
            )
        unknown = entry.keys() - {"label", "box", "box3d", "slice", "points", "mask"}
        if unknown:
            raise PromptError(f"it has unknown keys: {', '.join(sorted(map(str, unknown)))[:200]}.")
        label, index, points = entry.get("label", DEFAULT_LABEL), entry.get("slice"), entry.get("points")
        if not isinstance(label, str):
            raise PromptError(f'"label" is {str(label)[:100]}, not a text.')
        if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
            raise PromptError(f'"slice" is {str(index)[:100]}, not a whole number.')
        if points is not None and not (isinstance(points, list) and all(_is_numbers(point, 3) for point in points)):
            raise PromptError(f'"points" is {str(points)[:100]}, not a list of [x, y, 1 or 0].')
        return cls(
            label,
            box=_numbers(entry, "box", 4),
            slice=index,
            box3d=_numbers(entry, "box3d", 6),
            points=tuple(points or ()),
            mask=_stated_mask(entry.get("mask"), load_mask, shape),
        )


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


def _slice_number(value: Any, label: str) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise PromptError(f"The slice of {label!r} is a whole number, not {value!r}.") from None


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


def _shown(corners: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in corners)


# -- JSON ---------------------------------------------------------------------------------------------------


def _plain(number: float) -> float:
    """The same number, whole ones without a point, as people write them."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _stated_mask(
    value: Any, load_mask: Callable[[str], np.ndarray] | None, shape: tuple[int, int, int] | None
) -> np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, dict):
        size = value.get("size")
        # some bytes of run lengths may stand for a gigabyte
        fitting = None if shape is None else [list(shape), *(list(shape[:n] + shape[n + 1 :]) for n in range(3))]
        if fitting is not None and size not in fitting:
            raise PromptError(
                f'"mask" has the size {str(size)[:60]}, and the scan has the shape {list(shape or ())} (K, J, I). '
                "Draw it on the grid of the scan, or resample it."
            )
        try:
            return CompactMask.from_dict(value).to_array()
        except InputError as error:
            raise PromptError(f'"mask": {error}') from error
    if not (isinstance(value, str) and value.strip()):
        raise PromptError(f'"mask" is {str(value)[:100]!r}, not the name of a file.')
    if load_mask is None:
        raise PromptError('"mask" names a file, and masks in files are not read here; give a box or points.')
    return load_mask(value)


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


# -- what a scan is asked -----------------------------------------------------------------------------------


def pixel_at(point: Sequence[float], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Which element of an array of `shape` a point lies in, (x, y) or (i, j, k) -> (row, column) or (k, j, i).

    A point on the rim, half a pixel beyond the last centre, belongs to the last pixel.
    """
    return tuple(
        min(max(math.floor(at + 0.5), 0), length - 1) for at, length in zip(reversed(point), shape, strict=True)
    )


def agreed_points(given: Sequence[tuple[Prompt, tuple[Point, ...]]]) -> tuple[Point, ...]:
    """The points of prompts of one object, repeats left out; PromptError when a pixel is both inside and outside."""
    seen: dict[tuple[int, int], tuple[int, Prompt]] = {}
    for prompt, points in given:
        for x, y, inside in points:
            pixel = math.floor(x + 0.5), math.floor(y + 0.5)
            before, who = seen.setdefault(pixel, (inside, prompt))
            if before != inside:
                whom = "itself" if who is prompt else f"the{str(who)[3:]}"
                raise PromptError(
                    f"{prompt} contradicts {whom}: pixel {pixel[0]},{pixel[1]} is both inside and outside."
                )
    return tuple(dict.fromkeys(point for _, points in given for point in points))


@dataclass(frozen=True)
class SlicePrompt:
    """One object asked for on one slice: at least a box, a mask or a point inside.

    label: id >= 1. box: half-open (x0, y0, x1, y1) in stored pixels. points: (x, y, 1 inside | 0 outside), pixel
    indices. mask: bool (rows, columns) of the stored slice, read-only. standing: the mask is what stands there, of
    which the points correct a part (see `standing`), and no rough outline.
    scribbles: strokes, inside and outside. lines: across the object, the longest first, ((x, y), (x, y)) from edge to
    edge of it; `box` is then the one that follows from them. within: bool (rows, columns), nothing outside of it is the
    object (a lasso); None bounds nothing.
    """

    label: int
    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, compare=False)
    standing: bool = False
    scribbles: tuple[Scribble, ...] = ()
    lines: tuple[tuple[Position, Position], ...] = ()
    within: np.ndarray | None = field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, SlicePrompt) else NotImplemented


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
