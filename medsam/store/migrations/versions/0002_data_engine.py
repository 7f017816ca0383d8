"""The data engine: projects, tasks, annotations with where they come from, rounds and models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from medsam.store.append_only import confirm, refuse
from medsam.store.columns import TEXT, TIME, where
from medsam.store.pieces import column, number, primary, to, unique

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


def _sites() -> None:
    """Whose a case is, where the folders of several share the tables."""
    op.add_column("cases", sa.Column("site", TEXT, nullable=False, server_default=sa.text("''")))
    op.drop_index("ix_cases_here", "cases")
    op.create_index("ix_cases_here", "cases", ["site", "source"], unique=True, **where("removed_at IS NULL"))
    refuse("cases_site", "UPDATE OF site", "cases")


def _project() -> None:
    op.create_table(
        "project",
        number(),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("name", TEXT),
        column("structures", sa.JSON()),
        column("settings", sa.JSON()),
        primary("project"),
        to("project", "by_id", "users.id"),
    )


def _scans() -> None:
    op.create_table(
        "scans",
        number(),
        column("public_id", TEXT),
        column("name", TEXT),
        column("patient", TEXT),
        column("side", TEXT),
        column("labelled", sa.Boolean()),
        column("modality", TEXT, nullable=True),
        column("document", sa.JSON()),
        column("added_at", TIME),
        primary("scans"),
        unique("scans", "public_id"),
        unique("scans", "name"),
    )
    op.create_index("ix_scans_patient", "scans", ["patient"])


def _tasks() -> None:
    op.create_table(
        "tasks",
        number(),
        column("public_id", TEXT),
        column("scan_id", sa.Integer()),
        column("kind", TEXT),
        column("stage", sa.Integer()),
        column("structures", sa.JSON()),
        column("slices", sa.JSON(), nullable=True),
        column("made_at", TIME),
        column("priority", sa.Double()),
        column("state", TEXT),
        column("holder_id", sa.Integer(), nullable=True),
        column("until", TIME, nullable=True),
        column("reading", TEXT, nullable=True),
        column("reader_id", sa.Integer(), nullable=True),
        column("after_id", sa.Integer(), nullable=True),
        primary("tasks"),
        unique("tasks", "public_id"),
        to("tasks", "scan_id", "scans.id"),
        to("tasks", "holder_id", "users.id"),
        to("tasks", "reader_id", "users.id"),
        to("tasks", "after_id", "tasks.id"),
    )
    op.create_index("ix_tasks_holder_id", "tasks", ["holder_id"])
    op.create_index("ix_tasks_queue", "tasks", ["state", "priority", "id"])
    op.create_index("ix_tasks_scan_id", "tasks", ["scan_id"])


def _task_events() -> None:
    op.create_table(
        "task_events",
        number(),
        column("task_id", sa.Integer()),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("kind", TEXT),
        column("details", sa.JSON()),
        primary("task_events"),
        to("task_events", "task_id", "tasks.id"),
        to("task_events", "by_id", "users.id"),
    )
    op.create_index("ix_task_events_by_id", "task_events", ["by_id"])
    op.create_index("ix_task_events_task_id", "task_events", ["task_id"])


def _annotations() -> None:
    op.create_table(
        "annotations",
        number(),
        column("scan_id", sa.Integer()),
        column("task_id", sa.Integer(), nullable=True),
        column("structure", TEXT),
        column("axis", TEXT),
        column("slice", sa.Integer()),
        column("status", TEXT),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("stage", sa.Integer()),
        column("parent_id", sa.Integer(), nullable=True),
        column("holds_id", sa.Integer(), nullable=True),
        column("model", TEXT, nullable=True),
        column("weights", TEXT, nullable=True),
        column("prompts", sa.JSON(), nullable=True),
        column("clicks", sa.Integer()),
        column("boxes", sa.Integer()),
        column("strokes", sa.Integer()),
        column("seconds", sa.Double(), nullable=True),
        column("predicted_iou", sa.Double(), nullable=True),
        column("expected_dice", sa.Double(), nullable=True),
        column("rows", sa.Integer()),
        column("columns", sa.Integer()),
        column("y0", sa.Integer()),
        column("y1", sa.Integer()),
        column("x0", sa.Integer()),
        column("x1", sa.Integer()),
        column("area", sa.Integer()),
        column("bits", sa.LargeBinary(), nullable=True),
        primary("annotations"),
        to("annotations", "scan_id", "scans.id"),
        to("annotations", "task_id", "tasks.id"),
        to("annotations", "by_id", "users.id"),
        to("annotations", "parent_id", "annotations.id"),
        to("annotations", "holds_id", "annotations.id"),
    )
    place = ["scan_id", "structure", "axis", "slice", "id", "status", "task_id"]
    op.create_index("ix_annotations_place", "annotations", place)
    cost = ["status", "id", "by_id", "task_id", "structure", "stage", "clicks", "boxes", "strokes", "seconds"]
    op.create_index("ix_annotations_cost", "annotations", cost)
    op.create_index("ix_annotations_task_id", "annotations", ["task_id"])


def _rounds() -> None:
    op.create_table(
        "rounds",
        number(),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("last", sa.Integer()),
        column("settings", sa.JSON()),
        primary("rounds"),
        to("rounds", "by_id", "users.id"),
    )


def _round_events() -> None:
    op.create_table(
        "round_events",
        number(),
        column("round_id", sa.Integer()),
        column("at", TIME),
        column("kind", TEXT),
        column("details", sa.JSON()),
        primary("round_events"),
        unique("round_events", "round_id", "kind"),
        to("round_events", "round_id", "rounds.id"),
    )


def _models() -> None:
    op.create_table(
        "models",
        number(),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("round_id", sa.Integer(), nullable=True),
        column("kind", TEXT),
        column("path", TEXT),
        column("weights", TEXT, nullable=True),
        column("details", sa.JSON()),
        primary("models"),
        to("models", "by_id", "users.id"),
        to("models", "round_id", "rounds.id"),
    )


def _verdicts() -> None:
    op.create_table(
        "verdicts",
        number(),
        column("annotation_id", sa.Integer()),
        column("at", TIME),
        column("by_id", sa.Integer(), nullable=True),
        column("verdict", TEXT),
        column("dice", sa.Double(), nullable=True),
        column("note", TEXT, nullable=True),
        primary("verdicts"),
        to("verdicts", "annotation_id", "annotations.id"),
        to("verdicts", "by_id", "users.id"),
    )
    op.create_index("ix_verdicts_annotation_id", "verdicts", ["annotation_id"])
