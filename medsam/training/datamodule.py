"""Slices of manifests as batches, for Lightning.

Everything drawn at random is drawn from (seed, number of the draw): which slice, which of its structures, how it is
changed. So workers, processes and a run that was killed and resumed all see the same data.
Letters: B images, P prompts an image, V boxes a prompt in validation, S side of the model input, s of its logits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from monai.data import CacheDataset, PersistentDataset
from monai.data import Dataset as MonaiDataset
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medsam.data.manifest import Case, Manifest, Split, check_files, cross_case_problems
from medsam.data.manifest_json import read_manifest
from medsam.data.slices import ModelSlice, SliceIndex, SliceItem, StoredSliced, index_slices, unpack
from medsam.errors import InputError
from medsam.files import write_whole
from medsam.geometry import Axis
from medsam.models.specs import ModelSpec
from medsam.progress import progress_bars
from medsam.prompts.simulate import MIN_PIXELS, jittered, seeded
from medsam.transforms.augment import AugmentSettings, RandAugmentd
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import fixed_window


@dataclass(frozen=True, eq=False)
class Batch:
    """Training: B images with P prompts each. valid: where the structure can still be seen, bool (B, P).

    image: (B, 3, S, S). targets: bool (B, P, s, s). boxes: tight, (B, P, 4) in model pixels. pixel: (B, 2) model pixels
    in a stored one, (x, y). bounds: (B, 2) how far the slice reaches in the model input, (x, y). seeds: (B,) for what
    the prompts draw. names: "case, slice" of each image.
    """

    image: Tensor
    targets: Tensor
    boxes: Tensor
    valid: Tensor
    pixel: Tensor
    bounds: Tensor
    seeds: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        return _moved(self, device)


@dataclass(frozen=True, eq=False)
class Exam:
    """Validation: one slice with every structure and the boxes it is asked with.

    image: (1, 3, S, S). masks: bool (P, h, w) stored pixels. boxes: (V, P, 4) model pixels, one set a jitter.
    case: its place among the split's cases. structures: places among the data's structures, (P,).
    """

    image: Tensor
    masks: Tensor
    boxes: Tensor
    frame: Frame
    case: int
    structures: tuple[int, ...]
    name: str

    def to(self, device: torch.device) -> Exam:
        return _moved(self, device)


def _moved(batch: Any, device: torch.device) -> Any:
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved = {name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)}
    return replace(batch, **moved)


class SliceDataModule(LightningDataModule):
    """Train, validation and test slices of manifests; the splits are the manifests' own, by patient.

    manifests: files as for `medsam evaluate`. structures: learn only these; default every one. axis, window: as for
        `medsam segment`. min_pixels: a structure is learned from and scored on slices where it has that many.
    batch_size: images a step and process. masks_per_image: prompts asked of a slice at once: each of its structures, or
        when there are more a draw that favours rare ones; when there are fewer some again, with other noise.
        epoch_slices: draws an epoch; default one for every slice.
    balanced: slices are drawn so that rare structures are seen about as often as common ones (exactly so with one
        structure a slice, or masks_per_image 1); otherwise every slice is equally likely.
    augment: see `AugmentSettings`; null for none, which cached embeddings need.
    cache: where prepared slices are kept: "memory", "disk" (under cache_dir, shared between runs), or "none".
    val_jitter_px: boxes of validation; each edge moves outwards by up to so many stored pixels, always the same ones.
    limit: only the first so many cases of each split and manifest.
    Raises InputError for what is wrong with the manifests.
    """

    def __init__(
        self,
        manifests: list[str],
        structures: list[str] | None = None,
        axis: Axis | None = None,
        window: str = "auto",
        min_pixels: int = MIN_PIXELS,
        batch_size: int = 8,
        masks_per_image: int = 4,
        epoch_slices: int | None = None,
        balanced: bool = True,
        augment: AugmentSettings | None = None,
        cache: Literal["memory", "disk", "none"] = "memory",
        cache_dir: str | None = None,
        num_workers: int = 0,
        val_jitter_px: list[int] = [0],  # noqa: B006 - read only; jsonargparse shows it as it is
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.manifests, self.structures_asked, self.axis, self.window = manifests, structures, axis, window
        self.min_pixels, self.batch_size, self.masks_per_image = min_pixels, batch_size, masks_per_image
        self.epoch_slices, self.balanced, self.augment = epoch_slices, balanced, augment
        self.cache, self.cache_dir = cache, Path(cache_dir or "")
        self.num_workers, self.val_jitter_px, self.limit, self.seed = num_workers, tuple(val_jitter_px), limit, seed
        self.notes: list[str] = []
        self._splits: dict[Split, SliceIndex] = {}
        self._datasets: dict[Split, MonaiDataset] = {}
        self._spec: ModelSpec | None = None
        self._loader: ResumableLoader | None = None
        self._position: dict[str, int] = {}
        for name, value, low in (
            ("min_pixels", min_pixels, 1),
            ("batch_size", batch_size, 1),
            ("masks_per_image", masks_per_image, 1),
            ("epoch_slices", epoch_slices, 1),
            ("num_workers", num_workers, 0),
            ("limit", limit, 1),
            ("seed", seed, 0),
        ):
            if value is not None and value < low:
                raise InputError(f"data.{name} is a whole number from {low}, not {value}.")
        if cache == "disk" and cache_dir is None:
            raise InputError("data.cache is disk, so data.cache_dir has to name a folder.")
        if not manifests:
            raise InputError("data.manifests names no manifest.")
        if not val_jitter_px or min(val_jitter_px) < 0:
            raise InputError(f"data.val_jitter_px is a list of whole numbers from 0, not {val_jitter_px}.")
        fixed_window(window)

    # -- Lightning's hooks ------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the manifests and look through the labels of the splits that `stage` needs."""
        if self.trainer is None:
            raise RuntimeError("SliceDataModule works inside a Trainer.")
        spec = self.trainer.lightning_module.spec
        if not isinstance(spec, ModelSpec):
            raise InputError("SliceDataModule prepares slices for a module with a ModelSpec, such as SamFineTuning.")
        self.prepare(spec, stage)

    def prepare(self, spec: ModelSpec, stage: str = "fit") -> None:
        """`setup` for a model, without a Trainer."""
        self._spec = spec
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        if stage not in needed:
            raise InputError(
                f"There is nothing to prepare for {stage!r}: a SliceDataModule serves {', '.join(needed)}."
            )
        for split in needed[stage]:
            if split not in self._splits:
                self._splits[split] = self._index(split)
                self._kept(split)  # prepared here, where a progress bar can be shown

    def train_dataloader(self) -> ResumableLoader:
        index, data = self._splits["train"], self._kept("train")
        slices = TrainingSlices(data, index.items, self._model, self.augment, self.masks_per_image, self.seed)
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        batches = Draws(
            slices.weights if self.balanced else np.ones(len(index.items)),
            self.batch_size,
            self.epoch_slices or len(index.items),
            self.seed,
            rank,
            world,
        )
        self._loader = ResumableLoader(
            slices,
            batch_sampler=batches,
            collate_fn=collate,
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

    def val_dataloader(self) -> DataLoader:
        return self._exams("val")

    def test_dataloader(self) -> DataLoader:
        return self._exams("test")

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
        return tuple(dict.fromkeys(_name(item.case) for item in self._splits[split].items))

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
            "cases": len({_name(item.case) for item in train.items}),
            "slices": len(train.items),
        }

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> ModelSpec:
        if self._spec is None:
            raise RuntimeError("SliceDataModule.setup comes first.")
        return self._spec

    @cached_property
    def _read(self) -> list[Manifest]:
        """The manifests, once nobody in them is trained on here and scored there."""
        manifests: list[Manifest] = []
        of_name: dict[str, list[Case]] = defaultdict(list)
        splits: dict[tuple[Path, int | None], Split] = {}
        for path in self.manifests:
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
            # one name is one data set, in however many files: nobody may be trained on in one and scored in another
            for problem in cross_case_problems(Manifest(name, None, {}, tuple(together))):
                raise InputError(
                    f"Several manifests are called {name}, and taken together {problem} If they are different data "
                    "sets, give them different names."
                )
        return manifests

    def _index(self, split: Split) -> SliceIndex:
        cases: list[Case] = []
        for manifest in self._read:
            cases += [case for case in manifest.in_split(split) if case.label is not None][: self.limit]
        if not cases:
            raise InputError(
                f"No case with a label is in the split {split!r} of {', '.join(map(str, self.manifests))}. Training "
                "needs train and val, testing needs test: medsam data split assigns all three by patient."
            )
        check_files((case.id, path) for case in cases for path in case.files)
        folder = self.cache_dir / "index" if self.cache == "disk" else None
        with progress_bars(f"Labels of {split}") as (progress,):
            index = index_slices(
                cases,
                structures=self.structures_asked,
                axis=self.axis,
                window=self.window,
                min_pixels=self.min_pixels,
                folder=folder,
                progress=progress,
            )
        if index.empty:
            listed = ", ".join(index.empty[:10]) + (" ..." if len(index.empty) > 10 else "")
            self.notes.append(
                f"{len(index.empty)} of {len(cases)} cases of {split} have no structure of {self.min_pixels} pixels on "
                f"any slice and are left out: {listed}."
            )
        if index.not_hu:
            listed = ", ".join(index.not_hu[:10]) + (" ..." if len(index.not_hu) > 10 else "")
            self.notes.append(
                f"{len(index.not_hu)} of {len(cases)} cases of {split} are CT, and their files do not say that the "
                f"values are HU: each is windowed by its own percentiles: {listed}."
            )
        if not index.items:
            raise InputError(
                f"No case of the split {split!r} has a structure of {self.min_pixels} pixels on any slice: there is "
                "nothing to learn from. Look at the labels with medsam data check, or lower data.min_pixels."
            )
        return index

    def _kept(self, split: Split) -> MonaiDataset:
        """The split's slices behind MONAI's cache of the user's choice; filled when first asked for."""
        if split in self._datasets:
            return self._datasets[split]
        items = self._splits[split].items
        if self.cache == "disk":
            folder = self.cache_dir / "slices"
            folder.mkdir(parents=True, exist_ok=True)
            data: MonaiDataset = PersistentDataset(items, [StoredSliced()], folder, hash_func=_key)
            missing = [item for item in items if not (folder / f"{item.key}.pt").exists()]
            prepare = StoredSliced()
            with progress_bars(f"Slices of {split}") as (progress,):
                for done, item in enumerate(missing):
                    progress(done, len(missing))
                    # not by MONAI, which copies from another folder: a run killed meanwhile would leave half a file
                    with write_whole(folder / f"{item.key}.pt") as part:
                        torch.save(prepare(item), part)
        elif self.cache == "memory":
            # copies are not needed: nothing after the cache changes what it holds
            data = CacheDataset(items, [StoredSliced()], num_workers=1, progress=False, copy_cache=False)
        else:
            data = MonaiDataset(items, [StoredSliced(open_cases=4)])
        self._datasets[split] = data
        return data

    def _exams(self, split: Split) -> DataLoader:
        index = self._splits[split]
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        exams = Exams(
            self._kept(split),
            index.items,
            self._model,
            self.cases(split),
            self.structures,
            self.val_jitter_px,
            self.seed,
        )
        numbers = range(rank, len(index.items), world)  # every slice once, however many processes
        return DataLoader(exams, batch_size=None, sampler=numbers, num_workers=self.num_workers)


class TrainingSlices(Dataset[Batch]):
    """(number of a slice, number of the draw) -> a batch of one. weights: how often each slice should be drawn."""

    def __init__(
        self,
        data: MonaiDataset,
        items: Sequence[SliceItem],
        spec: ModelSpec,
        augment: AugmentSettings | None,
        masks_per_image: int,
        seed: int,
    ) -> None:
        self.data, self.items, self.spec, self.masks_per_image, self.seed = data, items, spec, masks_per_image, seed
        self.augment = None if augment is None else RandAugmentd(settings=augment)
        counts = Counter(name for item in items for name in item.structures)
        self.rarity = {name: 1 / count for name, count in counts.items()}
        self.weights = np.array([sum(self.rarity[name] for name in item.structures) for item in items])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, drawn: tuple[int, int]) -> Batch:
        number, draw = drawn
        item = self.items[number]
        rng = np.random.default_rng([self.seed, draw])
        image, masks = unpack(self.data[number])
        masks = masks[self._chosen(item, rng)]
        seed = int(rng.integers(2**63))
        side = 4 * self.spec.embed_side
        if self.augment is not None:
            self.augment.set_random_state(seed=int(rng.integers(2**32)))
            changed = self.augment({"image": image, "masks": masks})
            if changed["masks"].flatten(1).any(1).any():  # otherwise everything was moved out of sight
                image, masks = changed["image"], changed["masks"]
        seen = ModelSlice.of(image, masks, self.spec.preprocess)
        tight = seen.tight_boxes()
        targets = seen.targets(side)
        valid = torch.from_numpy(np.isfinite(tight).all(1)) & targets.flatten(1).any(1)
        frame = seen.frame
        rows, columns = frame.resized
        high, wide = frame.upright
        return Batch(
            image=seen.image[None],
            targets=targets[None],
            boxes=torch.from_numpy(frame.boxes(np.nan_to_num(tight)))[None],
            valid=valid[None],
            pixel=torch.tensor([[columns / wide, rows / high]], dtype=torch.float32),
            bounds=torch.tensor([[columns, rows]], dtype=torch.float32),
            seeds=torch.tensor([seed]),
            names=(f"{_name(item.case)}, slice {item.index}",),
        )

    def _chosen(self, item: SliceItem, rng: np.random.Generator) -> np.ndarray:
        """Which of the slice's structures are asked for, `masks_per_image` numbers."""
        count, wanted = len(item.structures), self.masks_per_image
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


class Exams(Dataset[Exam]):
    """Slices with fixed boxes, one at a time."""

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

    def __getitem__(self, number: int) -> Exam:
        item = self.items[number]
        image, masks = unpack(self.data[number])
        seen = ModelSlice.of(image, masks, self.spec.preprocess)
        boxes = []
        for most in self.jitter_px:
            for structure, tight in zip(item.structures, seen.tight_boxes().astype(int).tolist(), strict=True):
                rng = seeded(self.seed, item.case.id, structure, item.index)
                boxes.append(jittered(tuple(tight), most, seen.frame.stored, rng))
        return Exam(
            image=seen.image[None],
            masks=masks,
            boxes=torch.from_numpy(seen.frame.boxes(np.array(boxes))).view(len(self.jitter_px), len(masks), 4),
            frame=seen.frame,
            case=self.cases[_name(item.case)],
            structures=tuple(self.structures[name] for name in item.structures),
            name=f"{_name(item.case)}, slice {item.index}",
        )


class Draws(Sampler[list[tuple[int, int]]]):
    """Batches of (slice, draw) for one process; all processes together take `world` batches' worth a step.

    weights: how often each slice is drawn, relatively. epoch, start: set by `ResumableLoader`.
    """

    def __init__(
        self, weights: np.ndarray, batch_size: int, draws: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.weights, self.batch_size, self.seed, self.rank, self.world = weights, batch_size, seed, rank, world
        self.steps = max(1, draws // (batch_size * world))
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        each = self.batch_size * self.world
        rng = np.random.default_rng([self.seed, self.epoch, 1])
        if np.ptp(self.weights) == 0:
            # alike: shuffled, so that none comes twice before all have come
            rounds = -(-self.steps * each // len(self.weights))
            numbers = np.concatenate([rng.permutation(len(self.weights)) for _ in range(rounds)])
        else:
            numbers = _systematic(self.weights, self.steps * each, rng)
        for step in range(self.start, self.steps):
            first = (self.epoch * self.steps + step) * each + self.rank
            places = range(step * each + self.rank, (step + 1) * each, self.world)
            yield [(int(numbers[place]), first + self.world * n) for n, place in enumerate(places)]


def _systematic(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` numbers drawn by weight, shuffled: each comes its expected number of times, give or take less than one.

    Plain draws would leave a third of the slices out of every epoch. Source: systematic sampling, Madow 1949.
    """
    order = rng.permutation(len(weights))
    edges = np.cumsum(weights[order]) / weights.sum() * count
    return rng.permutation(
        order[np.searchsorted(edges, np.arange(count) + rng.random(), side="right").clip(max=len(order) - 1)]
    )


class ResumableLoader(DataLoader):
    """A DataLoader over `Draws` that knows how far it is; Lightning keeps that in checkpoints."""

    _epoch, _done = 0, 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler = self.batch_sampler
        if not isinstance(sampler, Draws):
            raise TypeError("a ResumableLoader needs a batch_sampler of Draws")
        sampler.epoch, sampler.start = self._epoch, self._done
        for batch in super().__iter__():
            self._done += 1
            if self._done == sampler.steps:
                self._epoch, self._done = self._epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self._epoch, self._done = state["epoch"], state["done"]
        if self._done >= len(self):  # epochs have become shorter
            self.end_epoch()

    def end_epoch(self) -> None:
        """What is left of the epoch is left out."""
        if self._done:
            self._epoch, self._done = self._epoch + 1, 0


def _name(case: Case) -> str:
    return f"{case.dataset}/{case.id}"


def _key(item: SliceItem) -> bytes:
    # a function of the module: worker processes that are not forked are sent it by name
    return item.key.encode()
