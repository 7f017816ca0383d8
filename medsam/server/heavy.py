"""Threads for what goes through all voxels of a scan.

Such work holds Python's lock again and again. So it has few threads, of its own: more of them would be no faster, and
everybody else would wait, steps and the event loop too; and those that look something up never wait behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

AT_ONCE = max(2, (os.cpu_count() or 1) // 2)
# of an event loop
_LIMITER: RunVar[CapacityLimiter] = RunVar("medsam.server.heavy")


async def heavy(work: Callable[Given, Result], *given: Given.args, **keywords: Given.kwargs) -> Result:
    """The result of such work, once it has had its turn. Not to be asked for from within such work."""
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = CapacityLimiter(AT_ONCE)
        _LIMITER.set(limiter)
    return await to_thread.run_sync(partial(work, *given, **keywords), limiter=limiter)
