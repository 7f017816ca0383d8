"""Who sends to a receiver: pynetdicom as a client, and peers that misbehave."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, build_context

from medsam.pacs.association import leave_answers


class _Sender(AE):
    """Closes its sockets, which pynetdicom leaves open when the peer was the first to."""

    def _create_socket(self, *arguments: Any) -> Any:
        found = super()._create_socket(*arguments)

        def close() -> None:
            with suppress(OSError, AttributeError):
                found.socket.shutdown(socket.SHUT_RDWR)
            with suppress(OSError, AttributeError):
                found.socket.close()

        found._shutdown_socket = close
        return found


@contextmanager
def association(
    port: int, datasets: Iterable[Dataset] = (), *, calling: str = "CT1", called: str = "MEDSAM", tls: Any = None
) -> Iterator[Any]:
    """An association that may carry the data sets; it may not have been established."""
    entity = _Sender(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 10
    wanted = {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}
    contexts = [build_context("1.2.840.10008.1.1"), *(build_context(uid, syntax) for uid, syntax in wanted)]
    found = entity.associate("127.0.0.1", port, contexts, ae_title=called, tls_args=tls)
    leave_answers(found)
    try:
        yield found
    finally:
        if found.is_established:
            found.release()
            found.join(10)


def send(port: int, datasets: Iterable[Dataset], **options: Any) -> list[int | None]:
    """C-STORE each, on one association. Returns the statuses; None where there was no answer."""
    datasets = list(datasets)
    for ds in datasets:
        syntax = ds.file_meta.TransferSyntaxUID
        # made in memory, it has none
        ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    with association(port, datasets, **options) as found:
        assert found.is_established
        return [found.send_c_store(ds).get("Status") if found.is_established else None for ds in datasets]


def associate_request(context: str = CTImageStorage) -> bytes:
    """An A-ASSOCIATE-RQ of CT1 to MEDSAM, written by hand."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    presentation = item(0x20, b"\1\0\0\0" + item(0x30, context.encode()) + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">HH", 1, 0) + b"MEDSAM".ljust(16) + b"CT1".ljust(16) + b"\0" * 32
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + presentation + user
    return struct.pack(">BxL", 1, len(body)) + body


def pdata(content: bytes, *, command: bool, last: bool) -> bytes:
    piece = struct.pack(">LBB", len(content) + 2, 1, int(command) | 2 * int(last)) + content
    return struct.pack(">BxL", 4, len(piece)) + piece


def store_request(instance: str = "1.2.3.9", sop_class: str = CTImageStorage) -> bytes:
    """The command of a C-STORE."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    content = element(0x0002, sop_class.encode()) + element(0x0100, struct.pack("<H", 1))
    content += element(0x0110, struct.pack("<H", 1)) + element(0x0700, struct.pack("<H", 0))
    content += element(0x0800, struct.pack("<H", 1)) + element(0x1000, instance.encode())
    return element(0x0000, struct.pack("<L", len(content))) + content


class Peer:
    """A socket, and what is written to it by hand."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def associate(self) -> Peer:
        self.socket.sendall(associate_request())
        assert self.socket.recv(4096)[0] == 2  # A-ASSOCIATE-AC
        return self

    def send(self, *pieces: bytes) -> Peer:
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def is_dropped(self, within: float = 10.0) -> bool:
        """Whether the connection ends, whatever is said before."""
        self.socket.settimeout(within)
        try:
            while self.socket.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True
