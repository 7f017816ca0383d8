"""Training a detector beside a frozen image encoder, for Lightning. Letters as in `medsam.models.detector`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from medsam._version import __version__
from medsam.errors import CheckpointError, InputError
from medsam.inference.engines.base import EngineName
from medsam.inference.image_predictor import ImagePredictor
from medsam.metrics.detection import auroc, box_iou
from medsam.models.build import load_model
from medsam.models.detector import Detector, DetectorMaps, DetectorSizes, decode
from medsam.models.heads import Head, HeadCard, changes_of, encoder_digest
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec
from medsam.models.weights_file import CARD_KEY
from medsam.training.detector_data import DetectorBatch, DetectorDataModule
from medsam.training.detector_loss import DetectorLossWeights, detector_losses
from medsam.training.frozen import frozen_encoder
from medsam.training.module import TrainingDiverged
from medsam.training.optimise import OptimiserSettings, is_decayed, schedule

# boxes below it are not looked at in validation
_LEAST = 0.02


class DetectorTraining(LightningModule):
    """Trains a `Detector` on the embeddings of `model`, whose weights stay as they are.

    model: a known name or a checkpoint. name: of the head, in its card. licence: of its weights. single: a scan has one
    object of each class at most (organs); otherwise as many as are found (lesions).
    decoder: a checkpoint that was fine-tuned beside the same encoder (medsam fit with
    configs/train/litemedsam_decoder.yaml): kept in the head's file, and answers its boxes. rank: of its changes there.
    width, trunk, blocks: see `DetectorSizes`. embeddings, engine: as for `SamFineTuning`.
    Raises CheckpointError as `load_model` does, and for a decoder of another encoder.
    """

    monitor = "val/score"

    def __init__(
        self,
        model: str = "litemedsam",
        name: str = "detector",
        licence: str = "not stated",
        single: bool = True,
        decoder: str | None = None,
        rank: int = 32,
        width: int = 128,
        trunk: int = 192,
        blocks: int = 1,
        loss: DetectorLossWeights = DetectorLossWeights(),  # noqa: B008
        optimiser: OptimiserSettings = OptimiserSettings(),  # noqa: B008
        embeddings: str | None = None,
        engine: EngineName = "auto",
    ) -> None:
        super().__init__()
        self._beside: dict[str, Any] = {"sam": load_model(model)}  # in a dictionary, which torch does not look into
        self.head_name, self.licence, self.single, self.rank = name, licence, single, rank
        self.loss_weights, self.optimiser_settings = loss, optimiser
        self.embeddings, self.engine, self.model_named = embeddings, engine, model
        self.changes = ({}, None) if decoder is None else changes_of(self.sam, load_model(decoder), rank)
        self._sizes = {"width": width, "trunk": trunk, "blocks": blocks}
        self.classes: tuple[str, ...] = ()
        self.network: Detector | None = None
        self.baseline_scores: dict[str, float] = {}
        self.scored_at: int | None = None
        self.thresholds: dict[str, float] = {}
        self._seen: list[tuple[int, bool, float, float, float]] = []

    @property
    def sam(self) -> Sam:
        return self._beside["sam"]

    @property
    def spec(self) -> ModelSpec:
        """Of the model whose embeddings are read."""
        return self.sam.spec

    def begin(self, classes: Sequence[str]) -> None:
        """Make the network, once the data has said what its classes are: before callbacks look for its weights."""
        self.classes = tuple(classes)
        self.network = Detector(DetectorSizes(len(self.classes), self.spec.decoder.width, **self._sizes))

    def setup(self, stage: str) -> None:
        if self.network is None:
            self.begin(self._data.classes)
        self._data.classes_known(self.classes)

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

    def forward(self, images: Tensor) -> DetectorMaps:
        if self.network is None:
            raise RuntimeError("the network is made in setup")
        return self.network(self.features(images))

    def training_step(self, batch: DetectorBatch, batch_idx: int) -> Tensor:
        terms = detector_losses(self(batch.image), batch.boxes, self.spec.image_size, self.loss_weights)
        if not terms["loss"].isfinite():
            raise TrainingDiverged(
                f"The loss is {terms['loss'].item()} at step {self.global_step}, on {'; '.join(batch.names)}. Lower "
                "model.optimiser.lr or set trainer.gradient_clip_val."
            )
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), batch_size=len(batch.names), prog_bar=name == "loss")
        return terms["loss"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings, steps = self.optimiser_settings, self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise InputError("The schedule needs an end: set trainer.max_epochs or trainer.max_steps.")
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            groups[is_decayed(name, parameter)].append(parameter)
        listed = [{"params": some, "weight_decay": settings.weight_decay * on} for on, some in groups.items()]
        optimiser = torch.optim.AdamW(listed, lr=settings.lr, betas=settings.betas)
        factor = schedule(settings, int(steps))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # -- validation -----------------------------------------------------------------------------------------------

    def validation_step(self, batch: DetectorBatch, batch_idx: int) -> None:
        maps = self(batch.image)
        presence = maps.presence.float().sigmoid().cpu()
        for row, of_slice in enumerate(decode(maps, self.spec.image_size, _LEAST, most=1)):
            for number, found in enumerate(of_slice):
                truth = batch.boxes[row, number].tolist()
                there = truth[0] == truth[0]
                iou = box_iou(found[0].box, truth) if found and there else 0.0
                score = found[0].score if found else 0.0
                self._seen.append((number, there, score, iou, float(presence[row, number])))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        seen, self._seen = _everywhere(self._seen), []
        means: dict[str, list[float]] = {}
        for number, name in enumerate(self.classes):
            rows = np.array([one[1:] for one in seen if one[0] == number], dtype=float).reshape(-1, 4)
            there, score, iou, presence = rows[:, 0] > 0, rows[:, 1], rows[:, 2], rows[:, 3]
            if split == "val" or name not in self.thresholds:
                self.thresholds[name] = best_threshold(there, score, iou)
            found = {
                "score": overlap_score(there, score, iou, self.thresholds[name]),
                "box_iou": float(iou[there].mean()) if there.any() else float("nan"),
                "presence": auroc(presence, there),
            }
            for what, value in found.items():
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
        if known.encoder != encoder_digest(self.sam):
            raise CheckpointError(f"The checkpoint to go on from learnt beside {known.model}, not {self.spec.name}.")
        self.thresholds = dict(known.thresholds)
        if self.classes != known.classes:
            self.begin(known.classes)

    def head(self) -> Head:
        """What was learnt, to be written."""
        if self.network is None:
            raise RuntimeError("the network is made in setup")
        return Head(self.card(), self.network.state_dict(), self.changes[0])

    def card(self) -> HeadCard:
        """Plain values, no paths, no patients."""
        data, there = self._data, self._data.has("train")
        kept = self.trainer.callback_metrics
        sizes = asdict(DetectorSizes(len(self.classes), self.spec.decoder.width, **self._sizes))
        recipe = {
            "medsam": __version__,
            "steps": self.trainer.global_step,
            "single": self.single,
            "slice_step": data.slice_step,
            "metrics": {k: round(float(v), 4) for k, v in kept.items() if re.match(r"(val|test)/", k)},
        }
        return HeadCard(
            kind="detector",
            name=self.head_name,
            classes=self.classes,
            model=self.spec.name,
            encoder=encoder_digest(self.sam),
            sizes=sizes,
            licence=self.licence,
            data=tuple(data.about()) if there else (),
            recipe=recipe,
            modalities=data.modalities if there else (),
            thresholds={name: round(float(number), 4) for name, number in self.thresholds.items()},
            decoder=self.changes[1],
        )

    @property
    def _data(self) -> DetectorDataModule:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, DetectorDataModule):
            raise InputError("DetectorTraining is trained and scored with a DetectorDataModule.")
        return data


def _everywhere(seen: list[Any]) -> list[Any]:
    """What all processes have seen."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return seen
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, seen)
    return [one for part in parts for one in part]


def overlap_score(there: np.ndarray, score: np.ndarray, iou: np.ndarray, threshold: float) -> float:
    """F1 of boxes in which a box counts by its IoU: 2 * sum of IoU / (boxes given + boxes wanted).

    there: (n,) whether slice n has the structure. score, iou: of the best box on it. nan where there is nothing at all.
    """
    given = score >= threshold
    both = int(given.sum() + there.sum())
    return float(2 * iou[given & there].sum() / both) if both else float("nan")


def best_threshold(there: np.ndarray, score: np.ndarray, iou: np.ndarray) -> float:
    """The score from which a box is believed: where `overlap_score` is greatest, in steps of 0.02."""
    steps = np.arange(0.04, 0.9, 0.02)
    found = np.array([overlap_score(there, score, iou, step) for step in steps])
    return 0.3 if not np.isfinite(found).any() else float(steps[int(np.nanargmax(found))])
