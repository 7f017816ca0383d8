"""A built OHIF as pages at /ohif/: its files as they are, and its first page for every other path of its own.

Nothing in these files is about anybody, so that they are served to everybody; what they show they ask for at /proxy,
as the reader whose cookie the browser has. A path in a request reaches no file: they are listed when the server starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from medsam.errors import InputError
from medsam.server.page.built import TYPES

_TYPES = {**TYPES, ".map": "application/json", ".gif": "image/gif", ".ttf": "font/ttf", ".woff": "font/woff"}
# bundles have what is in them in their names
_LASTING = re.compile(r"(^|\.)[0-9a-f]{20}\.")
_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Ohif:
    """files: by their path below the folder, with slashes."""

    index: Path
    files: Mapping[str, Path]

    @classmethod
    def of(cls, folder: Path) -> Ohif:
        """Raises InputError for a folder that holds no built OHIF."""
        index = folder / "index.html"
        if not index.is_file():
            raise InputError(f"`ohif` {folder} holds no index.html: name the folder of a built OHIF.", parameter="ohif")
        root = folder.resolve()
        found = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix in _TYPES and path.resolve().is_relative_to(root)
        }
        return cls(index, found)


def ohif_routes(ohif: Ohif, *, https: bool) -> APIRouter:
    """Routes of "/ohif/" and all below it. https: whether browsers come by it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/ohif")
    async def start() -> Response:
        return RedirectResponse("/ohif/", 308)

    @router.get("/ohif/{path:path}")
    async def page(path: str, request: Request) -> Response:
        file = ohif.files.get(path, ohif.index)
        headers = {"cache-control": _YEAR} if _LASTING.search(file.name) else {}
        answer = FileResponse(file, media_type=_TYPES[file.suffix], headers=headers)
        if file == ohif.index:
            # where its extension looks for MONAI Label; without it for one at port 8000
            here = f"{'https' if https else 'http'}://{request.headers['host']}/"
            answer.set_cookie(
                "MONAILABEL_SERVER_URL", quote(here, safe=""), path="/ohif", secure=https, samesite="strict"
            )
        return answer

    return router
