import asyncio
import subprocess
import sys

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from medsam.client.client import Client
from medsam.client.connection import Connection, Lost, Refused
from medsam.errors import Cancelled, InputError, PromptError


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("medsam.client.connection.WAITS", (0.01, 0.01))


def test_importing_the_client_loads_neither_torch_nor_what_reads_files():
    code = (
        "import sys, medsam; medsam.Client; medsam.RemoteSession; "
        "print({'torch', 'pydicom', 'nibabel', 'scipy', 'SimpleITK', 'monai', 'fastapi'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"


def test_nobody_answers():
    with pytest.raises(InputError, match=r"No server answers at http://127\.0\.0\.1:9 .* `medsam serve`") as raised:
        Client("http://127.0.0.1:9")
    assert raised.value.parameter == "url"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://x", "http://", "http://me:pw@host/", "http://h/?a=1", "ht!tp:/"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(InputError) as raised:
        Client(url)
    assert raised.value.parameter == "url"
    assert "pw" not in str(raised.value)


def test_secrets_go_to_another_machine_over_https_alone():
    for given in ({"token": "t"}, {"user": "ada", "password": "pw"}):
        with pytest.raises(InputError, match="https://"):
            Connection("http://reading-room.example:8000", **given)
    Connection("http://localhost:8000", token="t").close()
    Connection("http://[::1]:8000/", token="t").close()
    Connection("https://reading-room.example/", token="t").close()
    with pytest.raises(InputError, match="belong together"):
        Connection("http://localhost", user="ada")
    with pytest.raises(InputError, match="`token`, or"):
        Connection("http://localhost", token="t", user="ada", password="pw")


def test_certificates_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "ca.pem").write_text("none")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(InputError, match="certificates") as raised:
            Connection("https://localhost", verify=tmp_path / name)
        assert raised.value.parameter == "verify"


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (404, "no medsam server, or an older one"),
        (Response("<html>", media_type="text/html"), "no medsam server, or an older one"),
        ({"other": 1}, "no medsam server, or an older one"),
        ({"version": 0}, "speaks version 0"),
    ],
)
def test_servers_that_are_not_ours_or_older(scripted, version, says):
    url, _ = scripted({"GET /version": [version]})
    with pytest.raises(InputError, match=says):
        Client(url)


def test_an_error_is_the_one_that_the_server_names(scripted):
    said = {"detail": "The `box` is empty.", "parameters": ["box"]}
    url, _ = scripted(
        {
            "POST /prompt": [JSONResponse({**said, "error": "PromptError"}, 422)],
            "POST /job": [JSONResponse({**said, "error": "Cancelled"}, 409)],
            "POST /other": [JSONResponse({**said, "error": "Exception"}, 422)],
            "GET /case": [JSONResponse({"detail": "No such case."}, 404)],
            "GET /html": [Response("<html>", 500)],
        }
    )
    connection = Connection(url)
    with pytest.raises(PromptError, match="The `box` is empty") as raised:
        connection.request("POST", "/prompt")
    assert raised.value.parameters == ("box",)
    with pytest.raises(Cancelled):
        connection.request("POST", "/job")
    with pytest.raises(Refused, match="The `box` is empty") as other:
        connection.request("POST", "/other")
    assert (other.value.status, other.value.parameter) == (422, "box")
    with pytest.raises(Refused, match="No such case") as missing:
        connection.request("GET", "/case")
    assert missing.value.status == 404
    with pytest.raises(InputError, match="status 500"):
        connection.request("GET", "/html")
    connection.close()


def test_answers_of_another_version_are_one_error(scripted):
    html = Response("<html>", media_type="text/html")
    url, _ = scripted({"GET /cases": [html], "GET /sessions": [4], "GET /pacs": [[3]], "POST /sessions": [{"id": 1}]})
    with Client(url) as client:
        for ask in (client.cases, lambda: client.case("x"), client.servers, lambda: client.open("x")):
            with pytest.raises(InputError, match=r"another version|older one"):
                ask()


def test_what_cannot_do_a_thing_twice_is_tried_again(scripted):
    full = JSONResponse({"detail": "too many"}, 429, headers={"Retry-After": "0.01"})
    url, server = scripted({"GET /a": [503, 502, {"ok": 1}], "POST /b": [full, {"ok": 1}], "POST /c": [503, {"ok": 1}]})
    connection = Connection(url)
    assert connection.request("GET", "/a").json() == {"ok": 1}
    assert connection.request("POST", "/b", json={"n": 1}).json() == {"ok": 1}
    with pytest.raises(InputError, match="status 503"):
        connection.request("POST", "/c")
    assert [server.count(key) for key in ("GET /a", "POST /b", "POST /c")] == [3, 2, 1]
    assert [body for key, _, body in server.asked if key == "POST /b"] == [b'{"n":1}'] * 2
    connection.close()


@pytest.fixture
def breaking(serve_app):
    """Takes requests, and breaks off the first answer of each kind. Returns its address, and what it was asked."""
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(request.method)
        if asked.count(request.method) == 1:
            # half an answer: the connection is dropped
            raise ConnectionResetError
        return JSONResponse({"ok": 1})

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        request = Request(scope, receive)
        try:
            await (await answer(request))(scope, receive, send)
        except ConnectionResetError:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            await asyncio.sleep(0)
            scope["medsam.broken"] = True

    return serve_app(app), asked


def test_a_step_whose_answer_was_lost_is_not_taken_twice(breaking):
    url, asked = breaking
    connection = Connection(url)
    assert connection.request("GET", "/a").json() == {"ok": 1}
    with pytest.raises(Lost, match="lost"):
        connection.request("POST", "/b")
    assert asked == ["GET", "GET", "POST"]
    connection.close()


def test_a_login_that_has_ended_or_is_locked_is_renewed(serve_app):
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(f"{request.method} {request.url.path.removeprefix('/api/v1')}")
        body = await request.body()
        if asked[-1] == "POST /login":
            assert body == b'{"name":"ada","password":"pw"}'
            response = JSONResponse({"csrf": f"c{asked.count('POST /login')}"})
            response.set_cookie("medsam", f"secret{asked.count('POST /login')}", httponly=True, samesite="strict")
            return response
        if asked[-1] == "POST /unlock":
            assert body == b'{"password":"pw"}'
            return JSONResponse({})
        if asked[-1] == "POST /step":
            turn = asked.count("POST /step")
            assert request.headers["X-Medsam-Csrf"] == ("c1" if turn == 1 else "c2")
            assert request.cookies["medsam"] == ("secret1" if turn == 1 else "secret2")
            return JSONResponse({"detail": "ended"}, 401) if turn == 1 else JSONResponse({"n": 1})
        if asked[-1] == "GET /cases":
            return JSONResponse({"detail": "locked"}, 423) if "POST /unlock" not in asked else JSONResponse([])
        if asked[-1] == "GET /me" and "GET /cases" in asked and "POST /unlock" not in asked:
            return JSONResponse({"detail": "locked"}, 423)
        if asked[-1] == "POST /locked":
            return JSONResponse({"detail": "'liver' is locked. Unlock it first."}, 423)
        return JSONResponse({"version": 1, "name": "ada"})

    url = serve_app(Starlette(routes=[Route("/api/v1/{path:path}", answer, methods=["GET", "POST"])]))
    with Client(url, user="ada", password="pw") as client:
        assert client.me["name"] == "ada"
        assert client._connection.request("POST", "/step").json() == {"n": 1}
        assert client.cases() == []
        # an object is not unlocked by a password
        with pytest.raises(InputError, match="'liver' is locked"):
            client._connection.request("POST", "/locked")
    assert asked[2:] == [
        "GET /me", "POST /step", "POST /login", "POST /step", "GET /cases", "GET /me", "POST /unlock", "GET /cases",
        "POST /locked", "GET /me",
    ]  # fmt: skip


def test_a_token_goes_with_every_request_and_is_named_when_it_is_not_known(scripted):
    url, server = scripted({"GET /me": [{"name": "script"}, JSONResponse({"detail": "Nobody has this token."}, 401)]})
    Client(url, "secret").close()
    assert {headers.get("authorization") for _, headers, _ in server.asked} == {"Bearer secret"}
    with pytest.raises(InputError, match="Nobody has this token") as raised:
        Client(url, "secret")
    assert raised.value.parameter == "token"
    assert "secret" not in str(raised.value)
