"""The body of a request as files, for routes that take some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from medsam.errors import InputError
from medsam.server.cases.rooms import CaseRooms
from medsam.server.cases.uploads import Receiver, TooLarge
from medsam.server.settings import MIB, Limits

# written at once, and the longest that a client may pause
_PIECE, _PAUSE = MIB, 60.0

# of OpenAPI: a file, or some
FILES = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    },
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
}


@asynccontextmanager
async def received(
    request: Request, rooms: CaseRooms, limits: Limits, name: str
) -> AsyncIterator[tuple[Path, list[str]]]:
    """The files of a body: the folder that they lie in while this block lasts, and their names.

    name: of a file that is the whole body. Raises TooLarge, DiskFull, and InputError for a body that is damaged.
    """
    async with rooms.arriving() as part:
        receiver = await received_in(part, request, rooms, limits, name)
        yield part, await rooms.calls(receiver.end)


async def received_in(part: Path, request: Request, rooms: CaseRooms, limits: Limits, name: str = "") -> Receiver:
    """The body of a request, whose files lie in `part`, a folder of `Uploads.begin`; its `end` is still to be asked.

    Raises as `received`.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limits.upload_bytes:
        raise TooLarge(f"An upload has at most {limits.upload_bytes / MIB:,.0f} MiB here.")
    kind = request.headers.get("content-type", "")
    receiver = await rooms.calls(Receiver, part, limits, kind, name)
    try:
        async for data in pieces(request):
            await rooms.calls(receiver.feed, data)
    except BaseException:
        receiver.close()
        raise
    return receiver


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces worth writing. Raises InputError for one that pauses too long or ends too early."""
    buffer = bytearray()
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(_PAUSE):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise InputError(f"Nothing came for {_PAUSE:.0f} seconds; the upload was ended.") from None
        except ClientDisconnect:
            raise InputError("The upload was interrupted.") from None
        if chunk is None:
            break
        buffer += chunk
        if len(buffer) >= _PIECE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
