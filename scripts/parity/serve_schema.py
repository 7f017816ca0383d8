"""Ask a server everything that its OpenAPI allows, and much that it does not: no 500, and answers as it describes them.

    .venv/bin/python scripts/parity/serve_schema.py [--examples 60] [--seed 1] [--seconds 600] [--only PART ...]

The server runs in this process, with a network of random weights, a scan, a project, and an administrator. schemathesis
makes requests for every operation, valid and invalid ones; half of them get ids that exist (a case, a session with a
mask, an object, a task) in place of made ones, for otherwise nearly all would end with 404. What is checked of each
answer: status below 500, a status, type and body as the schema says. Streams are read by their first bytes; a wait is a
short one.
Exit status 1 for a finding; each is printed with the request that repeats it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import requests
import schemathesis
import torch
import uvicorn
from fastapi import FastAPI
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import medsam
from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.client.raw import nrrd_of
from medsam.inference.worker import Worker
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.server.app import API, create_app
from medsam.server.gate.origins import csrf_of
from medsam.server.settings import Limits, ServerSettings
from medsam.store.project_records import NewScan, NewTask
from medsam.store.readers import Role
from medsam.store.store import Store

CHECKS = (
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
)
# seconds for an answer
_PATIENCE = 20.0


@dataclass
class House:
    """A server that runs, an administrator who is logged in, and what there is to ask for."""

    url: str
    store: Store
    user: int
    session: requests.Session = field(default_factory=requests.Session)
    ids: dict[str, str] = field(default_factory=dict)
    # whether a request may have changed what there is
    changed: bool = True

    def log_in(self) -> None:
        """Anew: requests end logins, too."""
        self.store.change_user(self.user, active=True, role=Role.ADMINISTRATOR)
        _, secret = self.store.add_login(self.user)
        self.session.cookies.set("medsam", secret, domain="127.0.0.1")
        self.session.headers["X-Medsam-Csrf"] = csrf_of(secret)

    def furnish(self) -> None:
        """A case, and a session with a mask: made again where a request has deleted them."""
        if not self.changed:
            return
        self.changed = False
        if self.session.get(f"{self.url}{API}/me", timeout=_PATIENCE).status_code != 200:
            self.log_in()
        if "case" not in self.ids or self._ask("GET", f"/cases/{self.ids['case']}").status_code != 200:
            answer = self._ask("POST", "/cases", data=nrrd_of(_scan()), headers={"X-Filename": "scan.nrrd"})
            self.ids["case"] = answer.json()["cases"][0]["id"]
            self.ids.pop("session", None)
        if "session" not in self.ids or not self._stands():
            session = self._ask("POST", "/sessions", json={"case": self.ids["case"]}).json()
            one = self._ask("POST", f"/sessions/{session['id']}/objects", json={"name": "block"}).json()
            box = {"object": one["id"], "slice": 1, "box": [6, 4, 22, 20]}
            self._ask("POST", f"/sessions/{session['id']}/prompts", json=box)
            self.ids |= {"session": session["id"], "number": str(one["id"]), "object": str(one["id"])}
            compared = self._ask("POST", f"/sessions/{session['id']}/compare", json={"session": session["id"]}).json()
            self.ids["reference"] = compared["reference"]
        self._take_task()
        # a request may have locked it
        number = f"/sessions/{self.ids['session']}/objects/{self.ids['number']}"
        self._ask("PATCH", number, json={"locked": False})

    def _take_task(self) -> None:
        """One of the project's that is open in a session."""
        answer = self._ask("POST", "/annotate/next", json={})
        if answer.status_code == 204:
            (scan,) = self.store.scans()
            self.store.add_tasks([NewTask(scan.id, ("block",))])
            answer = self._ask("POST", "/annotate/next", json={})
        self.ids["task"] = answer.json()["id"]
        self.ids["drawn"] = self._ask("POST", f"/annotate/tasks/{self.ids['task']}/open").json()["session"]

    def _stands(self) -> bool:
        """Whether the session is there, and open."""
        answer = self._ask("GET", f"/sessions/{self.ids['session']}")
        return answer.status_code == 200 and answer.json()["closed"] is None

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.url}{API}{path}", timeout=_PATIENCE, **more)


@contextmanager
def house(folder: Path, prepare: Callable[[FastAPI], None] | None = None) -> Iterator[House]:
    """One that stands in this block. prepare: is given the application before it starts."""
    torch.manual_seed(0)
    most = 10**6
    limits = Limits(requests_per_minute=most, logins_per_minute=most, sessions_per_reader=most)
    settings = ServerSettings(store=folder / "store", loaders=1, limits=limits, project=folder)
    _make_project(folder)
    with Store.open(folder / "store", serving=False) as store:
        user = store.add_user("grace", Role.ADMINISTRATOR, "correct horse battery").id
        with Worker() as worker:
            model = build_model(tiny_spec("vit"))
            predictor = medsam.Predictor(model, "cpu", engine="torch", worker=worker)
            app = create_app(settings, predictor)
            if prepare is not None:
                prepare(app)
            server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", 0, log_level="critical"))
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.01)
            found = House(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", store, user)
            found.log_in()
            yield found
            server.should_exit = True
            thread.join(10)


def _make_project(folder: Path) -> None:
    """Of one scan."""
    (folder / "scan.nrrd").write_bytes(nrrd_of(_scan()))
    with AnnotationProject.create(folder, "blocks", ["block"], Settings(axis="k")) as project:
        document = {"id": "scan", "image": str(folder / "scan.nrrd")}
        project.store.add_scans([NewScan("scan", "patient", "train", False, document)])


def _scan() -> medsam.Volume:
    array = np.zeros((4, 24, 32), np.int16)
    array[1:3, 6:18, 8:20] = 200
    return medsam.Volume.from_array(array, (2.0, 1.0, 1.0), modality="CT")


def examine(
    folder: Path,
    examples: int,
    seed: int,
    seconds: float,
    only: tuple[str, ...] = (),
    prepare: Callable[[FastAPI], None] | None = None,
) -> tuple[list[str], Counter[str]]:
    """Findings, and how often each operation answered with which status. prepare: see `house`."""
    findings: list[str] = []
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with house(folder, prepare) as place:
        document = place.session.get(f"{place.url}{API}/openapi.json", timeout=_PATIENCE).json()
        schema = schemathesis.openapi.from_dict(document)
        for found in schema.get_all_operations():
            operation = found.ok()
            name = f"{operation.method.upper()} {operation.path}"
            if only and not any(part in name for part in only):
                continue
            if time.monotonic() > end:
                findings.append(f"{name}: no time was left for it")
                continue
            findings += list(_operation(place, operation, name, examples, seed, counts))
    return findings, counts


def _operation(
    place: House, operation: Any, name: str, examples: int, seed: int, counts: Counter[str]
) -> Iterator[str]:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(), there=hypothesis.strategies.booleans())
    def ask(case: Any, there: bool) -> None:
        place.furnish()
        if there:
            _settle(case, place.ids)
        if "wait" in (case.query or {}):
            case.query["wait"] = 0.01
        if name.endswith("/events"):
            _stream(place, case)
            return
        response = case.call(base_url=place.url, session=place.session, timeout=_PATIENCE)
        place.changed |= case.method != "GET" and response.status_code < 400
        counts[f"{name} {response.status_code}"] += 1
        case.validate_response(response, checks=list(CHECKS))

    try:
        ask()
    except (Exception, BaseExceptionGroup) as error:
        yield f"{name}: {type(error).__name__}: {error}"


def _settle(case: Any, ids: dict[str, str]) -> None:
    """Put ids that exist in place of made ones, so that the request gets past them."""
    for key in (case.path_parameters or {}).keys() & ids.keys():
        case.path_parameters[key] = ids[key]
    case.headers.pop("If-Match", None)
    for given in (case.query, case.body):
        if not isinstance(given, dict):
            continue
        if "seconds" in given and "session" in given:
            given["session"] = ids["drawn"]
        if "case" in given:
            given["case"] = ids["case"]
        if "object" in given:
            given["object"] = int(ids["object"])
        if isinstance(given.get("slice"), int):
            given["slice"] %= 4


def _stream(place: House, case: Any) -> None:
    """A stream does not end: its status and first bytes are looked at."""
    arguments = case.as_transport_kwargs(base_url=place.url)
    with place.session.request(**arguments, stream=True, timeout=_PATIENCE) as response:
        if response.status_code >= 500:
            raise AssertionError(f"status {response.status_code}")
        if response.status_code == 200 and not next(response.iter_content(1)):
            raise AssertionError("a stream without a first byte")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=60, help="requests for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", nargs="*", default=[], help="operations that hold one of these texts")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        findings, counts = examine(
            Path(folder), arguments.examples, arguments.seed, arguments.seconds, tuple(arguments.only)
        )
    for key in sorted(counts):
        print(f"{counts[key]:5} {key}")
    print(f"{sum(counts.values())} requests in {time.monotonic() - begun:.0f} s, {len(findings)} findings")
    for text in findings:
        print(f"\nFOUND {text}", file=sys.stderr)
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
