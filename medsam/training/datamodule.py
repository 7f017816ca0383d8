"""Slices of manifests as batches, for Lightning.

Everything drawn at random is drawn from (seed, number of the draw): which slice (`sampler`), which of its structures,
how it is changed (`samples`). So workers, processes and a run that was killed and resumed all see the same data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from monai.data import CacheDataset, PersistentDataset
from monai.data import Dataset as MonaiDataset
from torch.utils.data import DataLoader

from medsam.data.manifest import Case, Manifest, Split, check_files, cross_case_problems
from medsam.data.manifest_json import read_manifest
from medsam.data.slices import SliceIndex, SliceItem, StoredSliced, index_slices
from medsam.errors import InputError
from medsam.files import write_whole
from medsam.geometry import Axis
from medsam.models.specs import ModelSpec
from medsam.progress import progress_bars
from medsam.prompts.simulate import MIN_PIXELS
from medsam.training.sampler import ResumableLoader, ResumableSampler
from medsam.training.samples import Shown, TrainingSamples, ValidationSamples, case_name, collate
from medsam.transforms.augment import AugmentSettings
from medsam.transforms.intensity import fixed_window


@dataclass(frozen=True)
class SamplingSettings:
    """Which slices a step of training sees.

    batch_size: images a step and process. masks_per_image: prompts asked of a slice at once: each of its structures, or
        when there are more a draw that favours rare ones; when there are fewer some again, with other noise.
        epoch_slices: draws an epoch; default one for every slice.
    pseudo: share of prompts that ask for a region that nobody drew, see `pseudo_masks`; cases without a label then give
        such regions alone. Without it they are left out.
    variants: with `augment`, there are only so many changed copies of a slice, the same in every epoch, so that their
        embeddings can be kept.
    balanced: slices are drawn so that rare structures are seen about as often as common ones (exactly so with one
        structure a slice, or masks_per_image 1); otherwise every slice is equally likely.
    seed: of everything that is drawn, the boxes of validation too.
    Raises InputError for a number that makes no sense.
    """

    batch_size: int = 8
    masks_per_image: int = 4
    epoch_slices: int | None = None
    balanced: bool = True
    seed: int = 0
    pseudo: float = 0.0
    variants: int | None = None

    def __post_init__(self) -> None:
        least = (("batch_size", 1), ("masks_per_image", 1), ("epoch_slices", 1), ("seed", 0), ("variants", 1))
        _check_numbers((name, getattr(self, name), low) for name, low in least)
        if not 0 <= self.pseudo <= 1:
            raise InputError(f"data.pseudo is a share from 0 to 1, not {self.pseudo}.")


@dataclass(frozen=True)
class CacheSettings:
    """Where prepared slices are kept: "memory", "disk" (under `folder`, shared between runs), or "none".

    Raises InputError for a disk without a folder.
    """

    where: Literal["memory", "disk", "none"] = "memory"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.where == "disk" and self.folder is None:
            raise InputError("data.cache is disk, so data.cache_dir has to name a folder.")


class SliceDataModule(LightningDataModule):
    """Train, validation and test slices of manifests; the splits are the manifests' own, by patient.

    manifests: files as for `medsam evaluate`. structures: learn only these; default every one. axis, window: as for
        `medsam segment`. min_pixels: a structure is learned from and scored on slices where it has that many.
    sampling, cache: see there. num_workers: processes that prepare batches.
    augment: see `AugmentSettings`; None for none, which cached embeddings need.
    val_jitter_px: boxes of validation; each edge moves outwards by up to so many stored pixels, always the same ones.
    limit: only the first so many cases of each split and manifest. slice_step: of neighbouring slices, which are much
        alike, only every so many.
    Raises InputError for what is wrong with the manifests.
    """

    def __init__(
        self,
        manifests: list[str],
        structures: list[str] | None = None,
        axis: Axis | None = None,
        window: str = "auto",
        min_pixels: int = MIN_PIXELS,
        sampling: SamplingSettings | None = None,
        augment: AugmentSettings | None = None,
        cache: CacheSettings | None = None,
        num_workers: int = 0,
        val_jitter_px: Sequence[int] = (0,),
        limit: int | None = None,
        slice_step: int = 1,
    ) -> None:
        super().__init__()
        self.manifests, self.structures_asked, self.axis, self.window = manifests, structures, axis, window
        self.min_pixels, self.sampling, self.augment = min_pixels, sampling or SamplingSettings(), augment
        self.cache, self.num_workers = cache or CacheSettings(), num_workers
        self.val_jitter_px, self.limit, self.slice_step = tuple(val_jitter_px), limit, slice_step
        self.notes: list[str] = []
        self._splits: dict[Split, SliceIndex] = {}
        self._datasets: dict[Split, MonaiDataset] = {}
        self._spec: ModelSpec | None = None
        self._loader: ResumableLoader | None = None
        self._position: dict[str, int] = {}
        _check_numbers((("min_pixels", min_pixels, 1), ("num_workers", num_workers, 0), ("limit", limit, 1)))
        _check_numbers((("slice_step", slice_step, 1),))
        if not manifests:
            raise InputError("data.manifests names no manifest.")
        if not val_jitter_px or min(val_jitter_px) < 0:
            raise InputError(f"data.val_jitter_px is a list of whole numbers from 0, not {[*val_jitter_px]}.")
        fixed_window(window)

    # -- Lightning's hooks ------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the manifests and search the labels of the splits that `stage` needs."""
        if self.trainer is None:
            raise RuntimeError("SliceDataModule works inside a Trainer.")
        spec = self.trainer.lightning_module.spec
        if not isinstance(spec, ModelSpec):
            raise InputError("SliceDataModule prepares slices for a module with a ModelSpec, such as SamFineTuning.")
        self.prepare(spec, stage, validated=self.trainer.limit_val_batches != 0)

    def prepare(self, spec: ModelSpec, stage: str = "fit", *, validated: bool = True) -> None:
        """`setup` for a model, without a Trainer. validated: whether fitting is watched on the split val."""
        self._spec = spec
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        if stage not in needed:
            raise InputError(
                f"There is nothing to prepare for {stage!r}: a SliceDataModule serves {', '.join(needed)}."
            )
        for split in needed[stage] if validated or stage != "fit" else ("train",):
            if split not in self._splits:
                self._splits[split] = self._index(split)
                self._kept(split)  # prepared here, where a progress bar can be shown

    def train_dataloader(self) -> ResumableLoader:
        index, data = self._splits["train"], self._kept("train")
        sampling = self.sampling
        samples = self._samples(data, index)
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        batches = ResumableSampler(
            samples.weights if sampling.balanced else np.ones(len(index.items)),
            sampling.batch_size,
            sampling.epoch_slices or len(index.items),
            sampling.seed,
            rank,
            world,
        )
        self._loader = ResumableLoader(
            samples,
            batch_sampler=batches,
            collate_fn=self._collate,
            num_workers=self.num_workers,
            persistent_workers=False,
        )
        if self._position:
            self._loader.load_state_dict(self._position)
        return self._loader

    def state_dict(self) -> dict[str, int]:
        """How far training is. Lightning asks the loader, too, but does not tell it again where the schedule needs the
        loader, for the number of steps, before the checkpoint is read."""
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._position = state
        if self._loader is not None and state:
            self._loader.load_state_dict(state)

    def end_epoch(self) -> None:
        """Training was stopped inside an epoch, which Lightning takes for its end: so do the draws."""
        if self._loader is not None:
            self._loader.end_epoch()

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return self._scored("val") if self.has("val") else []

    def test_dataloader(self) -> DataLoader:
        return self._scored("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch.to(device)

    # -- what the module asks -----------------------------------------------------------------------------------------

    @property
    def structures(self) -> tuple[str, ...]:
        """Every structure of the splits that are set up, in a fixed order."""
        return tuple(
            sorted({name for index in self._splits.values() for item in index.items for name in item.structures})
        )

    def cases(self, split: Split) -> tuple[str, ...]:
        """Ids of the cases a split is scored on, in order."""
        return tuple(dict.fromkeys(case_name(item.case) for item in self._splits[split].items))

    @property
    def changes(self) -> bool:
        """Whether a slice is another one every time that it is met."""
        return self.augment is not None and self.sampling.variants is None

    def has(self, split: Split) -> bool:
        """Whether a split is set up."""
        return split in self._splits

    def card(self) -> dict[str, Any]:
        """What a checkpoint should say about its data: plain values, no paths and no patients."""
        train = self._splits["train"]
        return {
            "data": sorted({item.case.dataset for item in train.items}),
            "data_digest": train.digest,
            "structures": list(self.structures),
            "cases": len({case_name(item.case) for item in train.items}),
            "slices": len(train.items),
        }

    # -- what another kind of training changes ------------------------------------------------------------------------

    # whether slices without a structure are among those of labelled cases
    _bare = False
    _collate: Any = staticmethod(collate)

    def _samples(self, data: MonaiDataset, index: SliceIndex) -> Any:
        """What the training split's slices become: a data set with `weights`."""
        sampling = self.sampling
        shown = Shown(sampling.masks_per_image, sampling.seed, self.augment, sampling.variants, sampling.pseudo)
        return TrainingSamples(data, index.items, self._model, shown)

    def _validation_samples(self, data: MonaiDataset, index: SliceIndex, split: Split) -> Any:
        """What the slices of a split that is scored become: a data set."""
        return ValidationSamples(
            data, index.items, self._model, self.cases(split), self.structures, self.val_jitter_px, self.sampling.seed
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> ModelSpec:
        if self._spec is None:
            raise RuntimeError("SliceDataModule.setup comes first.")
        return self._spec

    @cached_property
    def _read(self) -> list[Manifest]:
        return _read_manifests(self.manifests)

    def _index(self, split: Split) -> SliceIndex:
        cases: list[Case] = []
        unlabelled = split == "train" and self.sampling.pseudo > 0
        for manifest in self._read:
            cases += [case for case in manifest.in_split(split) if unlabelled or case.label is not None][: self.limit]
        if not cases:
            raise InputError(
                f"No case with a label is in the split {split!r} of {', '.join(map(str, self.manifests))}. Training "
                "needs train and val, testing needs test: medsam data split assigns all three by patient."
            )
        check_files((case.id, path) for case in cases for path in case.files)
        folder = self._folder
        with progress_bars(f"Labels of {split}") as (progress,):
            index = index_slices(
                cases,
                structures=self.structures_asked,
                axis=self.axis,
                window=self.window,
                min_pixels=self.min_pixels,
                bare=self._bare,
                step=self.slice_step,
                folder=None if folder is None else folder / "index",
                progress=progress,
            )
        of_all = f"of {len(cases)} cases of {split}"
        if index.empty:
            self.notes.append(
                f"{len(index.empty)} {of_all} have no structure of {self.min_pixels} pixels on any slice and are left "
                f"out: {_first_ten(index.empty)}."
            )
        if index.not_hu:
            self.notes.append(
                f"{len(index.not_hu)} {of_all} are CT, and their files do not say that the values are HU: each is "
                f"windowed by its own percentiles: {_first_ten(index.not_hu)}."
            )
        if not index.items:
            raise InputError(
                f"No case of the split {split!r} has a structure of {self.min_pixels} pixels on any slice: there is "
                "nothing to learn from. Look at the labels with medsam data check, or lower data.min_pixels."
            )
        return index

    @property
    def _folder(self) -> Path | None:
        """Where slices are kept on a disk."""
        return self.cache.folder if self.cache.where == "disk" else None

    def _kept(self, split: Split) -> MonaiDataset:
        """The split's slices behind MONAI's cache of the user's choice; filled when first asked for."""
        if split not in self._datasets:
            self._datasets[split] = self._cached(split, self._splits[split].items)
        return self._datasets[split]

    def _cached(self, split: Split, items: Sequence[SliceItem]) -> MonaiDataset:
        if self.cache.where == "memory":
            # copies are not needed: nothing after the cache changes what it holds
            return CacheDataset(items, [StoredSliced()], num_workers=1, progress=False, copy_cache=False)
        if self._folder is None:
            return MonaiDataset(items, [StoredSliced(open_cases=4)])
        folder = self._folder / "slices"
        folder.mkdir(parents=True, exist_ok=True)
        data = PersistentDataset(items, [StoredSliced()], folder, hash_func=_key)
        missing = [item for item in items if not (folder / f"{item.key}.pt").exists()]
        prepare = StoredSliced()
        with progress_bars(f"Slices of {split}") as (progress,):
            for done, item in enumerate(missing):
                progress(done, len(missing))
                # not by MONAI, which copies from another folder: a run killed meanwhile would leave half a file
                with write_whole(folder / f"{item.key}.pt") as part:
                    torch.save(prepare(item), part)
        return data

    def _scored(self, split: Split) -> DataLoader:
        index = self._splits[split]
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        samples = self._validation_samples(self._kept(split), index, split)
        numbers = range(rank, len(index.items), world)  # every slice once, however many processes
        return DataLoader(samples, batch_size=None, sampler=numbers, num_workers=self.num_workers)


def _read_manifests(paths: Sequence[str]) -> list[Manifest]:
    """The manifests, once no patient is in training in one and scored in another."""
    manifests: list[Manifest] = []
    of_name: dict[str, list[Case]] = defaultdict(list)
    splits: dict[tuple[Path, int | None], Split] = {}
    for path in paths:
        manifest = read_manifest(path)
        if not any(case.split for case in manifest.cases):
            raise InputError(
                f"The manifest {manifest.name} assigns no split. Make one by patient: medsam data split {path} "
                "--out SPLIT.json."
            )
        of_name[manifest.name] += manifest.cases
        for case in manifest.cases:
            image = (case.image.resolve(), case.frame)
            if case.split is not None and splits.setdefault(image, case.split) != case.split:
                raise InputError(
                    f"{case.image} is in the split {splits[image]!r} of one manifest and in {case.split!r} of "
                    f"{manifest.name}. What is trained on must not be scored: split them together."
                )
        manifests.append(manifest)
    for name, together in of_name.items():
        # one name is one data set, in however many files: no patient may be trained on in one and scored in another
        for problem in cross_case_problems(Manifest(name, None, {}, tuple(together))):
            raise InputError(
                f"Several manifests are called {name}, and taken together {problem} If they are different data "
                "sets, give them different names."
            )
    return manifests


def _check_numbers(numbers: Iterable[tuple[str, int | None, int]]) -> None:
    """(name, value, least); InputError for a value below."""
    for name, value, low in numbers:
        if value is not None and value < low:
            raise InputError(f"data.{name} is a whole number from {low}, not {value}.")


def _first_ten(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")


def _key(item: SliceItem) -> bytes:
    # a function of the module: worker processes that are not forked are sent it by name
    return item.key.encode()
