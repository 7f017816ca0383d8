"""What a box and the brightness of the pixels in it add to a network's logits, none of it trained.

A network answers many boxes with a mask that leaves most of the box empty. Its logits are log-odds of a pixel
belonging to the object, so what else is known of the object can be added to them:

  the box     (1 - r²) with r the distance from the centre in half-axes: most likely inside at the centre, even on the
              inscribed ellipse, unlikely in the corners. Where axes were measured, the ellipse is theirs. Where a rough
              mask was given, its outline takes the ellipse's place: the signed distance from it in tenths of its
              radius. So does a lasso, a tenth further in, because hands stay outside of what they go round
              (docs/prompts.md), and nothing beyond it counts.
  the pixels  log-likelihood ratio of the pixel's brightness inside the network's mask against outside the box, from
              smoothed histograms over equally filled bins (the appearance term of GrabCut, Rother et al. 2004). It
              adds what a tight box leaves out, and against the margin of a loose one, which resembles what
              lies outside.

How much they count is doubt in the network's answer, of which there are two kinds:

  it wavers   its *stability* is low (Kirillov et al. 2023: the IoU of the masks at thresholds -1 and +1). The priors
              count by it: more where the network's logits nearly reach the edges of the box, which is then a tight
              one, and less where they stay far from them, because it is loose.
  it is wrong a mask may be stable and leave most of the box empty. The less the mask's own box *fits* the prompt, the
              more the middle of the box stands for the inside, instead of the mask, in the histograms.

Where an answer neither fits nor is sure and brightness tells nothing either, the ellipse is all there is, and counts
more on pictures coarser than the network's input: there it is shown blocks, while boxes are drawn to a pixel.

What comes out is smoothed along the edges of the picture (`postprocess.guided`), and what the network is sure of is
bounded beforehand, so that evidence can outweigh it.

Chosen by measurement (docs/results/README.md, "A closer look"). Models fine-tuned with loose boxes are better without
all this (`ModelSpec.use_priors`).

Letters: h, w rows and columns of the stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from medsam.inference.appearance import brightness, log_odds
from medsam.inference.outlines import signed_distance
from medsam.masks import bounding_box, xyxy
from medsam.postprocess.guided import guided_mean, resized
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import Box
from medsam.prompts.shapes import axes_distance
from medsam.prompts.values import Line
from medsam.transforms.frame import in_box, pixels_of

# Bins of brightness, equally filled.
_BINS = 24
# The network's logits are bounded softly to this: beyond it they say no more than sure.
_SURE = 4.0
# Beside a mask that was given they may say more (17 sets, 115 objects: 0.881 with 5, 0.868 without a bound).
_SURE_BESIDE = 5.0
# What is round a box is looked at in at most so many pixels along its longer side.
_MOST = 1024
# How much more the priors count in a box that the logits reach on all sides, and less in one that they stay far from.
_TIGHT = 0.35
# Where brightness tells inside from outside by less than this, in log-odds, the shape counts more, from this stability
# on, in full a tenth later: of an answer that wavers more the doubt says enough.
_TOLD, _STEADY = 0.45, 0.6
# An edge of a box is this share of its side thick.
_EDGE = 0.06
# Pieces of a mask smaller than this share of its largest do not count for the box that it fills.
_PIECE = 0.1
# The least that the ellipse of two axes says, and beyond which square distance pixels are surroundings.
_FAR, _CLEAR = -2.0, 1.21
# A lasso runs beside the object, by so many tenths of its radius, and its priors count as for this doubt at least.
_BESIDE, _LASSO_DOUBT = 1.0, 0.5
# Smoothing along the picture's edges: its share, its reach in shorter sides of the box, what counts as even there, and
# the logit of what lies outside the box.
_SMOOTH, _REACH, _FLAT, _OUTSIDE = 0.7, 0.03, 0.05, -6.0


@dataclass(frozen=True)
class PriorWeights:
    """How much the box and the pixels count beside the network's log-odds, for a mask of stability 0.5.

    box, pixels: their weights. limit: the most one pixel's brightness may add, in log-odds. blind: how much more the
    box counts where neither the network nor brightness knows anything.
    `scripts/studies/evidence.py` chooses box and pixels and tests each choice on data sets that had no part in it;
    blind was chosen on the demo (docs/results/README.md, "Two kinds of doubt").
    """

    box: float = 3.0
    pixels: float = 4.5
    limit: float = 1.5
    blind: float = 28.0


def add_box_and_intensity_prior(
    logits: np.ndarray,
    box: Box,
    pixels: np.ndarray,
    weights: PriorWeights | None = None,
    *,
    rough: np.ndarray | None = None,
    within: np.ndarray | None = None,
    lines: Sequence[Line] = (),
    pitch_mm: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Logits (h, w) with both priors added, -inf outside the box (see the top of this file).

    box: half-open, stored pixels. pixels: (h, w) or (h, w, 3), any units. rough: bool (h, w), a mask that was given;
    within: a lasso, likewise; without pixels of them in the box they change nothing. lines: the axes of the object, of
    which the box was made. pitch_mm: (row, column) of a pixel.
    """
    weights = weights or PriorWeights()
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    # the box and half of it around, where "outside" is learnt
    around = (x0 - width / 2 - 10, y0 - height / 2 - 10, x1 + width / 2 + 10, y1 + height / 2 + 10)
    left, top, right, bottom = pixels_of(around, logits.shape)
    part = np.s_[top:bottom, left:right]
    result = np.full(logits.shape, -np.inf, np.float32)
    allowed = in_box(box, logits.shape)[part]
    if np.ptp(_finite(pixels[part])) == 0:
        # nothing to see: a mask from the box alone would be misleading
        result[part] = np.where(allowed, logits[part], -np.inf)
        return result
    asked = _Asked(
        logits[part],
        (x0 - left, y0 - top, x1 - left, y1 - top),
        pixels[part],
        pitch_mm,
        rough=None if rough is None or not rough[part].any() else rough[part],
        within=None if within is None or not (within[part] & allowed).any() else within[part],
        lines=tuple(((x - left, y - top), (u - left, v - top)) for (x, y), (u, v) in lines),
    )
    result[part] = asked.answered(weights)
    return result


@dataclass(frozen=True, eq=False)
class _Asked:
    """What `add_box_and_intensity_prior` was given, of a part (h, w) of a slice; rough and lasso are not empty."""

    logits: np.ndarray
    box: Box
    pixels: np.ndarray
    pitch_mm: tuple[float, float]
    rough: np.ndarray | None
    within: np.ndarray | None
    lines: tuple[Line, ...]

    def answered(self, weights: PriorWeights) -> np.ndarray:
        """Logits (h, w) with the priors; of a large part worked out on coarser pixels, and bounded on its own."""
        coarse = self._coarser()
        if coarse is None:
            return self._with_priors(weights)
        added = coarse._with_priors(weights)
        # where nothing may be a border does not draw near things to it
        values = resized(np.where(np.isfinite(added), added, _OUTSIDE), self.logits.shape, "bilinear")
        if self.rough is not None:
            return np.where(np.isfinite(self.logits), values, -np.inf)
        allowed = in_box(self.box, self.logits.shape)
        return np.where(allowed if self.within is None else allowed & self.within, values, -np.inf)

    def _with_priors(self, weights: PriorWeights) -> np.ndarray:
        near, logits = _Surroundings.of(self.box, self.pixels, self.pitch_mm), self.logits
        if self.rough is not None:
            return _near_outline(logits, self.rough, near, weights)
        if self.within is not None:
            return _in_lasso(logits, self.within & near.allowed, near, weights)
        inside = np.where(near.allowed, logits, -np.inf)
        if self.lines:
            distance = axes_distance(self.lines, (0, 0), logits.shape, self.pitch_mm)
            return _along_axes(inside, distance, near, weights)
        return _in_box(inside, near, weights)

    def _coarser(self) -> _Asked | None:
        """On pixels of which `_MOST` make the longer side; None where it has no more."""
        shape = self.logits.shape
        step = max(shape) / _MOST
        if step <= 1:
            return None
        small = tuple(math.ceil(side / step) for side in shape)
        down, across = (few / many for few, many in zip(small, shape, strict=True))
        x0, y0, x1, y1 = self.box
        seen = np.isfinite(self.logits)
        share = resized(seen, small, "area")
        total = resized(np.where(seen, self.logits, 0), small, "area")
        pixels = _finite(self.pixels)
        channels = [resized(channel, small, "area") for channel in np.moveaxis(np.atleast_3d(pixels), -1, 0)]
        masks = (None if mask is None else resized(mask, small, "area") >= 0.5 for mask in (self.rough, self.within))
        rough, within = (None if mask is None or not mask.any() else mask for mask in masks)
        return _Asked(
            np.where(share > 0, total / np.maximum(share, 1e-6), -np.inf).astype(np.float32),
            (x0 * across, y0 * down, x1 * across, y1 * down),
            channels[0] if pixels.ndim == 2 else np.stack(channels, axis=-1),
            (self.pitch_mm[0] / down, self.pitch_mm[1] / across),
            rough,
            within,
            tuple((_scaled(start, across, down), _scaled(end, across, down)) for start, end in self.lines),
        )


def _scaled(point: tuple[float, float], across: float, down: float) -> tuple[float, float]:
    """A pixel number (x, y), which is that of a pixel's middle, on a grid with more or fewer pixels."""
    return (point[0] + 0.5) * across - 0.5, (point[1] + 0.5) * down - 0.5


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """A box and the part (h, w) of a slice around it. allowed: the pixels of the box. across, down: (1, w) and (h, 1),
    the distance from its centre in half-axes. pixels: finite."""

    box: Box
    pixels: np.ndarray
    pitch_mm: tuple[float, float]
    allowed: np.ndarray
    across: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, box: Box, pixels: np.ndarray, pitch_mm: tuple[float, float]) -> _Surroundings:
        x0, y0, x1, y1 = box
        rows, columns = pixels.shape[:2]
        y, x = np.ogrid[:rows, :columns]
        across, down = (2 * (x + 0.5) - (x0 + x1)) / (x1 - x0), (2 * (y + 0.5) - (y0 + y1)) / (y1 - y0)
        return cls(box, _finite(pixels), pitch_mm, in_box(box, (rows, columns)), across, down)


def _finite(pixels: np.ndarray) -> np.ndarray:
    """Pixels with 0 for nan, and the largest or smallest finite one for infinite ones, which have no variance."""
    there = np.isfinite(pixels)
    if there.all():
        return pixels
    known = pixels[there] if there.any() else np.zeros(1)
    return np.nan_to_num(pixels, posinf=float(known.max()), neginf=float(known.min()))


def _in_box(logits: np.ndarray, near: _Surroundings, weights: PriorWeights) -> np.ndarray:
    """Of a box alone. logits: (h, w), -inf outside the box."""
    ellipse = 1 - (near.across**2 + near.down**2)
    outside = np.maximum(np.abs(near.across), np.abs(near.down)) > 1.05
    return _added(logits, near.allowed, ellipse, outside, near, weights)


def _along_axes(logits: np.ndarray, axes: np.ndarray, near: _Surroundings, weights: PriorWeights) -> np.ndarray:
    """Of a box that was made of an object's axes: their ellipse lies as they do. axes: see `axes_distance`."""
    return _added(logits, near.allowed, np.maximum(1 - axes, _FAR), axes > _CLEAR, near, weights)


def _in_lasso(logits: np.ndarray, lasso: np.ndarray, near: _Surroundings, weights: PriorWeights) -> np.ndarray:
    """Of a loop, bool (h, w), that was drawn a little outside of the object. It stands for the box and its ellipse."""
    inside = np.where(lasso, logits, -np.inf)
    shape_prior = _outline_distance(lasso, near.pitch_mm, _BESIDE)
    return _added(inside, lasso, shape_prior, ~lasso, near, weights, _LASSO_DOUBT)


def _added(
    logits: np.ndarray,
    allowed: np.ndarray,
    shape_prior: np.ndarray,
    outside: np.ndarray,
    near: _Surroundings,
    weights: PriorWeights,
    least_doubt: float = 0.0,
) -> np.ndarray:
    """Logits (h, w), -inf where they are not allowed, with the priors, as doubtful as they are, along the edges."""
    mask = logits > 0
    stability = float(stability_score(torch.from_numpy(logits)).nan_to_num())
    doubt = max(2 * (1 - stability) * (1 + _TIGHT * reach(logits, near.box)), least_doubt)
    # what stands for the inside: the mask as far as it fits the box, the middle of the box for the rest; a loose box is
    # not filled either, so a small misfit says little
    fit = box_fit(mask, near.box)
    middle = (shape_prior > 0.5) & allowed
    empty = (1 - fit) ** 2
    inside = (1 - empty) * _share(mask) + empty * _share(middle)
    brightness = _brightness_odds(near.pixels, inside, outside, weights.limit)
    unseen = max(0.0, 1 - _told(brightness, inside, outside) / _TOLD) * float(
        np.clip((stability - _STEADY) / 0.1, 0, 1)
    )
    blind = weights.blind * unseen * np.sqrt((1 - stability) * (1 - fit))
    sure = _SURE * np.tanh(logits / _SURE)
    added = sure + (doubt + blind) * weights.box * shape_prior + doubt * weights.pixels * brightness
    return np.where(allowed, _along_edges(np.where(allowed, added, _OUTSIDE), near), -np.inf)


def _told(brightness: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> float:
    """How far brightness tells inside from outside, in log-odds; infinite where too few pixels were there to learn."""
    return float((brightness * inside).sum() - brightness[outside].mean()) if brightness.any() else np.inf


def _share(mask: np.ndarray) -> np.ndarray:
    """(h, w), of sum 1 unless the mask is empty."""
    return mask / max(1, int(np.count_nonzero(mask)))


def _near_outline(logits: np.ndarray, rough: np.ndarray, near: _Surroundings, weights: PriorWeights) -> np.ndarray:
    """Of a mask that was given: it may be drawn too small, so the box does not bound it.

    A drawn outline is worth more than the network's doubt about it.
    """
    shape_prior = _outline_distance(rough, near.pitch_mm)
    brightness = _brightness_odds(near.pixels, rough, ~rough, weights.limit)
    # -inf where no crop reached stays so
    sure = np.where(np.isfinite(logits), _SURE_BESIDE * np.tanh(logits / _SURE_BESIDE), -np.inf)
    return sure + weights.box * shape_prior + weights.pixels * brightness


def box_fit(mask: np.ndarray, box: Box) -> float:
    """IoU, in [0, 1], of a box and the tight one round a mask (h, w), pieces under a tenth of its largest left out."""
    pieces, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        mask = (sizes >= _PIECE * sizes.max())[pieces]
    part = bounding_box(mask)
    if part is None:
        return 0.0
    x0, y0, x1, y1 = xyxy(part)
    across = max(0.0, min(x1, box[2]) - max(x0, box[0]))
    down = max(0.0, min(y1, box[3]) - max(y0, box[1]))
    common = across * down
    return common / ((x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - common)


def reach(logits: np.ndarray, box: Box) -> float:
    """How far logits (h, w) come to the four edges of a box: -1 (nowhere near) to 1 (beyond doubt on all sides)."""
    left, top, right, bottom = pixels_of(box, logits.shape)
    part = np.nan_to_num(logits[top:bottom, left:right], neginf=-1e3)
    rows, columns = max(1, round(_EDGE * part.shape[0])), max(1, round(_EDGE * part.shape[1]))
    edges = (part[:rows], part[-rows:], part[:, :columns], part[:, -columns:])
    return float(np.mean([np.tanh(edge.max() / _SURE) for edge in edges]))


def _along_edges(values: np.ndarray, near: _Surroundings) -> np.ndarray:
    """Values (h, w), smoothed in the box along the edges of the picture; outside it they are not to be used."""
    x0, y0, x1, y1 = near.box
    row_mm, column_mm = near.pitch_mm
    # at least one pixel of the finer side, at most a quarter of the box: nothing may be left of a small one
    reach_mm = max(_REACH * min((x1 - x0) * column_mm, (y1 - y0) * row_mm), min(near.pitch_mm))
    rows = min(round(reach_mm / row_mm), int((y1 - y0) / 4))
    columns = min(round(reach_mm / column_mm), int((x1 - x0) / 4))
    # a mean of means sees twice as far
    left, top, right, bottom = pixels_of(
        (x0 - 2 * columns, y0 - 2 * rows, x1 + 2 * columns, y1 + 2 * rows), values.shape
    )
    part = np.s_[top:bottom, left:right]
    result, grey = values.copy(), brightness(near.pixels)[part]
    result[part] += _SMOOTH * (guided_mean(values[part], grey, (rows, columns), _FLAT) - values[part])
    return result


def _outline_distance(mask: np.ndarray, pitch_mm: tuple[float, float], beside: float = 0.0) -> np.ndarray:
    """Signed distance (h, w) from a mask's outline in tenths of its radius, positive inside, clipped to [-2, 1].

    beside: so far outside of the object the outline was drawn.
    """
    radius = np.sqrt(np.count_nonzero(mask) * pitch_mm[0] * pitch_mm[1] / np.pi)
    return np.clip(signed_distance(mask, pitch_mm) / (radius / 10) - beside, -2, 1)


def _brightness_odds(pixels: np.ndarray, inside: np.ndarray, outside: np.ndarray, limit: float) -> np.ndarray:
    """Log-likelihood ratio (h, w) of each pixel's brightness, inside against outside; colours are averaged.

    inside, outside: bool or weights (h, w).
    0 everywhere when either side has too few pixels to tell.
    """
    if min(np.count_nonzero(inside), np.count_nonzero(outside)) < 3:
        return np.zeros(inside.shape)
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    ratios = []
    for channel in np.moveaxis(channels.astype(np.float32), -1, 0):
        edges = np.quantile(channel, np.arange(1, _BINS) / _BINS).astype(np.float32)
        bins = np.searchsorted(edges, channel, side="right")
        ratio = log_odds(bins, inside, outside, bins=_BINS, floor=0.1, limit=limit)
        # noise flips single pixels
        ratios.append(ndimage.gaussian_filter(ratio[bins], 0.7))
    return np.mean(ratios, axis=0)
