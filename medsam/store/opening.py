"""Which kind of database a folder's store has: a file in it, or tables in PostgreSQL that it knows the place of."""

from __future__ import annotations

import os
from pathlib import Path

from medsam.errors import InputError
from medsam.store.database import LOCK, Database, unusable
from medsam.store.postgres import WHERE, PostgresDatabase
from medsam.store.sqlite import NAME, SqliteDatabase


def open_database(folder: Path, serving: bool, url: str | None) -> Database:
    """See `Store.open`."""
    try:
        foreign, file = is_foreign(folder), (folder / NAME).exists()
    except OSError as error:
        raise unusable(error) from None
    if foreign:
        raise InputError(
            f"The folder `store` is not empty, and holds no {NAME}: name another, or put a backup there under "
            "that name.",
            parameter="store",
        )
    if url is None and not (folder / WHERE).exists():
        return SqliteDatabase(folder, serving)
    if file:
        raise InputError(
            f"The folder `store` holds {NAME}, a database of its own: name an empty folder beside a `database`.",
            parameter="store",
        )
    return PostgresDatabase(folder, serving, url)


def is_store(folder: Path) -> bool:
    """Whether a store was made here."""
    return any((folder / name).is_file() for name in (NAME, WHERE))


def is_foreign(folder: Path) -> bool:
    """Whether a folder is there that holds other things, and no store. Raises OSError where it cannot be read."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in os.scandir(folder)}
    return not names & {NAME, WHERE} and bool(names - {LOCK})
