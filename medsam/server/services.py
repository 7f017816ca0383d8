"""Everything that routes work with, in one place: made when the server starts, closed when it ends.

A room that has something to keep adds its field to `Services` and the lines that open it to `open_services`, after what
it uses itself; closing goes the other way. Routes take it as an argument:

    async def cases(reader: PresentReader, services: PresentServices) -> list[CaseInfo]: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, Request

from medsam.errors import InputError
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.predictor import Predictor
from medsam.inference.trust import read_trust
from medsam.inference.worker import Worker
from medsam.server.annotating.models import LOOKED_S, Models
from medsam.server.annotating.room import Annotating, served
from medsam.server.cases.rooms import CaseRooms
from medsam.server.cases.scans import ScanStore
from medsam.server.chores import repeated
from medsam.server.gate.identity import Gate
from medsam.server.nninteractive.leases import EVERY_S, Leases
from medsam.server.readings.registry import Readings
from medsam.server.settings import ServerSettings
from medsam.server.watch.pulse import Pulse
from medsam.store.store import Store

# between two looks at what is kept for nobody
_ORDER_S = 3600.0


@dataclass(frozen=True)
class Services:
    """settings: what the server was told. worker: the one thread of the device.

    store: what is kept. gate: who may come in. cases: scans, from where they come and in memory. readings: sessions.
    pulse: whether the worker still works. nninteractive: its clients; None where they are not served. annotating: the
    project that is served; None where there is none.
    closing: set when the server is told to end: streams of events and long polls answer what they have, and end.
    """

    settings: ServerSettings
    worker: Worker
    closing: asyncio.Event
    store: Store
    gate: Gate
    cases: CaseRooms
    readings: Readings
    pulse: Pulse
    nninteractive: Leases | None = None
    annotating: Annotating | None = None

    @property
    def predictor(self) -> Predictor:
        """The model that answers, on `worker`."""
        return self.readings.predictor

    @property
    def scans(self) -> ScanStore:
        """Scans in memory."""
        return self.cases.scans


@asynccontextmanager
async def open_services(settings: ServerSettings, predictor: Predictor | None = None) -> AsyncIterator[Services]:
    """All services, open in this block.

    predictor: with a worker; by default the settings' model with a worker of its own, which is ended here.
    Raises what their rooms raise: CheckpointError and AssetError for the weights, InputError for folders,
    for `trust` of other weights, and for an address that lets in people whom nobody can tell.
    """
    async with AsyncExitStack() as stack:
        store = await to_thread.run_sync(partial(Store.open, settings.store, url=settings.database))
        stack.callback(store.close)
        gate = await to_thread.run_sync(Gate, settings, store)
        project = None if settings.project is None else await to_thread.run_sync(served, settings.project, store)
        answering = None if project is None else await to_thread.run_sync(project.model)
        if predictor is None:
            worker = Worker(settings.device if settings.device.startswith("cuda:") else "cpu")
            # what runs ends at its next slice; what it had done is stored
            stack.push_async_callback(partial(to_thread.run_sync, worker.shutdown))
            cache = EmbeddingCache(settings.embedding_bytes)
            name = settings.model if answering is None else answering[0]
            load = partial(Predictor, name, settings.device, cache, worker=worker, heads=settings.heads)
            predictor = loaded = await to_thread.run_sync(load)
            if settings.heads:
                # one that does not fit is said now, and not to a reader
                await to_thread.run_sync(lambda: loaded.organ_reader)
        if settings.trust is not None:
            predictor.images.trust = read_trust(settings.trust, predictor.images.weights)
        if predictor.worker is None:
            raise InputError("A server's `predictor` needs a worker.", parameter="predictor")
        cases = await stack.enter_async_context(CaseRooms.open(settings, store))
        closing, limits = asyncio.Event(), settings.limits
        readings = await stack.enter_async_context(
            Readings.open(
                store, predictor, cases.scans, closing, limits.sessions_per_reader, limits.prompts_per_session
            )
        )
        cases.scans.spare = readings.spare
        pulse = Pulse(predictor.worker, predictor)
        _until_closed(stack, pulse.run())
        retire = partial(to_thread.run_sync, store.retire_logins, settings.ends_after)
        _until_closed(stack, repeated(_ORDER_S, retire, "removing old logins"))
        leases = None if settings.nninteractive is None else Leases(settings.nninteractive)
        if leases is not None:
            stack.callback(leases.close)
            _until_closed(stack, repeated(EVERY_S, leases.swept, "ending idle sessions of nnInteractive"))
        annotating = None
        if project is not None and answering is not None:
            models = Models(project, readings, settings.device, answering[1])
            annotating = await Annotating.open(project, cases, readings, models)
            _until_closed(stack, repeated(LOOKED_S, models.look, "looking for the project's model"))
        worker = predictor.worker
        yield Services(settings, worker, closing, store, gate, cases, readings, pulse, leases, annotating)


def _until_closed(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Have `work` go on beside everything else until the services close."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])

    stack.push_async_callback(end)


async def services_of(request: Request) -> Services:
    """The services of the app that a request came to.

    Async, as every dependency that only looks: FastAPI runs others in threads, and waits for one of them.
    """
    return request.app.state.services


PresentServices = Annotated[Services, Depends(services_of)]
