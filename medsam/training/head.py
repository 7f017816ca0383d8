"""What all heads beside a frozen image encoder share in their training, for Lightning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from medsam._version import __version__
from medsam.errors import CheckpointError, InputError
from medsam.inference.engines.base import EngineName
from medsam.inference.image_predictor import ImagePredictor
from medsam.models.build import load_model
from medsam.models.heads import HeadCard, Kind, encoder_digest
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec
from medsam.models.weights_file import CARD_KEY
from medsam.training.detector_data import DetectorDataModule
from medsam.training.frozen import frozen_encoder
from medsam.training.module import TrainingDiverged
from medsam.training.optimise import OptimiserSettings, is_decayed, schedule

Data = TypeVar("Data", bound=DetectorDataModule)


class HeadTraining(LightningModule, Generic[Data]):
    """Trains a head on the embeddings of `model`, whose weights stay as they are.

    model: a known name or a checkpoint. name: of the head, in its card. licence: of its weights. optimiser, embeddings,
    engine: as for `SamFineTuning`.
    A kind of head says in `losses` what is learnt, keeps in `_seen` what validation has seen, a tuple a slice and class
    that begins with the number of the class, and makes of that a `threshold` and `scores`.
    """

    monitor = "val/score"
    kind: ClassVar[Kind]
    data_of: ClassVar[type[DetectorDataModule]]

    def __init__(
        self,
        model: str,
        name: str,
        licence: str,
        optimiser: OptimiserSettings,
        embeddings: str | None,
        engine: EngineName,
    ) -> None:
        super().__init__()
        # in a dictionary, which torch does not look into: neither moved, saved nor counted
        self._beside: dict[str, Any] = {"sam": load_model(model)}
        self.model_named, self.head_name, self.licence = model, name, licence
        self.optimiser_settings, self.embeddings, self.engine = optimiser, embeddings, engine
        self.classes: tuple[str, ...] = ()
        self.baseline_scores: dict[str, float] = {}
        self.scored_at: int | None = None
        self.thresholds: dict[str, float] = {}
        # of the names that it takes, see `HeadCard`
        self.text_encoder: dict[str, str] | None = None
        self._seen: list[tuple[Any, ...]] = []

    @property
    def sam(self) -> Sam:
        """The model as it came."""
        return self._beside["sam"]

    @property
    def spec(self) -> ModelSpec:
        """Of the model whose embeddings are read."""
        return self.sam.spec

    def begin(self, classes: Sequence[str]) -> None:
        """Take note of what is learnt, once the data has said it: before callbacks look for weights."""
        self.classes = tuple(classes)

    def look_at(self, data: Data, device: torch.device) -> None:
        """Take from the data what has to be known before the first step. Nothing is written yet: InputError may say no.

        device: where there is something to compute.
        """

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> embeddings (B, C, h, w), each made once."""
        if "predictor" not in self._beside:
            kept = self.embeddings is None and not self._data.changes
            # by its name: the engine that is quickest may be taken, for these weights stay
            self._beside["predictor"] = frozen_encoder(
                self.model_named, self.device, self.embeddings, kept=kept, engine=self.engine
            )
        predictor: ImagePredictor = self._beside["predictor"]
        predictor.device = self.device
        return torch.cat(predictor.encode(list(images)))

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """{"loss", and the terms of it} of a batch."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        terms = self.losses(batch)
        if not terms["loss"].isfinite():
            raise TrainingDiverged(
                f"The loss is {terms['loss'].item()} at step {self.global_step}, on {'; '.join(batch.labels)}. Lower "
                "model.optimiser.lr or set trainer.gradient_clip_val."
            )
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), batch_size=len(batch.labels), prog_bar=name == "loss")
        return terms["loss"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings, steps = self.optimiser_settings, self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise InputError("The schedule needs an end: set trainer.max_epochs or trainer.max_steps.")
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[is_decayed(name.removeprefix("decoder."), parameter)].append(parameter)
        listed = [{"params": some, "weight_decay": settings.weight_decay * on} for on, some in groups.items()]
        optimiser = torch.optim.AdamW(listed, lr=settings.lr, betas=settings.betas)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule(settings, int(steps)))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # -- validation -----------------------------------------------------------------------------------------------

    def threshold(self, rows: Sequence[Any]) -> float:
        """The score from which a class counts. rows: what was seen of it."""
        raise NotImplementedError

    def scores(self, rows: Sequence[Any], threshold: float) -> dict[str, float]:
        """{"score", and what else tells how good it is} of a class; nan where nothing can be said."""
        raise NotImplementedError

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        seen, self._seen = _everywhere(self._seen), []
        means: dict[str, list[float]] = {}
        for number, name in enumerate(self.classes):
            rows = [one for one in seen if one[0] == number]
            if split == "val" or name not in self.thresholds:
                # nothing is chosen on test patients: without validation it is what nothing at all gives
                self.thresholds[name] = self.threshold(rows if split == "val" else [])
            for what, value in self.scores(rows, self.thresholds[name]).items():
                if value == value:
                    means.setdefault(what, []).append(value)
                    self.log(f"{split}/{what}/{name}", value, batch_size=1)
        for what, values in means.items():
            self.log(f"{split}/{what}", float(np.mean(values)), prog_bar=what == "score", batch_size=1)
        if split == "val":
            self.scored_at = self.trainer.global_step

    # -- files ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD_KEY] = self.card().to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        card = checkpoint.get(CARD_KEY)
        if not isinstance(card, Mapping) or "loops" not in checkpoint:
            raise CheckpointError("The checkpoint to go on from was not written by medsam fit with this configuration.")
        known = HeadCard.from_dict(card)
        if known.kind != self.kind:
            raise CheckpointError(
                f"The checkpoint to go on from is of a head of the kind {known.kind}, not {self.kind}."
            )
        if known.encoder != encoder_digest(self.sam):
            raise CheckpointError(f"The checkpoint to go on from learnt beside {known.model}, not {self.spec.name}.")
        if known.text_encoder != self.text_encoder:
            raise CheckpointError(
                "The checkpoint to go on from learnt its names by another text encoder: model.clip has to be the same "
                "as it was."
            )
        self.thresholds = dict(known.thresholds)
        if self.classes != known.classes:
            self.begin(known.classes)

    @property
    def sizes(self) -> dict[str, int]:
        """Of the network, for its card."""
        raise NotImplementedError

    @property
    def recipe(self) -> dict[str, Any]:
        """How it learnt, for its card: what only this kind of head has."""
        return {}

    def card(self, decoder: Mapping[str, Any] | None = None) -> HeadCard:
        """Plain values, no paths, no patients. decoder: about one that lies beside the head."""
        data, there = self._data, self._data.has("train")
        kept = self.trainer.callback_metrics
        recipe = {
            "medsam": __version__,
            "steps": self.trainer.global_step,
            "slice_step": data.slice_step,
            **self.recipe,
            "metrics": {k: round(float(v), 4) for k, v in kept.items() if re.match(r"(val|test)/", k)},
        }
        return HeadCard(
            kind=self.kind,
            name=self.head_name,
            classes=self.classes,
            model=self.spec.name,
            encoder=encoder_digest(self.sam),
            sizes=self.sizes,
            licence=self.licence,
            data=tuple(data.about()) if there else (),
            recipe=recipe,
            modalities=data.modalities if there else (),
            thresholds={name: round(float(number), 4) for name, number in self.thresholds.items()},
            decoder=decoder,
            text_encoder=self.text_encoder,
        )

    @property
    def _data(self) -> Data:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, self.data_of):
            raise InputError(f"{type(self).__name__} is trained and scored with a {self.data_of.__name__}.")
        return data  # type: ignore[return-value]


def _everywhere(seen: list[Any]) -> list[Any]:
    """What all processes have seen."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return seen
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, seen)
    return [one for part in parts for one in part]
