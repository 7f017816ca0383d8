"""Where the masks of a session come from: every step that was ever taken in it, and which model made each result."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from medsam.store.part import Part
from medsam.store.records import SaidStep, Work
from medsam.store.tables import Masks, Revisions, Steps


class Provenance(Part):
    """Of sessions, by id."""

    def every_step(self, reading: int) -> list[SaidStep]:
        """All steps in their order, those that were undone among them."""
        columns = (Steps.kind, Steps.object, Steps.slice, Steps.prompts)
        query = select(*columns).where(Steps.reading_id == reading).order_by(Steps.revision)
        with self._database.read() as connection:
            return [SaidStep(*row) for row in connection.execute(query)]

    def makers(self, reading: int) -> dict[int, Work]:
        """Number of a result -> what computed it when it first came; without a model where a hand drew it."""
        query = select(Masks.number, func.min(Masks.revision).label("revision"))
        query = query.where(Masks.reading_id == reading, Masks.number.is_not(None)).group_by(Masks.number)
        first = query.subquery()
        columns: tuple[Any, ...] = (first.c.number, Revisions.model, Revisions.weights)
        made = select(*columns).where(Revisions.reading_id == reading, Revisions.revision == first.c.revision)
        with self._database.read() as connection:
            return {number: Work(model, weights) for number, model, weights in connection.execute(made)}
