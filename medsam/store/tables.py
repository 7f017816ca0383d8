"""The tables. A change here needs a migration (`migrations/versions`); a test holds the two together.

    users, tokens, logins        who may come in; of secrets only digests
    cases, case_readers          the scans, and who may see them; case_events: what happened to them
    readings                     a reader's session on a case, with all that its masks depend on
    revisions                    every change of a reading: who, when, and what computed it; one number each
    object_events, steps, masks  what a revision changed

What was confirmed is never changed: triggers refuse UPDATE and DELETE on `APPEND_ONLY`, and on the columns of `cases`
that say what a case is. How things stand is the last row about them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from medsam.store.columns import TEXT, TIME, where

# confirmed rows: the migrations have triggers for them
APPEND_ONLY = ("case_events", "readings", "revisions", "object_events", "steps", "masks", "audit")


class UtcTime(TypeDecorator[datetime]):
    """A moment, as text in UTC with its zone and always as many digits, so that text sorts as time does."""

    impl = TIME
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without its zone cannot be stored.")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: TEXT, datetime: UtcTime, dict[str, Any]: JSON, list[Any]: JSON, bytes: LargeBinary}  # noqa: RUF012


class Users(Table):
    """password: argon2's own text, with its settings; None for those whom a proxy names, and for the local reader."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    role: Mapped[int]
    password: Mapped[str | None]
    active: Mapped[bool]
    added_at: Mapped[datetime]


class Tokens(Table):
    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    added_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Logins(Table):
    """Rows of ended ones go."""

    __tablename__ = "logins"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    began_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Cases(Table):
    """source: where the scan comes from, in the server's own words. owner_id: None for those that all may see.

    details: JSON of the caller. opened_at: last. vanished_at: its files are not where they were, and may come back.
    removed_at: somebody or time removed it, for good; files_gone_at: its files are no more. site: see `Database`; its
    files are there, and nowhere else is anything known of it.
    """

    __tablename__ = "cases"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    source: Mapped[str]
    name: Mapped[str]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    modality: Mapped[str | None]
    details: Mapped[dict[str, Any]]
    added_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    vanished_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    files_gone_at: Mapped[datetime | None]
    site: Mapped[str] = mapped_column(server_default=text("''"))
    __table_args__ = (
        Index("ix_cases_here", "site", "source", unique=True, **where("removed_at IS NULL")),
        Index("ix_cases_files_left", "removed_at", **where("files_gone_at IS NULL")),
    )


class CaseReaders(Table):
    """Who may see a case beside its owner, now."""

    __tablename__ = "case_readers"
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)


class CaseEvents(Table):
    __tablename__ = "case_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), index=True)
    at: Mapped[datetime]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str]
    details: Mapped[dict[str, Any]]


class Readings(Table):
    """document: the session's settings before its first step, as `SessionState.to_dict` gives them; columns repeat what
    is asked for across readings. medsam: the version that began it."""

    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("cases.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    began_at: Mapped[datetime]
    model: Mapped[str]
    weights: Mapped[str]
    engine: Mapped[str]
    precision: Mapped[str]
    voxels: Mapped[str]
    axis: Mapped[str]
    modality: Mapped[str | None]
    medsam: Mapped[str]
    document: Mapped[dict[str, Any]]


class Revisions(Table):
    """kind: "opened" (0), "closed", "object", "step" or "masks". model, weights, settings, seconds: of what computed
    its masks; None where nothing was computed."""

    __tablename__ = "revisions"
    reading_id: Mapped[int] = mapped_column(ForeignKey("readings.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    at: Mapped[datetime]
    by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    model: Mapped[str | None]
    weights: Mapped[str | None]
    settings: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    seconds: Mapped[float | None]
    __table_args__ = (
        Index("ix_revisions_closed", "reading_id", "at", **where("kind = 'closed'")),
        {"sqlite_with_rowid": False},
    )


def _of_revision() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["reading_id", "revision"], ["revisions.reading_id", "revisions.revision"])


class ObjectEvents(Table):
    """All of an object after an event. number: of the object in its reading, from 1."""

    __tablename__ = "object_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    reading_id: Mapped[int]
    revision: Mapped[int]
    number: Mapped[int]
    kind: Mapped[str]
    name: Mapped[str]
    colour: Mapped[str]
    visible: Mapped[bool]
    locked: Mapped[bool]
    __table_args__ = (_of_revision(), UniqueConstraint("reading_id", "revision", "number"))


class Steps(Table):
    """kind: see `records.StepKind`. prompts: JSON of the caller, as a rule an entry of a prompts file. ends: the
    propagation that this step ends."""

    __tablename__ = "steps"
    id: Mapped[int] = mapped_column(primary_key=True)
    reading_id: Mapped[int]
    revision: Mapped[int]
    kind: Mapped[str]
    object: Mapped[int | None]
    slice: Mapped[int | None]
    ends: Mapped[int | None] = mapped_column(ForeignKey("steps.id"))
    prompts: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    __table_args__ = (_of_revision(), UniqueConstraint("reading_id", "revision"))


class Masks(Table):
    """A mask of a step: `CompactMask`, its bounds half-open, its bits by zlib, which has a checksum: a tenth of the
    bytes to wait for. current: whether it became the one that is seen.

    number, extra: of the caller: of the result in its session, and JSON about this slice alone.
    """

    __tablename__ = "masks"
    id: Mapped[int] = mapped_column(primary_key=True)
    reading_id: Mapped[int]
    revision: Mapped[int]
    step_id: Mapped[int] = mapped_column(ForeignKey("steps.id"))
    object: Mapped[int]
    axis: Mapped[str]
    slice: Mapped[int]
    status: Mapped[str]
    current: Mapped[bool]
    rows: Mapped[int]
    columns: Mapped[int]
    y0: Mapped[int]
    y1: Mapped[int]
    x0: Mapped[int]
    x1: Mapped[int]
    area: Mapped[int]
    predicted_iou: Mapped[float | None]
    expected_dice: Mapped[float | None]
    number: Mapped[int | None]
    extra: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    # last: who reads the others never goes past it
    bits: Mapped[bytes]
    __table_args__ = (
        _of_revision(),
        UniqueConstraint("reading_id", "revision", "object", "axis", "slice"),
        Index(
            "ix_masks_current",
            "reading_id",
            "revision",
            "object",
            "axis",
            "slice",
            # so that no row has to be read
            "current",
            **where("current = 1", "current"),
        ),
        Index("ix_masks_of_steps", "reading_id", "step_id", "object", "axis", "slice"),
    )


class Audit(Table):
    """user: the name as it was. address: where the request came from. case, reading: their public ids."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    user: Mapped[str | None]
    what: Mapped[str]
    case: Mapped[str | None] = mapped_column(index=True)
    reading: Mapped[str | None]
    address: Mapped[str | None]
    details: Mapped[dict[str, Any]]
