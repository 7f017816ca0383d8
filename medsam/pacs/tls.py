"""TLS to servers: one context for DICOMweb and DIMSE, which always verifies."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from medsam.errors import InputError
from medsam.pacs.settings import Server


def client_context(server: Server) -> ssl.SSLContext:
    """The context for connections to `server`: TLS 1.2 or newer, certificate and host name verified.

    Trusts `ca`, or where it is not given whom the system trusts. Shows `cert` with its `key`, whose password may be in
    `MEDSAM_NAME_KEY_PASSWORD`. Raises InputError when a file is missing or is not what it should be.
    """
    files = server.certificates
    for key, path in (("ca", files.ca), ("cert", files.cert), ("key", files.key)):
        _check_file(server, key, path)
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"Server {server.name}: `ca` ({files.ca}) holds no certificate in PEM.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.cert is not None:
        # never asks on the terminal: a daemon has none
        password = os.environ.get(server.variable("KEY_PASSWORD"), "")
        try:
            context.load_cert_chain(files.cert, files.key, lambda: password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InputError(
                f"Server {server.name}: `cert` ({files.cert}) and `key` are no certificate with its key in PEM, or the "
                f"key has another password than {server.variable('KEY_PASSWORD')} says."
            ) from error
    return context


def _check_file(server: Server, key: str, path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise InputError(f"Server {server.name}: `{key}` names {path}, which is not there. Correct the settings file.")


# what servers say to a client without a certificate, or with a wrong one
_ALERTS = ("certificate required", "handshake failure", "bad certificate", "unknown ca", "access denied")


def tls_message(server: Server, where: str, reason: ssl.SSLError) -> str:
    """What is wrong when TLS to a server fails, and which key of the settings file mends it."""
    files = server.certificates
    start = f"Server {server.name} ({where}): TLS failed. "
    if isinstance(reason, ssl.SSLCertVerificationError):
        trusted = f"the authorities in {files.ca}" if files.ca else "the authorities this system trusts"
        why = str(getattr(reason, "verify_message", "") or "it is not trusted").rstrip(".")
        return (
            f"{start}Its certificate is refused, checked against {trusted}: {why}. If an authority of your own signed "
            "it, name that authority's file by `ca`; nothing else makes the connection safe."
        )
    text = str(reason).lower().replace("_", " ")
    if any(words in text for words in _ALERTS):
        shown = f"and does not accept {files.cert}" if files.cert else "and none is set"
        return f"{start}It wants a client certificate, {shown}. Name one by `cert` and `key`."
    if isinstance(reason, ssl.SSLEOFError):
        return f"{start}It broke off: it wants {'another' if files.cert else 'a'} client certificate, or no TLS."
    if "wrong version number" in text or "record layer" in text:
        return f"{start}It does not speak TLS there: is the port one without encryption?"
    if "protocol version" in text or "unsupported protocol" in text:
        return f"{start}It speaks an old TLS alone, which anyone may break: 1.2 or newer is needed there."
    return f"{start}({reason.reason or type(reason).__name__})"
