"""Clean a mask: islands and holes by physical size, the piece that was asked for, a smoother outline.

One function for slices and volumes. Letters: D axes (2 or 3), N points; D-tuples follow the array's axes, positions
follow prompts: (x, y) in a slice (h, w), (i, j, k) in a volume (K, J, I).

Sizes are equivalent diameters in mm: of the disc (2D) or ball (3D) with the same area or volume. So one number means
the same in a slice and in a volume, and on a grid of 0.7 x 0.7 x 5 mm. Without millimetres they are shares of the mask,
which do not depend on how large a picture was taken.
Pieces of a mask hang together by corners too, holes by faces only: the usual pair, under which a closed outline has
an inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy import ndimage

from medsam.errors import InputError, PromptError
from medsam.masks import grown
from medsam.prompts.prompt import pixel_at

# no structure is a metre across
_MOST_SMOOTH_MM = 1000.0

# What answers are cleaned of unless the user keeps it, as equivalent diameters (measured: docs/results/README.md),
ISLAND_MM, HOLE_MM = 3.0, 5.0
# and in a picture without millimetres as shares of the pixels of the mask.
ISLAND_SHARE, HOLE_SHARE = 0.01, 0.02


@dataclass(frozen=True, eq=False)
class KeepComponents:
    """Which pieces of a mask were asked for. With neither given: the largest.

    points: (N, D) pixel indices of clicks inside the object; pieces that hold one are kept, or, where none does, the
        piece nearest to each, in mm. They rule out the box: a click is the sharper word.
    box: (2D,) half-open, (x0, y0, x1, y1) or (i0, j0, k0, i1, j1, k1); the piece that fills most of it is kept, or,
        where none meets it, the largest.
    Pieces that come out equal are kept together, so that the answer does not depend on how the scan is stored.
    """

    points: np.ndarray | None = None
    box: Sequence[float] | None = None


def clean(
    mask: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    min_island_mm: float = 0.0,
    fill_mm: float = 0.0,
    min_island_share: float = 0.0,
    fill_share: float = 0.0,
    keep: KeepComponents | None = None,
    smooth_mm: float = 0.0,
    within: np.ndarray | None = None,
) -> np.ndarray:
    """A cleaner copy of a mask; an empty one stays empty and no other becomes so.

    mask: bool (h, w) or (K, J, I). spacing_mm: pitch along the array's axes.
    fill_mm: holes smaller than this are filled. A hole does not reach the border of the array; in 3D it is closed on
        all sides. inf fills every one.
    min_island_mm: pieces smaller than this are removed; were all of them, the largest stays.
    fill_share, min_island_share: the same where there are no millimetres, as shares [0, 1] of the pixels of the mask.
    keep: only the pieces asked for stay, whatever their size; see `KeepComponents`. None keeps all of `min_island_mm`.
    smooth_mm: sigma of a Gaussian that rounds every piece's outline. Each keeps its volume (to ties), so thin and
        small ones change shape but do not vanish.
    within: bool like the mask, which lies in it: smoothing does not leave it.
    In this order. 0 switches a step off.
    Raises InputError when the mask is not boolean, has not 2 or 3 axes, or a number does not fit.
    """
    pitch = _check(mask, spacing_mm, {"min_island_mm": min_island_mm, "fill_mm": fill_mm, "smooth_mm": smooth_mm})
    for name, share in (("min_island_share", min_island_share), ("fill_share", fill_share)):
        if not 0 <= share <= 1:
            raise InputError(f"{name} is a share from 0 to 1, not {share}.")
    result = np.zeros_like(mask)
    found = ndimage.find_objects(mask.view(np.uint8))
    if not found:
        return result
    # A pixel around the object joins what opens to the outside. Where the object ends at the array's border that
    # pixel is outside the array, and what touches it there counts as open: it is not known to be a hole.
    inner = np.pad(mask[found[0]], 1)
    element, whole = math.prod(pitch), int(np.count_nonzero(inner))
    if fill_mm > 0 or fill_share > 0:
        inner = _fill(inner, max(_elements(fill_mm, mask.ndim, element), fill_share * whole))
    if keep is not None:
        offset = [part.start - 1 for part in found[0]]
        inner = _kept(inner, keep, pitch, offset)
    elif min_island_mm > 0 or min_island_share > 0:
        least = max(_elements(min_island_mm, mask.ndim, element), min_island_share * whole)
        inner = _without_islands(inner, least)
    result[found[0]] = inner[(slice(1, -1),) * mask.ndim]
    return _smooth(result, [smooth_mm / step for step in pitch], within) if smooth_mm > 0 else result


@dataclass(frozen=True)
class Cleanup:
    """What answers are cleaned of before a user gets them.

    keep_islands: nothing of the default: islands under `ISLAND_MM` and holes under `HOLE_MM` stay, or, in a picture
    without millimetres, under `ISLAND_SHARE` and `HOLE_SHARE` of the mask.
    one_piece: only the piece that the prompt points at stays, see `KeepComponents`. smooth_mm: see `clean`.
    """

    keep_islands: bool = False
    one_piece: bool = False
    smooth_mm: float = 0.0

    def check(self, calibrated: bool) -> None:
        """Raise PromptError for a `smooth_mm` that is no length, or that cannot be had without millimetres."""
        if not isinstance(self.smooth_mm, Real) or not 0 <= self.smooth_mm < _MOST_SMOOTH_MM:
            raise PromptError(
                f"`smooth_mm` is a number of millimetres from 0 to {_MOST_SMOOTH_MM:g}, not {self.smooth_mm!r}.",
                parameter="smooth_mm",
            )
        if self.smooth_mm > 0 and not calibrated:
            raise PromptError(
                "Smoothing (`smooth_mm`) is in millimetres, and the file of this scan states no physical size. Leave "
                "it out, or convert the scan to a format with a spacing.",
                parameter="smooth_mm",
            )

    def __call__(
        self,
        mask: np.ndarray,
        spacing_mm: Sequence[float],
        *,
        calibrated: bool = True,
        points: Sequence[tuple[float, ...]] = (),
        box: Sequence[float] | None = None,
        within: np.ndarray | None = None,
    ) -> np.ndarray:
        """A cleaner copy of a mask (h, w) or (K, J, I).

        calibrated: False for a picture without millimetres, which is cleaned by shares.
        points: clicks as prompts have them, (x, y, 1 inside | 0 outside) or (i, j, k, ...); a piece that holds one
        inside, and a hole that holds one outside, stay whatever their size. within: see `clean`.
        Raises PromptError as `check` does.
        """
        self.check(calibrated)
        by_mm, by_share = calibrated and not self.keep_islands, not calibrated and not self.keep_islands
        inside = [where for *where, label in points if label]
        keep = KeepComponents(np.array(inside) if inside else None, box) if self.one_piece else None
        cleaned = clean(
            mask,
            spacing_mm,
            min_island_mm=ISLAND_MM if by_mm else 0.0,
            fill_mm=HOLE_MM if by_mm else 0.0,
            min_island_share=ISLAND_SHARE if by_share else 0.0,
            fill_share=HOLE_SHARE if by_share else 0.0,
            keep=keep,
            smooth_mm=self.smooth_mm,
            within=within,
        )
        for *where, label in points:
            here = pixel_at(where, mask.shape)
            if mask[here] != bool(label) or cleaned[here] == bool(label):
                continue
            if label:
                cleaned |= pieces_holding(mask, here)
            else:
                cleaned &= ~pieces_holding(~mask, here, corners=False)
        return cleaned


def pieces_holding(mask: np.ndarray, at: np.ndarray | tuple[int, ...], corners: bool = True) -> np.ndarray:
    """The pieces of a bool mask that hold some of `at`, bool like it, or an index; of its elements outside, nothing.

    corners: whether pieces hang together by corners, or by faces only.
    """
    pieces, count = ndimage.label(mask, _structure(mask.ndim, corners))
    stay = np.zeros(count + 1, dtype=bool)
    stay[pieces[at]] = True
    stay[0] = False
    held: np.ndarray = stay[pieces]
    return held


def remove_small_regions(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """SAM's own clean-up of a mask (h, w): first holes, then islands of fewer than `min_area` pixels.

    Both hang together by corners, and a hole may lie at the border of the image. Were all islands removed, the largest
    stays. Returns the mask and whether it changed.
    Source: Kirillov et al. 2023, appendix B, and the public generator.
    """
    small = _small(~mask, min_area)
    filled = mask | small
    islands = _small(filled, min_area)
    if islands.any() and np.array_equal(islands, filled):
        pieces, sizes = _pieces(filled)
        islands &= pieces != 1 + int(np.argmax(sizes))
        # the published code calls a mask changed once it has looked for what to keep
        return filled & ~islands, True
    return filled & ~islands, bool(small.any() or islands.any())


def _check(mask: np.ndarray, spacing_mm: Sequence[float], lengths_mm: dict[str, float]) -> tuple[float, ...]:
    if mask.dtype != bool or mask.ndim not in (2, 3):
        raise InputError(f"A mask is bool with 2 or 3 axes; this one is {mask.dtype} of shape {mask.shape}.")
    pitch = tuple(float(step) for step in spacing_mm)
    if len(pitch) != mask.ndim or not all(math.isfinite(step) and step > 0 for step in pitch):
        raise InputError(f"The spacing must be {mask.ndim} positive numbers in mm, one an axis, not {pitch}.")
    for name, length in lengths_mm.items():
        if not length >= 0 or (name == "smooth_mm" and math.isinf(length)):
            raise InputError(f"{name} is a length of 0 mm or more, not {length}.")
    return pitch


def _elements(diameter_mm: float, ndim: int, element_mm: float) -> float:
    """How many pixels or voxels the disc or ball has. element_mm: mm² or mm³ of one."""
    return (math.pi / 4 * diameter_mm**2 if ndim == 2 else math.pi / 6 * diameter_mm**3) / element_mm


def _pieces(mask: np.ndarray, corners: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Piece numbers from 1 on, 0 outside, and the size of each."""
    pieces, _ = ndimage.label(mask, _structure(mask.ndim, corners))
    return pieces, np.bincount(pieces.ravel())[1:]


def _structure(ndim: int, corners: bool) -> np.ndarray:
    """What hangs together with an element."""
    return np.asarray(ndimage.generate_binary_structure(ndim, ndim if corners else 1))


def _small(mask: np.ndarray, least: float) -> np.ndarray:
    pieces, sizes = _pieces(mask)
    return np.concatenate([[False], sizes < least])[pieces]


def _fill(mask: np.ndarray, least: float) -> np.ndarray:
    """mask: with a pixel of background all around."""
    pieces, sizes = _pieces(~mask, corners=False)
    fill = sizes < least
    fill[pieces.flat[0] - 1] = False  # the outside
    return mask | np.concatenate([[False], fill])[pieces]


def _without_islands(mask: np.ndarray, least: float) -> np.ndarray:
    pieces, sizes = _pieces(mask)
    stay = sizes >= least
    if not stay.any():
        stay = sizes == sizes.max()
    return np.concatenate([[False], stay])[pieces]


def _kept(mask: np.ndarray, keep: KeepComponents, pitch: Sequence[float], offset: Sequence[int]) -> np.ndarray:
    """offset: of this part of the array in the whole, along its axes."""
    pieces, sizes = _pieces(mask)
    stay = sizes == sizes.max()
    if keep.points is not None and len(keep.points):
        points = np.asarray(keep.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != mask.ndim or not np.isfinite(points).all():
            raise InputError(f"Clicks have shape {points.shape}; expected finite (N, {mask.ndim}).")
        local = points[:, ::-1] - offset
        stay = _hit(pieces, len(sizes), local)
        if not stay.any():
            stay = _nearest(pieces, len(sizes), local, pitch)
    elif keep.box is not None:
        corners = np.asarray(keep.box, dtype=np.float64)
        if corners.shape != (2 * mask.ndim,) or not np.isfinite(corners).all():
            raise InputError(f"A box has {2 * mask.ndim} finite numbers here, not {corners.tolist()}.")
        # pixels whose centre is in the box
        low, high = np.ceil(corners.reshape(2, -1)[:, ::-1] - offset - 0.5).astype(int)
        part = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
        common = np.bincount(pieces[part].ravel(), minlength=len(sizes) + 1)[1:]
        if common.any():
            stay = common == common.max()
    return np.concatenate([[False], stay])[pieces]


def _hit(pieces: np.ndarray, count: int, points: np.ndarray) -> np.ndarray:
    """Which pieces hold a point. points: (N, D) indices along the array's axes."""
    whole = np.floor(points + 0.5).astype(int)
    there = whole[((whole >= 0) & (whole < pieces.shape)).all(axis=1)]
    return np.bincount(pieces[tuple(there.T)], minlength=count + 1)[1:] > 0


def _nearest(pieces: np.ndarray, count: int, points: np.ndarray, pitch: Sequence[float]) -> np.ndarray:
    where = np.argwhere(pieces)
    owner = pieces[tuple(where.T)]
    stay = np.zeros(count, dtype=bool)
    for point in points:
        squared = (((where - point) * pitch) ** 2).sum(axis=1)
        # sums in another order differ in the last digit, and a tie must stay one
        stay[owner[squared <= squared.min() * (1 + 1e-9)] - 1] = True
    return stay


def _smooth(mask: np.ndarray, sigma: Sequence[float], within: np.ndarray | None) -> np.ndarray:
    pieces, sizes = _pieces(mask)
    result = np.zeros_like(mask)
    reach = [math.ceil(3 * s) for s in sigma]
    for number, part in enumerate(ndimage.find_objects(pieces)):
        around = grown(part, reach, mask.shape)
        one = (pieces[around] == number + 1).astype(np.float64)
        # an object cut off by the border goes on behind it
        soft = ndimage.gaussian_filter(one, sigma, mode="nearest", truncate=3.0)
        if within is not None:
            soft[~within[around]] = 0.0
        # the level at which the volume stays: half would eat convex objects, and thin ones whole
        level = np.partition(soft, -sizes[number], axis=None)[-sizes[number]]
        result[around] |= (soft >= level * (1 - 1e-9)) & (soft > 0)
    return result
