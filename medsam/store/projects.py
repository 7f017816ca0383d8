"""A project of the data engine: what is asked for, its scans, its rounds, and the model that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import case, func, insert, select

from medsam.errors import InputError
from medsam.store.part import Part, new_key, now
from medsam.store.project_records import NewScan, Project, Round, Side, StoredModel, StoredScan
from medsam.store.project_tables import Annotations, Models, ProjectRows, RoundEvents, Rounds, Scans
from medsam.store.readers import Reader


class ProjectsPart(Part):
    """One project a store. Nothing here is ever changed: what is said later is a further row."""

    # -- what is asked for ------------------------------------------------------------------------------------------

    def set_project(
        self, name: str, structures: Sequence[str], settings: Mapping[str, Any], by: Reader | None = None
    ) -> Project:
        """What is asked for from now on. structures: those of before keep their order, and so their numbers.

        Raises InputError where that would change numbers.
        """
        with self._database.write() as connection:
            before = connection.execute(select(ProjectRows).order_by(ProjectRows.id.desc()).limit(1)).first()
            if before is not None and list(structures)[: len(before.structures)] != list(before.structures):
                raise InputError(
                    "The structures of a project keep their order: new ones come last.", parameter="structures"
                )
            moment = now()
            row = {"at": moment, "by_id": _id(by), "name": name, "settings": dict(settings)}
            connection.execute(insert(ProjectRows).values(**row, structures=list(structures)))
        return Project(name, tuple(structures), dict(settings), moment)

    def project(self) -> Project | None:
        """None for a store in which nothing is annotated by tasks."""
        with self._database.read() as connection:
            row = connection.execute(select(ProjectRows).order_by(ProjectRows.id.desc()).limit(1)).first()
        return None if row is None else Project(row.name, tuple(row.structures), row.settings, row.at)

    # -- scans --------------------------------------------------------------------------------------------------------

    def add_scans(self, scans: Sequence[NewScan]) -> list[StoredScan]:
        """Those that are new, all at once; of a name that is known nothing changes.

        Raises InputError where a patient would be on two sides of the split.
        """
        moment = now()
        with self._database.write() as connection:
            sides = dict(connection.execute(select(Scans.patient, Scans.side)).all())
            known = set(connection.execute(select(Scans.name)).scalars())
            rows: list[dict[str, Any]] = []
            for scan in scans:
                if scan.name in known:
                    continue
                if sides.setdefault(scan.patient, scan.side) != scan.side:
                    raise InputError(
                        f"Scan {scan.name}: its patient is on the {sides[scan.patient]} side already and stays there."
                    )
                known.add(scan.name)
                row: dict[str, Any] = {"public_id": new_key(), "name": scan.name, "patient": scan.patient}
                row |= {"side": scan.side, "added_at": moment}
                row |= {"labelled": scan.labelled, "modality": scan.modality, "document": dict(scan.document)}
                rows.append(row)
            if rows:
                connection.execute(insert(Scans), rows)
            keys = {row["public_id"] for row in rows}
            return [_scan(row) for row in connection.execute(select(Scans).order_by(Scans.id)) if row.public_id in keys]

    def scans(self, side: Side | None = None) -> list[StoredScan]:
        """In the order in which they came."""
        query = select(Scans).order_by(Scans.id)
        if side is not None:
            query = query.where(Scans.side == side)
        with self._database.read() as connection:
            return [_scan(row) for row in connection.execute(query)]

    def scan_counts(self) -> dict[Side, tuple[int, int, int]]:
        """Side -> how many scans there are, of how many patients, and how many of them came with a reference."""
        labelled = func.sum(case((Scans.labelled, 1), else_=0))
        query = select(Scans.side, func.count(), func.count(Scans.patient.distinct()), labelled).group_by(Scans.side)
        with self._database.read() as connection:
            return {
                cast(Side, side): (scans, patients, there) for side, scans, patients, there in connection.execute(query)
            }

    def scan(self, scan: int) -> StoredScan:
        """By id."""
        with self._database.read() as connection:
            return _scan(connection.execute(select(Scans).where(Scans.id == scan)).one())

    # -- rounds -------------------------------------------------------------------------------------------------------

    def begin_round(self, settings: Mapping[str, Any], by: Reader | None = None) -> Round:
        """A round over all masks that there are now. Raises InputError while another one is under way."""
        with self._database.write() as connection:
            going = [one for one in _rounds(connection) if "ended" not in one.events]
            if going:
                raise InputError(f"Round {going[0].number} is under way: end it first, `annotate round`.")
            last = connection.execute(select(func.coalesce(func.max(Annotations.id), 0))).scalar_one()
            moment = now()
            row = {"at": moment, "by_id": _id(by), "last": last, "settings": dict(settings)}
            number = connection.execute(insert(Rounds).values(row).returning(Rounds.id)).scalar_one()
        return Round(number, moment, _id(by), last, dict(settings), {})

    def round_event(self, number: int, kind: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
        """A step of a round is finished. What was said of it before stays, and is returned."""
        with self._database.write() as connection:
            query = select(RoundEvents.details).where(RoundEvents.round_id == number, RoundEvents.kind == kind)
            before = connection.execute(query).scalar()
            if before is not None:
                return dict(before)
            row = {"round_id": number, "at": now(), "kind": kind, "details": dict(details)}
            connection.execute(insert(RoundEvents).values(row))
        return dict(details)

    def rounds(self) -> list[Round]:
        """By number. One that has no event "ended" is under way, or was killed."""
        with self._database.read() as connection:
            return _rounds(connection)

    # -- models -------------------------------------------------------------------------------------------------------

    def put_model(
        self,
        kind: str,
        path: str,
        weights: str | None,
        *,
        number: int | None = None,
        by: Reader | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> StoredModel:
        """From now on this model answers. number: of the round that it comes from."""
        row: dict[str, Any] = {"at": now(), "by_id": _id(by), "round_id": number, "kind": kind}
        row |= {"path": path, "weights": weights, "details": dict(details or {})}
        with self._database.write() as connection:
            made = connection.execute(insert(Models).values(row).returning(Models.id)).scalar_one()
            return _model(connection.execute(select(Models).where(Models.id == made)).one())

    def model(self) -> StoredModel | None:
        """The one that answers."""
        with self._database.read() as connection:
            row = connection.execute(select(Models).order_by(Models.id.desc()).limit(1)).first()
        return None if row is None else _model(row)

    def models(self) -> list[StoredModel]:
        """All that ever did, the first one first."""
        with self._database.read() as connection:
            return [_model(row) for row in connection.execute(select(Models).order_by(Models.id))]


def _id(by: Reader | None) -> int | None:
    return None if by is None else by.id


def _rounds(connection: Any) -> list[Round]:
    events: dict[int, dict[str, Any]] = {}
    for row in connection.execute(select(RoundEvents).order_by(RoundEvents.id)):
        events.setdefault(row.round_id, {})[row.kind] = (row.at, row.details)
    rows = connection.execute(select(Rounds).order_by(Rounds.id))
    return [Round(row.id, row.at, row.by_id, row.last, row.settings, events.get(row.id, {})) for row in rows]


def _scan(row: Any) -> StoredScan:
    return StoredScan(
        row.id, row.public_id, row.name, row.patient, cast(Side, row.side), row.labelled, row.modality, row.document
    )


def _model(row: Any) -> StoredModel:
    return StoredModel(row.id, row.at, row.by_id, row.round_id, row.kind, row.path, row.weights, row.details)
