"""What a training step and a validation step are given: slices, their structures and their prompts.

Everything drawn at random is drawn from (seed, number of the draw): which of a slice's structures, how it is changed.
Letters: B images, P prompts an image, V boxes a prompt in validation, S side of the model input, s of its logits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from monai.data import Dataset as MonaiDataset
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from medsam.data.manifest import Case
from medsam.data.slices import ModelSlice, SliceItem, unpack
from medsam.models.specs import ModelSpec
from medsam.prompts.simulate import jittered, next_click, seeded
from medsam.training.batch import Batch, moved
from medsam.training.drawn_prompts import boxes_round
from medsam.training.pseudo_masks import regions
from medsam.transforms.augment import AugmentSettings, RandAugmentd
from medsam.transforms.frame import Frame


@dataclass(frozen=True, eq=False)
class ValidationSample:
    """Validation: one slice with every structure and the boxes it is asked with.

    image: (1, 3, S, S). masks: bool (P, h, w) stored pixels. boxes: (V, P, 4) model pixels, one set a jitter. clicks:
    (P, 2) model pixels, in the middle of each structure.
    case: its place among the split's cases. structures: places among the data's structures, (P,).
    """

    image: Tensor
    masks: Tensor
    boxes: Tensor
    clicks: Tensor
    frame: Frame
    case: int
    structures: tuple[int, ...]
    name: str

    def to(self, device: torch.device) -> ValidationSample:
        return moved(self, device)


@dataclass(frozen=True)
class Shown:
    """What is shown of a slice. masks_per_image: prompts. seed: of all that is drawn.

    augment: how it is changed; None for not. variants: there are only so many changed copies of a slice, the same in
    every epoch, beside the slice itself; None for another one each time.
    pseudo: share of prompts that ask for a region that nobody drew (`pseudo_masks`); of slices without a structure all.
    """

    masks_per_image: int
    seed: int
    augment: AugmentSettings | None = None
    variants: int | None = None
    pseudo: float = 0.0


class TrainingSamples(Dataset[Batch]):
    """(number of a slice, number of the draw) -> a batch of one. weights: how often each slice should be drawn."""

    def __init__(self, data: MonaiDataset, items: Sequence[SliceItem], spec: ModelSpec, shown: Shown) -> None:
        self.data, self.items, self.spec, self.shown = data, items, spec, shown
        self.augment = None if shown.augment is None else RandAugmentd(settings=shown.augment)
        counts = Counter(name for item in items for name in item.structures)
        self.rarity = {name: 1 / count for name, count in counts.items()}
        weights = [sum(self.rarity[name] for name in item.structures) for item in items]
        # of each draw of a slice with a structure, slices without one are drawn `pseudo` times together
        bare = shown.pseudo * (sum(weights) or 1.0) / max(1, weights.count(0))
        self.weights = np.array([weight or bare for weight in weights])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, drawn: tuple[int, int]) -> Batch:
        number, draw = drawn
        item = self.items[number]
        rng = np.random.default_rng([self.shown.seed, draw])
        image, masks = unpack(self.data[number])
        masks = masks[self._chosen(item, rng)]
        seed = int(rng.integers(2**63))
        side = 4 * self.spec.embed_side
        image, masks = self._changed(image, masks, number, rng)
        seen = ModelSlice.of(image, masks, self.spec.preprocess)
        tight = seen.tight_boxes()
        targets = seen.targets(side)
        frame = seen.frame
        boxes = torch.from_numpy(frame.boxes(np.nan_to_num(tight)))
        valid = torch.from_numpy(np.isfinite(tight).all(1)) & targets.flatten(1).any(1)
        targets, boxes, valid = self._with_regions(seen, targets, boxes, valid, rng)
        rows, columns = frame.resized
        high, wide = frame.upright
        return Batch(
            image=seen.image[None],
            targets=targets[None],
            boxes=boxes[None],
            valid=valid[None],
            pixel=torch.tensor([[columns / wide, rows / high]], dtype=torch.float32),
            bounds=torch.tensor([[columns, rows]], dtype=torch.float32),
            seeds=torch.tensor([seed]),
            names=(f"{case_name(item.case)}, slice {item.index}",),
        )

    def _changed(
        self, image: MetaTensor, masks: Tensor, number: int, rng: np.random.Generator
    ) -> tuple[MetaTensor, Tensor]:
        """Slice and masks as `Shown.augment` and `Shown.variants` say."""
        if self.augment is None:
            return image, masks
        seed, variants = int(rng.integers(2**32)), self.shown.variants
        if variants is not None:
            variant = int(rng.integers(variants + 1))
            if variant == 0:
                return image, masks
            seed = int(np.random.default_rng([self.shown.seed, number, variant]).integers(2**32))
        self.augment.set_random_state(seed=seed)
        count = len(masks)
        # no resampling takes an empty stack
        changed = self.augment({"image": image, "masks": masks if count else torch.zeros(1, *image.shape[1:]).bool()})
        # otherwise everything was moved out of sight
        if not count or changed["masks"].flatten(1).any(1).any():
            return changed["image"], changed["masks"][:count]
        return image, masks

    def _with_regions(
        self, seen: ModelSlice, targets: Tensor, boxes: Tensor, valid: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Targets (P, s, s), boxes (P, 4) and what is valid, (P,), with regions in the place of some."""
        wanted, side, size = self.shown.masks_per_image, 4 * self.spec.embed_side, self.spec.image_size
        missing = wanted - len(targets)  # all of a slice without a structure
        if missing:
            targets = torch.cat([targets, targets.new_zeros(missing, side, side)])
            boxes = torch.cat([boxes, boxes.new_zeros(missing, 4)])
            valid = torch.cat([valid, valid.new_zeros(missing)])
        if not self.shown.pseudo:
            return targets, boxes, valid
        places = np.flatnonzero((rng.random(wanted) < self.shown.pseudo) | ~valid.numpy())
        rows, columns = (max(1, round(length * side / size)) for length in seen.frame.resized)
        picture = F.interpolate(seen.image.mean(0, keepdim=True)[None], (side, side), mode="area")[
            0, 0, :rows, :columns
        ]
        low, high = picture.amin(), picture.amax()
        grey = ((picture - low) / (high - low).clamp_min(1e-6)).numpy()
        found = torch.from_numpy(regions(grey, side, len(places), rng)) if len(places) else targets[:0]
        at = torch.from_numpy(places[: len(found)])
        targets, boxes, valid = targets.clone(), boxes.clone(), valid.clone()
        targets[at], boxes[at], valid[at] = found, boxes_round(found[None], size)[0], True
        return targets, boxes, valid

    def _chosen(self, item: SliceItem, rng: np.random.Generator) -> np.ndarray:
        """Which of the slice's structures are asked for, `masks_per_image` numbers."""
        count, wanted = len(item.structures), self.shown.masks_per_image
        if not count:
            return np.zeros(0, dtype=int)
        chances = np.array([self.rarity[name] for name in item.structures])
        chances /= chances.sum()
        if count >= wanted:
            return np.sort(rng.choice(count, wanted, replace=False, p=chances))
        return np.sort(np.concatenate([np.arange(count), rng.choice(count, wanted - count, p=chances)]))


def collate(parts: Sequence[Batch]) -> Batch:
    """Batches of one -> one."""
    tensors = [f.name for f in fields(Batch) if f.name != "names"]
    return Batch(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in tensors},
        names=tuple(name for part in parts for name in part.names),
    )


class ValidationSamples(Dataset[ValidationSample]):
    """Slices with fixed boxes and clicks, one at a time."""

    def __init__(
        self,
        data: MonaiDataset,
        items: Sequence[SliceItem],
        spec: ModelSpec,
        cases: Sequence[str],
        structures: Sequence[str],
        jitter_px: Sequence[int],
        seed: int,
    ) -> None:
        self.data, self.items, self.spec, self.jitter_px, self.seed = data, items, spec, jitter_px, seed
        self.cases: Mapping[str, int] = {name: place for place, name in enumerate(cases)}
        self.structures: Mapping[str, int] = {name: place for place, name in enumerate(structures)}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> ValidationSample:
        item = self.items[number]
        image, masks = unpack(self.data[number])
        seen = ModelSlice.of(image, masks, self.spec.preprocess)
        boxes = []
        for most in self.jitter_px:
            for structure, tight in zip(item.structures, seen.tight_boxes().astype(int).tolist(), strict=True):
                rng = seeded(self.seed, item.case.id, structure, item.index)
                boxes.append(jittered(tuple(tight), most, seen.frame.stored, rng))
        # a mask without a pixel has no middle
        clicks = np.array([next_click(mask) or (0, 0, 1) for mask in masks.numpy()])[:, :2]
        return ValidationSample(
            image=seen.image[None],
            masks=masks,
            boxes=torch.from_numpy(seen.frame.boxes(np.array(boxes))).view(len(self.jitter_px), len(masks), 4),
            clicks=torch.from_numpy(seen.frame.points(clicks)),
            frame=seen.frame,
            case=self.cases[case_name(item.case)],
            structures=tuple(self.structures[name] for name in item.structures),
            name=f"{case_name(item.case)}, slice {item.index}",
        )


def case_name(case: Case) -> str:
    """An id that no case of another data set has."""
    return f"{case.dataset}/{case.id}"
