"""Tables of the data engine: what is to be drawn, by whom, what came of it, and which model came of that.

project           what is asked for, as it was said; the last row counts
scans             by reference: the entry of a manifest, and the side of the split that its patient is on, for good
tasks             a scan to be worked on; the columns that change say how it stands now
task_events       everything that happened to a task
annotations       a mask of a structure on a slice, each with where it comes from; a further one never replaces a row
chances           of masks that a model proposed, how likely each pixel is in them
rounds, round_events, models   what was trained of which masks, how it was measured, which model answers now
verdicts          what an auditor said of a mask
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from medsam.store.tables import Table

# confirmed rows, as those of `tables.APPEND_ONLY`
PROJECT_APPEND_ONLY = (
    "project",
    "scans",
    "task_events",
    "annotations",
    "chances",
    "rounds",
    "round_events",
    "models",
    "verdicts",
)


class ProjectRows(Table):
    """structures: names in their order, which gives their numbers in label maps. settings: JSON, see `Project`."""

    __tablename__ = "project"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    structures: Mapped[list[Any]]
    settings: Mapped[dict[str, Any]]


class Scans(Table):
    """name: the case's id in manifests. patient: as the manifest calls them. document: the manifest's entry.

    labelled: it came with a reference, which is nobody's task.
    """

    __tablename__ = "scans"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(unique=True)
    patient: Mapped[str] = mapped_column(index=True)
    side: Mapped[str]
    labelled: Mapped[bool]
    modality: Mapped[str | None]
    document: Mapped[dict[str, Any]]
    added_at: Mapped[datetime]


class Tasks(Table):
    """kind, state: see `records`. structures: to be drawn. slices: to be drawn on; None: wherever they are.

    priority: the highest first. holder_id, until: who works on it, and how long without a sign. reading: key of the
    session in which that happens. reader_id: the only one who may take it. after_id: the task whose work this is about.
    """

    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    scan_id: Mapped[int] = mapped_column(ForeignKey("scans.id"), index=True)
    kind: Mapped[str]
    stage: Mapped[int]
    structures: Mapped[list[Any]]
    slices: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    made_at: Mapped[datetime]
    priority: Mapped[float]
    state: Mapped[str]
    holder_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    until: Mapped[datetime | None]
    reading: Mapped[str | None]
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    after_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id"))
    __table_args__ = (Index("ix_tasks_queue", "state", "priority", "id"),)


class TaskEvents(Table):
    """kind: see `records.TaskChange`. details: JSON: seconds of attention, "easy" or "hard", why, and the like."""

    __tablename__ = "task_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    kind: Mapped[str]
    details: Mapped[dict[str, Any]]


_COST = ("by_id", "task_id", "structure", "stage", "clicks", "boxes", "strokes", "seconds")


class Annotations(Table):
    """A mask (rows, columns), half-open bounds, bits by zlib as in `masks`.

    by_id: None for a model. parent_id: the row that this one is about. holds_id: the row that has the bits; None: this.
    prompts: entries of a prompts file. clicks, boxes, strokes: how many; seconds: of attention.
    """

    __tablename__ = "annotations"
    id: Mapped[int] = mapped_column(primary_key=True)
    scan_id: Mapped[int] = mapped_column(ForeignKey("scans.id"))
    task_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id"), index=True)
    structure: Mapped[str]
    axis: Mapped[str]
    slice: Mapped[int]
    status: Mapped[str]
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    stage: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("annotations.id"))
    holds_id: Mapped[int | None] = mapped_column(ForeignKey("annotations.id"))
    model: Mapped[str | None]
    weights: Mapped[str | None]
    prompts: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    clicks: Mapped[int]
    boxes: Mapped[int]
    strokes: Mapped[int]
    seconds: Mapped[float | None]
    predicted_iou: Mapped[float | None]
    expected_dice: Mapped[float | None]
    rows: Mapped[int]
    columns: Mapped[int]
    y0: Mapped[int]
    y1: Mapped[int]
    x0: Mapped[int]
    x1: Mapped[int]
    area: Mapped[int]
    # last: who reads the others never goes past it
    bits: Mapped[bytes | None]
    __table_args__ = (
        # what stands, and what it cost, is answered by these alone, past the bits in the rows
        Index("ix_annotations_place", "scan_id", "structure", "axis", "slice", "id", "status", "task_id"),
        Index("ix_annotations_cost", "status", "id", *_COST),
    )


class Chances(Table):
    """See `CompactChances`; rows and columns are the annotation's. Half-open bounds."""

    __tablename__ = "chances"
    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotations.id"), primary_key=True, autoincrement=False)
    y0: Mapped[int]
    y1: Mapped[int]
    x0: Mapped[int]
    x1: Mapped[int]
    levels: Mapped[bytes]


class Rounds(Table):
    """id: its number, from 1. settings: all that its result depends on, beside the masks. last: id of the last
    annotation that it may see."""

    __tablename__ = "rounds"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    last: Mapped[int]
    settings: Mapped[dict[str, Any]]


class RoundEvents(Table):
    """kind: the step that was finished, or how the round ended; once each."""

    __tablename__ = "round_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"))
    at: Mapped[datetime]
    kind: Mapped[str]
    details: Mapped[dict[str, Any]]
    __table_args__ = (UniqueConstraint("round_id", "kind"),)


class Models(Table):
    """The last row's model answers. kind: "started", "promoted", "back". path: relative to the project's folder, or a
    known name. weights: digest."""

    __tablename__ = "models"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    round_id: Mapped[int | None] = mapped_column(ForeignKey("rounds.id"))
    kind: Mapped[str]
    path: Mapped[str]
    weights: Mapped[str | None]
    details: Mapped[dict[str, Any]]


class Verdicts(Table):
    """verdict: "good" or "wrong". dice: against what the auditor drew; None where nothing was."""

    __tablename__ = "verdicts"
    id: Mapped[int] = mapped_column(primary_key=True)
    annotation_id: Mapped[int] = mapped_column(ForeignKey("annotations.id"), index=True)
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    verdict: Mapped[str]
    dice: Mapped[float | None]
    note: Mapped[str | None]
