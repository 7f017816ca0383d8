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
from medsam.inference.priors import PriorWeights, add_box_and_intensity_prior
from medsam.inference.slice_request import CropAnswer, SliceRequest, SliceResult, Zoom
from medsam.models.specs import takes_clicks
from medsam.prompts.prompt import SlicePrompt
from medsam.transforms.frame import in_box


def combine(
    scan_encoder: ScanEncoder, index: int, request: SliceRequest, predictions: Sequence[CropAnswer], zoom: Zoom
) -> SliceResult:
    """The mean of the crops, with the priors of the box, the last word of the clicks, and inside its bounds."""
    given, box, plane = request.given, request.prompt.box, scan_encoder.plane
    logits = mean_logits([one.logits for one in predictions])
    pixels = scan_encoder.pixels(index)
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
    no_contrast = any(one.no_contrast for one in predictions)
    return SliceResult(logits > 0, predicted_iou, logits, request.crops, low_res_logits, box, no_contrast)


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
