"""The gate: every request passes it before a room sees it, and routes find the reader in `request.state`."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from medsam.server.readers import Reader, Role

# where nobody logs in, on one's own machine
LOCAL = Reader(1, "local", Role.ADMINISTRATOR)


class Guard:
    """Says who asks. Without users that is the one reader of this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["reader"] = LOCAL
        await self.app(scope, receive, send)
