"""Slices and names as batches: of what is on a slice, and of what is not. Letters as in `medsam.models.name_head`.

A name is shown by any of its English phrases, so that what is learnt is the structure and not the spelling. Half of all
names are never shown as absent: false alarms are measured on them (`absent_names`).

With CLIP a name is shown by pictures of masks (`mask_crops`), and asked for by its phrase in validation and ever after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from monai.data import Dataset as MonaiDataset
from torch import Tensor
from torch.utils.data import Dataset

from medsam.data.manifest import Split
from medsam.data.slices import ModelSlice, SliceIndex, SliceItem, unpack
from medsam.errors import AssetError, InputError, PromptError
from medsam.geometry import Axis
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.naming import understand
from medsam.labels import english, nameable
from medsam.models.clip import Clip
from medsam.models.name_bank import name_bank
from medsam.models.name_head import slice_places
from medsam.models.specs import ModelSpec
from medsam.models.text_encoder import PhraseEncoder
from medsam.training.batch import moved
from medsam.training.datamodule import CacheSettings, SamplingSettings
from medsam.training.detector_data import DetectorDataModule, DetectorSamples
from medsam.training.mask_crops import CropSettings, MaskPrompts, check_shown, mask_prompts
from medsam.training.samples import Shown, case_name
from medsam.transforms.augment import AugmentSettings

# a canonical name -> its embedding (E,)
Embed: TypeAlias = Callable[[str], Tensor]


@dataclass(frozen=True, eq=False)
class NamesBatch:
    """B slices with P names each.

    image: (B, 3, S, S). names: (B, P, E) embeddings. places: (B, P, 4). targets: bool (B, P, s, s), empty where the
    structure is absent. present: bool (B, P). numbers: (B, P) places among the classes, -1 for other names. labels:
    "case, slice" of each slice. cases: the case of each.
    """

    image: Tensor
    names: Tensor
    places: Tensor
    targets: Tensor
    present: Tensor
    numbers: Tensor
    labels: tuple[str, ...]
    cases: tuple[str, ...]

    def to(self, device: torch.device) -> NamesBatch:
        return moved(self, device)


def collate(parts: Sequence[NamesBatch]) -> NamesBatch:
    """Batches of one -> one."""
    tensors = ("image", "names", "places", "targets", "present", "numbers")
    return NamesBatch(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in tensors},
        labels=tuple(label for part in parts for label in part.labels),
        cases=tuple(case for part in parts for case in part.cases),
    )


def absent_names(
    present: Sequence[str], unsure: Sequence[str] = (), part: Literal["learn", "test"] = "learn"
) -> list[str]:
    """Canonical names of what is absent where only `present` is known to be there; each is in one of the two parts.

    Names that share a word with one that is present are left out ("hippocampus" where its head is), and so are those
    of `unsure`, which begins of names are enough for: what may well be there although nobody drew it ("cerebral").
    """
    words = {word for name in present for word in name.split("_")} - {"left", "right"}
    clear = [
        name
        for name in nameable()
        if not words & set(name.split("_")) and not any(name.startswith(begin) for begin in unsure)
    ]
    return [name for name in clear if (hashlib.sha256(name.encode()).digest()[0] % 2 == 0) == (part == "learn")]


@dataclass(frozen=True)
class Asked:
    """What a slice is asked for. names: label of the data -> canonical name. absent: names of which one is drawn.

    per_slice: names a slice, P. side: of the logits.
    """

    names: Mapping[str, str]
    absent: tuple[str, ...]
    per_slice: int
    side: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The canonical names, in a fixed order."""
        return tuple(dict.fromkeys(self.names.values()))


class NamesSamples(DetectorSamples):
    """(number of a slice, number of the draw) -> a batch of one."""

    def __init__(
        self,
        data: MonaiDataset,
        items: Sequence[SliceItem],
        spec: ModelSpec,
        shown: Shown,
        asked: Asked,
        negatives: float,
        places: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__(data, items, spec, shown, tuple(asked.names), negatives)
        self.asked, self.places = asked, places

    def __getitem__(self, drawn: tuple[int, int]) -> NamesBatch:  # type: ignore[override]
        number, draw = drawn
        rng = np.random.default_rng([self.shown.seed, draw])
        image, masks = unpack(self.data[number])
        image, masks = self._changed(image, masks, number, rng)
        seen, item = ModelSlice.of(image, masks, self.spec.preprocess), self.items[number]
        there = [self.asked.names[label] for label in item.structures]
        missing = [name for name in self.asked.classes if name not in there]
        # of what the data knows, what is not on this slice says more than what is nowhere
        absent = self.asked.absent
        strangers = rng.choice(len(absent), self.asked.per_slice).tolist() if absent else []
        wanted = [*rng.permutation(there), *rng.permutation(missing)][: self.asked.per_slice - bool(len(strangers))]
        wanted = [*wanted, *(absent[place] for place in strangers)][: self.asked.per_slice]
        embedded = torch.stack([_phrase(name, rng) for name in wanted])
        return batch_of(seen, item, wanted, embedded, self.asked, self.places[case_name(item.case)])


class ShownSamples(NamesSamples):
    """As `NamesSamples`, names shown by pictures of masks: of those on the slice, and of those that are on others.

    There are no pictures of what is nowhere. A slice on which nothing can be asked gives way to another one.
    """

    prompts: MaskPrompts
    elsewhere = 0.0

    def show(self, prompts: MaskPrompts, elsewhere: float) -> ShownSamples:
        """Itself, with what masks look like. elsewhere: see `CropSettings`."""
        self.prompts, self.elsewhere = prompts, elsewhere
        self._usable = np.array([number for number in range(len(self.items)) if any(self._askable(number))])
        return self

    def _askable(self, number: int) -> tuple[list[str], list[str]]:
        """Labels that a slice shows, and those of structures that are not on it; what is too small is neither."""
        on = {self.asked.names[label] for label in self.items[number].structures}
        missing = [label for label in sorted(self.prompts.structures) if self.asked.names[label] not in on]
        return list(self.prompts.on(number)), missing

    def __getitem__(self, drawn: tuple[int, int]) -> NamesBatch:  # type: ignore[override]
        number, draw = drawn
        rng = np.random.default_rng([self.shown.seed, draw])
        if number not in self._usable:
            number = int(rng.choice(self._usable))
        image, masks = unpack(self.data[number])
        image, masks = self._changed(image, masks, number, rng)
        seen, item, count = ModelSlice.of(image, masks, self.spec.preprocess), self.items[number], self.asked.per_slice
        there, missing = self._askable(number)
        # one that is not there, where there is any, and several pictures of a name where there are too few names
        labels = [*rng.permutation(there)[: max(1, count - bool(missing))]]
        labels += [label for _ in range(count) for label in rng.permutation(missing or there)]
        labels = [str(label) for label in labels[:count]]
        embedded = [
            self.prompts.draw(label, number if label in there and rng.random() >= self.elsewhere else None, rng)
            for label in labels
        ]
        wanted = [self.asked.names[label] for label in labels]
        return batch_of(seen, item, wanted, torch.stack(embedded), self.asked, self.places[case_name(item.case)])


class NamesSlices(Dataset[NamesBatch]):
    """Slices as they are, asked for every class by its usual phrase and for one structure that is nowhere.

    embed: what a phrase is.
    """

    def __init__(
        self,
        data: MonaiDataset,
        items: Sequence[SliceItem],
        spec: ModelSpec,
        asked: Asked,
        places: Mapping[str, np.ndarray],
        embed: Embed,
    ) -> None:
        self.data, self.items, self.spec, self.asked, self.places = data, items, spec, asked, places
        self.embed = embed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> NamesBatch:
        image, masks = unpack(self.data[number])
        item = self.items[number]
        seen = ModelSlice.of(image, masks, self.spec.preprocess)
        stranger = self.asked.absent[number % len(self.asked.absent)] if self.asked.absent else None
        wanted = [*self.asked.classes, *([stranger] if stranger else [])]
        embedded = torch.stack([self.embed(name) for name in wanted])
        return batch_of(seen, item, wanted, embedded, self.asked, self.places[case_name(item.case)])


def _phrase(name: str, rng: np.random.Generator | None = None) -> Tensor:
    """What MiniLM says of a phrase of a name, (E,). rng: draws one; None: the usual one."""
    known = name_bank().of(name)
    return known[0 if rng is None else int(rng.integers(len(known)))]


def batch_of(
    seen: ModelSlice, item: SliceItem, wanted: Sequence[str], embedded: Tensor, asked: Asked, places: np.ndarray
) -> NamesBatch:
    """A slice and names for it. embedded: what they are shown by, (P, E). places: of the slices of its scan."""
    side = asked.side
    there = {asked.names[label]: number for number, label in enumerate(item.structures)}
    targets = seen.targets(side)
    chosen = torch.zeros(len(wanted), side, side, dtype=torch.bool)
    for row, name in enumerate(wanted):
        if name in there:
            chosen[row] = targets[there[name]]
    numbers = [asked.classes.index(name) if name in asked.classes else -1 for name in wanted]
    case = case_name(item.case)
    return NamesBatch(
        image=seen.image[None],
        names=embedded[None],
        places=torch.from_numpy(places[item.index]).expand(1, len(wanted), -1),
        targets=chosen[None],
        present=torch.tensor([[name in there for name in wanted]]),
        numbers=torch.tensor([numbers]),
        labels=(f"{case}, slice {item.index}",),
        cases=(case,),
    )


class NamesDataModule(DetectorDataModule):
    """Every slice of labelled cases with names of what is on it and of what is not.

    names: label of the manifests -> a name of the structure, in any of the four languages; labels that are not in it
    have to be names themselves. unsure: see `absent_names`. names_per_slice: P. crops: how masks are shown to CLIP,
    where one is given (`use_clip`). All else as `DetectorDataModule`.
    Raises InputError for flips, which would make left right, and for labels that name no structure.
    """

    _collate = staticmethod(collate)  # type: ignore[assignment]
    # of the head that learns from them
    stride = 1

    def __init__(
        self,
        *settings: object,
        names: Mapping[str, str] | None = None,
        unsure: Sequence[str] = (),
        names_per_slice: int = 3,
        negatives: float = 0.3,
        crops: CropSettings | None = None,
    ) -> None:
        super().__init__(*settings, negatives=negatives)
        self.crops = crops
        self._phrases: dict[str, Tensor] = {}
        self._prompts: MaskPrompts | None = None
        if names_per_slice < 1:
            raise InputError(f"data.names_per_slice is a whole number from 1, not {names_per_slice}.")
        if self.augment is not None and (self.augment.flip_columns or self.augment.flip_rows):
            raise InputError(
                "data.augment flips slices, and a name like 'left kidney' would then be shown on the right one: set "
                "flip_rows and flip_columns to false."
            )
        self.names_given, self.unsure, self.names_per_slice = dict(names or {}), tuple(unsure), names_per_slice

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical names of the structures of the training split, in a fixed order."""
        return self._asked("learn").classes

    def use_clip(self, clip: Clip, cache: EmbeddingCache) -> None:
        """Have names shown by what CLIP says of masks in training, and asked by what it says of phrases.

        cache: what it said of masks before. Raises InputError where it cannot be shown every structure.
        """
        names = sorted({*nameable(), *self._asked("learn").classes})
        self._phrases = dict(zip(names, clip.texts([english(name) for name in names]), strict=True))
        if self.has("train"):
            settings, items = self.crops or CropSettings(), self._splits["train"].items
            prompts = mask_prompts(self._kept("train"), items, self._model, clip, settings, self.sampling.seed, cache)
            labels = {label for item in items for label in item.structures}
            names_of = self._asked("learn").names
            check_shown(prompts, {label: names_of[label] for label in labels}, settings)
            self._prompts = prompts

    @property
    def by_clip(self) -> bool:
        """Whether `use_clip` was called."""
        return bool(self._phrases)

    def _asked(self, part: Literal["learn", "test"]) -> Asked:
        labels = sorted({name for index in self._splits.values() for item in index.items for name in item.structures})
        names = {label: self._named(label) for label in labels}
        absent = tuple(absent_names(tuple(names.values()), self.unsure, part))
        return Asked(names, absent, self.names_per_slice, 4 * self._model.embed_side // self.stride)

    def _named(self, label: str) -> str:
        called = self.names_given.get(label, label)
        try:
            # no phrases: a configuration says what it means
            return understand(called, encoder=_no_phrases).name
        except PromptError as error:
            raise InputError(f"data.names says what label {label!r} is called, and does not: {error}") from error

    def _places(self, items: Sequence[SliceItem]) -> dict[str, np.ndarray]:
        return {
            name: slice_places(item.case.load_image().geometry, item.axis)
            for name, item in {case_name(item.case): item for item in items}.items()
        }

    def _samples(self, data: MonaiDataset, index: SliceIndex) -> NamesSamples:
        sampling = self.sampling
        shown = Shown(1, sampling.seed, self.augment, sampling.variants)
        asked, places = self._asked("learn"), self._places(index.items)
        given = (data, index.items, self._model, shown, asked, self.negatives, places)
        if self._prompts is not None:
            return ShownSamples(*given).show(self._prompts, (self.crops or CropSettings()).elsewhere)
        return NamesSamples(*given)

    def _validation_samples(self, data: MonaiDataset, index: SliceIndex, split: Split) -> NamesSlices:  # type: ignore[override]
        asked = self._asked("test" if split == "test" else "learn")
        embed: Embed = self._phrases.__getitem__ if self.by_clip else _phrase
        return NamesSlices(data, index.items, self._model, asked, self._places(index.items), embed)

    def names_said(self) -> dict[str, str]:
        """Label -> what it was read as, in English."""
        return {label: english(name) for label, name in self._asked("learn").names.items()}


def _no_phrases() -> PhraseEncoder:
    raise AssetError("Names of labels are taken from the table alone.")


def names_data(
    manifests: list[str],
    structures: list[str] | None = None,
    names: dict[str, str] = {},  # noqa: B006 - read only; jsonargparse shows it as it is
    unsure: list[str] = [],  # noqa: B006
    axis: Axis | None = None,
    window: str = "auto",
    min_pixels: int = 3,
    batch_size: int = 4,
    names_per_slice: int = 3,
    epoch_slices: int | None = None,
    balanced: bool = True,
    negatives: float = 0.2,
    slice_step: int = 1,
    variants: int | None = None,
    augment: AugmentSettings | None = None,
    crops: CropSettings | None = None,
    cache: Literal["memory", "disk", "none"] = "memory",
    cache_dir: str | None = None,
    num_workers: int = 0,
    limit: int | None = None,
    seed: int = 0,
) -> NamesDataModule:
    """`NamesDataModule`, its groups of settings side by side: options and configurations say data.batch_size."""
    return NamesDataModule(
        manifests,
        structures,
        axis,
        window,
        min_pixels,
        SamplingSettings(batch_size, 1, epoch_slices, balanced, seed, 0.0, variants),
        augment,
        CacheSettings(cache, None if cache_dir is None else Path(cache_dir)),
        num_workers,
        (0,),
        limit,
        slice_step,
        names=names,
        unsure=unsure,
        names_per_slice=names_per_slice,
        negatives=negatives,
        crops=crops,
    )


# LightningCLI wants the class itself, not its name
names_data.__annotations__["return"] = NamesDataModule
