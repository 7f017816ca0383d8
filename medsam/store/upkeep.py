"""The audit, and what keeps a store in order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, or_, select

from medsam.store.part import Part, now
from medsam.store.readers import Reader
from medsam.store.records import AuditLine
from medsam.store.tables import Audit, Logins


class Upkeep(Part):
    """Audit, backup, logins that ended."""

    def audit(
        self,
        who: Reader | None,
        what: str,
        *,
        case: str | None = None,
        reading: str | None = None,
        address: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """A line, on the disk when this returns. who: None for somebody unknown. case, reading: their keys.

        details: JSON without patients' names, passwords and paths.
        """
        user = {} if who is None else {"user_id": who.id, "user": who.name}
        line = {"at": now(), "what": what, "case": case, "reading": reading, "address": address}
        with self._database.write() as connection:
            connection.execute(insert(Audit).values(**line, **user, details=dict(details or {})))

    def audit_lines(
        self, before: int | None = None, limit: int = 100, user: int | None = None, case: str | None = None
    ) -> list[AuditLine]:
        """The newest first. before: number of a line; goes on from there. user, case: of these alone."""
        query = select(Audit).order_by(Audit.id.desc()).limit(limit)
        for column, value in ((Audit.user_id, user), (Audit.case, case)):
            if value is not None:
                query = query.where(column == value)
        if before is not None:
            query = query.where(Audit.id < before)
        with self._database.read() as connection:
            return [
                AuditLine(row.id, row.at, row.user, row.what, row.case, row.reading, row.address, row.details)
                for row in connection.execute(query)
            ]

    def backup(self, target: Path) -> None:
        """Copy the database as it is now, while it is in use; whole under its name or not there, and checked.

        It becomes a store again as `medsam.db` in a folder. Files of uploads are no part of it.
        Raises InputError when it cannot be written, `target` is another file, and for tables in PostgreSQL.
        """
        self._database.backup(target)

    def retire_logins(self, lasts: float, moment: datetime | None = None) -> int:
        """Forget logins that ended, or of which nothing was seen for `lasts` seconds: how many."""
        moment = moment or now()
        with self._database.write() as connection:
            old = or_(Logins.ended_at.is_not(None), Logins.seen_at < moment - timedelta(seconds=lasts))
            return connection.execute(delete(Logins).where(old)).rowcount

    def writable(self) -> bool:
        """Whether the database takes writes now."""
        return self._database.writable()

    def schema(self) -> str:
        """Revision of the tables, as its migration names it."""
        return self._database.revision

    def check(self) -> list[str]:
        """What the database finds wrong with itself; nothing when it is whole. May take seconds for a large one."""
        return self._database.check()

    def size(self) -> int:
        """Bytes of the database."""
        return self._database.size
