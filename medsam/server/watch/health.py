"""`/health`, for whoever starts and stops servers, and `/metrics`, for whoever watches them."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import Literal

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from medsam.server.gate.identity import Present
from medsam.server.gate.request import Asked
from medsam.server.services import PresentServices, Services
from medsam.server.settings import MIB
from medsam.server.watch.metrics import CONTENT_TYPE, Metrics
from medsam.store.readers import Role

# below, masks will soon not be confirmed
_LEAST_FREE = 512 * MIB
# a crowd that asks does not make work
_KEPT_S = 1.0

router = APIRouter(tags=["server"])


class Health(BaseModel):
    """ok: everything works. starting: the model is being made ready. failing: see `checks`."""

    status: Literal["ok", "starting", "failing"]
    checks: dict[str, bool] = Field(
        default={},
        description="model: it can answer; worker: it takes work; store: it takes writes; disk: there is room",
        examples=[{"model": True, "worker": True, "store": True, "disk": True}],
    )


class Checks:
    """The state of a server, looked at once a second at most."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._last: tuple[float, Health] | None = None

    async def health(self, services: Services) -> Health:
        """As it is now."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _KEPT_S:
                self._last = time.monotonic(), await to_thread.run_sync(_look, services)
            return self._last[1]


def _look(services: Services) -> Health:
    pulse = services.pulse
    checks = {
        "model": pulse.is_ready,
        "worker": not pulse.is_stuck,
        "store": services.store.writable(),
        "disk": shutil.disk_usage(services.store.folder).free >= _LEAST_FREE,
    }
    waiting = not pulse.warm.done() and all(well for name, well in checks.items() if name != "model")
    return Health(status="ok" if all(checks.values()) else "starting" if waiting else "failing", checks=checks)


@router.get("/health", responses={503: {"model": Health, "description": "not ready"}})
async def health(request: Request, response: Response, services: PresentServices) -> Health:
    """Whether the server can do its work; 503 where not."""
    checks: Checks = request.app.state.checks
    found = await checks.health(services)
    if found.status != "ok":
        response.status_code = 503
    return found


@router.get("/health/live")
async def live() -> Health:
    """Whether the server answers at all."""
    return Health(status="ok")


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}, "description": "Prometheus"}}
)
async def metrics(request: Request, services: PresentServices) -> Response:
    """The numbers of the server, for programs of this machine, and others with a token or an administrator's login."""
    asked: Asked = request.state.asked
    present: Present | None = request.state.present
    known = present is not None and (present.way == "token" or present.reader.role >= Role.ADMINISTRATOR)
    if not known and not asked.from_this_machine:
        raise HTTPException(401 if present is None else 403, "The numbers of the server need a token.")
    numbers: Metrics = request.app.state.metrics
    return Response(await numbers.text(services), media_type=CONTENT_TYPE)
