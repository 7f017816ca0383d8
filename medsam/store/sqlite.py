"""One SQLite database in the store's folder, brought up to date when it is opened.

SQLite's own waiting for a lock is a sleep, and unfair, so who writes waits for one of this process first. Every write
is on the disk when it ends by `synchronous=FULL`, and readers see a snapshot by WAL. The folder has to be on a disk of
this machine: WAL needs memory that all who open the file share.

    medsam.db             the database, with -wal and -shm beside it while it is open
    serving.lock          held by the server that runs on this folder
    before-REVISION.db    a copy from before a migration
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from medsam.errors import InputError
from medsam.files import move, sync
from medsam.store.database import (
    BUSY_SECONDS,
    Database,
    StoreError,
    check_known,
    make_private,
    newest_revision,
    reason,
    revision_of,
    unusable,
    upgrade,
)

NAME = "medsam.db"
# "MSAM": says of a file that it is one of these
APPLICATION_ID = 0x4D53414D
# recursive_triggers: without, a row that replaces another deletes that one behind the triggers' back
_SETTINGS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    # of macOS, whose fsync leaves data in the disk's own memory
    "fullfsync = ON",
    "foreign_keys = ON",
    "recursive_triggers = ON",
    "trusted_schema = OFF",
)


class SqliteDatabase(Database):
    """A store's file, open. serving: whether a server runs on it; then it is the only one.

    Raises InputError when another server does, the folder cannot be used, or the file is another's, damaged, or of a
    newer medsam.
    """

    site = ""
    _failures = (DatabaseError, OperationalError)

    def __init__(self, folder: Path, serving: bool) -> None:
        super().__init__(folder)
        self.path = folder / NAME
        make_private(folder)
        if serving:
            self._serve_alone()
        self.engine = _engine(self.path)
        try:
            _make_file(self.path)
            self._bring_up_to_date(serving)
        except BaseException:
            self.close()
            raise

    def backup(self, target: Path) -> None:
        """See `copy_database`."""
        copy_database(self.path, target)

    def check(self) -> list[str]:
        """Takes seconds for a large file."""
        try:
            with self.read() as connection:
                found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        except StoreError as error:
            return [str(error)]
        return [one for one in found if one != "ok"] + [f"{row[0]} points at nothing" for row in broken]

    @property
    def size(self) -> int:
        total = 0
        for file in self.folder.glob(f"{NAME}*"):
            with suppress(FileNotFoundError):  # SQLite makes and removes those beside it
                total += file.stat().st_size
        return total

    def _reader(self) -> Connection:
        return self.engine.connect()

    def _writer(self) -> Connection:
        return self.engine.connect().execution_options(medsam_writes=True)

    def _said(self, error: DatabaseError) -> str:
        return str(error.orig)[:80]

    def _bring_up_to_date(self, serving: bool) -> None:
        try:
            with self.engine.connect() as connection:
                ours = connection.exec_driver_sql("PRAGMA application_id").scalar()
                empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
                current = revision_of(connection)
                wal = connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        except OperationalError as error:
            raise InputError(
                f"{NAME} in this `store` cannot be opened ({str(error.orig)[:80]}).", parameter="store"
            ) from None
        except DatabaseError:
            raise InputError(
                f"{NAME} in this `store` is no database, or damaged: put a backup in its place.", parameter="store"
            ) from None
        if not wal:
            raise InputError("The `store` has to be on a disk of this machine, not of another.", parameter="store")
        if not empty and ours != APPLICATION_ID:
            raise InputError(f"{NAME} in this `store` was not made by medsam serve.", parameter="store")
        check_known(current, "store")
        if current == newest_revision():
            return
        if not serving:
            self._serve_alone()
        if current is not None:
            copy_database(self.path, self.folder / f"before-{newest_revision()}.db")
        with self._writer() as connection, connection.begin():
            upgrade(connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        if not serving:
            self._lock.release()


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that may be in use, as it is at one moment; checked, and whole under its name or not there.

    target: replaced when it is such a copy. Its owner's alone. Opened as any store once it is called `medsam.db` in a
    folder. Raises InputError when it cannot be written, or is something else.
    """
    try:
        if target.exists() and (_is_in_use(target, source) or not _is_ours(target)):
            raise InputError(
                f"{target.name} is there and no `backup` of a store: give another name.", parameter="backup"
            )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".medsam-") as folder:
            part = Path(folder) / target.name
            _make_file(part)
            with (
                closing(sqlite3.connect(source, timeout=BUSY_SECONDS)) as live,
                closing(sqlite3.connect(part)) as copy,
            ):
                # all pages at once: in steps, every write of others would start it again
                live.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                fault = _fault(copy)
            if fault is not None:
                raise InputError(f"The store is damaged ({fault[:80]}): it was not copied, and the copy before stays.")
            sync(part)
            move(part, target)
            sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"The `backup` cannot be written ({reason(error)}).", parameter="backup") from None


def _fault(connection: sqlite3.Connection) -> str | None:
    """The first that SQLite finds."""
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == ["ok"] else found[0]


def _is_in_use(path: Path, source: Path) -> bool:
    """Whether it is a store rather than a copy: whoever has it open would go on with a file that has no name."""
    return path.samefile(source) or path.name == NAME or path.with_name(f"{path.name}-wal").exists()


def _is_ours(path: Path) -> bool:
    """By the header of the file; see the format of SQLite's files, offset 68."""
    with path.open("rb") as file:
        head = file.read(100)
    return head[:16] == b"SQLite format 3\0" and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=8,
        max_overflow=32,
        pool_timeout=BUSY_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        # transactions begin where we say so, and hold tables, too
        connection.isolation_level = None
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: one that reads first and then writes would be refused when another wrote in between
        writes = connection.get_execution_options().get("medsam_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_file(path: Path) -> None:
    """Empty where it is missing, and its owner's alone, before anything is in it; SQLite gives -wal the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise unusable(error) from None
