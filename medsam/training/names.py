"""Training prompts by name beside a frozen image encoder, for Lightning. Letters as in `medsam.models.name_head`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from medsam._version import __version__
from medsam.errors import CheckpointError, InputError
from medsam.inference.engines.base import EngineName
from medsam.inference.image_predictor import ImagePredictor
from medsam.metrics.detection import auroc
from medsam.models.build import load_model
from medsam.models.heads import Head, HeadCard, changes_of, encoder_digest
from medsam.models.name_head import NameHead, NameSizes
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec
from medsam.models.weights_file import CARD_KEY
from medsam.training.frozen import frozen_encoder
from medsam.training.losses import LossWeights, mask_loss
from medsam.training.module import TrainingDiverged
from medsam.training.names_data import NamesBatch, NamesDataModule
from medsam.training.optimise import OptimiserSettings, is_decayed, schedule

# of the slices that have a structure, how many a threshold may lose
MISSES = 0.05


class NameTraining(LightningModule):
    """Trains a `NameHead` and a decoder for it on the embeddings of `model`, whose own weights stay as they are.

    model: a known name or a checkpoint. name: of the head, in its card. licence: of its weights. tokens, stride:
    see `NameSizes`. rank: of the thin matrices that the decoder's changes are kept as. presence: share of that loss.
    loss, optimiser, embeddings, engine: as for `SamFineTuning`.
    Raises CheckpointError as `load_model` does.
    """

    monitor = "val/score"

    def __init__(
        self,
        model: str = "litemedsam",
        name: str = "names",
        licence: str = "not stated",
        tokens: int = 4,
        stride: int = 2,
        rank: int = 32,
        loss: LossWeights = LossWeights(),  # noqa: B008
        presence: float = 1.0,
        optimiser: OptimiserSettings = OptimiserSettings(),  # noqa: B008
        embeddings: str | None = None,
        engine: EngineName = "auto",
    ) -> None:
        super().__init__()
        sam = load_model(model)
        self.network = NameHead(NameSizes(width=sam.spec.decoder.width, tokens=tokens, stride=stride))
        self.decoder = copy.deepcopy(sam.mask_decoder).requires_grad_(True)
        # in a dictionary, which torch does not look into: neither moved, saved nor counted
        self._beside: dict[str, Any] = {"sam": sam}
        self.head_name, self.licence, self.rank, self.model_named = name, licence, rank, model
        self.loss_weights, self.presence_weight, self.optimiser_settings = loss, presence, optimiser
        self.embeddings, self.engine = embeddings, engine
        self.classes: tuple[str, ...] = ()
        self.baseline_scores: dict[str, float] = {}
        self.scored_at: int | None = None
        self.thresholds: dict[str, float] = {}
        self._seen: list[tuple[int, str, bool, float, int, tuple[int, int]]] = []
        # the single mask answers a name; nothing is learnt of the other three
        for head in self.decoder.output_hypernetworks_mlps[1:]:
            head.requires_grad_(False)

    @property
    def sam(self) -> Sam:
        """The model as it came."""
        return self._beside["sam"]

    @property
    def spec(self) -> ModelSpec:
        """Of the model whose embeddings are read."""
        return self.sam.spec

    @property
    def answering(self) -> Sam:
        """The model with the decoder that is trained."""
        sam = self.sam
        return Sam(sam.spec, sam.image_encoder, sam.prompt_encoder, self.decoder)

    def begin(self, classes: Sequence[str]) -> None:
        """Take note of the structures that are learnt, canonical names."""
        self.classes = tuple(classes)

    def setup(self, stage: str) -> None:
        self._data.stride = self.network.sizes.stride
        self.begin(self.classes or self._data.classes)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> embeddings (B, C, h, w), each made once."""
        if "predictor" not in self._beside:
            kept = self.embeddings is None and not self._data.changes
            self._beside["predictor"] = frozen_encoder(
                self.model_named, self.device, self.embeddings, kept=kept, engine=self.engine
            )
        predictor: ImagePredictor = self._beside["predictor"]
        predictor.device = self.device
        return torch.cat(predictor.encode(list(images)))

    def forward(self, batch: NamesBatch) -> tuple[Tensor, Tensor, Tensor]:
        """As `NameHead.answer`."""
        return self.network.answer(self.answering, self.features(batch.image), batch.names, batch.places)

    def losses(self, batch: NamesBatch) -> dict[str, Tensor]:
        """{"loss", "focal", "dice", "iou", "presence"}; masks learn where the structure is, presence everywhere."""
        logits, presence, predicted_iou = self(batch)
        masks = mask_loss(
            logits[:, :, None], predicted_iou[:, :, None], batch.targets, batch.present, self.loss_weights
        )
        there = F.binary_cross_entropy_with_logits(presence.float(), batch.present.float())
        total = masks.total + self.presence_weight * there
        return {"loss": total, "focal": masks.focal, "dice": masks.dice, "iou": masks.iou, "presence": there}

    def training_step(self, batch: NamesBatch, batch_idx: int) -> Tensor:
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

    def validation_step(self, batch: NamesBatch, batch_idx: int) -> None:
        logits, presence, _ = self(batch)
        inside = logits > 0
        shared = (inside & batch.targets).flatten(2).sum(2)
        both = inside.flatten(2).sum(2), batch.targets.flatten(2).sum(2)
        for row, case in enumerate(batch.cases):
            for column, number in enumerate(batch.numbers[row].tolist()):
                self._seen.append(
                    (
                        number,
                        case,
                        bool(batch.present[row, column]),
                        float(presence[row, column]),
                        int(shared[row, column]),
                        (int(both[0][row, column]), int(both[1][row, column])),
                    )
                )

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        """Dice of volumes by name, where slices below the threshold of presence are empty."""
        seen, self._seen = _everywhere(self._seen), []
        means: dict[str, list[float]] = {}
        for number, name in enumerate(self.classes):
            rows = [one for one in seen if one[0] == number]
            there = np.array([one[2] for one in rows], dtype=bool)
            presence = np.array([one[3] for one in rows])
            if split == "val" or name not in self.thresholds:
                self.thresholds[name] = threshold_of(presence, there)
            found = {"score": volume_dice(rows, self.thresholds[name]), "presence": auroc(presence, there)}
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
        checkpoint[CARD_KEY] = self.card(None).to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        card = checkpoint.get(CARD_KEY)
        if not isinstance(card, Mapping) or "loops" not in checkpoint:
            raise CheckpointError("The checkpoint to go on from was not written by medsam fit with this configuration.")
        known = HeadCard.from_dict(card)
        if known.encoder != encoder_digest(self.sam) or known.kind != "names":
            raise CheckpointError(f"The checkpoint to go on from learnt beside {known.model}, not {self.spec.name}.")
        self.thresholds = dict(known.thresholds)
        self.begin(known.classes)

    def head(self) -> Head:
        """What was learnt, to be written."""
        changes, about = changes_of(self.sam, self.answering, self.rank)
        return Head(self.card(about), self.network.state_dict(), changes)

    def card(self, decoder: Mapping[str, Any] | None) -> HeadCard:
        """Plain values, no paths, no patients."""
        data, there = self._data, self._data.has("train")
        metrics = {
            name: round(float(value), 4)
            for name, value in self.trainer.callback_metrics.items()
            if re.match(r"(val|test)/", name)
        }
        recipe = {
            "medsam": __version__,
            "steps": self.trainer.global_step,
            "slice_step": data.slice_step,
            "labels": data.names_said() if there else {},
            "metrics": metrics,
        }
        return HeadCard(
            kind="names",
            name=self.head_name,
            classes=self.classes,
            model=self.spec.name,
            encoder=encoder_digest(self.sam),
            sizes=self.network.sizes.to_dict(),
            licence=self.licence,
            data=tuple(data.about()) if there else (),
            recipe=recipe,
            modalities=data.modalities if there else (),
            thresholds={name: round(float(number), 4) for name, number in self.thresholds.items()},
            decoder=decoder,
        )

    @property
    def _data(self) -> NamesDataModule:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, NamesDataModule):
            raise InputError("NameTraining is trained and scored with a NamesDataModule.")
        return data


def threshold_of(presence: np.ndarray, there: np.ndarray, misses: float = MISSES) -> float:
    """The logit of presence from which a structure counts as there: it loses `misses` of the slices that have it.

    presence: (n,) logits. there: bool (n,). 0 where no slice has it.
    """
    return float(np.quantile(presence[there], misses)) if there.any() else 0.0


def volume_dice(rows: Sequence[Any], threshold: float) -> float:
    """Mean over cases of 2 |A and B| / (|A| + |B|), A empty on slices below `threshold`.

    rows: (number, case, there, presence, shared pixels, (of A, of B)) of each slice. nan where no case has any.
    """
    sums: dict[str, np.ndarray] = {}
    for _, case, _, presence, shared, (answered, wanted) in rows:
        given = presence >= threshold
        sums.setdefault(case, np.zeros(2))
        sums[case] += (2 * shared * given, answered * given + wanted)
    found = [both[0] / both[1] for both in sums.values() if both[1]]
    return float(np.mean(found)) if found else float("nan")


def _everywhere(seen: list[Any]) -> list[Any]:
    """What all processes have seen."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return seen
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, seen)
    return [one for part in parts for one in part]
