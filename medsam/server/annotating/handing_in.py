"""What a task's session has become, as masks of the project: each with who, with what help, and what it cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from medsam.errors import InputError, listed
from medsam.io.structure_names import plain_name
from medsam.masks import CompactMask
from medsam.server.annotating.start import Place
from medsam.server.readings.reading import Reading
from medsam.store.project_records import Annotation, Effort, NewAnnotation, Task
from medsam.store.readers import Reader
from medsam.store.records import SaidStep, StoredMask, StoredReading, Work
from medsam.store.store import Store

# of an entry of a prompts file; each is drawn by one stroke of a hand
_STROKES = ("lasso", "line", "ellipse", "mask", "drawn")


@dataclass(frozen=True)
class Said:
    """What a reader says who hands a task in. seconds: of attention, for all of it. absent: structures that the scan,
    or the slices asked for, do not show. verdict: of an audit."""

    session: str
    seconds: float
    difficulty: Literal["easy", "hard"] | None = None
    absent: tuple[str, ...] = ()
    note: str | None = None
    verdict: Literal["good", "wrong"] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For the event, as far as something was said."""
        told = {"session": self.session, "seconds": self.seconds, "absent": list(self.absent)}
        more = {"difficulty": self.difficulty, "note": self.note, "verdict": self.verdict}
        return {**told, **{name: value for name, value in more.items() if value}}


@dataclass(frozen=True)
class Drawn:
    """A mask that is seen, and the number of the object that it is of, in the session."""

    number: int
    mask: CompactMask


def drawn_for(reading: Reading, task: Task) -> dict[Place, Drawn]:
    """What is seen in a session of what its task asks for.

    Raises InputError for masks of something else: they would be lost.
    """
    structures = {plain_name(name) for name in task.structures}
    for one in reading.listed:
        if plain_name(one.name) not in structures and reading.slate.of(one.number)[1]:
            raise InputError(
                f"{one.name!r} is none of what the task asks for, {listed(task.structures)}: rename or remove it.",
                parameter="structures",
            )
    return shown_for(reading, task)


def shown_for(reading: Reading, task: Task) -> dict[Place, Drawn]:
    """The same, whatever else there is."""
    structures = {plain_name(name): name for name in task.structures}
    found: dict[Place, Drawn] = {}
    for one in reading.listed:
        _, masks = reading.slate.of(one.number)
        structure = structures.get(plain_name(one.name))
        for index, mask in masks.items():
            if structure is None or (task.slices is not None and index not in task.slices):
                continue
            there = found.get((structure, index))
            # two of one name, as undo may leave them, are one structure
            found[structure, index] = Drawn(one.number, mask if there is None else there.mask | mask)
    return found


def check_absent(task: Task, drawn: Collection[Place], absent: Iterable[str]) -> tuple[str, ...]:
    """Structures that are said not to be there, as the task calls them.

    Raises InputError for those that have a mask, that the task does not ask for, and that nothing is said of.
    """
    structures = {plain_name(name): name for name in task.structures}
    said = {structures.get(plain_name(name), name) for name in absent}
    there = {structure for structure, _ in drawn}
    faults = {
        "The task does not ask for {}.": said.difference(task.structures),
        "There are masks of {}, which are said to be `absent`.": said & there,
        "There is no mask of {}: draw it, or say that it is `absent`.": set(task.structures) - there - said,
    }
    for text, names in faults.items():
        if names:
            raise InputError(text.format(listed(sorted(names))), parameter="absent")
    return tuple(name for name in task.structures if name in said)


@dataclass
class Spent:
    """Prompts about a place, those that were taken back among them: they were made."""

    clicks: int = 0
    boxes: int = 0
    strokes: int = 0
    prompts: list[Any] = field(default_factory=list)

    def add(self, entry: Mapping[str, Any]) -> None:
        """One step. entry: of a prompts file."""
        self.clicks += len(entry.get("points") or ())
        self.boxes += "box" in entry
        self.strokes += len(entry.get("scribbles") or ()) + len(entry.get("lines") or ())
        self.strokes += sum(name in entry for name in _STROKES)
        self.prompts.append(dict(entry))


def spent(steps: Iterable[SaidStep], names: Mapping[int, str]) -> dict[Place, Spent]:
    """What was asked in a session, by structure and slice. names: of objects, by number."""
    found: dict[Place, Spent] = defaultdict(Spent)
    for step in steps:
        if step.kind == "prompt" and step.object is not None and isinstance(step.prompts, Mapping):
            found[names.get(step.object, ""), step.slice or 0].add(step.prompts)
    return dict(found)


@dataclass(frozen=True)
class _Sitting:
    """One of the sessions that a reader had for a task. names: of its objects by number, as the task calls them; \"\"
    for what it does not ask for."""

    reading: StoredReading
    names: Mapping[int, str]


@dataclass(frozen=True)
class Worked:
    """All that a reader did for a task since it was last handed in. seconds: of attention, told when it was given back
    in between."""

    sittings: Sequence[_Sitting]
    seconds: float

    @classmethod
    def of(cls, store: Store, task: Task, reader: Reader) -> Worked:
        """The sessions, the first one first."""
        structures = {plain_name(name): name for name in task.structures}
        keys, seconds = list[str](), 0.0
        for event in store.task_events(task.id, ("opened", "left", "submitted")):
            if event.kind == "submitted":
                keys, seconds = [], 0.0
            elif event.by == reader.id and event.kind == "opened":
                keys.append(str(event.details.get("reading")))
            elif event.by == reader.id:
                seconds += float(event.details.get("seconds") or 0.0)
        sittings = []
        for key in dict.fromkeys(keys):
            if (reading := store.reading(reader, key)) is not None:
                names = {one.number: structures.get(plain_name(one.name), "") for one in store.objects(reading.id)}
                sittings.append(_Sitting(reading, names))
        return cls(sittings, seconds)

    def spent(self, store: Store) -> dict[Place, Spent]:
        """What was asked, by structure and slice."""
        found: dict[Place, Spent] = defaultdict(Spent)
        for one in self.sittings:
            for place, there in spent(store.every_step(one.reading.id), one.names).items():
                for entry in there.prompts:
                    found[place].add(entry)
        return dict(found)

    def made(self, store: Store, reading: StoredReading) -> dict[Place, _Made]:
        """What is seen in the last session, `reading`. What that only took over from one before was made there."""
        found: dict[Place, _Made] = {}
        for one in self.sittings:
            if one.reading.axis != reading.axis:
                continue
            makers, before, found = store.makers(one.reading.id), found, {}
            for row in store.masks(one.reading.id):
                place = one.names.get(row.object, ""), row.slice
                if not row.mask and place in found:
                    # of another object of this name, as undo may leave them
                    continue
                maker = Work() if row.number is None else makers.get(row.number, Work())
                there = before.get(place)
                took_over = maker.model is None and there is not None and there.mask == row.mask
                found[place] = there if took_over and there is not None else _Made.of(row, maker)
        return found


@dataclass(frozen=True)
class _Made:
    """A mask of a session, with what computed it."""

    mask: CompactMask
    maker: Work
    predicted_iou: float | None
    expected_dice: float | None

    @classmethod
    def of(cls, row: StoredMask, maker: Work) -> _Made:
        return cls(row.mask, maker, row.predicted_iou, row.expected_dice)


@dataclass(frozen=True)
class HandedIn:
    """annotations: as the store takes them, with what came to nothing. untouched: masks that are as they were proposed.
    expected_dice: the least that is known of one. The rest: of everything that was asked, also where there is no mask
    now."""

    annotations: Sequence[NewAnnotation]
    untouched: int
    expected_dice: float | None
    clicks: int
    boxes: int
    strokes: int

    @property
    def masks(self) -> int:
        """How many there are."""
        return sum(one.status != "rejected" for one in self.annotations)


def handed_in(
    store: Store,
    task: Task,
    reader: Reader,
    reading: StoredReading,
    drawn: Mapping[Place, Drawn],
    began: Mapping[Place, Annotation],
    seconds: float,
    shape: tuple[int, int],
) -> HandedIn:
    """The masks of a task. began: what its session began from (`start.before`). seconds: of attention since it was
    taken; shared evenly, with what it had before. shape: of a slice."""
    worked = Worked.of(store, task, reader)
    efforts, made = worked.spent(store), worked.made(store, reading)
    each = (seconds + worked.seconds) / len(drawn) if drawn else 0.0
    annotations = []
    for place, one in sorted(drawn.items(), key=lambda item: (task.structures.index(item[0][0]), item[0][1])):
        cost = efforts.get(place, Spent())
        effort = Effort(cost.clicks, cost.boxes, cost.strokes, each, cost.prompts or None)
        annotations.append(_annotation(task, reading, place, one.mask, began.get(place), made.get(place), effort))
    gone = [
        _in_vain(task, reading, place, began.get(place), cost, shape)
        for place, cost in sorted(efforts.items())
        if place not in drawn and _is_asked(task, place)
    ]
    return HandedIn(
        [*annotations, *gone],
        sum(one.status == "accepted" for one in annotations),
        min((one.expected_dice for one in annotations if one.expected_dice is not None), default=None),
        *(sum(getattr(one, name) for one in efforts.values()) for name in ("clicks", "boxes", "strokes")),
    )


def _is_asked(task: Task, place: Place) -> bool:
    structure, index = place
    return structure in task.structures and (task.slices is None or index in task.slices)


def _in_vain(
    task: Task,
    reading: StoredReading,
    place: Place,
    parent: Annotation | None,
    cost: Spent,
    shape: tuple[int, int],
) -> NewAnnotation:
    """A row of what was asked where no mask is now: it was work, too."""
    structure, index = place
    effort = Effort(cost.clicks, cost.boxes, cost.strokes, None, cost.prompts or None)
    mask = CompactMask.empty(shape) if parent is None else None
    above = None if parent is None else parent.id
    return NewAnnotation(task.scan, structure, reading.axis, index, "rejected", mask, task.stage, above, effort=effort)


def check_verdict(said: Said, task: Task, drawn: Mapping[Place, Drawn], began: Mapping[Place, Annotation]) -> None:
    """Raises InputError for a verdict of what is no audit, and for "good" of a mask that was changed."""
    if said.verdict is not None and task.kind != "audit":
        raise InputError("Only an audit has a `verdict`.", parameter="verdict")
    if said.verdict == "good" and not _is_as_it_was(drawn, began):
        raise InputError("The mask was changed: take that back, or say that it is wrong.", parameter="verdict")


def said_wrong(found: HandedIn) -> HandedIn:
    """Of an audit whose mask is wrong: nobody has accepted it by leaving it as it is."""
    return replace(found, annotations=[one for one in found.annotations if one.status != "accepted"])


def _is_as_it_was(drawn: Mapping[Place, Drawn], began: Mapping[Place, Annotation]) -> bool:
    return drawn.keys() == began.keys() and all(one.mask == began[place].mask for place, one in drawn.items())


def unseen(drawn: Mapping[Place, Drawn], began: Mapping[Place, Annotation]) -> dict[str, list[int]]:
    """Structure -> slices on which a session shows what a model drew, as it drew it, and no person has vouched for."""
    found: dict[str, list[int]] = {}
    for (structure, index), one in sorted(drawn.items()):
        before = began.get((structure, index))
        if before is not None and before.by is None and before.mask == one.mask:
            found.setdefault(structure, []).append(index)
    return found


def approved(store: Store, task: Task) -> list[NewAnnotation]:
    """Rows that say of the masks of a task which stand that a reviewer approves them."""
    return [
        NewAnnotation(
            one.scan,
            one.structure,
            one.axis,
            one.slice,
            "approved",
            None,
            one.stage,
            one.id,
            one.model,
            one.weights,
            predicted_iou=one.predicted_iou,
            expected_dice=one.expected_dice,
        )
        for one in store.standing(task.scan, ("accepted", "edited"), structures=task.structures)
        if one.task == task.id
    ]


def _annotation(
    task: Task,
    reading: StoredReading,
    place: Place,
    mask: CompactMask,
    parent: Annotation | None,
    made: _Made | None,
    effort: Effort,
) -> NewAnnotation:
    structure, index = place
    if parent is not None and parent.mask == mask:
        # an edited one that was handed in before is still somebody's drawing
        status: Literal["accepted", "edited"] = "accepted" if parent.status in ("proposed", "accepted") else "edited"
        return NewAnnotation(
            task.scan,
            structure,
            reading.axis,
            index,
            status,
            None,
            task.stage,
            parent.id,
            parent.model,
            parent.weights,
            effort,
            parent.predicted_iou,
            parent.expected_dice,
        )
    maker = Work() if made is None else made.maker
    return NewAnnotation(
        task.scan,
        structure,
        reading.axis,
        index,
        "edited",
        mask,
        task.stage,
        None if parent is None else parent.id,
        maker.model,
        maker.weights,
        effort,
        None if made is None else made.predicted_iou,
        None if made is None else made.expected_dice,
    )
