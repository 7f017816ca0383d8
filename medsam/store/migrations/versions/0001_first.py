"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from medsam.store.append_only import confirm, refuse
from medsam.store.columns import TEXT, TIME, where

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_CONFIRMED = ("case_events", "readings", "revisions", "object_events", "steps", "masks", "audit")


def upgrade() -> None:
    _people()
    _audit()
    _cases()
    _readings()
    _changes()
    _masks()
    confirm(*_CONFIRMED)
    refuse("cases_no_delete", "DELETE", "cases")
    refuse("cases_identity", "UPDATE OF id, public_id, source, owner_id, added_at", "cases")


def downgrade() -> None:
    raise NotImplementedError("A store does not go back: open the copy from before the migration.")


def _id() -> sa.Column:
    return sa.Column("id", sa.Integer(), nullable=False)


def _column(name: str, kind: sa.types.TypeEngine, nullable: bool = False) -> sa.Column:
    return sa.Column(name, kind, nullable=nullable)


def _to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"))


def _to_revision(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["reading_id", "revision"],
        ["revisions.reading_id", "revisions.revision"],
        name=op.f(f"fk_{table}_reading_id_revision"),
    )


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*(columns or ("id",)), name=op.f(f"pk_{table}"))


def _index(table: str, column: str) -> None:
    op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def _people() -> None:
    op.create_table(
        "users",
        _id(),
        _column("public_id", TEXT),
        _column("name", TEXT),
        _column("kind", TEXT),
        _column("role", sa.Integer()),
        _column("password", TEXT, nullable=True),
        _column("active", sa.Boolean()),
        _column("added_at", TIME),
        _primary("users"),
        _unique("users", "public_id"),
        _unique("users", "name"),
    )
    op.create_table(
        "tokens",
        _id(),
        _column("public_id", TEXT),
        _column("user_id", sa.Integer()),
        _column("name", TEXT),
        _column("digest", TEXT),
        _column("added_at", TIME),
        _column("expires_at", TIME, nullable=True),
        _column("used_at", TIME, nullable=True),
        _column("revoked_at", TIME, nullable=True),
        _primary("tokens"),
        _unique("tokens", "public_id"),
        _unique("tokens", "digest"),
        _to("tokens", "user_id", "users.id"),
    )
    _index("tokens", "user_id")
    op.create_table(
        "logins",
        _id(),
        _column("user_id", sa.Integer()),
        _column("digest", TEXT),
        _column("began_at", TIME),
        _column("seen_at", TIME),
        _column("ended_at", TIME, nullable=True),
        _primary("logins"),
        _unique("logins", "digest"),
        _to("logins", "user_id", "users.id"),
    )
    _index("logins", "user_id")


def _audit() -> None:
    op.create_table(
        "audit",
        _id(),
        _column("at", TIME),
        _column("user_id", sa.Integer(), nullable=True),
        _column("user", TEXT, nullable=True),
        _column("what", TEXT),
        _column("case", TEXT, nullable=True),
        _column("reading", TEXT, nullable=True),
        _column("address", TEXT, nullable=True),
        _column("details", sa.JSON()),
        _primary("audit"),
        _to("audit", "user_id", "users.id"),
    )
    for column in ("at", "user_id", "case"):
        _index("audit", column)


def _cases() -> None:
    op.create_table(
        "cases",
        _id(),
        _column("public_id", TEXT),
        _column("kind", TEXT),
        _column("source", TEXT),
        _column("name", TEXT),
        _column("owner_id", sa.Integer(), nullable=True),
        _column("modality", TEXT, nullable=True),
        _column("details", sa.JSON()),
        _column("added_at", TIME),
        _column("opened_at", TIME, nullable=True),
        _column("vanished_at", TIME, nullable=True),
        _column("removed_at", TIME, nullable=True),
        _column("files_gone_at", TIME, nullable=True),
        _primary("cases"),
        _unique("cases", "public_id"),
        _to("cases", "owner_id", "users.id"),
    )
    _index("cases", "owner_id")
    op.create_index("ix_cases_here", "cases", ["source"], unique=True, **where("removed_at IS NULL"))
    op.create_index("ix_cases_files_left", "cases", ["removed_at"], **where("files_gone_at IS NULL"))
    op.create_table(
        "case_readers",
        _column("case_id", sa.Integer()),
        _column("user_id", sa.Integer()),
        _primary("case_readers", "case_id", "user_id"),
        _to("case_readers", "case_id", "cases.id"),
        _to("case_readers", "user_id", "users.id"),
    )
    _index("case_readers", "user_id")
    op.create_table(
        "case_events",
        _id(),
        _column("case_id", sa.Integer()),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("kind", TEXT),
        _column("details", sa.JSON()),
        _primary("case_events"),
        _to("case_events", "case_id", "cases.id"),
        _to("case_events", "by_id", "users.id"),
    )
    _index("case_events", "case_id")


def _readings() -> None:
    op.create_table(
        "readings",
        _id(),
        _column("public_id", TEXT),
        _column("case_id", sa.Integer()),
        _column("user_id", sa.Integer()),
        _column("began_at", TIME),
        _column("model", TEXT),
        _column("weights", TEXT),
        _column("engine", TEXT),
        _column("precision", TEXT),
        _column("voxels", TEXT),
        _column("axis", TEXT),
        _column("modality", TEXT, nullable=True),
        _column("medsam", TEXT),
        _column("document", sa.JSON()),
        _primary("readings"),
        _unique("readings", "public_id"),
        _to("readings", "case_id", "cases.id"),
        _to("readings", "user_id", "users.id"),
    )
    _index("readings", "case_id")
    _index("readings", "user_id")
    op.create_table(
        "revisions",
        _column("reading_id", sa.Integer()),
        _column("revision", sa.Integer()),
        _column("kind", TEXT),
        _column("at", TIME),
        _column("by_id", sa.Integer()),
        _column("model", TEXT, nullable=True),
        _column("weights", TEXT, nullable=True),
        _column("settings", sa.JSON(), nullable=True),
        _column("seconds", sa.Double(), nullable=True),
        _primary("revisions", "reading_id", "revision"),
        _to("revisions", "reading_id", "readings.id"),
        _to("revisions", "by_id", "users.id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_revisions_closed", "revisions", ["reading_id", "at"], **where("kind = 'closed'"))


def _changes() -> None:
    op.create_table(
        "object_events",
        _id(),
        _column("reading_id", sa.Integer()),
        _column("revision", sa.Integer()),
        _column("number", sa.Integer()),
        _column("kind", TEXT),
        _column("name", TEXT),
        _column("colour", TEXT),
        _column("visible", sa.Boolean()),
        _column("locked", sa.Boolean()),
        _primary("object_events"),
        _unique("object_events", "reading_id", "revision", "number"),
        _to_revision("object_events"),
    )
    op.create_table(
        "steps",
        _id(),
        _column("reading_id", sa.Integer()),
        _column("revision", sa.Integer()),
        _column("kind", TEXT),
        _column("object", sa.Integer(), nullable=True),
        _column("slice", sa.Integer(), nullable=True),
        _column("ends", sa.Integer(), nullable=True),
        _column("prompts", sa.JSON(), nullable=True),
        _primary("steps"),
        _to("steps", "ends", "steps.id"),
        _unique("steps", "reading_id", "revision"),
        _to_revision("steps"),
    )


def _masks() -> None:
    op.create_table(
        "masks",
        _id(),
        _column("reading_id", sa.Integer()),
        _column("revision", sa.Integer()),
        _column("step_id", sa.Integer()),
        _column("object", sa.Integer()),
        _column("axis", TEXT),
        _column("slice", sa.Integer()),
        _column("status", TEXT),
        _column("current", sa.Boolean()),
        *(_column(name, sa.Integer()) for name in ("rows", "columns", "y0", "y1", "x0", "x1", "area")),
        _column("predicted_iou", sa.Double(), nullable=True),
        _column("expected_dice", sa.Double(), nullable=True),
        _column("number", sa.Integer(), nullable=True),
        _column("extra", sa.JSON(), nullable=True),
        _column("bits", sa.LargeBinary()),
        _primary("masks"),
        _unique("masks", "reading_id", "revision", "object", "axis", "slice"),
        _to_revision("masks"),
        _to("masks", "step_id", "steps.id"),
    )
    op.create_index("ix_masks_of_steps", "masks", ["reading_id", "step_id", "object", "axis", "slice"])
    op.create_index(
        "ix_masks_current",
        "masks",
        ["reading_id", "revision", "object", "axis", "slice", "current"],
        **where("current = 1", "current"),
    )
