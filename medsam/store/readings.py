"""Readers' sessions on cases, change by change. Every change has a revision of its own, one more than the last.

Nothing is ever rewritten: undo and redo are steps, a refined mask is a further row of the step it belongs to, and an
object is its last event. What is seen is, of each object and slice, the last mask that was `current` when it came; who
undoes a step therefore appends, with the undo, the masks that are seen again (empty ones where there is none).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    exists,
    func,
    insert,
    literal_column,
    select,
    true,
)
from sqlalchemy import (
    case as case_,
)

from medsam._version import __version__
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.store.bits import bits_of, mask_of
from medsam.store.cases import allowed, opened
from medsam.store.part import Part, new_key, now
from medsam.store.readers import Reader
from medsam.store.records import (
    Appended,
    Changes,
    NewMask,
    ObjectChange,
    ReadingLine,
    ReadingState,
    StepKind,
    StoredMask,
    StoredObject,
    StoredReading,
    StoredStep,
    Work,
)
from medsam.store.tables import Cases, Masks, ObjectEvents, Readings, Revisions, Steps, Users

# kinds of steps that move on the stack, and those that are none of it
_WALKS = {"undo": -1, "redo": 1}
_BESIDE = ("start", "following", "ended", "limits")
# in the text of a question and no parameter of it: else no index of closed ones alone would be used
_IS_CLOSED = Revisions.kind == literal_column("'closed'")


class ReadingsPart(Part):
    """Readings, their objects, steps and masks. An append is on the disk when it returns."""

    # -- readings -----------------------------------------------------------------------------------------------

    def open_reading(self, case: int, by: Reader, document: Mapping[str, Any]) -> StoredReading:
        """Begin a session on a case, at revision 0. document: `SessionState.to_dict` of it, before its first step.

        Raises InputError for a case that was removed or is not this reader's to see, and a document that is none.
        """
        try:
            model = document["model"]
            row = {
                "model": str(model["name"]),
                "weights": str(model["weights"]),
                "engine": str(model["engine"]),
                "precision": str(model["precision"]),
                "voxels": str(document["scan"]["voxels"]),
                "axis": str(document["axis"]),
                "modality": document["modality"],
            }
        except (KeyError, TypeError) as error:
            raise InputError("This is no document of a session.", parameter="document") from error
        moment = now()
        with self._database.write() as connection:
            opened(connection, case, by, moment)
            row |= {"public_id": new_key(), "case_id": case, "user_id": by.id, "began_at": moment}
            row |= {"medsam": __version__, "document": dict(document)}
            reading = connection.execute(insert(Readings).values(row).returning(Readings.id)).scalar_one()
            connection.execute(
                insert(Revisions).values(reading_id=reading, revision=0, kind="opened", at=moment, by_id=by.id)
            )
            return _reading_where(connection, Readings.id == reading)

    def reading(self, reader: Reader, key: str) -> StoredReading | None:
        """None where there is none, it is another's (reviewers see all), or its case is not the reader's to see now."""
        with self._database.read() as connection:
            query = _readings().where(Readings.public_id == key, _theirs(reader), self._of_here)
            row = connection.execute(query).first()
        return None if row is None else _reading(row)

    def readings(self, reader: Reader, case: int | None = None) -> list[StoredReading]:
        """A reader's own that are open, the newest first."""
        query = _readings().where(*_wanted(reader, case, closed=False, everyones=False), self._of_here)
        query = query.order_by(Readings.id.desc())
        with self._database.read() as connection:
            return [_reading(row) for row in connection.execute(query)]

    def reading_lines(
        self, reader: Reader, case: int | None = None, closed: bool = False, everyones: bool = False, *, most: int
    ) -> list[ReadingLine]:
        """A reader's own as lines of a list, the newest first, so many at most, without those whose case was removed.

        closed: those that were closed, too. everyones: all that they may see.
        """
        owner = case_(((Users.active, Users.name)), else_="")
        columns = (Readings.public_id, Cases.public_id, Cases.name, owner, Readings.axis, Readings.model)
        query = select(*columns, Readings.began_at, _closed_at()).join(Cases, Cases.id == Readings.case_id)
        query = query.join(Users, Users.id == Readings.user_id).where(Cases.removed_at.is_(None), self._here)
        query = query.where(*_wanted(reader, case, closed, everyones)).order_by(Readings.id.desc()).limit(most)
        with self._database.read() as connection:
            return [ReadingLine(*row) for row in connection.execute(query)]

    def close_reading(self, reading: int, by: Reader) -> int:
        """Its reader is done with it: the revision. All that was confirmed stays, and nothing can be added.

        Raises InputError for one that is closed, as all that would add to it.
        """
        with self._database.write() as connection:
            return _next(connection, reading, by, "closed")

    @property
    def _of_here(self) -> ColumnElement[bool]:
        """On cases of this site: another one's server has its own in memory, and goes on from there."""
        return exists().where(Cases.id == Readings.case_id, self._here).correlate(Readings)

    def revision(self, reading: int) -> int:
        """Of the last change."""
        with self._database.read() as connection:
            return _revision(connection, reading)

    # -- objects ------------------------------------------------------------------------------------------------

    def add_object(
        self, reading: int, by: Reader, name: str, colour: str, visible: bool = True, locked: bool = False
    ) -> StoredObject:
        """Its number is one more than that of the object before, from 1."""
        with self._database.write() as connection:
            query = select(func.coalesce(func.max(ObjectEvents.number), 0)).where(ObjectEvents.reading_id == reading)
            number = connection.execute(query).scalar_one() + 1
            revision = _next(connection, reading, by, "object")
            one = StoredObject(number, name, colour, visible, locked, revision)
            _append_object(connection, reading, one, "created")
        return one

    def change_object(
        self,
        reading: int,
        by: Reader,
        number: int,
        *,
        name: str | None = None,
        colour: str | None = None,
        visible: bool | None = None,
        locked: bool | None = None,
    ) -> StoredObject:
        """The object afterwards; a revision for each thing that is another than before.

        Raises InputError for an object there is not.
        """
        changes: list[tuple[ObjectChange, str, Any]] = [
            ("renamed", "name", name),
            ("coloured", "colour", colour),
            ("shown", "visible", visible),
            ("locked", "locked", locked),
        ]
        with self._database.write() as connection:
            standing = {one.number: one for one in _objects(connection, reading)}
            if number not in standing:
                raise InputError("There is no such object.", parameter="object")
            one = standing[number]
            for kind, field, value in changes:
                if value is not None and value != getattr(one, field):
                    revision = _next(connection, reading, by, "object")
                    fields = {"name": one.name, "colour": one.colour, "visible": one.visible, "locked": one.locked}
                    one = StoredObject(number, **{**fields, field: value}, revision=revision)
                    _append_object(connection, reading, one, kind)
        return one

    def objects(self, reading: int) -> list[StoredObject]:
        """As they stand, by number."""
        with self._database.read() as connection:
            return _objects(connection, reading)

    # -- steps and masks ----------------------------------------------------------------------------------------

    def append_step(
        self,
        reading: int,
        by: Reader,
        kind: StepKind,
        *,
        object_number: int | None = None,
        slice_index: int | None = None,
        prompts: Any = None,
        masks: Sequence[NewMask] = (),
        work: Work | None = None,
        ends: int | None = None,
    ) -> Appended:
        """A step with its masks, all or nothing. prompts: JSON, as it is to come back. work: what made the masks.

        undo, redo: the step itself moves where the stack of steps stands; `masks` are what is seen again.
        following: a propagation begins, which is no step yet; its masks come by `append_masks` and are seen. It ends by
        a step "propagate", which takes its masks over, or "ended", which is none; both name it in `ends`.
        Raises InputError where `ends` is no step of this session.
        """
        with self._database.write() as connection:
            if ends is not None:
                _check_step(connection, reading, ends)
            revision = _next(connection, reading, by, "step", work)
            row = {"reading_id": reading, "revision": revision, "kind": kind, "object": object_number}
            added = insert(Steps).values(**row, slice=slice_index, prompts=prompts, ends=ends).returning(Steps.id)
            step = connection.execute(added).scalar_one()
            _append_masks(connection, reading, revision, step, masks)
        return Appended(step, revision)

    def append_masks(
        self, reading: int, by: Reader, step: int, masks: Sequence[NewMask], work: Work | None = None
    ) -> int:
        """Further masks of a step, refined ones or slices of a propagation under way: the revision.

        Raises InputError for a step of another reading.
        """
        with self._database.write() as connection:
            _check_step(connection, reading, step)
            revision = _next(connection, reading, by, "masks", work)
            _append_masks(connection, reading, revision, step, masks)
        return revision

    def masks(self, reading: int) -> list[StoredMask]:
        """What is seen: the last mask of each object and slice, by revision. Empty ones are among them."""
        with self._database.read() as connection:
            return _seen_masks(connection, reading, -1)

    def all_masks(self, reading: int) -> list[StoredMask]:
        """Every mask there ever was, by revision: also those that others replaced, or that were undone."""
        with self._database.read() as connection:
            query = select(*_COLUMNS).where(Masks.reading_id == reading).order_by(Masks.id)
            return [_mask(row) for row in connection.execute(query).all()]

    def changes(self, reading: int, since: int = -1) -> Changes:
        """Objects and masks that came after revision `since`, each as it is now; by revision."""
        # as far as any database counts
        since = min(max(since, -1), 2**31 - 1)
        with self._database.read() as connection:
            return Changes(
                _revision(connection, reading),
                tuple(one for one in _objects(connection, reading) if one.revision > since),
                tuple(_seen_masks(connection, reading, since)),
            )

    def reading_state(self, reading: int) -> ReadingState:
        """All of it, to go on where it was."""
        with self._database.read() as connection:
            rows = connection.execute(select(Steps).where(Steps.reading_id == reading).order_by(Steps.revision)).all()
            stack, done = _standing([row for row in rows if row.kind not in _BESIDE])
            ended = {row.ends for row in rows}
            open_ones = [row for row in rows if row.kind == "following" and row.id not in ended]
            masks = _masks_of_steps(connection, reading)
            return ReadingState(
                _reading_where(connection, Readings.id == reading),
                _revision(connection, reading),
                tuple(_objects(connection, reading)),
                tuple(_step(row, masks) for row in stack),
                done,
                tuple(_seen_masks(connection, reading, -1)),
                tuple(mask for row in rows if row.kind == "start" for mask in _step(row, masks).masks),
                tuple(_step(row, masks) for row in open_ones),
                tuple((row.revision, row.prompts) for row in rows if row.kind == "limits"),
                len(rows),
            )


# -- the stack --------------------------------------------------------------------------------------------------


def _standing(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The steps that stand or can come again, and how many stand: undo goes back one, another step drops the rest."""
    stack: list[Row] = []
    done = 0
    for row in rows:
        walk = _WALKS.get(row.kind)
        if walk is None:
            del stack[done:]
            stack.append(row)
            done += 1
        else:
            done = min(max(done + walk, 0), len(stack))
    return stack, done


# -- rows -------------------------------------------------------------------------------------------------------


def _revision(connection: Connection, reading: int) -> int:
    found = connection.execute(select(func.max(Revisions.revision)).where(Revisions.reading_id == reading)).scalar()
    if found is None:
        raise InputError("There is no such session.", parameter="reading")
    return int(found)


def _next(connection: Connection, reading: int, by: Reader, kind: str, work: Work | None = None) -> int:
    """Raise the revision. The transaction writes, so nobody else is at the same number. Refuses what is closed."""
    if connection.execute(select(Revisions.at).where(Revisions.reading_id == reading, _IS_CLOSED)).first() is not None:
        raise InputError("This session is closed.", parameter="reading")
    revision, work = _revision(connection, reading) + 1, work or Work()
    connection.execute(
        insert(Revisions).values(
            reading_id=reading,
            revision=revision,
            kind=kind,
            at=now(),
            by_id=by.id,
            model=work.model,
            weights=work.weights,
            settings=None if work.settings is None else dict(work.settings),
            seconds=work.seconds,
        )
    )
    return revision


def _check_step(connection: Connection, reading: int, step: int) -> None:
    known = select(Steps.id).where(Steps.id == step, Steps.reading_id == reading)
    if connection.execute(known).first() is None:
        raise InputError("There is no such step in this session.", parameter="step")


def _append_object(connection: Connection, reading: int, one: StoredObject, kind: ObjectChange) -> None:
    connection.execute(
        insert(ObjectEvents).values(
            reading_id=reading,
            revision=one.revision,
            number=one.number,
            kind=kind,
            name=one.name,
            colour=one.colour,
            visible=one.visible,
            locked=one.locked,
        )
    )


def _objects(connection: Connection, reading: int) -> list[StoredObject]:
    query = select(ObjectEvents).where(ObjectEvents.reading_id == reading).order_by(ObjectEvents.revision)
    last = {row.number: row for row in connection.execute(query)}
    return [
        StoredObject(row.number, row.name, row.colour, row.visible, row.locked, row.revision)
        for _, row in sorted(last.items())
    ]


def _append_masks(connection: Connection, reading: int, revision: int, step: int, masks: Sequence[NewMask]) -> None:
    rows = [
        {
            "reading_id": reading,
            "revision": revision,
            "step_id": step,
            "object": one.object,
            "axis": one.axis,
            "slice": one.slice,
            "status": one.status,
            "current": one.current,
            **bits_of(one.mask),
            "predicted_iou": one.predicted_iou,
            "expected_dice": one.expected_dice,
            "number": one.number,
            "extra": one.extra,
        }
        for one in masks
    ]
    if rows:
        connection.execute(insert(Masks), rows)


def _seen_masks(connection: Connection, reading: int, since: int) -> list[StoredMask]:
    place = Masks.object, Masks.axis, Masks.slice
    last = select(*place, func.max(Masks.revision).label("revision"))
    last = last.where(Masks.reading_id == reading, Masks.current, Masks.revision > since).group_by(*place)
    newest = last.subquery()
    # plain columns: every mask that has one of these revisions, and then the place
    query = (
        select(*_COLUMNS)
        .join(newest, (Masks.revision == newest.c.revision) & (Masks.object == newest.c.object))
        .where(Masks.reading_id == reading, Masks.axis == newest.c.axis, Masks.slice == newest.c.slice)
        .order_by(Masks.revision, Masks.object, Masks.slice)
    )
    return [_mask(row) for row in connection.execute(query).all()]


def _masks_of_steps(connection: Connection, reading: int) -> dict[int, list[StoredMask]]:
    """By step, of each object and slice the last one. Those that others replaced are not read."""
    last = select(func.max(Masks.id)).where(Masks.reading_id == reading)
    last = last.group_by(Masks.step_id, Masks.object, Masks.axis, Masks.slice)
    by_step: dict[int, list[StoredMask]] = {}
    for row in connection.execute(select(*_COLUMNS).where(Masks.id.in_(last)).order_by(Masks.id)).all():
        mask = _mask(row)
        by_step.setdefault(mask.step, []).append(mask)
    return by_step


# of a mask, in the order in which `_mask` takes them: by name, thousands of rows take twice as long
_COLUMNS = (
    *(Masks.object, Masks.axis, Masks.slice, Masks.rows, Masks.columns),
    *(Masks.y0, Masks.y1, Masks.x0, Masks.x1, Masks.bits, Masks.area),
    *(Masks.status, Masks.predicted_iou, Masks.expected_dice, Masks.number, Masks.extra),
    *(Masks.revision, Masks.step_id),
)


def _mask(row: Row) -> StoredMask:
    number, axis, index, *columns = row
    mask, others = mask_of(*columns[:8]), columns[8:]
    return StoredMask(number, axis, index, mask, *others)


def _step(row: Row, masks: Mapping[int, Iterable[StoredMask]]) -> StoredStep:
    """masks: by step; those of the one it ends come first, as far as it has none of its own there."""
    own = masks.get(row.id, ())
    if row.ends is not None:
        both = (*masks.get(row.ends, ()), *own)
        own = {(one.object, one.axis, one.slice): one for one in both}.values()
    return StoredStep(row.id, row.revision, row.kind, row.object, row.slice, row.prompts, tuple(own))


def _readings() -> Select:
    return select(Readings, _closed_at())


def _closed_at() -> ColumnElement[Any]:
    closed = select(func.max(Revisions.at)).where(Revisions.reading_id == Readings.id, _IS_CLOSED)
    return closed.correlate(Readings).scalar_subquery().label("closed_at")


def _wanted(reader: Reader, case: int | None, closed: bool, everyones: bool) -> list[ColumnElement[bool]]:
    """See `ReadingsPart.reading_lines`."""
    wanted = [_theirs(reader)]
    if not everyones:
        wanted.append(Readings.user_id == reader.id)
    if case is not None:
        wanted.append(Readings.case_id == case)
    if not closed:
        wanted.append(~exists().where(Revisions.reading_id == Readings.id, _IS_CLOSED))
    return wanted


def _theirs(reader: Reader) -> ColumnElement[bool]:
    """A reader's own on cases that they may see, those that were removed since among them; reviewers see all."""
    if reader.sees_all:
        return true()
    seen = exists().where(Cases.id == Readings.case_id, allowed(reader)).correlate(Readings)
    return (Readings.user_id == reader.id) & seen


def _reading_where(connection: Connection, which: Any) -> StoredReading:
    row = connection.execute(_readings().where(which)).first()
    if row is None:
        raise InputError("There is no such session.", parameter="reading")
    return _reading(row)


def _reading(row: Row) -> StoredReading:
    return StoredReading(
        id=row.id,
        key=row.public_id,
        case=row.case_id,
        user=row.user_id,
        began_at=row.began_at,
        model=row.model,
        weights=row.weights,
        axis=cast(Axis, row.axis),
        voxels=row.voxels,
        medsam=row.medsam,
        document=row.document,
        closed_at=row.closed_at,
    )
