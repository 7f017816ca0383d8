from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from stores import document, upload

from medsam.store import people
from medsam.store.readers import Reader
from medsam.store.records import StoredCase, StoredReading
from medsam.store.store import Store


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store in which nothing is: making the tables takes longer than most tests."""
    folder = tmp_path_factory.mktemp("empty")
    Store.open(folder).close()
    return folder / "medsam.db"


@pytest.fixture
def store(tmp_path: Path, empty: Path) -> Iterator[Store]:
    (tmp_path / "store").mkdir()
    shutil.copy(empty, tmp_path / "store")
    with Store.open(tmp_path / "store") as opened:
        yield opened


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
