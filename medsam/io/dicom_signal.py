"""Padding of DICOM images, and what lies behind shutters and collimators: pixels without information on the patient.

Padding is known by its stored number, before any rescale. Rows and columns of shutters count from 1, their edges are
part of the image, and where there are several shapes a pixel is seen only inside all of them. A shape of which an edge
is missing hides nothing.

Source: DICOM PS3.3 C.7.5.1.1.2 (Pixel Padding Value and Range Limit), C.7.6.11 (display shutter), C.8.7.3 (X-ray
collimator), C.7.6.16.2.16 (shutters of frames).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset

from medsam.errors import InputError
from medsam.io.dicom_file import Frame, named, number, numbers, sequence_items, text

# a shape of which, and its numbers, by which equal ones of many frames are known
_Shape = tuple[str, tuple[float, ...]]
_EDGES = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")


@dataclass(frozen=True)
class Padding:
    """The stored numbers that are padding: from `low` to `high`, both among them."""

    low: float
    high: float

    @classmethod
    def of(cls, frame: Frame) -> Padding | None:
        """As a file states it, or None. Colour has none (PS3.3 C.7.5.1.1.2)."""
        header, layout = frame.header, frame.header.layout
        if layout.samples > 1 or layout.photometric == "PALETTE COLOR":
            return None
        kind = (header.pixel_keyword or "").removesuffix("PixelData")
        try:
            value, limit = (
                number(header.dataset, f"{kind}PixelPadding{part}", frame.name) for part in ("Value", "RangeLimit")
            )
        except InputError:
            if layout.is_float:  # not a number: such pixels shape no window anyway
                return None
            raise
        if value is None:
            return None
        ends = [value, value if limit is None else limit]
        if not layout.is_float:
            ends = [_as_stored(end, layout.signed, layout.bits_allocated) for end in ends]
        return cls(min(ends), max(ends))

    def hides(self, stored: np.ndarray) -> np.ndarray:
        """Where numbers as stored are padding, bool of their shape."""
        if self.low == self.high:
            return stored == self.low
        return (stored >= self.low) & (stored <= self.high)


def _as_stored(value: float, signed: bool, bits: int) -> float:
    """A number whose element has the wrong sign (US in place of SS, or SS of US) as the pixels have it."""
    for width in {bits, 16}:
        if signed and 2 ** (width - 1) <= value < 2**width:
            return value - 2**width
        if not signed and -(2 ** (width - 1)) <= value < 0:
            return value + 2**width
    return value


def behind_shutters(frame: Frame) -> np.ndarray | None:
    """Pixels that a display shutter hides, bool (J, I), or None."""
    groups = [
        item for group in frame.groups for item in sequence_items(group, "FrameDisplayShutterSequence", frame.name)
    ]
    return _hidden(frame, "Shutter", [frame.header.dataset, *groups])


def behind_collimators(frame: Frame) -> np.ndarray | None:
    """Pixels that the collimator of an X-ray tube kept dark, bool (J, I), or None."""
    dataset = frame.header.dataset
    return _hidden(frame, "Collimator", [dataset, *sequence_items(dataset, "CollimatorShapeSequence", frame.name)])


def _hidden(frame: Frame, kind: str, groups: Sequence[Dataset]) -> np.ndarray | None:
    shapes = [shape for group in groups for shape in _shapes(group, kind, frame.name)]
    if not shapes:
        return None
    layout, (row, column) = frame.header.layout, frame.projected_spacing or (1.0, 1.0)
    return _outside(tuple(shapes), layout.rows, layout.columns, row / column)


def _shapes(group: Dataset, kind: str, file: str) -> list[_Shape]:
    stated = group.get(f"{kind}Shape") if text(group, f"{kind}Shape") else None
    names = {str(name).strip() for name in ([stated] if isinstance(stated, str) else stated or ())}
    tags = {
        "RECTANGULAR": [f"{kind}{edge}Edge" for edge in _EDGES],
        "CIRCULAR": [f"CenterOfCircular{kind}", f"RadiusOfCircular{kind}"],
        "POLYGONAL": [f"VerticesOfThePolygonal{kind}"],
    }
    found = []
    for name in sorted(names & tags.keys()):
        parts = [numbers(group, keyword, file) for keyword in tags[name]]
        if None in parts:
            continue
        values = tuple(value for part in parts for value in part or ())
        fits = (
            len(values) >= 6 and len(values) % 2 == 0
            if name == "POLYGONAL"
            else len(values) == len(tags[name]) + (name == "CIRCULAR")
        )
        if not fits or max(map(abs, values)) > 1e6:
            raise InputError(f"{file}: {named(tags[name][0])} and its like do not describe a shape. Export it again.")
        found.append((name, values))
    return found


@lru_cache(maxsize=1)  # the frames of a scan mostly share one
def _outside(shapes: tuple[_Shape, ...], rows: int, columns: int, aspect: float) -> np.ndarray:
    """Pixels outside any of the shapes, bool (rows, columns). aspect: height of a pixel, in its width."""
    seen = np.ones((rows, columns), bool)
    y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
    for name, values in shapes:
        if name == "RECTANGULAR":
            left, right, upper, lower = values
            seen &= (x >= left) & (x <= right) & (y >= upper) & (y <= lower)
        elif name == "CIRCULAR":
            row, column, radius = values
            seen &= ((y - row) * aspect) ** 2 + (x - column) ** 2 <= radius**2
        else:
            picture = Image.new("1", (columns, rows))
            corners = [(column - 1, row - 1) for row, column in zip(values[::2], values[1::2], strict=True)]
            ImageDraw.Draw(picture).polygon(corners, fill=1, outline=1)
            seen &= np.asarray(picture)
    hidden = ~seen
    hidden.setflags(write=False)
    return hidden


def forget_shapes() -> None:
    """Give back the memory of the last mask made."""
    _outside.cache_clear()
