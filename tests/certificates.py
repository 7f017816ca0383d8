"""An authority and certificates of it, for the loopback; made with cryptography, which keyring brings on Linux."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Authority:
    """ca: its certificate, in PEM."""

    folder: Path
    ca: Path
    key: object
    name: object

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for localhost and its key, in PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        extension = x509.SubjectAlternativeName(names)
        cert = _signed(name, key.public_key(), self.name, self.key, extension)
        return _write(self.folder / f"{name}.pem", cert), _write_key(self.folder / f"{name}.key", key)


def authority(folder: Path, name: str = "authority") -> Authority:
    """A new one that nobody else trusts. Skips the test where cryptography is not installed."""
    pytest.importorskip("cryptography", reason="makes certificates; it comes with keyring on Linux")
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    extension = x509.BasicConstraints(ca=True, path_length=None)
    cert = _signed(name, key.public_key(), _called(name), key, extension)
    return Authority(folder, _write(folder / f"{name}.pem", cert), key, _called(name))


def _called(name: str):
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signed(name: str, public_key, issuer, issuer_key, extension):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_called(name))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _write(path: Path, cert) -> Path:
    from cryptography.hazmat.primitives.serialization import Encoding

    path.write_bytes(cert.public_bytes(Encoding.PEM))
    return path


def _write_key(path: Path, key) -> Path:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path
