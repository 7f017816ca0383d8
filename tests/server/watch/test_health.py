"""Health, numbers and lines of the log, of a server that runs."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from fastapi import FastAPI, HTTPException
from prometheus_client.parser import text_string_to_metric_families

from medsam.inference.worker import Worker
from medsam.server.app import API
from medsam.server.watch import health, pulse
from medsam.server.watch.logs import JsonLines
from medsam.store.database import StoreError
from medsam.store.readers import Role


def _rooms(app: FastAPI) -> None:
    @app.get(f"{API}/cases/{{case}}")
    async def look(case: str) -> None:
        if case == "full":
            raise StoreError("The disk of the store is full.")
        raise HTTPException(404, "No such case.")


def _ready(client) -> None:
    client.app.state.services.pulse.warm.result(timeout=30)


def test_a_server_that_is_well_says_so_to_anybody(serve):
    client = serve(host="0.0.0.0", proxy=_proxy(), hosts=("127.0.0.1",))
    _ready(client)
    for path in ("/health", f"{API}/health"):
        answer = client.get(path)
        checks = {"model": True, "worker": True, "store": True, "disk": True}
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": checks})
    assert client.get("/health/live").json()["status"] == "ok"


def _proxy():
    from medsam.server.settings import TrustedProxy

    return TrustedProxy(("10.0.0.1",))


def test_what_does_not_work_is_named(serve, monkeypatch):
    client = serve()
    _ready(client)
    monkeypatch.setattr(health, "_KEPT_S", -1.0)
    monkeypatch.setattr(health, "_LEAST_FREE", 2**60)
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "failing",
        "checks": {"model": True, "worker": True, "store": True, "disk": False},
    }
    monkeypatch.setattr(client.app.state.services.store, "writable", lambda: False)
    assert client.get("/health").json()["checks"]["store"] is False
    assert client.get("/health/live").status_code == 200


def test_a_model_that_warms_up_is_starting_and_a_worker_that_hangs_is_stuck(tiny_predictor, monkeypatch):
    import anyio

    class Slow:
        def warm_up(self):
            started.wait(10)

    started, hold = threading.Event(), threading.Event()
    monkeypatch.setattr(pulse, "STUCK_S", 0.05)
    monkeypatch.setattr(pulse, "_EVERY_S", 0.01)

    async def watched() -> None:
        with Worker() as worker:
            here = pulse.Pulse(worker, Slow())
            assert not here.is_ready
            assert not here.is_stuck
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here.run)
                started.set()
                with anyio.fail_after(10):
                    while not (here.is_ready and here.waited):
                        await anyio.sleep(0.01)
                    assert not here.is_stuck
                    job = worker.submit(lambda _: hold.wait(10))
                    while not here.is_stuck:
                        await anyio.sleep(0.01)
                    assert here.seconds > 0.05
                    hold.set()
                    while here.is_stuck:
                        await anyio.sleep(0.01)
                job.result()
                tasks.cancel_scope.cancel()

    anyio.run(watched)


def test_a_model_that_fails_is_not_ready(caplog):
    class Broken:
        def warm_up(self):
            raise ValueError("DOE^JANE")

    with Worker() as worker:
        here = pulse.Pulse(worker, Broken())
        with pytest.raises(ValueError, match="DOE"):
            here.warm.result(10)
        assert not here.is_ready
    assert "DOE" not in caplog.text


def test_the_numbers_name_routes_and_nobody(serve):
    client = serve(_rooms)
    client.get(f"{API}/cases/DOE-JANE?name=DOE")
    client.get(f"{API}/nothing/DOE-JANE")
    client.request("DOE", f"{API}/me")
    client._transport.client = ("127.0.0.1", 5000)
    text = client.get("/metrics").text
    assert "DOE" not in text
    found = {family.name: family for family in text_string_to_metric_families(text)}
    counted = [sample for sample in found["medsam_request_seconds"].samples if sample.name.endswith("_count")]
    labels = {(one.labels["method"], one.labels["route"], one.labels["status"]): one.value for one in counted}
    assert labels == {
        ("GET", f"{API}/cases/{{case}}", "404"): 1,
        ("GET", "other", "404"): 1,
        ("other", f"{API}/me", "405"): 1,
    }
    for name in (
        "jobs_waiting",
        "click_wait_seconds",
        "scan_bytes",
        "embedding_bytes",
        "store_bytes",
        "disk_free_bytes",
    ):
        assert found[f"medsam_{name}"].samples[0].value >= 0, name


def test_the_numbers_are_for_this_machine_and_for_tokens(serve):
    client = serve()
    store = client.app.state.services.store
    user = store.add_user("anna", Role.ADMINISTRATOR, kind="proxy")
    _, secret = store.add_token(user.id, "prometheus")
    client._transport.client = ("10.1.2.3", 5000)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    client._transport.client = ("127.0.0.1", 5000)
    assert client.get("/metrics").status_code == 200
    # through a proxy on this machine comes anybody
    assert client.get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 401


def test_each_request_is_a_line_with_its_route(serve, caplog):
    client = serve(_rooms)
    with caplog.at_level(logging.INFO, "medsam.server"):
        number = client.get(f"{API}/cases/DOE-JANE?name=DOE").headers["x-request-id"]
    records = [record for record in caplog.records if record.name == "medsam.server.requests"]
    line = json.loads(JsonLines().format(records[-1]))
    assert "DOE" not in json.dumps(line)
    local = client.app.state.services.store.local_reader()
    known = {key: line[key] for key in ("event", "request", "method", "route", "status", "reader")}
    route = f"{API}/cases/{{case}}"
    assert known == {
        "event": "request",
        "request": number,
        "method": "GET",
        "route": route,
        "status": 404,
        "reader": local.id,
    }


def test_of_other_libraries_the_log_says_where_and_not_what():
    def formatted(name: str, error: Exception | None = None) -> dict[str, str]:
        info = None if error is None else (type(error), error, error.__traceback__)
        record = logging.LogRecord(
            name, logging.WARNING, "/x/site-packages/pydicom/values.py", 7, "DOE^%s", ("J\nx",), info
        )
        return json.loads(JsonLines().format(record))

    assert formatted("pydicom")["event"] == "at pydicom/values.py:7"
    assert formatted("uvicorn.error")["event"] == "DOE^J\nx"
    assert formatted("medsam.server.requests", ValueError("DOE"))["error"] == "ValueError at no place"


def test_a_full_disk_is_no_defect_and_no_fault_of_the_request(serve):
    answer = serve(_rooms).get(f"{API}/cases/full")
    assert (answer.status_code, answer.json()["error"]) == (503, "StoreError")
