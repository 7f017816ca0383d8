"""A server with a project of the data engine: scans of two bright blocks, and people who come by tokens."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from over_a_port import serving
from phantoms import ThresholdSam
from readings_house import two_blocks
from starlette.testclient import TestClient

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.client.raw import nrrd_of
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Worker
from medsam.io.save import save_labels
from medsam.masks import CompactMask
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings
from medsam.store.project_records import NewAnnotation, NewScan, NewTask, StoredScan, TaskKind
from medsam.store.readers import Role
from medsam.store.store import Store
from medsam.volume import LabelVolume

STRUCTURES = ("left block", "right block")
# around the blocks of `two_blocks`, xyxy
BOXES = {1: [4, 8, 22, 26], 2: [32, 10, 52, 32]}
ROLES = {"ann": Role.READER, "ben": Role.READER, "rita": Role.REVIEWER, "ada": Role.ADMINISTRATOR}


def make_project(folder: Path, count: int = 2, gold: bool = False, **settings: Any) -> AnnotationProject:
    """So many scans with a task each; gold: one more with a label, whose gold task comes first."""
    data = folder.with_name("data")
    data.mkdir(exist_ok=True)
    project = AnnotationProject.create(folder, "blocks", STRUCTURES, Settings(**{"axis": "k", **settings}))
    new = []
    for n in range(count + gold):
        scan, left, right = two_blocks()
        (data / f"s{n}.nrrd").write_bytes(nrrd_of(scan))
        document: dict[str, Any] = {"id": f"s{n}", "image": str(data / f"s{n}.nrrd"), "modality": "MR"}
        if n == count:
            labels = left.astype(np.uint8) + 2 * right.astype(np.uint8)
            save_labels(LabelVolume(labels, scan.geometry, {1: STRUCTURES[0], 2: STRUCTURES[1]}), data / "gold.nii.gz")
            document |= {"label": str(data / "gold.nii.gz"), "labels": {STRUCTURES[0]: 1, STRUCTURES[1]: 2}}
        new.append(NewScan(f"s{n}", f"p{n}", "train", n == count, document, "MR"))
    scans = project.store.add_scans(new)
    kinds: list[TaskKind] = [*(["draw"] * count), *(["gold"] * gold)]  # type: ignore[list-item]
    tasks = [
        NewTask(one.id, STRUCTURES, kind, priority=10.0 if kind == "gold" else -float(one.id))
        for one, kind in zip(scans, kinds, strict=True)
    ]
    project.store.add_tasks(tasks)
    return project


def propose(store: Store, scan: StoredScan, mask: np.ndarray, index: int, structure: str = STRUCTURES[0]) -> int:
    """A model's mask (h, w) on a slice."""
    one = NewAnnotation(
        scan.id, structure, "k", index, "proposed", CompactMask.of(mask), 2, None, "tiny", "ab" * 32, expected_dice=0.9
    )
    return store.add_annotations([one])[0]


@dataclass
class Person:
    """Who asks, and what they were answered last."""

    http: TestClient
    headers: dict[str, str]
    session: str = ""
    task: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200, **params: Any) -> Any:
        found = self.http.request(method, f"/api/v1{path}", json=body, params=params, headers=self.headers)
        assert found.status_code == status, found.text
        return found.json() if found.content and "json" in found.headers["content-type"] else found.content

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        return self.ask("GET", path, None, status, **params)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return self.ask("POST", path, body, status)

    def take(self, **kinds: Any) -> dict[str, Any]:
        """The next task."""
        self.task = self.post("/annotate/next", kinds or None)
        return self.task

    def open(self) -> str:
        """Its session."""
        found = self.post(f"/annotate/tasks/{self.task['id']}/open")
        self.session, self.task = found["session"], found["task"]
        return self.session

    def begin(self) -> str:
        self.take()
        return self.open()

    def prompt(self, number: int, index: int, **entry: Any) -> None:
        self.post(f"/sessions/{self.session}/prompts", {"object": number, "slice": index, **entry})

    def draw(self, *slices: int, numbers: tuple[int, ...] = (1, 2)) -> None:
        """A box on each of these slices for each of these objects."""
        for number in numbers:
            for index in slices:
                self.prompt(number, index, box=BOXES[number])

    def submit(self, status: int = 200, **more: Any) -> Any:
        body = {"session": self.session, "seconds": 8.0, **more}
        return self.post(f"/annotate/tasks/{self.task['id']}/submit", body, status)


@dataclass
class House:
    """A server that runs on a project."""

    project: AnnotationProject
    app: FastAPI
    people: dict[str, Person]
    loop: Any

    def drop(self, session: str) -> None:
        """Out of the server's memory."""
        self.loop.call(self.app.state.services.readings._drop, session)

    def __getattr__(self, name: str) -> Any:
        return self.people[name] if name in ROLES else getattr(self.project, name)


def tokens_of(store: Store) -> dict[str, str]:
    """Of everybody, by name; whoever is not there yet is made."""
    found = {}
    for name, role in ROLES.items():
        user = store.user_named(name) or store.add_user(name, role, kind="proxy")
        found[name] = store.add_token(user.id, "tests")[1]
    return found


@contextmanager
def annotating(folder: Path, own_model: bool = False) -> Iterator[House]:
    """A server on the project in `folder`, for as long as the block lasts.

    own_model: with the project's own one; else what is bright is answered.
    """
    with AnnotationProject.open(folder) as project, app_on(folder, own_model) as app:
        tokens = tokens_of(project.store)
        with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as http:
            heads = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
            yield House(project, app, {name: Person(http, head) for name, head in heads.items()}, http.portal)


@contextmanager
def app_on(folder: Path, own_model: bool = False) -> Iterator[FastAPI]:
    """The application of `annotating`, which does not run yet."""
    with Worker() as worker:
        answers = None if own_model else Predictor(ThresholdSam(), "cpu", worker=worker)  # type: ignore[arg-type]
        yield create_app(ServerSettings(store=folder / "store", project=folder, loaders=1), answers)


def main() -> None:
    """Serve the project in the folder that is the first argument, and say where, until killed."""
    with app_on(Path(sys.argv[1])) as app, serving(app) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
