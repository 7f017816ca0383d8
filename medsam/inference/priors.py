"""What a box and the brightness of the pixels in it add to a network's logits: two priors, neither of them trained.

A network answers many boxes with a mask that leaves most of the box empty. Its logits are log-odds of a pixel
belonging to the object, so what else is known of the object can be added to them, the more of its weight the less
*stable* the network's own answer is (Kirillov et al. 2023: the IoU of the masks at thresholds -1 and +1):

  the box     (1 - r²) with r the distance from the centre in half-axes: most likely inside at the centre, even on the
              inscribed ellipse, unlikely in the corners. Where a rough mask was given, its outline takes the ellipse's
              place: the signed distance from it in tenths of its radius.
  the pixels  log-likelihood ratio of the pixel's brightness inside the network's mask against outside the box, from
              smoothed histograms over equally filled bins (the appearance term of GrabCut, Rother et al. 2004). It
              adds what a tight box leaves out, and against the margin of a loose one, which resembles what
              lies outside.

Chosen by measurement (docs/results/README.md, "A closer look"). Models fine-tuned with loose boxes are better without
the two (`ModelSpec.use_priors`).

Letters: h, w rows and columns of the stored slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from medsam.inference.appearance import log_odds
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import Box
from medsam.transforms.frame import in_box, pixels_of

# Bins of brightness, equally filled, learnt from this many pixels.
_BINS = 24
_SAMPLE = 200_000


@dataclass(frozen=True)
class PriorWeights:
    """How much the box and the pixels count beside the network's log-odds, for a mask of stability 0.5.

    box, pixels: their weights. limit: the most one pixel's brightness may add, in log-odds.
    `scripts/studies/evidence.py` chooses these and tests each choice on data sets that had no part in it.
    """

    box: float = 3.0
    pixels: float = 4.5
    limit: float = 1.5


def add_box_and_intensity_prior(
    logits: np.ndarray,
    box: Box,
    pixels: np.ndarray,
    weights: PriorWeights | None = None,
    *,
    rough: np.ndarray | None = None,
    pitch_mm: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Logits (h, w) with both priors added, -inf outside the box (see the top of this file).

    box: half-open, stored pixels. pixels: (h, w) or (h, w, 3), any units. rough: bool (h, w), a mask that was given;
    without pixels of it in the box it changes nothing. pitch_mm: (row, column) of a pixel.
    """
    weights = weights or PriorWeights()
    shape = logits.shape
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    # the box and half of it around, where "outside" is learnt
    left, top, right, bottom = pixels_of(
        (x0 - width / 2 - 10, y0 - height / 2 - 10, x1 + width / 2 + 10, y1 + height / 2 + 10), shape
    )
    part = logits[top:bottom, left:right]
    y, x = np.ogrid[top:bottom, left:right]
    across, down = (2 * (x + 0.5) - (x0 + x1)) / width, (2 * (y + 0.5) - (y0 + y1)) / height
    distance = np.maximum(np.abs(across), np.abs(down))
    allowed = in_box((x0 - left, y0 - top, x1 - left, y1 - top), part.shape)
    result = np.full(shape, -np.inf, np.float32)
    if np.ptp(np.nan_to_num(pixels[top:bottom, left:right])) == 0:
        # nothing to see: a mask from the box alone would be misleading
        result[top:bottom, left:right] = np.where(allowed, part, -np.inf)
        return result
    given = None if rough is None else rough[top:bottom, left:right]
    stability = stability_score(torch.from_numpy(np.where(allowed, part, -np.inf))).nan_to_num()
    doubt = 2 * (1 - float(stability))
    inside, outside = (part > 0) & allowed, distance > 1.05
    if given is not None and given.any():
        shape_prior = _outline_distance(given, pitch_mm)
        # a drawn outline is worth more than the network's doubt about it
        doubt, inside, outside = 1.0, given, ~given
        # and it may be drawn too small
        allowed = np.ones_like(allowed)
    else:
        shape_prior = 1 - (across**2 + down**2)
    brightness = _brightness_odds(pixels[top:bottom, left:right], inside, outside, weights.limit)
    prior = weights.box * shape_prior + weights.pixels * brightness
    result[top:bottom, left:right] = np.where(allowed, part + doubt * prior, -np.inf)
    return result


def _outline_distance(mask: np.ndarray, pitch_mm: tuple[float, float]) -> np.ndarray:
    """Signed distance (h, w) from a mask's outline in tenths of its radius, positive inside, clipped to [-2, 1]."""
    inner, outer = (ndimage.distance_transform_edt(side, sampling=pitch_mm) for side in (mask, ~mask))
    # half a pixel: the outline runs between pixels
    signed = np.where(mask, inner, -outer) - np.where(mask, 0.5, -0.5) * min(pitch_mm)
    radius = np.sqrt(np.count_nonzero(mask) * pitch_mm[0] * pitch_mm[1] / np.pi)
    return np.clip(signed / (radius / 10), -2, 1)


def _brightness_odds(pixels: np.ndarray, inside: np.ndarray, outside: np.ndarray, limit: float) -> np.ndarray:
    """Log-likelihood ratio (h, w) of each pixel's brightness, inside against outside; colours are averaged.

    0 everywhere when either side has too few pixels to tell.
    """
    if min(np.count_nonzero(inside), np.count_nonzero(outside)) < 3:
        return np.zeros(inside.shape)
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    ratios = []
    for channel in np.moveaxis(np.nan_to_num(channels.astype(np.float32)), -1, 0):
        # of a flat sample: the quantiles of millions of pixels need not be exact
        sample = channel.ravel()[:: max(1, channel.size // _SAMPLE)]
        edges = np.quantile(sample, np.arange(1, _BINS) / _BINS).astype(np.float32)
        bins = np.searchsorted(edges, channel, side="right")
        ratio = log_odds(bins, inside, outside, bins=_BINS, floor=0.1, limit=limit)
        # noise flips single pixels
        ratios.append(ndimage.gaussian_filter(ratio[bins], 0.7))
    return np.mean(ratios, axis=0)
