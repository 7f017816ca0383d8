"""A server that speaks MONAI Label's protocol on a socket, and MONAI Label's own client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
from monai_client import client_module
from over_a_port import serving

from medsam.inference.predictor import Predictor
from medsam.server.app import create_app
from medsam.server.settings import MonaiLabel, ServerSettings

# the client leaves the files and sockets that it opens to the collector of garbage
LEAKS = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in LEAKS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def monai(tmp_path_factory) -> ModuleType:
    """`client.py` of the wheel."""
    return client_module(tmp_path_factory.mktemp("monailabel"))


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_predictor: Predictor) -> Iterator[Callable[..., str]]:
    """`start(**settings)`: the address of a server that runs until the end of a file."""
    with ExitStack() as stack:

        def begin(
            viewers: MonaiLabel | None = None,
            folder: Path | None = None,
            predictor: Predictor = tiny_predictor,
            **settings: object,
        ) -> str:
            store = (folder or tmp_path_factory.mktemp("served")) / "store"
            # one process that reads scans: each takes a second or two to start
            settings = {"loaders": 1, **settings}
            made = ServerSettings(store, monailabel=viewers or MonaiLabel(), **settings)  # type: ignore[arg-type]
            return stack.enter_context(serving(create_app(made, predictor)))

        yield begin


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """The folder of `url`, in which its store is."""
    return tmp_path_factory.mktemp("house")


@pytest.fixture(scope="module")
def url(start, house) -> str:
    """A server without users."""
    return start(folder=house)


@pytest.fixture
def client(url, monai, tmp_path):
    """MONAI Label's client of it."""
    return monai.MONAILabelClient(url, tmpdir=str(tmp_path), client_id="tests")
