"""From one prompted slice, or a few, to the whole object: outwards both ways, and towards each other in between.

A *track* walks from one prompted slice in one direction. On every slice it asks the network with the box of its last
mask, a little grown, because networks trained on loose boxes draw inside a tight one and the object would wither. Of
the answer it keeps the pieces that meet the last mask. It ends

    "vanished"           the answer is empty, or nothing of it meets the last mask
    "stopped agreeing"   the answer is another object: too little of it and its neighbour is shared, it no longer looks
                         like what was prompted, or it has outgrown every prompted slice
    "end of scan"        there is no further slice
    "met"                the next slice is one that was prompted

and the slice on which it ended stays empty. Between two prompted slices two tracks run against each other; where both
have an answer, the outline is drawn between theirs, nearer to that of the nearer prompt and of the surer track
(shape-based interpolation, Raya and Udupa 1990); where one has ended, the other's answer counts.

All objects of a scan walk together, so a slice is encoded once for all of them in each direction, and the way back
finds the slices it needs again in the cache.

Every choice here is measured: docs/propagation.md, `scripts/studies/propagation.py`.
Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np
from scipy import ndimage

from medsam.errors import PromptError
from medsam.geometry import SlicePlane
from medsam.inference.appearance import log_odds
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.segment_slice import Zoom, segment_slice
from medsam.inference.usage import Usage
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.transforms.intensity import IntensityWindow

End = Literal["vanished", "stopped agreeing", "end of scan", "met"]
Name = TypeVar("Name", bound=Hashable)
_Value = TypeVar("_Value")

# Grey levels of the window, binned to tell object from surroundings.
_BINS = 32
# The most one pixel's grey level may say, in log-odds.
_LIMIT = 3.0
# Surroundings: this far round the object, in its radii, and at least so many pixels.
_AROUND, _AROUND_PX = 0.5, 4.0
# How much more the surer of two answers counts where they are joined: its confidence to this power.
_TRUST = 4
# Fewer pixels than this tell nothing of grey levels.
_ENOUGH = 5


@dataclass(frozen=True)
class PropagateSettings:
    """How far a track trusts the next slice. The defaults are measured (docs/propagation.md).

    grow: each side of the last mask's box moves outwards by this share of the box's width or height,
    grow_px: and by this many pixels of the network's input.
    min_overlap: least IoU of neighbouring masks.
    min_likeness: least mean log-odds, by grey level, that the mask's pixels are of the prompted object and not of its
        surroundings; -0.7: surroundings are twice as likely. -inf switches it off.
    max_growth: largest area, in areas of the largest prompted slice.
    max_mm: farthest a track walks from its prompted slice.
    """

    grow: float = 0.07
    grow_px: float = 1.0
    min_overlap: float = 0.5
    min_likeness: float = -0.7
    max_growth: float = 4.0
    max_mm: float = math.inf

    def __post_init__(self) -> None:
        ranges = {
            "grow": (0.0, 10.0),
            "grow_px": (0.0, 1024.0),
            "min_overlap": (0.0, 1.0),
            "min_likeness": (-math.inf, _LIMIT),
            "max_growth": (1.0, math.inf),
            "max_mm": (0.0, math.inf),
        }
        for name, (low, high) in ranges.items():
            # nan is in no range
            if not low <= getattr(self, name) <= high:
                raise PromptError(f"{name} is a number from {low:g} to {high:g}, not {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Propagation:
    """One object through a scan. Slice numbers ascend; a slice without a mask is in none of the first three.

    masks: bool (h, w), never empty. predicted_iou: as the network says it (of two answers the mean by which
    they were joined); nan where a drawn mask was taken as it is.
    confidence: [0, 1]; see `propagate`. stop_reasons: slice number -> why the object does not go on there, or on from
    there for "met"; -1 and the number of slices stand for the ends of the scan.
    no_contrast: slices, of all objects followed together, in which the window left none. usage: of the whole call, with
    the first of its objects: a sum over them counts nothing twice.
    """

    masks: dict[int, np.ndarray] = field(default_factory=dict)
    predicted_iou: dict[int, float] = field(default_factory=dict)
    confidence: dict[int, float] = field(default_factory=dict)
    stop_reasons: dict[int, End] = field(default_factory=dict)
    no_contrast: tuple[int, ...] = ()
    usage: Usage = field(default_factory=Usage)

    def volume(self, plane: SlicePlane, shape: tuple[int, int, int]) -> np.ndarray:
        """All masks as one, bool (K, J, I) = `shape`."""
        solid = np.zeros(shape, bool)
        for index, mask in self.masks.items():
            plane.take(solid, index)[...] = mask
        return solid


def propagate(
    scan_encoder: ScanEncoder,
    seeds: Mapping[int, SlicePrompt],
    *,
    zoom: Zoom = "off",
    settings: PropagateSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Propagation:
    """Follow one object from its prompted slices, {slice number: prompt}, through the scan.

    A prompt that is a mask and nothing else is the answer on its slice, as drawn; every other is answered.
    zoom: for the prompted slices, see `segment_slice`; a box made from a neighbour's mask says too little of where the
    object ends to draw evidence from it, so the slices between are looked at whole.
    progress: called with (slices done, slices at most).

    confidence of a slice is its predicted IoU, clamped to [0, 1], times the least agreement (IoU) of neighbouring masks
    on the way from the prompted slice. Where two tracks have an answer it is the better one's, times the IoU of both.
    It is no probability and a weak ranking: predicted IoU is too high, most of all where a track has slipped onto
    another object (docs/propagation.md).
    Raises PromptError for no prompt or no such slice.
    """
    return propagate_all(scan_encoder, {0: seeds}, zoom=zoom, settings=settings, progress=progress)[0]


def propagate_all(
    scan_encoder: ScanEncoder,
    objects: Mapping[Name, Mapping[int, SlicePrompt]],
    *,
    zoom: Zoom = "off",
    settings: PropagateSettings | None = None,
    limits: Mapping[Name, tuple[int, int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Name, Propagation]:
    """`propagate` for many objects of one scan at once: name -> its prompts, {slice number: prompt}.

    limits: first and last slice an object may have, where they are known.
    Objects do not know of each other and may overlap. Each has the answer it would have alone, to the rounding of
    decoding together.
    """
    settings = settings or PropagateSettings()
    plane = scan_encoder.plane
    if not objects:
        raise PromptError("There is nothing to propagate: give at least one object with a prompt.")
    for name, prompted in objects.items():
        if not prompted:
            raise PromptError(f"There is no prompt to propagate for {name!r}: give it one on at least one slice.")
        for index in prompted:
            if not 0 <= index < plane.count:
                raise PromptError(
                    f"The prompt for {name!r} needs slice {index}, but axis {plane.axis} has the slices 0 ... "
                    f"{plane.count - 1}."
                )
    if math.isfinite(settings.max_mm) and not scan_encoder.scan.geometry.calibrated:
        raise PromptError(
            "The reach of propagation (`max_mm`) is in millimetres, and the file of this scan states no physical size. "
            "Leave it out; a box3d bounds the slices, too.",
            parameter="max_mm",
        )
    gap_mm = scan_encoder.scan.geometry.spacing_mm[plane.array_axis]
    reach = math.floor(settings.max_mm / gap_mm + 1e-9) if math.isfinite(settings.max_mm) else plane.count
    ways = [_tracks(objects, step, reach, plane.count, limits or {}) for step in (1, -1)]
    counter = _Counter(len({n for seeds in objects.values() for n in seeds}) + sum(map(_most, ways)), progress)

    found: dict[Name, Propagation] = {name: Propagation() for name in objects}
    seeds = _answer_seeds(scan_encoder, objects, zoom, counter)
    for name, mine in seeds.items():
        for index, seed in mine.items():
            _add(found[name], index, seed)
            if not seed.area:
                found[name].stop_reasons[index] = "vanished"
    for tracks in ways:
        _walk(scan_encoder, tracks, seeds, settings, counter)
    for track in sorted((track for tracks in ways for track in tracks), key=lambda track: -track.step):
        if track.end is not None:
            found[track.name].stop_reasons.setdefault(*track.end)
    for name, propagation in found.items():
        _join(propagation, [[t for t in tracks if t.name == name] for tracks in ways], plane.spacing_mm)
    counter.finish()
    no_contrast = tuple(sorted(counter.no_contrast))
    return {
        name: _in_order(propagation, no_contrast, Usage() if place else counter.usage)
        for place, (name, propagation) in enumerate(found.items())
    }


@dataclass(frozen=True, eq=False)
class _Mask:
    """An answer, kept as the part of the slice that holds it. agreement: the least on the way here.

    window: through which it was found; None is the scan encoder's.
    """

    packed: np.ndarray
    part: tuple[slice, slice]
    shape: tuple[int, ...]
    area: int
    predicted_iou: float
    agreement: float = 1.0
    window: IntensityWindow | None = None

    @classmethod
    def of(
        cls, mask: np.ndarray, predicted_iou: float, agreement: float = 1.0, window: IntensityWindow | None = None
    ) -> _Mask:
        rows, columns = (_span(mask, axis) for axis in (1, 0))
        area = int(np.count_nonzero(mask))
        return cls(mask[rows, columns].copy(), (rows, columns), mask.shape, area, predicted_iou, agreement, window)

    @property
    def mask(self) -> np.ndarray:
        """Bool (h, w)."""
        whole = np.zeros(self.shape, dtype=bool)
        whole[self.part] = self.packed
        return whole

    @property
    def box(self) -> Box:
        rows, columns = self.part
        return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)

    @property
    def confidence(self) -> float:
        # what somebody drew is as good as the drawing
        return self.agreement * (1.0 if math.isnan(self.predicted_iou) else min(max(self.predicted_iou, 0.0), 1.0))


@dataclass(eq=False)
class _Track(Generic[Name]):
    """A walk of one object from slice `start` by `step` until before `stop`; `why` it can go no further than that."""

    name: Name
    start: int
    step: int
    stop: int
    why: End | None
    steps: dict[int, _Mask] = field(default_factory=dict)
    end: tuple[int, End] | None = None
    likeness: _IntensityModel | None = None
    largest: int = 0

    def visits(self, index: int) -> bool:
        return self.end is None and (index - self.start) * self.step > 0 and (self.stop - index) * self.step > 0


class _Counter:
    """Slices done, for the caller, and what was run for them."""

    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.tell = 0, total, tell
        self.usage = Usage()
        self.no_contrast: set[int] = set()

    def __call__(self) -> None:
        if self.tell is not None:
            self.tell(self.done, self.total)
        self.done += 1

    def spend(self, index: int, usages: Sequence[Usage], no_contrast: bool) -> None:
        self.usage = sum(usages, self.usage)
        if no_contrast:
            self.no_contrast.add(index)

    def finish(self) -> None:
        if self.tell is not None:
            self.tell(self.total, self.total)


class _IntensityModel:
    """Whether grey levels are the object's or its surroundings', learnt on the prompted slice.

    pixels: grey levels (h, w) in 0 ... 255. See `appearance`.
    """

    def __init__(self, pixels: np.ndarray, seed: _Mask, spacing_mm: tuple[float, float]) -> None:
        self.table: np.ndarray | None = None
        pixel = min(spacing_mm)
        radius = math.sqrt(seed.area * spacing_mm[0] * spacing_mm[1] / math.pi)
        around = max(_AROUND * radius, _AROUND_PX * pixel)
        part = _grown(seed.part, [math.ceil(around / pitch) + 1 for pitch in spacing_mm], seed.shape)
        inside = seed.mask[part]
        distance = ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
        # the pixels of the outline itself are half of each
        outside = (distance > 1.5 * pixel) & (distance <= around)
        if min(np.count_nonzero(inside), np.count_nonzero(outside)) < _ENOUGH:
            return
        self.table = log_odds(_bins(pixels[part]), inside, outside, bins=_BINS, floor=0.02, limit=_LIMIT)

    def of(self, pixels: np.ndarray, mask: np.ndarray) -> float:
        """Mean log-odds that the mask's pixels are the object's; inf when the prompted slice was too small to tell."""
        return math.inf if self.table is None else float(self.table[_bins(pixels[mask])].mean())


def _bins(grey: np.ndarray) -> np.ndarray:
    return np.clip(grey * (_BINS / 256), 0, _BINS - 1).astype(np.intp)


def _grey(scan_encoder: ScanEncoder, index: int, window: IntensityWindow | None) -> np.ndarray:
    """The slice as the window shows it, (h, w) in 0 ... 255; colours averaged."""
    pixels = (window or scan_encoder.window).picture(scan_encoder.pixels(index))
    return pixels if pixels.ndim == 2 else pixels.mean(axis=-1)


def _tracks(
    objects: Mapping[Name, Mapping[int, SlicePrompt]],
    step: int,
    reach: int,
    count: int,
    limits: Mapping[Name, tuple[int, int]],
) -> list[_Track[Name]]:
    """Every walk in one direction."""
    tracks = []
    for name, seeds in objects.items():
        indices = sorted(seeds, key=lambda index: index * step)
        for number, start in enumerate(indices):
            last = number + 1 == len(indices)
            stop = (count if step > 0 else -1) if last else indices[number + 1]
            why: End | None = "end of scan" if last else "met"
            if (stop - start) * step > reach + 1:
                # far enough as it was told; there is nothing to report about the scan
                stop, why = start + step * (reach + 1), None
            if name in limits:
                end = limits[name][1] + 1 if step > 0 else limits[name][0] - 1
                if (stop - end) * step > 0:
                    stop, why = max(end, start + 1) if step > 0 else min(end, start - 1), None
            tracks.append(_Track(name, start, step, stop, why))
    return tracks


def _most(tracks: list[_Track[Name]]) -> int:
    return len({n for track in tracks for n in range(track.start + track.step, track.stop, track.step)})


def _answer_seeds(
    scan_encoder: ScanEncoder, objects: Mapping[Name, Mapping[int, SlicePrompt]], zoom: Zoom, counter: _Counter
) -> dict[Name, dict[int, _Mask]]:
    by_slice: dict[int, list[Name]] = {}
    for name, seeds in objects.items():
        for index in seeds:
            by_slice.setdefault(index, []).append(name)
    found: dict[Name, dict[int, _Mask]] = {name: {} for name in objects}
    for index in sorted(by_slice):
        counter()
        asked = []
        for name in by_slice[index]:
            prompt = objects[name][index]
            if prompt.mask is not None and prompt.box is None and not prompt.points:
                found[name][index] = _Mask.of(prompt.mask, math.nan)
            else:
                asked.append((name, prompt))
        if asked:
            answers = segment_slice(scan_encoder, index, [prompt for _, prompt in asked], zoom=zoom)
            counter.spend(index, [each.usage for each in answers], any(each.no_contrast for each in answers))
            for (name, _), answer in zip(asked, answers, strict=True):
                found[name][index] = _Mask.of(answer.mask, answer.predicted_iou, window=answer.crops[0].window)
    return found


def _walk(
    scan_encoder: ScanEncoder,
    tracks: list[_Track[Name]],
    seeds: Mapping[Name, Mapping[int, _Mask]],
    settings: PropagateSettings,
    counter: _Counter,
) -> None:
    """Walk all tracks of one direction together, slice by slice."""
    for track in tracks:
        mine = seeds[track.name]
        track.steps[track.start] = mine[track.start]
        track.largest = max(seed.area for seed in mine.values())
        if not mine[track.start].area:
            track.end = (track.start, "vanished")
        elif (track.stop - track.start) * track.step > 1 and settings.min_likeness > -math.inf:
            seed = mine[track.start]
            track.likeness = _IntensityModel(
                _grey(scan_encoder, track.start, seed.window), seed, scan_encoder.plane.spacing_mm
            )
    order = range(scan_encoder.plane.count) if tracks[0].step > 0 else range(scan_encoder.plane.count - 1, -1, -1)
    for index in order:
        here = [track for track in tracks if track.visits(index)]
        if not here:
            continue
        counter()
        # an object that was found through the wide window is followed through it
        for window in dict.fromkeys(track.steps[index - track.step].window for track in here):
            group = [track for track in here if track.steps[index - track.step].window == window]
            previous = [track.steps[index - track.step] for track in group]
            prompts = [SlicePrompt(1, _next_box(last, scan_encoder, settings)) for last in previous]
            embedding = scan_encoder.encode(index, window=window)
            answers = scan_encoder.image_predictor.predict(embedding, prompts)
            counter.spend(index, [embedding.usage, answers.usage], embedding.no_contrast)
            grey = _grey(scan_encoder, index, window) if settings.min_likeness > -math.inf else None
            for track, last, answer, predicted_iou in zip(
                group, previous, answers.masks[:, 0], answers.predicted_iou[:, 0].tolist(), strict=True
            ):
                mask = _meeting(answer, last)
                why = _stop_reason(mask, last, track, grey, settings)
                if why is not None:
                    track.end = (index, why)
                else:
                    agreement = min(last.agreement, _overlap(mask, last))
                    track.steps[index] = _Mask.of(mask, predicted_iou, agreement, window)
    for track in tracks:
        if track.end is None and track.why is not None:
            track.end = (track.stop, track.why)
        # the prompted slice is in the result already
        del track.steps[track.start]


def _next_box(last: _Mask, scan_encoder: ScanEncoder, settings: PropagateSettings) -> Box:
    plane = scan_encoder.plane
    x0, y0, x1, y1 = last.box
    # stored pixels to a pixel of the network's input, which is square in mm
    longest_mm = max(length * pitch for length, pitch in zip(plane.shape, plane.spacing_mm, strict=True))
    input_mm = longest_mm / scan_encoder.image_predictor.sam.spec.preprocess.size
    right = settings.grow * (x1 - x0) + settings.grow_px * input_mm / plane.spacing_mm[1]
    down = settings.grow * (y1 - y0) + settings.grow_px * input_mm / plane.spacing_mm[0]
    return max(x0 - right, 0.0), max(y0 - down, 0.0), min(x1 + right, plane.shape[1]), min(y1 + down, plane.shape[0])


def _meeting(mask: np.ndarray, last: _Mask) -> np.ndarray:
    """The pieces of a mask that overlap the last one: islands elsewhere are something else."""
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    if count == 0:
        return mask
    stay = np.zeros(count + 1, dtype=bool)
    stay[pieces[last.part][last.packed]] = True
    stay[0] = False
    kept: np.ndarray = stay[pieces]
    return kept


def _overlap(mask: np.ndarray, last: _Mask) -> float:
    """IoU of a mask that is not empty and its neighbour."""
    common = int(np.count_nonzero(mask[last.part] & last.packed))
    return common / (int(np.count_nonzero(mask)) + last.area - common)


def _stop_reason(
    mask: np.ndarray, last: _Mask, track: _Track[Name], grey: np.ndarray | None, settings: PropagateSettings
) -> End | None:
    """Why an answer is not the object any more; None when it is."""
    area = int(np.count_nonzero(mask))
    if not area:
        return "vanished"
    if _overlap(mask, last) < settings.min_overlap or area > settings.max_growth * track.largest:
        return "stopped agreeing"
    if grey is not None and track.likeness is not None and track.likeness.of(grey, mask) < settings.min_likeness:
        return "stopped agreeing"
    return None


def _join(found: Propagation, ways: list[list[_Track[Name]]], spacing_mm: tuple[float, float]) -> None:
    """What the tracks of one object found, with the prompted slices."""
    up, down = ({index: track for track in tracks for index in track.steps} for tracks in ways)
    for index in sorted(up.keys() | down.keys()):
        if index not in down or index not in up:
            track = up.get(index) or down[index]
            _add(found, index, track.steps[index])
            continue
        one, other = up[index], down[index]
        a, b = one.steps[index], other.steps[index]
        near = abs(index - one.start), abs(other.start - index)
        weights = (near[1] * _trust(a), near[0] * _trust(b))
        share = weights[0] / sum(weights)
        joined = _between(a, b, share, spacing_mm)
        if not joined.any():
            # two answers apart from each other: the weightier one is believed
            joined = (a if share >= 0.5 else b).mask
        predicted_iou = share * a.predicted_iou + (1 - share) * b.predicted_iou
        _add(found, index, _Mask.of(joined, predicted_iou), max(a.confidence, b.confidence) * _overlap(a.mask, b))


def _trust(answer: _Mask) -> float:
    # a track that starts at an object's tip is often wrong all the way, and shows it
    return max(answer.confidence, 1e-6) ** _TRUST


def _between(one: _Mask, other: _Mask, share: float, spacing_mm: tuple[float, float]) -> np.ndarray:
    """The mask `share` of the way from `other` to `one`: signed distances to both outlines, averaged."""
    spans = [slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one.part, other.part, strict=True)]
    part = _grown((spans[0], spans[1]), [1, 1], one.shape)
    total = np.zeros(one.mask[part].shape)
    for mask, weight in ((one, share), (other, 1 - share)):
        inside = mask.mask[part]
        total += weight * (
            ndimage.distance_transform_edt(inside, sampling=spacing_mm)
            - ndimage.distance_transform_edt(~inside, sampling=spacing_mm)
        )
    result = np.zeros(one.shape, dtype=bool)
    result[part] = total > 0
    return result


def _span(mask: np.ndarray, axis: int) -> slice:
    """From the first to the last row (axis 1) or column (axis 0) of a mask, empty when it is."""
    found = np.flatnonzero(mask.any(axis=axis))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _grown(part: tuple[slice, slice], margin: list[int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(span.start - more, 0), min(span.stop + more, length))
        for span, more, length in zip(part, margin, shape, strict=True)
    )
    return rows, columns


def _add(found: Propagation, index: int, answer: _Mask, confidence: float | None = None) -> None:
    if answer.area:
        found.masks[index] = answer.mask
        found.predicted_iou[index] = answer.predicted_iou
        found.confidence[index] = answer.confidence if confidence is None else confidence


def _in_order(found: Propagation, no_contrast: tuple[int, ...], usage: Usage) -> Propagation:
    def ascending(part: dict[int, _Value]) -> dict[int, _Value]:
        return dict(sorted(part.items()))

    return Propagation(
        ascending(found.masks),
        ascending(found.predicted_iou),
        ascending(found.confidence),
        ascending(found.stop_reasons),
        no_contrast,
        usage,
    )
