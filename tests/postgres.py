"""PostgreSQL of Debian for tests: on a Unix socket, in a folder of its own, ended by its own process number."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALL = "apt-get install postgresql"
READY_S = 60.0
USER = "tests"
# quick, and nothing of it has to outlast a power cut
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "200",
}


@dataclass(frozen=True)
class Postgres:
    """A running server. folder: of its socket."""

    folder: Path

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def run(self, statement: str, database: str = "postgres") -> list[tuple]:
        """What it answers, as its owner."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []


def programs() -> Path:
    """The folder of its programs; skips the test where they are not installed."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb")
    there = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *([] if found is None else [Path(found).resolve()])]
    if not there:
        pytest.skip(f"no PostgreSQL: {INSTALL}")
    return max(there, key=lambda one: (len(one.parent.parent.name), one.parent.parent.name)).parent


@contextmanager
def running(settings: dict[str, str] | None = None) -> Iterator[Postgres]:
    """A server without anything in it. settings: of postgresql.conf, beside those of tests."""
    binaries = programs()
    # a path of a socket is short
    folder = Path(tempfile.mkdtemp(prefix="medsam-pg-"))
    owner = _owner()
    try:
        if owner:
            shutil.chown(folder, owner["user"])
        given = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **owner}
        made = subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
            check=False,
            **given,
        )
        if made.returncode:
            pytest.fail(f"initdb ended: {made.stdout[-2000:]}")
        chosen = {**_SETTINGS, "unix_socket_directories": str(folder), **(settings or {})}
        options = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            command = [binaries / "postgres", "-D", folder / "data", *options]
            process = subprocess.Popen(command, **{**given, "stdout": log, "stderr": log})
            try:
                _wait(Postgres(folder), process)
                yield Postgres(folder)
            finally:
                # at once: what it keeps is thrown away; it ends its own processes
                process.send_signal(signal.SIGQUIT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> dict:
    """Who it runs as: it refuses the system's administrator."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_name, "group": found.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL needs a user of its own, and there is none")


def _wait(server: Postgres, process: subprocess.Popen) -> None:
    import psycopg

    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"PostgreSQL ended: {(server.folder / 'log').read_text(errors='replace')[-2000:]}")
        try:
            server.run("SELECT 1")
            return
        except psycopg.OperationalError:
            time.sleep(0.02)
    pytest.fail(f"PostgreSQL did not answer within {READY_S} s")
