"""What a predicted mask is worth: focal, dice and predicted-quality losses.

Letters: B images, P prompts an image, M masks a prompt, s the side of the logits, V valid prompts of the whole batch.
Everything is computed in float32 whatever the precision of the logits.
Source: Kirillov et al. 2023 (arXiv 2304.02643), section 3 and appendix A: focal : dice = 20 : 1, plus the squared error
of the predicted IoU with weight 1, and only the best of several masks is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LossWeights:
    """Shares of the three losses in the total."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0


@dataclass(frozen=True)
class MaskLoss:
    """Scalars with a graph: `total` is the weighted sum of the three others, which are not weighted."""

    total: Tensor
    focal: Tensor
    dice: Tensor
    iou: Tensor


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean over the pixels of alpha_t (1 - p_t)^gamma (-log p_t); logits, bool targets (..., s, s) -> (...).

    p_t is the probability given to the truth; alpha_t is alpha inside the target and 1 - alpha outside.
    Source: Lin et al. 2017 (arXiv 1708.02002), equation 5.
    """
    # the logit of what is not true: sigmoid is 1 - p_t, softplus is -log p_t, neither overflows
    wrong = torch.where(targets, -logits, logits).float()
    loss = wrong.sigmoid() ** gamma * F.softplus(wrong)
    return (loss * torch.where(targets, alpha, 1 - alpha)).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), p the sigmoid; logits, bool (..., s, s) -> (...).

    Source: Milletari et al. 2016 (arXiv 1606.04797), with sums instead of sums of squares, as SAM's predecessors have
    it. `smooth` is in pixels: it makes a confidently empty answer to an empty target right.
    """
    inside = logits.float().sigmoid()
    shared = torch.where(targets, inside, 0).sum(dim=(-2, -1))
    return 1 - (2 * shared + smooth) / (inside.sum(dim=(-2, -1)) + targets.sum(dim=(-2, -1)) + smooth)


@torch.no_grad()
def true_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of logits > 0 and bool targets, (..., s, s) -> (...), without gradient; 1 if both empty.

    This is what the quality head learns to predict: it must not be a way to move the masks.
    """
    answer = logits > 0
    shared, either = (answer & targets).sum(dim=(-2, -1)), (answer | targets).sum(dim=(-2, -1))
    return torch.where(either == 0, 1.0, shared / either.clamp(min=1))


def mask_loss(
    logits: Tensor, predicted_iou: Tensor, targets: Tensor, valid: Tensor, weights: LossWeights | None = None
) -> MaskLoss:
    """Loss of one answer: of each valid prompt's best mask, averaged within each image, then over the images.

    logits: (B, P, M, s, s). quality: (B, P, M), the predicted IoU. targets: bool (B, P, s, s).
    valid: bool (B, P); the other prompts are padding, and nothing in them is used.
    weights: None for those of the paper.
    The best of M masks has the least weighted focal + dice; the others, and their quality, get no gradient.
    Images without a valid prompt do not count, so equal parts of a batch average to the whole when each image has one.
    Without any valid prompt all four are zero, with gradients of zero.
    Raises ValueError when the shapes do not fit.
    """
    weights = weights or LossWeights()
    masks = logits.shape[2] if logits.ndim == 5 else 0
    batch, sides = tuple(logits.shape[:2]), tuple(logits.shape[3:])
    expected = {"predicted_iou": (*batch, masks), "targets": (*batch, *sides), "valid": batch}
    for (name, shape), tensor in zip(expected.items(), (predicted_iou, targets, valid), strict=True):
        if not masks or tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name}: {tuple(tensor.shape)} does not fit logits (B, P, M, s, s) {tuple(logits.shape)}."
            )

    image, prompt = valid.nonzero(as_tuple=True)
    row = image * batch[1] + prompt
    logits, predicted_iou = logits.flatten(0, 2), predicted_iou.flatten()
    truth = targets.flatten(0, 1)[row]
    with torch.no_grad():
        # one mask of each prompt at a time, and no graph: only the best is computed again to be differentiated
        losses = [
            _shape_loss(logits[row * masks + index], truth, weights) if masks > 1 else row for index in range(masks)
        ]
        best = row * masks + torch.stack(losses).argmin(dim=0)
    # not logits[best]: the gradient of that is a much slower sum
    answer = logits.index_select(0, best)

    focal, dice = focal_loss(answer, truth), dice_loss(answer, truth)
    error = (predicted_iou.index_select(0, best).float() - true_iou(answer, truth)) ** 2
    count = valid.sum(dim=1)
    share = 1 / (count[image] * (count > 0).sum())
    focal, dice, error = ((share * values).sum() for values in (focal, dice, error))
    return MaskLoss(weights.focal * focal + weights.dice * dice + weights.iou * error, focal, dice, error)


def _shape_loss(logits: Tensor, targets: Tensor, weights: LossWeights) -> Tensor:
    return weights.focal * focal_loss(logits, targets) + weights.dice * dice_loss(logits, targets)
