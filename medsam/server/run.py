"""Serving: uvicorn in this process, on a socket that is bound before the model is loaded.

Told to end (Ctrl-C, SIGTERM), it takes no further connections, has streams of events end, waits for the answers under
way, and closes the services; a second Ctrl-C does not wait. What was confirmed is on the disk in any case.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from medsam.errors import InputError
from medsam.server.app import create_app
from medsam.server.settings import ServerSettings
from medsam.server.watch.logs import log_to_stderr

# head of a request: how long it may take to come, and its bytes
_HEAD_S, _HEAD_BYTES = 15.0, 32 * 1024
_KEEP_ALIVE_S, _LEAVE_S = 30, 20
_CONNECTIONS = 1000


@dataclass(frozen=True)
class Certificate:
    """Of the server itself, in PEM, when no proxy in front speaks https."""

    certificate: Path
    key: Path | None = None


def bind(host: str, port: int) -> socket.socket:
    """A socket that nobody can connect to yet. port: 0 for any free one. Raises InputError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":
                # a port is free again when its server has just ended
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise InputError(
            f"Nobody can listen at `host` {host}, `port` {port}: {error.strerror or error}.", parameter=("port", "host")
        ) from None
    return found


def serve(
    settings: ServerSettings,
    listening: socket.socket,
    *,
    certificate: Certificate | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> int | None:
    """Serve until told to end; returns the signal. started: called with the address once requests are answered.

    Raises what `open_services` raises, and InputError for a certificate that cannot be used.
    """
    with listening:
        return asyncio.run(_serve(settings, listening, certificate, started))


async def _serve(
    settings: ServerSettings,
    listening: socket.socket,
    certificate: Certificate | None,
    started: Callable[[str], None],
) -> int | None:
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=_Patient,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LEAVE_S,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        limit_concurrency=_CONNECTIONS,
        ssl_certfile=None if certificate is None else certificate.certificate,
        ssl_keyfile=None if certificate is None else certificate.key,
    )
    try:
        config.load()
    except OSError:  # ssl.SSLError is one
        raise InputError("The `certificate` or its `key` cannot be used.", parameter=("certificate", "key")) from None
    async with app.router.lifespan_context(app):
        log_to_stderr()
        server = _Server(config, app.state.services.closing)
        host, port = listening.getsockname()[:2]
        scheme = "http" if certificate is None else "https"
        name = f"[{host}]" if ":" in host else host
        server.when_started = lambda: started(f"{scheme}://{name}:{port}")
        await server.serve(sockets=[listening])
        return server.told


class _Server(uvicorn.Server):
    """Says when it is told to end, and leaves what follows a signal to its caller."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing, self._loop = closing, asyncio.get_running_loop()
        self.told: int | None = None
        self.when_started: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.told = sig
        self._loop.call_soon_threadsafe(self._closing.set)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As the base class does, without raising them again: the services are still open."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Patient(H11Protocol):
    """Gives up clients whose request's head does not come: uvicorn waits for it as long as they like."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._late is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(_HEAD_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()
