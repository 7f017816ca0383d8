"""How a reading begins, and how it comes back from the store. All of this runs in threads and waits for no network."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medsam.chances import CompactChances
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.inference.image_predictor import ImagePredictor, ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.inference.session import Session
from medsam.inference.session_state import SessionState
from medsam.inference.slice_request import Zoom
from medsam.io.structure_names import plain_name
from medsam.masks import CompactMask, PackedMasks
from medsam.prompts.limits import Limits, Values
from medsam.prompts.standing import Standing
from medsam.prompts.values import Box
from medsam.server.joining import joined
from medsam.server.readings.answers import outlined
from medsam.server.readings.journal import Delta, Journal
from medsam.server.readings.objects import checked_new, label_of, locking
from medsam.server.readings.rows import Restored, ended, restored
from medsam.store.records import NewMask, ReadingState, StoredObject, StoredReading, StoredStep
from medsam.transforms.intensity import resolve_window
from medsam.volume import Volume

# in the document of a reading: what has to be stored before it is open
_BEGINS = "begins"


@dataclass(frozen=True)
class Answered:
    """A mask (h, w) that a model gave, and for a box alone, or with how likely each pixel is in it.

    model, weights: which one.
    """

    mask: CompactMask
    model: str
    weights: str
    box: Box | None = None
    likely: CompactChances | None = None


@dataclass(frozen=True)
class Opening:
    """How a reading is to begin. axis, window, modality, zoom: as for `Predictor.session`; None where nothing is said.

    label: name of a first object. limits: as `Limits.to_dict` writes them. masks: to begin from, `CompactMask.to_dict`
    of (K, J, I) by name; or reading: key of another one, whose label map it begins from. objects: names of those that
    come first, in this order, whether they have a mask or not. answers: name of an object -> slice -> what a model
    answered there. Where it begins from just that, a click corrects it by how likely each pixel is, or, by the same
    model, the answer to that box.
    """

    axis: Axis | None = None
    window: str | None = None
    modality: str | None = None
    zoom: Zoom | None = None
    label: str | None = None
    limits: Mapping[str, Any] | None = None
    masks: Mapping[str, Any] | None = None
    reading: str | None = None
    objects: tuple[str, ...] = ()
    answers: Mapping[str, Mapping[int, Answered]] = field(default_factory=dict)


@dataclass(frozen=True)
class Left:
    """What a reading left: another one begins from it, or is compared with it. masks: (K, J, I) by name, none empty.

    first: how many masks of slices among them are first answers still, which nobody refined. objects: whose they are,
    by the same names. values: what its masks were kept to last.
    """

    masks: Mapping[str, CompactMask]
    first: int = 0
    objects: Mapping[str, StoredObject] = field(default_factory=dict)
    values: Values | None = None


@dataclass(frozen=True)
class Begun:
    """A reading before its first step. document: of its session. objects: name, colour, visible, locked. masks: the
    start."""

    document: dict[str, Any]
    objects: tuple[tuple[str, str, bool, bool], ...]
    masks: tuple[NewMask, ...]


def begun(predictor: Predictor, scan: Volume, opening: Opening, left: Left | None) -> Begun:
    """A new reading. left: by the one that it begins from, whose limits and objects go on where nothing else is said.

    Raises InputError and PromptError.
    """
    scan_encoder = predictor.encoder_for(
        scan, axis=opening.axis, window=opening.window or "auto", modality=opening.modality
    )
    shape = scan.geometry.shape
    if left is None:
        left = Left({str(name): CompactMask.from_dict(one, shape) for name, one in (opening.masks or {}).items()})
    limits = Limits(left.values) if opening.limits is None else Limits.from_dict(dict(opening.limits), shape)
    # under the names that were asked for
    first = {plain_name(name): name for name in opening.objects}
    masks = {first.get(plain_name(name), name): mask for name, mask in left.masks.items()}
    names = list(dict.fromkeys((*opening.objects, *masks)))
    if opening.label is not None and plain_name(opening.label) not in map(plain_name, names):
        names.append(opening.label)
    limits.check(scan, names)
    objects = _objects(names, left, None if opening.limits is None else limits)
    session = Session(scan_encoder, opening.zoom or "auto", label_of(1), limits=replace(limits, locked=()))
    document = session.state.to_dict()
    if masks:
        _start(session, {number: name for number, name in enumerate(names, start=1) if name in masks}, masks, opening)
    rows = Journal(session).rows()
    document[_BEGINS] = {"objects": len(objects), "masks": len(rows), "first": left.first}
    return Begun(document, tuple((one.name, one.colour, one.visible, one.locked) for one in objects), rows)


def _start(session: Session, names: Mapping[int, str], masks: Mapping[str, CompactMask], opening: Opening) -> None:
    """names: of the objects that have a mask, by number."""
    images, plane = session.scan_encoder.image_predictor, session.scan_encoder.plane
    labels = _labelled({number: masks[name] for number, name in names.items()})
    standing = Standing.of(labels, session.scan_encoder.scan.geometry, plane.axis)
    boxes: dict[str, dict[int, Box]] = {}
    likely: dict[str, dict[int, CompactChances]] = {}
    for number, name in names.items():
        masks_on = standing.masks[label_of(number)]
        for index, one in opening.answers.get(name, {}).items():
            if masks_on.get(index) != one.mask:
                continue
            if one.likely is not None:
                likely.setdefault(label_of(number), {})[index] = one.likely
            elif one.box is not None and (one.model, one.weights) == (images.name, images.weights):
                boxes.setdefault(label_of(number), {})[index] = one.box
    session.start(standing, boxes, likely)


def _objects(names: Sequence[str], left: Left, limits: Limits | None) -> list[StoredObject]:
    """The objects of a new reading, as they were in the one before. limits: that say what is locked, where any do."""
    known = {plain_name(name): one for name, one in left.objects.items()}
    objects: list[StoredObject] = []
    for name in names:
        before = known.get(plain_name(name))
        checked, colour = checked_new(objects, name, before.colour if before else None)
        locked = before is not None and before.locked if limits is None else limits.locks(name)
        objects.append(StoredObject(len(objects) + 1, checked, colour, before is None or before.visible, locked, 0))
    return objects


def differs(scan_encoder: ScanEncoder, stored: StoredReading, limits: Limits, opening: Opening) -> bool:
    """Whether what is said is not how a reading that is open began. Something to begin from never is.

    limits: of now.
    """
    if opening.masks is not None or opening.reading is not None:
        return True
    document, scan = stored.document, scan_encoder.scan
    said = {"axis": opening.axis, "modality": opening.modality, "zoom": opening.zoom}
    if any(value is not None and value != document[name] for name, value in said.items()):
        return True
    if opening.limits is not None:
        wanted = Limits.from_dict(dict(opening.limits), scan.geometry.shape)
        # what is locked is told of the objects
        if replace(wanted, locked=()) != replace(limits, locked=()):
            return True
    if opening.window is None:
        return False
    return resolve_window(scan, opening.window, opening.modality) != scan_encoder.window


def notes_of_start(stored: StoredReading) -> tuple[str, ...]:
    """What a reader should know of the masks that a reading began from."""
    first = stored.document.get(_BEGINS, {}).get("first", 0)
    return (told_of_first(first, "this session began from"),) if first else ()


def told_of_first(count: int, whose: str) -> str:
    """That masks are first answers. whose: what goes on "masks that"."""
    return f"{count} of the masks that {whose} are first answers, which could not be refined: look at them again."


@dataclass(frozen=True)
class Resumed:
    """A reading as the store has it. limits: but for what is locked. steps_of: see `rows.Restored`. ended: propagations
    that were cut off, with the rows that make steps of them. seen: place -> revision of what is seen there, or was.
    asked: how many steps there are. listed: revision of the last change of objects and limits, or a later one."""

    session: Session
    journal: Journal
    delta: Delta
    objects: tuple[StoredObject, ...]
    limits: Limits
    steps_of: Mapping[int, int]
    seen: Mapping[tuple[int, int], int]
    asked: int
    listed: int
    ended: tuple[tuple[StoredStep, list[NewMask]], ...] = ()


class Unfinished(InputError):
    """A reading that the server did not come to open: nobody has been told of it."""


def resumed(predictor: Predictor, scan: Volume, stored: ReadingState) -> Resumed:
    """The session of a reading, to go on where it was; or, where it is closed, to be looked at.

    Raises InputError for another scan, for another model of one that goes on, and Unfinished.
    """
    promised = stored.reading.document.get(_BEGINS, {"objects": 0, "masks": 0})
    if len(stored.objects) < promised["objects"] or len(stored.started) < promised["masks"]:
        raise Unfinished("This session was not opened. Open another one.")
    found, cut = _back(stored)
    # one that is closed is asked nothing more
    session = _session(predictor, scan, found.state, stored.objects, any_model=stored.reading.closed_at is not None)
    journal = Journal(session, found.extras)
    seen = {(mask.object, mask.slice): mask.revision for mask in stored.masks}
    listed = max((one.revision for one in stored.objects), default=0)
    if stored.limits or any(step.kind == "remove" for step in stored.steps):
        listed = stored.revision
    return Resumed(
        session,
        journal,
        journal.everything(),
        stored.objects,
        found.state.limits,
        found.steps_of,
        seen,
        stored.asked,
        listed,
        cut,
    )


def refined(again: Resumed, revision: int) -> Resumed:
    """One that is closed, once first answers of its session were refined, which is stored nowhere. revision: that they
    have now, later than that of any mask."""
    journal = Journal(again.session)
    delta = journal.everything()
    now = dict.fromkeys(set(again.delta.incomplete).difference(delta.incomplete), revision)
    return replace(again, journal=journal, delta=delta, seen={**again.seen, **now})


_ENCODERS: weakref.WeakValueDictionary[tuple[Any, ...], ScanEncoder] = weakref.WeakValueDictionary()


def _encoder(predictor: Predictor, scan: Volume, state: SessionState) -> ScanEncoder:
    """Readings that see a scan alike share what is prepared of it."""
    key = id(predictor.images), id(scan), state.axis, state.window, state.wide_window, state.modality
    known = _ENCODERS.get(key)
    if known is not None and known.scan is scan and known.voxels == state.voxels:
        # the model is asked for again
        fits = (state.model, state.weights) == (predictor.name, predictor.images.weights)
        return known if fits else state.encoder_for(predictor.images, scan)
    made = state.encoder_for(predictor.images, scan)
    _ENCODERS[key] = made
    return made


def _session(
    predictor: Predictor, scan: Volume, state: SessionState, objects: Sequence[StoredObject], *, any_model: bool
) -> Session:
    """The session of a state that `_back` gave. any_model: one of another model is taken for one of this.

    Raises InputError for another scan, and for another model but with `any_model`.
    """
    state = replace(state, limits=locking(state.limits, objects))
    if any_model:
        state = replace(state, model=predictor.name, weights=predictor.images.weights)
    return Session.resume(state, _encoder(predictor, scan, state), at_hand=True)


def _back(stored: ReadingState) -> tuple[Restored, tuple[tuple[StoredStep, list[NewMask]], ...]]:
    """A session as its reader last saw it, but for what is locked; and `ended` of `Resumed`, which are steps of it."""
    found = restored(stored)
    state, cut = found.state, []
    for step in stored.unended:
        state, rows = ended(state, step)
        cut.append((step, rows))
    return replace(found, state=state), tuple(cut)


def stood(predictor: Predictor, scan: Volume, stored: ReadingState) -> Session:
    """The session of a reading as its reader sees it, whatever model it is of: beside the one in memory, if there is
    one, so that first answers may be refined in it. Raises InputError for another scan."""
    found, _ = _back(stored)
    return _session(predictor, scan, found.state, stored.objects, any_model=True)


def left_of(session: Session, objects: Sequence[StoredObject]) -> Left:
    """What `stood` gave. objects: of the reading. Two whose names are alike, as undo may leave them, are one."""
    found = outlined(session.state, session.scan_encoder, {one.number: one for one in objects})
    structures = found.structures
    masks = joined({name: mask for name in structures if (mask := structures.compact(name))}, plain_name)
    whose = {one.name: one for one in reversed(objects) if any(found.masks.get(one.number, {}).values())}
    return Left(masks, found.first, whose, session.limits.values)


def same_model(images: ImagePredictor, stored: StoredReading) -> bool:
    """Whether a reading is of the model that answers now: what is a first answer in it can be refined."""
    return (stored.model, stored.weights) == (images.name, images.weights)


def _labelled(masks: Mapping[int, CompactMask]) -> PackedMasks:
    """By number of the object, under the labels of a session."""
    first = next(iter(masks.values()))
    packed = PackedMasks(first.shape)  # type: ignore[arg-type]  # three axes, as the scan
    for number, mask in masks.items():
        packed.add(label_of(number), mask.crop, start=tuple(first for first, _ in mask.bounds))  # type: ignore[arg-type]
    return packed
