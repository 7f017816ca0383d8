"""Slices with and without structures as batches for a detector. Letters as in `medsam.models.detector`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from monai.data import Dataset as MonaiDataset
from torch import Tensor
from torch.utils.data import Dataset

from medsam.data.manifest import Split
from medsam.data.slices import ModelSlice, SliceIndex, SliceItem, unpack
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.models.specs import ModelSpec
from medsam.training.batch import moved
from medsam.training.datamodule import CacheSettings, SamplingSettings, SliceDataModule
from medsam.training.samples import Shown, TrainingSamples, case_name
from medsam.transforms.augment import AugmentSettings


@dataclass(frozen=True, eq=False)
class DetectorBatch:
    """image: (B, 3, S, S). boxes: (B, C, 4) tight, in model pixels; nan where a class is absent. labels: "case, slice".

    cases: the case of each, in validation.
    """

    image: Tensor
    boxes: Tensor
    labels: tuple[str, ...]
    cases: tuple[str, ...] = ()

    def to(self, device: torch.device) -> DetectorBatch:
        return moved(self, device)


def collate(parts: Sequence[DetectorBatch]) -> DetectorBatch:
    """Batches of one -> one."""
    return DetectorBatch(
        torch.cat([part.image for part in parts]),
        torch.cat([part.boxes for part in parts]),
        tuple(label for part in parts for label in part.labels),
        tuple(case for part in parts for case in part.cases),
    )


class DetectorSamples(TrainingSamples):
    """(number of a slice, number of the draw) -> a batch of one; `negatives` of the draws have no structure."""

    def __init__(
        self,
        data: MonaiDataset,
        items: Sequence[SliceItem],
        spec: ModelSpec,
        shown: Shown,
        classes: Sequence[str],
        negatives: float,
    ) -> None:
        super().__init__(data, items, spec, shown)
        self.classes = tuple(classes)
        bare = np.array([not item.structures for item in items])
        positives = self.weights[~bare].sum()
        if bare.any() and positives:
            self.weights[bare] = negatives / (1 - negatives) * positives / bare.sum()

    def __getitem__(self, drawn: tuple[int, int]) -> DetectorBatch:  # type: ignore[override]
        number, draw = drawn
        image, masks = unpack(self.data[number])
        image, masks = self._changed(image, masks, number, np.random.default_rng([self.shown.seed, draw]))
        seen = ModelSlice.of(image, masks, self.spec.preprocess)
        return batch_of(seen, self.items[number], self.classes)


class DetectorSlices(Dataset[DetectorBatch]):
    """Slices as they are, one at a time."""

    def __init__(self, data: MonaiDataset, items: Sequence[SliceItem], spec: ModelSpec, classes: Sequence[str]) -> None:
        self.data, self.items, self.spec, self.classes = data, items, spec, tuple(classes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> DetectorBatch:
        image, masks = unpack(self.data[number])
        return batch_of(ModelSlice.of(image, masks, self.spec.preprocess), self.items[number], self.classes)


def batch_of(seen: ModelSlice, item: SliceItem, classes: Sequence[str]) -> DetectorBatch:
    """A slice with the tight boxes of its structures, by class."""
    boxes = np.full((len(classes), 4), np.nan, np.float32)
    for structure, tight in zip(item.structures, seen.tight_boxes(), strict=True):
        if structure in classes and np.isfinite(tight).all():
            boxes[classes.index(structure)] = seen.frame.boxes(tight)[0]
    name = case_name(item.case)
    return DetectorBatch(seen.image[None], torch.from_numpy(boxes)[None], (f"{name}, slice {item.index}",), (name,))


class DetectorDataModule(SliceDataModule):
    """Every slice of labelled cases, those without a structure too.

    negatives: share of the draws that have no structure. All else as `SliceDataModule`.
    Raises InputError for numbers that make no sense.
    """

    _bare = True
    _collate = staticmethod(collate)

    def __init__(self, *settings: object, negatives: float = 0.3) -> None:
        if not 0 <= negatives < 1:
            raise InputError(f"data.negatives is a share from 0 and below 1, not {negatives}.")
        super().__init__(*settings)  # type: ignore[arg-type]
        self.negatives = negatives

    @property
    def classes(self) -> tuple[str, ...]:
        """What can be learnt: the structures of the training split, in a fixed order."""
        return tuple(sorted({name for item in self._splits["train"].items for name in item.structures}))

    def classes_known(self, classes: Sequence[str]) -> None:
        """Have boxes come in this order: of a run that is scored, which has no training split."""
        self._given = tuple(classes)

    _given: tuple[str, ...] | None = None

    def _ordered(self) -> tuple[str, ...]:
        return self.classes if self._given is None else self._given

    def _samples(self, data: MonaiDataset, index: SliceIndex) -> DetectorSamples:
        sampling = self.sampling
        shown = Shown(1, sampling.seed, self.augment, sampling.variants)
        return DetectorSamples(data, index.items, self._model, shown, self._ordered(), self.negatives)

    def _validation_samples(self, data: MonaiDataset, index: SliceIndex, split: Split) -> DetectorSlices:
        return DetectorSlices(data, index.items, self._model, self._ordered())

    def about(self) -> list[dict[str, object]]:
        """Of each data set learnt from: {"name", "cases", "patients", "slices", "about"}; no patients' names."""
        found: dict[str, list[SliceItem]] = {}
        for item in self._splits["train"].items:
            found.setdefault(item.case.dataset, []).append(item)
        notes = {manifest.name: manifest.notes for manifest in self._read}
        return [
            {
                "name": name,
                "cases": len({case_name(item.case) for item in items}),
                "patients": len({item.case.patient for item in items}),
                "slices": len(items),
                **({"about": notes[name]} if notes.get(name) else {}),
            }
            for name, items in sorted(found.items())
        ]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the training cases are said to be; () where one says nothing."""
        found = {item.case.modality for item in self._splits["train"].items}
        return tuple(sorted(name for name in found if name is not None)) if None not in found else ()


def detector_data(
    manifests: list[str],
    structures: list[str] | None = None,
    axis: Axis | None = None,
    window: str = "auto",
    min_pixels: int = 3,
    batch_size: int = 8,
    epoch_slices: int | None = None,
    balanced: bool = True,
    negatives: float = 0.3,
    slice_step: int = 1,
    variants: int | None = None,
    augment: AugmentSettings | None = None,
    cache: Literal["memory", "disk", "none"] = "memory",
    cache_dir: str | None = None,
    num_workers: int = 0,
    limit: int | None = None,
    seed: int = 0,
) -> DetectorDataModule:
    """`DetectorDataModule`, its groups of settings side by side."""
    sampling = SamplingSettings(batch_size, 1, epoch_slices, balanced, seed, 0.0, variants)
    kept = CacheSettings(cache, None if cache_dir is None else Path(cache_dir))
    settings = (manifests, structures, axis, window, min_pixels, sampling, augment, kept, num_workers, (0,), limit)
    return DetectorDataModule(*settings, slice_step, negatives=negatives)


# LightningCLI wants the class itself, not its name
detector_data.__annotations__["return"] = DetectorDataModule
