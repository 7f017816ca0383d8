"""The association server: pynetdicom's, guarded against what a stranger may send.

pynetdicom 3.0 trusts its peers in ways that a port in a hospital's network cannot afford. Here

- a PDU is refused when it states more bytes than were agreed; there, four gigabytes are read before anybody looks
- a PDU has to be there whole within the time-out; there, a peer that stops in the middle holds its thread for ever
- a data set goes to the disk as it comes, and ends the association beyond the limit; there, it fills the memory
- it has to keep a least pace, in the mean; there, one byte a minute is enough
- the TLS handshake runs in the connection's own thread and ends in time; there, in the one that accepts, so that a
  peer which connects and says nothing keeps all others out
- connections count from the start; there, only once they have asked for an association
- what damaged requests make pydicom remark, quoting values, goes nowhere
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pynetdicom
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt, sop_class
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medsam.errors import InputError
from medsam.io.dicom.pixels.common import DECODERS
from medsam.io.dicom.read import quiet
from medsam.pacs.listen.incoming import CANNOT_UNDERSTAND, SUCCESS, WRONG_CLASS, Part, Refused
from medsam.pacs.listen.messages import MOST_PDU, Access, Hooks, Messages, Reader
from medsam.pacs.listen.storage import Request

# connections that wait to be told that there are too many
_SPARE = 10

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)


class Server:
    """Listens from `start` to `stop`."""

    def __init__(self, access: Access, hooks: Hooks) -> None:
        self.access, self.hooks = access, hooks
        # threads of associations inherit what their connection's thread keeps quiet; for all of pynetdicom in this
        # process, whose callers lose nothing by it
        pynetdicom._config.PASS_CONTEXTVARS = True
        entity = AE(ae_title=access.aet)
        entity.require_called_aet = True
        entity.require_calling_aet = list(access.calling)
        entity.maximum_associations = access.associations
        entity.maximum_pdu_size = MOST_PDU
        entity.dimse_timeout = entity.network_timeout = access.timeout_s
        entity.acse_timeout = access.greeting_s
        entity.supported_contexts = _contexts(access.classes)
        try:
            self._server = entity.make_server(
                (access.host, access.port),
                evt_handlers=[
                    (evt.EVT_C_STORE, self._stored),
                    (evt.EVT_C_ECHO, lambda _: SUCCESS),
                    (evt.EVT_REQUESTED, self._requested),
                    (evt.EVT_REJECTED, self._rejected),
                ],
                server_class=_Server,
                access=access,
                hooks=hooks,
            )
        except OSError as error:
            raise InputError(
                f"Nothing can listen at {access.host}, port {access.port}: {error.strerror or error}. Another program "
                "may be doing so, or the address is not this machine's.",
                parameter=("port", "host"),
            ) from error
        self._thread = threading.Thread(
            target=lambda: self._server.serve_forever(poll_interval=0.1), name="listen", daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """How many there are."""
        return len(self._server.active_associations)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Take no more connections, let instances that are under way end, and leave."""
        # it waits for ever for what has never run; and pynetdicom's own looks for the server in a list that
        # `start_server` alone fills
        if self._thread.ident is not None:
            socketserver.BaseServer.shutdown(self._server)
        self._server.server_close()
        until = time.monotonic() + grace_s
        while time.monotonic() < until and any(one.dimse.is_busy for one in self._associations()):
            time.sleep(0.02)
        for one in self._associations():
            # without waiting for a peer that may not answer
            one.abort(block=False)
        while time.monotonic() < until and self._associations():
            time.sleep(0.02)
        for one in self._associations():
            one.dimse.end()

    def sweep(self) -> None:
        """Forget senders whose threads have ended, however that came about."""
        self._server.sweep()

    def _associations(self) -> list[Any]:
        return list(self._server.active_associations)

    def _stored(self, event: Any) -> Any:
        """EVT_C_STORE: the status of the response."""
        part = event.request.DataSet
        try:
            if not isinstance(part, Part):
                raise Refused(CANNOT_UNDERSTAND, "the data set is missing")
            if event.request.AffectedSOPClassUID != event.context.abstract_syntax:
                raise Refused(WRONG_CLASS, "the SOP class is not the one agreed upon")
            request = Request(
                sop_class=str(event.request.AffectedSOPClassUID),
                instance=str(event.request.AffectedSOPInstanceUID),
                sender=event.assoc,
            )
            self.hooks.store(part, request)
            return SUCCESS
        except Refused as refused:
            return _status(refused)
        finally:
            event.assoc.dimse.served(part)

    def _requested(self, event: Any) -> None:
        """EVT_REQUESTED: an empty list lets everybody in, for pynetdicom; for us, nobody."""
        if not self.access.calling:
            # rejected for good, by the user of the service, whose calling title is not known
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)
            event.assoc.is_rejected = True
            self.hooks.refused("nobody is let in", _titles(event.assoc))
            event.assoc.kill()

    def _rejected(self, event: Any) -> None:
        """EVT_REJECTED: pynetdicom has decided, and does not say why."""
        request = event.assoc.requestor.primitive
        if request.called_ae_title != self.access.aet:
            why = "it calls another AE title than ours"
        elif request.calling_ae_title not in self.access.calling:
            why = "its AE title is not let in"
        else:
            why = "too many associations"
        self.hooks.refused(why, _titles(event.assoc))


def _titles(association: Any) -> str:
    request = association.requestor.primitive
    return f"{request.calling_ae_title!r} to {request.called_ae_title!r}"


def _status(refused: Refused) -> Dataset:
    answer = Dataset()
    answer.Status = refused.status
    answer.ErrorComment = refused.comment
    return answer


def _contexts(classes: tuple[str, ...]) -> list[Any]:
    """Verification, and every storage class in every encoding that we read."""
    syntaxes = [*UNCOMPRESSED, *DECODERS]
    for number, uid in enumerate(classes):
        if uid not in {context.abstract_syntax for context in AllStoragePresentationContexts}:
            sop_class.register_uid(uid, f"MedsamOwnStorage{number}", StorageServiceClass)
    storage = [context.abstract_syntax for context in AllStoragePresentationContexts]
    return [
        pynetdicom.build_context(sop_class.Verification),
        *(pynetdicom.build_context(uid, syntaxes) for uid in dict.fromkeys((*storage, *classes))),
    ]


class _Server(ThreadedAssociationServer):
    """Connections are counted, given a time-out, and encrypted, each in its own thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any, access: Access, hooks: Hooks, **keywords: Any) -> None:
        self.access, self.hooks = access, hooks
        self._lock = threading.Lock()
        self._greeting = 0
        # association -> its messages, and its connection
        self._senders: dict[Any, tuple[Messages, Any]] = {}
        super().__init__(*arguments, request_handler=_Handler, **keywords)
        self.contexts: list[Any] = _Shared(self.contexts)

    def get_request(self) -> tuple[socket.socket, Any]:
        listening: Any = self.socket
        connection, address = listening.accept()
        connection.settimeout(self.access.timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for a connection."""
        with self._lock:
            if self._greeting + len(self.active_associations) >= self.access.associations + _SPARE:
                self.hooks.refused("too many connections", "")
                return False
            return True

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._greeting += 1
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system gives no more threads
            with self._lock:
                self._greeting -= 1
            self.hooks.refused("no more threads", "")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            # for the threads of the association, too: they get this one's context
            with quiet():
                if self.access.tls is not None:
                    request = self.access.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                    _shake_hands(request, self.access.greeting_s)
                self.finish_request(request, client_address)
        except (OSError, ValueError):
            self.hooks.refused("its TLS handshake failed", "")
            self.shutdown_request(request)
        finally:
            with self._lock:
                self._greeting -= 1

    def service_actions(self) -> None:
        """Nothing: the base collects garbage here every half minute, all of the process's."""

    def enter(self, association: Any, dimse: Messages, connection: Any) -> None:
        with self._lock:
            self._senders[association] = dimse, connection

    def sweep(self) -> None:
        """Clear away after associations whose thread has ended."""
        with self._lock:
            ended = [one for one in self._senders if one.ident is not None and not one.is_alive()]
            found = [(one, self._senders.pop(one)) for one in ended]
        for association, (dimse, connection) in found:
            dimse.end()
            # pynetdicom leaves one open whose peer is gone
            with contextlib.suppress(OSError):
                connection.close()
            self.hooks.gone(association)
        if found:
            # an association and its threads hold each other, and a thousand contexts
            gc.collect(1)


class _Shared(list):
    """Contexts of all associations: pynetdicom gives each a copy, half a megabyte, of what it only reads."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class _Handler(RequestHandler):
    """Makes the association of a connection, and puts our parts into it."""

    server: _Server

    def _create_association(self) -> Any:
        association = super()._create_association()
        association.dimse = Messages(association, self.server.access, self.server.hooks)
        connection = association.dul.socket
        connection.recv = Reader(connection, self.server.access, association)
        self.server.enter(association, association.dimse, connection.socket)
        return association


def _shake_hands(connection: ssl.SSLSocket, timeout_s: float) -> None:
    """The TLS handshake, in so many seconds altogether. Raises OSError."""
    until = time.monotonic() + timeout_s
    for wait in _waits(connection):
        left = until - time.monotonic()
        if left <= 0 or not wait(left):
            raise TimeoutError
    connection.settimeout(timeout_s)


def _waits(connection: ssl.SSLSocket) -> Iterator[Callable[[float], bool]]:
    """Go on with a handshake; yields what to wait for, with a time-out, until it is through."""
    connection.settimeout(0)
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            yield lambda left: bool(select.select([connection], [], [], left)[0])
        except ssl.SSLWantWriteError:
            yield lambda left: bool(select.select([], [connection], [], left)[1])
