"""Masks of a project with where they come from. Every change is a further row; what stands is the last one of a place.

A place is a structure on a slice of a scan. Rows of tasks that are about others' work (gold, second, audit) make no
mask of the project: `standing` leaves them out, `annotations_of` has them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    case,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import aliased

from medsam.geometry import Axis
from medsam.store.bits import bits_of, mask_of
from medsam.store.chances import append_chances
from medsam.store.part import Part, now, portions
from medsam.store.project_records import (
    MAKING,
    Annotation,
    Effort,
    EffortLine,
    NewAnnotation,
    Status,
    Task,
    Verdict,
)
from medsam.store.project_tables import Annotations, RoundEvents, Rounds, TaskEvents, Tasks, Verdicts
from medsam.store.readers import Reader
from medsam.store.tables import Users

# that a person, or a model left alone, has vouched for
DONE: tuple[Status, ...] = ("accepted", "edited", "approved")
# what tells places apart
_PLACE = ("scan_id", "structure", "axis", "slice")
# masks that somebody hands in
_BY_PEOPLE: tuple[Status, ...] = ("accepted", "edited")
# of a line of effort
_NUMBERS = len(fields(EffortLine)) - 1


class AnnotationsPart(Part):
    """Masks, and what was said of them."""

    def add_annotations(self, annotations: Sequence[NewAnnotation], by: Reader | None = None) -> list[int]:
        """Outside of any task: proposals of a model, or masks from elsewhere. Ids of their rows."""
        with self._database.write() as connection:
            return append_annotations(connection, annotations, now(), None if by is None else by.id, None)

    def standing(
        self,
        scan: int | None = None,
        statuses: Collection[Status] = DONE,
        *,
        last: int | None = None,
        structures: Collection[str] | None = None,
    ) -> Iterator[Annotation]:
        """The last of each place, where it has one of these statuses: by scan, structure and slice.

        last: as it was when this annotation had just come. Read scan by scan, so that any number may be gone through.
        """
        if scan is None:
            with self._database.read() as connection:
                scans = list(connection.execute(select(Annotations.scan_id).distinct().order_by(Annotations.scan_id)))
            for (one,) in scans:
                yield from self.standing(one, statuses, last=last, structures=structures)
            return
        query = _whole().where(Annotations.scan_id == scan, Annotations.status.in_(list(statuses)), *_stands(last))
        if structures is not None:
            query = query.where(Annotations.structure.in_(list(structures)))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(Annotations.structure, Annotations.axis, Annotations.slice)).all()
        yield from map(_annotation, rows)

    def annotations_of(self, task: int) -> list[Annotation]:
        """All that came of a task, rejected ones too, by id."""
        query = _whole().where(Annotations.task_id == task).order_by(Annotations.id)
        with self._database.read() as connection:
            return [_annotation(row) for row in connection.execute(query)]

    def annotation(self, annotation: int) -> Annotation:
        """By id."""
        with self._database.read() as connection:
            return _annotation(connection.execute(_whole().where(Annotations.id == annotation)).one())

    def history(self, scan: int, structure: str, axis: Axis, index: int) -> list[Annotation]:
        """Everything there ever was on a place, the oldest first."""
        place = (Annotations.scan_id == scan, Annotations.structure == structure, Annotations.axis == axis)
        query = _whole().where(*place, Annotations.slice == index).order_by(Annotations.id)
        with self._database.read() as connection:
            return [_annotation(row) for row in connection.execute(query)]

    def proposed_places(self, scans: Collection[int]) -> list[tuple[int, str, int]]:
        """(scan, structure, slice) of every mask that is proposed and nobody has said anything of."""
        query = select(Annotations.scan_id, Annotations.structure, Annotations.slice).order_by(Annotations.id)
        query = query.where(Annotations.scan_id.in_(list(scans)), Annotations.status == "proposed", *_stands())
        with self._database.read() as connection:
            return [(scan, structure, index) for scan, structure, index in connection.execute(query)]

    def standing_counts(self) -> dict[tuple[str, Status], int]:
        """(structure, status) -> places whose last row says that, but for those where drawing came to nothing."""
        keys = Annotations.structure, Annotations.status
        query = select(*keys, func.count()).where(*_stands()).group_by(*keys)
        # in a question of its own: the index that answers the other one does not know the area
        vain = query.where(Annotations.status == "rejected", Annotations.area == 0)
        with self._database.read() as connection:
            counts = {(structure, status): count for structure, status, count in connection.execute(query)}
            for structure, status, count in connection.execute(vain):
                counts[structure, status] -= count
        return {(structure, cast(Status, status)): count for (structure, status), count in counts.items() if count}

    def masks_since(self, annotation: int) -> int:
        """Places whose last row is newer than this one and done."""
        query = select(func.count(Annotations.id)).where(Annotations.id > annotation, Annotations.status.in_(DONE))
        query = query.where(*_stands())
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def standing_places(
        self, statuses: Collection[Status] = DONE, scans: Collection[int] | None = None, *, people: bool = False
    ) -> dict[int, dict[str, int]]:
        """Scan -> structure -> on how many slices it stands with one of these statuses; no mask is read.

        scans: ids, of these alone. people: only what a person said, last.
        """
        query = select(Annotations.scan_id, Annotations.structure, func.count()).where(*_stands())
        if scans is None:
            query = query.where(Annotations.status.in_(list(statuses)))
        else:
            # as an expression: of few scans SQLite would go through all masks of a status
            status = func.coalesce(Annotations.status, "")
            query = query.where(status.in_(list(statuses)), Annotations.scan_id.in_(list(scans)))
        if people:
            query = query.where(Annotations.by_id.is_not(None))
        found: dict[int, dict[str, int]] = {}
        with self._database.read() as connection:
            for scan, structure, count in connection.execute(
                query.group_by(Annotations.scan_id, Annotations.structure)
            ):
                found.setdefault(scan, {})[structure] = count
        return found

    def last_annotation(self) -> int:
        """Id of the newest row; 0 without one."""
        with self._database.read() as connection:
            return connection.execute(select(func.coalesce(func.max(Annotations.id), 0))).scalar_one()

    def effort(self, by: str) -> list[EffortLine]:
        """What people's masks cost, by "reader" (name), "structure", "stage" or "round".

        Round n is what was drawn after round n - 1 had ended and before n had: with the model that came of it. A mask
        that was returned and handed in again is one, where it was handed in first; what it cost is all of it.
        """
        with self._database.read() as connection:
            key = _keys(connection)[by]
            return _summed(_efforts(connection, key.column), 0, key.names)

    def efforts(self) -> dict[str, list[EffortLine]]:
        """By each of these, at one look."""
        with self._database.read() as connection:
            keys = _keys(connection)
            rows = _efforts(connection, *(one.column for one in keys.values()))
            return {by: _summed(rows, place, one.names) for place, (by, one) in enumerate(keys.items())}

    # -- audits -------------------------------------------------------------------------------------------------------

    def add_verdict(
        self, annotation: int, by: Reader | None, verdict: str, dice: float | None = None, note: str | None = None
    ) -> None:
        """What an auditor says of a mask."""
        row = {"annotation_id": annotation, "at": now(), "by_id": None if by is None else by.id}
        with self._database.write() as connection:
            connection.execute(insert(Verdicts).values(**row, verdict=verdict, dice=dice, note=note))

    def verdicts(self) -> list[Verdict]:
        """In the order in which they came."""
        with self._database.read() as connection:
            return [
                Verdict(row.annotation_id, row.at, row.by_id, row.verdict, row.dice, row.note)
                for row in connection.execute(select(Verdicts).order_by(Verdicts.id))
            ]


def append_annotations(
    connection: Connection, annotations: Sequence[NewAnnotation], moment: datetime, by: int | None, task: int | None
) -> list[int]:
    """In a transaction of the caller's: ids of the rows."""
    if not annotations:
        return []
    whose = _masks_of(connection, [one.parent for one in annotations if one.mask is None])
    rows = []
    for one in annotations:
        row: dict[str, Any] = {"scan_id": one.scan, "task_id": task, "structure": one.structure}
        row |= {"axis": one.axis, "slice": one.slice}
        row |= {"status": one.status, "at": moment, "by_id": by, "stage": one.stage, "parent_id": one.parent}
        row |= {"model": one.model, "weights": one.weights, "prompts": one.effort.prompts}
        row |= {"clicks": one.effort.clicks, "boxes": one.effort.boxes, "strokes": one.effort.strokes}
        row |= {"seconds": one.effort.seconds, "predicted_iou": one.predicted_iou, "expected_dice": one.expected_dice}
        row |= whose[one.parent] if one.mask is None else {"holds_id": None, **bits_of(one.mask)}
        rows.append(row)
    made = insert(Annotations).returning(Annotations.id, sort_by_parameter_order=True)
    ids = list(connection.execute(made, rows).scalars())
    append_chances(connection, ids, annotations)
    return ids


def replace_standing(connection: Connection, task: Task, annotations: Sequence[NewAnnotation]) -> list[NewAnnotation]:
    """What rejects, of the places that a task is about, all that stands or is proposed and is not among these."""
    there = {(one.structure, one.axis, one.slice) for one in annotations}
    query = select(Annotations).where(Annotations.scan_id == task.scan, *_stands())
    query = query.where(Annotations.status != "rejected", Annotations.structure.in_(task.structures))
    if task.slices is not None:
        query = query.where(Annotations.slice.in_(task.slices))
    return [
        NewAnnotation(task.scan, row.structure, row.axis, row.slice, "rejected", None, row.stage, row.id)
        for row in connection.execute(query.order_by(Annotations.id))
        if (row.structure, row.axis, row.slice) not in there
    ]


def take_approval_back(connection: Connection, task: Task, moment: datetime) -> None:
    """Masks of a task that stand approved stand again as they were handed in, by who did that: further rows."""
    query = select(Annotations, _DRAWN.status.label("was"), _DRAWN.by_id.label("drew"))
    query = query.join(_DRAWN, _DRAWN.id == Annotations.parent_id).order_by(Annotations.id)
    there = (Annotations.task_id == task.id, Annotations.status == "approved", *_stands())
    by_reader: dict[int | None, list[NewAnnotation]] = {}
    for row in connection.execute(query.where(*there)):
        place = row.scan_id, row.structure, row.axis, row.slice, row.was, None, row.stage, row.id
        told = {name: getattr(row, name) for name in ("model", "weights", "predicted_iou", "expected_dice")}
        by_reader.setdefault(row.drew, []).append(NewAnnotation(*place, **told))
    for reader, rows in by_reader.items():
        append_annotations(connection, rows, moment, reader, task.id)


def _masks_of(connection: Connection, parents: Sequence[int | None]) -> dict[int | None, dict[str, Any]]:
    """id -> the columns of the mask that a row about this one has."""
    if None in parents:
        raise ValueError("A row without a mask is about another one.")
    names = ("rows", "columns", "y0", "y1", "x0", "x1", "area")
    found: dict[int | None, dict[str, Any]] = {}
    for some in portions(parents):
        query = select(Annotations.id, Annotations.holds_id, *(getattr(Annotations, name) for name in names))
        for row in connection.execute(query.where(Annotations.id.in_(some))):
            columns = {name: getattr(row, name) for name in names}
            found[row.id] = {**columns, "holds_id": row.holds_id or row.id, "bits": None}
    return found


_HOLDER, _LATER, _DRAWN = aliased(Annotations), aliased(Annotations), aliased(Annotations)
_OTHERS = select(Tasks.id).where(Tasks.kind.not_in(MAKING))


def _stands(last: int | None = None) -> list[ColumnElement[bool]]:
    """Of annotations: the last of its place, of those that make masks of the project. last: as it was then.

    A question after a later row, which an index alone answers: numbering all rows takes three times as long.
    """
    place = (getattr(_LATER, name) == getattr(Annotations, name) for name in _PLACE)
    later = exists().where(*place, _LATER.id > Annotations.id, _makes(_LATER)).correlate(Annotations)
    if last is None:
        return [_makes(Annotations), ~later]
    return [_makes(Annotations), Annotations.id <= last, ~later.where(_LATER.id <= last)]


def _makes(row: Any) -> ColumnElement[bool]:
    """Of annotations: drawn for the project, and not to compare with others."""
    return or_(row.task_id.is_(None), row.task_id.not_in(_OTHERS))


def _whole() -> Select:
    """Rows with the bits of the row that holds them."""
    query = select(Annotations, func.coalesce(Annotations.bits, _HOLDER.bits).label("mask_bits"))
    return query.outerjoin(_HOLDER, _HOLDER.id == Annotations.holds_id)


def _annotation(row: Row) -> Annotation:
    return Annotation(
        id=row.id,
        scan=row.scan_id,
        task=row.task_id,
        structure=row.structure,
        axis=cast(Axis, row.axis),
        slice=row.slice,
        status=cast(Status, row.status),
        at=row.at,
        by=row.by_id,
        stage=row.stage,
        parent=row.parent_id,
        model=row.model,
        weights=row.weights,
        effort=Effort(row.clicks, row.boxes, row.strokes, row.seconds, row.prompts),
        predicted_iou=row.predicted_iou,
        expected_dice=row.expected_dice,
        mask=mask_of(row.rows, row.columns, row.y0, row.y1, row.x0, row.x1, row.mask_bits, row.area),
    )


_MADE, _AS_PROPOSED = Annotations.status.in_(_BY_PEOPLE), Annotations.status == "accepted"
_TIMED = Annotations.seconds.is_not(None)


class _Key(NamedTuple):
    """By what masks are told apart. names: of its values, in the order in which they are told; None: their own."""

    column: Any
    names: Mapping[Any, str] | None = None


def _keys(connection: Connection) -> dict[str, _Key]:
    names = dict(sorted(connection.execute(select(Users.id, Users.name)), key=lambda one: one[1]))
    ended = select(Rounds.id, Rounds.last).join(RoundEvents, RoundEvents.round_id == Rounds.id)
    rounds = connection.execute(ended.where(RoundEvents.kind == "ended").order_by(Rounds.id)).all()
    return {
        "reader": _Key(Annotations.by_id, names),
        "structure": _Key(Annotations.structure),
        "stage": _Key(Annotations.stage),
        "round": _Key(
            # after 0, so that there is something to tell apart
            _place_among([0, *(last for _, last in rounds)]),
            dict(enumerate([*(str(number) for number, _ in rounds), "now"], start=1)),
        ),
    }


def _place_among(ends: Sequence[int]) -> ColumnElement[int]:
    """Of annotations: how many of these ids, in their order, lie before its own. By halves, so that hundreds of rounds
    cost little; written out, so that it is one expression wherever it stands in a question."""

    def among(low: int, high: int) -> ColumnElement[int]:
        if low == high:
            return literal_column(str(low), Integer)
        middle = (low + high) // 2
        early = Annotations.id <= literal_column(str(int(ends[middle])), Integer)
        return case((early, among(low, middle)), else_=among(middle + 1, high))

    return among(0, len(ends))


def _efforts(connection: Connection, *keys: Any) -> list[Row]:
    """Keys, then the numbers of a line: several rows of a key, to be summed."""
    both = (_effort(*keys), _again(*keys))
    return [row for query in both for row in connection.execute(query.group_by(*keys))]


def _effort(*keys: Any) -> Select:
    """Of what people handed in in the work itself; what reviewers said of it is not counted again."""
    sums = (
        func.coalesce(func.sum(column), 0) for column in (Annotations.clicks, Annotations.boxes, Annotations.strokes)
    )
    seconds = func.coalesce(func.sum(Annotations.seconds), 0.0)
    query = select(*keys, _how_many(_MADE), _how_many(_AS_PROPOSED), *sums, seconds, _how_many(_MADE & _TIMED))
    return query.where(_theirs(Annotations))


def _again(*keys: Any) -> Select:
    """What of that is no further mask: it was returned, and handed in again. Of a mask that is edited by then, that it
    was untouched is taken back."""
    same = (getattr(_LATER, name) == getattr(Annotations, name) for name in (*_PLACE, "task_id"))
    other = select(_LATER.id).where(*same, _theirs(_LATER)).correlate(Annotations)
    again = other.where(_LATER.id < Annotations.id, _LATER.status.in_(_BY_PEOPLE)).exists() & _MADE
    not_untouched = _AS_PROPOSED & or_(again, other.where(_LATER.status == "edited").exists())
    counts = [-_how_many(one) for one in (again, not_untouched)]
    query = select(*keys, *counts, *(literal(0) for _ in range(4)), -_how_many(again & _TIMED))
    returned = select(TaskEvents.task_id).where(TaskEvents.kind == "returned")
    return query.where(_theirs(Annotations), Annotations.task_id.in_(returned))


def _theirs(row: Any) -> ColumnElement[bool]:
    """Of annotations: what a person handed in, masks and what came to be none."""
    work = row.by_id.is_not(None) & row.task_id.is_not(None) & _makes(row)
    return work & row.status.in_((*_BY_PEOPLE, "rejected"))


def _how_many(which: ColumnElement[bool]) -> Any:
    return func.coalesce(func.sum(case((which, 1), else_=0)), 0)


def _summed(rows: Iterable[Row], place: int, names: Mapping[Any, str] | None) -> list[EffortLine]:
    """A line for each key of this place in the rows; the numbers come after all keys. names: see `_Key`. Where nothing
    was made and nothing asked, there is no line."""
    sums: dict[Any, list[Any]] = {}
    for row in rows:
        known = sums.setdefault(row[place], [0] * _NUMBERS)
        sums[row[place]] = [one + (other or 0) for one, other in zip(known, row[-_NUMBERS:], strict=True)]
    told = {key: str(key) for key in sorted(sums)} if names is None else names
    return [EffortLine(name, *sums[key]) for key, name in told.items() if any(sums.get(key, ()))]
