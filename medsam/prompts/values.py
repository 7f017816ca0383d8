"""What a prompt is made of, out of whatever sequences it was given as: tuples of plain numbers, masks that stay.

Each raises PromptError saying what was expected, and names the label where it knows it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from medsam.errors import PromptError

Box = tuple[float, float, float, float]
# (x, y), pixel numbers
Position = tuple[float, float]
# from end to end of an object
Line = tuple[Position, Position]
# (x, y, 1 inside | 0 outside)
Point = tuple[float, float, int]

# No hand draws more corners.
_MOST_CORNERS = 20_000


def pixel_at(point: Sequence[float], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Which element of an array of `shape` a point lies in, (x, y) or (i, j, k) -> (row, column) or (k, j, i).

    A point between two pixels belongs to the one nearer to the middle of the array, in whichever order they are stored;
    so one on the rim belongs to the last pixel.
    """
    return tuple(
        min(max(math.ceil(at - 0.5) if 2 * at > length - 1 else math.floor(at + 0.5), 0), length - 1)
        for at, length in zip(reversed(point), shape, strict=True)
    )


def lies_on(position: Sequence[float], shape: tuple[int, int]) -> bool:
    """Whether (x, y) lies on a slice (h, w): it ends half a pixel beyond the centres of its first and last pixels."""
    return all(-0.5 <= at <= length - 0.5 for at, length in zip(position, reversed(shape), strict=True))


def finite(value: Any) -> float | None:
    """A number; None for anything else."""
    try:
        number = float(value) if not isinstance(value, str | bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def positions(value: Any, what: str, least: int) -> tuple[Position, ...]:
    """(x, y) rows from any sequence of two numbers each, at least so many of them. what: for messages."""
    try:
        rows = [tuple(row) for row in value] if not isinstance(value, str) else []
        found = tuple((float(x), float(y)) for x, y in rows)
    except (TypeError, ValueError, OverflowError):
        found = ()
    if not least <= len(found) <= _MOST_CORNERS:
        count = f"at least {least}" if len(found) < least else f"at most {_MOST_CORNERS}"
        raise PromptError(f"{what} are (x, y) each, {count} of them, not {str(value)[:60]!r}.")
    if not all(math.isfinite(number) for position in found for number in position):
        raise PromptError(f"{what} hold a number that is not finite.")
    return found


def lines(value: Any, label: str) -> tuple[Line, ...]:
    """One line ((x, y), (x, y)), or a sequence of up to two of them, as a tuple of them."""
    if value is None or (isinstance(value, tuple | list) and not value):
        return ()
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape == (2, 2):
        array = array[None]
    if array.shape not in ((1, 2, 2), (2, 2, 2)):
        raise PromptError(
            f"The line of {label!r} is from (x, y) to (x, y), and two are its long and short axis, not "
            f"{str(value)[:60]!r}."
        )
    return tuple(((ax, ay), (bx, by)) for (ax, ay), (bx, by) in array.tolist())


def corners(value: Any, name: str, count: int, label: str) -> tuple[float, ...] | None:
    """`count` numbers from any sequence of numbers, as a tuple."""
    if value is None:
        return None
    try:
        found = tuple(float(number) for number in value) if not isinstance(value, str) else ()
    except (TypeError, ValueError, OverflowError):
        found = ()
    if len(found) != count:
        raise PromptError(f"The {name} of {label!r} is {count} numbers, not {str(value)[:60]!r}.")
    return found


def slice_number(value: Any, label: str) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise PromptError(f"The slice of {label!r} is a whole number, not {value!r}.") from None


def clicks(value: Any, label: str) -> tuple[Point, ...]:
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


def rough(value: Any, label: str) -> np.ndarray | None:
    """A read-only bool copy of a mask of two or three dimensions."""
    if value is None:
        return None
    given = as_array(value)
    mask = as_bool(given)
    if given.ndim not in (2, 3):
        raise PromptError(
            f"The mask of {label!r} has shape {given.shape}; it is (K, J, I) like the scan, or (rows, columns)."
        )
    if mask is None:
        raise PromptError(
            f"The mask of {label!r} holds other things than 0 and 1. Say which value is meant, for example mask == 2."
        )
    return mask


def as_array(value: Any) -> np.ndarray:
    """An array; an empty one for rows of different lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, dtype=object)


def as_bool(given: np.ndarray) -> np.ndarray | None:
    """A read-only bool copy of an array of bool, or of 0 and 1; None for anything else."""
    if given.dtype != bool and (given.dtype.kind not in "iuf" or not ((given == 0) | (given == 1)).all()):
        return None
    mask = np.array(given, dtype=bool)
    mask.setflags(write=False)
    return mask
