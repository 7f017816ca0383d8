"""What the parts of the store share: the database, how much is asked at once, the time, and random names."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import ColumnElement

from medsam.store.database import Database
from medsam.store.tables import Cases

T = TypeVar("T")
# of one question to the database
_MANY = 500


class Part:
    """Some of the store's methods. All may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def _here(self) -> ColumnElement[bool]:
        """Of cases: this site's, whose files are in this folder or seen from it."""
        return Cases.site == self._database.site


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at a time as one question to the database may name."""
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def new_key() -> str:
    """A name for URLs that says nothing and cannot be guessed."""
    return secrets.token_urlsafe(12)


def new_secret() -> str:
    """What lets somebody in. 256 bits: its digest needs no salt and no slow hash."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What the store keeps of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
