"""Overlapping masks -> one label map."""

from __future__ import annotations

import numpy as np


def merge_by_quality(masks: np.ndarray, quality: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Label ids (h, w), 0 outside every mask; a contested pixel goes to the mask with the highest quality.

    masks: bool (P, h, w). quality: predicted IoU (P,); nan counts as lowest. labels: ids (P,), repeats allowed:
    masks of one label are united. Equal quality: the earlier mask wins.
    """
    merged = np.zeros(masks.shape[1:], dtype=np.uint16)
    rank = np.where(np.isnan(quality), -np.inf, quality)
    # paint worst first, so that better masks cover worse ones; reversed, so that a stable sort lets earlier ones win
    for index in np.argsort(rank[::-1], kind="stable"):
        chosen = len(rank) - 1 - int(index)
        merged[masks[chosen]] = labels[chosen]
    return merged
