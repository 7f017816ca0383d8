"""A project of the data engine on a data set of shapes (`tiny_training`), with masks as somebody drew them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tiny_training import STRUCTURES, drawn, shapes

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import RoundSettings, Settings
from medsam.data.manifest_json import read_manifest
from medsam.masks import CompactMask
from medsam.store.project_records import Effort, NewAnnotation, NewScan, Side, StoredScan
from medsam.store.store import Store

# a decoder on a frozen encoder, in seconds
CONFIG = """
model:
  model: litemedsam
  train: {image_encoder: false, prompt_encoder: true, mask_decoder: true}
  interaction: {rounds: 1, first: point}
  optimiser: {lr: 1.0e-2, warmup_steps: 2}
  embeddings: elsewhere
data: {batch_size: 4, masks_per_image: 2, manifests: [none.json], val_jitter_px: [0]}
trainer: {accelerator: cpu, precision: 32-true, logger: false, enable_progress_bar: false, max_epochs: 1}
"""


def project(
    folder: Path,
    model: Path,
    sides: Sequence[Side] = ("train", "train", "val", *("test",) * 6),
    labelled: Sequence[Side] = ("test",),
    **settings: Any,
) -> AnnotationProject:
    """Scans on these sides, those of the `labelled` ones with their references. Whoever calls it closes it."""
    (folder / "config.yaml").write_text(CONFIG)
    told: dict[str, Any] = {"config": str(folder / "config.yaml"), "steps": 60, "prompt": "point", "slices": 1}
    settings = {"model": str(model), **settings}
    asked = Settings(**settings, round=RoundSettings(**told))
    empty_store(folder / "project" / "store")
    made = AnnotationProject.create(folder / "project", "shapes", STRUCTURES, asked)
    manifest = shapes(folder / "data", sides)
    made.store.add_scans([_scan(case, case.split in labelled) for case in read_manifest(manifest).cases])
    return made


@cache
def _empty_database() -> bytes:
    """Making the tables takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        Store.open(Path(folder)).close()
        return (Path(folder) / "medsam.db").read_bytes()


def empty_store(folder: Path) -> None:
    """A store in which nothing is."""
    folder.mkdir(parents=True)
    (folder / "medsam.db").write_bytes(_empty_database())


def _scan(case: Any, labelled: bool) -> NewScan:
    document = {"id": case.id, "patient": case.patient, "image": str(case.image), "modality": "MR"}
    if labelled:
        document |= {"label": str(case.label), "labels": dict(case.labels)}
    return NewScan(case.id, case.patient, case.split, labelled, document, "MR")


def masks_of(scan: StoredScan, slices: Sequence[int] = (0, 1, 2, 3), **changes: Any) -> list[NewAnnotation]:
    """The scan's true structures on some of its slices."""
    _, labels = drawn(int(scan.name[1:]))
    new = {"status": "edited", "effort": Effort(clicks=2, seconds=4.0), **changes}
    return [
        NewAnnotation(scan.id, name, "k", k, mask=CompactMask.of(labels[k] == value), **new)
        for k in slices
        for value, name in enumerate(STRUCTURES, start=1)
    ]


def draw(made: AnnotationProject, sides: Sequence[Side] = ("train", "val"), slices: Sequence[int] = (0, 1, 2)) -> None:
    """Somebody draws on every scan of these sides that came without a reference."""
    somebody = made.store.local_reader()
    for scan in made.store.scans():
        if scan.side in sides and not scan.labelled:
            made.store.add_annotations(masks_of(scan, slices), somebody)
