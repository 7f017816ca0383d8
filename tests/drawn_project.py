"""A project of made scans on which somebody has drawn what is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotated import empty_store
from tiny_training import STRUCTURES, drawn, shapes

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.starting import read_data, start_project
from medsam.masks import CompactMask
from medsam.store.project_records import NewAnnotation, Task
from medsam.store.readers import Reader, Role


@contextmanager
def drawn_project(folder: Path, done: int = 2, waiting: int = 1, **settings: Any) -> Iterator[AnnotationProject]:
    """So many scans are handed in, so many wait; one more is to be measured on."""
    sides = ("train",) * (done + waiting) + ("test",)
    manifest, _ = read_data(shapes(folder / "data", sides))
    cases = tuple(replace(case, label=None) for case in manifest.cases)
    empty_store(folder / "project" / "store")
    project, _ = start_project(
        folder / "project", replace(manifest, cases=cases), STRUCTURES, Settings(order="random", **settings)
    )
    with project:
        anna = project.store.add_user("Anna", Role.READER, kind="proxy").reader
        tasks = [task for task in project.store.tasks() if project.store.scan(task.scan).side == "train"]
        for task in tasks[:done]:
            hand_in(project, task, anna)
        yield project


def hand_in(project: AnnotationProject, task: Task, reader: Reader) -> None:
    """What is really there, drawn."""
    scan = project.store.scan(task.scan)
    _, labels = drawn(int(scan.name[1:]))
    masks = [
        NewAnnotation(scan.id, name, "k", k, "edited", CompactMask.of(labels[k] == number))
        for number, name in enumerate(STRUCTURES, start=1)
        for k in range(len(labels))
    ]
    project.store.take_task(task.id, reader, 60)
    project.store.submit_task(task.id, reader, masks)
