"""A fine-tuning step of SAM ViT-B: ours, a plain one beside it, and ours in cheaper ways.

The batch is two images with four prompts each, three rounds: a box, then twice a click on what is wrong together with
the mask so far; with one round, the box alone. With --quick one image with two prompts.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpu_check.bench import VIT_B, Bench, Row, drawn
from medsam.training.lora import LoraSettings
from medsam.training.optimise import OptimiserSettings, build_optimiser
from medsam.training.prompt_simulation import PromptSimulation
from medsam.training.step import TrainableParts, choose_parts, interaction_losses, rest_batch_norms

ROUNDS = 3
# what the plain step needs in float32, with room
NEEDS_GIB = 30.0


def batch_size(bench: Bench) -> tuple[int, int]:
    """Images, and prompts of each."""
    return (1, 2) if bench.quick else (2, 4)


class OurStep:
    """What `medsam fit` does in a step, without Lightning: every part learns, gradients are clipped to 1, AdamW."""

    def __init__(
        self, bench: Bench, rounds: int, precision: str = "float32", lora: bool = False, checkpointing: bool = False
    ) -> None:
        self.bench, self.precision = bench, precision
        self.interaction = PromptSimulation(rounds=rounds)
        self.sam = bench.sam(VIT_B).train()
        choose_parts(self.sam, TrainableParts(), LoraSettings() if lora else None, self.interaction)
        rest_batch_norms(self.sam)
        self.sam.set_gradient_checkpointing(checkpointing)
        self.sam.to(bench.device)
        self.optimiser = build_optimiser(self.sam, OptimiserSettings())
        self.batch = drawn(self.sam.spec, *batch_size(bench)).to(bench.device)

    def trainable(self) -> int:
        """How many numbers learn."""
        return sum(weight.numel() for weight in self.sam.parameters() if weight.requires_grad)

    def __call__(self) -> float:
        self.optimiser.zero_grad(set_to_none=True)
        with self.bench.computing_in(self.precision):
            embedding = self.sam.encode_image(self.batch.image)
            loss = interaction_losses(self.sam, embedding, self.batch, self.interaction)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_([weight for weight in self.sam.parameters() if weight.requires_grad], 1.0)
        self.optimiser.step()
        return _finite(loss)


class PlainLoop:
    """The yardstick: the same step as a plain fine-tuning script takes it.

    The network is ours on both sides, so that the loop alone is compared. float32, no TF32, no gradient checkpointing;
    torch's AdamW on all parameters, one after the other (neither fused nor foreach); gradients clipped to 1. Each round
    calls the whole network with images and prompts: the image encoder runs again, as it does in scripts whose
    `forward(image, prompts)` holds it (MedSAM's and LiteMedSAM's, which have one round), and the round's loss is
    back-propagated at once. Scripts that keep the embedding between rounds do better: the comparison of one round,
    where the encoder runs once on both sides, says what is left.
    Loss: 20 focal + dice of the single mask and of the best of the three for a box, of the single mask for clicks, and
    the squared error of the predicted IoU; the same numbers as ours, written out. Clicks: a random pixel that is wrong.
    """

    def __init__(self, bench: Bench, rounds: int) -> None:
        self.bench, self.rounds = bench, rounds
        self.sam = bench.sam(VIT_B).train().to(bench.device)
        self.optimiser = torch.optim.AdamW(
            self.sam.parameters(), lr=1e-4, weight_decay=0.01, foreach=False, fused=False
        )
        self.batch = drawn(self.sam.spec, *batch_size(bench)).to(bench.device)

    def __call__(self) -> float:
        with self.bench.computing_in("float32"):
            return self._step()

    def _step(self) -> float:
        self.optimiser.zero_grad()
        boxes, targets = self.batch.boxes, self.batch.targets
        points = labels = mask = None
        total = 0.0
        for number in range(self.rounds):
            embedding = self.sam.encode_image(self.batch.image)
            logits, iou = self.sam.decode(
                embedding,
                boxes=boxes,
                points=points,
                point_labels=labels,
                masks=mask,
                multimask=None if number == 0 else False,
            )
            loss = plain_loss(logits[:, :, :1], iou[:, :, :1], targets)
            if number == 0:
                loss = (loss + plain_loss(logits[:, :, 1:], iou[:, :, 1:], targets)) / 2
            loss = loss / self.rounds
            loss.backward()
            total += _finite(loss)
            mask = logits[:, :, 0].detach()
            xy, label = self._clicks(mask, targets)
            points = xy if points is None else torch.cat([points, xy], dim=2)
            labels = label if labels is None else torch.cat([labels, label], dim=2)
        nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        self.optimiser.step()
        return total

    def _clicks(self, mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """For each prompt a pixel that is wrong: (B, P, 1, 2), and whether it belongs to the object, (B, P, 1)."""
        scale = self.sam.spec.image_size / targets.shape[-1]
        points = torch.zeros(*targets.shape[:2], 1, 2, device=mask.device)
        labels = torch.full((*targets.shape[:2], 1), -1, device=mask.device)
        for image in range(targets.shape[0]):
            for prompt in range(targets.shape[1]):
                target = targets[image, prompt]
                wrong = ((mask[image, prompt] > 0) != target).nonzero()
                if len(wrong):
                    y, x = wrong[torch.randint(len(wrong), ())]
                    points[image, prompt, 0] = (torch.stack([x, y]) + 0.5) * scale - 0.5
                    labels[image, prompt, 0] = target[y, x].long()
        return points, labels


def plain_loss(logits: Tensor, iou: Tensor, targets: Tensor) -> Tensor:
    """Of the best of M masks (B, P, M, s, s), averaged over prompts; iou (B, P, M), bool targets (B, P, s, s)."""
    truth = targets[:, :, None].expand_as(logits).float()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    of_truth = probability * truth + (1 - probability) * (1 - truth)
    alpha = 0.25 * truth + 0.75 * (1 - truth)
    focal = (alpha * (1 - of_truth) ** 2 * entropy).mean(dim=(-2, -1))
    shared = (probability * truth).sum(dim=(-2, -1))
    dice = 1 - (2 * shared + 1) / (probability.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1)) + 1)
    answer, inside = logits > 0, truth > 0
    either = (answer | inside).sum(dim=(-2, -1))
    true_iou = torch.where(either == 0, 1.0, (answer & inside).sum(dim=(-2, -1)) / either.clamp(min=1))
    shape = 20 * focal + dice
    best = shape.argmin(dim=2, keepdim=True)
    return (shape.gather(2, best) + (iou.gather(2, best) - true_iou.gather(2, best)) ** 2).mean()


def beside_plain(bench: Bench) -> Iterator[Row]:
    """Ours and the plain loop in turns, both in float32; memory of each alone."""
    bench.need_gib(NEEDS_GIB)
    images, prompts = batch_size(bench)
    for rounds in (ROUNDS, 1):
        memory = {
            "peak_mib_plain": bench.peak_mib(lambda rounds=rounds: PlainLoop(bench, rounds)),  # type: ignore[misc]
            "peak_mib_ours": bench.peak_mib(lambda rounds=rounds: OurStep(bench, rounds)),  # type: ignore[misc]
        }
        plain, ours = PlainLoop(bench, rounds), OurStep(bench, rounds)
        # two steps to warm up: the optimiser's state is made in the first
        for _ in range(0 if bench.quick else 2):
            plain()
            ours()
        turns = bench.in_turns(plain, ours, pairs=1 if bench.quick else 5)
        yield {
            "model": ours.sam.spec.name,
            "images": images,
            "prompts": prompts,
            "rounds": rounds,
            "precision": "float32",
            "seconds_plain": turns.pop("seconds_first"),
            "seconds_ours": turns.pop("seconds_second"),
            **turns,
            **memory,
        }
        del plain, ours
        bench.forget()


def variants(bench: Bench) -> Iterator[Row]:
    """Our step in other precisions, with LoRA, with gradient checkpointing."""
    bench.need_gib(NEEDS_GIB)
    last = bench.precisions()[-1]
    chosen = [] if bench.quick else [(precision, False, False) for precision in bench.precisions()]
    chosen += [(last, False, True), (last, True, False)] + ([] if bench.quick else [(last, True, True)])
    for precision, lora, checkpointing in chosen:

        def build(precision: str = precision, lora: bool = lora, checkpointing: bool = checkpointing) -> OurStep:
            return OurStep(bench, ROUNDS, precision, lora, checkpointing)

        peak = bench.peak_mib(build)
        step = build()
        yield {
            "model": step.sam.spec.name,
            "precision": precision,
            "lora": lora,
            "checkpointing": checkpointing,
            "trainable": step.trainable(),
            "peak_mib": peak,
            **bench.repeated(step),
        }
        del step
        bench.forget()


def _finite(loss: Tensor) -> float:
    value = loss.item()
    if value != value or abs(value) == float("inf"):
        raise RuntimeError(f"the loss is {value}")
    return value
