"""What a request has to look like before a room sees it."""

from __future__ import annotations

import threading
from urllib.parse import unquote

import anyio
import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from stores import document, upload

from medsam.errors import InputError
from medsam.server.app import API
from medsam.server.gate import guard
from medsam.server.gate.guard import Guard
from medsam.server.gate.origins import csrf_of
from medsam.server.gate.rules import PrefixRules
from medsam.server.settings import Limits, TrustedProxy
from medsam.store.database import StoreError
from medsam.store.readers import Role


def _rooms(app: FastAPI) -> None:
    @app.api_route(f"{API}/echo", methods=["GET", "POST"])
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.post(f"{API}/cases")
    async def upload(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    @app.get(f"{API}/sessions/{{session}}/events")
    async def events() -> StreamingResponse:
        async def body():
            while True:
                yield b": alive\n\n"
                await anyio.sleep(0.01)

        return StreamingResponse(body(), media_type="text/event-stream")

    @app.get(f"{API}/cases/{{case}}")
    async def look(case: str) -> None: ...

    @app.get(f"{API}/sessions/{{session}}/labels")
    async def export(session: str, request: Request) -> None:
        request.state.audited = {"case": "c1", "form": "nifti"}


@pytest.fixture(scope="module")
def house(serve_all):
    """A server without users, for all tests that change nothing."""
    return serve_all(_rooms)


@pytest.fixture
def cookie(serve):
    """`cookie(**settings)`: a client that is logged in, and its csrf header."""

    def start(rooms=_rooms, **settings):
        client = serve(rooms, **settings)
        store = client.app.state.services.store
        _, secret = store.add_login(store.add_user("anna", Role.ADMINISTRATOR, kind="proxy").id)
        client.cookies.set("medsam", secret, domain="127.0.0.1")
        return client, {"X-Medsam-Csrf": csrf_of(secret)}

    return start


def test_what_is_not_opened_is_closed(cookie):
    client, _ = cookie()
    client.cookies.clear()
    for path in ("echo", "cases/x", "sessions/x/labels", "users", "openapi.json", "nothing"):
        answer = client.get(f"{API}/{path}")
        assert answer.status_code == 401, path
        assert answer.json() == {"detail": "Log in first.", "parameters": [], "error": ""}
    for path in ("/docs", "/redoc", "/openapi.json", "/api/v2/users", "/api/v1x/users"):
        assert client.get(path).status_code == 404, path
    assert client.get(f"{API}/version").status_code == 200


def test_only_names_of_its_own_reach_it(house):
    answers = {
        200: ["127.0.0.1:8000", "localhost", "[::1]:8000", "LOCALHOST:443"],
        421: ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "0.0.0.0"],
        400: ["", "a b", "localhost:99999999", "user@localhost", "localhost/../evil", "löcalhost".encode()],
    }
    for status, hosts in answers.items():
        for host in hosts:
            assert house.get(f"{API}/version", headers={"Host": host}).status_code == status, host


def test_names_that_it_is_told_reach_it(serve):
    client = serve(proxy=TrustedProxy(("10.0.0.0/8",)), hosts=("reading.example",))
    for host in ("reading.example", "READING.example:443"):
        assert client.get(f"{API}/version", headers={"Host": host}).status_code == 200, host
    assert client.get(f"{API}/version", headers={"Host": "www.reading.example"}).status_code == 421


def test_nobody_is_an_administrator_for_coming_through_a_proxy_of_this_machine(house, serve):
    # nobody has to log in on this machine; whom something in between brings, is not on it
    assert house.get(f"{API}/me").json()["way"] == "local"
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        assert house.get(f"{API}/me", headers={name: "for=203.0.113.9"}).status_code == 401, name
    with pytest.raises(InputError, match="`hosts` reading.example is a name for others") as raised:
        serve(hosts=("localhost", "reading.example"))
    assert raised.value.parameters == ("hosts", "proxy", "add_user")


def test_one_request_has_one_host(house):
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    assert house.get(f"{API}/version", headers=headers).status_code == 400


def test_pages_of_other_sites_may_not_call(house):
    # without users, where a browser need not even have a cookie
    own: list[dict[str, str]] = [
        {},
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ]
    origins = ["http://evil.example", "http://127.0.0.1:8001", "http://localhost:8000", "null", "http://[", ""]
    others = [{"Origin": origin} for origin in (*origins, "http://127.0.0.1:8000@evil.example")]
    others += [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "")]
    for method in ("GET", "POST"):
        for headers in own:
            assert house.request(method, f"{API}/echo", headers=headers).status_code == 200, headers
        for headers in others:
            assert house.request(method, f"{API}/echo", headers=headers).status_code == 403, headers


def test_no_other_page_is_allowed_to_ask_first(house):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = house.options(f"{API}/echo", headers=headers)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_changes_by_cookie_carry_the_token_of_that_login(cookie):
    client, csrf = cookie()
    store = client.app.state.services.store
    assert client.get(f"{API}/echo").status_code == 200
    assert client.post(f"{API}/echo").status_code == 403
    assert client.post(f"{API}/echo", headers=csrf).status_code == 200
    _, other = store.add_login(store.add_user("ben", Role.READER, kind="proxy").id)
    for token in (csrf_of(other), csrf["X-Medsam-Csrf"][:-1], csrf["X-Medsam-Csrf"] + "0", "", "ö"):
        answer = client.post(f"{API}/echo", headers=[("X-Medsam-Csrf", token.encode())])
        assert answer.status_code == 403, token
    two = [("X-Medsam-Csrf", csrf["X-Medsam-Csrf"])] * 2
    assert client.post(f"{API}/echo", headers=two).status_code == 400


def test_one_cookie_of_a_name_and_one_way_at_a_time(cookie):
    client, _ = cookie()
    secret = client.cookies["medsam"]
    client.cookies.clear()
    for header in (f"medsam={secret}; medsam=x", f"medsam=x; medsam={secret}", "medsam=", f"Medsam={secret}", "medsam"):
        assert client.get(f"{API}/echo", headers={"Cookie": header}).status_code == 401, header
    assert client.get(f"{API}/echo", headers={"Cookie": f"a=b;medsam={secret}"}).status_code == 200
    # a token that does not hold is not overlooked for the cookie beside it
    both = {"Cookie": f"medsam={secret}", "Authorization": "Bearer wrong"}
    assert client.get(f"{API}/echo", headers=both).status_code == 401
    # a cookie is no token, and a token is no cookie
    assert client.get(f"{API}/echo", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_a_proxy_is_believed_and_nobody_else(serve):
    def asked(client, headers):
        return client.get(f"{API}/me", headers=headers)

    client = serve(proxy=TrustedProxy(("10.0.0.0/8",)), host="0.0.0.0", hosts=("127.0.0.1",))
    named = {"X-Forwarded-User": "dr.müller".encode()}
    assert asked(client, named).status_code == 403
    assert asked(client, {}).status_code == 401
    client._transport.client = ("10.1.2.3", 5000)
    answer = asked(client, named).json()
    assert (answer["name"], answer["role"], answer["way"]) == ("dr.müller", "reader", "proxy")
    assert asked(client, {}).status_code == 401
    # a second header was put there by the client
    assert asked(client, [("X-Forwarded-User", "ben"), ("x-forwarded-user", "anna")]).status_code == 400
    for strange in (b"", b"a" * 200, b"local"):
        assert asked(client, {"X-Forwarded-User": strange}).status_code == 403, strange
    # what changes something carries a token, for a browser goes through the proxy by itself
    assert client.post(f"{API}/tokens", json={"name": "x"}, headers=named).status_code == 403
    csrf = {**named, "X-Medsam-Csrf": answer["csrf"]}
    assert client.post(f"{API}/tokens", json={"name": "x"}, headers=csrf).status_code == 201
    user = client.app.state.services.store.user_named("dr.müller")
    client.app.state.services.store.change_user(user.id, active=False)
    assert asked(client, named).status_code == 403


def test_a_proxy_takes_nobody_over_who_has_a_password_here(serve):
    client = serve(proxy=TrustedProxy(("10.0.0.1",)))
    client.app.state.services.store.add_user("root", Role.ADMINISTRATOR, "a long enough one")
    client._transport.client = ("10.0.0.1", 5000)
    assert client.get(f"{API}/me", headers={"X-Forwarded-User": "root"}).status_code == 403


def test_a_proxy_may_say_from_where_requests_come_and_not_whose_they_are(serve):
    client = serve(proxy=TrustedProxy(("10.0.0.1",), None), limits=Limits(requests_per_minute=3))
    client._transport.client = ("10.0.0.1", 5000)

    def statuses(address: str) -> list[int]:
        headers = {"X-Forwarded-User": "root", "X-Forwarded-For": f"1.1.1.1, {address}"}
        return [client.get(f"{API}/me", headers=headers).status_code for _ in range(4)]

    assert statuses("2.2.2.2") == statuses("3.3.3.3") == [401, 401, 401, 429]


def test_bodies_are_counted_as_they_come(cookie):
    client, csrf = cookie(limits=Limits(body_bytes=1000, json_bytes=100))

    def sent(body, **headers):
        return client.post(f"{API}/echo", content=body, headers={**csrf, **headers}).status_code

    binary = {"Content-Type": "application/octet-stream"}
    assert sent(b"x" * 1000, **binary) == 200
    assert sent(b"x" * 1001, **binary) == 413
    assert sent((b"x" * 100 for _ in range(20)), **binary) == 413
    assert sent(b" " * 100, **{"Content-Type": "application/json"}) == 200
    assert sent(b" " * 101, **{"Content-Type": "application/problem+JSON; charset=utf-8"}) == 413
    # an upload counts for itself
    upload = client.post(f"{API}/cases", content=b"x" * 5000, headers={**csrf, **binary})
    assert upload.json() == 5000
    # nobody who has not logged in sends so much
    client.cookies.clear()
    assert client.post(f"{API}/login", content=b" " * 4097).status_code == 413
    assert client.post(f"{API}/cases", content=b"x" * 5000).status_code == 401


def test_long_heads_are_refused(house):
    assert house.get(f"{API}/echo", headers={"X-Long": "a" * 20_000}).status_code == 431
    assert house.get(f"{API}/echo", headers=[(f"a{n}", "b" * 10) for n in range(2000)]).status_code == 431
    assert house.get(f"{API}/echo", params={"q": "a" * 20_000}).status_code == 431
    assert house.get(f"{API}/echo", headers={"X-Long": "a" * 10_000}).status_code == 200


def test_requests_are_counted(cookie):
    client, _ = cookie(limits=Limits(requests_per_minute=5))
    answers = [client.get(f"{API}/me") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    client.cookies.clear()
    store = client.app.state.services.store
    _, token = store.add_token(store.add_user("ben", Role.READER, kind="proxy").id, "ben's")
    assert [client.get(f"{API}/me").status_code for _ in range(6)] == [401] * 5 + [429]
    # strangers of an address keep out neither its readers nor those who look after the server
    assert client.get(f"{API}/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert [client.get(f"{API}/version").status_code for _ in range(6)] == [200] * 5 + [429]
    assert client.get("/health/live").status_code == 200


def test_no_strange_path_gets_past(house):
    strange = ["/cases/../users", "/cases/..%2fusers", "/cases/%2e%2e/users", "/cases/%00", "/cases/a%5c..%5cb"]
    for path in (*strange, "/cases//x", "/cases/%0d%0aX-Evil:1", "/cases/" + "a" * 2000):
        assert anyio.run(_status, house.app, API + path) == 404, path


async def _status(app: FastAPI, target: str) -> int:
    """Of the answer to a path as it is; clients tidy paths up."""
    scope = {"type": "http", "method": "GET", "path": unquote(target), "raw_path": target.encode(), "query_string": b""}
    answers = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        answers.append(message)

    rest = {"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "root_path": "", "scheme": "http"}
    await app({**scope, **rest}, receive, send)
    return answers[0]["status"]


def test_answers_carry_the_rules_of_their_prefix(house):
    for path in (f"{API}/me", f"{API}/nothing", "/nowhere"):
        headers = house.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    refused = house.get(f"{API}/me", headers={"Host": "evil.example"}).headers
    assert refused["cache-control"] == "no-store"


def test_successes_are_audited_with_ids_before_they_are_answered(cookie):
    client, _ = cookie()
    client.get(f"{API}/cases/abc")
    client.get(f"{API}/cases/abc")
    client.get(f"{API}/sessions/s1/labels")
    client.get(f"{API}/sessions/s1/labels")
    lines = client.app.state.services.store.audit_lines()
    assert [(line.what, line.case, line.reading) for line in lines] == [
        ("export", "c1", "s1"),
        ("export", "c1", "s1"),
        ("look", "abc", None),
    ]
    assert dict(lines[0].details) == {"form": "nifti"}
    assert (lines[0].user, lines[0].address) == ("anna", "127.0.0.1")


def test_a_look_at_a_session_is_one_at_its_case(cookie):
    client, _ = cookie(lambda app: app.get(f"{API}/sessions/{{session}}")(lambda session: None))
    store = client.app.state.services.store
    anna = store.user_named("anna").reader
    case = store.put_case(upload(owner=anna.id))
    reading = store.open_reading(case.id, anna, document())
    client.get(f"{API}/sessions/{reading.key}")
    assert [(line.what, line.case, line.reading) for line in store.audit_lines()] == [("look", case.key, reading.key)]


def test_refusals_and_failed_sends_are_audited_without_what_was_typed(cookie):
    def failing(app: FastAPI) -> None:
        @app.post(f"{API}/sessions/{{session}}/send")
        async def send(session: str) -> None:
            raise HTTPException(502 if session == "s1" else 422, "The PACS took some.")

        @app.get(f"{API}/cases/{{case}}")
        async def look(case: str) -> None:
            raise HTTPException(404, "No such case.")

    client, csrf = cookie(failing)
    for _ in range(2):
        client.get(f"{API}/cases/DOE-JANE")
    client.post(f"{API}/sessions/s1/send", headers=csrf)
    lines = client.app.state.services.store.audit_lines()
    assert [(line.what, line.case, line.reading) for line in lines] == [
        ("send failed", None, "s1"),
        ("refused", None, None),
    ]
    assert dict(lines[1].details) == {"route": "GET /cases/{case}", "status": 404}


def test_an_answer_that_cannot_be_audited_is_not_given(cookie, monkeypatch):
    client, _ = cookie()

    def full(*given, **named):
        raise StoreError("The disk of the store is full.")

    monkeypatch.setattr(client.app.state.services.store, "audit", full)
    answer = client.get(f"{API}/sessions/s1/labels")
    assert (answer.status_code, answer.json()["error"]) == (503, "StoreError")


def test_a_look_that_was_not_noted_is_noted_the_next_time(cookie, monkeypatch):
    client, _ = cookie()
    store = client.app.state.services.store
    with monkeypatch.context() as patch:

        def full(*given, **named):
            raise StoreError("The disk of the store is full.")

        patch.setattr(store, "audit", full)
        assert [client.get(f"{API}/cases/abc").status_code for _ in range(2)] == [503, 503]
    assert [client.get(f"{API}/cases/abc").status_code for _ in range(2)] == [200, 200]
    assert [(line.what, line.case) for line in store.audit_lines()] == [("look", "abc")]


def test_a_file_to_compare_with_may_be_as_large_as_an_upload_and_its_json_as_other_json(serve):
    def rooms(app: FastAPI) -> None:
        @app.post(f"{API}/sessions/{{session}}/compare")
        async def compare(request: Request) -> int:
            return sum([len(piece) async for piece in request.stream()])

    client = serve(rooms, limits=Limits(body_bytes=1000, json_bytes=100))
    path, file = f"{API}/sessions/x/compare", {"Content-Type": "application/octet-stream"}
    assert client.post(path, content=b"x" * 5000, headers=file).json() == 5000
    assert client.post(path, files={"file": ("a.nii", b"x" * 5000)}).json() > 5000
    assert client.post(path, json={"session": "x" * 5000}).status_code == 413
    assert client.post(f"{path}d", content=b"x" * 5000, headers=file).status_code == 413


def test_who_asks_is_recognised_while_all_other_threads_are_at_work(cookie):
    client, _ = cookie()
    done = threading.Event()

    async def all_threads() -> int:
        return int(anyio.to_thread.current_default_thread_limiter().total_tokens)

    waiting = [
        client.portal.start_task_soon(anyio.to_thread.run_sync, done.wait)
        for _ in range(client.portal.call(all_threads))
    ]
    try:
        asked = client.portal.start_task_soon(_asked, client)
        assert asked.result(5) == 200
    finally:
        done.set()
    assert all(one.result(5) for one in waiting)


async def _asked(client: TestClient) -> int:
    transport = httpx.ASGITransport(client.app, client=("127.0.0.1", 50000))
    headers = {"Cookie": f"medsam={client.cookies['medsam']}", "Host": "127.0.0.1"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as one:
        return (await one.get(f"{API}/cases/abc")).status_code


def test_a_stream_of_events_ends_with_its_login(cookie, monkeypatch):
    monkeypatch.setattr(guard, "_STILL_S", 0.05)
    client, _ = cookie()
    store = client.app.state.services.store
    login = store.find_login(client.cookies["medsam"])

    async def listen() -> int:
        pieces = 0
        transport = httpx.ASGITransport(client.app)
        headers = {"Cookie": f"medsam={client.cookies['medsam']}", "Host": "127.0.0.1"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as one:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:

                    async def leave() -> None:
                        await anyio.sleep(0.1)
                        await anyio.to_thread.run_sync(store.end_login, login.id)

                    tasks.start_soon(leave)
                    answer = await one.get(f"{API}/sessions/x/events")
                    pieces = answer.text.count("alive")
        return pieces

    assert anyio.run(listen) > 0


def test_a_reader_has_only_so_many_streams(cookie):
    client, _ = cookie(limits=Limits(streams_per_reader=0))
    assert client.get(f"{API}/sessions/x/events").status_code == 429
    assert client.get(f"{API}/me").status_code == 200


def test_another_prefix_may_have_other_rules(cookie):
    client, _ = cookie()
    services = client.app.state.services
    _, token = services.store.add_token(services.store.user_named("anna").id, "viewer")
    viewer = {"Origin": "https://viewer.example"}
    bearer = {"Authorization": f"Bearer {token}"}
    app = FastAPI()
    app.state.services = services
    other = PrefixRules(
        "/other",
        ways=frozenset({"token"}),
        open=frozenset({"GET /open"}),
        body_bytes=10,
        origins=frozenset(viewer.values()),
    )
    app.add_middleware(Guard, table=(other, PrefixRules("/other/page", origins=frozenset(viewer.values()))))
    app.api_route("/other/{name}", methods=["GET", "POST"])(lambda name: name)
    app.get("/other/page/x")(lambda: None)
    asking = TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))
    answer = asking.get("/other/a", headers={**bearer, **viewer, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, viewer["Origin"])
    assert "access-control-allow-credentials" not in answer.headers
    first = asking.options("/other/a", headers={**viewer, "Access-Control-Request-Method": "POST"})
    assert (first.status_code, first.headers["access-control-allow-origin"]) == (204, viewer["Origin"])
    assert asking.get("/other/a", headers={**bearer, "Origin": "https://evil.example"}).status_code == 403
    assert asking.post("/other/a", content=b"x" * 11, headers=bearer).status_code == 413
    assert asking.get("/other/open").status_code == 200
    assert asking.get("/other/a").status_code == 401
    # a cookie is not taken there, and where it is, not from another page
    own = {"Cookie": f"medsam={client.cookies['medsam']}"}
    assert asking.get("/other/a", headers=own).status_code == 403
    assert asking.get("/other/page/x", headers=own).status_code == 200
    assert asking.get("/other/page/x", headers={**own, **viewer}).status_code == 403


def test_websockets_are_not_spoken(house):
    with pytest.raises(WebSocketDisconnect) as refused, house.websocket_connect(f"{API}/echo"):
        pass
    assert refused.value.code == 1008
