"""How the network's answers in several crops, and what else is known, become one mask of a prompt.

Letters: P prompts, C crops, h and w of the stored slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medsam.geometry import SlicePlane
from medsam.inference.clicks import box_including, clicked_inside, enforce_clicks
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.priors import add_box_and_intensity_prior
from medsam.inference.slice_request import CropAnswer, SliceRequest, SliceResult, Zoom
from medsam.models.specs import takes_clicks
from medsam.prompts.prompt import SlicePrompt
from medsam.transforms.frame import in_box


def combine(
    scan_encoder: ScanEncoder, index: int, request: SliceRequest, predictions: Sequence[CropAnswer], zoom: Zoom
) -> SliceResult:
    """The base answer to box or mask, corrected by clicks, inside its bounds: in that order."""
    logits = base_logits(scan_encoder, index, request, predictions, zoom)
    logits = corrected(logits, scan_encoder, index, request, zoom)
    if (inside := bounds(request.given, zoom, scan_encoder.plane)) is not None:
        # clicks reach beyond the box, and so may a mask that was drawn
        logits = np.where(inside, logits, np.float32(-np.inf))
    predicted_iou = float(np.mean([one.predicted_iou for one in predictions]))
    low_res_logits = torch.stack([one.low_res_logits for one in predictions])
    no_contrast = any(one.no_contrast for one in predictions)
    box = request.prompt.box
    return SliceResult(logits > 0, predicted_iou, logits, request.crops, low_res_logits, box, no_contrast)


def base_logits(
    scan_encoder: ScanEncoder, index: int, request: SliceRequest, predictions: Sequence[CropAnswer], zoom: Zoom
) -> np.ndarray:
    """Logits (h, w) of a prompt without its clicks: the mean of the looks, with the priors of the box."""
    image_predictor, box = scan_encoder.image_predictor, request.prompt.box
    logits = mean_logits([one.logits for one in predictions])
    if zoom != "auto" or box is None:
        return logits
    # a network that knows masks was shown it
    rough = None if takes_clicks(image_predictor.sam.spec) else request.given.mask
    if rough is None and not image_predictor.sam.spec.use_priors:
        return np.where(in_box(box, logits.shape), logits, np.float32(-np.inf))
    pixels, pitch_mm = scan_encoder.pixels(index), scan_encoder.plane.spacing_mm
    return add_box_and_intensity_prior(logits, box, pixels, rough=rough, pitch_mm=pitch_mm)


def corrected(
    logits: np.ndarray, scan_encoder: ScanEncoder, index: int, request: SliceRequest, zoom: Zoom
) -> np.ndarray:
    """The base answer's logits (h, w) with the last word of the clicks."""
    points, box = request.given.points, request.prompt.box
    if points and box is not None and (zoom == "auto" or not request.prompt.points):
        return enforce_clicks(logits, points, box, scan_encoder.pixels(index), scan_encoder.plane)
    return logits


def bounds(prompt: SlicePrompt, zoom: Zoom, plane: SlicePlane) -> np.ndarray | None:
    """Where the mask of a prompt may lie, bool (h, w): the pixels of its box; None where nothing bounds it."""
    if zoom != "auto" or prompt.box is None:
        return None
    return in_box(box_including(prompt.box, clicked_inside(prompt), plane), plane.shape)


def mean_logits(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Mean logits (h, w) of the crops that reach a pixel; -inf where none does."""
    stack = np.stack(maps)
    seen = np.isfinite(stack)
    total = np.where(seen, stack, 0).sum(axis=0)
    return np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), -np.inf).astype(np.float32)
