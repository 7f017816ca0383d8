"""Bodies, read whole before a route runs: their bytes counted as they come, JSON looked at before it is parsed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import anyio
from starlette.types import Message, Receive

from medsam.server.gate.request import Asked, Refused

_JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json\s*(;.*)?", re.I)
# deeper than any request of ours; parsers recurse
_DEPTH = 64
# between two pieces of a body, and for all of it at the least speed that is waited for
_PAUSE_S, _LEAST_BYTES_PER_S = 30.0, 2048
_TOKEN = re.compile(rb'["\\\[\]{}NI]')


def is_json(asked: Asked) -> bool:
    """Whether the body is JSON, as it is where nothing else is said."""
    return _JSON.fullmatch(asked.one("content-type") or "application/json") is not None


async def read_body(asked: Asked, receive: Receive, most: int, most_json: int) -> bytes:
    """The whole body. Raises Refused: 413 for more bytes, 408 for a slow client, 400 for one that left or bad JSON."""
    json = is_json(asked)
    most = min(most, most_json) if json else most
    announced = asked.one("content-length")
    if announced is not None and announced.isdecimal() and int(announced) > most:
        raise too_large(most)
    if announced == "0" or (announced is None and "transfer-encoding" not in asked.headers):
        return b""
    body, scan = bytearray(), JsonScan()
    with anyio.move_on_after(_PAUSE_S + most / _LEAST_BYTES_PER_S):
        async for piece in _pieces(receive):
            body += piece
            if len(body) > most:
                raise too_large(most)
            if json:
                scan.feed(piece)
        return bytes(body)
    raise Refused(408, "The request came too slowly.")


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message: Message = {}
        with anyio.move_on_after(_PAUSE_S):
            message = await receive()
        if not message:
            raise Refused(408, "The request came too slowly.")
        if message["type"] != "http.request":
            raise Refused(400, "The request broke off.")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def too_large(most: int) -> Refused:
    """A refusal that says how much is taken."""
    return Refused(413, f"The request is too large: {most} bytes are taken here at most.")


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class JsonScan:
    """Follows the brackets of JSON that comes in pieces; refuses what is too deep, and Python's NaN and Infinity."""

    def __init__(self) -> None:
        self._depth, self._in_text, self._escape_until, self._at = 0, False, -1, 0

    def feed(self, piece: bytes) -> None:
        """The next bytes. Raises Refused (400)."""
        for found in _TOKEN.finditer(piece):
            token, place = found[0], self._at + found.start()
            if self._in_text:
                if place == self._escape_until:
                    continue
                if token == b"\\":
                    self._escape_until = place + 1
                elif token == b'"':
                    self._in_text = False
            elif token == b'"':
                self._in_text = True
            elif token in b"[{":
                self._depth += 1
                if self._depth > _DEPTH:
                    raise Refused(400, f"The JSON is nested deeper than {_DEPTH} levels.")
            elif token in b"]}":
                self._depth -= 1
            elif token in b"NI":
                raise Refused(400, "The body is no JSON: numbers in it have to be finite.")
        self._at += len(piece)
