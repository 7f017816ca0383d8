"""Which looks a prompt deserves, and how their answers and the box become one mask.

A network that is shown a whole slice at 256 pixels a side misses what is thin, sees a lung through a window made for
the liver, and answers many boxes with a mask that leaves most of the box empty. Three remedies, each chosen by
measurement and none of them trained (docs/results/README.md, "A closer look"):

closer      where the whole look shrinks the slice, a square of `_CLOSER` times the box is encoded again with all the
            detail the scan has, and the logits of both looks are averaged. A slice that the network sees in full
            anyway gains nothing and is not encoded again.
window      where the slice's window clips most of the box's pixels away (lung and bone under soft tissue on CT), the
            looks use the wide window. Only when the window was left to us.
evidence    the averaged logits are log-odds of a pixel belonging to the object. Two more witnesses are added to them,
            the more of their weight the less *stable* the network's own answer is (Kirillov et al. 2023: the IoU of the
            masks at thresholds -1 and +1):
              the box     (1 - r²) with r the distance from the centre in half-axes: most likely inside at the centre,
                          even on the inscribed ellipse, unlikely in the corners. Where a rough mask was given, its
                          outline takes the ellipse's place: the signed distance from it in tenths of its radius.
              the pixels  log-likelihood ratio of the pixel's brightness inside the network's mask against outside the
                          box, from smoothed histograms over equally filled bins (the appearance term of GrabCut, Rother
                          et al. 2004). It speaks up for what a tight box leaves out, and against the margin of a loose
                          one, which looks like what lies outside.
            Models fine-tuned with loose boxes answer without the two (`ModelSpec.use_priors`).

Nothing outside a given box is kept: of a pixel that its edge cuts all may stay, of others nothing. Where a click inside
lies beyond the box, the box reaches to it (`clicks.box_including`).

Letters: P prompts, L looks, h and w of the stored slice, s the side of logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from scipy import ndimage

from medsam.errors import PromptError
from medsam.geometry import SlicePlane
from medsam.inference.appearance import log_odds
from medsam.inference.clicks import box_for, box_including, clicked_inside, enforce_clicks
from medsam.inference.image_predictor import Crop, Embedding, LogitsFor, ScanEncoder
from medsam.inference.usage import Usage
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import tight_box
from medsam.transforms.frame import Region, in_box, pixels_of
from medsam.transforms.intensity import IntensityWindow

Zoom = Literal["off", "on", "auto"]


@dataclass(frozen=True, eq=False)
class SliceResult:
    """What one prompt got on one slice.

    mask: bool (h, w). predicted_iou: the network's own guess, not clamped. logits: (h, w) float32, what was thresholded
    at 0; -inf where nothing looked. crops: what was encoded for it. low_res_logits: (L, s, s), the logits of each look,
    fit to be given back with the next click. box: the one the network was asked with, given or found.
    no_contrast: the window left none in one of the crops, so that the mask means nothing. usage: of the whole call that
    gave it and others, with the first of them: a sum over results counts nothing twice.
    """

    mask: np.ndarray
    predicted_iou: float
    logits: np.ndarray
    crops: tuple[Crop, ...]
    low_res_logits: torch.Tensor
    box: Box | None = None
    no_contrast: bool = False
    usage: Usage = field(default_factory=Usage)


# Side of the closer look in sides of the box, plus a share of the slice's longer side: a small box needs surroundings.
_CLOSER, _CLOSER_MARGIN = 2.5, 0.04
# A closer look that magnifies less than this, or a slice that the whole look shrinks less than this, shows nothing new.
_WORTHWHILE = 1.25
# Share of the box's pixels that the slice's window must clip before the wide one is taken.
_CLIPPED = 0.35
# Bins of brightness, equally filled, as told by this many pixels.
_BINS = 24
_SAMPLE = 200_000


@dataclass(frozen=True)
class PriorWeights:
    """How much the box and the pixels count beside the network's log-odds, for an answer of stability 0.5.

    box, pixels: their weights. limit: the most one pixel's brightness may say, in log-odds.
    `scripts/studies/evidence.py` chooses these and tests each choice on data sets that had no part in it.
    """

    box: float = 3.0
    pixels: float = 4.5
    limit: float = 1.5


def segment_slice(
    scan_encoder: ScanEncoder,
    index: int,
    prompts: Sequence[SlicePrompt],
    *,
    zoom: Zoom = "auto",
    previous: Sequence[SliceResult | None] | None = None,
) -> list[SliceResult]:
    """Answer every prompt on slice `index`, in their order.

    zoom: "off" looks at the whole slice once and answers as published, but for what lies apart from a box and its
    surroundings (`ImagePredictor.predict`, logits for "near_box"). "on" answers boxes from the closer look alone. Both
    may leave the box. "auto" does all that is described above: at most two looks a box, the whole slice shared by all.
    previous: the result each prompt had before its last click, or None. Its logits go back into the network, and its
    looks are taken again, so nothing new is encoded while the clicks stay inside them.
    Raises PromptError for no such slice, no prompt, or an unknown zoom.
    """
    if zoom not in get_args(Zoom):
        raise PromptError(f"There is no zoom {zoom!r}; use {', '.join(get_args(Zoom))}.")
    if not prompts:
        raise PromptError("No prompt: give at least one box, click or mask.")
    asked, previous = list(prompts), list(previous or [None] * len(prompts))
    knows_clicks = "points" in scan_encoder.image_predictor.sam.spec.prompts
    usage = Usage()
    strange = [] if knows_clicks else [n for n, prompt in enumerate(asked) if prompt.points or prompt.mask is not None]
    searched: list[Embedding] = []

    def whole() -> Embedding:
        searched.append(scan_encoder.encode(index))
        return searched[-1]

    for n in strange:
        earlier = previous[n]
        last = None if earlier is None else tight_box(earlier.mask, 1)
        asked[n], spent = box_for(scan_encoder.image_predictor, whole, asked[n], scan_encoder.plane, last)
        usage += spent
    usage = sum((one.usage for one in searched), usage)
    without_contrast = [any(one.no_contrast for one in searched)] * len(asked)
    if not knows_clicks:
        # a network that was shown boxes only makes nothing of its earlier logits
        previous = [None] * len(asked)
    if zoom != "off":
        for n, prompt in enumerate(asked):
            if prompt.box is not None:
                asked[n] = replace(
                    prompt, box=box_including(prompt.box, clicked_inside(prompts[n]), scan_encoder.plane)
                )
            earlier = previous[n]
            if earlier is not None and any(_clicks_inside(asked[n], one) != asked[n] for one in earlier.crops):
                # a click outside the closer look: it has to be taken elsewhere
                previous[n] = None
    crops = [
        _crops_of(scan_encoder, index, prompt, zoom) if earlier is None else earlier.crops
        for prompt, earlier in zip(asked, previous, strict=True)
    ]
    # of every prompt, look by look: logits on the slice, logits of the network, predicted IoU
    per_prompt: list[list[tuple[np.ndarray, torch.Tensor, float]]] = [[] for _ in asked]
    # one look at a time, all its prompts together: embeddings of many closer looks need not be in memory at once
    for one in dict.fromkeys(each for mine in crops for each in mine):
        members = [n for n, mine in enumerate(crops) if one in mine]
        earlier_logits = [
            None if (earlier := previous[n]) is None else earlier.low_res_logits[crops[n].index(one)] for n in members
        ]
        embedding = scan_encoder.encode_many([one])[0]
        found = scan_encoder.image_predictor.predict(
            embedding,
            [_clicks_inside(asked[n], one) for n in members],
            previous=earlier_logits,
            logits_for="all" if knows_clicks else _logits_for([prompts[n] for n in members], zoom),
        )
        usage += embedding.usage + found.usage
        restored = found.frame.restore(found.logits[:, 0]).cpu().numpy()
        for row, n in enumerate(members):
            without_contrast[n] |= embedding.no_contrast
            per_prompt[n].append((restored[row], found.logits[row, 0].cpu(), float(found.predicted_iou[row, 0])))
    answers = []
    for n, (prompt, wanted) in enumerate(zip(prompts, asked, strict=True)):
        maps, low_res_logits, predicted_iou = zip(*per_prompt[n], strict=True)
        logits = mean_logits(maps)
        if zoom == "auto" and wanted.box is not None:
            # a network that knows masks has heard of it
            rough = None if knows_clicks else prompt.mask
            weights = (
                None
                if scan_encoder.image_predictor.sam.spec.use_priors or rough is not None
                else PriorWeights(box=0.0, pixels=0.0)
            )
            pixels, pitch_mm = scan_encoder.pixels(index), scan_encoder.plane.spacing_mm
            logits = add_box_and_intensity_prior(logits, wanted.box, pixels, weights, rough=rough, pitch_mm=pitch_mm)
        if prompt.points and wanted.box is not None and (zoom == "auto" or not wanted.points):
            logits = enforce_clicks(logits, prompt.points, wanted.box, scan_encoder.pixels(index), scan_encoder.plane)
        if (within := bounds(prompt, zoom, scan_encoder.plane)) is not None:
            # clicks reach beyond the box, and so may a mask that was drawn
            logits = np.where(within, logits, np.float32(-np.inf))
        answers.append(
            SliceResult(
                logits > 0,
                float(np.mean(predicted_iou)),
                logits,
                crops[n],
                torch.stack(low_res_logits),
                wanted.box,
                without_contrast[n],
                Usage() if n else usage,
            )
        )
    return answers


def bounds(prompt: SlicePrompt, zoom: Zoom, plane: SlicePlane) -> np.ndarray | None:
    """Where the answer to a prompt may lie, bool (h, w): the pixels of its box; None where nothing bounds it."""
    if zoom != "auto" or prompt.box is None:
        return None
    return in_box(box_including(prompt.box, clicked_inside(prompt), plane), plane.shape)


def closer_region(box: Box, plane: SlicePlane) -> Region:
    """The part of a slice that a closer look at a box takes: square in millimetres, shifted to stay inside."""
    spacing = np.array(plane.spacing_mm[::-1])
    size = np.array(plane.shape[::-1])
    corners = np.array(box).reshape(2, 2)
    side_mm = _CLOSER * ((corners[1] - corners[0]) * spacing).max() + _CLOSER_MARGIN * (size * spacing).max()
    side = np.minimum(side_mm / spacing, size)
    low = np.clip(corners.mean(axis=0) - side / 2, 0, size - side)
    x0, y0 = np.floor(low).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(low + side).astype(int), size).tolist()
    return x0, y0, x1, y1


def _logits_for(prompts: Sequence[SlicePrompt], zoom: Zoom) -> LogitsFor:
    """Which logits become a mask, of a network whose answers are not given back to it."""
    if any(prompt.mask is not None for prompt in prompts):
        return "all"
    if zoom == "auto":
        return "in_box"
    return "all" if any(prompt.points for prompt in prompts) else "near_box"


def _crops_of(scan_encoder: ScanEncoder, index: int, prompt: SlicePrompt, zoom: Zoom) -> tuple[Crop, ...]:
    if zoom == "off" or prompt.box is None:
        return (Crop(index),)
    region = closer_region(prompt.box, scan_encoder.plane)
    if zoom == "on":
        return (Crop(index, region),)
    window = _fitting_window(scan_encoder, index, prompt.box)
    whole = Crop(index, None, window)
    x0, y0, x1, y1 = region
    spacing, (rows, columns) = scan_encoder.plane.spacing_mm, scan_encoder.plane.shape
    extent_mm = max(rows * spacing[0], columns * spacing[1])
    shrunk = extent_mm / scan_encoder.image_predictor.sam.spec.preprocess.size / min(spacing)
    magnified = extent_mm / max((y1 - y0) * spacing[0], (x1 - x0) * spacing[1])
    return (whole, Crop(index, region, window)) if min(shrunk, magnified) >= _WORTHWHILE else (whole,)


def _fitting_window(scan_encoder: ScanEncoder, index: int, box: Box) -> IntensityWindow | None:
    """The scan encoder's wide window when its own hides most of what is in the box; None keeps its own."""
    if scan_encoder.wide_window is None:
        return None
    x0, y0, x1, y1 = pixels_of(box, scan_encoder.plane.shape)
    inside = scan_encoder.pixels(index)[y0:y1, x0:x1]
    hidden = (inside < scan_encoder.window.low) | (inside > scan_encoder.window.high)
    return scan_encoder.wide_window if float(hidden.mean()) > _CLIPPED else None


def _clicks_inside(prompt: SlicePrompt, one: Crop) -> SlicePrompt:
    """The prompt without clicks that lie outside a closer look."""
    if one.region is None or not prompt.points:
        return prompt
    x0, y0, x1, y1 = one.region
    inside = tuple(
        point for point in prompt.points if x0 - 0.5 <= point[0] < x1 - 0.5 and y0 - 0.5 <= point[1] < y1 - 0.5
    )
    return replace(prompt, points=inside)


def mean_logits(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean logits (h, w) of the looks that saw a pixel."""
    stack = np.stack(maps)
    seen = np.isfinite(stack)
    total = np.where(seen, stack, 0).sum(axis=0)
    return np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), -np.inf).astype(np.float32)


def add_box_and_intensity_prior(
    logits: np.ndarray,
    box: Box,
    pixels: np.ndarray,
    weights: PriorWeights | None = None,
    *,
    rough: np.ndarray | None = None,
    pitch_mm: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Logits (h, w) with what the box and the pixels say, -inf outside the box (see the top of this file).

    pixels: (h, w) or (h, w, 3), any units. rough: bool (h, w), a mask that was given; without pixels of it in the box
    it says nothing. pitch_mm: (row, column) of a pixel.
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
        # nothing to see: a mask made of the box alone would be a pretence
        result[top:bottom, left:right] = np.where(allowed, part, -np.inf)
        return result
    given = None if rough is None else rough[top:bottom, left:right]
    stability = stability_score(torch.from_numpy(np.where(allowed, part, -np.inf))).nan_to_num()
    doubt = 2 * (1 - float(stability))
    inside, outside = (part > 0) & allowed, distance > 1.05
    if given is not None and given.any():
        shape_says = _outline(given, pitch_mm)
        # a drawn outline is worth more than the network's doubt about it
        doubt, inside, outside = 1.0, given, ~given
        # and it may be drawn too small
        allowed = np.ones_like(allowed)
    else:
        shape_says = 1 - (across**2 + down**2)
    brightness = _appearance(pixels[top:bottom, left:right], inside, outside, weights.limit)
    evidence = weights.box * shape_says + weights.pixels * brightness
    result[top:bottom, left:right] = np.where(allowed, part + doubt * evidence, -np.inf)
    return result


def _outline(mask: np.ndarray, pitch_mm: tuple[float, float]) -> np.ndarray:
    """Signed distance (h, w) from a mask's outline in tenths of its radius, positive inside, clipped to [-2, 1]."""
    inner, outer = (ndimage.distance_transform_edt(side, sampling=pitch_mm) for side in (mask, ~mask))
    # half a pixel: the outline runs between pixels
    signed = np.where(mask, inner, -outer) - np.where(mask, 0.5, -0.5) * min(pitch_mm)
    radius = np.sqrt(np.count_nonzero(mask) * pitch_mm[0] * pitch_mm[1] / np.pi)
    return np.clip(signed / (radius / 10), -2, 1)


def _appearance(pixels: np.ndarray, inside: np.ndarray, outside: np.ndarray, limit: float) -> np.ndarray:
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
