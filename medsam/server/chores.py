"""What a server does now and then, for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from medsam.server.errors import places

_LOG = logging.getLogger("medsam.server")


async def repeated(seconds: float, chore: Callable[[], Awaitable[object]], what: str) -> None:
    """Until cancelled: `chore`, and so many seconds without. One that fails (a full disk) is logged and does not end
    the ones to come. what: it is for, as the log has it."""
    while True:
        try:
            await chore()
        except Exception as error:
            _LOG.error("%s failed, and will be tried again: %s", what, places(error))
        await asyncio.sleep(seconds)
