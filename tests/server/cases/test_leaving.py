"""Clients that leave while a scan is read for them. Processes import this file: what is heavy is imported in tests."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import nibabel as nib
import numpy as np
import pytest

API = "/api/v1"


def endless(*_: Any) -> None:
    time.sleep(600)


@pytest.fixture(scope="module")
def server(serve_all, tmp_path_factory):
    """A server with one loader and a case."""
    data = tmp_path_factory.mktemp("data")
    nib.save(nib.Nifti1Image(np.zeros((6, 8, 4), np.int16), np.eye(4)), data / "a.nii")
    client = serve_all(data=(data,), loaders=1, poll_seconds=0.05)
    while not (cases := client.get(f"{API}/cases").json()):
        time.sleep(0.02)
    return client, cases[0]["id"]


@pytest.fixture
def never_read(monkeypatch):
    """Scans take forever, and looks at who is there no time."""
    monkeypatch.setattr("medsam.server.cases.scans.read_scan", endless)
    monkeypatch.setattr("medsam.server.cases.thumbnails.read_middle", endless)
    monkeypatch.setattr("medsam.server.cases.scans._GRACE", 0.02)
    monkeypatch.setattr("medsam.server.connected._THERE", 0.05)


async def leave(app, method: str, path: str, body: bytes) -> None:
    """Ask, wait until a loader is at work, and be gone; returns when the route has ended."""
    gone, messages = asyncio.Event(), [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await gone.wait()
            return {"type": "http.disconnect"}
        return messages.pop()

    async def send(message: dict[str, Any]) -> None: ...

    head = [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")]
    head += [(b"content-length", str(len(body)).encode())] if body else []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": method}
    scope |= {"path": f"{API}{path}", "raw_path": f"{API}{path}".encode(), "query_string": b"", "root_path": ""}
    scope |= {"headers": head, "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000), "state": {}}
    asking = asyncio.create_task(app(scope, receive, send))
    pool = app.state.services.cases.pool
    while not any(child.at_work for child in pool._all):
        await asyncio.sleep(0.01)
    gone.set()
    await asyncio.wait_for(asking, 10)


def listed(client, case: str) -> None:
    """Once the scan is not read any more."""
    until = time.monotonic() + 10
    while client.get(f"{API}/cases/{case}").json()["state"] == "loading":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert not any(child.at_work for child in client.app.state.services.cases.pool._all)


def test_what_nobody_waits_for_any_more_is_ended(server, never_read):
    client, case = server
    for method, path, body in (
        ("GET", f"/cases/{case}/geometry", b""),
        ("GET", f"/cases/{case}/volume", b""),
        ("GET", f"/cases/{case}/slices/k/0", b""),
        ("GET", f"/cases/{case}/thumbnail", b""),
        ("POST", "/sessions", json.dumps({"case": case}).encode()),
    ):
        client.portal.call(leave, client.app, method, path, body)
        listed(client, case)


def test_a_scan_that_nobody_asks_for_again_is_not_read_on(server, never_read, monkeypatch):
    client, case = server
    rooms = client.app.state.services.cases
    monkeypatch.setattr("medsam.server.cases.rooms._ASKED", 0.5)
    for _ in range(12):
        assert client.post(f"{API}/cases/{case}/open").status_code == 202
        time.sleep(0.1)
    # however often it was asked for
    assert len(rooms._opening) == 1
    listed(client, case)
    assert not rooms._opening
    assert not any(child.at_work for child in rooms.pool._all)


def test_others_are_served_after_all_that(server):
    client, case = server
    assert client.get(f"{API}/cases/{case}/geometry").json()["shape"] == [4, 8, 6]
