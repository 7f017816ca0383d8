"""Overlapping masks: which to keep, and how they become one label map.

Letters: N or P masks, h and w of the slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medsam.masks import bounding_box, xyxy

if TYPE_CHECKING:
    import torch


def merge_by_predicted_iou(masks: np.ndarray, predicted_iou: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Label ids (h, w), 0 outside every mask; a contested pixel goes to the mask with the highest predicted IoU.

    masks: bool (P, h, w). predicted_iou: the network's guess (P,); nan counts as lowest. labels: ids (P,), repeats
    allowed: masks of one label are united. Equal ones: the earlier mask wins.
    """
    merged = np.zeros(masks.shape[1:], dtype=np.uint16)
    rank = np.where(np.isnan(predicted_iou), -np.inf, predicted_iou)
    # paint worst first, so that better masks cover worse ones; reversed, so that a stable sort lets earlier ones win
    for index in np.argsort(rank[::-1], kind="stable"):
        chosen = len(rank) - 1 - int(index)
        merged[masks[chosen]] = labels[chosen]
    return merged


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression: indices of the boxes that stay, best first.

    boxes: (N, 4) x0, y0, x1, y1. scores: (N,). From the best down, each box removes those that overlap it by an IoU
    above `threshold`. Equal scores: the earlier box first. Boxes without area remove nothing.
    Same answer as torchvision's `nms` on a CPU, single precision included.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[waiting, :2])
        high = np.minimum(boxes[best, 2:], boxes[waiting, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[best] + area[waiting] - common
        iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        # in double precision, where a threshold of 0.1 is not rounded up to the IoU of 1/10
        waiting = waiting[iou.astype(np.float64) <= threshold]
    return np.array(kept, dtype=np.int64)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) int64 around masks (N, h, w): x0, y0, x1, y1, the first and the last column and row *inside*.

    As SAM's automatic masks count them, so a mask one pixel wide has x0 = x1; four zeros for an empty mask.
    """
    boxes = np.zeros((len(masks), 4), dtype=np.int64)
    for box, mask in zip(boxes, masks, strict=True):
        part = bounding_box(mask)
        if part is not None:
            x0, y0, x1, y1 = xyxy(part)
            box[:] = x0, y0, x1 - 1, y1 - 1
    return boxes


def stability_score(logits: torch.Tensor, threshold: float = 0.0, offset: float = 1.0) -> torch.Tensor:
    """How little masks (..., h, w) change when the threshold moves: (...) float32 in [0, 1].

    The IoU of the masks above `threshold + offset` and above `threshold - offset`; nan when both are empty.
    Source: Kirillov et al. 2023, appendix B.
    """
    sure = (logits > threshold + offset).sum(dim=(-2, -1))
    maybe = (logits > threshold - offset).sum(dim=(-2, -1))
    # one lies in the other, so their counts are intersection and union
    return sure.float() / maybe.float()
