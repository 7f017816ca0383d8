"""How sure a model is of a scan that nobody has drawn on: its answers to a fixed grid of prompts on the middle slice.

It takes no reference, no detector and sixteen decodes. What comes out orders scans, and means nothing by itself: the
network's own guess at its IoU, times how stable the mask is, over all prompts.
"""

from __future__ import annotations

import numpy as np

from medsam.inference.automatic import point_grid
from medsam.inference.image_predictor import ScanEncoder
from medsam.models.specs import takes_clicks
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import SlicePrompt

# prompts along a side; a box is as wide as two of their distances
_SIDE = 4


def probe(encoder: ScanEncoder) -> float:
    """In [0, 1]; 0 for a slice without contrast."""
    height, width = encoder.plane.shape
    embedding = encoder.encode(encoder.plane.count // 2)
    if embedding.no_contrast:
        return 0.0
    at = point_grid(_SIDE) * np.array([width, height])
    if takes_clicks(encoder.image_predictor.sam.spec):
        prompts = [SlicePrompt(1, points=((x, y, 1),)) for x, y in at.tolist()]
    else:
        reach = np.array([width, height]) / _SIDE
        low, high = np.maximum(at - reach, 0), np.minimum(at + reach, [width, height])
        prompts = [SlicePrompt(1, (*one, *other)) for one, other in zip(low.tolist(), high.tolist(), strict=True)]
    found = encoder.image_predictor.predict(embedding, prompts)
    stable = stability_score(found.logits[:, 0], 0.0, 1.0).cpu().numpy()
    sure = np.clip(found.predicted_iou[:, 0], 0, 1) * np.nan_to_num(stable)
    return float(sure.mean())
