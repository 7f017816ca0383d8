"""What a click or a stroke changes of a mask beyond the pixels under it.

A correction says that the mask is wrong here. How far? Of the piece that holds it and is of the wrong kind (of the mask
where the user points outside, of what surrounds it where they point inside), each pixel gets the log-odds of belonging
to the same error, a weighted sum of what is known of it (`_terms`):

  how near      its distance from the mark, in depths of the mark: the distance from the mark to where the wrong kind
                ends. Who clicks into the middle of an error so says how thick it is.
  how deep      its distance from the right kind, in the same unit: errors lie along outlines.
  how alike     the steps of grey that no way to it from the mark avoids, and brightness: as the right kind's, as round
                the mark, as under this and earlier marks against those that contradict.
  how unsure    how much surer of the contrary the network is here than at the mark.
  how contested whether a mark that contradicts is nearer.

What hangs together with the mark and is more likely wrong than right changes sides; nothing else does. Where pixels say
nothing, a patch of the mark's depth is left. Where a mask stands that is not the network's, and the network agrees with
the user, the piece that it has otherwise changes sides.
Corrections are a fold: a mask, one correction, a mask; earlier ones stay.
The weights are a regression on simulated clicks, tested on data sets that had no part in it (docs/results/README.md,
"What a correction changes").

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from medsam.inference.appearance import brightness, histogram, smoothed
from medsam.postprocess.clean import pieces_holding
from medsam.postprocess.guided import resized
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import depth_of, tight_box
from medsam.prompts.strokes import marked

# Log-odds of an error at the mark itself, where nothing else speaks. A click stands for an error all round it; a stroke
# covers much of what it means, and beside it that is as likely as not. And what each term adds (`_terms`).
_AT_A_CLICK, _AT_A_STROKE = 0.77, 0.0
_WEIGHTS: Mapping[str, float] = {
    "distance": -0.61,
    "far": 0.48,
    "depth": -0.51,
    "step": -0.17,
    "size": -0.58,
    "depth of small": 0.27,
    "as the right kind": 0.39,
    "as round the mark": 0.3,
    "as marked": 0.45,
    "surer": -0.14,
    "contested": 0.34,
}
# The mask with the highest expected Dice holds what is more likely inside than half of that Dice (Lipton et al. 2014),
# here log-odds for 0.8: pixels are added sooner than they are taken away.
_FOR_DICE = 0.4
# A correction changes at most so many times the pixels that are within a depth of its mark, and the surest ones.
_TIMES = 4
# A correction reaches this many depths of its mark and this many pixels.
_REACH, _REACH_PX = 10.0, 20
# It is weighed on at most so many pixels along the longer side.
_MOST = 512
# How much thicker than the mask a missed part of it is taken to be at most.
_THICKER = 2.0
# Levels, in units of the neighbourhood's contrast, at which steps of grey are told apart; and what is above them all.
_STEPS, _TOP_STEP = (0.15, 0.3, 0.5, 0.75, 1.0, 1.4, 2.0, 3.0), 4.0
# How many shades of what lies under marks are told apart.
_SHADES = 7
# Levels of brightness, equally filled; how many pixels each has beforehand, so that few say little; the most one says.
_BINS, _BEFOREHAND, _LIMIT = 24, 1.6, 2.0
# What the network's log-odds are taken to be at most; and those that a changed pixel, and a marked one, get at least.
_SUREST, _CHANGED, _MARKED = 12.0, 0.1, 2.0
# When an answer counts as refused, the share of it that was taken away; how badly its box has to fit then, and how much
# better that of another one does, in shares of the box; how much of the box's rim that one may fill; and up to where
# brightness is alike, in differences between marks inside and outside.
_REFUSED, _MISFIT, _FITS_BETTER, _FLOODED, _HALFWAY = 0.5, 0.75, 0.1, 0.6, 0.7
# How far an object that is made of marks alone reaches, in radii of the ellipse in its box.
_BEYOND = 1.1


@dataclass(frozen=True, eq=False)
class Mark:
    """A click or a stroke. where: bool (h, w), not empty. inside: whether the object is there."""

    where: np.ndarray
    inside: bool

    def same(self, other: Mark) -> bool:
        return self.inside == other.inside and np.array_equal(self.where, other.where)


def marks_of(prompt: SlicePrompt, shape: tuple[int, int], pitch_mm: tuple[float, float]) -> list[Mark]:
    """Clicks and strokes on a slice (h, w), in their order."""
    return [Mark(*marked(one, shape, pitch_mm)) for one in prompt.marks]


@dataclass(frozen=True, eq=False)
class Fold:
    """What became of a mask, bool (h, w), by marks, one after the other; the next one goes on from there.

    base: the mask before them. logits, allowed: as in `correct`.
    """

    base: np.ndarray
    logits: np.ndarray
    allowed: np.ndarray | None
    marks: tuple[Mark, ...]
    mask: np.ndarray

    def begins(self, other: Fold) -> bool:
        """Whether the other is of the same answer, with these marks first."""
        return (
            len(self.marks) <= len(other.marks)
            and all(mine.same(its) for mine, its in zip(self.marks, other.marks, strict=False))
            and np.array_equal(self.base, other.base)
            and np.array_equal(self.logits, other.logits)
            and (self.allowed is None) == (other.allowed is None)
            and (self.allowed is None or np.array_equal(self.allowed, np.asarray(other.allowed)))
        )


def correct(
    mask: np.ndarray,
    logits: np.ndarray,
    marks: Iterable[Mark],
    pixels: np.ndarray,
    pitch_mm: tuple[float, float],
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """A mask (h, w) after one correction after another; all marks hold, of those that cross the later one.

    logits: (h, w), the network's, -inf where it was not asked; they stay the same from mark to mark. pixels: (h, w) or
    (h, w, 3), any units, in the window they are looked at. pitch_mm: (row, column) of a pixel. allowed: bool (h, w),
    where the object may lie; None is everywhere. A mark where the mask is right changes nothing.
    """
    return folded(Fold(mask, logits, allowed, tuple(marks), mask), pixels, pitch_mm).mask


def folded(asked: Fold, pixels: np.ndarray, pitch_mm: tuple[float, float], known: Fold | None = None) -> Fold:
    """The same with the mask that its marks make of its base; see `correct`.

    known: of the same pixels; where it begins this fold, its marks are not gone through again.
    """
    if known is None or not known.begins(asked):
        known = replace(asked, marks=(), mask=asked.base)
    # the same arrays: results that a session keeps of click after click share them
    done, asked = len(known.marks), replace(known, marks=(*known.marks, *asked.marks[len(known.marks) :]))
    base, allowed = asked.base, asked.allowed
    grey = np.nan_to_num(brightness(pixels)).astype(np.float64)
    result, said = known.mask, np.zeros(base.shape, np.int8)
    pitch = np.array(pitch_mm, dtype=float)
    for number, mark in enumerate(asked.marks):
        if number < done:
            said[mark.where] = 1 if mark.inside else -1
            continue
        before, mask = asked.marks[:number], result
        result = _after(asked, mark, mask, said, grey, pitch)
        # what is right is not refused
        if allowed is not None and (result != mask).any() and not (base & (said > 0)).any():
            outside_first = result
            if before and not mark.inside and all(one.inside for one in before):
                # what is refused is judged as if the first mark outside had come first: the order is not to decide
                outside_first, again = base, np.zeros_like(said)
                for one in (mark, *before):
                    outside_first = _after(asked, one, outside_first, again, grey, pitch)
            anew = _anew(outside_first, base, said, grey, allowed)
            result = result if anew is None else anew
    return replace(asked, mask=result.copy())


def _after(
    asked: Fold, mark: Mark, mask: np.ndarray, said: np.ndarray, grey: np.ndarray, pitch: np.ndarray
) -> np.ndarray:
    """The mask (h, w) after one mark. said: int8 (h, w), 1 and -1 under the marks before it; it is added to them."""
    said[mark.where] = 1 if mark.inside else -1
    result = mask.copy()
    found = evidence(mark, mask, said, asked.logits, grey, pitch, asked.allowed)
    if found is not None:
        at_the_mark = _AT_A_STROKE if np.count_nonzero(mark.where) > 1 else _AT_A_CLICK
        at_the_mark += _FOR_DICE if mark.inside else -_FOR_DICE
        # of a mask that stands: where the network has it otherwise
        otherwise = (asked.base != (asked.logits > 0)) & (mask == asked.base)
        known_piece = found.piece & otherwise[found.part]
        agreed = pieces_holding(known_piece, found.at & known_piece, corners=False)
        result[found.part][agreed if agreed.any() else found.error(_WEIGHTS, at_the_mark)] = mark.inside
    result[said != 0] = said[said != 0] > 0
    return result


def corrected_logits(logits: np.ndarray, mask: np.ndarray, marks: Iterable[Mark]) -> np.ndarray:
    """Logits (h, w) whose threshold at 0 gives `mask`: as they were where they did already; surer under the marks."""
    sure = np.minimum(np.abs(np.nan_to_num(logits, nan=0.0, posinf=_SUREST, neginf=-_SUREST)), _MARKED)
    sign = np.where(mask, 1, -1)
    result = np.where((logits > 0) == mask, logits, sign * np.maximum(sure, _CHANGED))
    for mark in marks:
        here = mark.where & (mask == mark.inside)
        result[here] = sign[here] * np.maximum(np.minimum(np.abs(result[here]), _SUREST), _MARKED)
    return result.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a part of a slice round a mark. part: of (h, w). piece: of the wrong kind, with the mark.

    at: of it under the mark. terms: see `_terms`; of a large part on coarser pixels.
    """

    part: tuple[slice, slice]
    piece: np.ndarray
    at: np.ndarray
    terms: Mapping[str, np.ndarray | float]

    def error(self, weights: Mapping[str, float], at_the_mark: float) -> np.ndarray:
        """Bool of the part's shape: what is more likely wrong than right and hangs together with the mark."""
        odds = np.asarray(at_the_mark)
        # term by term: a matrix product need not be the same to the bit for every order of pixels
        for name, values in self.terms.items():
            odds = odds + weights[name] * values
        if odds.shape != self.at.shape:
            odds = resized(np.clip(odds, -_SUREST, _SUREST), self.at.shape, "bilinear")
        wrong = pieces_holding(self.piece & ((odds > 0) | self.at), self.at, corners=False)
        distance = np.asarray(self.terms["distance"])
        most = round(_TIMES * np.count_nonzero(distance <= 1) * self.at.size / distance.size)
        if np.count_nonzero(wrong) <= most:
            return wrong
        surest = odds > np.sort(odds[wrong])[-most - 1]
        return pieces_holding(wrong & (surest | self.at), self.at, corners=False)


def evidence(
    mark: Mark,
    mask: np.ndarray,
    said: np.ndarray,
    logits: np.ndarray,
    grey: np.ndarray,
    pitch: np.ndarray,
    allowed: np.ndarray | None = None,
) -> Evidence | None:
    """What speaks for and against an error round a mark; None where the mask (h, w) is right already.

    said: int8 (h, w), 1 and -1 where marks say inside and outside. grey: float (h, w). The others as in `correct`.
    """
    side = 1 if mark.inside else -1
    wrong = (mask != mark.inside) & (said != -side)
    if allowed is not None and 2 * np.count_nonzero(mark.where & allowed) >= np.count_nonzero(mark.where):
        # a mark beyond says that the bound was drawn too tightly
        wrong &= allowed | mark.where
    if not (wrong & mark.where).any():
        return None
    piece = pieces_holding(wrong, mark.where)
    at = mark.where & piece
    rows, columns = at.nonzero()
    depth_mm = _depth(piece, at, pitch)
    if mark.inside and mask.any():
        # what is missed is hardly thicker than what was found
        depth_mm = min(depth_mm, _THICKER * _depth(mask, mask, pitch))
    depth_mm = max(depth_mm, float(pitch.min()))
    reach = np.ceil((_REACH * depth_mm + _REACH_PX * pitch.min()) / pitch).astype(int).tolist()
    part = (
        slice(max(int(rows.min()) - reach[0], 0), int(rows.max()) + reach[0] + 1),
        slice(max(int(columns.min()) - reach[1], 0), int(columns.max()) + reach[1] + 1),
    )
    known = _Known(
        piece[part],
        at[part],
        mask[part] == mark.inside,
        said[part] * side,
        np.clip(np.where(np.isfinite(logits[part]), -side * logits[part], np.nan), -_SUREST, _SUREST),
        grey[part],
        pitch,
    ).coarser(depth_mm)
    radius_mm = float(np.sqrt(max(np.count_nonzero(mask), 4) * pitch.prod() / np.pi))
    terms = _terms(known, depth_mm, radius_mm)
    return Evidence(part, piece[part], at[part], terms)


def _anew(
    mask: np.ndarray, base: np.ndarray, said: np.ndarray, grey: np.ndarray, allowed: np.ndarray
) -> np.ndarray | None:
    """A mask made of the marks alone where they refuse the answer (`base`) and that one fits the box better; else None.

    Who has taken more than half of an answer away has refused it. What hangs together with marks inside by a brightness
    nearer to theirs than to that of marks outside is then tried: it counts where its box is the one that was asked for
    (`allowed`, (h, w)), as that of the corrected `mask` is not, and where it does not flood the box to its edges.
    """
    if not ((said > 0).any() and (said < 0).any()):
        return None
    refused = np.count_nonzero(base & ~mask) > _REFUSED * np.count_nonzero(base)
    fit = _fit(mask, allowed)
    if not (refused and fit < _MISFIT):
        return None
    smooth = smoothed(grey)
    same, other = (_differs(smooth, where) for where in (said > 0, said < 0))
    alike = (same < _HALFWAY * np.median(other[said > 0])) & (same < other) & (said == 0) & allowed & _ellipse(allowed)
    found = pieces_holding(alike | (said > 0), said > 0, corners=False)
    rim = allowed & ~ndimage.binary_erosion(allowed)
    flooded = np.count_nonzero(found & rim) > _FLOODED * np.count_nonzero(rim)
    return found if not flooded and _fit(found, allowed) > fit + _FITS_BETTER else None


def _ellipse(allowed: np.ndarray) -> np.ndarray:
    """Bool (h, w): the ellipse in the box of `allowed`, and so far round it as an object may reach."""
    squares = []
    for axis in (0, 1):
        there = np.flatnonzero(allowed.any(axis=1 - axis))
        middle, radius = (int(there[0]) + int(there[-1])) / 2, (int(there[-1]) - int(there[0]) + 1) / 2
        squares.append(((np.arange(allowed.shape[axis]) - middle) / radius) ** 2)
    ellipse: np.ndarray = squares[0][:, None] + squares[1] <= _BEYOND**2
    return ellipse


def _fit(mask: np.ndarray, allowed: np.ndarray) -> float:
    """The share that the box of a mask has of the box that it lies in, that of `allowed`; both bool (h, w)."""
    boxes = tight_box(mask, 1), tight_box(allowed, 1)
    areas = [0 if box is None else (box[2] - box[0]) * (box[3] - box[1]) for box in boxes]
    return areas[0] / max(areas[1], 1)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of a part (h, w) of a slice.

    piece: of the wrong kind, with the mark. at: under the mark. right: of the right kind. said: 1 under marks that say
    the same as this one, -1 under others. against: log-odds of the network for the wrong kind, nan where it was not
    asked. pitch: (row, column) of a pixel, in mm.
    """

    piece: np.ndarray
    at: np.ndarray
    right: np.ndarray
    said: np.ndarray
    against: np.ndarray
    grey: np.ndarray
    pitch: np.ndarray

    def coarser(self, depth_mm: float) -> _Known:
        """The same of a large part on pixels of which `_MOST` make the longer side, or four the depth of the mark."""
        shape = self.piece.shape
        step = min(max(shape) / _MOST, depth_mm / (4 * float(self.pitch.min())))
        if step <= 1:
            return self
        small = tuple(math.ceil(side / step) for side in shape)

        def mean(values: np.ndarray) -> np.ndarray:
            return resized(values, small, "area")

        at, asked = mean(self.at) > 0, np.isfinite(self.against)
        same, other = (mean(self.said == side) > 0 for side in (1, -1))
        with np.errstate(invalid="ignore"):
            against = mean(np.where(asked, self.against, 0)) / mean(asked)
        return _Known(
            (mean(self.piece) >= 0.5) | at,
            at,
            (mean(self.right) >= 0.5) & ~at,
            np.where(other & ~at, -1, same | at).astype(np.int8),
            against,
            mean(self.grey).astype(np.float64),
            self.pitch * shape / small,
        )


def _terms(known: _Known, depth_mm: float, radius_mm: float) -> dict[str, np.ndarray | float]:
    """What is known of each pixel of a part (h, w) of the slice, by the names of `_WEIGHTS`."""
    piece, at, right, said, pitch = known.piece, known.at, known.right, known.said, known.pitch
    away = ndimage.distance_transform_edt(~at, sampling=pitch)
    distance = away / depth_mm
    # the mark itself is of the right kind
    deep = np.minimum(_distance_to(right, pitch), away) / depth_mm
    small = float(np.clip(np.log(depth_mm / radius_mm), -4, 0))
    contrary = _distance_to(said < 0, pitch) / np.maximum(away, 0.3 * pitch.min())
    smooth = smoothed(known.grey)
    near = distance <= 4
    contrast = float(np.subtract(*np.percentile(smooth[near], (84, 16)))) / 2
    if contrast > 1e-6:
        looks = _looks(piece, at, right, said, smooth, distance, contrast, pitch, depth_mm)
    else:
        # nothing to see: a patch twice as deep as the mark, and not what is far away
        looks = {"step": np.where(distance <= 2, 0.0, np.inf)}
    return {
        "distance": np.minimum(distance, 8),
        "far": np.clip(distance - 2, 0, 6),
        "depth": np.minimum(deep, 4),
        "size": small,
        "depth of small": small * np.minimum(deep, 3),
        "surer": np.nan_to_num(np.clip(known.against - known.against[at].mean(), -8, 8)),
        "contested": np.clip(np.log(np.maximum(contrary, 1e-3)), -2, 2),
        **looks,
    }


def _looks(
    piece: np.ndarray,
    at: np.ndarray,
    right: np.ndarray,
    said: np.ndarray,
    smooth: np.ndarray,
    distance: np.ndarray,
    contrast: float,
    pitch: np.ndarray,
    depth_mm: float,
) -> dict[str, np.ndarray | float]:
    """The terms that brightness gives; arguments as in `_terms`, distance from the mark in depths of it."""
    near = distance <= 4
    edges = np.quantile(smooth[near], np.arange(1, _BINS) / _BINS)
    levels = np.searchsorted(edges, smooth, side="right")
    same, other = (_differs(smooth, where) for where in (at | (said > 0), said < 0))
    return {
        "step": _steps(smooth, piece, at, distance <= max(0.3, 1.01 * pitch.min() / depth_mm), contrast),
        "as the right kind": _alike(levels, right & near, piece & near & (distance > 1)),
        "as round the mark": _alike(levels, piece & (distance <= 1), piece & (distance > 2) & (distance < 6)),
        "as marked": np.clip((other - same) / contrast, -2, 2) if (said < 0).any() else 0.0,
    }


def _steps(smooth: np.ndarray, piece: np.ndarray, at: np.ndarray, around: np.ndarray, contrast: float) -> np.ndarray:
    """How much each pixel's way from the mark has to differ from it in grey, at least, in units of contrast."""
    if np.count_nonzero(at) > 12:
        low, high = np.percentile(smooth[at], (20, 80))
        differs = np.maximum(np.maximum(low - smooth, smooth - high), 0) / contrast
    else:
        differs = np.abs(smooth - np.median(smooth[around])) / contrast
    result, part = np.full(smooth.shape, _TOP_STEP), ndimage.find_objects(piece.view(np.uint8))[0]
    for level in reversed(_STEPS):
        result[part][pieces_holding(piece[part] & ((differs[part] <= level) | at[part]), at[part])] = level
    return result


def _differs(smooth: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """How far each pixel's brightness is from the nearest of those under marks; inf where there are none."""
    nearest = np.full(smooth.shape, np.inf)
    if marked.any():
        # one at a time: of a large slice seven maps need not be in memory together
        for value in np.unique(np.quantile(smooth[marked], np.linspace(0, 1, _SHADES))):
            np.minimum(nearest, np.abs(smooth - value), out=nearest)
    return nearest


def _alike(levels: np.ndarray, these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio (h, w) of each pixel's brightness in these against those; the fewer pixels, the nearer 0."""
    shares = []
    for where in (these, those):
        smooth = histogram(levels, where, _BINS)
        shares.append((smooth + _BEFOREHAND) / (np.count_nonzero(where) + _BEFOREHAND * _BINS))
    ratio: np.ndarray = np.clip(np.log(shares[0] / shares[1]), -_LIMIT, _LIMIT)[levels]
    return ratio


def _depth(piece: np.ndarray, at: np.ndarray, pitch: np.ndarray) -> float:
    """The longest way, in mm, from a pixel of `at` to the nearest outside `piece`; the slice ends at its border."""
    rows, columns = at.nonzero()
    if len(rows) == 1:
        # a click: no other pixel's distance is wanted
        down, across = np.arange(-1, piece.shape[0] + 1) - rows[0], np.arange(-1, piece.shape[1] + 1) - columns[0]
        squared = ((down * pitch[0]) ** 2)[:, None] + (across * pitch[1]) ** 2
        return float(np.sqrt(squared[~np.pad(piece, 1)].min()))
    return float(depth_of(piece, pitch)[at].max())


def _distance_to(where: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Of each pixel, in mm; inf where there is none."""
    if not where.any():
        return np.full(where.shape, np.inf)
    distance: np.ndarray = ndimage.distance_transform_edt(~where, sampling=pitch)
    return distance
