"""Long work for a client that may leave: routes run to their end, whether or not somebody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from fastapi import Request

from medsam.errors import Cancelled

Result = TypeVar("Result")

# seconds between two looks whether the client is still there
_THERE = 1.0


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of long work, which is cancelled when its client has gone. request: its body has been read."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=_THERE))[0]:
            if await request.is_disconnected():
                raise Cancelled
        return await task
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
