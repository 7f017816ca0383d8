"""What a check says of certificates, memory, users and protocols; and the page of a server that runs."""

from __future__ import annotations

import datetime

import pytest
from argon2 import PasswordHasher
from certificates import authority

from medsam.errors import InputError
from medsam.server.run import Certificate
from medsam.server.settings import GIB, NNInteractive, ServerSettings
from medsam.server.watch import check, status
from medsam.store import people
from medsam.store.readers import Role


def test_a_certificate_is_spoken_with_before_it_is_served(tmp_path):
    house = authority(tmp_path)
    certificate, key = house.issue("server")
    text = check._tls(Certificate(certificate, key))
    assert text.startswith("valid for ")
    assert text.endswith("days, for localhost, 127.0.0.1")
    _, other = house.issue("other")
    for one in (Certificate(certificate, other), Certificate(tmp_path / "none.pem"), Certificate(certificate)):
        with pytest.raises(InputError, match="cannot be used"):
            check._tls(one)


def test_a_certificate_whose_days_are_over_is_told(tmp_path, monkeypatch):
    import certificates

    class Long(datetime.datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone) - datetime.timedelta(days=4000)

    monkeypatch.setattr(certificates.datetime, "datetime", Long)
    certificate, key = authority(tmp_path).issue("server")
    with pytest.raises(InputError, match="not accepted: certificate has expired"):
        check._tls(Certificate(certificate, key))


def test_more_memory_than_there_is_cannot_be_promised(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "all_memory", lambda: 8 * GIB)
    settings = ServerSettings(tmp_path)
    assert check._memory(settings) == "up to 6.0 of 8.0 GiB are used"
    with pytest.raises(InputError, match="10.0 of 8.0 GiB"):
        check._memory(ServerSettings(tmp_path, nninteractive=NNInteractive()))
    monkeypatch.setattr(check, "all_memory", lambda: None)
    assert "6.0 GiB" in check._memory(settings)


def test_protocols_are_on_or_off_and_say_what_they_lack(tmp_path, monkeypatch):
    told = {one.what: (one.works, one.text) for one in check._protocols(ServerSettings(tmp_path))}
    assert told["protocol nnInteractive"] == (None, "off: --nninteractive")
    settings = ServerSettings(tmp_path, nninteractive=NNInteractive(sessions=2))
    *_, found = check._protocols(settings)
    assert (found.works, found.text) == (True, "on, at /nninteractive, 2 sessions at a time")
    monkeypatch.setattr("medsam.server.nninteractive.leases.find_spec", lambda name: None)
    *_, found = check._protocols(settings)
    assert found.works is False
    assert "pip install" in found.text


def test_a_server_that_runs_shows_the_same_to_its_administrators(serve, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSAM_SETTINGS", str(tmp_path / "none.toml"))
    monkeypatch.setattr(people, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    monkeypatch.setattr(status, "_KEPT_S", -1.0)
    (tmp_path / "<b>").mkdir()
    client = serve(data=(tmp_path / "<b>",), nninteractive=NNInteractive(image_bytes=2**20))
    services = client.app.state.services
    services.pulse.warm.result(timeout=30)
    page = client.get("/status", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "on, at /nninteractive" in page.text
    assert "<b>" not in page.text
    found = {one["what"]: one["works"] for one in client.get("/status").json()}
    assert {name: found[name] for name in ("model", "worker", "store", "users", "disk", "memory", "PACS")} == {
        **dict.fromkeys(("model", "worker", "store", "users", "disk", "memory"), True),
        "PACS": None,
    }
    monkeypatch.setattr(check, "_LEAST_FREE", 2**60)
    assert client.get("/status").status_code == 503
    store = services.store
    keys = [
        store.add_token(store.add_user(name, role, "a long password").id, "x")[1]
        for name, role in (("ann", Role.ADMINISTRATOR), ("ben", Role.REVIEWER))
    ]
    answers = [client.get("/status", headers={"Authorization": f"Bearer {key}"}).status_code for key in keys]
    assert answers == [503, 403]
    assert client.get("/status").status_code == 401
