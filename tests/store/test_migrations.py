from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stores import NEXT, document, drawn, square

from medsam.errors import InputError
from medsam.store.project_tables import PROJECT_APPEND_ONLY
from medsam.store.readers import Role
from medsam.store.sqlite import APPLICATION_ID
from medsam.store.store import Store
from medsam.store.tables import APPEND_ONLY

FIRST = Path(__file__).with_name("revision_0001.sql")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The folder of a store that the first release wrote."""
    folder = tmp_path / "store"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "medsam.db")) as connection:
        connection.executescript(FIRST.read_text(encoding="utf-8"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    return folder


def look(store: Store) -> None:
    """That all of the first release's store is there."""
    anna, otto = store.user_named("Anna"), store.user_named("Otto")
    assert (anna.role, anna.kind, otto.role, otto.kind) == (Role.READER, "person", Role.REVIEWER, "proxy")
    assert [one.name for one in store.tokens(anna.id)] == ["a script"]
    (case,) = store.cases(anna.reader)
    assert (case.name, case.modality, case.details) == ("scan.nii.gz", "CT", {"shape": [4, 8, 8]})
    assert store.shared_with(case.id) == [otto.id]
    assert [event.kind for event in store.case_history(case.id)] == ["added", "shared", "opened"]
    (reading,) = store.readings(anna.reader)
    assert reading.document == document()
    state = store.reading_state(reading.id)
    assert (state.revision, state.done, [one.kind for one in state.steps]) == (8, 1, ["prompt", "propagate"])
    assert [(one.name, one.locked) for one in state.objects] == [("liver", True)]
    assert [(one.slice, one.mask.area) for one in state.masks] == [(1, 25), (2, 0), (3, 0)]
    assert [one.mask for one in state.steps[0].masks] == [square(1, 6)]
    assert [one.mask for one in state.steps[1].masks] == [square(2, 6), square(2, 5)]
    assert [one.what for one in store.audit_lines()] == ["export"]
    assert store.check() == []


def test_a_store_of_the_first_release_opens_and_goes_on(first):
    with Store.open(first) as store:
        look(store)
        reader = store.user_named("Anna").reader
        reading = store.readings(reader)[0].id
        assert store.append_step(reading, reader, "prompt", masks=[drawn(1, square(0, 2))]).revision == 9
        assert store.verify("Anna", "correct horse") == reader


def test_a_migration_leaves_a_copy_from_before_it(first, later, tmp_path):
    later(NEXT)
    with Store.open(first) as store:
        assert store.schema() == "0004"
        look(store)
    assert {path.name for path in first.iterdir()} >= {"medsam.db", "before-0004.db"}
    (tmp_path / "old").mkdir()
    (first / "before-0004.db").rename(tmp_path / "old" / "medsam.db")
    with Store.open(first) as store:
        look(store)
    assert not (first / "before-0004.db").exists(), "there was nothing to migrate"
    with closing(sqlite3.connect(tmp_path / "old" / "medsam.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert "comment" not in [row[1] for row in connection.execute("PRAGMA table_info(cases)")]


def test_a_migration_that_fails_leaves_the_store_as_it_was(first, later, monkeypatch):
    later(NEXT + "    raise OSError('no more')\n")
    with pytest.raises(OSError, match="no more"):
        Store.open(first)
    monkeypatch.undo()
    with Store.open(first) as store:
        assert store.schema() == "0003"
        look(store)
    with closing(sqlite3.connect(first / "medsam.db")) as connection:
        assert "comment" not in [row[1] for row in connection.execute("PRAGMA table_info(cases)")]


def test_nobody_migrates_what_a_server_runs_on(first, later):
    with Store.open(first):
        later(NEXT)
        with pytest.raises(InputError, match="Another medsam server"):
            Store.open(first, serving=False)
    with Store.open(first, serving=False) as store:
        assert store.schema() == "0004"
        # and it has given the lock back
        Store.open(first).close()


def test_an_older_medsam_refuses_it_afterwards(first, later, monkeypatch):
    later(NEXT)
    Store.open(first).close()
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"newer medsam \(its tables are of revision 0004\)"):
        Store.open(first)


def test_a_new_store_is_made_by_the_same_migrations(first, empty):
    """Whoever begins today has what the first release's store has become, triggers and all."""

    def schema(path: Path) -> set[str]:
        with closing(sqlite3.connect(path)) as connection:
            return {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}

    Store.open(first).close()
    new = schema(empty)
    assert schema(first / "medsam.db") == new
    for table in (*APPEND_ONLY, *PROJECT_APPEND_ONLY):
        assert sum(f" ON {table} BEGIN SELECT RAISE(ABORT" in sql for sql in new) == 2
