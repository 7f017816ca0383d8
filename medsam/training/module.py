"""Fine-tuning any of our models, for Lightning.

Letters: B images, P prompts an image, V boxes a prompt in validation, s side of the logits, h and w of a stored slice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from medsam._version import __version__
from medsam.errors import CheckpointError, InputError, MedSAMError
from medsam.inference.engines.base import EngineName, Precision
from medsam.inference.image_predictor import ImagePredictor
from medsam.models.build import load_model
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec
from medsam.models.weights_file import CARD_KEY, weights_digest
from medsam.training.batch import Batch
from medsam.training.datamodule import SliceDataModule
from medsam.training.frozen import frozen_encoder
from medsam.training.lora import LoraSettings
from medsam.training.losses import LossWeights
from medsam.training.optimise import OptimiserSettings, build_optimiser, schedule
from medsam.training.prompt_simulation import PromptSimulation
from medsam.training.samples import ValidationSample
from medsam.training.score import MASK_THRESHOLDS, VolumeDice, best_threshold
from medsam.training.step import TrainableParts, choose_parts, interaction_losses, rest_batch_norms


class TrainingDiverged(MedSAMError):
    """A loss that is no finite number."""


class SamFineTuning(LightningModule):
    """Trains a `Sam` on prompts simulated from reference masks.

    model: a known name or a checkpoint, as for `medsam segment`. train: which parts learn. lora: learn the image
        encoder's attention as low-rank changes instead of whole; the rest of the encoder is then frozen.
    interaction: what is shown. loss: shares of focal, dice and predicted quality. optimiser: rates and schedule.
    embeddings: folder for the embeddings of a frozen encoder: each slice is encoded once in its life. Needs data
        without augmentation. Without a folder they are kept in memory, up to 2 GiB.
    gradient_checkpointing: less memory for more time. compile: torch.compile on the encoder and decoder.
    batch_norm: whether TinyViT's running statistics follow the batches. Off: batches are small, and every process of
        a distributed run would have its own.
    engine: who encodes for a frozen encoder; openvino takes a third of the time on a CPU (docs/speed.md).
    beside: what is trained stands beside the prompt encoder and decoder it started from, as their `Sam.proposer`: they
        go on answering boxes, masks and corrections, and clicks and strokes alone go through both. For models that
        know boxes alone, with a frozen encoder and no box in `interaction`.
    licence: of the result, named in its card; default: the licence of the weights it starts from.
    Raises CheckpointError as `load_model` does, InputError for settings that contradict each other.
    """

    def __init__(
        self,
        model: str = "litemedsam",
        train: TrainableParts = TrainableParts(),  # noqa: B008
        lora: LoraSettings | None = None,
        interaction: PromptSimulation = PromptSimulation(),  # noqa: B008
        loss: LossWeights = LossWeights(),  # noqa: B008
        optimiser: OptimiserSettings = OptimiserSettings(),  # noqa: B008
        embeddings: str | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,  # noqa: A002 - the option's name in torch
        batch_norm: bool = False,
        beside: bool = False,
        licence: str | None = None,
        engine: EngineName = "torch",
    ) -> None:
        super().__init__()
        self.lora, self.interaction = lora, interaction
        self.loss_weights, self.optimiser_settings = loss, optimiser
        self.embeddings, self.batch_norm, self.engine = embeddings, batch_norm, engine
        self.sam, self.source, self.beside = load_model(model), model, beside
        started_from = self.sam.spec
        self.started_from, self.started_from_weights = _named(model, started_from), weights_digest(self.sam)
        kinds = {_SHOWN.get(kind, kind) for kind in interaction.kinds}
        # a box is easier, and who is shown none need not know it
        self.asks_clicks = kinds == {"points"}
        prompts = _known_after(started_from, kinds, beside)
        loose = interaction.first != "point" and max(interaction.outward_px, interaction.box_noise) > 0
        use_priors = started_from.use_priors and not loose
        self.sam.spec = replace(started_from, prompts=prompts, use_priors=use_priors, asset=None, clicks=None, note="")
        self.licence = licence or started_from.licence or "not stated"
        choose_parts(self.sam, train, lora, interaction)
        self.sam.set_gradient_checkpointing(gradient_checkpointing)
        if compile:
            self.sam.image_encoder.compile()
            self.sam.mask_decoder.compile()
        self.encoder_frozen = not any(weight.requires_grad for weight in self.sam.image_encoder.parameters())
        if embeddings is not None and not self.encoder_frozen:
            raise InputError(
                "model.embeddings keeps the answers of a frozen image encoder, but this one is trained. Set "
                "model.train.image_encoder to false, or leave model.embeddings out."
            )
        if beside:
            _check_frozen(self.encoder_frozen)
        self._image_predictor: ImagePredictor | None = None
        # scores before the first step; checkpoints keep them as "untouched"
        self.baseline_scores: dict[str, float] = {}
        # the step after which this process last scored the validation cases
        self.scored_at: int | None = None
        # mask threshold -> scores of an epoch of validation
        self._volume_dice: dict[float, VolumeDice] = {}
        self.train()  # weights come ready to answer, and Lightning leaves modes as it finds them

    @property
    def spec(self) -> ModelSpec:
        """What the model is now, and can be asked."""
        return self.sam.spec

    # -- training -----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        precision = str(self.trainer.precision)
        if "true" in precision and precision != "32-true":
            raise InputError(
                f"trainer.precision {precision} would round the positions of prompts and the small steps of AdamW. Use "
                "bf16-mixed, 16-mixed or 32-true."
            )

    def on_fit_start(self) -> None:
        if self.embeddings is not None and self._data.changes:
            raise InputError(
                "model.embeddings keeps the answer to each slice, but data.augment changes slices every time. Set "
                "data.variants, so that a slice has a few changed copies, or data.augment to null, or leave "
                "model.embeddings out."
            )

    def train(self, mode: bool = True) -> SamFineTuning:
        super().train(mode)
        # embeddings of a frozen encoder are kept: they must not depend on the batch they were made in
        if not self.batch_norm or self.encoder_frozen:
            rest_batch_norms(self)
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms = self.losses(batch)
        total = terms["loss"]
        if not total.isfinite():
            raise TrainingDiverged(
                f"The loss is {total.item()} at step {self.global_step}, on {'; '.join(batch.names)}. Lower "
                "model.optimiser.lr, set trainer.gradient_clip_val, or train with trainer.precision 32-true; if it is "
                "always the same case, look at its values with medsam data check."
            )
        size = len(batch.names)
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), batch_size=size, prog_bar=name == "loss")
        return total

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """{"loss", "focal", "dice", "iou"} of a batch, averaged over the rounds; only "loss" is weighted."""
        return interaction_losses(
            self.sam, self.features(batch.image), batch, self.interaction, self.loss_weights, choose=self._steps_taken
        )

    @property
    def _steps_taken(self) -> int:
        """Batches so far, the same in every process and after resuming."""
        return 0 if self._trainer is None else self.trainer.fit_loop.epoch_loop.total_batch_idx + 1

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> embeddings (B, C, h', w'); of a frozen encoder from the cache where they are there."""
        if not self.encoder_frozen:
            return self.sam.encode_image(images)
        if self._image_predictor is None:
            # slices that are changed every time are not met again
            kept = self.embeddings is None and (self._trainer is None or not self._data.changes)
            lower = "bf16" in str(self.trainer.precision if self._trainer is not None else "")
            precision: Precision = "bfloat16" if lower and self.engine == "torch" else "auto"
            self._image_predictor = frozen_encoder(
                self.sam, self.device, self.embeddings, kept=kept, precision=precision, engine=self.engine
            )
            self.train(self.training)  # a network that answers is in evaluation mode
        self._image_predictor.device = self.device
        return torch.cat(self._image_predictor.encode(list(images)))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimiser = build_optimiser(self.sam, self.optimiser_settings)
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise InputError("The schedule needs an end: set trainer.max_epochs or trainer.max_steps.")
        factor = schedule(self.optimiser_settings, int(steps))
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, factor), "interval": "step"},
        }

    # -- validation ---------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._reset_metric("val")

    def on_test_epoch_start(self) -> None:
        self._reset_metric("test")

    def validation_step(self, sample: ValidationSample, batch_idx: int) -> Tensor:
        return self._score(sample)

    def test_step(self, sample: ValidationSample, batch_idx: int) -> Tensor:
        return self._score(sample)

    def on_validation_epoch_end(self) -> None:
        self._log_metric("val")

    def on_test_epoch_end(self) -> None:
        self._log_metric("test")

    def predict_masks(self, sample: ValidationSample) -> Tensor:
        """The single mask of every box, bool (V, P, h, w) on the stored slice.

        Of a model that was shown no box the mask of a click in the middle, by predicted IoU the best of three.
        """
        return self._predict(sample) > self.spec.mask_threshold

    def _predict(self, sample: ValidationSample) -> Tensor:
        """Logits (V, P, h, w) of the same masks."""
        if self.asks_clicks:
            clicks = sample.clicks[None, :, None]
            labels = torch.ones(clicks.shape[:3], dtype=torch.long, device=clicks.device)
            three, iou = self.sam.decode(
                self.features(sample.image), points=clicks, point_labels=labels, multimask=True
            )
            best = iou[0].argmax(dim=1)[:, None, None, None]
            logits = torch.take_along_dim(three[0], best, dim=1)[:, 0]
            return sample.frame.restore(logits.float()).expand(len(sample.boxes), -1, -1, -1)
        boxes = sample.boxes.flatten(0, 1)
        logits, _ = self.sam.decode(self.features(sample.image), boxes=boxes[None])
        return sample.frame.restore(logits[0, :, 0].float()).unflatten(0, sample.boxes.shape[:2])

    def _reset_metric(self, split: Literal["val", "test"]) -> None:
        data = self._data
        # what the untouched model, or a finished one, is worth is asked with its own threshold; a decoder beside
        # another one proposes boxes, and its masks are no answers
        chooses = split == "val" and self.trainer.global_step > 0 and not self.beside
        self._volume_dice = {
            threshold: VolumeDice(len(data.val_jitter_px), len(data.cases(split)), len(data.structures)).to(self.device)
            for threshold in (MASK_THRESHOLDS if chooses else (self.spec.mask_threshold,))
        }

    def _score(self, sample: ValidationSample) -> Tensor:
        """The masks, once they are counted: callbacks that show them need not predict again."""
        if not self._volume_dice:
            raise RuntimeError("the metric is made at the start of an epoch")
        logits = self._predict(sample)
        for threshold, dice in self._volume_dice.items():
            dice.update(logits > threshold, sample.masks, sample.case, sample.structures)
        return logits > self.spec.mask_threshold

    def _log_metric(self, split: Literal["val", "test"]) -> None:
        if not self._volume_dice:
            return
        data = self._data
        found = {threshold: dice.compute() for threshold, dice in self._volume_dice.items()}
        threshold = best_threshold({one: float(table.nanmean()) for one, table in found.items()})
        self.sam.spec = replace(self.spec, mask_threshold=threshold)
        by_structure = found[threshold]  # (jitter, structure)
        scores = {f"{split}/dice": float(by_structure.nanmean()), f"{split}/mask_threshold": threshold}
        for jitter, row in zip(data.val_jitter_px, by_structure, strict=True):
            suffix = f"_jitter{jitter}" if len(data.val_jitter_px) > 1 else ""
            if suffix:
                scores[f"{split}/dice{suffix}"] = float(row.nanmean())
            # a structure that none of these cases has is left out: nan is no JSON, and cannot be compared
            scores |= {
                f"{split}/dice{suffix}/{name}": float(dice)
                for name, dice in zip(data.structures, row, strict=True)
                if not dice.isnan()
            }
        for name, value in scores.items():
            # every process has the same sums
            self.log(name, value, prog_bar=name == f"{split}/dice", sync_dist=False, batch_size=1)
        self._volume_dice = {}
        if split == "val":
            self.scored_at = self.trainer.global_step

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD_KEY] = {**self.spec.to_dict(), "training": self.card(), "untouched": dict(self.baseline_scores)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        card = checkpoint.get(CARD_KEY)
        if not isinstance(card, Mapping) or "loops" not in checkpoint:
            raise CheckpointError(
                "The checkpoint to go on from was not written by medsam fit. To start from its weights give it as "
                "model.model instead of `ckpt_path`.",
                parameter="ckpt_path",
            )
        there = ModelSpec.from_dict(dict(card))
        here = self.spec
        if (there.encoder, there.decoder, there.preprocess) != (here.encoder, here.decoder, here.preprocess):
            raise CheckpointError(
                f"The checkpoint to go on from is of {there.name}, and model.model is {here.name}: another "
                "architecture. Go on with the configuration the run was started with."
            )
        lora = bool(any(".parametrizations.weight." in name for name in checkpoint["state_dict"]))
        if lora != (self.lora is not None):
            raise CheckpointError(
                f"The checkpoint to go on from was trained {'with' if lora else 'without'} model.lora, this run is "
                f"{'without' if lora else 'with'} it. Go on with the configuration the run was started with."
            )
        self.sam.spec = replace(here, mask_threshold=there.mask_threshold)
        self.baseline_scores = {str(name): float(value) for name, value in card.get("untouched", {}).items()}

    def finished(self, trained: Sam) -> Sam:
        """The model to write, of weights as a checkpoint of this training has them."""
        if not self.beside:
            return trained
        whole = load_model(self.source)
        whole.spec = replace(whole.spec, asset=None, clicks=None)
        whole.propose_by(trained)
        return whole

    def card(self) -> dict[str, Any]:
        """How these weights were made: plain values, no paths, no patients."""
        metrics: dict[str, float] = {}
        steps = 0
        if self._trainer is not None:
            kept = self.trainer.callback_metrics
            metrics = {name: round(float(value), 4) for name, value in kept.items() if re.match(r"(val|test)/", name)}
            steps = self.trainer.global_step
        data = self._trainer.datamodule if self._trainer is not None else None  # type: ignore[attr-defined]
        about = data.card() if isinstance(data, SliceDataModule) and data.has("train") else {}
        return {
            "medsam": __version__,
            "started_from": self.started_from,
            "started_from_weights": self.started_from_weights,
            "licence": self.licence,
            "trained": [name for name in ("image_encoder", "prompt_encoder", "mask_decoder") if self._learns(name)],
            **({} if self.lora is None else {"lora_rank": self.lora.rank}),
            "first_prompt": self.interaction.first,
            "rounds": self.interaction.rounds,
            "steps": steps,
            **about,
            "metrics": metrics,
            "metrics_before": {name: round(value, 4) for name, value in self.baseline_scores.items()},
        }

    def _learns(self, name: str) -> bool:
        return any(weight.requires_grad for weight in getattr(self.sam, name).parameters())

    @property
    def _data(self) -> SliceDataModule:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SliceDataModule):
            raise InputError("SamFineTuning is trained and scored with a SliceDataModule.")
        return data


# what is trained with as first prompt -> what a model knows by it
_SHOWN = {"point": "points", "scribble": "points"}


def _known_after(started_from: ModelSpec, kinds: set[str], beside: bool) -> tuple[str, ...]:
    """The prompts that a model knows alone once it was shown `kinds`."""
    if beside and (kinds != {"points"} or "points" in started_from.prompts):
        raise InputError(
            "model.beside is for a decoder of clicks and strokes beside one that knows boxes alone: leave box and "
            f"mask out of model.interaction, and start from such a model (this one knows {started_from.prompts})."
        )
    # later rounds bring points and masks beside the first prompt, never alone
    # what it could answer before it may have forgotten, but nothing says so
    known = () if beside else started_from.prompts
    return tuple(kind for kind in ("box", "points", "mask") if kind in (*known, *kinds))


def _check_frozen(frozen: bool) -> None:
    if not frozen:
        raise InputError(
            "model.beside keeps the image encoder for both decoders: set model.train.image_encoder to false, and "
            "leave model.lora out."
        )


def _named(model: str, spec: ModelSpec) -> str:
    """A known name, or of a file its name without the folders it lies in."""
    return model if model == spec.name else f"{spec.name} ({Path(model).name})"
