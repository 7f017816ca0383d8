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
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pynetdicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt, sop_class
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medsam.errors import InputError
from medsam.io.dicom.pixels.common import DECODERS
from medsam.io.dicom.read import quiet
from medsam.pacs.listen.incoming import CANNOT_UNDERSTAND, SUCCESS, WRONG_CLASS, Part, Refused, TooMuch
from medsam.pacs.listen.storage import Request
from medsam.pacs.uids import is_uid

# the pace of a sender, in the mean, after the time-out: bytes a second
_LEAST_PACE = 16 * 1024
# bytes of a command; a long one has a few hundred
_MOST_COMMAND = 64 * 1024
# bytes of a PDU: what we ask for in the negotiation, and what a request for an association may have (128 contexts)
MOST_PDU = 128 * 1024
_MOST_REQUEST = 1024 * 1024
# connections that wait to be told that there are too many
_SPARE = 10

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)


@dataclass(frozen=True)
class Access:
    """Who may send what, and how much.

    host, port: where to listen; port 0 is any. aet: our title, by which we have to be called. calling: titles that are
    let in. tls: the context, or None. classes: SOP classes beyond the standard's storage classes.
    associations: at one time. timeout_s: for what a peer owes us. instance_bytes: the most that one instance may have.
    """

    aet: str
    calling: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 11112
    tls: ssl.SSLContext | None = None
    classes: tuple[str, ...] = ()
    associations: int = 10
    timeout_s: float = 60.0
    instance_bytes: int = 4 * 2**30


@dataclass(frozen=True)
class Hooks:
    """What the server tells. For all threads.

    part: makes the file of a data set, given what has to stand before it. store: takes a complete one; raises Refused.
    transfer: an instance of a sender is under way, or ended. gone: a sender has left. refused: a connection or
    association was turned away: why, and by which titles it called itself and us, for the log.
    """

    part: Callable[[Callable[[], bytes]], Part]
    store: Callable[[Part, Request], None]
    transfer: Callable[[Any, bool], None]
    gone: Callable[[Any], None]
    refused: Callable[[str, str], None]


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
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = access.timeout_s
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
        # pynetdicom's own `shutdown` looks for the server in a list that `start_server` alone fills
        socketserver.BaseServer.shutdown(self._server)
        self._server.server_close()
        until = time.monotonic() + grace_s
        while time.monotonic() < until and any(one.dimse.message is not None for one in self._associations()):
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
        self._senders: dict[Any, tuple[_Dimse, Any]] = {}
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
            self._greeting += 1
            return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            # for the threads of the association, too: they get this one's context
            with quiet():
                if self.access.tls is not None:
                    request = self.access.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                    _shake_hands(request, self.access.timeout_s)
                self.finish_request(request, client_address)
        except (OSError, ValueError):
            self.hooks.refused("its TLS handshake failed", "")
            self.shutdown_request(request)
        finally:
            with self._lock:
                self._greeting -= 1

    def service_actions(self) -> None:
        """Nothing: the base collects garbage here every half minute, all of the process's."""

    def enter(self, association: Any, dimse: _Dimse, connection: Any) -> None:
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
        association.dimse = _Dimse(association, self.server.access, self.server.hooks)
        connection = association.dul.socket
        connection.recv = _Reader(connection, self.server.access.timeout_s, association)
        self.server.enter(association, association.dimse, connection.socket)
        return association


class _Reader:
    """Reads so many bytes of a PDU from a socket, in time, and no more than it may have."""

    def __init__(self, connection: Any, timeout_s: float, association: Any) -> None:
        self._connection, self._timeout_s, self._association = connection, timeout_s, association
        self._until = 0.0

    def __call__(self, count: int) -> bytearray:
        """Fewer bytes when the peer has left. Raises OSError, upon which the association ends."""
        now = time.monotonic()
        if count == 6:
            # the head of a PDU; the rest has to follow
            self._until = now + self._timeout_s
            _acknowledge_at_once(self._connection.socket)
        # some count the head of the PDU in, some do not
        most = MOST_PDU + 64 if self._association.is_established else _MOST_REQUEST
        if count > most:
            raise OSError("the PDU states too many bytes")
        found = bytearray()
        try:
            while len(found) < count:
                left = self._until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._connection.socket.settimeout(left)
                block = self._connection.socket.recv(min(count - len(found), 2**18))
                if not block:
                    break
                found += block
        finally:
            with contextlib.suppress(OSError, AttributeError):
                self._connection.socket.settimeout(self._timeout_s)
        return found


def _acknowledge_at_once(connection: socket.socket) -> None:
    """Senders write a command and its data in two pieces, of which the second waits until the first is acknowledged:
    of small images, 25 a second came otherwise. It holds for what comes next, and Linux alone has it.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError, AttributeError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class _Command(BytesIO):
    """The encoded command, of a length that commands have."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MOST_COMMAND:
            raise TooMuch
        return super().write(data)


class _Dimse(DIMSEServiceProvider):
    """Puts messages together: commands in memory, data sets on the disk."""

    message: Any

    def __init__(self, association: Any, access: Access, hooks: Hooks) -> None:
        super().__init__(association)
        self._access, self._hooks = access, hooks
        # data sets that arrive or are complete, and not yet dealt with
        self._parts: list[Part] = []
        self._begun = 0.0

    def receive_primitive(self, primitive: Any) -> None:
        """Take the next piece of a message. What is wrong with it ends the association."""
        try:
            if self.message is None:
                self._begin()
            super().receive_primitive(primitive)
            self._check_pace()
        # whatever damaged bytes make the parser do; this is a thread's last frame
        except Exception:
            self._hooks.refused("a message that is damaged, too large or too slow", "")
            self.message = None
            self.end()
            # an invalid PDU: our side aborts
            self.dul.event_queue.put("Evt19")

    def served(self, part: Any) -> None:
        """A message was answered."""
        if part in self._parts:
            self._parts.remove(part)
            part.discard()
        self._hooks.transfer(self.assoc, bool(self._parts))

    def end(self) -> None:
        """Nothing more comes: what is not complete goes."""
        while self._parts:
            self._parts.pop().discard()

    def _begin(self) -> None:
        message = pynetdicom.dimse_messages.DIMSEMessage()
        message.encoded_command_set = _Command()

        def header() -> bytes:
            self._parts.append(part)
            self._hooks.transfer(self.assoc, True)
            return _file_meta(message, self.assoc)

        message.data_set = part = self._hooks.part(header)
        self.message = message
        self._begun = time.monotonic()

    def _check_pace(self) -> None:
        if self.message is None:
            return
        arrived = self._parts[-1].size if self._parts else 0
        if time.monotonic() - self._begun > self._access.timeout_s + arrived / _LEAST_PACE:
            raise TimeoutError


def _file_meta(message: Any, association: Any) -> bytes:
    """Preamble and file meta information of what a request is about to send.

    Raises Refused for UIDs that are none, and anything for what is no such request.
    """
    command = message.command_set
    context = association._accepted_cx[message.context_id]
    meta = FileMetaDataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        uid = str(command[f"Affected{keyword}"].value)
        if not is_uid(uid):
            raise Refused(CANNOT_UNDERSTAND, f"the request's {keyword} is no UID")
        setattr(meta, f"MediaStorage{keyword}", UID(uid))
    meta.TransferSyntaxUID = context.transfer_syntax[0]
    # who sent it: rules ask for it, also after a restart
    meta.SourceApplicationEntityTitle = association.requestor.ae_title
    buffer = DicomBytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta)
    return bytes(buffer.getvalue())


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
