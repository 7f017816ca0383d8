"""What one training step computes, and which parts of the network learn from it. torch alone, without Lightning."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import Tensor, nn, stack

from medsam.models.sam import Sam
from medsam.training.batch import Batch
from medsam.training.lora import LoraSettings, add_lora
from medsam.training.losses import LossWeights, mask_loss
from medsam.training.prompt_simulation import PromptSimulation, simulate


@dataclass(frozen=True)
class TrainableParts:
    """Which parts of the network learn. The prompt encoder's random Fourier features never do."""

    image_encoder: bool = True
    prompt_encoder: bool = True
    mask_decoder: bool = True


def choose_parts(sam: Sam, train: TrainableParts, lora: LoraSettings | None, interaction: PromptSimulation) -> None:
    """Freeze what is not to learn, or gets no gradient from such prompts; `lora` is added and the encoder frozen."""
    for name in ("image_encoder", "prompt_encoder", "mask_decoder"):
        part: nn.Module = getattr(sam, name)
        part.requires_grad_(getattr(train, name) and not (lora is not None and name == "image_encoder"))
    if lora is not None:
        add_lora(sam, lora)
    # prompts that are never shown would get no gradient: DDP would wait for it, and weight decay would wear them
    encoder = sam.prompt_encoder
    foreground_and_background, corners = encoder.point_embeddings[:2], encoder.point_embeddings[2:]
    once, kinds = interaction.rounds == 1, set(interaction.kinds)
    if once and "mask" not in kinds:
        encoder.mask_downscaling.requires_grad_(False)
    if once and kinds <= {"box", "mask"}:
        foreground_and_background.requires_grad_(False)
        encoder.not_a_point_embed.requires_grad_(False)
    if not kinds & {"box", "mask"}:
        corners.requires_grad_(False)


def rest_batch_norms(module: nn.Module) -> None:
    """Have the batch norms use the statistics they came with; until the next `train()`."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


def interaction_losses(
    sam: Sam,
    embedding: Tensor,
    batch: Batch,
    interaction: PromptSimulation,
    weights: LossWeights | None = None,
    choose: int = 0,
) -> dict[str, Tensor]:
    """{"loss", "focal", "dice", "iou"} of a batch, averaged over the rounds; only "loss" is weighted.

    embedding: (B, C, h, w), of `batch.image`. choose: as for `simulate`.
    """
    means: dict[str, Tensor] = {}
    count = interaction.rounds_of(choose)
    rounds = simulate(
        functools.partial(sam.decode, embedding),
        batch.targets,
        batch.boxes,
        batch.pixel,
        batch.bounds,
        batch.seeds,
        interaction,
        sam.spec.image_size,
        choose=choose,
    )
    for round_ in rounds:
        groups = round_.mask_groups()
        for logits, predicted_iou in groups:
            found = mask_loss(logits, predicted_iou, batch.targets, batch.valid, weights)
            share = 1 / (len(groups) * count)
            terms = {"loss": found.total, "focal": found.focal, "dice": found.dice, "iou": found.iou}
            means = {name: means.get(name, 0.0) + share * value for name, value in terms.items()}
    # of "box or point" one is not asked in this step: a gradient of zero for what it would have reached
    idle = [weight.sum() for weight in sam.prompt_encoder.parameters() if weight.requires_grad]
    if idle:
        means["loss"] = means["loss"] + 0.0 * stack(idle).sum()
    return means
