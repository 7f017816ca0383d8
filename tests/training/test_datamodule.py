"""Batches for training: fair to rare structures, the same however they are made, and validated as evaluated."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_sets as sets
import torch
from PIL import Image

from medsam.cli.train import slice_data
from medsam.data.manifest import Case
from medsam.errors import InputError, PromptError
from medsam.evaluation.protocol import Protocol
from medsam.evaluation.targets import targets_on
from medsam.inference.image_predictor import ImagePredictor
from medsam.models.specs import tiny_spec
from medsam.training.batch import Batch
from medsam.training.datamodule import SliceDataModule
from medsam.training.sampler import ResumableLoader
from medsam.training.samples import TrainingSamples, collate
from medsam.transforms.augment import AugmentSettings
from medsam.transforms.frame import Frame

SPEC = tiny_spec("vit", image_size=32)
SHAPE = (6, 12, 16)  # K, J, I
CHANGES = AugmentSettings(probability=1.0, rotate_deg=20, shift=0.1)


def labels(*structures: int, shape=SHAPE, seed: int = 0) -> np.ndarray:
    """A block of 20 or more pixels of each structure on every slice, side by side."""
    array = np.zeros(shape, np.uint8)
    rng = np.random.default_rng(seed)
    for k in range(shape[0]):
        for place, value in enumerate(structures):
            row, rows = rng.integers(1, 4), rng.integers(5, 8)
            array[k, row : row + rows, 1 + 5 * place : 5 + 5 * place] = value
    return array


def case(folder: Path, name: str, split: str | None, label: np.ndarray, seed: int = 0, **more) -> dict:
    sets.scan(folder / f"{name}.nii.gz", seed, label.shape, affine=np.diag([1, 1.5, 4, 1]))
    sets.nifti(folder / f"{name}-label.nii.gz", label, np.diag([1, 1.5, 4, 1]))
    entry = {"id": name, "image": f"{name}.nii.gz", "label": f"{name}-label.nii.gz"} | more
    return entry if split is None else entry | {"split": split}


def manifest(folder: Path, cases: list[dict], name: str = "tiny", modality: str = "CT") -> str:
    content = {"name": name, "modality": modality, "labels": {"liver": 1, "spleen": 2, "cyst": 3}, "cases": cases}
    return str(sets.write(folder / f"{name}.json", content))


@pytest.fixture
def tiny(tmp_path) -> str:
    """Two cases to train on (liver and spleen; liver), one to validate, one to test."""
    return manifest(
        tmp_path,
        [
            case(tmp_path, "a", "train", labels(1, 2), 1),
            case(tmp_path, "b", "train", labels(1, seed=1), 2),
            case(tmp_path, "c", "val", labels(2, 1, seed=2), 3),
            case(tmp_path, "d", "test", labels(1, seed=3), 4),
        ],
    )


def prepared(*manifests: str, stage: str = "fit", **settings) -> SliceDataModule:
    module = slice_data(list(manifests), **({"batch_size": 2} | settings))
    module.prepare(SPEC, stage)
    return module


def epoch(module: SliceDataModule) -> list[Batch]:
    return list(module.train_dataloader())


def assert_same(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs, field.name


def assert_all_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other)


# -- a batch ------------------------------------------------------------------------------------------------------


def test_what_a_batch_holds(tiny):
    (batch,) = epoch(prepared(tiny, batch_size=12, masks_per_image=3))
    assert batch.image.shape == (12, 3, 32, 32)
    assert (batch.targets.shape, batch.targets.dtype) == ((12, 3, 16, 16), torch.bool)
    assert batch.boxes.shape == (12, 3, 4)
    assert batch.valid.all()
    # 16 x 12 pixels of 1 x 1.5 mm: 16 mm wide and 18 high, on 32 model pixels
    assert batch.bounds.tolist() == [[28, 32]] * 12
    torch.testing.assert_close(batch.pixel, torch.tensor([[28 / 16, 32 / 12]]).expand(12, 2))
    assert len(set(batch.seeds.tolist())) == 12
    assert set(batch.names) <= {f"tiny/{name}, slice {index}" for name in "ab" for index in range(6)}
    # boxes lie round what is asked for: logits have half the model's side
    for targets, boxes in zip(batch.targets.flatten(0, 1), batch.boxes.flatten(0, 1), strict=True):
        rows, columns = np.nonzero(targets.numpy())
        about = 2 * np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(about - boxes.numpy()).max() <= 2
    moved = batch.to(torch.device("meta"))
    assert moved.image.is_meta
    assert moved.names == batch.names


@pytest.mark.parametrize("wanted", [1, 2, 5])
def test_prompts_asked_of_a_slice(tiny, wanted):
    """Each structure once, some again when there are fewer than wanted, a draw of them when there are more."""
    module = prepared(tiny, masks_per_image=wanted, batch_size=1, epoch_slices=24)
    for batch in epoch(module):
        assert batch.targets.shape[:2] == (1, wanted)
        different = {target.numpy().tobytes() for target in batch.targets[0]}
        structures = 2 if batch.names[0].startswith("tiny/a") else 1
        assert len(different) == min(wanted, structures)


def test_of_many_structures_the_rare_are_asked_more_often(tmp_path):
    both = manifest(
        tmp_path,
        [
            case(tmp_path, "a", "train", labels(1, 3)[:2]),
            case(tmp_path, "b", "train", labels(1, shape=(38, 12, 16))),
            case(tmp_path, "c", "val", labels(1)),
        ],
    )
    module = prepared(both, masks_per_image=1, epoch_slices=400)
    # upright, what is stored on the right lies on the left: the cyst begins at 10.5, the liver at 19.25
    left = torch.cat([batch.boxes[:, 0, 0] for batch in epoch(module)])
    assert set(left.tolist()) == {10.5, 19.25}
    rare = int((left == 10.5).sum())
    assert 170 <= rare <= 230, "half of 400 prompts go to what is on 2 of 40 slices"


@pytest.mark.parametrize("balanced", [True, False])
def test_a_rare_structure_is_seen_as_often_as_a_common_one_if_balanced(tmp_path, balanced):
    path = manifest(
        tmp_path,
        [
            case(tmp_path, "rare", "train", labels(3)[:2]),
            case(tmp_path, "common", "train", labels(1, shape=(38, 12, 16))),
            case(tmp_path, "c", "val", labels(1)),
        ],
    )
    module = prepared(path, balanced=balanced, masks_per_image=1)
    seen = Counter(name.split(",")[0] for batch in epoch(module) for name in batch.names)
    assert seen["tiny/rare"] == (20 if balanced else 2)
    assert seen["tiny/common"] == (20 if balanced else 38)


def test_a_slice_that_was_moved_out_of_sight_is_taken_as_it_is(tmp_path, monkeypatch):
    path = manifest(tmp_path, [case(tmp_path, "a", "train", labels(1)), case(tmp_path, "c", "val", labels(1))])
    plain = epoch(prepared(path))
    far = AugmentSettings(probability=1, shift=0.5)

    def always_far(self, data=None):
        from medsam.transforms.augment import Change

        self.change = Change(shift=(0.0, -0.99), window=(0.2, -0.2))

    monkeypatch.setattr("medsam.training.samples.RandAugmentd.randomize", always_far)
    lost = epoch(prepared(path, augment=far))
    for one, other in zip(plain, lost, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.targets, other.targets)
        assert other.valid.all()


def test_a_structure_that_was_moved_out_of_sight_is_marked(tmp_path, monkeypatch):
    path = manifest(tmp_path, [case(tmp_path, "a", "train", labels(1, 2)), case(tmp_path, "c", "val", labels(1))])

    def to_the_right(self, data=None):
        from medsam.transforms.augment import Change

        self.change = Change(shift=(0.0, 0.65))  # the liver takes the spleen's place, and beyond

    monkeypatch.setattr("medsam.training.samples.RandAugmentd.randomize", to_the_right)
    for batch in epoch(prepared(path, augment=CHANGES, masks_per_image=2)):
        assert batch.valid.tolist() == [[True, False]] * 2
        assert not batch.targets[:, 1].any()
        assert batch.boxes.isfinite().all()


# -- which slices, and when ---------------------------------------------------------------------------------------


def test_a_slice_has_only_so_many_changed_copies(tiny):
    module = prepared(tiny, batch_size=1, epoch_slices=120, augment=CHANGES, variants=2, limit=1)
    assert not module.changes
    seen: dict[str, set[bytes]] = {}
    for batch in [*epoch(module), *epoch(module)]:
        seen.setdefault(batch.names[0], set()).add(batch.image.numpy().tobytes())
    assert {len(copies) for copies in seen.values()} == {3}
    assert prepared(tiny, augment=CHANGES).changes


def test_some_prompts_ask_for_regions_that_nobody_drew(tmp_path):
    cases = [
        case(tmp_path, name, split, labels(1, shape=(3, 40, 48))) for name, split in (("a", "train"), ("b", "val"))
    ]
    bare = case(tmp_path, "bare", "train", labels(1, shape=(3, 40, 48)), 5)
    del bare["label"]
    path = manifest(tmp_path, [*cases, bare])
    spec = tiny_spec("vit", image_size=256)  # logits of 128 pixels
    without = slice_data([path], masks_per_image=4)
    without.prepare(spec)
    assert {item.case.id for item in without._splits["train"].items} == {"a"}
    module = slice_data([path], masks_per_image=4, batch_size=1, epoch_slices=60, pseudo=0.5)
    module.prepare(spec)
    drawn, regions = 0, 0
    for batch in epoch(module):
        for target, box, valid in zip(batch.targets[0], batch.boxes[0], batch.valid[0], strict=True):
            if not valid:
                continue
            rows, columns = np.nonzero(target.numpy())
            about = 2 * np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(about - box.numpy()).max() <= 8
            # the liver is 4 of 48 columns, from the second on
            liver = (columns.min(), columns.max()) == (3, 13) or columns.max() - columns.min() in (9, 10, 11)
            drawn, regions = drawn + bool(liver), regions + (not liver)
        if "bare" in batch.names[0]:
            assert batch.valid.any()
    assert drawn > 30
    assert regions > 60


def test_two_processes_see_what_one_with_twice_the_batch_sees(tiny):
    def of(rank: int, world: int, batch_size: int) -> list[Batch]:
        module = prepared(tiny, batch_size=batch_size, augment=CHANGES)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        return epoch(module)

    alone, first, second = of(0, 1, 4), of(0, 2, 2), of(1, 2, 2)
    assert len(alone) == len(first) == len(second) == 3
    for whole, *halves in zip(alone, first, second, strict=True):
        order = [name for half in halves for name in half.seeds.tolist()]
        both = collate(halves)
        places = torch.tensor([order.index(seed) for seed in whole.seeds.tolist()])
        for field in fields(Batch):
            if field.name != "names":
                assert torch.equal(getattr(both, field.name)[places], getattr(whole, field.name)), field.name


def test_batches_do_not_depend_on_who_makes_them(tiny):
    alone = prepared(tiny, augment=CHANGES)
    ours = [*epoch(alone)]
    torch.manual_seed(99)
    np.random.seed(99)
    assert_all_same(ours, epoch(prepared(tiny, augment=CHANGES, num_workers=2)))
    other = epoch(prepared(tiny, augment=CHANGES, seed=1))
    assert not torch.equal(ours[0].image, other[0].image)


def test_every_epoch_differs_and_takes_nearly_every_slice(tiny):
    loader = prepared(tiny, augment=CHANGES, balanced=False).train_dataloader()
    first, second = list(loader), list(loader)
    for batches in (first, second):
        assert len({name for batch in batches for name in batch.names}) == 12
    seeds = [seed for batch in (*first, *second) for seed in batch.seeds.tolist()]
    assert len(set(seeds)) == 24
    with pytest.raises(AssertionError):
        assert_all_same(first, second)


@pytest.mark.parametrize("done", [1, 5, 6, 8])
@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_after_so_many_batches(tiny, done, workers):
    """6 batches an epoch; what is left of two epochs is what the run would have seen."""

    def both_epochs(loader: ResumableLoader):
        while loader.state_dict()["epoch"] < 2:
            yield from loader

    whole = list(both_epochs(prepared(tiny, augment=CHANGES).train_dataloader()))
    assert len(whole) == 12
    loader = prepared(tiny, augment=CHANGES, num_workers=workers).train_dataloader()
    batches = both_epochs(loader)
    begun = [next(batches) for _ in range(done)]
    state = json.loads(json.dumps(loader.state_dict()))
    del batches
    assert_all_same(begun, whole[:done])

    again = prepared(tiny, augment=CHANGES, num_workers=workers).train_dataloader()
    again.load_state_dict(state)
    assert_all_same(list(both_epochs(again)), whole[done:])


def test_going_on_where_epochs_have_become_shorter(tiny):
    loader = prepared(tiny, epoch_slices=4).train_dataloader()
    loader.load_state_dict({"epoch": 3, "done": 5})
    assert len(list(loader)) == 2
    assert loader.state_dict() == {"epoch": 5, "done": 0}


def test_a_loader_needs_its_own_draws(tiny):
    data = prepared(tiny).train_dataloader().dataset
    with pytest.raises(TypeError, match="batch_sampler of ResumableSampler"):
        next(iter(ResumableLoader(data, batch_size=2)))


def test_the_number_of_draws_an_epoch(tiny):
    assert len(prepared(tiny, batch_size=5).train_dataloader()) == 2
    assert len(prepared(tiny, batch_size=5, epoch_slices=50).train_dataloader()) == 10
    (batch,) = epoch(prepared(tiny, batch_size=20))
    assert len(batch.names) == 20, "a batch is full even if slices come twice"


# -- caches -------------------------------------------------------------------------------------------------------


def test_caches_change_nothing(tiny, tmp_path):
    plain = prepared(tiny, cache="none", augment=CHANGES)
    batches, samples = epoch(plain), list(plain.val_dataloader())
    folder = str(tmp_path / "cache")
    for cached in (
        prepared(tiny, cache="memory", augment=CHANGES),
        prepared(tiny, cache="disk", cache_dir=folder, augment=CHANGES),
        prepared(tiny, cache="disk", cache_dir=folder, augment=CHANGES),
        prepared(tiny, cache="disk", cache_dir=folder, augment=CHANGES, num_workers=1),
    ):
        assert_all_same(epoch(cached), batches)
        for ours, theirs in zip(cached.val_dataloader(), samples, strict=True):
            assert torch.equal(ours.image, theirs.image)
            assert torch.equal(ours.boxes, theirs.boxes)
            assert torch.equal(ours.masks, theirs.masks)


def test_what_is_kept_is_not_changed_by_training_on_it(tiny):
    module = prepared(tiny, augment=CHANGES)
    slices = module.train_dataloader().dataset
    assert isinstance(slices, TrainingSamples)
    first = slices[3, 7]
    for draw in range(20):
        slices[3, draw]
    assert_same(first, slices[3, 7])


def test_slices_kept_on_disk_are_read_once_in_their_life(tiny, tmp_path, monkeypatch):
    loads = []
    load = Case.load_image
    monkeypatch.setattr(Case, "load_image", lambda self: loads.append(self.id) or load(self))
    folder = tmp_path / "cache"

    def run() -> list[Batch]:
        return epoch(prepared(tiny, cache="disk", cache_dir=str(folder)))

    first = run()
    assert sorted(loads) == ["a", "a", "b", "b", "c", "c"], "once for the labels, once for the slices"
    assert len(list((folder / "slices").iterdir())) == 18
    assert all(file.suffix == ".pt" for file in (folder / "slices").iterdir())
    loads.clear()
    assert_all_same(run(), first)
    assert loads == []

    scan = tmp_path / "b.nii.gz"
    sets.scan(scan, 77, SHAPE, affine=np.diag([1, 1.5, 4, 1]))
    os.utime(scan, ns=(1, 1))
    changed = run()
    assert loads == ["b", "b"]
    for one, other in zip(first, changed, strict=True):
        for n, name in enumerate(one.names):
            assert torch.equal(one.image[n], other.image[n]) == name.startswith("tiny/a")
            assert torch.equal(one.targets[n], other.targets[n])


def test_a_run_that_died_while_it_prepared_leaves_no_half_file(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    save, left = torch.save, [3]

    def dying(content, file):
        left[0] -= 1
        if left[0] < 0:
            Path(file).write_bytes(b"half")
            raise KeyboardInterrupt
        save(content, file)

    monkeypatch.setattr("medsam.training.datamodule.torch.save", dying)
    with pytest.raises(KeyboardInterrupt):
        prepared(tiny, cache="disk", cache_dir=str(folder))
    monkeypatch.undo()
    assert len(list((folder / "slices").glob("[!.]*.pt"))) == 3
    assert_all_same(epoch(prepared(tiny, cache="disk", cache_dir=str(folder))), epoch(prepared(tiny)))


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_slices_can_be_sent_to_processes_that_are_not_forked(tiny, tmp_path, cache):
    module = prepared(tiny, cache=cache, cache_dir=str(tmp_path / "cache"), augment=CHANGES)
    data = module.train_dataloader().dataset
    assert_same(pickle.loads(pickle.dumps(data))[2, 5], data[2, 5])


# -- several data sets --------------------------------------------------------------------------------------------


def pictures(folder: Path, count: int = 2) -> str:
    """Colour PNGs of a bright polyp."""
    folder.mkdir()
    cases = []
    for n in range(count):
        rng = np.random.default_rng(n)
        inside = np.zeros((15, 21), bool)
        inside[4:10, 5:15] = True
        pixels = np.where(inside[..., None], [250, 90, 80], [90, 60, 50]) + rng.integers(-5, 5, (15, 21, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
        Image.fromarray(inside.astype(np.uint8) * 255).save(folder / f"{n}-mask.png")
        split = "train" if n < count - 1 else "val"
        cases.append({"id": f"p{n}", "image": f"{n}.png", "label": f"{n}-mask.png", "split": split})
    content = {"name": "scopy", "labels": {"polyp": 1}, "threshold": 127, "cases": cases}
    return str(sets.write(folder / "scopy.json", content))


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_scans_and_colour_pictures_together(tiny, tmp_path, cache):
    module = prepared(tiny, pictures(tmp_path / "png"), cache=cache, cache_dir=str(tmp_path / "kept"), batch_size=4)
    batches = epoch(module)
    names = [name for batch in batches for name in batch.names]
    assert {name.split("/")[0] for name in names} == {"tiny", "scopy"}
    for batch in batches:
        for image, name in zip(batch.image, batch.names, strict=True):
            grey = torch.allclose(image[0, :8, :8].std(), image[1, :8, :8].std(), rtol=0.1)
            assert grey == name.startswith("tiny")
    assert module.structures == ("liver", "polyp", "spleen")
    assert module.cases("val") == ("tiny/c", "scopy/p1")
    samples = list(module.val_dataloader())
    assert [sample.case for sample in samples] == [0] * 6 + [1]
    assert [sample.structures for sample in samples] == [(0, 2)] * 6 + [(1,)]


def test_what_a_card_says(tiny, tmp_path):
    module = prepared(tiny, pictures(tmp_path / "png"))
    card = module.card()
    assert {name: value for name, value in card.items() if name != "data_digest"} == {
        "data": ["scopy", "tiny"],
        "structures": ["liver", "polyp", "spleen"],
        "cases": 3,
        "slices": 13,
    }
    assert len(card["data_digest"]) == 64
    text = json.dumps(card)
    assert str(tmp_path) not in text
    for patient in ("a", "b", "p0"):
        assert f'"{patient}"' not in text


def test_cases_of_one_name(tiny, tmp_path):
    with pytest.raises(InputError, match=r"Several manifests are called tiny.*the id 'a'.*different names"):
        prepared(tiny, tiny)


def test_a_patient_in_train_and_val(tmp_path):
    cases = [
        case(tmp_path, "a", "train", labels(1), patient="p"),
        case(tmp_path, "b", "val", labels(1), patient="p"),
    ]
    with pytest.raises(InputError, match=r"is in 2 splits: train \(case a\), val \(case b\)"):
        prepared(manifest(tmp_path, cases))
    for sub, one in zip(("x", "y"), cases, strict=True):
        other = case(tmp_path / sub, f"{sub}2", "val" if one["split"] == "train" else "train", labels(1))
        case(tmp_path / sub, one["id"], None, labels(1))
        manifest(tmp_path / sub, [one, other])
    parts = [str(tmp_path / sub / "tiny.json") for sub in ("x", "y")]
    with pytest.raises(InputError, match=r"Several manifests are called tiny.*is in 2 splits"):
        prepared(*parts)


def test_a_manifest_without_splits(tmp_path):
    path = manifest(tmp_path, [case(tmp_path, "a", None, labels(1))])
    with pytest.raises(InputError, match=rf"tiny assigns no split.*medsam data split {path} --out"):
        prepared(path)


def test_a_split_without_cases(tmp_path):
    path = manifest(tmp_path, [case(tmp_path, "a", "train", labels(1))])
    with pytest.raises(InputError, match=r"in the split 'val' of .*tiny\.json\..*medsam data split"):
        prepared(path)
    assert prepared(manifest(tmp_path, [case(tmp_path, "a", "test", labels(1))]), stage="test").has("test")


def test_files_that_are_missing(tiny, tmp_path):
    (tmp_path / "b.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 file of the manifest is missing: b: .*b\.nii\.gz.*medsam data check"):
        prepared(tiny)


def test_cases_with_nothing_to_learn_from_are_noted(tmp_path):
    cases = [
        case(tmp_path, "a", "train", labels(1)),
        case(tmp_path, "b", "train", np.zeros(SHAPE, np.uint8)),
        case(tmp_path, "c", "val", labels(1)),
    ]
    module = prepared(manifest(tmp_path, cases))
    assert module.notes == ["1 of 2 cases of train have no structure of 10 pixels on any slice and are left out: b."]
    assert module.cases("train") == ("tiny/a",)
    with pytest.raises(InputError, match=r"No case of the split 'train' .*1000 pixels.*data\.min_pixels"):
        prepared(manifest(tmp_path, cases), min_pixels=1000)


def test_a_structure_asked_for(tiny):
    module = prepared(tiny, structures=["spleen"])
    assert module.structures == ("spleen",)
    assert module.cases("train") == ("tiny/a",)
    with pytest.raises(InputError, match="No label names 'splen'"):
        prepared(tiny, structures=["splen"])


def test_only_the_first_cases(tiny):
    module = prepared(tiny, limit=1)
    assert (module.cases("train"), module.cases("val")) == (("tiny/a",), ("tiny/c",))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size is a whole number from 1, not 0"),
        ({"masks_per_image": 0}, r"data\.masks_per_image"),
        ({"min_pixels": 0}, r"data\.min_pixels"),
        ({"epoch_slices": 0}, r"data\.epoch_slices"),
        ({"limit": 0}, r"data\.limit"),
        ({"num_workers": -1}, r"data\.num_workers is a whole number from 0"),
        ({"seed": -1}, r"data\.seed"),
        ({"cache": "disk"}, r"data\.cache_dir has to name a folder"),
        ({"manifests": []}, r"data\.manifests names no manifest"),
        ({"val_jitter_px": []}, r"data\.val_jitter_px"),
        ({"val_jitter_px": [3, -1]}, r"data\.val_jitter_px"),
    ],
)
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(InputError, match=message):
        slice_data(**({"manifests": ["m.json"]} | wrong))


def test_a_window_that_makes_no_sense():
    with pytest.raises(PromptError, match="There is no window 'lver'"):
        SliceDataModule(["m.json"], window="lver")


def test_setup_needs_a_trainer_and_a_module_with_a_spec(tiny):
    module = SliceDataModule([tiny])
    with pytest.raises(RuntimeError, match="inside a Trainer"):
        module.setup("fit")
    module.trainer = SimpleNamespace(lightning_module=SimpleNamespace(spec="tiny"))
    with pytest.raises(InputError, match="ModelSpec"):
        module.setup("fit")
    with pytest.raises(InputError, match="nothing to prepare for 'predict'"):
        prepared(tiny, stage="predict")


# -- validation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_boxes_of_validation_are_those_of_evaluation(tiny, seed):
    jitter = (0, 3, 8)
    module = prepared(tiny, val_jitter_px=list(jitter), seed=seed)
    samples = list(module.val_dataloader())
    assert [sample.name for sample in samples] == [f"tiny/c, slice {index}" for index in range(6)]
    protocol = Protocol(prompts=("box",), jitter_px=jitter, seed=seed)
    (one,) = {item.case.id: item.case for item in module._splits["val"].items}.values()
    scan = one.load_image()
    references, plane = one.load_references(scan), scan.geometry.plane(None)
    moved = 0
    for index, sample in enumerate(samples):
        truths = {name: plane.take(mask, index) for name, mask in references.items()}
        targets = targets_on(one.id, truths, index, protocol, plane)
        assert [module.structures.index(target.structure) for target in targets] == list(sample.structures)
        assert sample.frame == Frame.of(plane, SPEC.preprocess)
        for n, target in enumerate(targets):
            np.testing.assert_array_equal(sample.masks[n].numpy(), target.truth)
            for v, setting in enumerate(protocol.settings):
                box = sample.frame.boxes(np.array([target.first[setting].box]))[0]
                np.testing.assert_array_equal(sample.boxes[v, n].numpy(), box)
            moved += int(not torch.equal(sample.boxes[0, n], sample.boxes[2, n]))
    assert moved == 12


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_validation_sees_what_the_network_sees_in_use(tiny, tmp_path, cache):
    module = prepared(tiny, pictures(tmp_path / "png"), cache=cache, cache_dir=str(tmp_path / "kept"))

    network = Shown()
    scans = ImagePredictor(network, device="cpu")
    for item, sample in zip(module._splits["val"].items, module.val_dataloader(), strict=True):
        scans.encoder_for(item.case.load_image()).encode(item.index)
        assert torch.equal(sample.image[0], network.image)


class Shown(torch.nn.Module):
    """Keeps what it is shown."""

    spec = SPEC

    def encode_image(self, images):
        (self.image,) = images
        return images


def test_processes_share_validation_and_leave_nothing_out(tiny):
    module = prepared(tiny)
    names = []
    for rank in range(4):
        module.trainer = SimpleNamespace(global_rank=rank, world_size=4)
        names.append([sample.name for sample in module.val_dataloader()])
    assert sorted(map(len, names)) == [1, 1, 2, 2]
    assert sorted(name for part in names for name in part) == [f"tiny/c, slice {index}" for index in range(6)]


def test_testing_alone(tiny):
    module = prepared(tiny, stage="test")
    assert (module.has("test"), module.has("train")) == (True, False)
    samples = list(module.test_dataloader())
    assert len(samples) == 6
    assert samples[0].to(torch.device("meta")).image.is_meta
    with pytest.raises(RuntimeError, match=r"setup comes first"):
        SliceDataModule([tiny])._model  # noqa: B018
