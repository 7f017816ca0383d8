"""What `serve_hostile.py` sends: requests with strange names, credentials, rights and paths. Bytes over sockets."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

PASSWORD = "a long enough one"
API = "/api/v1"
# refused, in whatever words
REFUSED = (400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 421, 422, 429, 431)


@dataclass(frozen=True)
class Answer:
    """status: 0 where the connection was closed without one."""

    status: int
    body: bytes = b""


@dataclass
class Target:
    """The server, and what attackers know. tokens, cookies: by name. case, session: ben's. shared: a case of all."""

    port: int
    tokens: dict[str, str]
    cookies: dict[str, str]
    csrf: dict[str, str]
    keys: dict[str, str]
    outside: str
    case: str = ""
    shared: str = ""
    session: str = ""
    answers: list[Answer] = field(default_factory=list)

    def send(self, data: bytes, seconds: float = 20.0) -> Answer:
        """Bytes as they are, and the answer up to the connection's end."""
        found = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as one:
            with suppress(OSError):  # it may have answered before it had all
                one.sendall(data)
            while piece := one.recv(2**16):
                found += piece
        head, _, body = found.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 (\d{3})", head)
        answer = Answer(int(status[1]) if status else 0, body)
        self.answers.append(answer)
        return answer

    def ask(
        self,
        method: str,
        path: str,
        *lines: str,
        body: bytes | None = None,
        by: str | None = "ben",
        host: str = "127.0.0.1",
        form: str = "application/json",
    ) -> Answer:
        """A request, put together without looking. lines: of its head. by: whose token. {case} and its like are filled
        in."""
        head = [f"{method} {self.filled(path)} HTTP/1.1", f"Host: {host}", "Connection: close"]
        head += [self.filled(line) for line in lines]
        if by is not None:
            head.append(f"Authorization: Bearer {self.tokens[by]}")
        if body is not None:
            head += [f"Content-Length: {len(body)}", f"Content-Type: {form}"]
        return self.send("\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + (body or b""))

    def filled(self, text: str) -> str:
        """What this target has in place of {case}, {session}, {cookies[ben]}."""
        return text.format(**vars(self)) if re.search(r"{[a-z]", text) else text


Request = Callable[[Target], Answer]


@dataclass(frozen=True)
class Attack:
    """expected: the statuses that are no failure."""

    name: str
    send: Request
    expected: Sequence[int]


def asked(method: str, path: str, *lines: str, **options: Any) -> Request:
    """See `Target.ask`; the path is behind the prefix of the interface, or whole where it is not its own."""

    def send(target: Target) -> Answer:
        return target.ask(method, path, *lines, **options)

    return send


def told(method: str, path: str, value: Any, *lines: str, by: str | None = "ben") -> Request:
    """A request whose body is JSON; {case} and its like in texts of it are filled in, too."""

    def send(target: Target) -> Answer:
        text = json.dumps(value)
        for name in ("case", "shared", "session"):
            text = text.replace(f"{{{name}}}", getattr(target, name))
        return target.ask(method, API + path, *lines, body=text.encode(), by=by)

    return send


def sent(data: bytes) -> Request:
    """Bytes as they are."""

    def send(target: Target) -> Answer:
        return target.send(data)

    return send


def request_head(method: str, path: str, *lines: str) -> bytes:
    """Up to its empty line."""
    return "\r\n".join(
        [f"{method} {API}{path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines, "", ""]
    ).encode()


# -- what is tried ----------------------------------------------------------------------------------------------------


def hosts_and_origins() -> Iterator[Attack]:
    """DNS rebinding and pages of other sites."""
    strange = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil.example", "[::2]")
    for host in strange:
        yield Attack(f"host {host}", asked("GET", f"{API}/me", host=host), (400, 421))
    yield Attack("no host", sent(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"), (400,))
    two = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    yield Attack("two hosts", sent(two), (400,))
    absolute = b"GET http://evil.example/api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    yield Attack("absolute target", sent(absolute), (400, 404, 421))
    yield Attack("forwarded host", asked("GET", f"{API}/me", "X-Forwarded-Host: evil.example"), (200,))
    cookie = "Cookie: medsam={cookies[ben]}"
    csrf = "X-Medsam-Csrf: {csrf[ben]}"
    origins = ("http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1@evil.example", "")
    for line in (
        *(f"Origin: {origin}" for origin in origins),
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ):
        for method, path in (("POST", "/logout"), ("POST", "/tokens"), ("DELETE", "/sessions/x"), ("GET", "/cases")):
            request = asked(method, API + path, cookie, csrf, line, by=None)
            yield Attack(f"{line} {method} {path}", request, (403,))
    login = asked(
        "POST", f"{API}/login", "Origin: http://evil.example", body=b'{"name":"a"}', by=None, form="text/plain"
    )
    yield Attack("a form of another site logs in", login, (403,))
    preflight = ("Origin: http://evil.example", "Access-Control-Request-Method: DELETE")
    yield Attack("preflight", asked("OPTIONS", f"{API}/cases", *preflight, by=None), (403,))


def credentials() -> Iterator[Attack]:
    """Tokens, cookies and their csrf: replayed, expired, of others, guessed; a proxy's header from somebody else."""
    for who in ("expired", "revoked", "left", "guessed"):
        yield Attack(f"token {who}", asked("GET", f"{API}/cases", by=who), (401,))
    for who in ("ended", "guessed", "old"):
        request = asked("GET", f"{API}/cases", f"Cookie: medsam={{cookies[{who}]}}", by=None)
        yield Attack(f"cookie {who}", request, (401,))
    for path in ("/cases", "/me", "/tokens", "/sessions", "/users"):
        request = asked("GET", API + path, "Cookie: medsam={cookies[locked]}", by=None)
        yield Attack(f"locked cookie {path}", request, (423,))
    mine = "Cookie: medsam={cookies[ben]}"
    yield Attack("csrf missing", asked("POST", f"{API}/tokens", mine, by=None), (403,))
    for who in ("clara", "ended"):
        request = asked("POST", f"{API}/tokens", mine, f"X-Medsam-Csrf: {{csrf[{who}]}}", by=None)
        yield Attack(f"csrf of {who}", request, (403,))
    two = asked("GET", f"{API}/me", mine + "; medsam={cookies[clara]}", by=None)
    yield Attack("two cookies", two, (401,))
    both = asked("GET", f"{API}/me", "Authorization: Bearer {tokens[clara]}")
    yield Attack("two authorizations", both, (400,))
    for value in ("Bearer", "Bearer ", "Bearer \x80\xff", "Basic YmVuOmJlbg==", "bearer null", "Bearer " + "a" * 8000):
        request = asked("GET", f"{API}/me", f"Authorization: {value}", by=None)
        yield Attack(f"authorization {value[:20]!a}", request, (400, 401))
    for name in ("X-Forwarded-User", "x-forwarded-USER"):
        yield Attack(f"{name} from anybody", asked("GET", f"{API}/me", f"{name}: root", by=None), (403,))
        yield Attack(f"{name} beside a token", asked("GET", f"{API}/users", f"{name}: root"), (403,))
        yield Attack(f"{name} for health", asked("GET", "/health", f"{name}: root", by=None), (403,))
    chain = "X-Forwarded-For: 10.99.99.99"
    request = asked("GET", f"{API}/me", chain, "X-Forwarded-User: root", by=None)
    yield Attack("the proxy's address in a header", request, (403,))
    yield Attack("numbers of the server through a proxy", asked("GET", "/metrics", chain, by=None), (401,))
    names = ("root", "nobody", "root' OR '1'='1", "root\0", "\ud800", "a" * 5000, "local")
    for name in names:
        request = told("POST", "/login", {"name": name, "password": "x"}, by=None)
        yield Attack(f"login {name[:12]!a}", request, (401, 413, 422))

    def guess(target: Target) -> Answer:
        one = told("POST", "/login", {"name": "root", "password": "guess"}, by=None)
        return [one(target) for _ in range(24)][-1]

    yield Attack("guessing on", guess, (429,))
    request = told("POST", "/login", {"name": "root", "password": PASSWORD}, by=None)
    yield Attack("the right one among the guesses", request, (429,))


def rights() -> Iterator[Attack]:
    """What is not a reader's to do, and what is somebody else's."""
    change = {"role": "administrator"}
    for method, path in (("POST", "/users"), ("PATCH", "/users/{keys[root]}"), ("PATCH", "/users/{keys[ben]}")):
        yield Attack(f"a reader's {method} {path}", told(method, path, change), (403,))
    for path in ("/users", "/audit", "/audit?limit=1"):
        yield Attack(f"a reader's {path}", asked("GET", API + path), (403,))
    yield Attack("a token makes tokens", told("POST", "/tokens", {"name": "more"}), (403,))
    yield Attack("clara revokes ben's", asked("DELETE", API + "/tokens/{keys[token]}", by="clara"), (404,))
    of_case: dict[str, Any] = {
        "GET ": None, "DELETE ": None, "POST /open": None, "GET /geometry": None, "GET /volume": None,
        "GET /slices/k/0": None, "GET /thumbnail": None, "POST /share": {"user": "clara"},
    }  # fmt: skip
    for key, body in of_case.items():
        method, _, path = key.partition(" ")
        yield Attack(f"clara at ben's case: {key}", told(method, "/cases/{case}" + path, body, by="clara"), (404,))
    yield Attack("clara reads ben's case", told("POST", "/sessions", {"case": "{case}"}, by="clara"), (404,))
    yield Attack("clara deletes what is of all", asked("DELETE", API + "/cases/{shared}", by="clara"), (403, 404))
    of_session: dict[str, Any] = {
        "GET ": None, "DELETE ": None, "GET /changes?since=0": None, "GET /events": None, "GET /prompts": None,
        "GET /labels?format=nifti": None, "GET /probabilities?object=1&slice=1": None, "POST /undo": None,
        "POST /prompts": {"object": 1, "slice": 1, "box": [1, 1, 9, 9]}, "POST /redo": None, "POST /reset": None,
        "POST /objects": {"name": "x"}, "PATCH /objects/1": {"name": "x"}, "PUT /view": {"slice": 1},
        "POST /propagate": {"object": 1}, "POST /send": {"server": "x"}, "DELETE /jobs/x": None,
        "PATCH ": {"keep_range": None}, "DELETE /objects/1": None, "POST /interpolate": {"object": 1},
        "GET /measures": None, "GET /candidates?object=1&slice=1": None, "POST /compare": {"session": "{session}"},
        "GET /compare/x/masks": None, "GET /labels?format=csv": None,
    }  # fmt: skip
    for key, body in of_session.items():
        method, _, path = key.partition(" ")
        request = told(method, "/sessions/{session}" + path, body, by="clara")
        yield Attack(f"clara at ben's session: {key}", request, (404,))
    start = {"case": "{shared}", "start": {"session": "{session}"}}
    mine = told("POST", "/sessions/{session}/compare", {"session": "x"})
    yield Attack("ben compares with what there is not", mine, (404,))
    yield Attack("clara goes on from ben's session", told("POST", "/sessions", start, by="clara"), (404, 422))


def drawings() -> Iterator[Attack]:
    """Masks and labels that are none, or would take all memory."""
    sizes = ([2**31, 2**31], [-1, 5], [0, 0], [2**64, 1], ["a", "b"], [[1], [2]], [1.5, 2], None)
    masks: list[Any] = [{"size": size, "counts": "04"} for size in sizes]
    runs: list[Any] = ["", "z" * 10**6, "\x00", [1, -1], [2**70], 7, {}, "04"]
    masks += [{"size": [24, 32], "counts": counts} for counts in runs]
    masks += ["/etc/passwd", "../medsam.db", [], 1, {"size": [4, 24, 32], "slices": {"9" * 30: "04"}}]
    for number, mask in enumerate(masks):
        for key in ("drawn", "mask"):
            step = told("POST", "/sessions/{session}/prompts", {"object": 1, "slice": 1, key: mask})
            yield Attack(f"{key} {number}", step, (200, 413, 422) if key == "drawn" else (413, 422))
    ranges: list[Any] = [[1], [1, 2, 3], ["a", 2], [5, 1], "all", {"low": 1}, [1e400, 2], [[], None]]
    for values in ranges:
        yield Attack(f"range {values}", told("PATCH", "/sessions/{session}", {"keep_range": values}), (400, 422))
    bodies = {
        "text": (b"liver", "application/octet-stream"),
        "gzip of nothing": (b"\x1f\x8b" + b"\0" * 60, "application/octet-stream"),
        "no boundary": (b"x", "multipart/form-data"),
        "half a part": (
            b"--x\r\nContent-Disposition: form-data; filename=../../a.nii\r\n\r\nx",
            "multipart/form-data; boundary=x",
        ),
        "json of text": (b"liver", "application/json"),
        "deep json": (b"[" * 5000, "application/json"),
        "a list": (b"[]", "application/json"),
    }
    for name, (body, form) in bodies.items():
        for file in ("labels.nii.gz", "..%2f..%2fmedsam.db", "a.dcm", "%00", "x.seg.nrrd"):
            request = asked("POST", API + "/sessions/{session}/compare", f"X-Filename: {file}", body=body, form=form)
            yield Attack(f"compare with {name}, {file}", request, (400, 422))
    header = (
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 32 24 4\nencoding: raw\ndata file: ../../../../etc/passwd\n\n"
    )
    request = asked(
        "POST", API + "/sessions/{session}/compare", "X-Filename: a.nrrd", body=header, form="application/octet-stream"
    )
    yield Attack("labels whose voxels are another file", request, (422,))
    asked_for = ("object=1&slice=-1", "object=x&slice=1", "object=1&slice=99999999999999999999", "object=1", "slice=1")
    for query in asked_for:
        yield Attack(f"candidates {query}", asked("GET", API + "/sessions/{session}/candidates?" + query), (422,))
    yield Attack("names without an end", asked("GET", f"{API}/vocabulary?q=" + "a" * 5000), (422,))
    yield Attack("names by a pattern", asked("GET", f"{API}/vocabulary?q=(a%2B)%2B%24&limit=500"), (200,))


def paths() -> Iterator[Attack]:
    """Ways out of the folders, in every place where an id belongs."""
    tricks = (
        "..", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%5c..%5cetc",
        "%00", "a%00.nii.gz", "%c0%ae%c0%ae", "%ff", "....//....//etc/passwd", "/etc/passwd", "%2fetc%2fpasswd",
        "a" * 900, "%0d%0aSet-Cookie:%20a=b", "*", "'%20OR%201=1--", "%F0%9F%92%A9", "-1", "CON", "~root", "%",
    )  # fmt: skip
    places = (
        "/cases/{0}", "/cases/{0}/volume", "/cases/{0}/slices/k/0", "/sessions/{0}", "/users/{0}",
        "/sessions/{0}/labels?format=nifti", "/tokens/{0}", "/sessions/{0}/objects/{0}", "/sessions/{0}/jobs/{0}",
        "/cases/{0}/thumbnail", "/sessions/{0}/measures", "/sessions/{0}/compare/{0}/masks",
    )  # fmt: skip
    refused = (400, 404, 405, 422)

    def everywhere(trick: str) -> Request:
        def send(target: Target) -> Answer:
            found = [target.ask("GET", API + place.replace("{0}", trick), by="root") for place in places]
            return next((one for one in found if one.status not in refused), found[0])

        return send

    for trick in tricks:
        yield Attack(f"id {trick[:30]}", everywhere(trick), refused)
    for method in ("TRACE", "CONNECT", "PROPFIND", "FOO", "get"):
        yield Attack(f"method {method}", asked(method, f"{API}/cases"), (400, 404, 405))
    unknown = ("/docs", "/redoc", "/openapi.json", "/.git/config", API, f"{API}/", "/static/../x", "/API/V1/me")
    for path in (*unknown, "/index.html", "/assets", "/assets/", "/assets/nothing.js", "/assets/../index.html"):
        yield Attack(f"path {path}", asked("GET", path, by=None), (401, 404))
