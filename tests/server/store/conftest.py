from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import document, upload

from medsam.server.readers import Reader
from medsam.server.store.records import StoredCase, StoredReading
from medsam.server.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def reader(store: Store) -> Reader:
    return store.local_reader()


@pytest.fixture
def case(store: Store, reader: Reader) -> StoredCase:
    return store.put_case(upload(owner=reader.id))


@pytest.fixture
def reading(store: Store, reader: Reader, case: StoredCase) -> StoredReading:
    return store.open_reading(case.id, reader, document())
