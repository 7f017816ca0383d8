"""A track: the masks of one object from a prompted slice outwards, what ends it, and how two of them meet.

Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np

from medsam.inference.grey_levels import GreyLevels
from medsam.inference.outlines import between, masks_between
from medsam.masks import CompactMask, xyxy
from medsam.postprocess.clean import pieces_holding
from medsam.prompts.prompt import Box
from medsam.transforms.intensity import IntensityWindow

End = Literal["vanished", "stopped agreeing", "end of scan", "met", "interrupted"]
Name = TypeVar("Name", bound=Hashable)

# How much more the surer of two masks counts where they are joined: its confidence to this power.
_TRUST = 4


@dataclass(frozen=True)
class TrackMask:
    """The mask of an object on one slice. agreement: the product of the IoU of neighbouring masks on the way here.

    predicted_iou: nan where the mask was drawn. certainty: see `next_slice.Evidence`. window: through which it was
    found; None is the scan's.
    """

    mask: CompactMask
    predicted_iou: float
    agreement: float = 1.0
    certainty: float = 1.0
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
        network = 1.0 if math.isnan(self.predicted_iou) else min(max(self.predicted_iou, 0.0), 1.0)
        return network * self.certainty * math.sqrt(self.agreement)

    def overlap(self, mask: np.ndarray) -> float:
        """IoU with the mask (h, w) of a neighbour, which is not empty."""
        common = int(np.count_nonzero(mask[self.mask.part] & self.mask.crop))
        return common / (int(np.count_nonzero(mask)) + self.area - common)

    def meeting(self, mask: np.ndarray) -> np.ndarray:
        """The pieces of a neighbour's mask (h, w) that overlap this one: islands elsewhere are something else."""
        return pieces_holding(mask, self.mask.to_array())


class KeptMasks(Mapping[int, np.ndarray]):
    """Masks (h, w) by slice, unpacked anew whenever one is asked for.

    Whole, those of 20 objects on 300 slices of 512 x 512 would take 1.6 GB.
    """

    def __init__(self, kept: Mapping[int, CompactMask]) -> None:
        self._kept = dict(kept)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._kept[index].to_array()

    def __iter__(self) -> Iterator[int]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"KeptMasks({self._kept})"


@dataclass(eq=False)
class Track(Generic[Name]):
    """A walk of one object from slice `start` by `step` until before `stop`; `why` it can go no further than that.

    steps: slice number -> its mask. end: where it ended, and why. largest: area of the larger of the prompted slices it
    lies between. gap_radii: from slice to slice, in radii of the object on the prompted one. levels: its grey levels
    there, and `likeness`, their mean log-odds in its mask. bias: see `next_slice`.
    """

    name: Name
    start: int
    step: int
    stop: int
    why: End | None
    steps: dict[int, TrackMask] = field(default_factory=dict)
    end: tuple[int, End] | None = None
    largest: int = 0
    gap_radii: float = 0.0
    levels: GreyLevels | None = None
    likeness: float = 0.0
    bias: float = 0.0

    @property
    def longest(self) -> int:
        """Slices it visits at most."""
        return (self.stop - self.start) * self.step - 1

    def end_where_it_is(self, wanted: bool) -> None:
        """It goes no further: for what it was told, or because the caller wants no more."""
        if self.end is None and not wanted:
            self.end = max(self.steps, key=lambda index: index * self.step) + self.step, "interrupted"
        elif self.end is None and self.why is not None:
            self.end = self.stop, self.why

    def end_at(self, index: int, why: End) -> None:
        """End on a slice; where there is none to end on, for the reason that there is none."""
        if index != self.stop:
            self.end = (index, why)
        elif self.why is not None:
            self.end = (self.stop, self.why)

    def visits(self, index: int) -> bool:
        return self.end is None and (index - self.start) * self.step > 0 and (self.stop - index) * self.step > 0


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


def fill_in(
    seeds: Mapping[int, TrackMask], up: Sequence[Track[Name]], found: Container[int], spacing_mm: tuple[float, float]
) -> dict[int, tuple[TrackMask, float]]:
    """Mask and confidence of slices between two prompted ones on which no track found anything, from these alone.

    seeds: the prompted slices. up: the tracks upwards. found: slices that have a mask.
    """
    filled = {}
    for track in up:
        here, ahead = seeds[track.start], seeds.get(track.stop)
        if ahead is None or not (here.area and ahead.area):
            continue
        confidence = min(here.confidence, ahead.confidence) * here.overlap(ahead.mask.to_array())
        ends = track.start, track.stop
        for index, share, mask in masks_between(here.mask, ahead.mask, ends, spacing_mm, skip=found):
            predicted_iou = share * here.predicted_iou + (1 - share) * ahead.predicted_iou
            filled[index] = TrackMask(CompactMask.of(mask), predicted_iou), confidence
    return filled


def _joined(
    one: Track[Name], other: Track[Name], index: int, spacing_mm: tuple[float, float]
) -> tuple[TrackMask, float]:
    a, b = one.steps[index], other.steps[index]
    near = abs(index - one.start), abs(other.start - index)
    weights = (near[1] * _trust(a), near[0] * _trust(b))
    share = weights[0] / sum(weights)
    mask = between(a.mask, b.mask, share, spacing_mm)
    if not mask.any():
        # two masks apart from each other: the weightier one is believed
        mask = (a if share >= 0.5 else b).mask.to_array()
    predicted_iou = share * a.predicted_iou + (1 - share) * b.predicted_iou
    confidence = max(a.confidence, b.confidence) * b.overlap(a.mask.to_array())
    return TrackMask(CompactMask.of(mask), predicted_iou), confidence


def _trust(found: TrackMask) -> float:
    # a track that starts at an object's tip is often wrong all the way, and shows it
    return max(found.confidence, 1e-6) ** _TRUST
