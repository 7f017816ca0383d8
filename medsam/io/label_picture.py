"""Pictures as labels: a mask of one structure is recognised by its colours, a label map by its numbers.

A mask of one structure comes as 0 and 255, as 0 and 65535, black and white at one bit, a palette in either order,
one colour on black, a drawing in the alpha channel, or smeared by JPEG. The number of its values does not decide:
a JPEG of two colours holds dozens. A label map holds numbers (0, 1, 2, or 0, 128, 255) or the indices of a palette.
`read_label_picture` is the one place that decides; what it cannot decide is an error, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from medsam.io.picture import black_is_zero, read_pages

# brightness (of 0 ... 255) above which a pixel of a mask is inside
DEFAULT_THRESHOLD = 127.0
# a grey picture of 0 and at least this is a mask; below, the value is a chosen number
_BRIGHT = 128
# more distinct values than this are no drawing by hand, but smeared by JPEG or smoothed along edges
_FEW = 8
# more distinct values than this are a label map only where most of them cover an area
_MANY = 64
# a JPEG darker than this is no drawing: its own noise is a good part of it
_DIM = 32
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP")


@dataclass(frozen=True)
class LabelPicture:
    """The pixels of a label picture, (K, J, I) each.

    shown: brightness as a viewer shows it: the brightest channel, palettes looked up, transparent is black, one bit
        is 0 and 255. Where everything visible has one colour, its opacity.
    numbers: label numbers: grey values, or the indices of a palette; in a palette of black and one other colour black
        is 0 in either order. None in a picture of colours.
    colours: (K, J, I, 3) where channels differ, else None. lossy: stored by a method that changes values.
    indexed: the numbers are indices of a palette of more than two colours.
    """

    shown: np.ndarray
    numbers: np.ndarray | None
    colours: np.ndarray | None
    lossy: bool = False
    indexed: bool = False

    @cached_property
    def threshold(self) -> float | None:
        """Brightness above which pixels are inside, when this is the mask of one structure; None when it is not."""
        values = np.unique(self.shown)
        top = float(values[-1])
        if not np.isfinite(top) or float(values[0]) < 0:
            return None
        if top == 0:
            return DEFAULT_THRESHOLD
        smeared = self.lossy or len(values) > _FEW
        if self.colours is not None and _several_colours(self.colours, self.shown, smeared):
            return None
        level = _level(self.shown) if smeared else top
        between = _between(level)
        if len(values) <= 2:
            dark = float(values[0]) if len(values) == 2 else 0.0
            vivid = top >= _BRIGHT or self.colours is not None
            return between if vivid and dark <= top / 4 else None
        return between if _two_levels(self.shown, values, level, smeared, self.lossy) else None

    @property
    def would_be_threshold(self) -> float:
        """The threshold for a user who knows that this is the mask of one structure."""
        level = _level(self.shown)
        return _between(level) if level > 0 else DEFAULT_THRESHOLD

    @property
    def unreadable(self) -> str | None:
        """Why this is neither a mask nor a label map; None when it is one of them."""
        if self.threshold is not None:
            return None
        if self.numbers is None:
            return "is a picture in several colours, and colours are no label numbers"
        if self.lossy:
            return "is stored as JPEG, which changes label numbers, and is no mask of one brightness on black"
        values = np.unique(self.numbers)
        if len(values) > _MANY:
            size = (1, 3, 3)
            even = maximum_filter(self.numbers, size) == minimum_filter(self.numbers, size)
            if 2 * len(np.unique(self.numbers[even])) < len(values):
                return f"holds {len(values)} values, few of them over any area, as photographs and probabilities do"
        return None

    @property
    def code(self) -> int | None:
        """The one number beside 0, of a mask that may as well be a label map with one structure in it; else None."""
        if self.threshold is None or self.numbers is None:
            return None
        values = np.unique(self.numbers)
        found = values[values != 0]
        if len(found) != 1 or not (self.indexed or found[0] == self.shown.max()):
            return None
        return int(found[0])


def read_label_picture(path: Path) -> LabelPicture:
    """Read a label picture (a multi-page TIFF: one slice a page). Raises InputError for what cannot be read."""
    pages = read_pages(path, partial(_page, path))
    numbers = [page.numbers for page in pages if page.numbers is not None]
    painted = [page.colours for page in pages if page.colours is not None]
    colours = np.stack(painted) if len(painted) == len(pages) else None
    if colours is not None and (colours[..., :1] == colours).all():
        colours = None
    return LabelPicture(
        shown=np.stack([page.shown for page in pages]),
        numbers=np.stack(numbers) if len(numbers) == len(pages) else None,
        colours=colours,
        lossy=any(page.lossy for page in pages),
        indexed=any(page.indexed for page in pages),
    )


class _Page(NamedTuple):
    """As in `LabelPicture`, (J, I); colours also where the channels are equal, None for grey."""

    shown: np.ndarray
    numbers: np.ndarray | None
    colours: np.ndarray | None = None
    lossy: bool = False
    indexed: bool = False


def _page(path: Path, image: Image.Image) -> _Page:
    lossy = image.format in _LOSSY or image.info.get("compression") in ("jpeg", "webp")
    if image.mode == "1":
        inside = np.asarray(image)
        return _Page(inside * np.uint8(255), inside.astype(np.uint8))
    if image.mode in ("L", "F", "I") or image.mode.startswith("I;16"):
        array = black_is_zero(path, image, np.asarray(image))
        return _Page(array, array, lossy=lossy)
    return _coloured(image, lossy)


def _coloured(image: Image.Image, lossy: bool) -> _Page:
    """A page in colour, with a palette, or with opacity."""
    rgba = np.asarray(image.convert("RGBA"))
    colours, opacity = rgba[..., :3], rgba[..., 3:]
    seen = colours[opacity[..., 0] > 0]
    drawn = bool(opacity.min() < opacity.max() and (seen == seen[:1]).all())  # one colour: the drawing is the opacity
    if opacity.min() < opacity.max():
        colours = (colours * (opacity / np.float32(255))).round().astype(np.uint8)
    elif opacity.max() == 0 and (colours == colours[:1, :1]).all():
        colours = np.zeros_like(colours)  # nothing drawn
    shown = opacity[..., 0] if drawn else colours.max(axis=-1)
    grey = bool((colours[..., :1] == colours).all())
    if image.mode not in ("P", "PA"):
        numbers = shown if drawn and not colours.any() else colours[..., 0] if grey else None
        return _Page(shown, numbers, None if drawn else colours, lossy)
    indices, two = _indices(image, shown, drawn)
    return _Page(shown, indices, None if drawn else colours, indexed=not two)


def _indices(image: Image.Image, shown: np.ndarray, drawn: bool) -> tuple[np.ndarray, bool]:
    """The numbers of a palette picture, and whether its colours are black and at most one other.

    drawn: its opacity is the drawing.
    """
    indices = np.asarray(image).reshape(*shown.shape, -1)[..., 0]
    palette = np.reshape(image.getpalette("RGB") or (), (-1, 3))
    distinct = {tuple(colour) for colour in palette.tolist()}
    two = len(distinct) <= 2 and (0, 0, 0) in distinct
    if two or drawn:  # black first or last is the writer's habit
        indices = np.where(shown > 0, np.maximum(indices, 1), 0).astype(np.uint8)
    return indices, two


def _several_colours(colours: np.ndarray, shown: np.ndarray, smeared: bool) -> bool:
    """Whether bright pixels differ in hue: more than one structure is drawn."""
    bright = shown >= shown.max() / 2
    hues = colours / np.maximum(shown, 1)[..., None]
    off = bright & (np.abs(hues - np.median(hues[bright], axis=0)) > 0.25).any(axis=-1)
    if not smeared:
        return bool(off.any())
    # JPEG and smoothing change the hue along edges, but not of areas
    return bool(np.count_nonzero(off & _even(shown)) > 0.01 * np.count_nonzero(bright))


def _two_levels(shown: np.ndarray, values: np.ndarray, level: float, smeared: bool, lossy: bool) -> bool:
    """Whether a picture of more than two values is one structure on black, smeared by JPEG or smoothed at its edges.

    level: the brightness of the structure.
    """
    top = float(values[-1])
    if top < _BRIGHT and not lossy:
        return False  # numbers
    if lossy and level < _DIM:
        return False
    if not lossy and np.count_nonzero(values >= top * 15 / 16) < 2:
        return False  # 0, 1, 2 and 255
    between = (shown > level / 8) & (shown < level * 7 / 8)
    if not smeared:
        return not between.any()
    # edges are in between or, sharpened, above; areas are not; a photograph has neither areas nor two levels
    bright, even = shown >= level * 7 / 8, _even(shown)
    astray = between | (shown > level * 9 / 8)
    # what JPEG changes weighs more the darker a mask is
    share = 0.02 * max(1.0, 255 / level) if lossy else 0.02
    few = np.count_nonzero(even & astray) <= share * np.count_nonzero(even & bright)
    return bool(few and np.count_nonzero(between) <= 3 * np.count_nonzero(bright))


def _between(level: float) -> float:
    """127 wherever it lies well between black and `level`, so that manifests of all kinds of masks agree."""
    return DEFAULT_THRESHOLD if level / 8 < DEFAULT_THRESHOLD < level * 7 / 8 else level / 2


def _level(shown: np.ndarray) -> float:
    """How bright areas are where they are bright; edges of a JPEG go beyond."""
    bright = shown[(shown >= shown.max() / 2) & _even(shown)]
    return float(np.median(bright) if bright.size else shown.max())


def _even(shown: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours are as bright as they are, but for what JPEG changes."""
    size = (1, 3, 3)
    spread = maximum_filter(shown, size).astype(np.float32) - minimum_filter(shown, size)
    return spread <= max(1.0, float(shown.max()) / 16)
