"""What travels as JSON between the data engine and its clients."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from medsam.server.cases.schemas import KEY
from medsam.store.project_records import TaskKind, TaskState

Key = Annotated[str, Field(pattern=KEY, examples=["3m0Vh1dG9bYqLxTz"])]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=2000)]
# of attention; a day is more than anybody has for one task
Seconds = Annotated[FiniteFloat, Field(ge=0, le=86400, description="of attention, as the client has counted them")]


class Body(BaseModel):
    """A body that holds nothing else."""

    model_config = ConfigDict(extra="forbid")


class StructureInfo(BaseModel):
    """What is to be drawn. colour: of its object in every session."""

    name: str = Field(examples=["liver"])
    colour: str = Field(examples=["#288c28"])


class Contribution(BaseModel):
    """The reader who asks."""

    task: str | None = Field(description="id of the task that is theirs now")
    case: str | None = Field(description="id of the case that this task is about")
    done: int = Field(description="tasks that they have handed in")
    today: int = Field(description="of these since midnight, by the server's clock")
    masks: int = Field(description="in those of today")
    gold: float | None = Field(description="mean Dice with the references of gold tasks; null without one")


class Counts(BaseModel):
    """Tasks by state; of those that are open, what somebody who may come in could take."""

    open: int = Field(0, description="to be drawn, or decided; audits are not among them")
    audits: int = Field(0, description="that are open")
    mine: int = Field(0, description="open tasks and audits that you may take")
    second: int = Field(0, description="second readings that nobody here may take: they wait for another reader")
    taken: int = 0
    submitted: int = 0
    approved: int = 0
    skipped: int = 0
    to_review: int = Field(0, description="handed in, by others than you; an audit is a verdict itself")


class ProjectInfo(BaseModel):
    """The project that is worked on here."""

    name: str
    structures: list[StructureInfo]
    stage: int = Field(description="1: people draw. 2: confident masks come filled in. 3: the model alone")
    order: str = Field(examples=["unsure"])
    round: int | None = Field(description="that the model which answers came of; null: the one it began with")
    weights: str | None = Field(description="digest of that model")
    model: str
    me: Contribution
    counts: Counts
    reviewer: bool = Field(description="whether the reader who asks may review")


class TaskInfo(BaseModel):
    """A scan to be worked on."""

    id: str
    scan: str = Field(description="its name in the project")
    case: str = Field(description="id of the case that it is here")
    kind: TaskKind = Field(description='of a gold task "draw" to its reader, until it is handed in')
    stage: int
    structures: list[str]
    slices: list[int] | None = Field(description="to be drawn on; null: wherever the structures are")
    state: TaskState
    session: str | None = Field(description="in which it is, or was, drawn; of one's own tasks, and for reviewers")
    until: datetime | None = Field(description="when it comes back without a sign of life")
    proposals: int = Field(description="masks that are filled in, while it is not handed in")
    note: str | None = Field(description="why a reviewer returned it")
    why: str | None = Field(description="it was skipped")
    mine: bool
    holder: str | None = Field(description="who works on it, or did")
    after: str | None = Field(description="id of the task that it is about")
    own: bool = Field(
        description="a decision between two readings, one of them by who decides: there was no other reviewer"
    )
    masks: int | None = Field(None, description="that were handed in; this and what follows: for reviewers")
    untouched: int | None = Field(None, description="of these, as they were proposed")
    expected_dice: float | None = Field(None, description="the least that is expected of one of them")
    difficulty: Literal["easy", "hard"] | None = Field(None, description="what its reader said")


class Tasks(BaseModel):
    """Some of the tasks. next: what to go on `after`; null at the end."""

    tasks: list[TaskInfo]
    next: str | None


class NextBody(Body):
    """kinds: only these."""

    kinds: list[TaskKind] | None = Field(None, max_length=8)


class Opened(BaseModel):
    """session: id of an ordinary session (`/sessions/{session}`), with the task's structures as its objects."""

    session: str
    task: TaskInfo
    unseen: dict[str, list[int]] = Field(
        description="structure -> slices on which the session shows a model's mask as it is, which nobody vouched for"
    )


class Until(BaseModel):
    """When a task comes back without another sign of life."""

    until: datetime | None


class SubmitBody(Body):
    """A task is done. absent: its structures that are not to be seen, which have no mask. verdict: of an audit; good:
    the mask as it is; wrong: also where no better one is drawn. Without one its Dice with what is drawn decides."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"session": "Xo1f7Yc9vVq2b3aE", "seconds": 41.5, "absent": ["spleen"]}]},
    )

    session: Key
    seconds: Seconds
    difficulty: Literal["easy", "hard"] | None = None
    absent: list[Name] = Field([], max_length=255)
    note: Text | None = None
    verdict: Literal["good", "wrong"] | None = None


class Submitted(BaseModel):
    """What was handed in. masks: of slices. untouched: as they were proposed. clicks: of all sessions of the task."""

    task: TaskInfo
    masks: int
    untouched: int
    clicks: int
    dice: dict[str, float] | None = Field(description="with the reference, by structure; of gold tasks alone")


class LeaveBody(Body):
    """The task is open again."""

    seconds: Seconds = 0.0


class SkipBody(Body):
    """The task cannot be done."""

    why: Text
    seconds: Seconds = 0.0


class ReopenBody(Body):
    """What was skipped is to be done after all."""

    why: Text = ""


class ReviewBody(Body):
    """What a reviewer says. note: for who drew it."""

    verdict: Literal["approved", "returned"]
    note: Text | None = None


class EffortInfo(BaseModel):
    """What people's masks of a group cost. untouched: masks that were taken as they were proposed."""

    key: str = Field(description="name of the reader or structure, number of the stage or round; now: since the last")
    masks: int
    untouched: int
    clicks: int
    boxes: int
    strokes: int
    seconds: float = Field(description="of attention")
    masks_per_hour: float | None = Field(description="of those whose time is known")
    clicks_per_mask: float | None


class RoundEffort(EffortInfo):
    """promoted, dice_before, dice_after: of the round that learned from these masks; null while it has not ended."""

    promoted: bool | None = None
    dice_before: float | None = None
    dice_after: float | None = None


class ReadersAgreement(BaseModel):
    """How near two readers are to each other. scans: that both have drawn."""

    structure: str
    readers: tuple[str, str]
    dice: float
    scans: int


class GoldInfo(BaseModel):
    """How near a reader is to references. dice: the mean of so many tasks."""

    reader: str
    tasks: int
    dice: float


class Verdicts(BaseModel):
    """What auditors said of masks that a model made alone. low, high: the share of good ones in 19 of 20 cases."""

    good: int
    wrong: int
    low: float
    high: float


class Statistics(BaseModel):
    """What the project has cost, and how good it is."""

    masks: int
    untouched: int
    readers: list[EffortInfo]
    structures: list[EffortInfo]
    rounds: list[RoundEffort]
    stages: list[EffortInfo]
    agreement: list[ReadersAgreement]
    gold: list[GoldInfo]
    verdicts: Verdicts


class SliceDice(BaseModel):
    """Of two masks on a slice."""

    slice: int
    dice: float


class Disagreement(BaseModel):
    """A structure on which two readers of a scan differ. task, second: what they have handed in. slices: the worst
    first. adjudicate: id of the task in which a reviewer decides."""

    task: str
    second: str
    scan: str
    structure: str
    dice: float
    slices: list[SliceDice]
    readers: tuple[str, str]
    adjudicate: str | None


class ModelLine(BaseModel):
    """A model that answers, or did."""

    round: int | None = Field(description="that it came of; null: the project began with it")
    kind: Literal["started", "promoted", "back"] = Field(description="how it came to answer; back: once more")
    at: datetime
    weights: str | None
    active: bool
    dice_before: float | None = Field(description="on frozen patients, of the model before it")
    dice_after: float | None
    why: str | None


class BackBody(Body):
    """round: whose model answers again; null: the one that the project began with."""

    round: int | None = Field(ge=1)
