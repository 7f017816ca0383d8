"""What comes over one association: bytes to PDUs in time, PDUs to messages, data sets to the disk.

The parts of pynetdicom 3.0 that an association is given in place of its own; `server` says why.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pynetdicom
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider

from medsam.pacs.association import acknowledge_at_once
from medsam.pacs.listen.incoming import CANNOT_UNDERSTAND, Part, Refused, TooMuch
from medsam.pacs.listen.storage import Request
from medsam.pacs.uids import is_uid

# the pace of a sender, in the mean, after the time-out: bytes a second
_LEAST_PACE = 16 * 1024
# bytes of a command; a long one has a few hundred
_MOST_COMMAND = 64 * 1024
# bytes of a PDU: what we ask for in the negotiation, and what a request for an association may have (128 contexts)
MOST_PDU = 128 * 1024
_MOST_REQUEST = 1024 * 1024
_GREETING_S = 10.0


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

    @property
    def greeting_s(self) -> float:
        """For a peer that has not asked for an association: those who mean it do so at once."""
        return min(self.timeout_s, _GREETING_S)


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


class Reader:
    """Reads so many bytes of a PDU from a socket, in time, and no more than it may have."""

    def __init__(self, connection: Any, access: Access, association: Any) -> None:
        self._connection, self._access, self._association = connection, access, association
        self._until = 0.0

    def __call__(self, count: int) -> bytearray:
        """Fewer bytes when the peer has left. Raises OSError, upon which the association ends."""
        now = time.monotonic()
        if count == 6:
            # the head of a PDU; the rest has to follow
            established = self._association.is_established
            self._until = now + (self._access.timeout_s if established else self._access.greeting_s)
            # senders write a command and its data in two pieces, and wait in between
            acknowledge_at_once(self._connection.socket)
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
                self._connection.socket.settimeout(self._access.timeout_s)
        return found


class Command(BytesIO):
    """The encoded command, of a length that commands have."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _MOST_COMMAND:
            raise TooMuch
        return super().write(data)


class Messages(DIMSEServiceProvider):
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

    @property
    def is_busy(self) -> bool:
        """Whether a message is under way, or not answered yet."""
        return self.message is not None or bool(self._parts)

    def end(self) -> None:
        """Nothing more comes: what is not complete goes."""
        while self._parts:
            self._parts.pop().discard()

    def _begin(self) -> None:
        message = pynetdicom.dimse_messages.DIMSEMessage()
        message.encoded_command_set = Command()

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
