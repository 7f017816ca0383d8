"""Training prompts by name beside a frozen image encoder, for Lightning. Letters as in `medsam.models.name_head`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medsam.errors import InputError
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.engines.base import EngineName
from medsam.metrics.detection import auroc
from medsam.models.clip import Clip, load_clip
from medsam.models.heads import Head, changes_of
from medsam.models.name_head import NameHead, NameSizes
from medsam.models.sam import Sam
from medsam.training.head import HeadTraining
from medsam.training.losses import LossWeights, mask_loss
from medsam.training.mask_crops import CropSettings
from medsam.training.names_data import NamesBatch, NamesDataModule
from medsam.training.optimise import OptimiserSettings

# of the slices that have a structure, how many a threshold may lose
MISSES = 0.05


class NameTraining(HeadTraining[NamesDataModule]):
    """Trains a `NameHead` and a decoder for it on the embeddings of `model`, whose own weights stay as they are.

    model, name, licence, optimiser, embeddings, engine: see `HeadTraining`. tokens, stride: see `NameSizes`. rank: of
    the thin matrices that the decoder's changes are kept as. presence: share of that loss. loss: as for
    `SamFineTuning`. clip: folder of a CLIP, by whose embeddings of pictures of masks names are learnt, not by MiniLM's
    of phrases. Raises CheckpointError as `load_model` and `load_clip` do.
    """

    kind = "names"
    data_of = NamesDataModule

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
        clip: str | None = None,
    ) -> None:
        super().__init__(model, name, licence, optimiser, embeddings, engine)
        self.clip = clip
        sizes = NameSizes(width=self.spec.decoder.width, tokens=tokens, stride=stride)
        if clip is not None:
            sizes = replace(sizes, embedding=self._read_clip(clip).width)
        self.network = NameHead(sizes)
        self.decoder = copy.deepcopy(self.sam.mask_decoder).requires_grad_(True)
        self.rank, self.loss_weights, self.presence_weight = rank, loss, presence
        # the single mask answers a name; nothing is learnt of the other three
        for head in self.decoder.output_hypernetworks_mlps[1:]:
            head.requires_grad_(False)

    @property
    def answering(self) -> Sam:
        """The model with the decoder that is trained."""
        sam = self.sam
        return Sam(sam.spec, sam.image_encoder, sam.prompt_encoder, self.decoder)

    def _read_clip(self, folder: str) -> Clip:
        """Kept until the data has been shown to it."""
        clip = self._beside["clip"] = load_clip(folder)
        self.text_encoder = {"kind": "clip", "digest": clip.digest}
        return clip

    def look_at(self, data: NamesDataModule, device: torch.device) -> None:
        if self.clip is None and data.crops is not None:
            raise InputError("data.crops says how masks are shown to CLIP, and model.clip names none.")
        if self.clip is None or data.by_clip:
            return
        clip: Clip = self._beside.get("clip") or self._read_clip(self.clip)
        data.use_clip(clip.to(device), EmbeddingCache(memory_bytes=0, folder=self.embeddings))
        # its gigabytes are of no more use
        del self._beside["clip"]

    def setup(self, stage: str) -> None:
        self._data.stride = self.network.sizes.stride
        self.look_at(self._data, self.trainer.strategy.root_device)
        self.begin(self.classes or self._data.classes)

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

    def threshold(self, rows: Sequence[Any]) -> float:
        presence, there = _presence(rows)
        return threshold_of(presence, there)

    def scores(self, rows: Sequence[Any], threshold: float) -> dict[str, float]:
        """Dice of volumes by name, where slices below the threshold of presence are empty, and how sure presence is."""
        return {"score": volume_dice(rows, threshold), "presence": auroc(*_presence(rows))}

    def head(self) -> Head:
        """What was learnt, to be written."""
        changes, about = changes_of(self.sam, self.answering, self.rank)
        return Head(self.card(about), self.network.state_dict(), changes)

    @property
    def sizes(self) -> dict[str, int]:
        return self.network.sizes.to_dict()

    @property
    def recipe(self) -> dict[str, Any]:
        labels = self._data.names_said() if self._data.has("train") else {}
        shown = {} if self.clip is None else {"crops": asdict(self._data.crops or CropSettings())}
        return {"labels": labels, **shown}


def _presence(rows: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Of slices: the logits of presence, and whether the structure is there; (n,) each."""
    return np.array([one[3] for one in rows]), np.array([one[2] for one in rows], dtype=bool)


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
