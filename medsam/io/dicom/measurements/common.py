"""A measurement as its file states it: shapes on images or in the patient, and what was measured.

Positions in pixels are edges (see `medsam.geometry`): 0, 0 is the outer corner of an image's first pixel, 0.5, 0.5 its
centre. So count presentation states (PS3.3 C.10.5) and structured reports (PS3.3 C.18.6) alike.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from medsam.errors import counted

# points     positions inside what was measured
# line       its two ends, from border to border
# open       a line that turns, or an angle: it encloses nothing
# outline    the corners of a closed polygon, the first not repeated
# circle     its centre, and a point on it
# ellipse    its centre, and an end of each of two conjugate half-axes
# ellipsoid  its centre, and an end of each of three
Kind = Literal["points", "line", "open", "outline", "circle", "ellipse", "ellipsoid"]
Axis = Literal["long", "short"]

# two positions this near to each other, in pixels or mm, are one
_SAME = 1e-3
# farther from the origin lies neither pixel nor patient
_FAR = 1e6
_MAX_LABEL = 64


@dataclass(frozen=True)
class ImageReference:
    """uid: (0008,0018) of an image. frames: 1-based, of a multi-frame one; () for all of it."""

    uid: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Shape:
    """One drawing. points: (N, 2) pixels as edges (column, row) on `image`; or (N, 3) LPS mm, and `image` is None.

    frame_of_reference: (0020,0052) of those mm, or None. axis: which one of a bidirectional measurement a line is.
    """

    kind: Kind
    points: np.ndarray
    image: ImageReference | None = None
    frame_of_reference: str | None = None
    axis: Axis | None = None


@dataclass(frozen=True, eq=False)
class Measurement:
    """What belongs to one object. label: what it is, by codes or by the name it is tracked under; None if not said."""

    label: str | None
    shapes: tuple[Shape, ...]


@dataclass
class Unused:
    """How much of a file cannot be used, by reason: words for one, and for several."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, one: str, several: str, number: int = 1) -> None:
        """Count another one."""
        self.counts[one, several] += number

    def sentences(self) -> list[str]:
        """ "2 text annotations say nothing of a place", and so on."""
        return [counted(number, *words) for words, number in self.counts.items() if number]


@dataclass(frozen=True, eq=False)
class Measurements:
    """What a file holds. unused: what of it is no shape, and why, as parts of a sentence."""

    items: tuple[Measurement, ...]
    unused: tuple[str, ...] = ()


def shape_of(
    stated: str, numbers: Sequence[float], size: int, *, filled: bool = False
) -> tuple[Kind, np.ndarray] | None:
    """A graphic type of the standard with its numbers as a kind and its points; None when they do not fit.

    size: numbers of a position, 2 or 3. filled: a polyline that is filled encloses something though it is not closed.
    """
    points = np.array(numbers, dtype=np.float64)
    if not len(points) or len(points) % size or not (np.abs(points) < _FAR).all():
        return None
    points = points.reshape(-1, size)
    if stated in ("POINT", "MULTIPOINT"):
        return "points", points
    if stated in ("POLYLINE", "INTERPOLATED", "POLYGON"):
        return _drawn_line(points, closed=filled or stated == "POLYGON")
    wanted = {"CIRCLE": 2, "ELLIPSE": 4, "ELLIPSOID": 6}.get(stated)
    if wanted != len(points):
        return None
    if stated == "CIRCLE":
        return ("circle", points) if _apart(points[0], points[1]) else None
    # ends of each axis: major, minor and third
    centre = points.mean(axis=0)
    ends = centre + (points[1::2] - points[0::2]) / 2
    if not all(_apart(one, other) for one, other in zip(points[0::2], points[1::2], strict=True)):
        return None
    return ("ellipse" if stated == "ELLIPSE" else "ellipsoid"), np.stack([centre, *ends])


def _drawn_line(points: np.ndarray, closed: bool) -> tuple[Kind, np.ndarray] | None:
    """A line from point to point, as what it is."""
    kept = [points[0]]
    for point in points[1:]:
        if _apart(kept[-1], point):
            kept.append(point)
    if len(kept) > 2 and not _apart(kept[0], kept[-1]):
        kept, closed = kept[:-1], True
    if len(kept) < 2:
        return None
    if len(kept) == 2:
        return "line", np.stack(kept)
    return ("outline" if closed else "open"), np.stack(kept)


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() > _SAME)


def presentable(words: str | None) -> str | None:
    """Text that can be a label: of one line, of usual length, without control characters; else None.

    With an @ it is the name of the tool that drew it, as OHIF writes its tracking identifiers.
    """
    words = " ".join((words or "").split())
    if not words or len(words) > _MAX_LABEL or "@" in words:
        return None
    return None if any(unicodedata.category(letter).startswith("C") for letter in words) else words
