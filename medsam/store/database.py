"""What a store's tables are kept in, whatever kind of database it is: snapshots, transactions, migrations, errors.

Who writes waits for a lock of this process first, which is fair; then one transaction after the other is at work, of
all processes. Every write is on the disk when it ends; readers see a snapshot and wait for nobody. The kinds of
database, `sqlite` and `postgres`, keep to this in their own words.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from medsam.errors import InputError, MedSAMError

LOCK = "serving.lock"
# how long a lock, and a free connection, are waited for
BUSY_SECONDS = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(MedSAMError):
    """The disk of the store is full or damaged, its server is away, or it is busy for too long.

    Nothing was written; the same may work later.
    """

    # of HTTP
    status = 503


class Database(ABC):
    """A store's tables, open, and the folder with its other files.

    site: whose the cases and sessions of this folder are, where stores of several folders share the tables; "" where
    they lie in the folder.
    """

    site: str
    engine: Engine
    # what is wrong with the disk or the server, and nothing of what was asked for
    _failures: ClassVar[tuple[type[DatabaseError], ...]]
    # what is wrong with a value
    _refusals: ClassVar[tuple[type[DatabaseError], ...]] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK, mode=0o600, thread_local=False)
        self._writing = threading.Lock()

    def close(self) -> None:
        """Give everything back; what is committed stays."""
        self.engine.dispose()
        self._lock.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read in this block is of one moment. Raises as `write`."""
        with self._told(), self._reader() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, on the disk when the block ends; nothing of it where it raises.

        Raises StoreError where the database does not take it, and InputError for what no database holds.
        """
        with self._told(), self._writing, self._writer() as connection, connection.begin():
            yield connection

    def writable(self) -> bool:
        """Whether a transaction that writes can begin now."""
        try:
            with self._writing, self._writer() as connection:
                connection.begin().rollback()
        except (DatabaseError, PoolTimeout):
            return False
        return True

    @property
    def revision(self) -> str:
        """Of the tables."""
        with self.read() as connection:
            return revision_of(connection) or ""

    @abstractmethod
    def backup(self, target: Path) -> None:
        """Copy it as it is at one moment, while whoever writes goes on. Raises InputError where that cannot be."""

    @abstractmethod
    def check(self) -> list[str]:
        """What the database finds wrong with itself; nothing when it is whole."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes on the disk."""

    @abstractmethod
    def _reader(self) -> Connection:
        """A connection whose transactions see one moment."""

    @abstractmethod
    def _writer(self) -> Connection:
        """A connection whose transactions come one after the other."""

    @abstractmethod
    def _said(self, error: DatabaseError) -> str:
        """What the database says of a failure, in some words."""

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the database in the words of this package. What breaks a rule of the tables is a fault of ours."""
        try:
            yield
        except DatabaseError as error:
            if type(error) in self._failures:
                raise StoreError(f"The store cannot be used now ({self._said(error)}).") from error
            if type(error) in self._refusals:
                raise InputError(NOTHING_TO_STORE) from error
            # rules of the tables, which callers have to keep
            raise
        except PoolTimeout as error:
            raise StoreError("The store cannot be used now (too many ask at once).") from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise InputError(NOTHING_TO_STORE) from error

    def _serve_alone(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                "Another medsam server is running on this `store`: stop it, or give this one a folder of its own.",
                parameter="store",
            ) from None
        except OSError as error:
            raise unusable(error) from None


NOTHING_TO_STORE = "This holds a text that is no Unicode, or a number that is too large."


def revision_of(connection: Connection) -> str | None:
    """Of the tables; None where there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """That the tables of this medsam have."""
    return _script().get_current_head() or ""


def check_known(revision: str | None, parameter: str) -> None:
    """Raises InputError for a revision of a newer medsam. parameter: what names the store."""
    if revision is not None and revision not in {one.revision for one in _script().walk_revisions()}:
        raise InputError(
            f"This `{parameter}` was written by a newer medsam (its tables are of revision {revision[:20]}): update "
            "medsam, or take another one.",
            parameter=parameter,
        )


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, in the transaction of a connection."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _script() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))


def make_private(folder: Path) -> None:
    """The folder, its owner's alone. Raises InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise unusable(error) from None


def reason(error: Exception) -> str:
    """In words without the path."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def unusable(error: OSError) -> InputError:
    return InputError(f"The folder `store` cannot be used ({reason(error)}).", parameter="store")
