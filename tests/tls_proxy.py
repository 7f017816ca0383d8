"""Certificates of a test's own authority, and a proxy that speaks TLS in front of a server that does not."""

from __future__ import annotations

import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Issued:
    """Files in PEM."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in a folder. ca: its own certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        self._x509 = pytest.importorskip(
            "cryptography.x509", reason="certificates are made by the package cryptography"
        )
        self._folder = folder
        self._key = self._new_key()
        self._name = self._x509.Name([self._x509.NameAttribute(self._x509.NameOID.COMMON_NAME, name)])
        basic = (self._x509.BasicConstraints(ca=True, path_length=None), True)
        self._cert = self._signed(self._name, self._key.public_key(), [basic])
        self.ca = self._write(f"{name}.pem", self._pem(self._cert))

    def issue(self, name: str, host: str | None = "127.0.0.1") -> Issued:
        """A certificate for a server at `host`, or for a client."""
        key = self._new_key()
        extensions = []
        if host is not None:
            x509 = self._x509
            known = x509.DNSName(host) if host == "localhost" else x509.IPAddress(ipaddress.ip_address(host))
            extensions.append((x509.SubjectAlternativeName([known]), False))
        subject = self._x509.Name([self._x509.NameAttribute(self._x509.NameOID.COMMON_NAME, name)])
        cert = self._signed(subject, key.public_key(), extensions)
        from cryptography.hazmat.primitives import serialization as form

        plain = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        return Issued(self._write(f"{name}.crt", self._pem(cert)), self._write(f"{name}.key", plain))

    def _signed(self, subject, public_key, extensions):
        from cryptography.hazmat.primitives import hashes

        now = datetime.datetime.now(datetime.UTC)
        x509 = self._x509
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _new_key():
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())

    @staticmethod
    def _pem(cert) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        return cert.public_bytes(Encoding.PEM)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path


@contextmanager
def proxied(port: int, issued: Issued, clients: Path | None = None) -> Iterator[int]:
    """A port that speaks TLS for the server on `port`. clients: the authority whose clients alone may come."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    over = threading.Event()
    threads: list[threading.Thread] = []

    def pass_on(secure: ssl.SSLSocket, behind: socket.socket) -> None:
        # in one thread: OpenSSL does not read and write one connection at once
        while True:
            ready = [secure] if secure.pending() else select.select([secure, behind], [], [], 20)[0]
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                (behind if one is secure else secure).sendall(data)
            if not ready:
                return

    def serve(plain: socket.socket) -> None:
        with plain, suppress(OSError):
            plain.settimeout(20)
            with (
                context.wrap_socket(plain, server_side=True) as secure,
                socket.create_connection(("127.0.0.1", port), 20) as behind,
            ):
                pass_on(secure, behind)

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        accepting.join()
        listener.close()
        for thread in threads:
            thread.join(20)
