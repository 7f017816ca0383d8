"""What clicks and strokes change of a mask of which is known how likely each pixel is in it (`CompactChances`).

A mark shows by how much the log-odds are wrong where it lies. How wrong they are elsewhere is estimated from all marks
together: the error is taken for a Gaussian process, of which the marks are observations (simple kriging). It varies on
two scales, for two things are wrong with outlines: half its variance reaches as far as the object is wide (all of the
outline too tight, or on one side), half a fifth of that (a bay, a bulge). So a click moves the outline most where it
was unsure, and next to the click; what was sure stays. A mark where the mask is right already is an observation too.

Only log-odds that were learnt as such tell where a mask may be wrong. Of answers of a promptable network this is no
better than `corrections` (docs/results/README.md, "The data engine without people").

Letters: h, w rows and columns of a stored slice; n marked pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit

from medsam.geometry import SlicePlane
from medsam.inference.corrections import Mark, marks_of
from medsam.inference.slice_request import SliceResult
from medsam.prompts.prompt import SlicePrompt

# Widths (standard deviations of the Gaussians) in radii of the object, and how much of the variance each has.
_SCALES: Sequence[tuple[float, float]] = ((1.0, 0.5), (0.2, 0.5))
# No width is less than this many pixels.
_LEAST_PX = 0.6
# What the log-odds under a mark are at least, and the variance of what is observed in shares of that of the error:
# nobody clicks on exactly the right pixel, and two marks beside each other need not agree.
_SURE, _NOISE = 1.0, 0.1
# pixels of a stroke that count, spread over it
_OF_A_STROKE = 24


def likely_answer(prompt: SlicePrompt, plane: SlicePlane) -> SliceResult:
    """The mask of a prompt that is one with how likely each pixel is in it (`SlicePrompt.likely`), after its marks.

    Its predicted IoU is the one to be expected were that so: what is likely in it, of that and its pixels together.
    """
    if prompt.likely is None:
        raise ValueError("It is not known how likely each pixel is.")
    odds = corrected_odds(prompt.likely.log_odds(), marks_of(prompt, plane.shape, plane.spacing_mm), plane.spacing_mm)
    mask, likely = odds > 0, expit(odds)
    shared = float(likely[mask].sum())
    either = np.count_nonzero(mask) + float(likely.sum()) - shared
    return SliceResult(mask, shared / either if mask.any() else 0.0, odds, (), torch.empty(0))


def corrected_odds(log_odds: np.ndarray, marks: Sequence[Mark], pitch_mm: tuple[float, float]) -> np.ndarray:
    """Log-odds (h, w), float32, after marks, whose order counts only where they cross: there the later one holds.

    log_odds: (h, w), finite. pitch_mm: (row, column) of a pixel.
    """
    if not marks:
        return log_odds.astype(np.float32)
    said = np.zeros(log_odds.shape, np.int8)
    for mark in marks:
        said[mark.where] = 1 if mark.inside else -1
    # what a later mark took back is no observation
    at = np.concatenate([_observed(mark, said) for mark in marks])
    result = log_odds.astype(np.float64)
    if len(at):
        result += _error(log_odds, at, said[at[:, 0], at[:, 1]], np.array(pitch_mm, dtype=float))
    result[said > 0] = np.maximum(result[said > 0], _SURE)
    result[said < 0] = np.minimum(result[said < 0], -_SURE)
    return result.astype(np.float32)


def _observed(mark: Mark, said: np.ndarray) -> np.ndarray:
    """(n, 2): row and column of pixels of a mark that still say what it said."""
    there = np.argwhere(mark.where & (said == (1 if mark.inside else -1)))
    count = min(len(there), _OF_A_STROKE)
    return there[np.linspace(0, len(there) - 1, count).round().astype(int)] if count else there


def _error(log_odds: np.ndarray, at: np.ndarray, side: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """The error (h, w) that marked pixels `at` (n, 2) let expect. side: (n,), 1 inside and -1 outside."""
    radius = math.sqrt(max(np.count_nonzero(log_odds > 0), 1) * pitch.prod() / math.pi)
    there = log_odds[at[:, 0], at[:, 1]].astype(np.float64)
    wrong = side * np.maximum(side * there, _SURE) - there
    shape, covariance, waves = log_odds.shape, np.zeros((len(at), len(at))), []
    for width, share in _SCALES:
        wide = max(width * radius, _LEAST_PX * float(pitch.min()))
        # a Gaussian of two coordinates is the product of one of each
        rows, columns = (_gaussian(np.arange(n), at[:, axis], pitch[axis] / wide) for axis, n in enumerate(shape))
        covariance += share * rows[:, at[:, 0]] * columns[:, at[:, 1]]
        waves.append((share, rows, columns))
    weights = np.linalg.solve(covariance + _NOISE * np.eye(len(at)), wrong)
    found: np.ndarray = sum(share * (rows * weights[:, None]).T @ columns for share, rows, columns in waves)
    return found


def _gaussian(places: np.ndarray, centres: np.ndarray, unit: float) -> np.ndarray:
    """(n, places): exp(-d^2 / 2) of the distances d from each centre, in multiples of 1 / unit pixels."""
    values: np.ndarray = np.exp(-0.5 * ((places[None] - centres[:, None]) * unit) ** 2)
    return values
