"""Rows that nobody changes: triggers for migrations, in the words of each kind of database."""

from __future__ import annotations

from alembic import op

# what PostgreSQL's triggers call; 23000: a rule of the tables was broken, as SQLite says
_REFUSE = """
CREATE OR REPLACE FUNCTION medsam_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23000';
END $$
"""


def confirm(*tables: str) -> None:
    """Refuse UPDATE and DELETE on `tables` from now on."""
    for table in tables:
        refuse(f"{table}_no_update", "UPDATE", table)
        refuse(f"{table}_no_delete", "DELETE", table)


def refuse(name: str, event: str, table: str) -> None:
    """A trigger `name` that refuses `event` ("UPDATE", "DELETE", "UPDATE OF column, ...") on a table.

    Who may not delete rows may not empty the table either, where a database has a word for that.
    """
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        return
    op.execute(_REFUSE)
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION medsam_refuse()")
    if event == "DELETE":
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION medsam_refuse()")
