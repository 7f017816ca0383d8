"""Logging in, locking, leaving; users, tokens and the audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.testclient import TestClient

from medsam.server.app import API
from medsam.server.gate.origins import csrf_of
from medsam.server.gate.throttle import Buckets, Lockouts
from medsam.store import people
from medsam.store.readers import Role

PASSWORD = "a long enough one"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch):
    """The same function with less work."""
    monkeypatch.setattr(people, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


def added(client: TestClient, name: str, role: Role = Role.READER, password: str | None = None):
    """A user, without the work of a hash where no password is needed."""
    kind = "proxy" if password is None else "person"
    return client.app.state.services.store.add_user(name, role, password, kind)


def entered(client: TestClient, user) -> dict[str, str]:
    """A client that is logged in as a user, without a password; the header that its changes carry."""
    _, secret = client.app.state.services.store.add_login(user.id)
    client.cookies.set("medsam", secret, domain="127.0.0.1")
    return {"X-Medsam-Csrf": csrf_of(secret)}


def another(client: TestClient) -> TestClient:
    """A second browser at the same server."""
    return TestClient(client.app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))


def test_without_users_this_machine_needs_no_login_and_with_the_first_it_does(serve):
    client = serve()
    assert client.get(f"{API}/me").json() == {
        "name": "local",
        "role": "administrator",
        "way": "local",
        "csrf": None,
        "locks_after": None,
        "ends_at": None,
    }
    anna = {"name": "anna", "password": PASSWORD}
    answer = client.post(f"{API}/users", json=anna)
    assert (answer.status_code, answer.json()["parameters"]) == (422, ["role"])
    token = client.post(f"{API}/tokens", json={"name": "script"}).json()["token"]
    assert client.post(f"{API}/users", json={**anna, "role": "administrator"}).status_code == 201
    assert client.get(f"{API}/me").status_code == 401
    # nor does a token of the time without users let anybody in
    assert client.get(f"{API}/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_login_from_its_password_to_its_end(serve):
    client = serve()
    added(client, "anna", Role.ADMINISTRATOR, PASSWORD)
    answer = client.post(f"{API}/login", json={"name": "anna", "password": PASSWORD})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    first = client.cookies["medsam"]
    csrf = {"X-Medsam-Csrf": answer.json()["csrf"]}
    assert client.get(f"{API}/me").json()["csrf"] == answer.json()["csrf"]
    assert client.post(f"{API}/tokens", json={"name": "x"}, headers=csrf).status_code == 201
    # a second login of the same browser is another one, and ends the first
    assert client.post(f"{API}/login", json={"name": "anna", "password": PASSWORD}).status_code == 200
    assert client.cookies["medsam"] != first
    stale = another(client)
    stale.cookies.set("medsam", first, domain="127.0.0.1")
    assert stale.get(f"{API}/me").status_code == 401
    kept = client.cookies["medsam"]
    assert client.post(f"{API}/logout").status_code == 204
    assert "medsam" not in client.cookies
    stale.cookies.set("medsam", kept, domain="127.0.0.1")
    assert stale.get(f"{API}/me").status_code == 401
    what = [line.what for line in client.app.state.services.store.audit_lines()]
    assert what == ["logout", "login", "token", "login"]


def test_over_https_the_cookie_is_secure_and_of_this_host_alone(serve):
    client = serve(https=True)
    added(client, "anna", Role.ADMINISTRATOR, PASSWORD)
    answer = client.post(f"{API}/login", json={"name": "anna", "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-medsam=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_wrong_names_and_wrong_passwords_look_alike_and_lock_alike(serve):
    client = serve()
    added(client, "anna", Role.ADMINISTRATOR, PASSWORD)

    def tried(name: str) -> tuple[int, str]:
        answer = client.post(f"{API}/login", json={"name": name, "password": "guessed and wrong"})
        return answer.status_code, answer.json()["detail"]

    services = client.app.state.services
    # so that the lockout is what is seen
    services.gate.login_tries, services.gate._here = Buckets(1000), Lockouts(5, first=100.0)
    known, unknown = ([tried(name) for _ in range(7)] for name in ("anna", "nobody"))
    assert [status for status, _ in known] == [401] * 6 + [429]
    assert known[:6] == unknown[:6]
    assert unknown[6][0] == 429
    # the right password has to wait, too
    assert client.post(f"{API}/login", json={"name": "anna", "password": PASSWORD}).status_code == 429
    lines = services.store.audit_lines()
    assert {line.what for line in lines} == {"login failed"}
    # what was typed for a name may be a password
    assert {line.details.get("name") for line in lines} == {"anna", None}


def test_who_guesses_a_name_keeps_nobody_from_unlocking(serve):
    client = serve()
    entered(client, added(client, "anna", Role.ADMINISTRATOR, PASSWORD))
    guessing = another(client)
    client.app.state.services.gate._here = Lockouts(5, first=100.0)
    wrong = {"name": "anna", "password": "guessed and wrong"}
    assert [guessing.post(f"{API}/login", json=wrong).status_code for _ in range(7)][-1] == 429
    assert client.post(f"{API}/unlock", json={"password": PASSWORD}).status_code == 204
    # guesses at the lock itself count
    guesses = [client.post(f"{API}/unlock", json={"password": "guessed and wrong"}).status_code for _ in range(7)]
    assert guesses == [401] * 6 + [429]


def test_an_idle_login_locks_until_the_password_is_given(serve):
    client = serve(lock_after=60.0)
    user = added(client, "anna", Role.ADMINISTRATOR, PASSWORD)
    entered(client, user)
    gate, store = client.app.state.services.gate, client.app.state.services.store
    assert client.get(f"{API}/me").status_code == 200
    login = store.find_login(client.cookies["medsam"])
    gate._seen[login.id] = datetime.now(UTC) - timedelta(seconds=61)
    with store._database.write() as connection:
        connection.exec_driver_sql("UPDATE logins SET seen_at = '2026-01-01T00:00:00.000000+00:00'")
    assert client.get(f"{API}/me").status_code == 423
    assert client.get(f"{API}/tokens").status_code == 423
    assert client.get(f"{API}/version").status_code == 200
    assert client.post(f"{API}/unlock", json={"password": "guessed and wrong"}).status_code == 401
    assert client.get(f"{API}/me").status_code == 423
    assert client.post(f"{API}/unlock", json={"password": PASSWORD}).status_code == 204
    assert client.get(f"{API}/me").status_code == 200


def test_a_clock_that_is_put_back_gives_no_login_a_longer_life(serve, monkeypatch):
    """A machine that woke up in the wrong year, and was told the right one."""
    from medsam.server.gate import identity

    class Clock(datetime):
        ahead = timedelta()

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + cls.ahead

    client = serve(lock_after=60.0)
    entered(client, added(client, "anna", Role.ADMINISTRATOR, PASSWORD))
    monkeypatch.setattr(identity, "datetime", Clock)
    for ahead, status in ((timedelta(minutes=-4), 200), (timedelta(), 200), (timedelta(minutes=-6), 423)):
        Clock.ahead = ahead
        client.app.state.services.gate._seen.clear()
        with client.app.state.services.store._database.write() as connection:
            moment = datetime.now(UTC).isoformat(timespec="microseconds")
            connection.exec_driver_sql(f"UPDATE logins SET seen_at = '{moment}', began_at = '{moment}'")
            if status == 423:
                begun = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="microseconds")
                connection.exec_driver_sql(f"UPDATE logins SET began_at = '{begun}'")
        assert client.get(f"{API}/me").status_code == status, ahead
    Clock.ahead = timedelta(days=-3650)
    assert client.get(f"{API}/me").status_code == 401
    Clock.ahead = timedelta()
    assert client.get(f"{API}/me").status_code == 401, "it has ended"


def test_a_login_ends(serve):
    client = serve(ends_after=0.0)
    entered(client, added(client, "anna", Role.ADMINISTRATOR))
    assert client.get(f"{API}/me").status_code == 401
    assert client.app.state.services.store.find_login(client.cookies["medsam"]) is None


def test_what_a_page_asks_on_its_own_is_no_sign_of_a_reader(serve):
    def changes(app: FastAPI) -> None:
        @app.get(f"{API}/sessions/x/changes")
        async def since() -> None: ...

    client = serve(changes)
    entered(client, added(client, "anna", Role.ADMINISTRATOR))
    gate = client.app.state.services.gate
    assert client.get(f"{API}/sessions/x/changes").status_code == 200
    assert not gate._seen
    client.get(f"{API}/me")
    assert gate._seen


def test_tokens_are_shown_once_expire_and_are_revoked(serve):
    client = serve()
    anna, ben = added(client, "anna", Role.ADMINISTRATOR), added(client, "ben")
    csrf = entered(client, anna)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answer = client.post(f"{API}/tokens", json={"name": "nightly", "expires": soon}, headers=csrf).json()
    secret = {"Authorization": f"Bearer {answer['token']}"}
    assert "token" not in client.get(f"{API}/tokens").json()[0]
    program = another(client)
    assert program.get(f"{API}/me", headers=secret).json()["way"] == "token"
    # no page sends it by itself, so it needs no token against forged requests; but it makes no further ones
    assert program.post(f"{API}/tokens", json={"name": "more"}, headers=secret).status_code == 403
    assert program.post(f"{API}/users", json={"name": "x", "password": PASSWORD}, headers=secret).status_code == 403
    # somebody else's is not there
    other = another(client)
    assert other.delete(f"{API}/tokens/{answer['id']}", headers=entered(other, ben)).status_code == 404
    assert client.delete(f"{API}/tokens/{answer['id']}", headers=csrf).status_code == 204
    assert program.get(f"{API}/me", headers=secret).status_code == 401
    for expires in ("2020-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"):
        asked = {"name": "old", "expires": expires}
        assert client.post(f"{API}/tokens", json=asked, headers=csrf).status_code == 422
    _, secret = client.app.state.services.store.add_token(anna.id, "old", datetime.now(UTC) - timedelta(seconds=1))
    assert program.get(f"{API}/me", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_users_are_for_administrators(serve):
    client = serve()
    anna, ben = added(client, "anna", Role.ADMINISTRATOR), added(client, "ben", Role.REVIEWER)
    csrf = entered(client, ben)
    for method, path in (("GET", "/users"), ("POST", "/users"), ("PATCH", f"/users/{anna.key}"), ("GET", "/audit")):
        asked = {"name": "x", "password": PASSWORD}
        answer = client.request(method, f"{API}{path}", json=None if method == "GET" else asked, headers=csrf)
        assert answer.status_code == 403, (method, path)
    csrf = entered(client, anna)
    listed = client.get(f"{API}/users").json()
    assert [(user["name"], user["role"]) for user in listed] == [("anna", "administrator"), ("ben", "reviewer")]
    assert client.patch(f"{API}/users/{ben.key}", json={"role": "reader"}, headers=csrf).json()["role"] == "reader"
    answer = client.patch(f"{API}/users/{anna.key}", json={"role": "reader"}, headers=csrf)
    assert (answer.status_code, answer.json()["parameters"]) == (422, ["role"])
    assert client.patch(f"{API}/users/nobody", json={}, headers=csrf).status_code == 404
    line = next(line for line in client.get(f"{API}/audit").json() if line["what"] != "refused")
    assert (line["user"], line["what"], line["details"]["user"]) == ("anna", "change user", ben.key)


def test_who_leaves_is_out_at_once(serve):
    client = serve()
    anna, ben = added(client, "anna", Role.ADMINISTRATOR), added(client, "ben")
    other = another(client)
    entered(other, ben)
    assert other.get(f"{API}/me").status_code == 200
    asked = {"active": False}
    assert client.patch(f"{API}/users/{ben.key}", json=asked, headers=entered(client, anna)).status_code == 200
    assert other.get(f"{API}/me").status_code == 401


def test_a_new_password_ends_all_logins(serve):
    client = serve()
    anna = added(client, "anna", Role.ADMINISTRATOR, PASSWORD)
    csrf = entered(client, anna)
    asked = {"old": "guessed and wrong", "new": "another long one"}
    assert client.post(f"{API}/me/password", json=asked, headers=csrf).status_code == 401
    asked["old"] = PASSWORD
    assert client.post(f"{API}/me/password", json=asked, headers=csrf).status_code == 204
    assert client.get(f"{API}/me").status_code == 401
    assert client.app.state.services.store.verify("anna", "another long one") == anna.reader


def test_a_malformed_login_is_no_defect(serve):
    client = serve()
    for body in ({"name": "anna"}, {"name": "", "password": ""}, {"name": "a", "password": "b", "admin": 1}, [], None):
        assert client.post(f"{API}/login", json=body).status_code == 422, body
