"""Signs by which an answer to a box may be trusted, all of them known without a reference.

They are numbers that go with the Dice of an answer: what the network says of itself, how far its looks, its mask and
the priors agree, how the mask lies in its box, how large the object is for the network, and how well its border shows.
`trust` makes an expected Dice of them. Where a scan is one of a kind is told by its embedding: see `pooled`.

A large box is looked at on a coarser grid, so that the signs of one answer cost a millisecond.

Letters: h, w rows and columns of the stored slice; L looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medsam.geometry import SlicePlane
from medsam.inference.appearance import brightness
from medsam.inference.priors import box_fit, reach
from medsam.masks import bounding_box
from medsam.prompts.prompt import Box
from medsam.prompts.simulate import inscribed_ellipse
from medsam.transforms.frame import in_box, pixels_of
from medsam.transforms.intensity import IntensityWindow

if TYPE_CHECKING:
    from medsam.inference.image_predictor import Embedding

# What is round a box is looked at in about so many pixels along its longer side, and how much of its sides it is.
_MOST, _AROUND = 96, 0.25
# A logit beyond which a network is as sure as it gets.
_SURE = 20.0

NAMES = (
    # what the network says of itself
    "predicted_iou",  # the mean over looks
    "lowest_predicted_iou",  # over looks
    "stability",  # IoU of its masks at thresholds -1 and 1
    "own_dice",  # the Dice that its mask would have if its logits were log-odds
    "own_dice_after",  # likewise, with the priors
    "doubtful",  # pixels whose logits lie within 1 of the threshold, per pixel of the mask
    # what agrees
    "looks_agree",  # Dice of the first look's mask and the last one's
    "several_looks",
    "priors_agree",  # Dice of the network's mask and the answer
    "fit",  # IoU of the box and the one that the network's mask fills
    "fit_after",  # that the answer fills
    "reach",  # how near the logits come to the edges of the box
    # how the answer lies in its box
    "fill",  # its share of the box
    "network_fill",
    "ellipse",  # its Dice with the ellipse inscribed in the box
    "off_centre",  # way of its centre from the box's, in half-axes
    "pieces",  # logarithm of their number
    "largest",  # share of the largest of them
    # sizes, as binary logarithms
    "thickness",  # area over length of the border, in pixels of the network
    "side",  # geometric mean of the box's sides, likewise
    "aspect",  # longer side over the shorter one
    "coarse",  # pixels of the network in one of the slice
    "side_mm",  # as `side`, in millimetres; nan in a picture
    # how well the object shows
    "contrast",  # means inside and beside it, apart in standard deviations
    "texture",  # standard deviation inside over that of everything
    "edge",  # mean slope of brightness along the border over the mean slope everywhere
    "weak_edge",  # that which a quarter of the border stays below, likewise
    "follows",  # how far brightness rises or falls across the border everywhere, and nothing else
    "clipped",  # share of the box's pixels that the window clips
    "explained",  # share of the variance of brightness in the box that its two sides, in and out of the mask, tell
    "parted",  # Dice of the mask with the brighter or the darker part of the box, whichever is more like it
)

# those that tell of an answer and not of the kind of scan
SIZELESS = tuple(name for name in NAMES if name not in ("side", "side_mm", "coarse", "several_looks"))


def pooled(embedding: Embedding) -> np.ndarray:
    """The mean embedding (C,) of what is no padding: what kind of picture this is."""
    size, (rows, columns) = embedding.frame.preprocess.size, embedding.frame.resized
    down, across = (side / size for side in embedding.features.shape[-2:])
    part = embedding.features[0, :, : max(1, math.ceil(rows * down)), : max(1, math.ceil(columns * across))]
    mean: np.ndarray = part.float().mean(dim=(1, 2)).cpu().numpy()
    return mean


def signs(
    logits: np.ndarray,
    looks: Sequence[np.ndarray],
    predicted_ious: Sequence[float],
    box: Box,
    pixels: np.ndarray,
    window: IntensityWindow,
    plane: SlicePlane,
    size: int,
    calibrated: bool = True,
) -> np.ndarray:
    """(S,) float64, in the order of `NAMES`, of an answer's logits (h, w), -inf outside its box.

    looks: L maps (h, w), the network's own logits in each crop; -inf where it reaches nothing. predicted_ious: of each.
    pixels: of the slice, (h, w) or (h, w, 3), any units. window: through which it was seen. size: of the network's
    input, pixels. calibrated: whether the slice has millimetres.
    """
    x0, y0, x1, y1 = box
    grown_x, grown_y = (max(3.0, _AROUND * side) for side in (x1 - x0, y1 - y0))
    left, top, right, bottom = pixels_of((x0 - grown_x, y0 - grown_y, x1 + grown_x, y1 + grown_y), logits.shape)
    step = max(1, math.ceil(max(right - left, bottom - top) / _MOST))
    part = np.s_[top:bottom:step, left:right:step]
    small: Box = ((x0 - left) / step, (y0 - top) / step, (x1 - left) / step, (y1 - top) / step)
    given, shown = _bounded(logits[part]), [_bounded(one[part]) for one in looks]
    allowed = in_box(small, given.shape)
    network = np.where(allowed, np.mean(shown, axis=0), -_SURE)
    mask, first, last = given > 0, (shown[0] > 0) & allowed, (shown[-1] > 0) & allowed
    row_mm, column_mm = plane.spacing_mm
    # pixels of the network in one of this grid, along rows and columns
    finer = [size * pitch * step / plane.longest_mm for pitch in (row_mm, column_mm)]
    high, wide = (small[3] - small[1]) * finer[0], (small[2] - small[0]) * finer[1]
    side = math.sqrt(max(high * wide, 1e-6))
    known = np.nan_to_num(brightness(pixels[part]).astype(np.float64), posinf=window.high, neginf=window.low)
    values = [
        float(np.mean(predicted_ious)),
        float(np.min(predicted_ious)),
        _stability(network),
        _own_dice(network),
        _own_dice(given),
        _ratio(np.abs(network) < 1, network > 0),
        _dice(first, last),
        float(len(looks) > 1),
        _dice(network > 0, mask),
        box_fit(network > 0, small),
        box_fit(mask, small),
        reach(network, small),
        _ratio(mask, allowed),
        _ratio(network > 0, allowed),
        _dice(mask, inscribed_ellipse(small, mask.shape)),
        _off_centre(mask, small),
        *_pieces(mask),
        _thickness(mask, math.sqrt(finer[0] * finer[1])),
        math.log2(side),
        math.log2(max(high, wide) / max(min(high, wide), 1e-6)),
        math.log2(math.sqrt(finer[0] * finer[1]) / step),
        math.log2(side * plane.longest_mm / size) if calibrated else math.nan,
        *_seen(mask, allowed, known, window),
        *_parted(mask[allowed], np.clip(known, window.low, window.high)[allowed]),
    ]
    return np.array(values, dtype=np.float64)


def _bounded(logits: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(logits, neginf=-_SURE, posinf=_SURE), -_SURE, _SURE)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    """1 where both are empty: they agree."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def _ratio(one: np.ndarray, other: np.ndarray) -> float:
    """How many pixels there are in one for each in the other, of which it takes one at least."""
    return int(np.count_nonzero(one)) / max(1, int(np.count_nonzero(other)))


def _stability(logits: np.ndarray) -> float:
    """As `stability_score`; 0 where both masks are empty."""
    return _ratio(logits > 1, logits > -1)


def _own_dice(logits: np.ndarray) -> float:
    """Expected intersection over expected sizes; 0 for an empty mask."""
    mask, chance = logits > 0, 1 / (1 + np.exp(-logits))
    return float(2 * chance[mask].sum() / max(chance.sum() + np.count_nonzero(mask), 1e-6))


def _off_centre(mask: np.ndarray, box: Box) -> float:
    """0 at the box's centre, 1 on its edge or for an empty mask."""
    count = np.count_nonzero(mask)
    if not count:
        return 1.0
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    y, x = (float(side @ (np.arange(len(side)) + 0.5)) / count for side in (rows, columns))
    across, down = (2 * x - box[0] - box[2]) / (box[2] - box[0]), (2 * y - box[1] - box[3]) / (box[3] - box[1])
    return min(1.0, math.hypot(across, down))


def _pieces(mask: np.ndarray) -> tuple[float, float]:
    numbers, count = ndimage.label(mask)
    if not count:
        return 0.0, 0.0
    sizes = np.bincount(numbers.ravel())[1:]
    return math.log2(count), float(sizes.max() / sizes.sum())


def _border(mask: np.ndarray) -> np.ndarray:
    """Bool (h, w): pixels of a mask beside others that are none of it; beyond the slice nothing is."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def _inwards(mask: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Unit vectors (2, n) into a mask (h, w) at n pixels of its border; 0 where there is no way in."""
    ways = np.stack(np.gradient(ndimage.uniform_filter(mask.astype(np.float64), 5)))[:, at]
    return np.asarray(ways / np.maximum(np.hypot(*ways), 1e-9))


def _thickness(mask: np.ndarray, finer: float) -> float:
    """finer: pixels of the network in one of the mask's."""
    return math.log2(max(_ratio(mask, _border(mask)), 1) * finer)


def _seen(mask: np.ndarray, allowed: np.ndarray, known: np.ndarray, window: IntensityWindow) -> tuple[float, ...]:
    """Signs from `contrast` to `clipped`, of grey levels (h, w); 0 of what is not there."""
    clipped = float(((known <= window.low) | (known >= window.high))[allowed].mean())
    seen = np.clip(known, window.low, window.high)
    part = bounding_box(mask)
    spread = float(seen.std())
    if part is None or spread == 0 or min(seen.shape) < 2:
        return 0.0, 0.0, 0.0, 0.0, 0.0, clipped
    beside = ndimage.binary_dilation(mask, iterations=3) & ~mask
    inside, outside = seen[mask], seen[beside] if beside.any() else seen[mask]
    noise = math.sqrt((float(inside.var()) + float(outside.var())) / 2) + 0.02 * spread
    contrast = abs(float(inside.mean() - outside.mean())) / noise
    rise = np.stack(np.gradient(ndimage.uniform_filter(seen, 3)))
    slope, at = np.hypot(*rise), _border(mask)
    border, everywhere = slope[at], float(slope.mean())
    if everywhere == 0:
        return contrast, float(inside.std()) / spread, 0.0, 0.0, 0.0, clipped
    return (
        min(contrast, 10.0),
        float(inside.std()) / spread,
        float(border.mean()) / everywhere,
        float(np.quantile(border, 0.25)) / everywhere,
        abs(float((rise[:, at] * _inwards(mask, at)).sum())) / max(float(border.sum()), 1e-12),
        clipped,
    )


def _parted(mask: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """`explained` and `parted`, of a box's grey levels (n,) in the window; 0 where all are alike or on one side.

    Source of the two parts: Otsu 1979, on the levels that are there.
    """
    variance = float(seen.var())
    if variance == 0 or len(seen) < 4:
        return 0.0, 0.0
    share = float(mask.mean())
    apart = float(seen[mask].mean() - seen[~mask].mean()) if 0 < share < 1 else 0.0
    order = np.sort(seen)
    count, total = np.arange(1, len(order)), np.cumsum(order)[:-1]
    between = (total * len(order) - count * order.sum()) ** 2 / (count * (len(order) - count))
    bright = seen > order[int(np.argmax(between))]
    return share * (1 - share) * apart**2 / variance, max(_dice(mask, bright), _dice(mask, ~bright))
