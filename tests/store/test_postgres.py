"""What is PostgreSQL's own, and what several sites share. What all stores do is in the other files, for both kinds."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from projects import mask, people, tasks
from sqlalchemy.exc import DatabaseError
from stores import document, drawn, only_postgres, square, upload

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.chances import CompactChances
from medsam.cli.main import main
from medsam.errors import InputError
from medsam.server.settings import ServerSettings
from medsam.server.watch import check as checks
from medsam.store.database import StoreError
from medsam.store.project_tables import PROJECT_APPEND_ONLY
from medsam.store.readers import Role
from medsam.store.records import NewCase
from medsam.store.store import Store
from medsam.store.tables import APPEND_ONLY, Table

DAY = 86400.0


def told(call, kind=InputError):
    """What is said, and of what."""
    with pytest.raises(kind) as refused:
        call()
    return f"{refused.value.parameter}: {refused.value}"


@pytest.fixture
def sites(tmp_path, database):
    """Stores of two folders on one database."""
    with Store.open(tmp_path / "a", url=database) as one, Store.open(tmp_path / "b", url=database) as other:
        yield one, other


# -- tables -----------------------------------------------------------------------------------------------------------


@only_postgres
def test_tables_and_migrations_agree(store):
    with store._database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


@only_postgres
def test_what_was_confirmed_cannot_be_changed(store, reader, reading):
    (task, _, _) = tasks(store)
    anna, _, _ = people(store)
    store.next_task(anna, 60)
    (made,) = store.submit_task(task.id, anna, [mask(task.scan, 1)])
    store.add_object(reading.id, reader, "liver", "#aa0000")
    store.append_step(reading.id, reader, "prompt", masks=[drawn(1, square(2, 4))])
    store.audit(reader, "open")
    store.round_event(store.begin_round({}).number, "ended", {})
    store.put_model("started", "tiny", None)
    store.add_verdict(made, reader, "good")
    store.add_annotations([mask(task.scan, 2, status="proposed", likely=CompactChances.of(np.zeros((8, 8))))])
    columns = {table: Table.metadata.tables[table].columns.keys() for table in (*APPEND_ONLY, *PROJECT_APPEND_ONLY)}
    columns |= {"cases": ["id", "public_id", "source", "owner_id", "added_at", "site"]}
    columns |= {"tasks": ["id", "public_id", "scan_id", "kind", "stage", "made_at", "after_id"]}
    for table, names in columns.items():
        for statement in (
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
            *(f'UPDATE {table} SET "{name}" = "{name}"' for name in names),
        ):
            with pytest.raises(DatabaseError, match="append-only"), store._database.write() as connection:
                connection.exec_driver_sql(statement)
    assert store.check() == []


@only_postgres
def test_what_is_read_in_one_block_is_of_one_moment(store, reader):
    count = "SELECT count(*) FROM audit"
    with store._database.read() as connection:
        assert connection.exec_driver_sql(count).scalar() == 0
        store.audit(reader, "open")
        assert connection.exec_driver_sql(count).scalar() == 0
        with pytest.raises(DatabaseError, match="read-only"):
            connection.exec_driver_sql("DELETE FROM logins")
    assert len(store.audit_lines()) == 1


@only_postgres
def test_a_database_that_is_away_says_so_and_is_used_again_once_it_is_back(store, reader, postgres):
    with store._database.read() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar()
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert "cannot be used now" in told(lambda: store.audit(reader, "open"), StoreError)
    assert not store.writable()
    assert len(store.check()) == 1
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    store.audit(reader, "open")
    assert (len(store.audit_lines()), store.writable(), store.check()) == (1, True, [])


@only_postgres
def test_one_that_is_written_by_another_for_long_is_busy(store, reader, monkeypatch):
    monkeypatch.setattr("medsam.store.postgres._SETTINGS", "SET lock_timeout = 50")
    with Store.open(store.folder, serving=False) as other, store._database.write():
        assert not other.writable()
        assert "lock timeout" in told(lambda: other.audit(reader, "open"), StoreError)
        # who reads waits for nobody
        assert other.audit_lines() == []
    store.audit(reader, "open")


# -- opening ----------------------------------------------------------------------------------------------------------


def test_the_folder_knows_where_its_tables_are_and_no_password(tmp_path, database):
    secret = database.replace("tests@", "tests:a%20secret@")
    with Store.open(tmp_path / "store", url=secret) as store:
        store.add_user("Anna", Role.READER, kind="proxy")
    (kept,) = [path for path in (tmp_path / "store").iterdir() if path.suffix == ".json"]
    assert "secret" not in kept.read_text()
    assert set(json.loads(kept.read_text())) == {"url", "site"}
    with Store.open(tmp_path / "store") as again:
        assert again.site == store.site
        assert again.user_named("Anna") is not None
        assert told(lambda: Store.open(tmp_path / "store")).startswith("store: Another medsam server")
        assert "pg_dump" in told(lambda: again.backup(tmp_path / "copy.db"))


def test_what_cannot_be_used_is_refused_in_a_sentence_without_the_password(tmp_path, database, postgres, monkeypatch):
    def opened(url, folder="new"):
        return told(lambda: Store.open(tmp_path / folder, url=url))

    for url in ("mysql://me:secret@host/name", "secret", "postgresql://me:secret@host:port/name"):
        assert opened(url) == "database: A `database` is named by a URL: postgresql://USER@HOST:PORT/NAME."
    for url in ("postgresql://me:secret@127.0.0.1:1/name", database.replace("tests@", "me:secret@")):
        said = opened(url)
        assert said.startswith("database: The `database` cannot be used (")
        assert "secret" not in said
    monkeypatch.setenv("PGPASSWORD", "tests")
    assert "tests" not in opened(database.replace("/test_", "/none_"))
    postgres.run("CREATE DATABASE theirs")
    postgres.run("CREATE TABLE orders (id int)", "theirs")
    assert "tables that medsam did not make" in opened(postgres.url("theirs"))
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    assert "encoding UTF8" in opened(postgres.url("latin"))
    Store.open(tmp_path / "file").close()
    assert "a database of its own" in opened(database, "file")
    assert [path.name for path in tmp_path.iterdir() if path.name == "new" and list(path.glob("*.json"))] == []


def test_two_sites_that_begin_at_once_make_the_tables_once(tmp_path, postgres):
    postgres.run("CREATE DATABASE fresh")
    opened, failed = [], []

    def begin(name):
        try:
            opened.append(Store.open(tmp_path / name, url=postgres.url("fresh")))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=begin, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in opened:
        store.close()
    assert failed == []
    assert len(opened) == 2


def test_nobody_changes_tables_while_another_site_runs_and_then_the_older_one_is_refused(sites, later, monkeypatch):
    one, other = sites
    other.close()
    later()
    assert "Other medsam servers run" in told(lambda: Store.open(other.folder))
    assert one.schema() == "0003"
    one.close()
    with Store.open(other.folder) as store:
        assert store.schema() == "0004"
    monkeypatch.undo()
    assert "newer medsam (its tables are of revision 0004)" in told(lambda: Store.open(one.folder))


# -- several sites ----------------------------------------------------------------------------------------------------


def test_sites_share_people_tasks_and_masks(sites):
    one, other = sites
    first, *_ = tasks(one)
    anna, ben, rita = people(one)
    assert [user.name for user in other.users()] == ["Anna", "Ben", "Rita"]
    assert one.next_task(anna, 60).id == first.id
    assert other.next_task(ben, 60).id != first.id
    assert other.next_task(anna, 60).id == first.id, "wherever she goes on"
    other.submit_task(first.id, anna, [mask(first.scan, 1)])
    assert [found.by for found in one.standing()] == [anna.id]
    one.review_task(first.id, rita, "approved")
    assert {event.kind for event in other.task_events(first.id)} == {"made", "taken", "submitted", "approved"}


def test_cases_and_sessions_stay_at_their_site(sites):
    one, other = sites
    rita = one.add_user("Rita", Role.REVIEWER, kind="proxy").reader
    here = one.put_case(NewCase("data:/scans/a.nii.gz", "data", "a"))
    there = other.put_case(NewCase("data:/scans/a.nii.gz", "data", "another a"))
    assert here.key != there.key
    assert [store.cases(rita) for store in sites] == [[here], [there]]
    assert (one.case(rita, there.key), other.case(rita, here.key)) == (None, None)
    assert (one.case_sources(), other.case_sources("data:")) == ([here], [there])
    reading = one.open_reading(here.id, rita, document())
    assert (other.reading(rita, reading.key), one.reading(rita, reading.key)) == (None, reading)
    assert (other.readings(rita), other.reading_lines(rita, everyones=True, most=9)) == ([], [])


def test_files_of_another_site_are_not_ones_own_to_remove(sites):
    one, other = sites
    reader = one.local_reader()
    case = one.put_case(upload(owner=reader.id))
    removed = []
    assert other.retire_uploads(-DAY, removed.append) == 0
    one.remove_case(case.id, reader)
    assert other.files_left() == []
    assert other.retire_uploads(-DAY, removed.append) == 0
    assert removed == []
    assert [found.id for found in one.files_left()] == [case.id]


def test_a_project_has_a_folder_at_each_site(tmp_path, database):
    with AnnotationProject.create(tmp_path / "a", "livers", ["liver"], Settings(), url=database) as one:
        with AnnotationProject.open(tmp_path / "b", database) as other:
            assert other.asked == one.asked
            assert other.model()[0] == "litemedsam"
            one.store.put_model("promoted", "rounds/1/model.safetensors", "ab", number=one.store.begin_round({}).number)
            assert told(other.model).startswith(
                "project: The model rounds/1/model.safetensors was made at another site"
            )
        assert "holds a project already" in told(
            lambda: AnnotationProject.create(tmp_path / "c", "livers", ["liver"], Settings(), url=database)
        )
        assert not (tmp_path / "c").exists()
    with AnnotationProject.open(tmp_path / "b") as again:
        assert again.asked.name == "livers"


def test_init_at_another_site_makes_it_and_is_done(tmp_path, database, capsys):
    with AnnotationProject.create(tmp_path / "a", "livers", ["liver", "spleen"], Settings(), url=database) as one:
        words = ["annotate", "init", str(tmp_path / "b"), "--database", database, "--data", str(tmp_path / "none")]
        assert main([*words, "--structures", "spleen,liver"]) == 2
        assert "holds the project 'livers' already, of liver, spleen" in capsys.readouterr().err
        assert not (tmp_path / "b").exists(), "nothing is made"
        assert main([*words, "--structures", "liver, spleen"]) == 0
        assert "a site of the project 'livers', with its 0 scans" in capsys.readouterr().out
        with AnnotationProject.open(tmp_path / "b") as other:
            assert (other.asked, other.store.site != one.store.site) == (one.asked, True)
        assert main([*words, "--structures", "liver, spleen"]) == 2


def test_what_would_be_served_is_said_before_anything_is_made(tmp_path, postgres, database):
    def said(url):
        return checks._tried("store", checks._store, ServerSettings(tmp_path / "new", database=url)).text

    postgres.run("CREATE DATABASE untouched")
    assert said(postgres.url("untouched")).endswith("will be made, with its tables in PostgreSQL")
    assert said(database).endswith("with tables of revision 0003 of other sites")
    assert "cannot be used" in said(postgres.url("nowhere"))
    assert not (tmp_path / "new").exists()
    tables = postgres.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "untouched")
    assert tables == [(0,)]
