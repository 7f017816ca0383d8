"""Servers that answer over a real port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from over_a_port import serving
from phantoms import ThresholdSam
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from medsam.inference.predictor import Predictor
from medsam.inference.worker import Worker
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings
from medsam.store.readers import Role
from medsam.store.store import Store


@pytest.fixture
def serve_app() -> Iterator[Callable[[Any], str]]:
    """`serve_app(app)`: its address, until the test's end."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))


class Scripted:
    """A server that answers as a test says, request by request, and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Any]] = {}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        self.app = Starlette(routes=[Route("/api/v1/{path:path}", self._answer, methods=methods)])

    def follow(self, replies: dict[str, list[Any]]) -> None:
        """replies: "METHOD /path" -> the answers in turn, the last one for good: a status, JSON, or a `Response`."""
        greeting = {"GET /version": [{"version": 1, "medsam": "9.9.9"}], "GET /me": [{"name": "local"}]}
        self.replies = {key: list(found) for key, found in {**greeting, **replies}.items()}
        self.asked = []

    def count(self, key: str) -> int:
        """How often it was asked."""
        return sum(one == key for one, _, _ in self.asked)

    async def _answer(self, request: Request) -> Response:
        key = f"{request.method} /{request.path_params['path']}"
        self.asked.append((key, dict(request.headers), await request.body()))
        replies = self.replies.get(key, [404])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Response):
            return reply
        if isinstance(reply, int):
            return JSONResponse({"detail": f"status {reply}"}, reply) if reply != 404 else Response("nothing", 404)
        return JSONResponse(reply)


@pytest.fixture(scope="session")
def _scripted() -> Iterator[tuple[str, Scripted]]:
    server = Scripted()
    with serving(server.app) as url:
        yield url, server


@pytest.fixture
def scripted(_scripted) -> Callable[[dict[str, list[Any]]], tuple[str, Scripted]]:
    """`scripted(replies)`: address and server, see `Scripted.follow`."""

    def start(replies: dict[str, list[Any]]) -> tuple[str, Scripted]:
        _scripted[1].follow(replies)
        return _scripted

    return start


class Live(NamedTuple):
    """A medsam server. data: a folder whose scans it shows. tokens: of readers, by name; `grace` is an administrator.

    predictor: its own, for what has to come out.
    """

    url: str
    data: Path
    tokens: dict[str, str]
    predictor: Predictor


@pytest.fixture(scope="session")
def live(tmp_path_factory) -> Iterator[Live]:
    """A server with a network that answers with what is bright, for all tests of the client. Password: "pw of NAME"."""
    folder = tmp_path_factory.mktemp("server")
    data = folder / "data"
    data.mkdir()
    with Store.open(folder / "store", serving=False) as store:
        tokens = {}
        for name, role in (("grace", Role.ADMINISTRATOR), ("ada", Role.READER), ("ben", Role.READER)):
            user = store.add_user(name, role, f"pw of {name}")
            tokens[name] = store.add_token(user.id, "tests")[1]
    with Worker() as worker:
        predictor = Predictor(ThresholdSam(), "cpu", worker=worker)  # type: ignore[arg-type]
        app = create_app(ServerSettings(store=folder / "store", data=(data,), loaders=1, poll_seconds=0.2), predictor)
        with serving(app) as url:
            yield Live(url, data, tokens, predictor)
