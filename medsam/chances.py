"""How likely each pixel of a slice is in a structure, kept small: what a mask leaves out of what a network found.

Log-odds in steps of 0.1, of which 6.2 is the most, as a byte a pixel of the part where they are not the least, by zlib:
most pixels are sure, and those take nothing. Its mask, where a pixel is more likely inside than not, is the same as
that of what it was made of.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsam.errors import InputError
from medsam.masks import CompactMask, bounding_box

_STEP, _STEPS = 0.1, 62
_MOST_PIXELS = 2**26


@dataclass(frozen=True, repr=False)
class CompactChances:
    """shape: (h, w). bounds: (first, past the last) along both axes of where they are not the least. levels: of that
    part, row by row, a byte a pixel by zlib. Never changes, so it may be shared."""

    shape: tuple[int, int]
    bounds: tuple[tuple[int, int], tuple[int, int]]
    levels: bytes

    @classmethod
    def of(cls, chances: np.ndarray) -> CompactChances:
        """chances: (h, w), in [0, 1]."""
        likely = chances.astype(np.float64)
        with np.errstate(divide="ignore"):
            odds = np.log(likely) - np.log1p(-likely)
        levels = np.clip(np.ceil(odds / _STEP) - 1, -_STEPS, _STEPS - 1).astype(np.int16) + _STEPS
        # log-odds are half a step beside each whole one: no pixel changes sides by being rounded
        levels = np.where(likely > 0.5, np.maximum(levels, _STEPS), np.minimum(levels, _STEPS - 1))
        part = bounding_box(levels > 0) or (slice(0, 0), slice(0, 0))
        rows, columns = ((one.start, one.stop) for one in part)
        height, width = chances.shape
        return cls((height, width), (rows, columns), zlib.compress(levels[part].astype(np.uint8).tobytes()))

    def __repr__(self) -> str:
        return f"CompactChances(shape={self.shape}, bounds={self.bounds})"

    def log_odds(self) -> np.ndarray:
        """Float32 (h, w), made anew; none is 0."""
        levels = np.zeros(self.shape, np.uint8)
        part = tuple(slice(first, past) for first, past in self.bounds)
        levels[part] = np.frombuffer(zlib.decompress(self.levels), np.uint8).reshape(levels[part].shape)
        return ((levels.astype(np.float32) - _STEPS + 0.5) * _STEP).astype(np.float32)

    @property
    def mask(self) -> CompactMask:
        """Where it is more likely inside than not."""
        return CompactMask.of(self.log_odds() > 0)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        bounds = [list(one) for one in self.bounds]
        return {"size": list(self.shape), "bounds": bounds, "levels": base64.b64encode(self.levels).decode("ascii")}

    @classmethod
    def from_dict(cls, document: Any, shape: tuple[int, int]) -> CompactChances:
        """The other way. shape: the only one it may have. Raises InputError for what is none."""
        try:
            size, (rows, columns) = document["size"], document["bounds"]
            bounds = ((rows[0], rows[1]), (columns[0], columns[1]))
            levels = base64.b64decode(document["levels"], validate=True)
        except (TypeError, KeyError, ValueError, IndexError, binascii.Error) as error:
            raise InputError('Chances are an object with "size", "bounds" and "levels".') from error
        if size != list(shape):
            raise InputError(f"Chances of {str(size)[:60]} pixels do not fit {list(shape)}.")
        return cls._checked(shape, bounds, levels)

    @classmethod
    def _checked(cls, shape: tuple[int, int], bounds: Any, levels: bytes) -> CompactChances:
        """From elsewhere. Raises InputError for bounds beyond the slice, and for levels that are not of those."""
        numbers = [n for one in bounds for n in one]
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        if not whole or not all(0 <= a <= b <= side for (a, b), side in zip(bounds, shape, strict=True)):
            raise InputError("The bounds of chances are two pairs of whole numbers within the slice.")
        (y0, y1), (x0, x1) = bounds
        pixels = (y1 - y0) * (x1 - x0)
        if pixels > _MOST_PIXELS:
            raise InputError("Chances of so many pixels are no slice's.")
        unpacked = zlib.decompressobj()
        try:
            # one more than there may be: what grows beyond any memory ends there
            found = unpacked.decompress(levels, pixels + 1)
        except zlib.error as error:
            raise InputError("The levels of chances are damaged.") from error
        if len(found) != pixels or not unpacked.eof or max(found, default=0) >= 2 * _STEPS:
            raise InputError("The levels of chances are not those of their bounds.")
        return cls(shape, bounds, levels)
