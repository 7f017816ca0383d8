from __future__ import annotations

import shutil
import sqlite3
import stat
import sys
import threading
from contextlib import closing

import anyio
import pytest
from sqlalchemy import event
from stores import drawn, only_sqlite, square

from medsam.errors import InputError
from medsam.store.database import StoreError
from medsam.store.readers import Role
from medsam.store.store import Calls, Store


def test_the_audit_says_who_did_what_the_newest_first(store, reader, case):
    other = store.add_user("other", Role.READER, kind="proxy")
    store.audit(reader, "export", case=case.key, reading="r1", address="127.0.0.1", details={"format": "seg"})
    store.audit(None, "login refused", address="10.0.0.7")
    store.audit(other.reader, "open", case=case.key)
    lines = store.audit_lines()
    assert [(one.user, one.what, one.case) for one in lines] == [
        ("other", "open", case.key),
        (None, "login refused", None),
        ("local", "export", case.key),
    ]
    assert (lines[2].reading, lines[2].address, lines[2].details) == ("r1", "127.0.0.1", {"format": "seg"})
    assert store.audit_lines(limit=1) == lines[:1]
    assert store.audit_lines(before=lines[0].id) == lines[1:]
    assert store.audit_lines(user=other.id) == lines[:1]
    assert store.audit_lines(case=case.key) == [lines[0], lines[2]]


@only_sqlite
def test_a_copy_is_of_one_moment_while_others_write_and_opens_as_a_store(store, reader, reading, tmp_path):
    ended = threading.Event()

    def write():
        while not ended.is_set():
            store.append_step(reading.id, reader, "prompt", masks=[drawn(n, square(0, 5)) for n in range(3)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            store.backup(tmp_path / "copy.db")
    finally:
        ended.set()
        thread.join()
    assert {path.name for path in tmp_path.iterdir()} == {"copy.db", "store"}
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    (tmp_path / "restored").mkdir()
    shutil.copy(tmp_path / "copy.db", tmp_path / "restored" / "medsam.db")
    with Store.open(tmp_path / "restored") as restored:
        assert restored.check() == []
        state, live = restored.reading_state(reading.id), store.reading_state(reading.id)
        assert 0 < len(state.steps) <= len(live.steps)
        assert state.steps == live.steps[: len(state.steps)]
        restored.append_step(reading.id, reader, "prompt")


@only_sqlite
def test_a_copy_never_takes_the_place_of_another_file(store, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="no `backup`") as refused:
        store.backup(tmp_path / "thesis.txt")
    assert refused.value.parameter == "backup"
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="cannot be written") as refused:
        store.backup(tmp_path / "none" / "copy.db")
    assert str(tmp_path) not in str(refused.value)


@only_sqlite
def test_a_copy_never_takes_the_place_of_a_store(store, reader, tmp_path):
    (tmp_path / "linked.db").symlink_to(store.folder / "medsam.db")
    with Store.open(tmp_path / "other") as other:
        other.local_reader()
        for target in (store.folder / "medsam.db", tmp_path / "linked.db", tmp_path / "other" / "medsam.db"):
            before = target.stat().st_ino
            with pytest.raises(InputError, match="no `backup`"):
                store.backup(target)
            assert target.stat().st_ino == before
    store.audit(reader, "open")
    assert len(store.audit_lines()) == 1


@only_sqlite
def test_a_damaged_store_is_seen_and_not_copied(store, reader, reading, tmp_path):
    for _ in range(50):
        store.append_step(reading.id, reader, "prompt", masks=[drawn(n, square(0, 5)) for n in range(5)])
    assert store.check() == []
    store.close()
    path = store.folder / "medsam.db"
    content = bytearray(path.read_bytes())
    # some page of rows, past the root pages
    content[40 * 4096 : 41 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with Store.open(store.folder) as damaged:
        assert damaged.check()
        with pytest.raises(InputError, match="store is damaged"):
            damaged.backup(tmp_path / "copy.db")
    assert {one.name for one in tmp_path.iterdir()} == {"store"}


@only_sqlite
def test_a_full_disk_refuses_in_one_sentence_and_loses_nothing(store, reader, reading):
    store.append_step(reading.id, reader, "prompt", masks=[drawn(1, square(0, 5))])
    before = store.reading_state(reading.id)
    with store._database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def limit(connection, record, proxy):
        connection.execute(f"PRAGMA max_page_count = {pages}").close()

    event.listen(store._database.engine, "checkout", limit)
    with pytest.raises(StoreError, match="disk is full"):
        store.audit(reader, "open", details={"long": "x" * 400_000})
    state = store.reading_state(reading.id)
    assert (state.steps, state.masks) == (before.steps, before.masks)
    event.remove(store._database.engine, "checkout", limit)
    pages = 2**30
    event.listen(store._database.engine, "checkout", limit)
    store.append_step(reading.id, reader, "prompt")
    assert store.check() == []


def test_what_no_database_holds_is_the_callers_mistake(store, reader, reading):
    for call in (
        lambda: store.case(reader, "\ud800"),
        lambda: store.revision(10**30),
        lambda: store.append_step(reading.id, reader, "prompt", slice_index=10**30),
        lambda: store.audit(reader, "\ud800"),
    ):
        with pytest.raises(InputError, match="no Unicode, or a number that is too large"):
            call()
    assert store.changes(reading.id, 10**30).masks == ()
    assert store.revision(reading.id) == 0


@only_sqlite
def test_a_store_that_is_written_by_another_for_long_is_busy(store, reader):
    with store._database.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(store.folder / "medsam.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not store.writable()
        with pytest.raises(StoreError, match="locked"):
            store.audit(reader, "open")
        # who reads waits for nobody
        assert store.audit_lines() == []
        other.execute("ROLLBACK")
    assert store.writable()


def test_calls_leave_the_event_loop_free_and_end_what_began(store, reader, reading):
    calls = Calls(threads=2)
    entered, free = threading.Event(), threading.Event()

    def append():
        entered.set()
        free.wait(10)
        return store.append_step(reading.id, reader, "prompt").revision

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(calls, append)
            while not entered.is_set():
                await anyio.sleep(0.001)
            # the loop turns while the call waits
            assert await calls(store.revision, reading.id) == 0
            group.cancel_scope.cancel()
            free.set()

    anyio.run(main)
    assert store.revision(reading.id) == 1


def test_a_lock_taken_in_one_thread_is_given_back_in_another(tmp_path):
    opened = []
    for work in (lambda: opened.append(Store.open(tmp_path)), lambda: opened[0].close()):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    Store.open(tmp_path).close()


def test_a_session_of_another_store_is_none_here(store):
    for call in (store.revision, store.changes, store.reading_state):
        with pytest.raises(InputError, match="no such session"):
            call(7)
    assert store.masks(7) == []
