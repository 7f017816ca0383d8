"""Which of a project's models answers here. A round that promotes one, or somebody who goes back to an earlier one,
says so in the store; the server looks there now and then, loads it beside the one that answers, and only then has it
answer what begins from that moment on. Embeddings are filed under the weights of the encoder (`EmbeddingCache`), and so
serve the next model where that stays the same.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from anyio import to_thread

from medsam.annotation.project import AnnotationProject
from medsam.errors import MedSAMError
from medsam.inference.predictor import Predictor
from medsam.server.readings.registry import Readings
from medsam.store.project_records import StoredModel
from medsam.store.store import Calls

_LOG = logging.getLogger("medsam.server")
# seconds between two looks
LOOKED_S = 3.0
# earlier models that are tried for a session that began with one
_TRIED = 8


class Models:
    """Of a project. stored: the row of the model that answers. Made once it is loaded, with what `readings` has."""

    def __init__(self, project: AnnotationProject, readings: Readings, device: str, stored: StoredModel) -> None:
        self.stored = stored
        self._project, self._readings, self._device = project, readings, device
        self._calls, self._lock = Calls(2), asyncio.Lock()
        # what could not be loaded is not tried again
        self._refused: int | None = None
        readings.find = self.find

    async def look(self) -> None:
        """Have the project's model answer, where it is another than before; one that cannot be loaded changes nothing.

        Who comes while it is loaded waits for it.
        """
        async with self._lock:
            name, stored = await self._calls(self._project.model)
            if stored.id in (self.stored.id, self._refused):
                return
            if (stored.path, stored.weights) != (self.stored.path, self.stored.weights):
                try:
                    self._readings.adopt(await self._loaded(name))
                except MedSAMError as error:
                    self._refused = stored.id
                    _LOG.error("the project's model cannot be loaded, and the one before answers: %s", error)
                    return
            self.stored = stored

    async def find(self, weights: str) -> Predictor | None:
        """A model that answered once, by its digest; None where there is none, or its file is gone."""
        rows = {one.path: one for one in reversed(await self._calls(self._project.store.models))}
        likely = [one for one in rows.values() if one.weights == weights]
        others = [one for one in rows.values() if one.weights is None]
        for one in (*likely, *others)[:_TRIED]:
            try:
                found = await self._loaded(self._project.file_of(one))
            except MedSAMError:
                continue
            if found.images.weights == weights:
                return found
        return None

    async def _loaded(self, name: str) -> Predictor:
        """Ready to answer at once."""
        now = self._readings.predictor
        make = partial(Predictor, name, self._device, now.cache, worker=now.worker, heads=now.heads)
        made = await to_thread.run_sync(make)
        await to_thread.run_sync(made.warm_up)
        await to_thread.run_sync(lambda: made.images.weights)
        return made
