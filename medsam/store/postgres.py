"""Tables in PostgreSQL, which stores of several folders, on several machines, may share.

What writes takes one lock of the whole database first, so transactions that write come one after the other, as in
SQLite; what only reads sees one snapshot. Users, the audit and a project are everybody's. Cases and sessions are those
of one folder, its site: their files lie there, and the server that runs on it keeps sessions in memory.

    database.json    where the tables are, without a password, and the name of this site
    serving.lock     held by the server that runs on this folder

A server holds a lock of the database too, shared with other servers: nobody changes the tables while they run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from medsam.errors import InputError, printable
from medsam.files import write_text
from medsam.store.database import (
    BUSY_SECONDS,
    Database,
    StoreError,
    check_known,
    make_private,
    newest_revision,
    revision_of,
    unusable,
    upgrade,
)
from medsam.store.part import new_key

WHERE = "database.json"
# a comment on the table of the revision says of a database that it is one of these
_OURS = "medsam store"
# keys of the locks: who writes now, and which servers run
_WRITES, _SERVES = 0x4D53414D, 0x4D53414E
_DRIVER = "postgresql+psycopg"
_CONNECTING = {"connect_timeout": "10", "application_name": "medsam", "client_encoding": "utf8"}
# jit: compiling a question takes longer than any of ours; keepalives: whom the network lost gives its lock back
_SETTINGS = f"""
    SET lock_timeout = {int(BUSY_SECONDS * 1000)};
    SET idle_in_transaction_session_timeout = 120000;
    SET jit = off;
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local');
"""


class PostgresDatabase(Database):
    """Tables by URL, open. url: `postgresql://USER@HOST/NAME`; None: the one that the folder knows.

    A password may be in the URL, and is kept nowhere; else libpq's own places are asked (PGPASSFILE, PGPASSWORD).
    Raises InputError for a URL that is none, a server that cannot be reached, a database of another program or of a
    newer medsam, and where a server runs on the folder already.
    """

    _failures = (DatabaseError, OperationalError, InternalError, NotSupportedError)
    _refusals = (DataError,)

    def __init__(self, folder: Path, serving: bool, url: str | None) -> None:
        super().__init__(folder)
        known = _known(folder)
        self._url = _url_of(known["url"] if url is None else url)
        self.site = known.get("site") or new_key()
        self._serving: Connection | None = None
        make_private(folder)
        if serving:
            self._serve_alone()
        try:
            self.engine = _engine(self._url)
        except BaseException:
            self._lock.release()
            raise
        self._reads = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        # a snapshot would be older than the lock that is waited for; behind it nobody else writes
        self._writes = self.engine.execution_options(
            isolation_level="READ COMMITTED", postgresql_readonly=False, medsam_writes=True
        )
        try:
            self._bring_up_to_date()
            if serving:
                self._serve_with_others()
            self._remember(known)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._serving is not None:
            self._serving.close()
            self._serving = None
        super().close()

    def backup(self, target: Path) -> None:
        raise InputError(
            "The tables of this store are in PostgreSQL: copy them with `pg_dump`, which takes them as they are at one "
            "moment.",
            parameter="backup",
        )

    def check(self) -> list[str]:
        """That it answers, and that all guards of confirmed rows are in force; PostgreSQL checks its pages itself."""
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled NOT IN ('O', 'A') ORDER BY 1"
        try:
            with self.read() as connection:
                return [f"the trigger {row[0]} is not in force" for row in connection.exec_driver_sql(query)]
        except StoreError as error:
            return [str(error)]

    @property
    def size(self) -> int:
        with self.read() as connection:
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def _reader(self) -> Connection:
        return self._reads.connect()

    def _writer(self) -> Connection:
        return self._writes.connect()

    def _said(self, error: DatabaseError) -> str:
        return _said(error, self._url)

    def _bring_up_to_date(self) -> None:
        try:
            with self._reader() as connection, connection.begin():
                if _current(connection) == newest_revision():
                    return
            with self._writer() as connection, connection.begin():
                current = _current(connection)
                if current == newest_revision():
                    return
                alone = "SELECT pg_try_advisory_xact_lock(%(key)s)"
                if not connection.exec_driver_sql(alone, {"key": _SERVES}).scalar():
                    raise InputError(
                        "Other medsam servers run on this `database`: end them, so that its tables can be brought up "
                        "to date.",
                        parameter="database",
                    )
                upgrade(connection)
                connection.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS '{_OURS}'")
        except (*self._failures, ProgrammingError) as error:
            raise InputError(
                f"The `database` cannot be used ({_said(error, self._url)}).", parameter="database"
            ) from None

    def _serve_with_others(self) -> None:
        """Hold, as all servers do, what keeps others from changing the tables meanwhile."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        self._serving = connection
        connection.exec_driver_sql("SELECT pg_advisory_lock_shared(%(key)s)", {"key": _SERVES})

    def _remember(self, known: dict[str, str]) -> None:
        """In the folder, where the tables are and who it is, but no password."""
        query = {name: value for name, value in self._url.query.items() if name != "password"}
        shown = self._url.set(drivername="postgresql", query=query)
        plain = URL.create(shown.drivername, shown.username, None, shown.host, shown.port, shown.database, shown.query)
        now = {"url": plain.render_as_string(), "site": self.site}
        if now == known:
            return
        try:
            write_text(self.folder / WHERE, json.dumps(now, indent=2) + "\n")
            (self.folder / WHERE).chmod(0o600)
        except OSError as error:
            raise unusable(error) from None


def look(url: str) -> str | None:
    """The revision of a database's tables, of which nothing is changed; None where there are none yet.

    Raises InputError as `PostgresDatabase`.
    """
    found = _url_of(url)
    engine = _engine(found)
    try:
        with engine.connect() as connection:
            return _current(connection)
    except (*PostgresDatabase._failures, ProgrammingError) as error:
        raise InputError(f"The `database` cannot be used ({_said(error, found)}).", parameter="database") from None
    finally:
        engine.dispose()


def _current(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none yet. Raises InputError for what others made."""
    if connection.exec_driver_sql("SHOW server_encoding").scalar() != "UTF8":
        raise InputError("The `database` has to be of the encoding UTF8.", parameter="database")
    ours = connection.exec_driver_sql("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')").scalar()
    tables = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace = "
    space = connection.exec_driver_sql("SELECT current_schema()").scalar()
    if space is None:
        raise InputError("The `database` has no schema in which tables can be made.", parameter="database")
    if ours != _OURS:
        if connection.exec_driver_sql(f"{tables} to_regnamespace(quote_ident(%s))", (space,)).scalar():
            raise InputError(
                "The `database` holds tables that medsam did not make: name one of its own.", parameter="database"
            )
        return None
    current = revision_of(connection)
    check_known(current, "database")
    return current


def _known(folder: Path) -> dict[str, str]:
    """What the folder says of its database; empty where it is new."""
    try:
        found = json.loads((folder / WHERE).read_text(encoding="utf-8"))
        return {name: str(found[name]) for name in ("url", "site")}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unusable(error) from None
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{WHERE} in this `store` is damaged: put a copy in its place.", parameter="store") from None


def _url_of(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in ("postgresql", "postgres", _DRIVER):
        # the text may hold a password
        raise InputError("A `database` is named by a URL: postgresql://USER@HOST:PORT/NAME.", parameter="database")
    return url.set(drivername=_DRIVER)


def _engine(url: URL) -> Engine:
    defaults = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    engine = create_engine(
        url,
        connect_args=defaults,
        pool_size=8,
        max_overflow=8,
        pool_timeout=BUSY_SECONDS,
        # a server that was started again, or a line that was cut, is one failed call less
        pool_pre_ping=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        connection.execute(_SETTINGS)
        connection.commit()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("medsam_writes"):
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(key)s)", {"key": _WRITES})

    return engine


def _said(error: DBAPIError, url: URL) -> str:
    """In a line, and without the password."""
    diagnosis = getattr(error.orig, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(error.orig).partition("\n")[0] or "no answer"
    for secret in (url.password, url.query.get("password"), os.environ.get("PGPASSWORD")):
        if secret:
            text = text.replace(str(secret), "***")
    return printable(text[:160])
