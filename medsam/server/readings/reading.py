"""One reading: the session of a reader on a case, live. What runs where: see the top of this room (`__init__`)."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import HTTPException

from medsam.errors import PromptError
from medsam.inference.session import Session
from medsam.inference.worker import Priority
from medsam.prompts.prompt import Prompt
from medsam.server.readings.answers import Answer
from medsam.server.readings.events import Event
from medsam.server.readings.finding import Finding
from medsam.server.readings.follow import Following
from medsam.server.readings.journal import Kind
from medsam.server.readings.objects import (
    checked_colour,
    checked_name,
    checked_new,
    label_of,
)
from medsam.server.readings.walk import touched, walk
from medsam.store.records import StoredObject

# seconds between two looks whether who waits for changes is still there
_THERE = 1.0


class Reading(Finding):
    """What its readers ask for. Made by `Readings`."""

    async def prompt(self, number: int, entry: dict[str, Any], since: int | None, match: int | None) -> Answer:
        """A step: an entry of a prompts file, without its label, about an object. The first answer, stored.

        since: the revision that the client has; default: that before the step. match: the one that there has to be.
        Raises PromptError for what cannot be answered, and HTTPException: 404, 412, 423 and 429.
        """
        async with self._turn(match):
            self._unlocked(number)
            shape = self.scan_encoder.scan.geometry.shape
            with self._words():
                read = partial(Prompt.from_dict, {**entry, "label": label_of(number)}, shape=shape)
                prompt = await to_thread.run_sync(read)
            here = (number, entry.get("slice") or 0)
            return await self._stepped("prompt", lambda session: session.prompt(prompt), since, number, entry, here)

    async def walk(self, kind: Kind, since: int | None, match: int | None) -> Answer:
        """undo, redo or reset; where there is nothing to be done nothing is. 423 where it would change what is
        locked. A propagation of what it is about ends first, so that it is what is undone, and does not come after."""
        async with self._turn(match):
            before = self.revision
            await self._end_followings(await self.ask(partial(touched, kind)) if self._running else ())
            locked = {label_of(one.number): one.name for one in self.objects.values() if one.locked}
            return await self._stepped(kind, partial(walk, kind, locked), before if since is None else since)

    async def remove_object(self, number: int, since: int | None, match: int | None) -> Answer:
        """An object with all its masks, as a step: undo brings both back. Raises as `prompt`."""
        async with self._turn(match):
            self._unlocked(number)
            before, label = self.revision, label_of(number)
            await self._end_followings((label,))
            since = before if since is None else since
            return await self._stepped("remove", lambda session: session.forget(label), since, number)

    async def interpolate(self, number: int, since: int | None, match: int | None) -> Answer:
        """Draw an object between the slices that it is on, as a step. Raises as `prompt`."""
        async with self._turn(match):
            self._unlocked(number)
            label = label_of(number)

            def draw(session: Session) -> list[int]:
                return session.interpolate(label)

            # many slices: others' clicks come in between
            return await self._stepped("interpolate", draw, since, number, priority=Priority.SLICE)

    async def text(self, number: int, name: str, since: int | None, match: int | None) -> Answer:
        """Draw a structure by its name on every slice that it is on, as a step. Raises as `prompt`."""
        async with self._turn(match):
            self._unlocked(number)
            label = label_of(number)

            def draw(session: Session) -> object:
                return session.text(name, label, reader=self.tools.names())

            # every slice is encoded: others' clicks come in between
            return await self._stepped("text", draw, since, number, priority=Priority.PROPAGATE)

    async def keep_range(self, values: tuple[float | None, float | None] | None, match: int | None) -> None:
        """Only pixels of these values are in masks that are made from now on; None: whatever they are.

        Raises PromptError for what is no range, and for a scan in colour.
        """
        async with self._turn(match):
            limits = replace(self.limits, values=values)
            limits.check(self.scan_encoder.scan)

            def show(revision: int) -> None:
                self.limits, self.revision, self.objects_revision = limits, revision, revision
                self.events.publish(Event("objects", revision, changes=True))

            await self._ledger.put(partial(self._rows.limit, limits), show)
            await self._limit()

    async def changes(
        self, since: int, seconds: float = 0.0, gone: Callable[[], Awaitable[bool]] | None = None
    ) -> Answer:
        """All that changed after revision `since`. seconds: how long to wait for something, where there is nothing.

        gone: whether nobody waits any more; asked now and then.
        """
        until = time.monotonic() + seconds
        while self.revision == since and (left := until - time.monotonic()) > 0:
            if await self.events.wait(min(left, _THERE)):
                continue
            if self.events.closed or (gone is not None and await gone()):
                break
        return await self._answer(since, frozenset())

    async def add_object(self, name: str, colour: str | None, match: int | None = None) -> StoredObject:
        """One more object. Raises InputError for a name or colour that cannot be one."""
        async with self._turn(match):
            name, colour = checked_new(self.objects.values(), name, colour, self.gone)
            return await self._object(partial(self.tools.store.add_object, self.stored.id, self.owner, name, colour))

    async def change_object(self, number: int, match: int | None = None, **changes: Any) -> StoredObject:
        """name, colour, visible, locked: those that are given. Raises as `add_object`, and 404."""
        async with self._turn(match):
            there = self.there(number)
            given = {name: value for name, value in changes.items() if value is not None}
            if "name" in given:
                others = [one for one in self.listed if one is not there]
                given["name"] = checked_name(given["name"], others)
            if "colour" in given:
                given["colour"] = checked_colour(given["colour"])
            if given.get("locked", there.locked) != there.locked:
                # what is shown stays: it is made whole while it may change, and as the locks were
                if given["locked"]:
                    await self._end_followings((label_of(number),))
                await self.refined()
            change = partial(self.tools.store.change_object, self.stored.id, self.owner, number, **given)
            changed = await self._object(change)
            if changed.locked != there.locked:
                await self._limit()
            return changed

    def check_slice(self, index: int) -> None:
        """Raise PromptError for a slice that there is not."""
        plane = self.scan_encoder.plane
        if not 0 <= index < plane.count:
            raise PromptError(
                f"There is no `slice` {index}: axis {plane.axis} has the slices 0 ... {plane.count - 1}.",
                parameter="slice",
            )

    def look(self, index: int) -> None:
        """A slice is on screen. Raises as `check_slice`."""
        self.check_slice(index)
        self.used = time.monotonic()
        self.view.look(index)

    async def propagate(self, number: int, max_mm: float, match: int | None = None) -> Following:
        """Follow an object through the volume, as a job. Raises PromptError for one without a mask, and HTTPException:
        404, 409 where that is under way, 412 and 423."""
        async with self._turn(match):
            one = self._unlocked(number)
            if any(job.runs and job.object == number for job in self.jobs.values()):
                raise HTTPException(409, f"{one.name!r} is being propagated.")
            if math.isfinite(max_mm) and not self.scan_encoder.scan.geometry.calibrated:
                raise PromptError("`max_mm` needs a scan with millimetres: leave it out.", parameter="max_mm")
            if not self.slate.has(number):
                raise PromptError(f"There is no prompt of {one.name!r} to propagate: give it one on some slice.")
            job = self._new_job(number)
            self._background(job, number, max_mm)
            return job

    def job(self, job_id: str) -> Following:
        """A propagation, or a search for organs. 404 for one there is not."""
        if job_id not in self.jobs:
            raise HTTPException(404, "There is no such job.")
        return self.jobs[job_id]

    def stop(self, job_id: str) -> Following:
        """End a job: what a propagation has found stays, as a step; a search leaves nothing. Raises as `job`."""
        job = self.job(job_id)
        job.stop()
        self._tell_job(job)
        return job
