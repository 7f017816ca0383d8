"""What travels as JSON between readings and their clients."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from medsam.geometry import Axis
from medsam.inference.organs import By
from medsam.inference.slice_request import Zoom
from medsam.server.readings.events import Kind
from medsam.server.readings.finding import Outcome
from medsam.server.readings.follow import JobState
from medsam.server.readings.opening import Opening

Numbers2 = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
Corners = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
Line = Annotated[list[Numbers2], Field(min_length=2, max_length=2)]
Name = Annotated[str, StringConstraints(max_length=200)]
Colour = Annotated[str, StringConstraints(pattern="^#[0-9a-fA-F]{6}$")]
SliceNumber = Annotated[int, Field(ge=0, lt=2**31)]
# of strokes and lassos; a hand draws some hundred a second
_MOST_POSITIONS = 100_000
# Long lists are read on the event loop, and no further than to their first fault: to describe all takes far longer.


class Asked(BaseModel):
    """A body that holds nothing else."""

    model_config = ConfigDict(extra="forbid")


class Start(Asked):
    """What a session begins from: masks that are corrected, not drawn anew."""

    session: str | None = Field(None, description="another session of yours on the same grid, open or closed")
    names: dict[str, Name] | None = Field(None, description="number -> name of `masks`; they are taken in this order")
    masks: dict[Name, dict[str, Any]] | None = Field(
        None, description='name -> COCO run lengths of each slice that it touches, {"size": [K, J, I], "slices": ...}'
    )


class SessionRequest(Asked):
    """A session on a case. What is left out is chosen as by `medsam segment`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"case": "Xo1f7Yc9vVq2b3aE", "axis": "k", "label": "liver"}]}
    )

    case: str
    label: Name | None = Field(None, description="name of a first object")
    axis: Axis | None = Field(None, description="along which slices are counted; default: as acquired")
    window: Annotated[str, StringConstraints(max_length=60)] | None = Field(
        None, description='a preset, "LEVEL,WIDTH" or "auto"', examples=["auto", "lung", "40,400"]
    )
    modality: Annotated[str, StringConstraints(max_length=16)] | None = None
    zoom: Zoom | None = None
    limits: dict[str, Any] | None = Field(
        None, description="as `medsam.Limits.to_dict` writes them", examples=[{"values": [-100, 300]}]
    )
    start: Start | None = None

    def opening(self) -> Opening:
        """As readings take it."""
        masks = None if self.start is None else self.start.masks
        names = None if self.start is None else self.start.names
        if masks is not None and names is not None:
            order = [name for _, name in sorted(names.items(), key=lambda one: (len(one[0]), one[0]))]
            masks = {name: masks[name] for name in dict.fromkeys((*order, *masks)) if name in masks}
        return Opening(
            axis=self.axis,
            window=self.window,
            modality=self.modality,
            zoom=self.zoom,
            label=self.label,
            limits=self.limits,
            masks=masks,
            reading=None if self.start is None else self.start.session,
        )


class ObjectRequest(Asked):
    """One more object."""

    name: Name = Field(examples=["liver"], description="of the vocabulary of structures, or any other")
    colour: Colour | None = Field(None, description="default: that of the vocabulary, or the next of a palette")


class ObjectChange(Asked):
    """What is to be another. A locked object refuses prompts and keeps its pixels."""

    name: Name | None = None
    colour: Colour | None = None
    visible: bool | None = None
    locked: bool | None = None


class SessionChange(Asked):
    """What is to be another from now on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"keep_range": [-100, 300]}]})

    keep_range: Annotated[list[FiniteFloat | None], Field(min_length=2, max_length=2)] | None = Field(
        description="[low, high], both in, null for an open end: only pixels of these values get into masks; or null"
    )

    @property
    def values(self) -> tuple[float | None, float | None] | None:
        """As `Limits` takes it."""
        values = self.keep_range
        return None if values is None or values == [None, None] else (values[0], values[1])


class ObjectAnswer(BaseModel):
    """An object. id: its number in the session, and its value in label maps."""

    id: int = Field(examples=[1])
    name: str = Field(examples=["liver"])
    colour: str = Field(examples=["#288c28"])
    visible: bool = True
    locked: bool = False


class Stroke(Asked):
    """A scribble. A width in millimetres, or in pixels, or the usual one."""

    points: Annotated[list[Numbers2], Field(fail_fast=True, min_length=1, max_length=_MOST_POSITIONS)]
    inside: bool = True
    width_mm: FiniteFloat | None = None
    width_px: FiniteFloat | None = None


class PromptRequest(Asked):
    """An entry of a prompts file about an object on a slice (docs/prompts.md).

    Positions are pixels of the stored slice, [x, y], the centre of column n being n; boxes are half-open edges. A box,
    a lasso, a line, an ellipse or a mask starts the slice anew; `drawn` is the mask itself; points and scribbles alone
    correct what is there.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"object": 1, "slice": 41, "box": [120, 88, 212, 176]},
                {"object": 1, "slice": 41, "points": [[150, 130, 1], [205, 90, 0]]},
                {"object": 2, "slice": 41, "scribbles": [{"points": [[10, 12], [14, 15]], "inside": True}]},
                {"object": 1, "slice": 41, "drawn": {"size": [4, 5], "counts": "5220003"}},
            ]
        },
    )

    object: int
    slice: SliceNumber
    box: Corners | None = None
    points: (
        Annotated[list[tuple[FiniteFloat, FiniteFloat, Literal[0, 1]]], Field(fail_fast=True, max_length=1000)] | None
    ) = None
    scribbles: Annotated[list[Stroke], Field(fail_fast=True, max_length=1000)] | None = None
    lasso: Annotated[list[Numbers2], Field(fail_fast=True, max_length=_MOST_POSITIONS)] | None = None
    line: Line | None = None
    lines: Annotated[list[Line], Field(max_length=2)] | None = None
    ellipse: Corners | None = None
    mask: dict[str, Any] | None = Field(
        None, description='COCO run lengths of the slice, {"size": [rows, columns], "counts": text}: a rough outline'
    )
    drawn: dict[str, Any] | None = Field(
        None, description="the same, and exactly the mask that is to be here; an empty one takes the object away"
    )

    def entry(self) -> dict[str, Any]:
        """Of a prompts file, without its label."""
        return self.model_dump(mode="json", exclude={"object"}, exclude_none=True)


class View(Asked):
    """What is on screen."""

    slice: SliceNumber
    axis: Axis | None = None


class PropagateRequest(Asked):
    """An object to follow through the volume, from the slices that it has prompts on."""

    object: int
    max_mm: Annotated[FiniteFloat, Field(ge=0)] | None = Field(None, description="how far from them at most")


class InterpolateRequest(Asked):
    """An object to draw on the slices between those that it is on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"object": 1}]})

    object: int


class TextRequest(Asked):
    """A structure by its name, in English, Latin, German or Korean, which an object becomes."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"object": 1, "text": "Hippokampuskopf"}]}
    )
    object: int
    text: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class OrganRow(BaseModel):
    """What became of a structure that was looked for without a prompt."""

    object: int | None = Field(description="its object; null where it was not found and there was none")
    outcome: Outcome = Field(
        description='"found": it is drawn; "absent": not in the scan, says the head; "kept": its object has a mask, '
        "which stays, or is locked"
    )
    structure: str = Field(examples=["left kidney"])
    label: str = Field(description="name of the object, or what it would be called", examples=["kidney_left"])
    voxels: int | None = Field(description="as it was drawn; null where it was kept")
    ml: float | None = Field(description="null also on a scan without millimetres")
    found: bool | None
    head: str = Field(description="the head that answers", examples=["names-hippocampus"])
    tested_on_patients: int | None = Field(description="whom it never saw")
    tested_dice: float | None
    tested_scans_without: int = Field(description="0: it may be drawn on another part of the body")


class OrganOffer(BaseModel):
    """A structure that would be looked for. object: that has a mask of it, which is kept: it is not looked for."""

    structure: str = Field(examples=["left kidney"])
    object: int | None
    head: str
    tested_on_patients: int | None
    tested_dice: float | None
    tested_scans_without: int


class OrgansAnswer(BaseModel):
    """What would be looked for without a prompt: nothing that was not measured on unseen patients."""

    modality: str | None = Field(description="of the scan, DICOM's word", examples=["MR"])
    modality_by: By = Field(
        description='how it is known: "stated" with the session, in the "file", or guessed by its values; "nothing": '
        "it is not"
    )
    structures: list[OrganOffer]
    lack: Literal["no head", "modality", "untested"] | None = Field(
        description="why there is none: no head here, none for this modality, none that was measured"
    )


class JobAnswer(BaseModel):
    """A propagation, or a search for organs. done, total: slices, at most; total is null before it runs."""

    id: str
    object: int | None = Field(description="that is propagated; null: organs are looked for")
    state: JobState
    done: int = 0
    total: int | None = None
    detail: str | None = Field(None, description="why it failed")
    stopped: dict[str, str] | None = Field(
        None,
        description="once it has ended: number of a slice -> why the object does not go on there; -1 and the number of "
        "slices stand for the ends of the scan",
        examples=[{"12": "vanished", "57": "stopped agreeing", "60": "end of scan"}],
    )
    structures: list[OrganRow] | None = Field(None, description="once a search for organs is done")


class SessionAnswer(BaseModel):
    """A session as it stands."""

    id: str
    case: str
    revision: int = Field(description="of all its masks and objects; one more with every change")
    axis: Axis
    geometry: dict[str, Any] = Field(description="of the scan, as `medsam.VolumeGeometry.to_dict` writes it")
    slices: int
    window: dict[str, Any]
    label: str = Field(description="name of the first object")
    objects: list[ObjectAnswer]
    jobs: list[JobAnswer]
    undo: int = Field(description="steps that can be undone")
    redo: int
    view: int | None = Field(None, description="the slice that was last on screen")
    notes: list[str] = Field([], description="what a reader should know of the scan, its window and the start")
    mine: bool = True
    closed: datetime | None = Field(None, description="when it was closed: it can be looked at, and takes no steps")
    model: str = Field(description="name of the model that answers", examples=["litemedsam"])
    licence: str = Field(description="of its weights; empty where it is not known", examples=["Apache-2.0"])
    knows_clicks: bool = Field(description="false: it was trained with boxes, and clicks become some")
    keep_range: tuple[float | None, float | None] | None = Field(
        None, description="values that masks are kept to, both ends in"
    )


class Measure(BaseModel):
    """An object as it is shown. Values are the scan's inside of it; null in colour, and where there is nothing."""

    object: int
    name: str
    voxels: int
    volume_ml: float | None = Field(description="null on a scan without millimetres")
    diameter_mm: float | None = Field(
        description="the longest in a slice along the session's axis and in one piece, from outer edge to outer edge; "
        "null on a scan without millimetres"
    )
    slice: int | None = Field(description="where that is")
    ends: list[Numbers2] | None = Field(description="from where to where: [x, y] each, pixels")
    mean: float | None
    std: float | None
    minimum: float | None
    maximum: float | None
    units: str | None = Field(description="of the values", examples=["HU"])


class SessionLine(BaseModel):
    """A session in a list."""

    id: str
    case: str
    case_name: str
    owner: str = Field(description="name of its reader")
    axis: Axis
    model: str
    began: datetime
    closed: datetime | None = None


class EventAnswer(BaseModel):
    """What an event says (`data` of a server-sent event, whose `id` is the revision)."""

    revision: int
    kind: Kind
    object: int | None = None
    slice: int | None = None
    status: str | None = None
    job: str | None = None
    state: str | None = None
    done: int | None = None
    total: int | None = None
    detail: str | None = None
    stopped: dict[str, str] | None = None
    structures: list[OrganRow] | None = None
