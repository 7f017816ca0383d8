"""Bodies of requests, and a server that they are sent to; see `fuzz`.

The server runs in the process, once for all cases: a network of random weights, a scan, a session with an object.
A body stands in a file named after its route, and what was changed is sent. `serve_schema.py` asks by the OpenAPI.
"""

from __future__ import annotations

import atexit
import json
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import MedSAMError
from medsam.masks import RLE

API = "/api/v1"
_DRAWN = np.zeros((24, 32), dtype=bool)
_DRAWN[6:14, 5:20] = True
# name of the file -> (method, route, body). {} stands for the session that is there
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "open": (
        "POST",
        "/sessions",
        {"case": "CASE", "axis": "k", "label": "a", "zoom": "off", "limits": {"values": [0, 9]}},
    ),
    "object": ("POST", "/sessions/{}/objects", {"name": "liver", "colour": "#aa0000"}),
    "change": ("PATCH", "/sessions/{}/objects/1", {"name": "spleen", "visible": True, "locked": False}),
    "session": ("PATCH", "/sessions/{}", {"keep_range": [-100, 300]}),
    "view": ("PUT", "/sessions/{}/view", {"slice": 1, "axis": "k"}),
    "box": ("POST", "/sessions/{}/prompts", {"object": 1, "slice": 1, "box": [6, 4, 22, 20]}),
    "points": ("POST", "/sessions/{}/prompts", {"object": 1, "slice": 1, "points": [[10, 8, 1], [20, 20, 0]]}),
    "strokes": (
        *("POST", "/sessions/{}/prompts"),
        {"object": 1, "slice": 2, "scribbles": [{"points": [[10, 8], [14, 9]], "width_px": 2, "inside": True}]},
    ),
    "lasso": ("POST", "/sessions/{}/prompts", {"object": 1, "slice": 2, "lasso": [[6, 4], [20, 5], [19, 18], [7, 17]]}),
    "drawn": (
        "POST",
        "/sessions/{}/prompts",
        {"object": 1, "slice": 3, "drawn": RLE.of(_DRAWN).to_dict()},
    ),
    "interpolate": ("POST", "/sessions/{}/interpolate", {"object": 1}),
    "propagate": ("POST", "/sessions/{}/propagate", {"object": 1, "max_mm": 4.0}),
    "reset": ("POST", "/sessions/{}/reset", {"object": 1}),
    "compare": ("POST", "/sessions/{}/compare", {"session": "SESSION"}),
    "login": ("POST", "/login", {"name": "grace", "password": "correct horse battery"}),
    "token": ("POST", "/tokens", {"name": "script", "expires": "2099-01-01T00:00:00Z"}),
    "user": ("POST", "/users", {"name": "ada", "role": "reader", "password": "another horse battery"}),
}
UPLOAD = "upload.nrrd"
# statuses of sound bodies that are refused: by a server without users,
EXPECTED = {"login": 401, "user": 422}
# and because there is a session of the case; its object is on slices beside each other
EXPECTED |= {"open": 409, "interpolate": 422}


def scan_file() -> bytes:
    import medsam
    from medsam.client.raw import nrrd_of

    array = np.zeros((4, 24, 32), np.int16)
    array[1:3, 6:18, 8:20] = 200
    return bytes(nrrd_of(medsam.Volume.from_array(array, (2.0, 1.0, 1.0), modality="CT")))


def bodies(directory: Path) -> Path:
    for name, (_, _, body) in REQUESTS.items():
        (directory / f"{name}.json").write_text(json.dumps(body))
    (directory / UPLOAD).write_bytes(scan_file())
    return directory


class House:
    """A server, and who asks it."""

    def __init__(self, folder: Path) -> None:
        import torch
        from starlette.testclient import TestClient

        import medsam
        from medsam.inference.worker import Worker
        from medsam.models.build import build_model
        from medsam.models.specs import tiny_spec
        from medsam.server.app import create_app
        from medsam.server.settings import Limits, ServerSettings

        torch.manual_seed(0)
        self.exits = ExitStack()
        worker = self.exits.enter_context(Worker())
        predictor = medsam.Predictor(build_model(tiny_spec("vit")), "cpu", engine="torch", worker=worker)
        most = 10**6
        limits = Limits(requests_per_minute=most, logins_per_minute=most, sessions_per_reader=most)
        app = create_app(ServerSettings(store=folder / "store", loaders=1, limits=limits), predictor)
        self.client = self.exits.enter_context(
            TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))
        )
        self.case = self.ask("POST", "/cases", scan_file(), {"X-Filename": "scan.nrrd"}).json()["cases"][0]["id"]
        self.session = ""

    def ask(self, method: str, route: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
        headers = headers or {"Content-Type": "application/json"}
        return self.client.request(method, f"{API}{route}", content=body, headers=headers)

    def furnish(self) -> None:
        """A session with an object and a mask, made again where a request ended it."""
        if not self.session or self.client.get(f"{API}/sessions/{self.session}").json().get("closed") is not None:
            self.session = self.ask("POST", "/sessions", json.dumps({"case": self.case}).encode()).json()["id"]
            self.ask("POST", f"/sessions/{self.session}/objects", b'{"name": "block"}')
        self.ask("PATCH", f"/sessions/{self.session}/objects/1", b'{"locked": false}')

    def hear_all(self) -> None:
        """Every sound body is taken: a route that is another one by now would refuse whatever is sent to it.

        Raises AssertionError.
        """
        for name, (method, route, body) in REQUESTS.items():
            self.furnish()
            answer = self.ask(method, route.format(self.session), self.filled(json.dumps(body).encode()))
            refused = answer.status_code if answer.status_code >= 400 else None
            if refused != EXPECTED.get(name):
                raise AssertionError(f"the sound {name}: {answer.status_code} {answer.text[:300]}")

    def filled(self, body: bytes) -> bytes:
        return body.replace(b"CASE", self.case.encode()).replace(b"SESSION", self.session.encode())


@cache
def house() -> House:
    folder = tempfile.TemporaryDirectory(prefix="medsam-fuzz-server-")
    atexit.register(folder.cleanup)
    return House(Path(folder.name))


@cache
def sound(name: str) -> bytes:
    return scan_file() if name == UPLOAD else json.dumps(REQUESTS[Path(name).stem][2]).encode()


def sent(path: Path) -> np.ndarray:
    """What was changed is sent. An answer below 400 is right, one below 500 refuses, another is a defect."""
    changed = [file for file in path.iterdir() if file.read_bytes() != sound(file.name)]
    for file in changed:
        there = house()
        there.furnish()
        if file.name == UPLOAD:
            answer = there.ask("POST", "/cases", file.read_bytes(), {"X-Filename": "scan.nrrd"})
        else:
            method, route, _ = REQUESTS[file.stem]
            answer = there.ask(method, route.format(there.session), there.filled(file.read_bytes()))
        if answer.status_code >= 500:
            raise AssertionError(f"{file.name}: {answer.status_code} {answer.text[:300]}")
        if answer.status_code >= 400:
            raise MedSAMError(f"{answer.status_code} {answer.text}")
    return np.zeros(1)
