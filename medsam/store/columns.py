"""Kinds of columns, and indexes of some rows, in the words of each kind of database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, text

# by bytes, as SQLite compares: in another order, equal questions would have other answers on another machine
TEXT = String().with_variant(String(collation="C"), "postgresql")
# a moment, see `tables.UtcTime`
TIME = String(32).with_variant(String(32, collation="C"), "postgresql")


def where(condition: str, postgresql: str | None = None) -> dict[str, Any]:
    """Arguments of an index of the rows for which `condition` is true. postgresql: where that says it otherwise."""
    return {"sqlite_where": text(condition), "postgresql_where": text(postgresql or condition)}
