"""Training a detector beside a frozen image encoder, for Lightning. Letters as in `medsam.models.detector`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from medsam.inference.engines.base import EngineName
from medsam.metrics.detection import auroc, box_iou
from medsam.models.build import load_model
from medsam.models.detector import Detector, DetectorMaps, DetectorSizes, decode
from medsam.models.heads import Head, changes_of
from medsam.training.detector_data import DetectorBatch, DetectorDataModule
from medsam.training.detector_loss import DetectorLossWeights, detector_losses
from medsam.training.head import HeadTraining
from medsam.training.optimise import OptimiserSettings

# boxes below it are not looked at in validation
_LEAST = 0.02


class DetectorTraining(HeadTraining[DetectorDataModule]):
    """Trains a `Detector` on the embeddings of `model`, whose weights stay as they are.

    model, name, licence, optimiser, embeddings, engine: see `HeadTraining`. single: a scan has one object of each class
    at most (organs); otherwise as many as are found (lesions).
    decoder: a checkpoint that was fine-tuned beside the same encoder (medsam fit with
    configs/train/litemedsam_decoder.yaml): kept in the head's file, and answers its boxes. rank: of its changes there.
    width, trunk, blocks: see `DetectorSizes`.
    Raises CheckpointError as `load_model` does, and for a decoder of another encoder.
    """

    kind = "detector"
    data_of = DetectorDataModule

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
        super().__init__(model, name, licence, optimiser, embeddings, engine)
        self.single, self.loss_weights = single, loss
        self.changes = ({}, None) if decoder is None else changes_of(self.sam, load_model(decoder), rank)
        self._sizes = {"width": width, "trunk": trunk, "blocks": blocks}
        self.network: Detector | None = None

    def begin(self, classes: Sequence[str]) -> None:
        """Make the network, once the data has said what its classes are: before callbacks look for its weights."""
        super().begin(classes)
        self.network = Detector(DetectorSizes(len(self.classes), self.spec.decoder.width, **self._sizes))

    def setup(self, stage: str) -> None:
        if self.network is None:
            self.begin(self._data.classes)
        self._data.classes_known(self.classes)

    def forward(self, images: Tensor) -> DetectorMaps:
        if self.network is None:
            raise RuntimeError("the network is made in setup")
        return self.network(self.features(images))

    def losses(self, batch: DetectorBatch) -> dict[str, Tensor]:
        return detector_losses(self(batch.image), batch.boxes, self.spec.image_size, self.loss_weights)

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

    def threshold(self, rows: Sequence[Any]) -> float:
        there, score, iou, _ = _columns(rows)
        return best_threshold(there, score, iou)

    def scores(self, rows: Sequence[Any], threshold: float) -> dict[str, float]:
        there, score, iou, presence = _columns(rows)
        return {
            "score": overlap_score(there, score, iou, threshold),
            "box_iou": float(iou[there].mean()) if there.any() else float("nan"),
            "presence": auroc(presence, there),
        }

    def head(self) -> Head:
        """What was learnt, to be written."""
        if self.network is None:
            raise RuntimeError("the network is made in setup")
        return Head(self.card(self.changes[1]), self.network.state_dict(), self.changes[0])

    @property
    def sizes(self) -> dict[str, int]:
        return asdict(DetectorSizes(len(self.classes), self.spec.decoder.width, **self._sizes))

    @property
    def recipe(self) -> dict[str, Any]:
        return {"single": self.single}


def _columns(rows: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of slices: whether a class is there, the best box's score and IoU, presence; (n,) each."""
    there, score, iou, presence = np.array([one[1:] for one in rows], dtype=float).reshape(-1, 4).T
    return there > 0, score, iou, presence


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
