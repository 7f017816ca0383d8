"""What migrations make tables of, under the names that `tables.Table` gives constraints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def number() -> sa.Column:
    """The column `id`."""
    return sa.Column("id", sa.Integer(), nullable=False)


def column(name: str, kind: sa.types.TypeEngine, nullable: bool = False) -> sa.Column:
    return sa.Column(name, kind, nullable=nullable)


def to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    """`column` points at `target`, "table.column"."""
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"))


def unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    """Default: of the column `id`."""
    return sa.PrimaryKeyConstraint(*(columns or ("id",)), name=op.f(f"pk_{table}"))
