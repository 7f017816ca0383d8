"""What pynetdicom leaves open in an association: an end to silence and to excess, sockets that are closed, small
packets that do not wait.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import evt

from medsam.pacs.query import ANSWER_BYTES, TOO_MUCH


@dataclass
class Watch:
    """Ends an association when nothing moves on it, or too much comes.

    pynetdicom waits for a whole message: for a large one, that is no measure of whether the other side is alive.
    """

    silent_s: float
    left: int = ANSWER_BYTES
    moved: float = field(default_factory=time.monotonic)
    why: str = ""
    _over: threading.Event = field(default_factory=threading.Event)

    def handlers(self) -> list[Any]:
        return [(evt.EVT_DATA_RECV, self._received), (evt.EVT_DATA_SENT, self._sent)]

    def _received(self, event: Any) -> None:
        self.moved = time.monotonic()
        self.left -= len(event.data)
        hurry(event.assoc)

    def _sent(self, event: Any) -> None:
        self.moved = time.monotonic()
        hurry(event.assoc)

    def start(self, association: Any) -> None:
        def run() -> None:
            while not self._over.wait(0.1):
                if time.monotonic() - self.moved > self.silent_s:
                    self.why = f"sent nothing for {self.silent_s:g} s"
                elif self.left < 0:
                    self.why = TOO_MUCH
                else:
                    continue
                wake(association)
                return

        threading.Thread(target=run, name="pacs-watch", daemon=True).start()

    def stop(self) -> None:
        self._over.set()


def wake(association: Any) -> None:
    """Have whoever waits for a message find that there is none, upon which pynetdicom aborts.

    In the thread that waits, which is the one that sends: what is sent after an abort by another thread, or within a
    handler, is an event that pynetdicom's state machine does not know, and its thread ends there.
    """
    association.dimse.msg_queue.put((None, None))


def leave_answers(association: Any) -> None:
    """Leave what comes to whoever asked for it, in an association of our own.

    pynetdicom's thread takes what comes when nobody waits, and is paused while somebody asks; on a busy machine it may
    have passed the pause already, takes the answer for an odd request, and drops it.
    """
    take = association.dimse.get_msg
    # that thread alone does not wait
    association.dimse.get_msg = lambda block=False: take(block) if block else (None, None)


def close(association: Any) -> None:
    """Wait until the threads of an association that is over have ended, and close its socket.

    Its `abort` does so, unless a handler runs in another thread at that moment. It takes no longer than the time-out
    of the association.
    """
    association.kill()
    with suppress(Exception):
        association.dul.socket._shutdown_socket()


def hurry(association: Any) -> None:
    """Have small packets sent and acknowledged at once.

    Messages begin with small ones, and the other side often waits for our acknowledgement of the first part of one
    before it sends the second: 40 ms an image, where the image itself takes 2.
    """
    connection: Any = getattr(association.dul.socket, "socket", None)
    with suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    acknowledge_at_once(connection)


def acknowledge_at_once(connection: Any) -> None:
    """Have what comes next on a socket acknowledged at once. The kernel takes it back after a while.

    Of small images, 25 a second came otherwise.
    """
    # Linux alone has it
    with suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Connection:
    """Stands where pynetdicom expects a context for TLS, and keeps the connection: a failed one stays open there."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._made: socket.socket | None = None

    def wrap_socket(self, plain: socket.socket, **options: Any) -> socket.socket:
        self._made = plain if self._context is None else self._context.wrap_socket(plain, **options)
        return self._made

    def close(self) -> None:
        if self._made is not None:
            self._made.close()
