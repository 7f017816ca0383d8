"""What the store gives and takes: rows as frozen values. Times are in UTC, with their zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from medsam.geometry import Axis
from medsam.masks import CompactMask
from medsam.store.readers import Reader, Role

CaseKind = Literal["data", "upload", "pacs"]
# "start": masks that were there before the first step, and cannot be undone. "following": a propagation begins, which
# "propagate" makes a step and "ended" does not. "limits": no step of the stack, what masks keep to from then on
CallKind = Literal[
    "start",
    "prompt",
    "interpolate",
    "text",
    "remove",
    "propagate",
    "reset",
    "undo",
    "redo",
    "following",
    "ended",
]
StepKind = Literal[CallKind, "limits"]
ObjectChange = Literal["created", "renamed", "coloured", "shown", "locked"]


@dataclass(frozen=True)
class User:
    """A reader as administrators see them. key: for URLs. kind: "person" (with a password), "proxy" or "local"."""

    id: int
    key: str
    name: str
    role: Role
    kind: str
    active: bool
    added_at: datetime

    @property
    def reader(self) -> Reader:
        return Reader(self.id, self.name, self.role)


@dataclass(frozen=True)
class Token:
    """A program's way in, without its secret."""

    id: int
    key: str
    user: int
    name: str
    added_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class Login:
    """Of a person at a browser. seen_at: when the reader last did something, a few seconds more or less."""

    id: int
    reader: Reader
    began_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class NewCase:
    """source: what the server finds the scan by; of one source there is one case.

    name: as shown in lists, never a patient's. owner: id of a user; None: all who log in may see it. details: JSON.
    """

    source: str
    kind: CaseKind
    name: str
    owner: int | None = None
    modality: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredCase:
    """key: for URLs, random. The rest: see `NewCase`."""

    id: int
    key: str
    source: str = field(repr=False)
    kind: CaseKind
    name: str = field(repr=False)
    owner: int | None
    modality: str | None
    details: Mapping[str, Any] = field(repr=False)
    added_at: datetime
    opened_at: datetime | None
    vanished_at: datetime | None
    removed_at: datetime | None


@dataclass(frozen=True)
class CaseEvent:
    """What happened to a case: added, described, shared, unshared, opened, removed. by: id of the user."""

    at: datetime
    by: int | None
    kind: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class StoredReading:
    """A reader's session on a case. key: for URLs, random. document: `SessionState.to_dict` before the first step."""

    id: int
    key: str
    case: int
    user: int
    began_at: datetime
    model: str
    weights: str
    axis: Axis
    voxels: str
    medsam: str
    document: Mapping[str, Any] = field(repr=False)
    closed_at: datetime | None = None


@dataclass(frozen=True)
class ReadingLine:
    """A session in a list. case, case_name: key and name. owner: name of its reader, "" for one who has left."""

    key: str
    case: str
    case_name: str
    owner: str
    axis: Axis
    model: str
    began_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class StoredObject:
    """An object as it stands. revision: when it came to be so."""

    number: int
    name: str
    colour: str
    visible: bool
    locked: bool
    revision: int


@dataclass(frozen=True)
class Work:
    """What computed masks: the model and its weights' digest, what it was told, and how long it took."""

    model: str | None = None
    weights: str | None = None
    settings: Mapping[str, Any] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class NewMask:
    """A mask (rows, columns) of an object on a slice. status: as on the wire. predicted_iou: see `wire`.

    number: of the result in its session. extra: JSON that belongs to this slice alone. Both are the caller's.
    current: False for one that comes when its step is undone, or a later one has changed the slice: it is not seen.
    """

    object: int
    axis: Axis
    slice: int
    mask: CompactMask
    status: str
    predicted_iou: float | None = None
    expected_dice: float | None = None
    number: int | None = None
    extra: Any = None
    current: bool = True


@dataclass(frozen=True)
class StoredMask:
    """A mask as it was confirmed. step: id of the step it belongs to."""

    object: int
    axis: Axis
    slice: int
    mask: CompactMask
    status: str
    predicted_iou: float | None
    expected_dice: float | None
    number: int | None
    extra: Any
    revision: int
    step: int


@dataclass(frozen=True)
class StoredStep:
    """A step that stands or can be taken again. masks: the last of each object and slice that it gave.

    Of one that ended a propagation, those that came while it ran are among them.
    """

    id: int
    revision: int
    kind: StepKind
    object: int | None
    slice: int | None
    prompts: Any
    masks: tuple[StoredMask, ...]


@dataclass(frozen=True)
class SaidStep:
    """A step as it was said, whether it stands or not."""

    kind: StepKind
    object: int | None
    slice: int | None
    prompts: Any


@dataclass(frozen=True)
class Appended:
    """A step on the disk."""

    step: int
    revision: int


@dataclass(frozen=True)
class Changes:
    """What changed since a revision: each as it is now. revision: up to which."""

    revision: int
    objects: tuple[StoredObject, ...]
    masks: tuple[StoredMask, ...]


@dataclass(frozen=True)
class ReadingState:
    """All of a reading. steps: first those that stand, `done` of them, then those that were undone and can come back.

    masks: what is seen, the last of each object and slice. started: the masks of the start, which is no step.
    unended: propagations that began and that no step ended, as when the server was killed. limits: what was said of
    what masks keep to, as JSON, each with its revision, the last one last. asked: how often something was done,
    undo among it.
    """

    reading: StoredReading
    revision: int
    objects: tuple[StoredObject, ...]
    steps: tuple[StoredStep, ...]
    done: int
    masks: tuple[StoredMask, ...]
    started: tuple[StoredMask, ...] = ()
    unended: tuple[StoredStep, ...] = ()
    limits: tuple[tuple[int, Any], ...] = ()
    asked: int = 0


@dataclass(frozen=True)
class AuditLine:
    """Who did what, when, to which case. user: the name at that time. case, reading: keys. address: of the client."""

    id: int
    at: datetime
    user: str | None
    what: str
    case: str | None
    reading: str | None
    address: str | None
    details: Mapping[str, Any]
