"""Answers of the device beside those of the processor in float32, and what difference passes.

Differences are the largest of all values, relative to the largest value of the reference. Masks of trained weights are
logits above 0. Random weights have no edge there, only noise: their maps are cut at the reference's median, where half
of the pixels are on either side, and pixels close to it may fall on the other: what passes is less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_check.bench import LITE, VIT_B, Bench, Row, drawn
from medsam.models.sam import Sam
from medsam.training.batch import Batch

# precision -> largest relative difference of embeddings and logits, least Dice of masks: trained, random weights
TOLERANCES: dict[str, tuple[float, float, float]] = {
    "float32": (1e-3, 0.999, 0.995),
    "tf32": (2e-2, 0.99, 0.96),
    "bfloat16": (1e-1, 0.97, 0.90),
}


@dataclass(frozen=True)
class Reference:
    """What the processor answers in float32: to boxes, with all four masks, the single one and the three.

    trained: whether the weights are more than random.
    """

    batch: Batch
    embedding: Tensor
    logits: Tensor
    predicted_iou: Tensor
    trained: bool

    @classmethod
    @torch.inference_mode()
    def of(cls, sam: Sam, trained: bool) -> Reference:
        batch = drawn(sam.spec, images=2, prompts=4)
        embedding = sam.encode_image(batch.image)
        return cls(batch, embedding, *sam.decode(embedding, boxes=batch.boxes, multimask=None), trained)


def rows(bench: Bench) -> Iterator[Row]:
    for name in (LITE, VIT_B):
        reference = Reference.of(bench.sam(name), bench.is_real(name))
        device = bench.sam(name).to(bench.device)
        for precision in bench.precisions():
            yield {"model": bench.spec(name).name, "precision": precision} | compared(
                bench, reference, device, precision
            )
        del device
        bench.forget()


@torch.inference_mode()
def compared(bench: Bench, reference: Reference, device: Sam, precision: str) -> Row:
    """One model in one precision. Decoding starts from the reference's embedding; masks are made from the device's own,
    and decoded in float32 as `medsam` decodes them where only the encoder is in bfloat16."""
    there = reference.batch.to(bench.device)
    with bench.computing_in(precision):
        own = device.encode_image(there.image)
        own_logits, own_iou = device.decode(reference.embedding.to(bench.device), boxes=there.boxes, multimask=None)
    with bench.computing_in("float32" if precision == "bfloat16" else precision):
        answer, _ = device.decode(own.float(), boxes=there.boxes, multimask=None)
    most, dice_trained, dice_random = TOLERANCES[precision]
    least = dice_trained if reference.trained else dice_random
    dice, iou = agreement(reference.logits, answer.float().cpu(), reference.trained)
    found = {
        "encode": difference(reference.embedding, own),
        "decode": difference(reference.logits, own_logits),
        "predicted_iou": difference(reference.predicted_iou, own_iou),
    }
    return {
        **found,
        "mask_dice": dice,
        "mask_iou": iou,
        "passes_to": most,
        "passes_from_dice": least,
        # so that what is no number does not pass
        "passed": all(value <= most for value in found.values()) and dice >= least,
    }


def difference(reference: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value of the reference."""
    reference, other = reference.float().cpu(), other.detach().float().cpu()
    return float((reference - other).abs().max() / reference.abs().max())


def agreement(reference: Tensor, other: Tensor, trained: bool) -> tuple[float, float]:
    """Least Dice and IoU of the masks of two maps of logits (B, P, M, s, s); 1 where both are empty."""
    edge = 0.0 if trained else reference.flatten(3).median(dim=3).values[..., None, None]
    one, two = reference > edge, other > edge
    shared, total = (one & two).sum(dim=(-2, -1)), one.sum(dim=(-2, -1)) + two.sum(dim=(-2, -1))
    dice = torch.where(total == 0, 1.0, 2 * shared / total.clamp(min=1))
    iou = torch.where(total == 0, 1.0, shared / (total - shared).clamp(min=1))
    return round(float(dice.min()), 6), round(float(iou.min()), 6)
