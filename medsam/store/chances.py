"""How likely each pixel is in masks that were proposed: read by themselves, for few questions about masks want it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Row, insert, select

from medsam.chances import CompactChances
from medsam.store.part import Part, portions
from medsam.store.project_records import NewAnnotation
from medsam.store.project_tables import Annotations, Chances


class ChancesPart(Part):
    """Of annotations, by id."""

    def chances(self, annotations: Sequence[int]) -> dict[int, CompactChances]:
        """Of those of these annotations that have them."""
        query = select(Chances, Annotations.rows, Annotations.columns)
        query = query.join(Annotations, Annotations.id == Chances.annotation_id)
        rows = list[Row]()
        with self._database.read() as connection:
            for some in portions(annotations):
                rows += connection.execute(query.where(Chances.annotation_id.in_(some)))
        return {
            row.annotation_id: CompactChances(
                (row.rows, row.columns), ((row.y0, row.y1), (row.x0, row.x1)), bytes(row.levels)
            )
            for row in rows
        }


def append_chances(connection: Connection, ids: Sequence[int], annotations: Sequence[NewAnnotation]) -> None:
    """Of annotations that just got these ids, in their transaction."""
    rows = []
    for number, one in zip(ids, annotations, strict=True):
        if one.likely is not None:
            (y0, y1), (x0, x1) = one.likely.bounds
            where = {"y0": y0, "y1": y1, "x0": x0, "x1": x1}
            rows.append({"annotation_id": number, **where, "levels": one.likely.levels})
    if rows:
        connection.execute(insert(Chances), rows)
