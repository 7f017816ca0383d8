"""`/status`: what `medsam serve --check` says, of the server that runs, to its administrators; a page, or JSON."""

from __future__ import annotations

import asyncio
import html
import time

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from medsam._version import __version__
from medsam.errors import printable
from medsam.server.gate.present import require
from medsam.server.services import PresentServices
from medsam.server.watch.check import Finding, of_running
from medsam.store.readers import Role

# a PACS that does not answer takes its time: nobody has it asked again at once
_KEPT_S = 10.0

WORDS = {True: "works", False: "FAILS", None: "-"}
router = APIRouter(include_in_schema=False)


class Status:
    """The last findings, and when they were made."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._last: tuple[float, list[Finding]] | None = None

    async def findings(self, services: PresentServices) -> list[Finding]:
        """As it is now, or was some seconds ago."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > _KEPT_S:
                found = await to_thread.run_sync(lambda: list(of_running(services)))
                self._last = time.monotonic(), found
            return self._last[1]


@router.get("/status", dependencies=[require(Role.ADMINISTRATOR)])
async def status(request: Request, services: PresentServices) -> Response:
    """503 where something does not work."""
    kept: Status = request.app.state.status
    findings = await kept.findings(services)
    code = 503 if any(one.works is False for one in findings) else 200
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse([{"what": one.what, "works": one.works, "text": one.text} for one in findings], code)
    cells = ((WORDS[one.works], printable(one.what), printable(one.text)) for one in findings)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in cells)
    title = f"medsam {__version__}: status of the server"
    return HTMLResponse(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n<h1>{title}</h1>\n'
        f"<table>\n<tr><th></th><th>what</th><th></th></tr>\n{rows}</table>\n</html>\n",
        code,
    )
