"""A server with a tiny network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from fastapi import FastAPI
from starlette.testclient import TestClient

from medsam.inference.predictor import Predictor
from medsam.inference.worker import Worker
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings


@pytest.fixture(scope="session")
def tiny_predictor() -> Iterator[Predictor]:
    """Weights drawn at random, torch's engine, a worker that ends with the tests."""
    torch.manual_seed(3)
    with Worker() as worker:
        yield Predictor(build_model(tiny_spec("vit")), "cpu", engine="torch", worker=worker)


Serve = Callable[..., TestClient]


@contextmanager
def _servers(folder: Path, predictor: Predictor) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(prepare: Callable[[FastAPI], None] | None = None, **settings: object) -> TestClient:
            app = create_app(ServerSettings(**{"store": folder / "store", **settings}), predictor)  # type: ignore[arg-type]
            if prepare is not None:
                rooms = list(app.router.routes)
                prepare(app)
                # before those of the rooms, in whose place they may stand
                app.router.routes.sort(key=rooms.__contains__)
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)))

        yield start


@pytest.fixture
def serve(tmp_path: Path, tiny_predictor: Predictor) -> Iterator[Serve]:
    """`serve(**settings)`: a client of a server that runs until the test's end; its store is `tmp_path / "store"`.

    `prepare(app)` may add routes before it starts.
    """
    with _servers(tmp_path, tiny_predictor) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(tmp_path_factory: pytest.TempPathFactory, tiny_predictor: Predictor) -> Iterator[Serve]:
    """The same until the end of a file: for tests that leave the server as it is."""
    with _servers(tmp_path_factory.mktemp("server"), tiny_predictor) as start:
        yield start
