"""A project in a store: scans, tasks and masks of the data engine."""

from __future__ import annotations

from typing import Any

from stores import square

from medsam.store.project_records import Effort, NewAnnotation, NewScan, NewTask, StoredScan, Task
from medsam.store.readers import Reader, Role
from medsam.store.store import Store


def people(store: Store) -> tuple[Reader, Reader, Reader]:
    """Two who draw, and a reviewer."""
    roles = (("Anna", Role.READER), ("Ben", Role.READER), ("Rita", Role.REVIEWER))
    anna, ben, rita = (store.add_user(name, role, kind="proxy").reader for name, role in roles)
    return anna, ben, rita


def scans(store: Store, count: int = 3, **changes: Any) -> list[StoredScan]:
    """Of so many patients, to be drawn on."""
    new = {"side": "train", "labelled": False, "document": {"id": "s", "image": "/data/s.nii.gz"}, **changes}
    return store.add_scans([NewScan(name=f"s{n}", patient=f"p{n}", **new) for n in range(count)])


def tasks(store: Store, count: int = 3, **changes: Any) -> list[Task]:
    """A project of a liver and a kidney, with one task a scan, the first one first."""
    store.set_project("livers", ("liver", "kidney"), {})
    there = scans(store, count)
    new = {"structures": ("liver", "kidney"), **changes}
    return store.add_tasks([NewTask(scan=one.id, priority=-float(one.id), **new) for one in there])


def mask(scan: int, index: int, low: int = 1, high: int = 5, structure: str = "liver", **changes: Any) -> NewAnnotation:
    """A square on a slice, drawn by two clicks in four seconds."""
    new = {"status": "edited", "effort": Effort(clicks=2, seconds=4.0), **changes}
    return NewAnnotation(scan, structure, "k", index, mask=square(low, high), **new)
