"""The server as one ASGI application: rooms' routes under one prefix and the page at "/", behind the gate.

A room is a package beside this file. It exports `router`, whose paths start below `/api/v1`, and is added to
`_routers`; what it keeps is in `services.py`. Nothing here or in a route blocks the event loop: files, SQLite and
hashes go through `anyio.to_thread`, the network through `services.worker`, scans are read in processes.

Answers that are no success have one form, `{"detail": text, "parameters": [names]}` (`errors.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from medsam._version import __version__
from medsam.inference.predictor import Predictor
from medsam.server import model, vocabulary
from medsam.server.annotating import routes as annotating
from medsam.server.cases import comparing, results, transfers
from medsam.server.cases import routes as case_routes
from medsam.server.errors import CatchDefects, ErrorBody, handle_errors
from medsam.server.gate import routes as gate_routes
from medsam.server.gate.guard import Guard, SecureHeaders
from medsam.server.gate.rules import rules_of_api, rules_of_page
from medsam.server.monailabel import proxy
from medsam.server.monailabel import routes as monailabel_routes
from medsam.server.monailabel.ohif import Ohif, ohif_routes
from medsam.server.monailabel.room import Room as MonaiLabelRoom
from medsam.server.monailabel.rules import rules_of_monailabel
from medsam.server.nninteractive import routes as nninteractive
from medsam.server.page.built import Page
from medsam.server.page.routes import page_routes
from medsam.server.readings import routes as reading_routes
from medsam.server.services import PresentServices, open_services
from medsam.server.settings import ServerSettings
from medsam.server.watch import health, status
from medsam.server.watch.health import Checks
from medsam.server.watch.metrics import Metrics
from medsam.server.watch.traffic import Traffic

API = "/api/v1"

_DESCRIPTION = "Scans, sessions and masks for many readers. Masks travel as the frames of `medsam/wire.py`."


class _Application(FastAPI):
    """Describes, beside what its routes take and give, how readers say who they are."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            described = super().openapi()
            described["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer", "description": "for programs: `POST /tokens`"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "medsam", "description": "set by `POST /login`"},
                "csrf": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Medsam-Csrf",
                    "description": "with the cookie, for what is no GET: from `POST /login` or `GET /me`",
                },
            }
            # the last: on this machine, as long as there are no users
            described["security"] = [{"token": []}, {"cookie": [], "csrf": []}, {}]
        return self.openapi_schema or {}


def create_app(settings: ServerSettings, predictor: Predictor | None = None, page: Page | None = None) -> FastAPI:
    """The application. predictor: with a worker; by default the settings' model is loaded when the server starts.

    page: by default the one that is built into this package.
    Entering its lifespan raises what `open_services` raises.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, predictor) as services:
            app.state.services = services
            if settings.monailabel is None:
                yield
                return
            async with MonaiLabelRoom.open(services, settings.monailabel) as app.state.monailabel:
                yield

    app = _Application(
        title="medsam",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url=f"{API}/openapi.json",
        # its pages load scripts from elsewhere
        docs_url=None,
        redoc_url=None,
        # they would name the server by what it was called, behind a proxy without its https
        redirect_slashes=False,
        responses={"4XX": {"model": ErrorBody, "description": "refused; `detail` says why"}},
    )
    table = (*rules_of_api(API, settings.limits), *rules_of_page())
    if (viewers := settings.monailabel) is not None:
        table += rules_of_monailabel(settings.limits, ohif=viewers.ohif is not None)
    if settings.nninteractive is not None:
        table += nninteractive.rules_of_nninteractive(settings.limits)
    # the last one added is the first to see a request; the gate's own defects are caught, too
    handle_errors(app)
    app.add_middleware(Guard, table=table)
    app.add_middleware(CatchDefects)
    app.add_middleware(SecureHeaders, table=table, https=settings.https)
    app.state.metrics, app.state.checks = Metrics(), Checks()
    app.add_middleware(Traffic, table=table, metrics=app.state.metrics)
    for router in _routers():
        app.include_router(router, prefix=API)
    # where those who start and watch servers look for them
    app.include_router(health.router, include_in_schema=False)
    app.state.status = status.Status()
    app.include_router(status.router)
    if settings.nninteractive is not None:
        app.include_router(nninteractive.router, prefix=nninteractive.PREFIX)
    app.include_router(page_routes(Page.read() if page is None else page))
    if viewers is not None:
        app.include_router(monailabel_routes.router)
    if viewers is not None and viewers.ohif is not None:
        app.include_router(proxy.router)
        app.include_router(ohif_routes(Ohif.of(viewers.ohif), https=settings.https))
    return app


class Version(BaseModel):
    """What is spoken here. version: of this interface; medsam: of the program. ready: the model can answer; until then,
    and that may take a minute after a start, a prompt waits. project: one is served (`/annotate`)."""

    version: int = 1
    medsam: str = __version__
    ready: bool
    project: bool = False


_router = APIRouter(tags=["server"])


@_router.get("/version")
async def version(services: PresentServices) -> Version:
    """Which interface this server has; answered without a login."""
    return Version(ready=services.pulse.is_ready, project=services.annotating is not None)


def _routers() -> list[APIRouter]:
    """Those of all rooms."""
    return [
        _router,
        gate_routes.router,
        case_routes.router,
        transfers.router,
        reading_routes.router,
        model.router,
        vocabulary.router,
        results.router,
        comparing.router,
        annotating.router,
        health.router,
    ]
