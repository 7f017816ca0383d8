"""Other answers to the same prompt, for a reader to choose from where the one that stands may not be what was meant.

A network trained with clicks gives three masks of a prompt: a part, the whole, what it belongs to. One that knows boxes
alone has one answer to a box; but the box itself is uncertain, so it is asked for a smaller and a larger one, and for
the published answer from the whole slice. What hardly differs from another is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from medsam.geometry import SlicePlane
from medsam.inference.clicks import with_clicks
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.segment_slice import segment_slice
from medsam.inference.slice_request import Zoom
from medsam.metrics.overlap import iou
from medsam.models.specs import takes_clicks
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box, SlicePrompt

# how many, and the IoU from which two are one
_MOST, _ALIKE = 3, 0.9
# a smaller and a larger box, in sides of the box
_SIDES = (0.8, 1.25)


@dataclass(frozen=True, eq=False)
class Candidate:
    """mask: bool (h, w). predicted_iou: as the network says it."""

    mask: np.ndarray
    predicted_iou: float


def answers(
    scan_encoder: ScanEncoder,
    index: int,
    prompt: SlicePrompt,
    zoom: Zoom,
    box: Box | None,
    progress: ProgressCallback | None = None,
) -> list[Candidate]:
    """What the network may answer otherwise, as it comes. box: the one that it was shown, given or found. progress: see
    `segment_slice`."""
    if progress is not None:
        progress(0, None)
    predictor, plane = scan_encoder.image_predictor, scan_encoder.plane
    if takes_clicks(predictor.sam.spec):
        found = predictor.predict(scan_encoder.encode(index), [with_clicks(prompt, plane)], multimask=True)
        inside = True if prompt.within is None else prompt.within
        return [
            Candidate(mask & inside, float(predicted_iou))
            for mask, predicted_iou in zip(found.masks[0], found.predicted_iou[0], strict=True)
        ]
    if box is None:
        return []
    plain = replace(prompt, mask=None, within=None, lasso=None, ellipse=None, lines=(), standing=False)
    others = [replace(plain, box=_scaled(box, side, plane)) for side in _SIDES]
    results = segment_slice(scan_encoder, index, others, zoom=zoom, at_hand=True, progress=progress)
    whole = [replace(plain, box=box)]
    results += segment_slice(scan_encoder, index, whole, zoom="off", at_hand=True, progress=progress)
    return [Candidate(one.mask, one.predicted_iou) for one in results]


def distinct(found: Iterable[Candidate]) -> list[Candidate]:
    """Those that differ, the best by its predicted IoU first; none where there is only one."""
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda one: -one.predicted_iou):
        if one.mask.any() and all(iou(one.mask, other.mask) < _ALIKE for other in kept):
            kept.append(one)
    return kept[:_MOST] if len(kept) > 1 else []


def _scaled(box: Box, side: float, plane: SlicePlane) -> Box:
    x0, y0, x1, y1 = box
    rows, columns = plane.shape
    right, down = (side - 1) * (x1 - x0) / 2, (side - 1) * (y1 - y0) / 2
    return max(x0 - right, 0.0), max(y0 - down, 0.0), min(x1 + right, columns), min(y1 + down, rows)
