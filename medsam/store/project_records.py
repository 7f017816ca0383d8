"""What the data engine's part of the store gives and takes: rows as frozen values, times in UTC with their zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from medsam.chances import CompactChances
from medsam.geometry import Axis
from medsam.masks import CompactMask

# of the split, which a patient never changes
Side = Literal["train", "val", "test"]
# "draw": the work itself. "gold": on a scan whose reference is known, to see how good the reader is. "second": the same
# scan again by somebody else. "adjudicate": two readers differ, a reviewer decides. "audit": a look at what a model
# made alone.
TaskKind = Literal["draw", "gold", "second", "adjudicate", "audit"]
TaskState = Literal["open", "taken", "submitted", "approved", "skipped", "withdrawn"]
TaskChange = Literal[
    "made",
    "taken",
    "left",
    "expired",
    "opened",
    "submitted",
    "skipped",
    "returned",
    "approved",
    "withdrawn",
    "reopened",
]
# "accepted": as a model proposed it, untouched. "edited": a person drew or changed it. "approved": a reviewer said so.
Status = Literal["proposed", "accepted", "edited", "rejected", "approved"]
# tasks whose masks are the project's; the others are about them
MAKING: tuple[TaskKind, ...] = ("draw", "adjudicate")
# verdict of a reviewer -> states of tasks that it is about
REVIEWED: Mapping[str, tuple[TaskState, ...]] = {"approved": ("submitted",), "returned": ("submitted", "approved")}
# only for reviewers
REVIEWERS: tuple[TaskKind, ...] = ("adjudicate", "audit")


@dataclass(frozen=True)
class Project:
    """What is asked for. structures: in order of their numbers. settings: JSON of `annotation.settings`."""

    name: str
    structures: tuple[str, ...]
    settings: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True)
class NewScan:
    """name: the case's id. document: its entry in a manifest, with absolute paths."""

    name: str
    patient: str = field(repr=False)
    side: Side
    labelled: bool
    document: Mapping[str, Any] = field(repr=False)
    modality: str | None = None


@dataclass(frozen=True)
class StoredScan:
    """key: for URLs, random. The rest: see `NewScan`."""

    id: int
    key: str
    name: str
    patient: str = field(repr=False)
    side: Side
    labelled: bool
    modality: str | None
    document: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class NewTask:
    """slices: to be drawn on, None: wherever the structures are. reader: the only one who may take it.

    after: the task that this one is about (second, adjudicate).
    """

    scan: int
    structures: tuple[str, ...]
    kind: TaskKind = "draw"
    stage: int = 1
    slices: tuple[int, ...] | None = None
    priority: float = 0.0
    reader: int | None = None
    after: int | None = None


@dataclass(frozen=True)
class Task:
    """holder: id of who works on it, or did. until: when it comes back without a sign of life.

    reading: key of the session in which it happens.
    """

    id: int
    key: str
    scan: int
    kind: TaskKind
    stage: int
    structures: tuple[str, ...]
    slices: tuple[int, ...] | None
    priority: float
    state: TaskState
    holder: int | None
    until: datetime | None
    reading: str | None
    reader: int | None
    after: int | None


@dataclass(frozen=True)
class TaskEvent:
    """What happened to a task. by: id of the user; None: the engine itself."""

    task: int
    at: datetime
    by: int | None
    kind: TaskChange
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Effort:
    """What a mask cost. prompts: entries of a prompts file. seconds: of attention."""

    clicks: int = 0
    boxes: int = 0
    strokes: int = 0
    seconds: float | None = None
    prompts: Any = None


@dataclass(frozen=True)
class NewAnnotation:
    """A mask (rows, columns) of a structure on a slice of a scan.

    mask: None for a row about another one, `parent`, whose mask it has. model, weights: of what computed it.
    likely: how likely each pixel is in it, of a mask that is where that is more likely than not.
    """

    scan: int
    structure: str
    axis: Axis
    slice: int
    status: Status
    mask: CompactMask | None
    stage: int = 1
    parent: int | None = None
    model: str | None = None
    weights: str | None = None
    effort: Effort = field(default_factory=Effort)
    predicted_iou: float | None = None
    expected_dice: float | None = None
    likely: CompactChances | None = None


@dataclass(frozen=True)
class Annotation:
    """A mask as it was put down, with where it comes from. by: id of the user; None: a model."""

    id: int
    scan: int
    task: int | None
    structure: str
    axis: Axis
    slice: int
    status: Status
    at: datetime
    by: int | None
    stage: int
    parent: int | None
    model: str | None
    weights: str | None
    effort: Effort
    predicted_iou: float | None
    expected_dice: float | None
    mask: CompactMask


@dataclass(frozen=True)
class Round:
    """number: from 1. last: id of the last annotation that it sees. events: kind -> (when, details), in order."""

    number: int
    at: datetime
    by: int | None
    last: int
    settings: Mapping[str, Any]
    events: Mapping[str, tuple[datetime, Mapping[str, Any]]]


@dataclass(frozen=True)
class StoredModel:
    """A model that answers, or did. kind: "started", "promoted" or "back". path: relative to the project's folder, or
    a known name."""

    id: int
    at: datetime
    by: int | None
    round: int | None
    kind: str
    path: str
    weights: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What an auditor said of a mask. dice: against what the auditor drew."""

    annotation: int
    at: datetime
    by: int | None
    verdict: Literal["good", "wrong"]
    dice: float | None
    note: str | None


@dataclass(frozen=True)
class EffortLine:
    """Masks that people made, of one group. key: of the group. untouched: masks accepted as they were proposed.

    seconds: of attention, of the masks for which they are known, `timed` of them.
    """

    key: str
    masks: int
    untouched: int
    clicks: int
    boxes: int
    strokes: int
    seconds: float
    timed: int
