"""A track: the masks of one object from a prompted slice outwards, what ends it, and how two of them meet.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np
from scipy import ndimage

from medsam.inference.appearance import log_odds
from medsam.masks import CompactMask, xyxy
from medsam.prompts.prompt import Box
from medsam.transforms.intensity import IntensityWindow

End = Literal["vanished", "stopped agreeing", "end of scan", "met"]
Name = TypeVar("Name", bound=Hashable)

# Grey levels of the window, binned to tell object from surroundings.
_BINS = 32
# The most one pixel's grey level may say, in log-odds.
MOST_ODDS = 3.0
# Surroundings: this far round the object, in its radii, and at least so many pixels.
_AROUND, _AROUND_PX = 0.5, 4.0
# How much more the surer of two masks counts where they are joined: its confidence to this power.
_TRUST = 4
# Fewer pixels than this tell nothing of grey levels.
_ENOUGH = 5


@dataclass(frozen=True)
class TrackMask:
    """The mask of an object on one slice. agreement: the least IoU of neighbouring masks on the way here.

    predicted_iou: nan where the mask was drawn. window: through which it was found; None is the scan's.
    """

    mask: CompactMask
    predicted_iou: float
    agreement: float = 1.0
    window: IntensityWindow | None = None

    @property
    def area(self) -> int:
        """In pixels."""
        return self.mask.area

    @property
    def box(self) -> Box:
        """Half-open, stored pixels."""
        x0, y0, x1, y1 = xyxy(self.mask.part)
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def confidence(self) -> float:
        """[0, 1]; see `propagate.propagate`."""
        # a drawn mask is as good as the drawing
        return self.agreement * (1.0 if math.isnan(self.predicted_iou) else min(max(self.predicted_iou, 0.0), 1.0))

    def overlap(self, mask: np.ndarray) -> float:
        """IoU with the mask (h, w) of a neighbour, which is not empty."""
        common = int(np.count_nonzero(mask[self.mask.part] & self.mask.crop))
        return common / (int(np.count_nonzero(mask)) + self.area - common)

    def meeting(self, mask: np.ndarray) -> np.ndarray:
        """The pieces of a neighbour's mask (h, w) that overlap this one: islands elsewhere are something else."""
        pieces, count = ndimage.label(mask, np.ones((3, 3)))
        if count == 0:
            return mask
        stay = np.zeros(count + 1, dtype=bool)
        stay[pieces[self.mask.part][self.mask.crop]] = True
        stay[0] = False
        kept: np.ndarray = stay[pieces]
        return kept


@dataclass(eq=False)
class Track(Generic[Name]):
    """A walk of one object from slice `start` by `step` until before `stop`; `why` it can go no further than that.

    steps: slice number -> its mask. end: where it ended, and why. intensity: of the prompted object. largest: area of
    the largest prompted slice.
    """

    name: Name
    start: int
    step: int
    stop: int
    why: End | None
    steps: dict[int, TrackMask] = field(default_factory=dict)
    end: tuple[int, End] | None = None
    intensity: IntensityModel | None = None
    largest: int = 0

    def visits(self, index: int) -> bool:
        return self.end is None and (index - self.start) * self.step > 0 and (self.stop - index) * self.step > 0


class IntensityModel:
    """Whether grey levels are the object's or its surroundings', learnt on the prompted slice.

    pixels: grey levels (h, w) in 0 ... 255. See `appearance`.
    """

    def __init__(self, pixels: np.ndarray, seed: TrackMask, spacing_mm: tuple[float, float]) -> None:
        self.table: np.ndarray | None = None
        pixel = min(spacing_mm)
        radius = math.sqrt(seed.area * spacing_mm[0] * spacing_mm[1] / math.pi)
        around = max(_AROUND * radius, _AROUND_PX * pixel)
        part = _grown(seed.mask.part, [math.ceil(around / pitch) + 1 for pitch in spacing_mm], seed.mask.shape)
        inside = seed.mask.to_array()[part]
        distance = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
        # the pixels of the outline itself are half of each
        outside = (distance > 1.5 * pixel) & (distance <= around)
        if min(np.count_nonzero(inside), np.count_nonzero(outside)) < _ENOUGH:
            return
        self.table = log_odds(_bins(pixels[part]), inside, outside, bins=_BINS, floor=0.02, limit=MOST_ODDS)

    def odds(self, pixels: np.ndarray, mask: np.ndarray) -> float:
        """Mean log-odds that the mask's pixels are the object's; inf when the prompted slice was too small to tell."""
        return math.inf if self.table is None else float(self.table[_bins(pixels[mask])].mean())


def _bins(grey: np.ndarray) -> np.ndarray:
    return np.clip(grey * (_BINS / 256), 0, _BINS - 1).astype(np.intp)


def join_tracks(
    tracks: Sequence[Track[Name]], others: Sequence[Track[Name]], spacing_mm: tuple[float, float]
) -> dict[int, tuple[TrackMask, float]]:
    """Mask and confidence by slice, ascending, of what the tracks of one object found: those upwards, those downwards.

    Where two of them have a mask, the outline is drawn between theirs, nearer to that of the nearer prompt and of the
    surer track.
    """
    up, down = ({index: track for track in way for index in track.steps} for way in (tracks, others))
    joined = {}
    for index in sorted(up.keys() | down.keys()):
        if index in up and index in down:
            joined[index] = _joined(up[index], down[index], index, spacing_mm)
        else:
            found = (up.get(index) or down[index]).steps[index]
            joined[index] = found, found.confidence
    return joined


def _joined(
    one: Track[Name], other: Track[Name], index: int, spacing_mm: tuple[float, float]
) -> tuple[TrackMask, float]:
    a, b = one.steps[index], other.steps[index]
    near = abs(index - one.start), abs(other.start - index)
    weights = (near[1] * _trust(a), near[0] * _trust(b))
    share = weights[0] / sum(weights)
    mask = _between(a.mask, b.mask, share, spacing_mm)
    if not mask.any():
        # two masks apart from each other: the weightier one is believed
        mask = (a if share >= 0.5 else b).mask.to_array()
    predicted_iou = share * a.predicted_iou + (1 - share) * b.predicted_iou
    confidence = max(a.confidence, b.confidence) * b.overlap(a.mask.to_array())
    return TrackMask(CompactMask.of(mask), predicted_iou), confidence


def _trust(found: TrackMask) -> float:
    # a track that starts at an object's tip is often wrong all the way, and shows it
    return max(found.confidence, 1e-6) ** _TRUST


def _between(one: CompactMask, other: CompactMask, share: float, spacing_mm: tuple[float, float]) -> np.ndarray:
    """The mask (h, w) `share` of the way from `other` to `one`: signed distances to both outlines, averaged."""
    spans = [slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one.part, other.part, strict=True)]
    part = _grown(tuple(spans), [1, 1], one.shape)
    masks = one.to_array()[part], other.to_array()[part]
    total = np.zeros(masks[0].shape)
    for inside, weight in zip(masks, (share, 1 - share), strict=True):
        total += weight * (
            ndimage.distance_transform_edt(inside, sampling=spacing_mm)
            - ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
        )
    result = np.zeros(one.shape, dtype=bool)
    result[part] = total > 0
    return result


def _grown(part: Sequence[slice], margin: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(
        slice(max(span.start - more, 0), min(span.stop + more, length))
        for span, more, length in zip(part, margin, shape, strict=True)
    )
