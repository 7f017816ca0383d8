"""What a user asks for: boxes, clicks, strokes, lassos, lines and masks, each with a label. No scans, no networks.

Positions are in the stored index order of the file, 0-based. On slice axis k, x is i and y is j; on axis j they are i
and k; on axis i they are j and k. Boxes are half-open edges: (x0, y0, x1, y1) covers columns x0 ... x1 - 1. Points, of
clicks, strokes, lassos and lines, are pixel indices: the centre of column n is n.

`plan` places prompts on the slices of a scan, `parse` reads them from the command line and from files (`entries`: one
of them as JSON). `values` makes tuples of what was given, `shapes` masks and boxes of what was drawn.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from medsam.chances import CompactChances
from medsam.errors import PromptError
from medsam.geometry import alike
from medsam.masks import bounding_box, xyxy
from medsam.prompts.entries import from_entry, to_entry
from medsam.prompts.shapes import has_area
from medsam.prompts.strokes import ClickOrStroke, Scribble
from medsam.prompts.values import Box as Box
from medsam.prompts.values import Line, Position, clicks, corners, lines, positions, rough, slice_number
from medsam.prompts.values import Point as Point
from medsam.prompts.values import pixel_at as pixel_at

DEFAULT_LABEL = "object"
# of a prompt, what a name does without
_BESIDE = ("box", "box3d", "points", "mask", "scribbles", "lasso", "lines", "ellipse", "drawn")


@dataclass(frozen=True)
class Prompt:
    """What is said of one object: a box, points, a mask or several of them, with a label.

    box: (x0, y0, x1, y1). points: ((x, y, 1 inside | 0 outside), ...). Both lie on `slice`.
    slice: its number along the slice axis; None where the scan has only one.
    box3d: (i0, j0, k0, i1, j1, k1), through a volume; `slice` then says where what is beside it lies.
    mask: bool (or 0 and 1), (K, J, I) on the scan's grid, counting on every slice it touches or on `slice` alone;
        or (rows, columns) of `slice`. Copied, and read-only from then on.
    scribbles: strokes inside and outside, on `slice`, made after the points; where they cross the later counts.
    lasso: ((x, y), ...), a loop drawn round the object: nothing beyond it is part of it.
    lines: ((x, y), (x, y)) across the object from edge to edge, its longest diameter; or two, the long and the short
        axis. ellipse: the box (x0, y0, x1, y1) it is inscribed in. All on `slice`.
    drawn: like `mask`, but the answer itself: no network is asked, points and scribbles correct it. An empty one says
        that the object is not on `slice`.
    text: the name of a structure, in English, Latin, German or Korean: it is looked for on every slice, by a head that
        knows it (docs/names.md). Nothing is said beside it; where there is no label it is one.
    Of box, box3d, ellipse and lines there is one at most, and of mask and lasso; beside drawn there is none of them.
    All else goes together.
    Points and strokes outside alone say nothing of an object, so `plan` looks for others of their label; see there.
    Raises PromptError when a number is not finite, a box is empty or inverted, a mask marks nothing, a lasso encloses
    nothing, a line has no length, two points contradict each other, what excludes each other is given, or nothing is.
    """

    label: str = DEFAULT_LABEL
    box: Box | None = None
    slice: int | None = None
    box3d: tuple[float, float, float, float, float, float] | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, compare=False)
    scribbles: tuple[Scribble, ...] = ()
    lasso: tuple[Position, ...] | None = None
    lines: tuple[Line, ...] = ()
    ellipse: Box | None = None
    drawn: np.ndarray | None = field(default=None, compare=False)
    text: str | None = None

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, Prompt) else NotImplemented

    def __post_init__(self) -> None:
        if not isinstance(self.label, str):
            raise PromptError(f"A label is a text, not {self.label!r}.")
        if self.text is not None:
            self._check_text(self.text)
            return
        for name, count in (("box", 4), ("box3d", 6), ("ellipse", 4)):
            object.__setattr__(self, name, corners(getattr(self, name), name, count, self.label))
        object.__setattr__(self, "points", clicks(self.points, self.label))
        object.__setattr__(self, "mask", rough(self.mask, self.label))
        object.__setattr__(self, "drawn", rough(self.drawn, self.label))
        object.__setattr__(self, "slice", slice_number(self.slice, self.label))
        object.__setattr__(self, "scribbles", _scribbles(self.scribbles, self.label))
        object.__setattr__(self, "lines", lines(self.lines, self.label))
        if self.lasso is not None:
            what = f"The corners of the lasso of {self.label!r}"
            object.__setattr__(self, "lasso", positions(self.lasso, what, 3))
        self._check_parts()
        self._check_label()
        if self.box3d is not None and self.slice is not None and not self.flat and self.mask is None:
            raise PromptError(f"{self} names a slice, but a box3d has its own. Leave the slice out.")
        self._check_numbers()
        self._check_drawn()
        check_agreed([(self, self.points)])

    @property
    def flat(self) -> bool:
        """Whether something of it lies on one slice, which it has to name where there are several."""
        flat = self.box, self.ellipse, self.lasso, self.lines or None, self.points or None, self.scribbles or None
        return any(one is not None for one in flat) or any(
            mask is not None and mask.ndim == 2 for mask in (self.mask, self.drawn)
        )

    @property
    def clicked(self) -> bool:
        """Whether it is of points and strokes alone, which say of some pixels what they are."""
        return bool(self.points or self.scribbles) and not self._anchors

    @property
    def says_inside(self) -> bool:
        """Whether a point or a stroke of it lies in the object."""
        return _any_inside(self)

    @property
    def _anchors(self) -> list[str]:
        """What of it says where the object lies."""
        given: dict[str, Any] = {"a box": self.box, "a box3d": self.box3d, "an ellipse": self.ellipse}
        given |= {"a line": self.lines or None, "a mask": self.mask, "a lasso": self.lasso}
        given |= {"a drawn mask": self.drawn}
        return [name for name, value in given.items() if value is not None]

    def _check_parts(self) -> None:
        anchors = self._anchors
        for exclusive in (("a box", "a box3d", "an ellipse", "a line"), ("a mask", "a lasso")):
            both = [name for name in anchors if name in exclusive]
            if len(both) > 1:
                raise PromptError(f"The prompt for {self.label!r} takes either {both[0]} or {both[1]}, not both.")
        if self.drawn is not None and len(anchors) > 1:
            raise PromptError(
                f"The prompt for {self.label!r} takes either {anchors[0]} or a drawn mask, which is the answer itself."
            )
        if not anchors and not self.clicked:
            raise PromptError(
                f"The prompt for {self.label!r} says nothing: it needs a box, a box3d, points, scribbles, a lasso, a "
                "line, an ellipse, a mask or a drawn one."
            )

    def _check_text(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise PromptError(f"The text of a prompt is the name of a structure, not {text!r}.", parameter="text")
        beside = [name for name in _BESIDE if not _left_out(getattr(self, name))]
        if beside or self.slice is not None:
            raise PromptError(
                f"The name {text!r} is looked for on every slice: leave `{(*beside, 'slice')[0]}` out, or give it as a "
                "prompt of its own.",
                parameter="text",
            )
        if self.label == DEFAULT_LABEL:
            object.__setattr__(self, "label", text.strip())
        self._check_label()

    def _check_label(self) -> None:
        if not self.label.strip():
            raise PromptError(f"{self} has an empty label. Name it, or leave the label out.")
        if any(unicodedata.category(letter).startswith("C") for letter in self.label):
            raise PromptError(f"The label {self.label!r} holds control characters. Name it with letters.")

    def _check_numbers(self) -> None:
        box = self.box or self.box3d or self.ellipse or ()
        half = len(box) // 2
        rows = (*self.points, *(end for line in self.lines for end in line))
        if not all(math.isfinite(number) for number in (*box, *(c for row in rows for c in row))):
            raise PromptError(f"{self} has a number that is not finite.")
        if any(low >= high for low, high in zip(box[:half], box[half:], strict=True)):
            order = "x0,y0,x1,y1" if half == 2 else "i0,j0,k0,i1,j1,k1"
            raise PromptError(f"{self} is empty or inverted: it needs {order} with each first below its second.")

    def _check_drawn(self) -> None:
        if self.mask is not None and not self.mask.any():
            raise PromptError(f"{self} has an empty mask: no pixel of it is set. Draw one, or leave the mask out.")
        if self.drawn is not None and not self.drawn.any():
            if self.slice is None and self.drawn.ndim == 3 and len(self.drawn) > 1:
                raise PromptError(f"{self} has an empty drawn mask: name the `slice` that it takes the object from.")
            if self.points or self.scribbles:
                raise PromptError(
                    f"{self} has an empty drawn mask: there is nothing for points or scribbles to correct."
                )
        if self.lasso is not None and not has_area(self.lasso):
            raise PromptError(f"{self} encloses nothing: its corners lie on one line. Draw it round the object.")
        if any(start == end for start, end in self.lines):
            raise PromptError(f"{self} has no length: it needs two different ends, on the object's border.")

    def __str__(self) -> str:
        if self.text is not None:
            return f"The name {self.text!r} for {self.label!r}"
        where = f"{self.slice}:" if self.slice is not None else ""
        given = []
        # with the slice it is said of first
        for kind, shown in self._shown():
            given.append(f"{kind} {where}{shown}")
            where = ""
        if self.box3d is not None:
            given.insert(0, f"box3d {_shown(self.box3d)}")
        for kind, mask in (("mask", self.mask), ("drawn mask", self.drawn)):
            if mask is not None:
                given.append(f"{kind} on slice {self.slice}" if where else kind)
                where = ""
        return f"The {' with '.join(given)} for {self.label!r}"

    def _shown(self) -> Iterator[tuple[str, str]]:
        """Each kind of what lies on one slice, and what is said of it."""
        if self.box is not None:
            yield "box", _shown(self.box)
        if self.ellipse is not None:
            yield "ellipse", _shown(self.ellipse)
        if self.lines:
            yield _one_or_more("line", self.lines), _first([_shown((*start, *end)) for start, end in self.lines])
        if self.lasso is not None:
            yield "lasso", _first([_shown(corner) for corner in self.lasso])
        if self.points:
            signs = [f"{x:g},{y:g}{'+' if inside else '-'}" for x, y, inside in self.points]
            yield _one_or_more("point", self.points), _first(signs)
        if self.scribbles:
            starts = [f"{_shown(one.points[0])}{'+' if one.inside else '-'}" for one in self.scribbles]
            yield _one_or_more("scribble", self.scribbles), _first(starts)

    def to_dict(self) -> dict[str, Any]:
        """An entry of a prompts file, ready for JSON: what is left out is not there, and a mask is written inline."""
        return to_entry(self)

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
        return cls(**from_entry(entry, load_mask, shape))


def _left_out(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and not value)


def _scribbles(value: Any, label: str) -> tuple[Scribble, ...]:
    if value is None:
        return ()
    found = (value,) if isinstance(value, Scribble) else tuple(value) if isinstance(value, Iterable) else (value,)
    for one in found:
        if not isinstance(one, Scribble):
            raise PromptError(
                f"A scribble of {label!r} is a medsam.Scribble, such as Scribble([(10, 12), (14, 15)]), not "
                f"{type(one).__name__}."
            )
    return found


def _any_inside(said: Prompt | SlicePrompt) -> bool:
    return any(point[2] for point in said.points) or any(one.inside for one in said.scribbles)


def _one_or_more(kind: str, several: Sequence[Any]) -> str:
    return kind if len(several) == 1 else f"{kind}s"


def _first(shown: Sequence[str]) -> str:
    """The first four of them, and how many there are."""
    return " ".join(shown[:4]) + (f" ... ({len(shown)} in all)" if len(shown) > 4 else "")


def _shown(corners: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in corners)


# -- what a scan is asked -----------------------------------------------------------------------------------


def check_agreed(given: Sequence[tuple[Prompt, tuple[Point, ...]]]) -> None:
    """PromptError where the points of prompts of one object say that a pixel is both inside and outside."""
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


@dataclass(frozen=True)
class SlicePrompt:
    """One object asked for on one slice: at least a box, a mask or a point inside.

    label: id >= 1. box: half-open (x0, y0, x1, y1) in stored pixels. points: (x, y, 1 inside | 0 outside), pixel
    indices. mask: bool (rows, columns) of the stored slice, read-only. standing: the mask is what stands there, of
    which the points correct a part (see `standing`), and no rough outline. drawn: it stands because it was drawn so;
    it may be empty where there are no points and scribbles. likely: of a mask that stands, how likely each pixel is in
    it, which says where points correct it.
    scribbles: strokes, inside and outside. order: "point" or "scribble" for each of both, as they were made; of those
    that it does not name points are the later ones, and scribbles later still. See `marks`.
    lines: across the object, the longest first, ((x, y), (x, y)) from edge to edge of it; `box` is then the one that
    follows from them. within: bool (rows, columns), nothing outside of it is the object (a lasso); None bounds nothing.
    lasso, ellipse: as they were drawn, which `mask` and `box` follow from.
    """

    label: int
    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, compare=False)
    standing: bool = False
    scribbles: tuple[Scribble, ...] = ()
    lines: tuple[Line, ...] = ()
    within: np.ndarray | None = field(default=None, compare=False)
    lasso: tuple[Position, ...] | None = None
    ellipse: Box | None = None
    order: tuple[Literal["point", "scribble"], ...] = ()
    drawn: bool = False
    likely: CompactChances | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        left = {"point": len(self.points), "scribble": len(self.scribbles)}
        order = []
        for kind in (*self.order, *(kind for kind, count in left.items() for _ in range(count))):
            if left[kind]:
                order.append(kind)
                left[kind] -= 1
        object.__setattr__(self, "order", tuple(order))

    @property
    def marks(self) -> tuple[ClickOrStroke, ...]:
        """Points and scribbles in the order they were made; where they cross the later one counts."""
        points, scribbles = iter(self.points), iter(self.scribbles)
        return tuple(next(points) if kind == "point" else next(scribbles) for kind in self.order)

    def marked(self, marks: Iterable[ClickOrStroke]) -> SlicePrompt:
        """The same with these points and scribbles. One that says again what was said just before is left out.

        Just before: of a point, since the last scribble; of a scribble, by the last mark.
        """
        kept: list[ClickOrStroke] = []
        points: set[Point] = set()
        for mark in marks:
            if isinstance(mark, Scribble):
                points.clear()
                if kept[-1:] == [mark]:
                    continue
            elif mark in points:
                continue
            else:
                points.add(mark)
            kept.append(mark)
        return replace(
            self,
            points=tuple(one for one in kept if not isinstance(one, Scribble)),
            scribbles=tuple(one for one in kept if isinstance(one, Scribble)),
            order=tuple("scribble" if isinstance(one, Scribble) else "point" for one in kept),
        )

    def boxed(self) -> SlicePrompt:
        """A lasso as the box round it, and no mask; anything else as it is."""
        if self.within is None or self.mask is None:
            return self
        part = bounding_box(self.mask)
        x0, y0, x1, y1 = (0, 0, 0, 0) if part is None else xyxy(part)
        return replace(self, mask=None, box=self.box or (float(x0), float(y0), float(x1), float(y1)))

    @property
    def mask_alone(self) -> bool:
        """Whether it is a mask that was drawn, and nothing else: not a lasso, which says where the object is."""
        return self.mask is not None and self.within is None and self.box is None and not self.corrected

    @property
    def untouched(self) -> bool:
        """Whether it is a mask that stands, of which nothing is asked."""
        return self.standing and self.mask is not None and not self.corrected

    @property
    def erased(self) -> bool:
        """Whether it says that the object is not here."""
        return self.drawn and self.mask is not None and not self.mask.any()

    @property
    def corrected(self) -> bool:
        """Whether points or strokes say of some pixels what they are."""
        return bool(self.points or self.scribbles)

    @property
    def says_inside(self) -> bool:
        """Whether a point or a stroke lies in the object."""
        return _any_inside(self)

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, SlicePrompt) else NotImplemented


def as_prompts(prompts: Prompt | Iterable[Prompt]) -> list[Prompt]:
    """One prompt, or several, as a list. Raises PromptError for none, or for what is no `Prompt`."""
    if isinstance(prompts, Prompt):
        return [prompts]
    listed = list(prompts) if isinstance(prompts, Iterable) else [] if prompts is None else [prompts]
    if not listed:
        raise PromptError(
            "There is nothing to segment: give at least one box, point or scribble inside, lasso, line, ellipse, mask "
            "or name."
        )
    for one in listed:
        if not isinstance(one, Prompt):
            raise PromptError(
                f"A prompt is a medsam.Prompt, such as Prompt('liver', box=(60, 40, 210, 180), slice=41), not "
                f"{type(one).__name__}."
            )
    return listed
