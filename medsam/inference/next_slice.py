"""The same object on the next slice: what the network, the last outline and the grey levels say together.

A network that is asked with a box a little larger than the object answers with something in that box, often with the
wrong thing, and surely: its logits are several times too large for log-odds. What is known beside them is where the
object was one slice before, and how it looked there. The three are added, as log-odds of a pixel being the object's:

  network   its logits for the box of the last mask, a little grown
  outline   the signed distance from the last outline, in the unit by which the outline of a ball moves from slice to
            slice: the root of its radius times the gap between slices; levelling off, since what is far inside is not
            surer than what is inside
  grey      the log-odds of its grey level, half as learnt on the prompted slice and half on the last one

Weights: a logistic regression on pairs of neighbouring slices of eight data sets, each weight tested on the sets that
had no part in it (docs/propagation.md). A fourth weight, the bias, is in part fitted to the prompted slice: asked in
the same way there, the answer should be as large as the mask that is known. So a mask that was corrected by hand
teaches the walk.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medsam.inference.grey_levels import GreyLevels, radius_mm
from medsam.inference.outlines import signed_distance
from medsam.masks import CompactMask, grown

# The most that each may say, before it is weighed.
_MOST_LOGIT, _MOST_GREY = 10.0, 2.0
# What counts as near an object: half its box on each side, and this many pixels of the network's input.
_NEAR_SHARE, _NEAR_PX = 0.5, 10.0
# Bounds of a bias that is fitted.
_LEAST_BIAS, _MOST_BIAS = -2.0, 1.5


@dataclass(frozen=True)
class EvidenceWeights:
    """How much each counts, in log-odds. bias: of every pixel.

    fitted: how far the bias goes from there to the one that fits the prompted slice.
    """

    network: float = 0.18
    outline: float = 1.2
    grey: float = 0.95
    bias: float = -0.5
    fitted: float = 0.5


@dataclass(frozen=True, eq=False)
class Evidence:
    """Log-odds of the pixels near an object, in a `part` of a slice of `shape` (h, w)."""

    part: tuple[slice, ...]
    shape: tuple[int, ...]
    log_odds: np.ndarray

    def mask(self, bias: float) -> np.ndarray:
        """Bool (h, w)."""
        result = np.zeros(self.shape, bool)
        result[self.part] = self.log_odds + bias > 0
        return result

    def certainty(self, mask: np.ndarray, bias: float) -> float:
        """How sure the pixels of a mask (h, w), not empty, are in the mean: 0 at even odds, near 1 where all agree."""
        return float(np.tanh(np.abs(self.log_odds + bias)[mask[self.part]].mean() / 2))

    def bias_for(self, area: int) -> float:
        """With which the mask has this area, in pixels; within bounds."""
        falling = -np.sort(-self.log_odds, axis=None)
        at = min(area, falling.size - 1)
        return float(np.clip(-(falling[max(at - 1, 0)] + falling[at]) / 2, _LEAST_BIAS, _MOST_BIAS))


def evidence(
    logits: np.ndarray,
    last: CompactMask,
    grey: np.ndarray,
    levels: GreyLevels | None,
    weights: EvidenceWeights,
    *,
    spacing_mm: tuple[float, float],
    gap_mm: float,
    input_mm: float,
) -> Evidence:
    """What is known of a slice's pixels. logits: (h, w) of the network, -inf where it was not asked.

    last: the object on the slice before, not empty. grey: the slice in 0 ... 255. levels: of the object; None when it
    is too small to tell. gap_mm: between the slices. input_mm: a pixel of the network's input.
    """
    margin = [
        math.ceil(_NEAR_SHARE * (span.stop - span.start) + _NEAR_PX * input_mm / pitch)
        for span, pitch in zip(last.part, spacing_mm, strict=True)
    ]
    part = grown(last.part, margin, last.shape)
    unit = math.sqrt(radius_mm(last, spacing_mm) * gap_mm) / 2
    total = weights.network * np.clip(logits[part], -_MOST_LOGIT, _MOST_LOGIT)
    total += weights.outline * np.tanh(signed_distance(last.to_array()[part], spacing_mm) / unit)
    if levels is not None:
        total += weights.grey * np.clip(levels.odds(grey[part]), -_MOST_GREY, _MOST_GREY)
    return Evidence(part, last.shape, total)
