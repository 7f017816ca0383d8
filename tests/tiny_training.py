"""A data set of two shapes and models of a few ten thousand weights: training in seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from lightning.pytorch import Callback

from medsam.models.checkpoint import save_checkpoint
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec

SHAPE = (4, 20, 24)  # K, J, I
STRUCTURES = ("disc", "bar")


def drawn(seed: int, shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan and its labels, (K, J, I): a bright disc, 1, and a grey bar, 2."""
    rng = np.random.default_rng(seed)
    count, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros(shape, np.uint8)
    for k in range(count):
        y, x = rng.integers(5, height // 2), rng.integers(5, width // 2)
        labels[k][np.hypot(rows - y, columns - x) < 4.5] = 1
        labels[k, height - 6 : height - 3, 4 : width - 4] = 2
    scan = np.choose(labels, [0, 200, 100]) + rng.normal(0, 8, shape)
    return scan.astype(np.float32), labels


def write_case(folder: Path, name: str, scan: np.ndarray, labels: np.ndarray, split: str | None = None) -> dict:
    """The case's entry in a manifest of `folder`."""
    affine = np.diag([1.0, 1, 3, 1])
    files = {"image": f"{name}.nii.gz", "label": f"{name}-label.nii.gz"}
    for array, file in ((scan, files["image"]), (labels, files["label"])):
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), folder / file)
    return {"id": name, "patient": name, **files, **({} if split is None else {"split": split})}


def write_manifest(folder: Path, cases: list[dict], name: str = "shapes") -> Path:
    labels = {structure: number for number, structure in enumerate(STRUCTURES, start=1)}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"name": name, "modality": "MR", "labels": labels, "cases": cases}))
    return path


def shapes(folder: Path, splits=("train", "train", "val", "test"), shape=SHAPE) -> Path:
    """A manifest with one case for each of `splits`."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = [write_case(folder, f"c{n}", *drawn(n, shape), split) for n, split in enumerate(splits)]
    return write_manifest(folder, cases)


def tiny_model(path: Path, family="vit", image_size: int = 64, seed: int = 0) -> Path:
    """An untrained model, the same weights for the same seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        save_checkpoint(Sam.from_spec(tiny_spec(family, image_size)), path)
    return path


class LossBook(Callback):
    """Every step's own loss of every process, FOLDER/RANK.jsonl."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps({"loss": outputs["loss"].item(), "names": batch.names}) + "\n")


class Killed(Callback):
    """Ends the process as a power cut does, before step `at`."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Copied(Callback):
    """Keeps what stands in `source` before step `at`: what a run that ends there would leave."""

    def __init__(self, at: int, source: str, target: str) -> None:
        self.at, self.source, self.target = at, source, target

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.at:
            shutil.copytree(self.source, self.target)
