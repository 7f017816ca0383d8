"""From one prompted slice, or a few, to the whole object: outwards both ways, and towards each other in between.

A *track* (`tracks`) walks from one prompted slice in one direction. On every slice it prompts the network with the box
of its last mask, a little grown, because networks trained on loose boxes draw inside a tight one and the object would
wither. The answer is weighed against the last outline and the grey levels (`next_slice`), and the pieces that meet the
last mask are kept. It ends

    "vanished"           the answer is empty, or nothing of it meets the last mask
    "stopped agreeing"   the mask is another object: too little of it and its neighbour is shared, it no longer looks
                         as much like what was prompted, or it has outgrown the prompted slice
    "end of scan"        there is no further slice
    "met"                the next slice is one that was prompted
    "interrupted"        the caller wants no more

and the slice on which it ended stays empty; but a mask that looks less like the object because it is the object's cap,
well inside the last mask and much smaller, is kept, and the next slice is the end. Between two prompted slices two
tracks run against each other; where both have an answer, the outline is drawn between theirs, nearer to that of the
nearer prompt and of the surer track (shape-based interpolation, Raya and Udupa 1990); where one has ended, the other's
answer counts, and where both have, the outline is drawn between those of the two prompted slices.

All objects of a scan walk together, so a slice is encoded once for all of them in each direction, and the way back
finds the slices it needs again in the cache.

Every choice here is measured: docs/propagation.md, `scripts/studies/propagation_evidence.py`.
Letters: h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import SlicePlane
from medsam.inference.appearance import brightness
from medsam.inference.grey_levels import MOST_ODDS, GreyLevels, radius_mm
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.next_slice import Evidence, EvidenceWeights, evidence
from medsam.inference.segment_slice import segment_slice
from medsam.inference.slice_request import Zoom
from medsam.inference.tracks import End, KeptMasks, Name, Track, TrackMask, fill_in, join_tracks
from medsam.inference.usage import Usage
from medsam.inference.walk_progress import FoundCallback, WalkProgress
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.transforms.intensity import IntensityWindow

_WEIGHTS = EvidenceWeights()
# A cap: this share of it inside the last mask, and less than this share of the last one's area.
_CAP_INSIDE, _CAP_AREA = 0.95, 0.6


@dataclass(frozen=True)
class PropagateSettings:
    """How far a track trusts the next slice. The defaults are measured (docs/propagation.md).

    grow: each side of the last mask's box moves outwards by this share of the box's width or height,
    grow_px: and by this many pixels of the network's input.
    min_overlap: least IoU of neighbouring masks where slices are thin beside the object; it is divided by one plus the
        gap between slices in radii of the prompted object.
    min_likeness: how much less like the object a mask may be by its grey levels than on the prompted slice, in mean
        log-odds of object against surroundings. -inf switches it off.
    max_growth: largest area, in areas of the larger of the prompted slices that a track lies between.
    max_mm: farthest a track walks from its prompted slice.
    """

    grow: float = 0.07
    grow_px: float = 1.0
    min_overlap: float = 0.6
    min_likeness: float = -0.5
    max_growth: float = 4.0
    max_mm: float = math.inf

    def __post_init__(self) -> None:
        ranges = {
            "grow": (0.0, 10.0),
            "grow_px": (0.0, 1024.0),
            "min_overlap": (0.0, 1.0),
            "min_likeness": (-math.inf, 2 * MOST_ODDS),
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

    masks: bool (h, w), never empty, a new array whenever one is taken. predicted_iou: as the network says it (of two
    masks the mean by which they were joined or drawn between); nan where a drawn mask was taken as it is.
    confidence: [0, 1]; see `propagate`. stop_reasons: slice number -> why the object does not go on there, or on from
    there for "met"; -1 and the number of slices stand for the ends of the scan.
    no_contrast: slices, of all objects followed together, in which the window left none. usage: of the whole call, with
    the first of its objects: a sum over them counts nothing twice.
    """

    masks: Mapping[int, np.ndarray] = field(default_factory=dict)
    predicted_iou: dict[int, float] = field(default_factory=dict)
    confidence: dict[int, float] = field(default_factory=dict)
    stop_reasons: dict[int, End] = field(default_factory=dict)
    no_contrast: tuple[int, ...] = ()
    usage: Usage = field(default_factory=Usage)

    @property
    def look_first(self) -> int | None:
        """The slice to look at first: the first of those of least confidence; None when nothing was found."""
        return min(self.confidence, key=lambda index: self.confidence[index], default=None)

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
    progress: ProgressCallback | None = None,
) -> Propagation:
    """Follow one object from its prompted slices, {slice number: prompt}, through the scan.

    A prompt that is a mask and nothing else is the mask of its slice, as drawn; every other goes to the network.
    zoom: for the prompted slices, see `segment_slice`; a box made from a neighbour's mask says too little of where the
    object ends to draw priors from it, so between them the network sees whole slices.
    progress: called with (slices done, slices at most).

    confidence of a slice is its predicted IoU, clamped to [0, 1], times how sure its pixels are in the mean, times the
    root of the product of the agreement (IoU) of neighbouring masks on the way from the prompted slice. Where two
    tracks have a mask it is the better one's, times the IoU of both; where none has, the lesser one of the two prompted
    slices', times their IoU. It is no probability, and ranks slices only: the
    least one is the slice to look at first (docs/propagation.md).
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
    progress: ProgressCallback | None = None,
    found: FoundCallback | None = None,
    wanted: Callable[[], bool] | None = None,
) -> dict[Name, Propagation]:
    """`propagate` for many objects of one scan at once: name -> its prompts, {slice number: prompt}.

    limits: first and last slice an object may have, where they are known. found: called with each mask on the way, its
    object and slice, as it is before tracks are joined. wanted: asked once a slice; False ends all tracks there.
    Objects do not know of each other and may overlap. Each has the masks it would have alone, to the rounding of
    decoding together.
    """
    settings = settings or PropagateSettings()
    _check(scan_encoder, objects, settings)
    plane = scan_encoder.plane
    reach = (
        math.floor(settings.max_mm / _gap_mm(scan_encoder) + 1e-9) if math.isfinite(settings.max_mm) else plane.count
    )
    ways = [_tracks(objects, step, reach, plane.count, limits or {}) for step in (1, -1)]
    most = len({n for seeds in objects.values() for n in seeds}) + sum(map(_most, ways))
    counter = WalkProgress(most, progress, found, wanted)
    seeds = _segment_seeds(scan_encoder, objects, zoom, counter)
    _start(scan_encoder, [track for tracks in ways for track in tracks], seeds, settings, counter)
    for tracks in ways:
        _walk(scan_encoder, tracks, settings, counter)
    spread = {}
    for name, mine in seeds.items():
        up, down = ([track for track in tracks if track.name == name] for tracks in ways)
        spread[name] = _result(mine, up, down, plane.spacing_mm)
    counter.finish()
    first, no_contrast = next(iter(spread)), tuple(sorted(counter.no_contrast))
    return {
        name: replace(one, no_contrast=no_contrast, usage=counter.usage if name == first else Usage())
        for name, one in spread.items()
    }


def _check(
    scan_encoder: ScanEncoder, objects: Mapping[Name, Mapping[int, SlicePrompt]], settings: PropagateSettings
) -> None:
    """Raise PromptError for what cannot be followed."""
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


def _result(
    seeds: Mapping[int, TrackMask],
    up: Sequence[Track[Name]],
    down: Sequence[Track[Name]],
    spacing_mm: tuple[float, float],
) -> Propagation:
    """One object from its prompted slices and its tracks, upwards and downwards."""
    masks = {index: (seed, seed.confidence) for index, seed in seeds.items()} | join_tracks(up, down, spacing_mm)
    if all(track.end is None or track.end[1] != "interrupted" for track in (*up, *down)):
        masks |= fill_in(seeds, up, masks, spacing_mm)
    masks = {index: found for index, found in sorted(masks.items()) if found[0].area}
    stop_reasons: dict[int, End] = {index: "vanished" for index, seed in seeds.items() if not seed.area}
    for track in (*up, *down):
        if track.end is not None:
            stop_reasons.setdefault(*track.end)
    return Propagation(
        masks=KeptMasks({index: found.mask for index, (found, _) in masks.items()}),
        predicted_iou={index: found.predicted_iou for index, (found, _) in masks.items()},
        confidence={index: confidence for index, (_, confidence) in masks.items()},
        stop_reasons=dict(sorted(stop_reasons.items())),
    )


def _grey(scan_encoder: ScanEncoder, index: int, window: IntensityWindow | None) -> np.ndarray:
    """The slice as the window shows it, (h, w) in 0 ... 255; colours averaged."""
    return brightness((window or scan_encoder.window).picture(scan_encoder.pixels(index)))


def _tracks(
    objects: Mapping[Name, Mapping[int, SlicePrompt]],
    step: int,
    reach: int,
    count: int,
    limits: Mapping[Name, tuple[int, int]],
) -> list[Track[Name]]:
    """Every walk in one direction."""
    tracks = []
    for name, seeds in objects.items():
        indices = sorted(seeds, key=lambda index: index * step)
        for number, start in enumerate(indices):
            last = number + 1 == len(indices)
            stop = (count if step > 0 else -1) if last else indices[number + 1]
            why: End | None = "end of scan" if last else "met"
            if (stop - start) * step > reach + 1:
                # as far as max_mm goes; there is nothing to report about the scan
                stop, why = start + step * (reach + 1), None
            if name in limits:
                end = limits[name][1] + 1 if step > 0 else limits[name][0] - 1
                if (stop - end) * step > 0:
                    stop, why = max(end, start + 1) if step > 0 else min(end, start - 1), None
            tracks.append(Track(name, start, step, stop, why))
    return tracks


def _most(tracks: list[Track[Name]]) -> int:
    return len({n for track in tracks for n in range(track.start + track.step, track.stop, track.step)})


def _segment_seeds(
    scan_encoder: ScanEncoder, objects: Mapping[Name, Mapping[int, SlicePrompt]], zoom: Zoom, counter: WalkProgress
) -> dict[Name, dict[int, TrackMask]]:
    by_slice: dict[int, list[Name]] = {}
    for name, seeds in objects.items():
        for index in seeds:
            by_slice.setdefault(index, []).append(name)
    found: dict[Name, dict[int, TrackMask]] = {name: {} for name in objects}
    for index in sorted(by_slice):
        counter()
        prompted = []
        for name in by_slice[index]:
            prompt = objects[name][index]
            if prompt.mask is not None and prompt.mask_alone:
                found[name][index] = TrackMask(CompactMask.of(prompt.mask), math.nan)
            else:
                prompted.append((name, prompt))
        if prompted:
            results = segment_slice(scan_encoder, index, [prompt for _, prompt in prompted], zoom=zoom)
            counter.spend(index, [one.usage for one in results], any(one.no_contrast for one in results))
            for (name, _), one in zip(prompted, results, strict=True):
                found[name][index] = TrackMask(
                    CompactMask.of(one.mask), one.predicted_iou, window=one.crops[0].window if one.crops else None
                )
    return found


def _walk(
    scan_encoder: ScanEncoder,
    tracks: list[Track[Name]],
    settings: PropagateSettings,
    counter: WalkProgress,
) -> None:
    """Walk all tracks of one direction together, slice by slice."""
    indices = range(scan_encoder.plane.count)
    for index in indices if tracks[0].step > 0 else reversed(indices):
        here = [track for track in tracks if track.visits(index)]
        if not here:
            continue
        counter()
        if not counter.wanted():
            break
        # an object that was found through the wide window is followed through it
        for window in dict.fromkeys(track.steps[index - track.step].window for track in here):
            group = [track for track in here if track.steps[index - track.step].window == window]
            _step(scan_encoder, group, index, window, settings, counter)
    wanted = counter.wanted()
    for track in tracks:
        track.end_where_it_is(wanted)
        # the prompted slice is in the result already
        del track.steps[track.start]


def _start(
    scan_encoder: ScanEncoder,
    tracks: Sequence[Track[Name]],
    seeds: Mapping[Name, Mapping[int, TrackMask]],
    settings: PropagateSettings,
    counter: WalkProgress,
) -> None:
    """Put tracks on their prompted slices. seeds: the masks of all prompted slices, by object."""
    plane = scan_encoder.plane
    # those that go on from a prompted slice, up and down, seen through one window
    going: dict[tuple[int, IntensityWindow | None], dict[Name, list[Track[Name]]]] = {}
    for track in tracks:
        seed = seeds[track.name][track.start]
        track.steps[track.start] = seed
        # of no slice beyond the next prompted one: what is corrected there changes nothing here
        towards = seeds[track.name].get(track.stop)
        track.largest = max(seed.area, 0 if towards is None else towards.area)
        track.gap_radii = _gap_mm(scan_encoder) / max(radius_mm(seed.mask, plane.spacing_mm), min(plane.spacing_mm))
        if not seed.area:
            track.end_at(track.start, "vanished")
        elif track.longest:
            going.setdefault((track.start, seed.window), {}).setdefault(track.name, []).append(track)
    for (index, window), objects in going.items():
        counter.check()
        grey = _grey(scan_encoder, index, window)
        prompted = [seeds[name][index] for name in objects]
        levels = [GreyLevels.of(grey, seed.mask, plane.spacing_mm) for seed in prompted]
        # asked here as it will be on the next slice, the answer should be as large as what is known
        found, _ = _ask(scan_encoder, index, window, prompted, levels, grey, settings, counter)
        for pair, seed, mine, known in zip(objects.values(), prompted, levels, found, strict=True):
            bias = _WEIGHTS.bias + _WEIGHTS.fitted * (known.bias_for(seed.area) - _WEIGHTS.bias)
            likeness = 0.0 if mine is None else mine.mean_odds(grey, seed.mask.to_array())
            for track in pair:
                track.levels, track.likeness, track.bias = mine, likeness, bias


def _step(
    scan_encoder: ScanEncoder,
    tracks: Sequence[Track[Name]],
    index: int,
    window: IntensityWindow | None,
    settings: PropagateSettings,
    counter: WalkProgress,
) -> None:
    """Take tracks that see the scan through one window on to slice `index`."""
    back = index - tracks[0].step
    previous = [track.steps[back] for track in tracks]
    before, grey = (_grey(scan_encoder, number, window) for number in (back, index))
    levels = [_levels(track, last, before, scan_encoder) for track, last in zip(tracks, previous, strict=True)]
    found, predicted_ious = _ask(scan_encoder, index, window, previous, levels, grey, settings, counter)
    for track, last, mine, known, predicted_iou in zip(tracks, previous, levels, found, predicted_ious, strict=True):
        mask = last.meeting(known.mask(track.bias))
        likeness = 0.0 if mine is None or not mask.any() else mine.mean_odds(grey, mask) - track.likeness
        reason = _stop_reason(mask, last, track, likeness, settings)
        is_cap = reason == "stopped agreeing" and _is_cap(mask, last, track, settings)
        if reason is None or is_cap:
            agreement, certainty = last.agreement * last.overlap(mask), known.certainty(mask, track.bias)
            compact = CompactMask.of(mask)
            track.steps[index] = TrackMask(compact, predicted_iou, agreement, certainty, window)
            if counter.found is not None:
                counter.found(track.name, index, compact)
        if is_cap:
            track.end_at(index + track.step, "vanished")
        elif reason is not None:
            track.end_at(index, reason)


def _levels(track: Track[Name], last: TrackMask, grey: np.ndarray, scan_encoder: ScanEncoder) -> GreyLevels | None:
    """Of the object, to be looked for on the next slice. grey: the slice of `last`."""
    now = GreyLevels.of(grey, last.mask, scan_encoder.plane.spacing_mm)
    return now if track.levels is None else track.levels.mixed(now)


def _ask(
    scan_encoder: ScanEncoder,
    index: int,
    window: IntensityWindow | None,
    previous: Sequence[TrackMask],
    levels: Sequence[GreyLevels | None],
    grey: np.ndarray,
    settings: PropagateSettings,
    counter: WalkProgress,
) -> tuple[list[Evidence], list[float]]:
    """What is known of objects on slice `index`, and predicted IoU. previous: their last masks."""
    plane = scan_encoder.plane
    prompts = [SlicePrompt(1, _next_box(last, scan_encoder, settings)) for last in previous]
    embedding = scan_encoder.encode(index, window=window)
    found = scan_encoder.image_predictor.predict(embedding, prompts, logits_for="near_box")
    counter.spend(index, [embedding.usage, found.usage], embedding.no_contrast)
    known = [
        evidence(
            # one at a time: thirty of a large slice need not be in memory together
            found.frame.restore(found.logits[row : row + 1, 0])[0].cpu().numpy(),
            last.mask,
            grey,
            mine,
            _WEIGHTS,
            spacing_mm=plane.spacing_mm,
            gap_mm=_gap_mm(scan_encoder),
            input_mm=_input_mm(scan_encoder),
        )
        for row, (last, mine) in enumerate(zip(previous, levels, strict=True))
    ]
    return known, found.predicted_iou[:, 0].tolist()


def _stop_reason(
    mask: np.ndarray, last: TrackMask, track: Track[Name], likeness: float, settings: PropagateSettings
) -> End | None:
    """Why a mask is not the object any more; None when it is. likeness: by grey levels, 0 as on the prompted slice."""
    if not mask.any():
        return "vanished"
    return None if _holds_on(mask, last, track, settings) and likeness >= settings.min_likeness else "stopped agreeing"


def _holds_on(mask: np.ndarray, last: TrackMask, track: Track[Name], settings: PropagateSettings) -> bool:
    """Whether a mask, not empty, is where the last one was and not too large."""
    near = last.overlap(mask) >= settings.min_overlap / (1 + track.gap_radii)
    return near and int(np.count_nonzero(mask)) <= settings.max_growth * track.largest


def _is_cap(mask: np.ndarray, last: TrackMask, track: Track[Name], settings: PropagateSettings) -> bool:
    """Whether a mask is the last of an object that closes: partial volume makes it look like its surroundings."""
    area = int(np.count_nonzero(mask))
    inside = int(np.count_nonzero(mask[last.mask.part] & last.mask.crop))
    return _holds_on(mask, last, track, settings) and inside >= _CAP_INSIDE * area and area < _CAP_AREA * last.area


def _gap_mm(scan_encoder: ScanEncoder) -> float:
    """Between slices."""
    return float(scan_encoder.scan.geometry.spacing_mm[scan_encoder.plane.array_axis])


def _input_mm(scan_encoder: ScanEncoder) -> float:
    """A pixel of the network's input, which is square in mm, on a whole slice."""
    return scan_encoder.plane.longest_mm / scan_encoder.image_predictor.sam.spec.preprocess.size


def _next_box(last: TrackMask, scan_encoder: ScanEncoder, settings: PropagateSettings) -> Box:
    plane, input_mm = scan_encoder.plane, _input_mm(scan_encoder)
    x0, y0, x1, y1 = last.box
    right = settings.grow * (x1 - x0) + settings.grow_px * input_mm / plane.spacing_mm[1]
    down = settings.grow * (y1 - y0) + settings.grow_px * input_mm / plane.spacing_mm[0]
    return max(x0 - right, 0.0), max(y0 - down, 0.0), min(x1 + right, plane.shape[1]), min(y1 + down, plane.shape[0])
