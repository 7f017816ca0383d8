"""Organs on a live session: what can be looked for without a prompt, and a job that looks for it.

The job computes on the worker's thread, behind everybody's clicks, and touches nothing of the session meanwhile. What
it found is drawn when it has ended, a step a structure: an object that has a mask by then keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from anyio import to_thread
from fastapi import HTTPException

from medsam.errors import Cancelled, PromptError
from medsam.inference.by_name import KnownName, NamedMask
from medsam.inference.organs import FoundOrgans, GuessedModality, Lack, canonical_of, guessed_modality, row_of
from medsam.inference.session import Session
from medsam.inference.worker import Job, Priority
from medsam.progress import ProgressCallback
from medsam.server.readings.follow import Following
from medsam.server.readings.live import Live
from medsam.server.readings.objects import checked_new, label_of
from medsam.store.records import StoredObject

# found: it is drawn. absent: the head says that it is not in the scan. kept: an object of this name had a mask
Outcome = Literal["found", "absent", "kept"]


@dataclass(frozen=True)
class Offer:
    """modality: of the scan, and how it is known. organs: what would be looked for. kept: what would be, were there no
    mask of it: with the object that has it. lack: why there is neither; else None."""

    modality: GuessedModality
    organs: tuple[KnownName, ...]
    kept: tuple[tuple[KnownName, StoredObject], ...]
    lack: Lack | None


class Finding(Live):
    """What `Live` is with organs."""

    # of the scan, once it was asked for
    _guessed: GuessedModality | None = None

    async def offer(self) -> Offer:
        """What would be looked for now. Nothing that was not measured on unseen patients."""
        guessed = await self._modality()

        def ask(_: Session) -> tuple[list[KnownName], Lack | None]:
            reader = self.tools.organs()
            found = reader.offered(guessed.name)
            return found, None if found else reader.lack(guessed.name)

        found, lack = await self.ask(ask)
        named = [(one, self._called(one)) for one in found]
        kept = [(one, there) for one, there in named if there is not None and self._has_mask(there)]
        taken = {one.name for one, _ in kept}
        return Offer(guessed, tuple(one for one in found if one.name not in taken), tuple(kept), lack)

    async def _modality(self) -> GuessedModality:
        if self._guessed is None:
            # every voxel may be read
            scan, stated = self.scan_encoder.scan, self.scan_encoder.modality
            self._guessed = await to_thread.run_sync(guessed_modality, scan, stated)
        return self._guessed

    async def find_organs(self, match: int | None) -> Following:
        """Look for every organ that is offered, as a job; each that is found becomes an object, a step each.

        Raises PromptError where there is nothing to look for, and HTTPException: 409 where that is under way, 412 and
        429.
        """
        async with self._turn(match):
            if any(job.runs and job.object is None for job in self.jobs.values()):
                raise HTTPException(409, "Organs are being looked for.")
            offer = await self.offer()
            if offer.lack is not None:
                raise PromptError(offer.lack.text)
            if not offer.organs:
                raise PromptError("All that could be looked for has a mask already: delete those that are to be anew.")
            job = self._new_job(None)
            submitted: Job[FoundOrgans] = self.tools.worker.submit(
                partial(self._look_for, job, offer.organs),
                priority=Priority.PROPAGATE,
                progress=partial(self._progress, job),
            )
            self._running[submitted] = job
            drawing = asyncio.create_task(self._drawn_once_found(job, submitted, offer))
            self._drawing.add(drawing)
            drawing.add_done_callback(self._drawing.discard)
            return job

    async def _drawn_once_found(self, job: Following, submitted: Job[FoundOrgans], offer: Offer) -> None:
        """The rest of a job, on the event loop. Whatever happens is told of it."""
        error: Exception | None = None
        try:
            try:
                found = await asyncio.wrap_future(submitted.future)
            finally:
                # before the lock: who closes the session holds it, and waits for what runs
                self._running.pop(submitted, None)
            async with self._turn(None):
                if not job.wanted:
                    raise Cancelled
                rows = [self._row(one, there.number, "kept") for one, there in offer.kept]
                rows += [await self._taken_in(one) for one in found.masks]
                job.structures = rows
        except Exception as raised:
            error = raised
        self._tell_ended(job, error)

    async def _taken_in(self, organ: NamedMask) -> dict[str, Any]:
        """Draw a structure that was found, unless its object has a mask by now. Returns what to say of it."""
        one = organ.known
        there = self._called(one)
        if not organ.found:
            return self._row(one, None if there is None else there.number, "absent")
        if there is None:
            name, colour = checked_new(self.objects.values(), one.name, None, self.gone)
            there = await self._object(partial(self.tools.store.add_object, self.stored.id, self.owner, name, colour))
        label, drawn = label_of(there.number), [False]

        def draw(session: Session) -> None:
            # what was erased was drawn, too
            if not there.locked and not session.states.get(label):
                session.put(organ.mask, label)
                drawn[0] = True

        said = {"organ": one.name, "head": one.head.card.name}
        with self._words():
            await self._step("text", draw, there.number, said)
        return self._row(one, there.number, "found" if drawn[0] else "kept")

    def _row(self, known: KnownName, number: int | None, outcome: Outcome) -> dict[str, Any]:
        """What became of a structure; voxels are those of the object, as it is shown."""
        name = known.name if number is None else self.objects[number].name
        if outcome == "kept":
            about = dict.fromkeys(("voxels", "ml", "found"))
            return {"object": number, "outcome": outcome, **row_of(known, name, 0, None), **about}
        masks = {} if number is None or outcome == "absent" else self.slate.of(number)[1]
        voxels = sum(int(np.count_nonzero(mask.to_array())) for mask in masks.values())
        geometry = self.scan_encoder.scan.geometry
        ml = voxels * geometry.voxel_ml if geometry.calibrated else None
        row = row_of(known, name, voxels, ml)
        return {"object": number, "outcome": outcome, **row, "found": outcome == "found"}

    def _called(self, known: KnownName) -> StoredObject | None:
        """The object that is this structure, by its name: one that has a mask before others."""
        there = [one for one in self.listed if canonical_of(one.name) == known.name]
        return next((one for one in there if self._has_mask(one)), there[0] if there else None)

    def _has_mask(self, one: StoredObject) -> bool:
        return one.locked or self.slate.has(one.number)

    # -- on the worker's thread ---------------------------------------------------------------------------------------

    def _look_for(self, job: Following, organs: Sequence[KnownName], progress: ProgressCallback) -> FoundOrgans:
        if not job.begin():
            raise Cancelled

        def go_on(done: int, total: int | None) -> None:
            if not job.wanted:
                raise Cancelled
            progress(done, total)

        return self.tools.organs().answer(self.scan_encoder, organs, go_on)


def statistics_of(job: Following) -> list[dict[str, Any]]:
    """Rows of a search for a table: of the structures that heads answered, and not of those that were kept."""
    return [row for row in job.structures or () if row["outcome"] != "kept"]
