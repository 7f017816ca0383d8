"""One slice and its prompts -> masks: which crops the network sees, and how its answers become one mask a prompt.

A network that is shown a whole slice at 256 pixels a side misses what is thin, sees a lung through a window made for
the liver, and answers many boxes with a mask that leaves most of the box empty. Three remedies, each chosen by
measurement and none of them trained (docs/results/README.md, "A closer look"):

closer      where the whole slice is shrunk for the network, a square of `_CLOSER` times the box is encoded again with
            all the detail the scan has, and the logits of both crops are averaged. A slice that the network sees in
            full anyway gains nothing and is not encoded again.
window      where the slice's window clips most of the box's pixels away (lung and bone under soft tissue on CT), the
            crops use the wide window. Only when the window was left to us.
priors      to the averaged logits is added what the box and the brightness of its pixels say: see `priors`.

Nothing outside a given box is kept: of a pixel that its edge cuts all may stay, of others nothing. Where a click inside
lies beyond the box, the box reaches to it (`clicks.box_including`).

Letters: P prompts, C crops, h and w of the stored slice, s the side of the network's logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from medsam.errors import PromptError
from medsam.geometry import SlicePlane
from medsam.inference.clicks import box_for, box_including, clicked_inside, enforce_clicks
from medsam.inference.image_predictor import Crop, Embedding, LogitsFor, Prediction, ScanEncoder
from medsam.inference.priors import PriorWeights, add_box_and_intensity_prior
from medsam.inference.usage import Usage
from medsam.models.specs import takes_clicks
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import tight_box
from medsam.transforms.frame import Region, in_box, pixels_of
from medsam.transforms.intensity import IntensityWindow
from medsam.transforms.prepare import check_slice

Zoom = Literal["off", "on", "auto"]

# Side of the closer crop in sides of the box, plus a share of the slice's longer side: a small box needs surroundings.
_CLOSER, _CLOSER_MARGIN = 2.5, 0.04
# A closer crop that magnifies less than this, or a slice that is shrunk less than this, shows nothing new.
_WORTHWHILE = 1.25
# Share of the box's pixels that the slice's window must clip before the wide one is taken.
_CLIPPED = 0.35


@dataclass(frozen=True, eq=False)
class SliceResult:
    """What one prompt got on one slice.

    mask: bool (h, w). predicted_iou: the network's own guess, not clamped. logits: (h, w) float32, what was thresholded
    at 0; -inf where no crop reached. crops: what was encoded for it. low_res_logits: (C, s, s), the logits of each
    crop, fit to be given back with the next click. box: the one the network was shown, given or found.
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

    @property
    def quality(self) -> float:
        """`predicted_iou`, by its earlier name."""
        return self.predicted_iou


@dataclass(frozen=True, eq=False)
class _Request:
    """given: the prompt as the user put it. prompt: as the network is shown it, in `crops`.

    previous: the result whose logits go back into the network, or None.
    """

    given: SlicePrompt
    prompt: SlicePrompt
    crops: tuple[Crop, ...]
    previous: SliceResult | None

    def previous_logits(self, crop: Crop) -> torch.Tensor | None:
        """(s, s), of one of the crops."""
        return None if self.previous is None else self.previous.low_res_logits[self.crops.index(crop)]


class _CropPrediction(NamedTuple):
    """What the network answered a prompt in one crop. logits: (h, w) on the slice. low_res_logits: (s, s)."""

    logits: np.ndarray
    low_res_logits: torch.Tensor
    predicted_iou: float
    no_contrast: bool


class _Embeddings:
    """The embeddings of one call. usage: of all that it runs.

    The whole slice is kept meanwhile: a search for a box and the prediction in it share it.
    """

    def __init__(self, scan_encoder: ScanEncoder, index: int) -> None:
        self.scan_encoder, self.index, self.usage = scan_encoder, index, Usage()
        self._whole: Embedding | None = None

    def whole(self) -> Embedding:
        """Of the slice in the scan's own window."""
        if self._whole is None:
            self._whole = self._encoded(Crop(self.index))
        return self._whole

    def of(self, crop: Crop) -> Embedding:
        return self.whole() if crop == Crop(self.index) else self._encoded(crop)

    @property
    def no_contrast(self) -> bool:
        """Whether the whole slice was encoded, and the window left no contrast in it."""
        return self._whole is not None and self._whole.no_contrast

    def _encoded(self, crop: Crop) -> Embedding:
        (embedding,) = self.scan_encoder.encode_many([crop])
        self.usage += embedding.usage
        return embedding


def segment_slice(
    scan_encoder: ScanEncoder,
    index: int,
    prompts: Sequence[SlicePrompt],
    *,
    zoom: Zoom = "auto",
    previous: Sequence[SliceResult | None] | None = None,
) -> list[SliceResult]:
    """Masks of every prompt on slice `index`, in their order.

    zoom: "off" takes the whole slice once and answers as published, but for what lies apart from a box and its
    surroundings (`ImagePredictor.predict`, logits for "near_box"). "on" answers boxes from the closer crop alone. Both
    may leave the box. "auto" does all that is described above: at most two crops a box, the whole slice shared by all.
    previous: the result each prompt had before its last click, or None. Its logits go back into the network, and its
    crops are taken again, so nothing new is encoded while the clicks stay inside them.
    Raises PromptError for no such slice, no prompt, or an unknown zoom.
    """
    if zoom not in get_args(Zoom):
        raise PromptError(f"There is no zoom {zoom!r}; use {', '.join(get_args(Zoom))}.", parameter="zoom")
    if not prompts:
        raise PromptError("No prompt: give at least one box, click or mask.")
    check_slice(scan_encoder.plane, index)
    embeddings = _Embeddings(scan_encoder, index)
    requests = [
        _choose_crops(embeddings, prompt, zoom, earlier)
        for prompt, earlier in zip(prompts, previous or [None] * len(prompts), strict=True)
    ]
    per_prompt: list[list[_CropPrediction]] = [[] for _ in requests]
    # one crop at a time, all its prompts together: embeddings of many closer crops need not be in memory at once
    for crop in dict.fromkeys(crop for request in requests for crop in request.crops):
        members = [n for n, request in enumerate(requests) if crop in request.crops]
        shared, embedding = [requests[n] for n in members], embeddings.of(crop)
        # called here, and not in a function that would be one more stop on the way from a prompt to the decoder
        found = scan_encoder.image_predictor.predict(
            embedding,
            [_clicks_inside(request.prompt, crop) for request in shared],
            previous=[request.previous_logits(crop) for request in shared],
            logits_for=_logits_for(scan_encoder, shared, zoom),
        )
        embeddings.usage += found.usage
        for n, prediction in zip(members, _restored(found, embedding.no_contrast), strict=True):
            per_prompt[n].append(prediction)
    results = [
        _combine(embeddings, request, predictions, zoom)
        for request, predictions in zip(requests, per_prompt, strict=True)
    ]
    return [replace(results[0], usage=embeddings.usage), *results[1:]]


def bounds(prompt: SlicePrompt, zoom: Zoom, plane: SlicePlane) -> np.ndarray | None:
    """Where the mask of a prompt may lie, bool (h, w): the pixels of its box; None where nothing bounds it."""
    if zoom != "auto" or prompt.box is None:
        return None
    return in_box(box_including(prompt.box, clicked_inside(prompt), plane), plane.shape)


def closer_region(box: Box, plane: SlicePlane) -> Region:
    """The part of a slice that a closer crop of a box takes: square in millimetres, shifted to stay inside."""
    spacing = np.array(plane.spacing_mm[::-1])
    size = np.array(plane.shape[::-1])
    corners = np.array(box).reshape(2, 2)
    side_mm = _CLOSER * ((corners[1] - corners[0]) * spacing).max() + _CLOSER_MARGIN * (size * spacing).max()
    side = np.minimum(side_mm / spacing, size)
    low = np.clip(corners.mean(axis=0) - side / 2, 0, size - side)
    x0, y0 = np.floor(low).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(low + side).astype(int), size).tolist()
    return x0, y0, x1, y1


def mean_logits(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean logits (h, w) of the crops that reach a pixel; -inf where none does."""
    stack = np.stack(maps)
    seen = np.isfinite(stack)
    total = np.where(seen, stack, 0).sum(axis=0)
    return np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), -np.inf).astype(np.float32)


# -- which crops --------------------------------------------------------------------------------------------------


def _choose_crops(embeddings: _Embeddings, given: SlicePrompt, zoom: Zoom, previous: SliceResult | None) -> _Request:
    """The prompt as the network can be shown it, and where."""
    scan_encoder, index = embeddings.scan_encoder, embeddings.index
    plane, prompt, earlier = scan_encoder.plane, given, previous
    if not takes_clicks(scan_encoder.image_predictor.sam.spec):
        if given.points or given.mask is not None:
            last = None if previous is None else tight_box(previous.mask, 1)
            prompt, usage = box_for(scan_encoder.image_predictor, embeddings.whole, given, plane, last)
            embeddings.usage += usage
        # a network that was shown boxes only makes nothing of its earlier logits
        earlier = None
    if zoom != "off":
        if prompt.box is not None:
            prompt = replace(prompt, box=box_including(prompt.box, clicked_inside(given), plane))
        if earlier is not None and any(_clicks_inside(prompt, crop) != prompt for crop in earlier.crops):
            # a click outside the closer crop: another one has to be taken
            earlier = None
    crops = _crops_for(scan_encoder, index, prompt.box, zoom) if earlier is None else earlier.crops
    return _Request(given, prompt, crops, earlier)


def _crops_for(scan_encoder: ScanEncoder, index: int, box: Box | None, zoom: Zoom) -> tuple[Crop, ...]:
    if zoom == "off" or box is None:
        return (Crop(index),)
    plane = scan_encoder.plane
    region = closer_region(box, plane)
    if zoom == "on":
        return (Crop(index, region),)
    window = _window_for(scan_encoder, index, box)
    whole = Crop(index, None, window)
    x0, y0, x1, y1 = region
    spacing, (rows, columns) = plane.spacing_mm, plane.shape
    extent_mm = max(rows * spacing[0], columns * spacing[1])
    shrunk = extent_mm / scan_encoder.image_predictor.sam.spec.preprocess.size / min(spacing)
    magnified = extent_mm / max((y1 - y0) * spacing[0], (x1 - x0) * spacing[1])
    return (whole, Crop(index, region, window)) if min(shrunk, magnified) >= _WORTHWHILE else (whole,)


def _window_for(scan_encoder: ScanEncoder, index: int, box: Box) -> IntensityWindow | None:
    """The scan's wide window when its own hides most of what is in the box; None keeps its own."""
    if scan_encoder.wide_window is None:
        return None
    x0, y0, x1, y1 = pixels_of(box, scan_encoder.plane.shape)
    inside = scan_encoder.pixels(index)[y0:y1, x0:x1]
    hidden = (inside < scan_encoder.window.low) | (inside > scan_encoder.window.high)
    return scan_encoder.wide_window if float(hidden.mean()) > _CLIPPED else None


def _clicks_inside(prompt: SlicePrompt, crop: Crop) -> SlicePrompt:
    """The prompt without clicks that lie outside a closer crop."""
    if crop.region is None or not prompt.points:
        return prompt
    x0, y0, x1, y1 = crop.region
    inside = tuple(
        point for point in prompt.points if x0 - 0.5 <= point[0] < x1 - 0.5 and y0 - 0.5 <= point[1] < y1 - 0.5
    )
    return replace(prompt, points=inside)


# -- what the network says of them --------------------------------------------------------------------------------


def _restored(found: Prediction, no_contrast: bool) -> list[_CropPrediction]:
    """Prompt by prompt, on the slice. found: one mask a prompt, in one crop."""
    restored = found.frame.restore(found.logits[:, 0]).cpu().numpy()
    return [
        _CropPrediction(restored[row], found.logits[row, 0].cpu(), float(found.predicted_iou[row, 0]), no_contrast)
        for row in range(len(restored))
    ]


def _logits_for(scan_encoder: ScanEncoder, requests: Sequence[_Request], zoom: Zoom) -> LogitsFor:
    """Which logits become a mask, or are given back to the network."""
    if takes_clicks(scan_encoder.image_predictor.sam.spec) or any(
        request.given.mask is not None for request in requests
    ):
        return "all"
    if zoom == "auto":
        return "in_box"
    return "all" if any(request.given.points for request in requests) else "near_box"


# -- and what becomes of it ---------------------------------------------------------------------------------------


def _combine(
    embeddings: _Embeddings, request: _Request, predictions: Sequence[_CropPrediction], zoom: Zoom
) -> SliceResult:
    """The mean of the crops, with the priors of the box, the last word of the clicks, and inside its bounds."""
    scan_encoder = embeddings.scan_encoder
    given, box, plane = request.given, request.prompt.box, scan_encoder.plane
    logits = mean_logits([one.logits for one in predictions])
    pixels = scan_encoder.pixels(embeddings.index)
    if zoom == "auto" and box is not None:
        # a network that knows masks was shown it
        rough = None if takes_clicks(scan_encoder.image_predictor.sam.spec) else given.mask
        uses_priors = scan_encoder.image_predictor.sam.spec.use_priors or rough is not None
        weights = PriorWeights() if uses_priors else PriorWeights(box=0.0, pixels=0.0)
        logits = add_box_and_intensity_prior(logits, box, pixels, weights, rough=rough, pitch_mm=plane.spacing_mm)
    if given.points and box is not None and (zoom == "auto" or not request.prompt.points):
        logits = enforce_clicks(logits, given.points, box, pixels, plane)
    if (inside := bounds(given, zoom, plane)) is not None:
        # clicks reach beyond the box, and so may a mask that was drawn
        logits = np.where(inside, logits, np.float32(-np.inf))
    predicted_iou = float(np.mean([one.predicted_iou for one in predictions]))
    low_res_logits = torch.stack([one.low_res_logits for one in predictions])
    no_contrast = embeddings.no_contrast or any(one.no_contrast for one in predictions)
    return SliceResult(logits > 0, predicted_iou, logits, request.crops, low_res_logits, box, no_contrast)
