"""The application: its services and its description."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import fields, replace

import numpy as np
import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from medsam._version import __version__
from medsam.errors import InputError
from medsam.inference.predictor import Predictor
from medsam.inference.signs import NAMES
from medsam.inference.trust import TrustModel
from medsam.server.app import API, create_app
from medsam.server.gate.present import PresentReader, require
from medsam.server.services import PresentServices
from medsam.server.settings import NNInteractive, ServerSettings
from medsam.store.readers import Role


def _room(app: FastAPI) -> None:
    router = APIRouter()

    @router.get("/who")
    async def who(reader: PresentReader, services: PresentServices) -> dict[str, str]:
        return {"name": reader.name, "model": services.predictor.name}

    @router.get("/keys", dependencies=[require(Role.ADMINISTRATOR)])
    async def keys() -> None: ...

    app.include_router(router, prefix=API)


def test_routes_find_reader_and_services(serve, tiny_predictor):
    client = serve(_room, nninteractive=NNInteractive())
    assert client.get(f"{API}/who").json() == {"name": "local", "model": tiny_predictor.name}
    assert client.get(f"{API}/keys").status_code == 200
    services = client.app.state.services
    # a project is served where one is named
    missing = [field.name for field in fields(services) if getattr(services, field.name) is None]
    assert missing == ["annotating"]


def test_the_version_is_told_and_whether_the_model_is_ready(serve):
    client = serve()
    client.app.state.services.pulse.warm.result(timeout=30)
    told = {"version": 1, "medsam": __version__, "ready": True, "project": False}
    assert client.get(f"{API}/version").json() == told
    client.app.state.services.pulse.warm = Future()
    assert client.get(f"{API}/version").json()["ready"] is False


def test_the_interface_is_described(serve):
    described = serve().get(f"{API}/openapi.json").json()
    assert described["info"]["title"] == "medsam"
    assert set(described["components"]["securitySchemes"]) == {"token", "cookie", "csrf"}


def test_what_tells_the_expected_dice_is_of_the_model_that_answers(tmp_path, tiny_predictor, monkeypatch):
    one, digest = np.ones(1), tiny_predictor.images.weights
    monkeypatch.setattr(tiny_predictor.images, "trust", None)
    model = TrustModel(NAMES[:1], one, one, one, one, bias=0.0, weights=digest)
    path = tmp_path / "trust.json"
    for weights in (digest, "others"):
        path.write_text(json.dumps(replace(model, weights=weights).to_dict()))
        app = create_app(ServerSettings(tmp_path / "store", trust=path), tiny_predictor)
        if weights == digest:
            with TestClient(app):
                assert tiny_predictor.images.trust.weights == digest
        else:
            with pytest.raises(InputError, match="made for other weights"), TestClient(app):
                pass


def test_a_predictor_needs_a_worker(tmp_path, tiny_predictor):
    alone = Predictor(tiny_predictor.sam, "cpu", engine="torch")
    with pytest.raises(InputError, match="worker"), TestClient(create_app(ServerSettings(tmp_path), alone)):
        pass
