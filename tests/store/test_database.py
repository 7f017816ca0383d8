from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from stores import document, drawn, square, upload

from medsam.errors import InputError
from medsam.store.store import Store
from medsam.store.tables import APPEND_ONLY, Table


def filled(folder: Path) -> Path:
    """The database of a store with a row in every table that is never changed."""
    with Store.open(folder) as store:
        reader = store.local_reader()
        reading = store.open_reading(store.put_case(upload(owner=reader.id)).id, reader, document())
        store.add_object(reading.id, reader, "liver", "#aa0000")
        store.append_step(reading.id, reader, "prompt", masks=[drawn(1, square(2, 4))])
        store.audit(reader, "open")
    return folder / "medsam.db"


def test_tables_and_migrations_agree(tmp_path):
    path = filled(tmp_path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()


@pytest.mark.parametrize("table", [*APPEND_ONLY, "cases"])
def test_what_was_confirmed_cannot_be_changed(tmp_path, table):
    with closing(sqlite3.connect(filled(tmp_path))) as connection:
        connection.execute("PRAGMA recursive_triggers = ON")
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if table == "cases":
            columns = ["id", "public_id", "source", "owner_id", "added_at"]
        before = connection.execute(f"SELECT * FROM {table}").fetchall()
        assert before
        statements = [f"DELETE FROM {table}", f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"]
        for statement in [*statements, *(f"UPDATE {table} SET [{column}] = [{column}]" for column in columns)]:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == before


def test_the_file_is_synced_and_its_owners_alone(tmp_path):
    folder = tmp_path / "of" / "mine"
    with Store.open(folder) as store:
        store.local_reader()
        with store._database.read() as connection:
            asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "recursive_triggers")
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked]
            assert found == ["wal", 2, 1, 30000, 1]
        if sys.platform != "win32":
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
            assert {"medsam.db", "medsam.db-wal", "medsam.db-shm"} <= modes.keys()
            assert set(modes.values()) == {0o600}


def test_a_second_server_is_refused_and_a_command_beside_it_is_not(tmp_path):
    with Store.open(tmp_path) as store:
        code = (
            "import sys; from pathlib import Path; from medsam.store.store import Store\n"
            "from medsam.errors import InputError\n"
            "with Store.open(Path(sys.argv[1]), serving=False) as store: print(len(store.users()))\n"
            "try: Store.open(Path(sys.argv[1]))\n"
            "except InputError as error: print(error.parameter, error)"
        )
        said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
        users, refused = said.stdout.splitlines()
        assert users == "0"
        assert refused.startswith("store Another medsam server is running on this `store`")
        with pytest.raises(InputError, match="Another medsam server"):
            Store.open(tmp_path)
        assert store.writable()
    with Store.open(tmp_path) as store:
        assert store.schema() == "0003"


def test_a_store_of_a_newer_medsam_is_refused_and_left_alone(tmp_path):
    path = filled(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(InputError, match="written by a newer medsam") as refused:
        Store.open(tmp_path)
    assert refused.value.parameter == "store"
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all, just text" * 100, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_database_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "medsam.db").write_bytes(content)
    with pytest.raises(InputError, match="no database, or damaged"):
        Store.open(tmp_path)
    assert (tmp_path / "medsam.db").read_bytes() == content


def test_the_database_of_another_program_is_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "medsam.db")) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    with pytest.raises(InputError, match="not made by medsam serve"):
        Store.open(tmp_path)


def test_a_disk_that_cannot_share_the_log_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("medsam.store.sqlite._SETTINGS", ("journal_mode = DELETE",))
    with pytest.raises(InputError, match="on a disk of this machine"):
        Store.open(tmp_path)


def test_a_folder_that_cannot_be_used_is_refused_without_its_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"`store` cannot be used") as refused:
        Store.open(tmp_path / "file" / "store")
    assert str(tmp_path) not in str(refused.value)
