"""The page as the server hands it out: to whom, with which headers, and what no path reaches."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from medsam.server.app import API, create_app
from medsam.server.page.built import NOT_BUILT, Page
from medsam.server.settings import ServerSettings
from medsam.store.readers import Role

INDEX = b"<!doctype html><div id=app></div>"
SCRIPT = b"export const answer = 42;\n" * 100
LASTING = "public, max-age=31536000, immutable"
CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# a link on a page of another site, followed
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def built(folder: Path) -> Path:
    assets = folder / "built" / "assets"
    assets.mkdir(parents=True)
    (folder / "built" / "index.html").write_bytes(INDEX)
    (folder / "built" / "secret.txt").write_text("beside the page")
    (assets / "index-Ab3_-9xY.js").write_bytes(SCRIPT)
    (assets / "index-Ab3_-9xY.js.gz").write_bytes(gzip.compress(SCRIPT))
    for name in (
        "ort-C0ffee12.wasm",
        "net-C0ffee12.onnx",
        "icon-C0ffee12.svg",
        "look-C0ffee12.css",
        "ort-C0ffee12.mjs",
    ):
        (assets / name).write_bytes(name.encode())
    (assets / "plain.js").write_bytes(b"named by hand")
    (assets / "notes-C0ffee12.exe").write_bytes(b"of no kind that a page has")
    (assets / "folder-C0ffee12.js").mkdir()
    return folder / "built"


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_predictor):
    """A client of a server with a small page."""
    folder = tmp_path_factory.mktemp("page")
    app = create_app(ServerSettings(folder / "store"), tiny_predictor, Page.read(built(folder)))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        yield client


def test_the_page_and_its_files(page):
    answer = page.get("/")
    assert (answer.status_code, answer.content) == (200, INDEX)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    types = {
        "index-Ab3_-9xY.js": "text/javascript; charset=utf-8",
        "ort-C0ffee12.mjs": "text/javascript; charset=utf-8",
        "ort-C0ffee12.wasm": "application/wasm",
        "net-C0ffee12.onnx": "application/octet-stream",
        "icon-C0ffee12.svg": "image/svg+xml",
        "look-C0ffee12.css": "text/css; charset=utf-8",
    }
    for name, kind in types.items():
        answer = page.get(f"/assets/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind), name
    head = page.head("/")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(INDEX)))


def test_what_the_page_may_do_is_said_in_every_answer(page):
    for path in ("/", "/assets/index-Ab3_-9xY.js", "/assets/nothing.js"):
        headers = page.get(path).headers
        assert headers["content-security-policy"] == CSP, path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert headers["cross-origin-opener-policy"] == "same-origin", path
        assert headers["cross-origin-embedder-policy"] == "require-corp", path
    # answers of the interface may do nothing at all
    assert page.get(f"{API}/version").headers["content-security-policy"].startswith("default-src 'none'; frame-anc")


def test_files_whose_name_changes_with_them_are_kept_for_good(page):
    assert page.get("/assets/index-Ab3_-9xY.js").headers["cache-control"] == LASTING
    for path in ("/", "/assets/plain.js"):
        answer = page.get(path)
        assert answer.headers["cache-control"] == "no-cache", path
        etag = answer.headers["etag"]
        for told in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = page.get(path, headers={"If-None-Match": told})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag), told
        assert page.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert page.get("/assets/nothing.js").headers["cache-control"] == "no-store"


def test_what_was_packed_is_sent_packed_to_those_who_take_it(page):
    path = "/assets/index-Ab3_-9xY.js"
    for accepted, packed in (("gzip, br", True), ("*", True), ("br", False), ("gzip;q=0", False), ("", False)):
        answer = page.get(path, headers={"Accept-Encoding": accepted})
        assert answer.content == SCRIPT, accepted
        assert (answer.headers.get("content-encoding") == "gzip") == packed, accepted
        assert answer.headers["vary"] == "accept-encoding"
        assert (int(answer.headers["content-length"]) < len(SCRIPT)) == packed
    assert page.get(f"{path}.gz").status_code == 404


def test_no_path_reaches_anything_else(page):
    kept_out = (
        "/index.html",
        "/secret.txt",
        "/assets",
        "/assets/",
        "/assets/folder-C0ffee12.js",
        "/assets/notes-C0ffee12.exe",
        "/assets/../index.html",
        "/assets/%2e%2e/secret.txt",
        "/assets/..%2fsecret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fbuilt.py",
        "/assets/%2fetc%2fpasswd",
        "/assets/index-Ab3_-9xY.js/",
        "/assets/index-Ab3_-9xY.js%00",
        "/assets//index-Ab3_-9xY.js",
        "/built/index.html",
    )
    for path in kept_out:
        assert page.get(path).status_code == 404, path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/assets/plain.js"):
            assert page.request(method, path).status_code == 405, (method, path)
    assert page.post("/", content=b"more than nothing").status_code in (405, 413)


def test_other_sites_may_link_to_the_page_and_nothing_more(page):
    assert page.get("/", headers=LINK).status_code == 200
    assert page.get("/", headers={**LINK, "Sec-Fetch-Site": "same-site"}).status_code == 200
    refused = [
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Dest": "embed"},
        {"Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Mode": "cors"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ]
    for change in refused:
        assert page.get("/", headers={**LINK, **change}).status_code == 403, change
    for name in ("Sec-Fetch-Mode", "Sec-Fetch-Dest"):
        assert page.get("/", headers={key: value for key, value in LINK.items() if key != name}).status_code == 403
    for method, path in (
        ("HEAD", "/"),
        ("POST", "/"),
        ("GET", "/assets/index-Ab3_-9xY.js"),
        ("GET", f"{API}/me"),
        ("GET", f"{API}/cases"),
        ("GET", f"{API}/version"),
        ("GET", "/health"),
        ("POST", f"{API}/cases"),
    ):
        assert page.request(method, path, headers=LINK).status_code == 403, (method, path)
    assert page.get("/", headers={**LINK, "Host": "evil.example"}).status_code == 421


def test_the_page_needs_no_login_and_opens_nothing(tmp_path, tiny_predictor):
    app = create_app(ServerSettings(tmp_path / "store"), tiny_predictor, Page.read(built(tmp_path)))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        store = client.app.state.services.store
        store.add_user("anna", Role.ADMINISTRATOR, kind="proxy")
        tried = ({}, {"Authorization": "Bearer nothing"}, {"Cookie": "medsam=nothing"})
        for headers in tried:
            for path in ("/", "/assets/index-Ab3_-9xY.js"):
                assert client.get(path, headers=headers).status_code == 200, (path, headers)
            assert client.get(f"{API}/cases", headers=headers).status_code == 401
        assert client.get("/assets/nothing.js").status_code == 404
        assert "set-cookie" not in client.get("/").headers
        # nobody was there: not a line in the audit
        assert list(store.audit_lines(limit=10)) == []


def test_so_many_requests_a_minute_from_an_address(tmp_path, tiny_predictor):
    from medsam.server.settings import Limits

    settings = ServerSettings(tmp_path / "store", limits=Limits(requests_per_minute=20))
    with TestClient(
        create_app(settings, tiny_predictor, Page.read(built(tmp_path))),
        base_url="http://127.0.0.1:8000",
        client=("127.0.0.1", 50000),
    ) as client:
        answers = [client.get(f"/assets/{number}.js").status_code for number in range(30)]
        assert answers[:20] == [404] * 20
        assert 429 in answers[20:]
        # it is counted by itself
        assert client.get("/").status_code == 200
        assert client.get(f"{API}/version").status_code == 200


def test_without_a_build_it_says_what_to_do(tmp_path, tiny_predictor):
    app = create_app(ServerSettings(tmp_path / "store"), tiny_predictor, Page.read(tmp_path / "nothing"))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        answer = client.get("/")
        assert answer.status_code == 404
        assert "./scripts/build-viewer" in NOT_BUILT
        assert NOT_BUILT in answer.text
        assert answer.headers["content-security-policy"] == CSP
        assert client.get(f"{API}/version").status_code == 200


def test_a_file_is_unpacked_once_however_often_it_is_asked_for_as_it_is(tmp_path, tiny_predictor, monkeypatch):
    unpacked, decompress = [], gzip.decompress
    monkeypatch.setattr(
        "medsam.server.page.built.gzip.decompress", lambda content: unpacked.append(content) or decompress(content)
    )
    app = create_app(ServerSettings(tmp_path / "store"), tiny_predictor, Page.read(built(tmp_path)))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        path, plain = "/assets/index-Ab3_-9xY.js", {"Accept-Encoding": "identity"}
        with ThreadPoolExecutor(8) as several:
            answers = list(several.map(lambda method: client.request(method, path, headers=plain), ["GET", "HEAD"] * 8))
    assert {answer.headers["content-length"] for answer in answers} == {str(len(SCRIPT))}
    assert {answer.content for answer in answers} == {SCRIPT, b""}
    assert len(unpacked) == 1
