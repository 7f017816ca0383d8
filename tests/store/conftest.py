from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from postgres import Postgres, running
from stores import NEXT, document, upload

from medsam.store import database as databases
from medsam.store import migrations, people
from medsam.store.readers import Reader
from medsam.store.records import StoredCase, StoredReading
from medsam.store.store import Store
from medsam.store.tables import Table

_SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store in which nothing is: making the tables takes longer than most tests."""
    folder = tmp_path_factory.mktemp("empty")
    Store.open(folder).close()
    return folder / "medsam.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with tables and nothing in them."""
    postgres.run("CREATE DATABASE empty")
    Store.open(tmp_path_factory.mktemp("empty"), url=postgres.url("empty")).close()
    return "empty"


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of database: what holds for one holds for the other."""
    return request.param


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[str]:
    """URL of a database of PostgreSQL with the tables of a store, empty."""
    name = f"test_{secrets.token_hex(8)}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield postgres.url(name)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def shared(postgres: Postgres, template: str) -> str:
    """Name of a database that is used again and again: to make one takes longer than to empty it."""
    postgres.run(f"CREATE DATABASE shared TEMPLATE {template} STRATEGY FILE_COPY")
    return "shared"


@pytest.fixture
def emptied(postgres: Postgres, shared: str) -> Iterator[str]:
    """URL of a database of PostgreSQL with the tables of a store, empty, that no test changes otherwise."""
    yield postgres.url(shared)
    rows = [f"DELETE FROM {table.name}" for table in Table.metadata.sorted_tables]
    numbers = [f"ALTER SEQUENCE {name} RESTART" for (name,) in postgres.run(_SEQUENCES, shared)]
    # past all triggers
    postgres.run("; ".join(["SET session_replication_role = replica", *rows, *numbers]), shared)


@pytest.fixture
def store(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    url = request.getfixturevalue("emptied") if kind == "postgres" else None
    if kind == "sqlite":
        (tmp_path / "store").mkdir()
        shutil.copy(request.getfixturevalue("empty"), tmp_path / "store")
    with Store.open(tmp_path / "store", url=url) as opened:
        yield opened


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this medsam one of a further revision, whose migration is a text."""

    def make(migration: str = NEXT) -> None:
        copy = tmp_path / "migrations"
        shutil.copytree(Path(migrations.__path__[0]), copy)
        (copy / "versions" / "0004_next.py").write_text(migration)
        monkeypatch.setattr(databases, "_MIGRATIONS", copy)

    return make


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords that cost nothing to try; how they are kept is otherwise the same."""
    monkeypatch.setattr(people, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    people._nobodys.cache_clear()


@pytest.fixture
def reader(store: Store) -> Reader:
    return store.local_reader()


@pytest.fixture
def case(store: Store, reader: Reader) -> StoredCase:
    return store.put_case(upload(owner=reader.id))


@pytest.fixture
def reading(store: Store, reader: Reader, case: StoredCase) -> StoredReading:
    return store.open_reading(case.id, reader, document())
