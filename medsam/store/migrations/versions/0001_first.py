"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from medsam.store.append_only import confirm, refuse
from medsam.store.columns import TEXT, TIME, where
from medsam.store.pieces import column, number, primary, to, unique

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


def _to_revision(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["reading_id", "revision"],
        ["revisions.reading_id", "revisions.revision"],
        name=op.f(f"fk_{table}_reading_id_revision"),
    )


def _index(table: str, column: str) -> None:
    op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def _people() -> None:
    op.create_table(
        "users",
        number(),
        column("public_id", TEXT),
        column("name", TEXT),
        column("kind", TEXT),
        column("role", sa.Integer()),
        column("password", TEXT, nullable=True),
        column("active", sa.Boolean()),
        column("added_at", TIME),
        primary("users"),
        unique("users", "public_id"),
        unique("users", "name"),
    )
    op.create_table(
        "tokens",
        number(),
        column("public_id", TEXT),
        column("user_id", sa.Integer()),
        column("name", TEXT),
        column("digest", TEXT),
        column("added_at", TIME),
        column("expires_at", TIME, nullable=True),
        column("used_at", TIME, nullable=True),
        column("revoked_at", TIME, nullable=True),
        primary("tokens"),
        unique("tokens", "public_id"),
        unique("tokens", "digest"),
        to("tokens", "user_id", "users.id"),
    )
    _index("tokens", "user_id")
    op.create_table(
        "logins",
        number(),
        column("user_id", sa.Integer()),
        column("digest", TEXT),
        column("began_at", TIME),
        column("seen_at", TIME),
        column("ended_at", TIME, nullable=True),
        primary("logins"),
        unique("logins", "digest"),
        to("logins", "user_id", "users.id"),
    )
    _index("logins", "user_id")


def _audit() -> None:
    op.create_table(
        "audit",
        number(),
        column("at", TIME),
        column("user_id", sa.Integer(), nullable=True),
        column("user", TEXT, nullable=True),
        column("what", TEXT),
        column("case", TEXT, nullable=True),
        column("reading", TEXT, nullable=True),
        column("address", TEXT, nullable=True),
        column("details", sa.JSON()),
        primary("audit"),
        to("audit", "user_id", "users.id"),
    )
    for name in ("at", "user_id", "case"):
        _index("audit", name)


def _cases() -> None:
    op.create_table(
        "cases",
        number(),
        column("public_id", TEXT),
        column("kind", TEXT),
        column("source", TEXT),
        column("name", TEXT),
        column("owner_id", sa.Integer(), nullable=True),
        column("modality", TEXT, nullable=True),
        column("details", sa.JSON()),
        column("added_at", TIME),
        column("opened_at", TIME, nullable=True),
        column("vanished_at", TIME, nullable=True),
        column("removed_at", TIME, nullable=True),
        column("files_gone_at", TIME, nullable=True),
        primary("cases"),
        unique("cases", "public_id"),
        to("cases", "owner_id", "users.id"),
    )
    _index("cases", "owner_id")
    op.create_index("ix_cases_here", "cases", ["source"], unique=True, **where("removed_at IS NULL"))
    op.create_index("ix_cases_files_left", "cases", ["removed_at"], **where("files_gone_at IS NULL"))
    op.create_table(
        "case_readers",
        column("case_id", sa.Integer()),
        column("user_id", sa.Integer()),
        primary("case_readers", "case_id", "user_id"),
        to("case_readers", "case_id", "cases.id"),
        to("case_readers", "user_id", "users.id"),
    )
    _index("case_readers", "user_id")
    op.create_table(
        "case_events",
        number(),
        column("case_id", sa.Integer()),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("kind", TEXT),
        column("details", sa.JSON()),
        primary("case_events"),
        to("case_events", "case_id", "cases.id"),
        to("case_events", "by_id", "users.id"),
    )
    _index("case_events", "case_id")


def _readings() -> None:
    op.create_table(
        "readings",
        number(),
        column("public_id", TEXT),
        column("case_id", sa.Integer()),
        column("user_id", sa.Integer()),
        column("began_at", TIME),
        column("model", TEXT),
        column("weights", TEXT),
        column("engine", TEXT),
        column("precision", TEXT),
        column("voxels", TEXT),
        column("axis", TEXT),
        column("modality", TEXT, nullable=True),
        column("medsam", TEXT),
        column("document", sa.JSON()),
        primary("readings"),
        unique("readings", "public_id"),
        to("readings", "case_id", "cases.id"),
        to("readings", "user_id", "users.id"),
    )
    _index("readings", "case_id")
    _index("readings", "user_id")
    op.create_table(
        "revisions",
        column("reading_id", sa.Integer()),
        column("revision", sa.Integer()),
        column("kind", TEXT),
        column("at", TIME),
        column("by_id", sa.Integer()),
        column("model", TEXT, nullable=True),
        column("weights", TEXT, nullable=True),
        column("settings", sa.JSON(), nullable=True),
        column("seconds", sa.Double(), nullable=True),
        primary("revisions", "reading_id", "revision"),
        to("revisions", "reading_id", "readings.id"),
        to("revisions", "by_id", "users.id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_revisions_closed", "revisions", ["reading_id", "at"], **where("kind = 'closed'"))


def _changes() -> None:
    op.create_table(
        "object_events",
        number(),
        column("reading_id", sa.Integer()),
        column("revision", sa.Integer()),
        column("number", sa.Integer()),
        column("kind", TEXT),
        column("name", TEXT),
        column("colour", TEXT),
        column("visible", sa.Boolean()),
        column("locked", sa.Boolean()),
        primary("object_events"),
        unique("object_events", "reading_id", "revision", "number"),
        _to_revision("object_events"),
    )
    op.create_table(
        "steps",
        number(),
        column("reading_id", sa.Integer()),
        column("revision", sa.Integer()),
        column("kind", TEXT),
        column("object", sa.Integer(), nullable=True),
        column("slice", sa.Integer(), nullable=True),
        column("ends", sa.Integer(), nullable=True),
        column("prompts", sa.JSON(), nullable=True),
        primary("steps"),
        to("steps", "ends", "steps.id"),
        unique("steps", "reading_id", "revision"),
        _to_revision("steps"),
    )


def _masks() -> None:
    op.create_table(
        "masks",
        number(),
        column("reading_id", sa.Integer()),
        column("revision", sa.Integer()),
        column("step_id", sa.Integer()),
        column("object", sa.Integer()),
        column("axis", TEXT),
        column("slice", sa.Integer()),
        column("status", TEXT),
        column("current", sa.Boolean()),
        *(column(name, sa.Integer()) for name in ("rows", "columns", "y0", "y1", "x0", "x1", "area")),
        column("predicted_iou", sa.Double(), nullable=True),
        column("expected_dice", sa.Double(), nullable=True),
        column("number", sa.Integer(), nullable=True),
        column("extra", sa.JSON(), nullable=True),
        column("bits", sa.LargeBinary()),
        primary("masks"),
        unique("masks", "reading_id", "revision", "object", "axis", "slice"),
        _to_revision("masks"),
        to("masks", "step_id", "steps.id"),
    )
    op.create_index("ix_masks_of_steps", "masks", ["reading_id", "step_id", "object", "axis", "slice"])
    op.create_index(
        "ix_masks_current",
        "masks",
        ["reading_id", "revision", "object", "axis", "slice", "current"],
        **where("current = 1", "current"),
    )
