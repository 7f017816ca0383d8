"""A house of readings: the routes, a real store, a worker, and scans at hand instead of those of folders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI, Request
from phantoms import ThresholdSam, block
from starlette.middleware.base import BaseHTTPMiddleware

from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Priority, Worker
from medsam.server.errors import handle_errors
from medsam.server.readings.registry import Readings
from medsam.server.readings.routes import router
from medsam.store.readers import Reader, Role
from medsam.store.records import NewCase
from medsam.store.store import Store
from medsam.volume import Volume
from medsam.wire import read_frames


def two_blocks(shape=(4, 40, 60), affine=None) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Two bright blocks on all slices of a noisy dark scan, and their masks."""
    scan, left = block(shape, (6, 10, 0, 20, 24, shape[0]), affine)
    _, right = block(shape, (34, 12, 0, 50, 30, shape[0]))
    noise = np.random.default_rng(0).uniform(0, 10, shape).astype(np.float32)
    return Volume(np.where(left | right, 200, 20 + noise).astype(np.float32), scan.geometry), left, right


def nodule() -> Volume:
    """200 pixels of a slice; of a network that sees 64 the first answer to its box is another one than the refined."""
    array = np.random.default_rng(1).uniform(0, 10, (1, 200, 200)).astype(np.float32)
    array[:, 60:67, 50:63] = 200
    return Volume.from_array(array, spacing_mm=(1, 1, 1))


class Scans:
    """As `ScanStore`: scans by the key of their case."""

    def __init__(self) -> None:
        self.by_key: dict[str, Volume] = {}

    async def get(self, case: str) -> Volume:
        if case not in self.by_key:
            raise InputError("This scan is gone.")
        return self.by_key[case]

    async def files(self, case: str) -> SimpleNamespace:
        return SimpleNamespace(version=str(id(await self.get(case))))

    def here(self, case: str, version: str) -> Volume | None:
        found = self.by_key.get(case)
        return found if str(id(found)) == version else None


@dataclass
class Person:
    """A reader's client. revision: that their page has."""

    http: httpx.AsyncClient
    reader: Reader
    masks: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    revisions: dict[tuple[int, int], int] = field(default_factory=dict)
    statuses: dict[tuple[int, int], str] = field(default_factory=dict)
    revision: int = 0

    async def open(self, case: str, **more: Any) -> dict[str, Any]:
        found = await self.http.post("/sessions", json={"case": case, **more})
        assert found.status_code in (200, 201), found.text
        return found.json()

    async def post(self, path: str, body: Any = None, **params: Any) -> httpx.Response:
        return await self.http.post(path, json=body, params=params)

    def take(self, answer: httpx.Response) -> list[Any]:
        """Paint what an answer brings, as a client has to."""
        assert answer.status_code == 200, answer.text
        frames = list(read_frames(answer.content))
        for frame in frames:
            place = frame.object, frame.slice
            if frame.base == 0:
                self.masks[place] = np.zeros(frame.shape, bool)
            else:
                assert frame.base == self.revisions[place]
            frame.paint(self.masks[place])
            self.revisions[place], self.statuses[place] = frame.revision, frame.status
            if frame.status == "removed":
                del self.masks[place]
        self.revision = int(answer.headers["X-Medsam-Revision"])
        return frames

    async def step(self, session: str, what: str, body: Any = None) -> list[Any]:
        """A step, by a page that says what it has."""
        return self.take(await self.post(f"/sessions/{session}/{what}", body, since=self.revision))

    async def prompt(self, session: str, index: int, number: int = 1, **entry: Any) -> np.ndarray:
        await self.step(session, "prompts", {"object": number, "slice": index, **entry})
        return self.masks[number, index].copy()

    async def changes(self, session: str, wait: float = 0.0) -> list[Any]:
        params = {"since": self.revision, "wait": wait}
        return self.take(await self.http.get(f"/sessions/{session}/changes", params=params))

    async def anew(self, session: str) -> None:
        """All there is, as for a page that has just been loaded."""
        self.revision, self.masks = 0, {}
        await self.changes(session)

    async def refined(self, session: str) -> None:
        """Until no first answer is left."""
        while "first" in self.statuses.values():
            await self.changes(session, wait=5)


@dataclass
class House:
    app: FastAPI
    store: Store
    worker: Worker
    predictor: Predictor
    readings: Readings
    scans: Scans

    def person(self, name: str, role: Role = Role.READER) -> Person:
        user = self.store.user_named(name) or self.store.add_user(name, role, None, kind="proxy")
        transport = httpx.ASGITransport(self.app)
        http = httpx.AsyncClient(transport=transport, base_url="http://house", headers={"X-Reader": str(user.id)})
        return Person(http, user.reader)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The worker does nothing less urgent than a click in this block."""
        on = [True]

        def wait(_: Any) -> Iterator[None]:
            while on:
                time.sleep(0.001)
                yield

        job = self.worker.submit(wait, priority=Priority.SLICE)
        try:
            yield
        finally:
            on.clear()
            job.result(5)

    async def opened(self, scan: Volume, **more: Any) -> tuple[Person, str]:
        """A reader who has opened a session on a scan, and its key. more: as for `Person.open`."""
        reader = self.person("ann")
        return reader, (await reader.open(self.case("a", scan), **more))["id"]

    def back(self, reader: Person, scan: Volume) -> None:
        """The page of a house that was closed goes on in this one, with the same scan."""
        self.case("a", scan)
        reader.http = self.person(reader.reader.name).http

    def case(self, name: str, scan: Volume) -> str:
        """The key of a case that everybody may see."""
        key = self.store.put_case(NewCase(f"data:{name}", "data", name)).key
        self.scans.by_key[key] = scan
        return key


@asynccontextmanager
async def house(folder: Path, sam: Any = None, **options: Any) -> AsyncIterator[House]:
    """Open on a store's folder, once more after it was closed."""
    scans, closing = Scans(), asyncio.Event()
    with Worker() as worker, Store.open(folder) as store:
        predictor = Predictor(sam or ThresholdSam(), "cpu", worker=worker)
        async with Readings.open(store, predictor, scans, closing, **options) as readings:
            app = FastAPI()
            handle_errors(app)
            app.include_router(router)
            app.state.services = SimpleNamespace(readings=readings, closing=closing)

            async def who(request: Request, answer: Callable[..., Any]) -> Any:
                request.state.reader = store.reader(int(request.headers["X-Reader"]))
                return await answer(request)

            app.add_middleware(BaseHTTPMiddleware, dispatch=who)
            yield House(app, store, worker, predictor, readings, scans)


AXES: tuple[Axis, ...] = ("k", "j", "i")
