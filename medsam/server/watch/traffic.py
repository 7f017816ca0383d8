"""Every request has a number, a line in the log and a place in the metrics; named by its route, never by an id."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medsam.server.gate.guard import template
from medsam.server.gate.rules import PrefixRules, rules_for
from medsam.server.watch.metrics import Metrics

_LOG = logging.getLogger("medsam.server.requests")


class Traffic:
    """Sees every answer last, as it goes out."""

    def __init__(self, app: ASGIApp, table: tuple[PrefixRules, ...], metrics: Metrics) -> None:
        self.app, self._table, self._metrics = app, table, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = secrets.token_hex(8)
        began, status, until, size = time.perf_counter(), 0, 0.0, 0

        async def counted(message: Message) -> None:
            nonlocal status, until, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (b"x-request-id", number.encode())]
                if any(value.startswith(b"text/event-stream") for _, value in headers):
                    until = time.perf_counter() - began
                message = {**message, "headers": headers}
            size += len(message.get("body", b""))
            await send(message)

        scope.setdefault("state", {})["request"] = number
        try:
            await self.app(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - began
            rules = rules_for(scope["path"], self._table)
            path = "" if rules is None or scope.get("route") is None else rules.prefix + template(scope, rules)
            self._metrics.answered(scope["method"], path, status, until or seconds)
            reader = scope["state"].get("reader")
            fields = {
                "request": number,
                "method": scope["method"][:16],
                "route": path or "other",
                "status": status,
                "seconds": round(seconds, 4),
                "bytes": size,
                "reader": None if reader is None else reader.id,
            }
            _LOG.info("request", extra={"fields": fields})
