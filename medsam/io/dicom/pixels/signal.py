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
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.tags import named, number, numbers, sequence_items, text

# a shape of which, and its numbers, by which equal ones of many frames are known
_Shape = tuple[str, tuple[float, ...]]
_EDGES = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")


@dataclass(frozen=True)
class Padding:
    """The stored numbers that are padding: from `low` to `high`, both among them."""

    low: float
    high: float

    @classmethod
    def of(cls, frame: ImageFrame) -> Padding | None:
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


def behind_shutters(frame: ImageFrame) -> np.ndarray | None:
    """Pixels that a display shutter hides, bool (J, I), or None."""
    groups = [
        item for group in frame.groups for item in sequence_items(group, "FrameDisplayShutterSequence", frame.name)
    ]
    return _hidden(frame, "Shutter", [frame.header.dataset, *groups])


def behind_collimators(frame: ImageFrame) -> np.ndarray | None:
    """Pixels that the collimator of an X-ray tube kept dark, bool (J, I), or None."""
    dataset = frame.header.dataset
    return _hidden(frame, "Collimator", [dataset, *sequence_items(dataset, "CollimatorShapeSequence", frame.name)])


def _hidden(frame: ImageFrame, kind: str, groups: Sequence[Dataset]) -> np.ndarray | None:
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


# Pixels of a frame from which the darkness of the signal is estimated, and the share of them, in %, that is dark.
_SAMPLE, _DARK = 1000, 0.5
# Padding of a value that the signal has, too, fills at least this share of an image, from its edge on.
_PADS = 0.01


class SignalMask:
    """Which pixels of an array in the making carry no information about the patient.

    bits: as in `Volume`, None when there are none. notes: for the user.
    """

    def __init__(self, frames: Sequence[ImageFrame], out: np.ndarray) -> None:
        self.notes: list[str] = []
        self._out = out
        stated = [Padding.of(frame) for frame in frames]
        # the tag is optional for an image without padding: one without it is read by the number of the others
        common = set(stated) - {None}
        self._padding = [one or next(iter(common)) for one in stated] if len(common) == 1 else stated
        self._shutters = [behind_shutters(frame) for frame in frames]
        self._collimators = [behind_collimators(frame) for frame in frames]
        forget_shapes()
        # nothing below air needs to be darker
        self._air = -1000.0 if out.ndim == 3 and frames[0].units == "HU" else -np.inf
        # of the signal of each frame
        self._lowest: list[float] = []
        self._highest: list[float] = []
        self._samples: list[np.ndarray] = []
        # what a collimator kept dark, by frame
        self._measured: dict[int, np.ndarray] = {}
        self.bits: np.ndarray | None = None
        if any(one is not None for kind in (self._padding, self._shutters, self._collimators) for one in kind):
            slices, rows, columns = out.shape[:3]
            self.bits = np.zeros((slices, rows, -(-columns // 8)), np.uint8)

    def padding(self, stored: np.ndarray, k: int) -> np.ndarray | None:
        """Where the numbers of frame k, as stored, are padding; None where none is."""
        padding = self._padding[k]
        if padding is None:
            return None
        hidden = padding.hides(stored)
        return hidden if hidden.any() else None

    def mark(self, k: int, hidden: np.ndarray | None) -> None:
        """Remember what of frame k is no signal, once its values are in their place. hidden: its padding."""
        if self.bits is None:
            return
        masks = [mask for mask in (hidden, self._shutters[k], self._collimators[k]) if mask is not None]
        values = self._out[k]
        if masks:
            nothing = np.logical_or.reduce(masks)
            if (collimator := self._collimators[k]) is not None:
                others = masks[:-1]
                measured = collimator & ~np.logical_or.reduce(others) if others else collimator
                self._measured[k] = np.packbits(measured, axis=-1)
            self.bits[k] = np.packbits(nothing, axis=-1)
            values = values[~nothing]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if values.size:
            self._lowest.append(values.min())
            self._highest.append(values.max())
            self._samples.append(values.reshape(-1)[:: max(1, values.size // _SAMPLE)])

    def darken(self) -> None:
        """Give padding and what lies behind shutters the lowest value of the signal, unless it is dark already.

        What a collimator kept dark stays: it was measured. So do numbers of padding amid the signal, which writers
        use for tissue, too (0 as padding of a CT stored in HU).
        """
        if self.bits is None or not self.bits.any():
            self.bits = None
            return
        if not self._lowest:
            self.bits = None
            self.notes.append("By its tags the whole scan is padding or lies behind a shutter; the tags are ignored.")
            return
        lowest, highest, changed = min(self._lowest), max(self._highest), 0
        # not the lowest: compression and noise go below what pads a scan
        dark = max(np.percentile(np.concatenate(self._samples), _DARK), self._air)
        for k, values in enumerate(self._out):
            if not self.bits[k].any():
                continue
            bits = self.bits[k] & ~self._measured[k] if k in self._measured else self.bits[k]
            hidden = np.unpackbits(bits, axis=-1, count=values.shape[1]).view(bool)
            if values.ndim == 2 and ((values > dark) & (values <= highest) & hidden).any():
                hidden &= (values > highest) | _from_the_edge(hidden)
            bright = (values > dark) & (hidden[..., None] if values.ndim == 3 else hidden)
            changed += int(np.count_nonzero(bright))
            values[bright] = lowest
        if changed:
            share = 100 * changed / self._out.size
            self.notes.append(
                f"{share:.2g} % of the voxels are padding ({named('PixelPaddingValue')}) or lie behind a display "
                f"shutter and are not dark: they count as background, {lowest:g}."
            )


def _from_the_edge(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask (J, I) that touch the edge of the image and are no speckles."""
    from scipy.ndimage import label  # takes its time to import, and few scans need it

    parts, count = label(mask)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    large = np.bincount(parts.ravel(), minlength=count + 1) >= _PADS * mask.size
    large[0] = False
    return (np.isin(np.arange(count + 1), edge) & large)[parts]
