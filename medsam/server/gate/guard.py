"""The gate itself: every request passes it before a room sees it. Routes find the reader in `request.state`.

In this order: the path, the name that the server was called by, the rules of the prefix, who asks, from which page,
how often, the body. Whatever goes no further is answered here; what passes is audited before the answer's first byte.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medsam.server.errors import DroppedAnswer, refusal
from medsam.server.gate.bodies import is_json, read_body, replay
from medsam.server.gate.identity import LOG_IN, Gate, Present, too_many
from medsam.server.gate.origins import check_csrf, check_host, check_origin
from medsam.server.gate.request import Asked, Refused, check_head, check_path
from medsam.server.gate.rules import AMBIENT, DATA_HEADERS, FAILURES, ONCE, PrefixRules, rules_for
from medsam.server.services import Services

# a client that takes nothing for so long is given up
_SEND_S = 60.0
# how often a stream of events asks whether its reader may still listen
_STILL_S = 5.0
# of a body that is refused, what is read all the same, so that the client gets to see the answer
_DRAINED, _DRAIN_S = 2**18, 1.0


class SecureHeaders:
    """Adds the headers of a prefix to every answer below it, refusals and defects too.

    https: whether browsers are told to come by https alone from now on.
    """

    def __init__(self, app: ASGIApp, table: tuple[PrefixRules, ...], https: bool) -> None:
        self.app, self._table = app, table
        self._always = {"strict-transport-security": "max-age=31536000"} if https else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        rules = rules_for(scope["path"], self._table)
        named = {**(rules.headers if rules else DATA_HEADERS), **self._always}
        wanted = {name.encode(): value.encode() for name, value in named.items()}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(name.lower(), value) for name, value in message.get("headers", [])]
                there = {name for name, _ in given}
                message = {**message, "headers": [*given, *(pair for pair in wanted.items() if pair[0] not in there)]}
            await send(message)

        await self.app(scope, receive, with_headers)


class Guard:
    """See the top of this file. table: the rules of all prefixes."""

    def __init__(self, app: ASGIApp, table: tuple[PrefixRules, ...]) -> None:
        self.app, self._table = app, table
        self._listening: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        try:
            check_head(scope)
            asked = Asked.of(scope, services.settings.proxy)
            rules = self._rules(asked, services)
            if asked.method == "OPTIONS" and await _preflight(asked, rules, scope, receive, send):
                return
            present = await self._present(asked, rules, services.gate)
            body = await self._body(asked, rules, receive)
        except Refused as refused:
            await _refuse(refused, scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["asked"], state["present"], state["unstored"] = asked, present, rules.unstored
        state["reader"] = present.reader if present is not None else None
        receive = receive if body is None else replay(body, receive)
        passive = present is not None and asked.path.endswith(rules.passive)
        await self._pass(Passage(asked, rules, present, services, scope), passive, receive, send)

    def _rules(self, asked: Asked, services: Services) -> PrefixRules:
        check_path(asked)
        check_host(asked, services.settings)
        rules = rules_for(asked.path, self._table)
        if rules is None:
            raise Refused(404, "Not Found")
        return rules

    async def _present(self, asked: Asked, rules: PrefixRules, gate: Gate) -> Present | None:
        """Who asks, if they may ask this at all."""
        key = asked.key(rules.prefix)
        check_origin(asked, rules, gate.https)
        gate.check_proxy(asked)
        if rules.public:
            # in one count for all paths: there are as many as somebody can type
            gate.count_stranger(asked, rules.prefix)
            return None
        try:
            present = await gate.recognise(asked, rules, locked=key in rules.unlocks)
        except Refused:
            if key not in rules.open:
                gate.count_stranger(asked)
                raise
            present = None
        if present is None:
            # after the look, so that no stranger keeps out a reader who comes from the same address
            gate.count_stranger(asked, key if key in rules.open else "")
            if key not in rules.open:
                raise Refused(401, LOG_IN)
            return None
        if present.way != "local" and (wait := gate.readers.wait(present.reader.id)) > 0:
            raise too_many(wait, "Too many requests")
        if present.way in AMBIENT:
            if asked.one("origin") in rules.origins:
                raise Refused(403, "Pages of other sites need a token.")
            if rules.csrf and key not in rules.open | rules.unlocks:
                check_csrf(asked, present.csrf)
        if not asked.path.endswith(rules.passive) and key not in rules.unlocks:
            await gate.seen(present)
        return present

    async def _body(self, asked: Asked, rules: PrefixRules, receive: Receive) -> bytes | None:
        """The whole body; None where the route reads it."""
        key = asked.key(rules.prefix)
        if (
            key in rules.uncounted
            or asked.method in rules.unread
            or (asked.method == "POST" and asked.path.endswith(rules.files) and not is_json(asked))
        ):
            return None
        own = rules.bodies.get(key)
        return await read_body(asked, receive, own or rules.body_bytes, own or rules.json_bytes)

    async def _pass(self, passage: Passage, passive: bool, receive: Receive, send: Send) -> None:
        if not passive or passage.present is None:
            await passage.run(self.app, receive, send)
            return
        reader, most = passage.present.reader.id, passage.services.settings.limits.streams_per_reader
        if self._listening[reader] >= most:
            await _refuse(too_many(1.0, "Too many streams at a time"), passage.scope, receive, send)
            return
        self._listening[reader] += 1
        try:
            await passage.run(self.app, receive, send)
        finally:
            self._listening[reader] -= 1
            self._listening += Counter()  # forgets who has none


class Passage:
    """A request that was let in, until its answer is out."""

    def __init__(
        self, asked: Asked, rules: PrefixRules, present: Present | None, services: Services, scope: Scope
    ) -> None:
        self.asked, self.rules, self.present, self.services, self.scope = asked, rules, present, services, scope

    async def run(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        """Have the app answer; a stream of events ends when its reader may no longer listen."""
        stream = asyncio.Event()

        async def out(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._audit(message["status"])
                message = self._with_cors(message)
                if any(value.startswith(b"text/event-stream") for _, value in message.get("headers", [])):
                    stream.set()
            with anyio.move_on_after(_SEND_S) as waiting:
                await send(message)
            if waiting.cancelled_caught:
                raise DroppedAnswer("a client took nothing")

        with anyio.CancelScope() as scope:
            watching = None
            try:
                if self.present is not None:
                    watching = asyncio.create_task(self._watch(stream, scope))
                await app(self.scope, receive, out)
            finally:
                if watching is not None:
                    watching.cancel()
        if scope.cancelled_caught:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, stream: asyncio.Event, scope: anyio.CancelScope) -> None:
        await stream.wait()
        while True:
            await asyncio.sleep(_STILL_S)
            try:
                if await self.services.gate.recognise(self.asked, self.rules) is None:
                    break
            except Refused:
                break
        scope.cancel()

    async def _audit(self, status: int) -> None:
        ids = {**self.scope.get("path_params", {}), **self.scope["state"].get("audited", {})}
        route = template(self.scope, self.rules)
        # a route may have another word for what it did, or None
        what = ids.pop("what", self.rules.audited.get(f"{self.asked.method} {route}"))
        if status in (403, 404) and route and self.present is not None:
            # the ids are whatever somebody typed
            what, ids = "refused", {"route": f"{self.asked.method} {route}", "status": status}
        elif status >= 400:
            what = f"{what} failed" if what in FAILURES else None
        if what is None:
            return
        write = partial(audit, self.services, self.present, self.asked, what, **ids)
        if what in ONCE and self.present is not None:
            await self.services.gate.once(self.present, what, ids, write)
        else:
            await write()

    def _with_cors(self, message: Message) -> Message:
        origin = self.asked.one("origin")
        if origin is None or origin not in self.rules.origins:
            return message
        return {**message, "headers": [*message.get("headers", []), *_cors(origin)]}


def template(scope: Scope, rules: PrefixRules) -> str:
    """The path of the route that answers, behind the prefix: "/cases/{case}"; "" where there is none."""
    return str(getattr(scope.get("route"), "path", "")).removeprefix(rules.prefix)


async def audit(services: Services, present: Present | None, asked: Asked, what: str, **ids: Any) -> None:
    """One line. ids: of what it was about, nothing else; a session's case is found where it is not among them."""
    store, reader = services.store, None if present is None else present.reader
    reading = ids.pop("reading", ids.pop("session", None))
    case = ids.pop("case", None)
    details = {key: value if isinstance(value, int) else str(value)[:100] for key, value in ids.items()}

    def write() -> None:
        known = store.reading(reader, reading) if reader is not None and reading is not None and case is None else None
        about = case if known is None else store.case_of(known.case).key
        store.audit(reader, what, case=about, reading=reading, address=asked.address, details=details)

    await services.gate.writing(write)


async def _refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    headers = dict(refused.headers)
    told = {name.lower() for name, _ in scope["headers"]}
    body = told & {b"content-length", b"transfer-encoding"}
    # who asks first whether the body is wanted is told no
    if body and (b"expect" in told or not await _drained(receive)):
        headers["Connection"] = "close"
    await refusal(refused.status, refused.detail, headers=headers)(scope, receive, send)


async def _drained(receive: Callable[[], Awaitable[Message]]) -> bool:
    """Whether the rest of a body was short enough to be read."""
    left = _DRAINED
    with anyio.move_on_after(_DRAIN_S):
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return True
    return False


async def _preflight(asked: Asked, rules: PrefixRules, scope: Scope, receive: Receive, send: Send) -> bool:
    """Answer a browser that asks whether another page may call; only those of `rules.origins` may."""
    origin = asked.one("origin")
    if origin is None or "access-control-request-method" not in asked.headers:
        return False
    if origin not in rules.origins:
        raise Refused(403, "Pages of other sites may not call this server.")
    allowed = [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
        (b"access-control-allow-headers", b"authorization, content-type, accept, range"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": [*_cors(origin), *allowed]})
    await send({"type": "http.response.body", "body": b""})
    return True


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]
