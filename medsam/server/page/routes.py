"""The page's files as answers. The page is the same for everybody and holds no data: it asks for that itself."""

from __future__ import annotations

import anyio
from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from medsam.server.page.built import NOT_BUILT, Page, PageFile

_INSTEAD = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>medsam</title>
<h1>medsam</h1>
<p>{NOT_BUILT}</p>
<p>Programs find the interface at /api/v1 all the same.</p>
</html>
"""
# asked for anew each time, and sent only when it has changed; and kept for a year
_FRESH, _LASTING = "no-cache", "public, max-age=31536000, immutable"


def page_routes(page: Page) -> APIRouter:
    """Routes of "/" and "/assets/{name}"."""
    router = APIRouter(include_in_schema=False)
    # one file is unpacked at a time, and none twice
    unpacking = anyio.Lock()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        if page.index is None:
            return HTMLResponse(_INSTEAD, 404)
        return await _answer(page.index, request, unpacking)

    @router.api_route("/assets/{name}", methods=["GET", "HEAD"])
    async def asset(name: str, request: Request) -> Response:
        if (file := page.assets.get(name)) is None:
            raise HTTPException(404, "Not Found")
        return await _answer(file, request, unpacking)

    return router


async def _answer(file: PageFile, request: Request, unpacking: anyio.Lock) -> Response:
    headers = {"cache-control": _LASTING if file.lasting else _FRESH}
    if file.packed:
        headers["vary"] = "accept-encoding"
    if file.packed and not _takes_gzip(request.headers.get("accept-encoding", "")):
        # hardly any client, and programs that look
        async with unpacking:
            content = await to_thread.run_sync(lambda: file.unpacked)
        return Response(content, headers=headers, media_type=file.media_type)
    headers["etag"] = file.etag
    told = request.headers.get("if-none-match", "")
    if told == "*" or file.etag in [one.strip().removeprefix("W/") for one in told.split(",")]:
        return Response(status_code=304, headers=headers)
    if file.packed:
        headers["content-encoding"] = "gzip"
    return Response(file.content, headers=headers, media_type=file.media_type)


def _takes_gzip(accepted: str) -> bool:
    for one in accepted.lower().split(","):
        name, _, weight = one.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
