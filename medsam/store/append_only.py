"""Rows that nobody changes: triggers for migrations, in the words of each kind of database."""

from __future__ import annotations

from alembic import op


def confirm(*tables: str) -> None:
    """Refuse UPDATE and DELETE on `tables` from now on."""
    for table in tables:
        refuse(f"{table}_no_update", "UPDATE", table)
        refuse(f"{table}_no_delete", "DELETE", table)


def refuse(name: str, event: str, table: str) -> None:
    """A trigger `name` that refuses `event` ("UPDATE", "DELETE", "UPDATE OF column, ...") on a table."""
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
