"""Regions of a picture that nobody drew, to learn prompts from: a click means *something here*, not a known organ.

Two kinds, as varied as chance makes them: superpixels (a watershed of the gradient) and connected parts between grey
levels (Otsu's thresholds). Half of the labels that ScribblePrompt learns from are of this kind (Wong et al. 2024, arXiv
2312.07381); they teach where edges are and what a click or a stroke is near to, and nothing of anatomy.

Letters: s side of the logits, N regions.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from medsam.metrics.overlap import iou

# a region has so many pixels of the logits at least, and such a share of the picture at most
_LEAST, _MOST = 60, 0.7
# a picture with a shorter side has no regions: the filters need some pixels round each
_NARROW = 16
# the gradient is of a picture blurred by so many pixels, and basins less deep than such a share of the range are joined
_BLUR, _DEPTH = (0.8, 2.0), (0.004, 0.08)
# two regions with such an IoU are one
_ALIKE = 0.8


def regions(picture: np.ndarray, side: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `most` regions of a picture, in random order, bool (N, s, s); they may overlap, as parts and wholes do.

    picture: float (rows, columns), in [0, 1], at the resolution of the logits; what it lacks to `side` is padding.
    """
    found = np.zeros((0, side, side), dtype=bool)
    if min(picture.shape) < _NARROW or not np.ptp(picture):
        return found
    image = sitk.GetImageFromArray(picture.astype(np.float32))
    candidates = [*_superpixels(image, rng), *_levels(image, rng)]
    rng.shuffle(candidates)
    kept: list[np.ndarray] = []
    for candidate in candidates:
        one = _largest_piece(candidate)
        if _LEAST <= np.count_nonzero(one) <= _MOST * one.size and not any(iou(one, other) > _ALIKE for other in kept):
            kept.append(one)
        if len(kept) == most:
            break
    rows, columns = picture.shape
    found = np.zeros((len(kept), side, side), dtype=bool)
    for number, one in enumerate(kept):
        found[number, :rows, :columns] = one
    return found


def _superpixels(image: sitk.Image, rng: np.random.Generator) -> list[np.ndarray]:
    gradient = sitk.GradientMagnitudeRecursiveGaussian(image, float(rng.uniform(*_BLUR)))
    depth = float(np.exp(rng.uniform(*np.log(_DEPTH))))
    return _each(sitk.GetArrayFromImage(sitk.MorphologicalWatershed(gradient, depth, markWatershedLine=False)))


def _levels(image: sitk.Image, rng: np.random.Generator) -> list[np.ndarray]:
    smooth = sitk.SmoothingRecursiveGaussian(image, float(rng.uniform(*_BLUR)))
    thresholds = int(rng.integers(1, 4))
    try:
        level = sitk.GetArrayFromImage(sitk.OtsuMultipleThresholds(smooth, thresholds))
    except RuntimeError:  # fewer grey levels than thresholds
        return []
    found = []
    for number in range(thresholds + 1):
        for part in (level == number, level >= number):
            pieces, _ = ndimage.label(part)
            found += [ndimage.binary_fill_holes(one) if rng.random() < 0.5 else one for one in _each(pieces)]
    return found


def _each(labels: np.ndarray) -> list[np.ndarray]:
    """The labels large enough to be regions, apart; 0 is none of them."""
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    large = np.flatnonzero((counts >= _LEAST) & (counts <= _MOST * labels.size))
    return [labels == number for number in large]


def _largest_piece(region: np.ndarray) -> np.ndarray:
    """Without what hangs on by a pixel."""
    opened = ndimage.binary_opening(region) if np.count_nonzero(region) > 5 * _LEAST else region
    pieces, count = ndimage.label(opened)
    return pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax()) if count else opened
