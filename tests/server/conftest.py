"""A server with a tiny network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
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


@pytest.fixture
def serve(tmp_path: Path, tiny_predictor: Predictor) -> Iterator[Callable[..., TestClient]]:
    """`serve(**settings)`: a client of a server that runs until the test's end; its store is `tmp_path / "store"`.

    `prepare(app)` may add routes before it starts.
    """
    with ExitStack() as stack:

        def start(prepare: Callable[[FastAPI], None] | None = None, **settings: object) -> TestClient:
            app = create_app(ServerSettings(**{"store": tmp_path / "store", **settings}), tiny_predictor)  # type: ignore[arg-type]
            if prepare is not None:
                rooms = list(app.router.routes)
                prepare(app)
                # before those of the rooms, in whose place they may stand
                app.router.routes.sort(key=rooms.__contains__)
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1:8000"))

        yield start
