"""The file: one SQLite database in a folder of its owner's, brought up to date when it is opened.

Who writes waits for a lock of this process first: SQLite's own waiting is a sleep, and unfair. Every write is one
transaction and on the disk when it ends (`synchronous=FULL`); readers see a snapshot and wait for nobody (WAL).
The folder has to be on a disk of this machine: WAL needs memory that all who open the file share.

    medsam.db             the database, with -wal and -shm beside it while it is open
    serving.lock          held by the server that runs on this folder
    before-REVISION.db    a copy from before a migration
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from medsam.errors import InputError, MedSAMError
from medsam.files import move, sync

NAME, LOCK = "medsam.db", "serving.lock"
# "MSAM": says of a file that it is one of these
APPLICATION_ID = 0x4D53414D
_BUSY_SECONDS = 30.0
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
_MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(MedSAMError):
    """The disk of the store is full, damaged, or busy for too long. Nothing was written; the same may work later."""

    # of HTTP
    status = 503


class Database:
    """A store's file, open. serving: whether a server runs on it; then it is the only one.

    Raises InputError when another server does, the folder cannot be used, or the file is another's, damaged, or of a
    newer medsam.
    """

    def __init__(self, folder: Path, serving: bool) -> None:
        self.folder, self.path = folder, folder / NAME
        self._lock = FileLock(folder / LOCK, mode=0o600, thread_local=False)
        self._writing = threading.Lock()
        _make_private(folder)
        if serving:
            self._serve_alone()
        self.engine = _engine(self.path)
        try:
            _make_file(self.path)
            self._bring_up_to_date(serving)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file and its lock back; what is committed is in the file."""
        self.engine.dispose()
        self._lock.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read in this block is of one moment. Raises as `write`."""
        with _told(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, on the disk when the block ends; nothing of it where it raises.

        Raises StoreError where the disk does not take it, and InputError for what no database holds.
        """
        with _told(), self._writing, self._writer() as connection, connection.begin():
            yield connection

    def writable(self) -> bool:
        """Whether a transaction that writes can begin now."""
        try:
            with self._writing, self._writer() as connection:
                connection.begin().rollback()
        except DatabaseError:
            return False
        return True

    @property
    def revision(self) -> str:
        """Of the tables."""
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""

    def _writer(self) -> Connection:
        return self.engine.connect().execution_options(medsam_writes=True)

    def backup(self, target: Path) -> None:
        """See `copy_database`; the copy is of one moment, and whoever writes meanwhile goes on."""
        copy_database(self.path, target)

    def _serve_alone(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                "Another medsam server is running on this `store`: stop it, or give this one a folder of its own.",
                parameter="store",
            ) from None
        except OSError as error:
            raise _unusable(error) from None

    def _bring_up_to_date(self, serving: bool) -> None:
        script = ScriptDirectory(str(_MIGRATIONS))
        try:
            with self.engine.connect() as connection:
                ours = connection.exec_driver_sql("PRAGMA application_id").scalar()
                empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
                current = MigrationContext.configure(connection).get_current_revision()
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
        if current is not None and current not in {one.revision for one in script.walk_revisions()}:
            raise InputError(
                f"This `store` was written by a newer medsam (its tables are of revision {current[:20]}): update "
                "medsam, or take another folder.",
                parameter="store",
            )
        if current == script.get_current_head():
            return
        if not serving:
            self._serve_alone()
        if current is not None:
            copy_database(self.path, self.folder / f"before-{script.get_current_head()}.db")
        self._upgrade()
        if not serving:
            self._lock.release()

    def _upgrade(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self._writer() as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the database in the words of this package. What breaks a rule of the tables is a fault of ours."""
    try:
        yield
    except DatabaseError as error:
        # its other kinds are rules of the tables, which callers have to keep
        if type(error) not in (DatabaseError, OperationalError):
            raise
        raise StoreError(f"The store cannot be used now ({str(error.orig)[:80]}).") from error
    except PoolTimeout as error:
        raise StoreError("The store cannot be used now (too many ask at once).") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise InputError("This holds a text that is no Unicode, or a number that is too large.") from error


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
                closing(sqlite3.connect(source, timeout=_BUSY_SECONDS)) as live,
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
        raise InputError(f"The `backup` cannot be written ({_reason(error)}).", parameter="backup") from None


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
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        pool_size=8,
        max_overflow=32,
        pool_timeout=_BUSY_SECONDS,
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


def is_foreign(folder: Path) -> bool:
    """Whether a folder is there that holds other things, and no store. Raises OSError where it cannot be read."""
    if not folder.is_dir():
        return False
    names = {entry.name for entry in os.scandir(folder)}
    return NAME not in names and bool(names - {LOCK})


def _make_private(folder: Path) -> None:
    try:
        if is_foreign(folder):
            raise InputError(
                f"The folder `store` is not empty, and holds no {NAME}: name another, or put a backup there under that "
                "name.",
                parameter="store",
            )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise _unusable(error) from None


def _make_file(path: Path) -> None:
    """Empty where it is missing, and its owner's alone, before anything is in it; SQLite gives -wal the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise _unusable(error) from None


def _reason(error: Exception) -> str:
    """In words without the path."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _unusable(error: OSError) -> InputError:
    return InputError(f"The folder `store` cannot be used ({_reason(error)}).", parameter="store")
