"""The data engine: projects, tasks, annotations with where they come from, rounds and models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from medsam.store.append_only import confirm, refuse
from medsam.store.columns import TEXT, TIME, where

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _sites()
    _project()
    _scans()
    _tasks()
    _task_events()
    _annotations()
    _rounds()
    _round_events()
    _models()
    _verdicts()
    confirm("project", "scans", "task_events", "annotations", "rounds", "round_events", "models", "verdicts")
    refuse("tasks_no_delete", "DELETE", "tasks")
    refuse("tasks_identity", "UPDATE OF id, public_id, scan_id, kind, stage, made_at, after_id", "tasks")


def downgrade() -> None:
    raise NotImplementedError("A store does not go back: open the copy from before the migration.")


def _id() -> sa.Column:
    return sa.Column("id", sa.Integer(), nullable=False)


def _column(name: str, kind: sa.types.TypeEngine, nullable: bool = False) -> sa.Column:
    return sa.Column(name, kind, nullable=nullable)


def _to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"))


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _primary(table: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}"))


def _sites() -> None:
    """Whose a case is, where the folders of several share the tables."""
    op.add_column("cases", sa.Column("site", TEXT, nullable=False, server_default=sa.text("''")))
    op.drop_index("ix_cases_here", "cases")
    op.create_index("ix_cases_here", "cases", ["site", "source"], unique=True, **where("removed_at IS NULL"))
    refuse("cases_site", "UPDATE OF site", "cases")


def _project() -> None:
    op.create_table(
        "project",
        _id(),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("name", TEXT),
        _column("structures", sa.JSON()),
        _column("settings", sa.JSON()),
        _primary("project"),
        _to("project", "by_id", "users.id"),
    )


def _scans() -> None:
    op.create_table(
        "scans",
        _id(),
        _column("public_id", TEXT),
        _column("name", TEXT),
        _column("patient", TEXT),
        _column("side", TEXT),
        _column("labelled", sa.Boolean()),
        _column("modality", TEXT, nullable=True),
        _column("document", sa.JSON()),
        _column("added_at", TIME),
        _primary("scans"),
        _unique("scans", "public_id"),
        _unique("scans", "name"),
    )
    op.create_index("ix_scans_patient", "scans", ["patient"])


def _tasks() -> None:
    op.create_table(
        "tasks",
        _id(),
        _column("public_id", TEXT),
        _column("scan_id", sa.Integer()),
        _column("kind", TEXT),
        _column("stage", sa.Integer()),
        _column("structures", sa.JSON()),
        _column("slices", sa.JSON(), nullable=True),
        _column("made_at", TIME),
        _column("priority", sa.Double()),
        _column("state", TEXT),
        _column("holder_id", sa.Integer(), nullable=True),
        _column("until", TIME, nullable=True),
        _column("reading", TEXT, nullable=True),
        _column("reader_id", sa.Integer(), nullable=True),
        _column("after_id", sa.Integer(), nullable=True),
        _primary("tasks"),
        _unique("tasks", "public_id"),
        _to("tasks", "scan_id", "scans.id"),
        _to("tasks", "holder_id", "users.id"),
        _to("tasks", "reader_id", "users.id"),
        _to("tasks", "after_id", "tasks.id"),
    )
    op.create_index("ix_tasks_holder_id", "tasks", ["holder_id"])
    op.create_index("ix_tasks_queue", "tasks", ["state", "priority", "id"])
    op.create_index("ix_tasks_scan_id", "tasks", ["scan_id"])


def _task_events() -> None:
    op.create_table(
        "task_events",
        _id(),
        _column("task_id", sa.Integer()),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("kind", TEXT),
        _column("details", sa.JSON()),
        _primary("task_events"),
        _to("task_events", "task_id", "tasks.id"),
        _to("task_events", "by_id", "users.id"),
    )
    op.create_index("ix_task_events_by_id", "task_events", ["by_id"])
    op.create_index("ix_task_events_task_id", "task_events", ["task_id"])


def _annotations() -> None:
    op.create_table(
        "annotations",
        _id(),
        _column("scan_id", sa.Integer()),
        _column("task_id", sa.Integer(), nullable=True),
        _column("structure", TEXT),
        _column("axis", TEXT),
        _column("slice", sa.Integer()),
        _column("status", TEXT),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("stage", sa.Integer()),
        _column("parent_id", sa.Integer(), nullable=True),
        _column("holds_id", sa.Integer(), nullable=True),
        _column("model", TEXT, nullable=True),
        _column("weights", TEXT, nullable=True),
        _column("prompts", sa.JSON(), nullable=True),
        _column("clicks", sa.Integer()),
        _column("boxes", sa.Integer()),
        _column("strokes", sa.Integer()),
        _column("seconds", sa.Double(), nullable=True),
        _column("predicted_iou", sa.Double(), nullable=True),
        _column("expected_dice", sa.Double(), nullable=True),
        _column("rows", sa.Integer()),
        _column("columns", sa.Integer()),
        _column("y0", sa.Integer()),
        _column("y1", sa.Integer()),
        _column("x0", sa.Integer()),
        _column("x1", sa.Integer()),
        _column("area", sa.Integer()),
        _column("bits", sa.LargeBinary(), nullable=True),
        _primary("annotations"),
        _to("annotations", "scan_id", "scans.id"),
        _to("annotations", "task_id", "tasks.id"),
        _to("annotations", "by_id", "users.id"),
        _to("annotations", "parent_id", "annotations.id"),
        _to("annotations", "holds_id", "annotations.id"),
    )
    place = ["scan_id", "structure", "axis", "slice", "id", "status", "task_id"]
    op.create_index("ix_annotations_place", "annotations", place)
    cost = ["status", "id", "by_id", "task_id", "structure", "stage", "clicks", "boxes", "strokes", "seconds"]
    op.create_index("ix_annotations_cost", "annotations", cost)
    op.create_index("ix_annotations_task_id", "annotations", ["task_id"])


def _rounds() -> None:
    op.create_table(
        "rounds",
        _id(),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("last", sa.Integer()),
        _column("settings", sa.JSON()),
        _primary("rounds"),
        _to("rounds", "by_id", "users.id"),
    )


def _round_events() -> None:
    op.create_table(
        "round_events",
        _id(),
        _column("round_id", sa.Integer()),
        _column("at", TIME),
        _column("kind", TEXT),
        _column("details", sa.JSON()),
        _primary("round_events"),
        _unique("round_events", "round_id", "kind"),
        _to("round_events", "round_id", "rounds.id"),
    )


def _models() -> None:
    op.create_table(
        "models",
        _id(),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("round_id", sa.Integer(), nullable=True),
        _column("kind", TEXT),
        _column("path", TEXT),
        _column("weights", TEXT, nullable=True),
        _column("details", sa.JSON()),
        _primary("models"),
        _to("models", "by_id", "users.id"),
        _to("models", "round_id", "rounds.id"),
    )


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        _id(),
        _column("annotation_id", sa.Integer()),
        _column("at", TIME),
        _column("by_id", sa.Integer(), nullable=True),
        _column("verdict", TEXT),
        _column("dice", sa.Double(), nullable=True),
        _column("note", TEXT, nullable=True),
        _primary("verdicts"),
        _to("verdicts", "annotation_id", "annotations.id"),
        _to("verdicts", "by_id", "users.id"),
    )
    op.create_index("ix_verdicts_annotation_id", "verdicts", ["annotation_id"])
