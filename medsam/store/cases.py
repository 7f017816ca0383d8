"""The scans that readers may open: where each comes from, who may see it, and what happened to it.

Where several sites share the tables, each knows its own cases alone: the same path is another file elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, true, update

from medsam.errors import InputError
from medsam.store.part import Part, new_key, now, portions
from medsam.store.readers import Reader
from medsam.store.records import CaseEvent, CaseKind, NewCase, StoredCase
from medsam.store.tables import CaseEvents, CaseReaders, Cases, Readings, Revisions

# kinds whose files are the server's own
_COPIES = ("upload", "pacs")


class CasesPart(Part):
    """Cases, their rights and their history. A case that was removed is in no answer but `files_left`."""

    def put_case(self, case: NewCase) -> StoredCase:
        """See `put_cases`."""
        return self.put_cases([case])[0]

    def put_cases(self, cases: Sequence[NewCase]) -> list[StoredCase]:
        """Add cases, or bring up to date those whose source is known, all at once; they are there again, too.

        A known case keeps its key, its owner and its history.
        """
        moment = now()
        with self._database.write() as connection:
            before = _by_source(connection, [case.source for case in cases], self._here)
            once = {case.source: case for case in cases}.values()
            _add(connection, [case for case in once if case.source not in before], moment, self._database.site)
            for case in once:
                if case.source in before:
                    _update(connection, case, before[case.source], moment)
            after = _by_source(connection, [case.source for case in cases], self._here)
        return [after[case.source] for case in cases]

    def vanish_cases(self, ids: Iterable[int]) -> None:
        """Their files are gone for now; `put_cases` brings them back."""
        moment = now()
        with self._database.write() as connection:
            for one in ids:
                there = update(Cases).where(Cases.id == one, Cases.vanished_at.is_(None))
                if connection.execute(there.values(vanished_at=moment)).rowcount:
                    _tell(connection, one, "vanished", None, moment)

    def case_sources(self, prefix: str = "") -> list[StoredCase]:
        """All whose source begins so, those that vanished too: for the server itself, whoever may see them."""
        with self._database.read() as connection:
            query = select(Cases).where(Cases.removed_at.is_(None), self._here)
            query = query.where(func.substr(Cases.source, 1, len(prefix)) == prefix)
            return [_case(row) for row in connection.execute(query.order_by(Cases.id))]

    def cases(
        self,
        reader: Reader,
        q: str = "",
        after: str | None = None,
        limit: int = 100,
        *,
        newest: bool = False,
        kind: CaseKind | None = None,
        mine: bool = False,
    ) -> list[StoredCase]:
        """What a reader may see and is there, by time of arrival. q: part of the name or modality. after: a key.

        newest: the last one first. mine: those that this reader brought.
        """
        query = select(Cases).where(seen_by(reader), self._here, Cases.vanished_at.is_(None)).limit(limit)
        query = query.order_by(Cases.id.desc() if newest else Cases.id)
        if q:
            part = q.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
            query = query.where(
                or_(*(column.ilike(f"%{part}%", escape="\\") for column in (Cases.name, Cases.modality)))
            )
        if kind is not None:
            query = query.where(Cases.kind == kind)
        if mine:
            query = query.where(Cases.owner_id == reader.id)
        if after is not None:
            last = select(Cases.id).where(Cases.public_id == after).scalar_subquery()
            query = query.where(Cases.id < last if newest else Cases.id > last)
        with self._database.read() as connection:
            return [_case(row) for row in connection.execute(query)]

    def case(self, reader: Reader, key: str) -> StoredCase | None:
        """None where there is none, or it is not this reader's to see."""
        with self._database.read() as connection:
            row = connection.execute(select(Cases).where(seen_by(reader), self._here, Cases.public_id == key)).first()
        return None if row is None else _case(row)

    def case_of(self, case: int) -> StoredCase:
        """By id, for the server itself. Raises InputError for one that was removed."""
        with self._database.read() as connection:
            return case_where(connection, Cases.id == case)

    def describe_case(self, case: int, details: dict[str, Any], modality: str | None = None) -> StoredCase:
        """What is known of it now that it was read. modality: None leaves it."""
        change = {"details": details} if modality is None else {"details": details, "modality": modality}
        with self._database.write() as connection:
            connection.execute(update(Cases).where(Cases.id == case).values(change))
            return case_where(connection, Cases.id == case)

    def share_case(self, case: int, user: int, by: Reader) -> None:
        """`user` may see it from now on."""
        with self._database.write() as connection:
            case_where(connection, Cases.id == case)
            seen = select(CaseReaders.user_id).where(CaseReaders.case_id == case, CaseReaders.user_id == user)
            if connection.execute(seen).first() is None:
                connection.execute(insert(CaseReaders).values(case_id=case, user_id=user))
                _tell(connection, case, "shared", by.id, now(), user=user)

    def unshare_case(self, case: int, user: int, by: Reader) -> None:
        """`user` may not see it any more; owners always may."""
        with self._database.write() as connection:
            mine = delete(CaseReaders).where(CaseReaders.case_id == case, CaseReaders.user_id == user)
            if connection.execute(mine).rowcount:
                _tell(connection, case, "unshared", by.id, now(), user=user)

    def shared_with(self, case: int) -> list[int]:
        """Ids of users who may see it beside its owner."""
        with self._database.read() as connection:
            query = select(CaseReaders.user_id).where(CaseReaders.case_id == case).order_by(CaseReaders.user_id)
            return list(connection.execute(query).scalars())

    def open_case(self, case: int, by: Reader) -> None:
        """Note that it was opened. Raises InputError for one that was removed, or is not this reader's to see."""
        with self._database.write() as connection:
            opened(connection, case, by, now())

    def remove_case(self, case: int, by: Reader | None) -> bool:
        """Take it from every list, for good; its readings and masks stay. False where that was done before.

        Its files are the caller's to remove, who then says `files_removed`.
        """
        with self._database.write() as connection:
            return _remove(connection, case, None if by is None else by.id, now())

    def files_left(self) -> list[StoredCase]:
        """What was uploaded or fetched, is removed, and of which nobody has said that its files are gone."""
        with self._database.read() as connection:
            query = select(Cases).where(Cases.removed_at.is_not(None), Cases.files_gone_at.is_(None))
            query = query.where(Cases.kind.in_(_COPIES), self._here)
            return [_case(row) for row in connection.execute(query.order_by(Cases.id))]

    def files_removed(self, case: int) -> None:
        """Of a case that was removed."""
        with self._database.write() as connection:
            connection.execute(update(Cases).where(Cases.id == case).values(files_gone_at=now()))

    def case_history(self, case: int) -> list[CaseEvent]:
        """From its arrival on."""
        with self._database.read() as connection:
            rows = connection.execute(select(CaseEvents).where(CaseEvents.case_id == case).order_by(CaseEvents.id))
            return [CaseEvent(row.at, row.by_id, row.kind, row.details) for row in rows]

    def retire_uploads(self, kept: float, remove: Callable[[StoredCase], None], moment: datetime | None = None) -> int:
        """Remove what was uploaded or fetched and nobody has used for `kept` seconds, then the files of all such cases
        that were removed.

        remove: takes a case's files away, those that are there; an OSError is raised once all were tried, and it is
        asked again the next time. How many cases went is returned; what was made of them stays.
        """
        moment = moment or now()
        limit = moment - timedelta(seconds=kept)
        recent = select(Revisions.revision).join(Readings, Readings.id == Revisions.reading_id)
        recent = recent.where(Readings.case_id == Cases.id, Revisions.at >= limit)
        here = select(Cases.id).where(Cases.kind.in_(_COPIES), self._here)
        here = here.where(Cases.removed_at.is_(None), Cases.added_at < limit)
        here = here.where(or_(Cases.opened_at.is_(None), Cases.opened_at < limit), ~recent.exists())
        with self._database.write() as connection:
            old = list(connection.execute(here).scalars())
            for one in old:
                _remove(connection, one, None, moment)
        failed: OSError | None = None
        for case in self.files_left():
            try:
                remove(case)
            except OSError as error:
                failed = error
            else:
                self.files_removed(case.id)
        if failed is not None:
            raise failed
        return len(old)


def seen_by(reader: Reader) -> ColumnElement[bool]:
    """Of cases: there, and this reader's to see."""
    return Cases.removed_at.is_(None) & allowed(reader)


def allowed(reader: Reader) -> ColumnElement[bool]:
    """Of cases: this reader's to see, as long as they are there."""
    if reader.sees_all:
        return true()
    shared = select(CaseReaders.case_id).where(CaseReaders.user_id == reader.id)
    return or_(Cases.owner_id.is_(None), Cases.owner_id == reader.id, Cases.id.in_(shared))


def case_where(connection: Connection, which: ColumnElement[bool]) -> StoredCase:
    """Raises InputError where there is none."""
    row = connection.execute(select(Cases).where(which, Cases.removed_at.is_(None))).first()
    if row is None:
        raise InputError("There is no such case, or it was removed.", parameter="case")
    return _case(row)


def opened(connection: Connection, case: int, by: Reader, moment: datetime) -> None:
    """Note in a transaction that a case was opened."""
    case_where(connection, (Cases.id == case) & allowed(by))
    connection.execute(update(Cases).where(Cases.id == case).values(opened_at=moment))
    _tell(connection, case, "opened", by.id, moment)


def _values(case: NewCase) -> dict[str, Any]:
    return {"kind": case.kind, "name": case.name, "modality": case.modality, "details": dict(case.details)}


def _add(connection: Connection, cases: Sequence[NewCase], moment: datetime, site: str) -> None:
    rows = [
        {"public_id": new_key(), "source": case.source, "owner_id": case.owner, "added_at": moment, "site": site}
        | _values(case)
        for case in cases
    ]
    if not rows:
        return
    connection.execute(insert(Cases), rows)
    added = _by_source(connection, [case.source for case in cases], Cases.site == site)
    told = {"at": moment, "kind": "added"}
    connection.execute(
        insert(CaseEvents),
        [{**told, "case_id": one.id, "by_id": one.owner, "details": {"name": one.name}} for one in added.values()],
    )


def _update(connection: Connection, case: NewCase, known: StoredCase, moment: datetime) -> None:
    values = _values(case)
    if known.vanished_at is None and values == {name: getattr(known, name) for name in values}:
        return
    connection.execute(update(Cases).where(Cases.id == known.id).values(**values, vanished_at=None))
    _tell(connection, known.id, "described" if known.vanished_at is None else "returned", None, moment, name=case.name)


def _remove(connection: Connection, case: int, by: int | None, moment: datetime) -> bool:
    there = update(Cases).where(Cases.id == case, Cases.removed_at.is_(None))
    if not connection.execute(there.values(removed_at=moment)).rowcount:
        return False
    _tell(connection, case, "removed", by, moment)
    return True


def _tell(connection: Connection, case: int, kind: str, by: int | None, moment: datetime, **details: Any) -> None:
    connection.execute(insert(CaseEvents).values(case_id=case, at=moment, by_id=by, kind=kind, details=details))


def _by_source(connection: Connection, sources: Sequence[str], here: ColumnElement[bool]) -> dict[str, StoredCase]:
    found: dict[str, StoredCase] = {}
    for some in portions(sources):
        query = select(Cases).where(here, Cases.source.in_(some), Cases.removed_at.is_(None))
        found |= {row.source: _case(row) for row in connection.execute(query)}
    return found


def _case(row: Any) -> StoredCase:
    return StoredCase(
        id=row.id,
        key=row.public_id,
        source=row.source,
        kind=row.kind,
        name=row.name,
        owner=row.owner_id,
        modality=row.modality,
        details=row.details,
        added_at=row.added_at,
        opened_at=row.opened_at,
        vanished_at=row.vanished_at,
        removed_at=row.removed_at,
    )
