"""Whether the worker still takes work, and how long a click would wait for it now."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future
from contextlib import suppress

from medsam.inference.predictor import Predictor
from medsam.inference.usage import Usage
from medsam.inference.worker import Priority, Worker
from medsam.progress import ProgressCallback

_LOG = logging.getLogger("medsam.server")
_EVERY_S = 5.0
# longer than any slice of a slow machine takes
STUCK_S = 60.0


class Pulse:
    """Gives the worker nothing to do, as urgently as a click, now and then. warm: of the model's first work."""

    def __init__(self, worker: Worker, predictor: Predictor) -> None:
        self._worker = worker
        self.warm = worker.submit(lambda _: predictor.warm_up(), priority=Priority.BATCH).future
        self.warm.add_done_callback(_say_if_failed)
        self.waited = 0.0
        self._since: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the model can answer."""
        return self.warm.done() and not self.warm.cancelled() and self.warm.exception() is None

    @property
    def seconds(self) -> float:
        """How long the last click of nothing waited; where one is waiting, how long it has so far."""
        since = self._since
        return self.waited if since is None else max(self.waited, time.monotonic() - since)

    @property
    def is_stuck(self) -> bool:
        """Whether the worker does nothing any more. While the model warms up it may take its time."""
        since = self._since
        return self.warm.done() and since is not None and time.monotonic() - since > STUCK_S

    async def run(self) -> None:
        """Until cancelled."""
        with suppress(asyncio.CancelledError):
            # the graphs of a model take half a minute, during which nothing else can run
            with suppress(Exception):
                await asyncio.shield(asyncio.wrap_future(self.warm))
            while True:
                self._since = time.monotonic()
                with suppress(RuntimeError):
                    await self._worker.run(_nothing, priority=Priority.CLICK)
                self.waited, self._since = time.monotonic() - self._since, None
                await asyncio.sleep(_EVERY_S)


def _nothing(progress: ProgressCallback) -> None: ...


def _say_if_failed(warm: Future[Usage]) -> None:
    if not warm.cancelled() and (error := warm.exception()) is not None:
        _LOG.error("the model cannot be used: %s", type(error).__name__)
