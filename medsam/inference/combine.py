"""How the network's answers in several crops, and what else is known, become one mask of a prompt.

Letters: P prompts, C crops, h and w of the stored slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from medsam.geometry import SlicePlane
from medsam.inference.clicks import box_including, clicked_inside
from medsam.inference.corrections import Fold, corrected_logits, folded, marks_of
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.priors import PriorWeights, add_box_and_intensity_prior
from medsam.inference.signs import signs
from medsam.inference.slice_request import CropAnswer, SliceRequest, SliceResult, Zoom
from medsam.inference.trust import TrustModel, shipped
from medsam.models.specs import takes_clicks
from medsam.postprocess.clean import Cleanup, pieces_holding
from medsam.prompts.prompt import SlicePrompt, pixel_at
from medsam.prompts.strokes import spots
from medsam.transforms.frame import in_box

# A slice of which a pixel is shown by so many of the network's is a coarse picture.
_COARSE = 1.5


def combine(
    scan_encoder: ScanEncoder,
    index: int,
    request: SliceRequest,
    predictions: Sequence[CropAnswer],
    zoom: Zoom,
    trust: bool = False,
) -> SliceResult:
    """The base answer to box or mask, corrected by clicks and strokes, inside its bounds: in that order.

    trust: see `segment_slice`.
    """
    logits = base_logits(scan_encoder, index, request, predictions, zoom)
    inside = bounds(request.given, zoom, scan_encoder.plane)
    logits, fold = corrected(logits, scan_encoder, index, request, inside, zoom)
    if inside is not None:
        logits = np.where(inside | _asked_beyond(logits > 0, inside, request.given), logits, np.float32(-np.inf))
    predicted_iou = float(np.mean([one.predicted_iou for one in predictions]))
    low_res_logits = torch.stack([one.low_res_logits for one in predictions])
    no_contrast = any(one.no_contrast for one in predictions)
    box = request.prompt.box
    found = SliceResult(logits > 0, predicted_iou, logits, request.crops, low_res_logits, box, no_contrast, fold=fold)
    # it was learnt of whole answers
    if not trust or zoom != "auto" or not request.complete or not _is_box_alone(request.given):
        return found
    seen, model = _signs_of(scan_encoder, index, found, predictions), trust_of(scan_encoder)
    kind = predictions[0].pooled
    expected = None if model is None or seen is None or no_contrast else model.expected(seen, kind)
    return replace(found, signs=seen, expected_dice=expected)


def trust_of(scan_encoder: ScanEncoder) -> TrustModel | None:
    """What was learnt of answers of this very network."""
    image_predictor = scan_encoder.image_predictor
    return image_predictor.trust or shipped().get(image_predictor.weights)


def _is_box_alone(prompt: SlicePrompt) -> bool:
    """Whether nothing is said of the object but its box."""
    more = prompt.mask is not None or prompt.within is not None or prompt.marks or prompt.lines
    return prompt.box is not None and not more


def _signs_of(
    scan_encoder: ScanEncoder, index: int, found: SliceResult, predictions: Sequence[CropAnswer]
) -> np.ndarray | None:
    if found.box is None:
        return None
    return signs(
        found.logits,
        [one.logits for one in predictions],
        [one.predicted_iou for one in predictions],
        found.box,
        scan_encoder.pixels(index),
        found.crops[0].window or scan_encoder.window,
        scan_encoder.plane,
        scan_encoder.image_predictor.sam.spec.preprocess.size,
        scan_encoder.scan.geometry.calibrated,
    )


def base_logits(
    scan_encoder: ScanEncoder, index: int, request: SliceRequest, predictions: Sequence[CropAnswer], zoom: Zoom
) -> np.ndarray:
    """Logits (h, w) before any correction: the mean of the looks, with the priors of the box."""
    image_predictor, box = scan_encoder.image_predictor, request.prompt.box
    logits = mean_logits([one.logits for one in predictions])
    if zoom != "auto" or box is None:
        return logits
    # a network that knows masks was shown it
    rough = None if takes_clicks(image_predictor.sam.spec) else request.given.mask
    if rough is None and not image_predictor.sam.spec.use_priors:
        return np.where(in_box(box, logits.shape), logits, np.float32(-np.inf))
    plane, given = scan_encoder.plane, request.given
    # pixels of the network that show one of the slice
    shown_by = image_predictor.sam.spec.preprocess.size * min(plane.spacing_mm) / plane.longest_mm
    weights = PriorWeights() if shown_by >= _COARSE else PriorWeights(blind=0.0)
    return add_box_and_intensity_prior(
        logits,
        box,
        scan_encoder.pixels(index),
        weights,
        rough=rough,
        within=given.within,
        lines=given.lines,
        pitch_mm=plane.spacing_mm,
    )


def corrected(
    logits: np.ndarray,
    scan_encoder: ScanEncoder,
    index: int,
    request: SliceRequest,
    inside: np.ndarray | None,
    zoom: Zoom,
) -> tuple[np.ndarray, Fold | None]:
    """The base answer's logits (h, w), or a mask that stands, with the last word of the clicks and strokes.

    inside: see `bounds`. And how that came about, when there was anything to correct.
    """
    given, plane = request.given, scan_encoder.plane
    stands = given.mask if given.standing else None
    marks = marks_of(given, plane.shape, plane.spacing_mm)
    published = zoom != "auto" and takes_clicks(scan_encoder.image_predictor.sam.spec)
    if stands is None and (not marks or published):
        return logits, None
    window = request.crops[0].window or scan_encoder.window
    pixels = np.clip(scan_encoder.pixels(index), window.low, window.high)
    base = logits > 0 if stands is None else stands
    if inside is not None:
        base = base & inside
    fold = folded(Fold(base, logits, inside, tuple(marks), base), pixels, plane.spacing_mm, request.fold)
    return corrected_logits(logits, fold.mask, marks), fold


def bounds(prompt: SlicePrompt, zoom: Zoom, plane: SlicePlane) -> np.ndarray | None:
    """Where the mask of a prompt may lie, bool (h, w): in its box, its lasso; None where nothing bounds it."""
    inside = prompt.within
    if zoom == "auto" and prompt.box is not None:
        box = in_box(box_including(prompt.box, clicked_inside(prompt, plane), plane), plane.shape)
        inside = box if inside is None else inside & box
    return inside


def cleaned(
    mask: np.ndarray, prompt: SlicePrompt, inside: np.ndarray | None, scan_encoder: ScanEncoder, cleanup: Cleanup
) -> np.ndarray:
    """The mask (h, w) of a prompt as it is saved. inside: see `bounds`; what lies beyond already may stay."""
    return cleanup(
        mask,
        scan_encoder.plane.spacing_mm,
        calibrated=scan_encoder.scan.geometry.calibrated,
        points=spots(prompt.marks, mask.shape),
        box=prompt.box,
        within=None if inside is None else inside | mask,
    )


def _asked_beyond(mask: np.ndarray, inside: np.ndarray, prompt: SlicePrompt) -> np.ndarray:
    """The pieces of a mask (h, w) beyond a lasso that something inside was put into: it was drawn too small."""
    if prompt.within is None or not prompt.corrected:
        return np.zeros_like(mask)
    asked = np.zeros_like(mask)
    for x, y, side in spots(prompt.marks, mask.shape):
        asked[pixel_at((x, y), mask.shape)] |= bool(side)
    return pieces_holding(mask & ~inside, asked)


def mean_logits(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean logits (h, w) of the crops that reach a pixel; -inf where none does."""
    stack = np.stack(maps)
    seen = np.isfinite(stack)
    total = np.where(seen, stack, 0).sum(axis=0)
    return np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), -np.inf).astype(np.float32)
