"""HTTP to a DICOMweb server: verified, bounded, and with errors a user can act on.

What an answer may cost is decided here, not by the server: a `Guard` counts its bytes while they come, and how fast.
Redirections are not followed: an address with a patient's id in it would go where nobody decided.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from medsam.errors import InputError
from medsam.pacs.query import ANSWER_BYTES, TOO_MUCH
from medsam.pacs.settings import Credentials, Server, credentials, is_loopback
from medsam.pacs.tls import client_context, tls_message

T = TypeVar("T")
_PIECE = 2**16
# slower than this for a while is a server that keeps us waiting on purpose, or a line that will never do
_SLOW_BYTES, _SLOW_S = 60_000, 60.0
# seconds before another try
WAITS = (1.0, 4.0)
_AGAIN = (408, 429, 502, 503, 504)


class TooMuch(Exception):
    """An answer that is larger, or slower, than it may be; the text completes "Server NAME ..."."""


class CutOff(TooMuch):
    """An answer that ended too early; it may be whole the next time."""


@dataclass
class Guard:
    """How many bytes the answers of a session may still have."""

    left: int = ANSWER_BYTES

    def allow(self, count: int) -> None:
        """From here on, so many bytes."""
        self.left = count

    def count(self, size: int) -> None:
        """So many have come. Raises TooMuch."""
        self.left -= size
        if self.left < 0:
            raise TooMuch(TOO_MUCH)


class _Adapter(HTTPAdapter):
    """One TLS context, whatever else requests would trust; addresses as servers understand them; answers counted."""

    def __init__(self, context: ssl.SSLContext | None, guard: Guard) -> None:
        self._context, self._guard = context, guard
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context verifies. The inherited one would add the authorities of the package certifi."""

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        # not what REQUESTS_CA_BUNDLE says, nor a caller
        return super().build_connection_pool_key_attributes(request, True, None)

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        # dicomweb-client leaves the port out, and servers make addresses of it
        request.headers.pop("Host", None)
        address, mark, query = request.url.partition("?")
        # it also hides wildcards and blanks where some servers do not find them (Orthanc's plugin)
        request.url = address + mark + query.replace("%2A", "*").replace("%3F", "?").replace("+", "%20")
        response = super().send(request, *arguments, **options)
        vars(response)["iter_content"] = lambda *_, **__: _pieces(response, self._guard)
        if options.get("stream") and not response.ok:
            # nobody reads on: dicomweb-client raises for the status, and leaves the connection open
            response.close()
        return response


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _anonymous(request: Any) -> Any:
    """Keeps requests from sending what ~/.netrc has for the host."""
    return request


def open_session(server: Server, guard: Guard) -> requests.Session:
    """A session for one server, with its credentials. Raises InputError as `credentials` and `client_context` do."""
    session = requests.Session()
    parts = urlsplit(server.dicomweb or "")
    secure = parts.scheme == "https"
    # what is meant for this machine does not leave it for a proxy
    session.trust_env = not is_loopback(parts.hostname or "")
    session.mount("https://", _Adapter(client_context(server) if secure else None, guard))
    session.mount("http://", _Adapter(None, guard))
    session.max_redirects = 0
    session.auth = _authentication(credentials(server))
    # what is compressed may grow without end
    session.headers.update({"Accept": "application/dicom+json", "Accept-Encoding": "identity"})
    return session


def _authentication(found: Credentials | None) -> Any:
    if found is None:
        return _anonymous
    if found.token is not None:
        return _Bearer(found.token)
    # requests would send Latin-1, which RFC 7617 leaves to servers
    return HTTPBasicAuth((found.user or "").encode(), (found.password or "").encode())


def _pieces(response: Any, guard: Guard) -> Iterator[bytes]:
    """The body in pieces as they come. Raises TooMuch, and errors of urllib3."""
    try:
        yield from _counted(response, guard)
    except BaseException:
        # nobody will read on, and the server may go on sending
        response.close()
        raise


def _counted(response: Any, guard: Guard) -> Iterator[bytes]:
    started, came, last = time.monotonic(), 0, b""
    read = getattr(response.raw, "read1", response.raw.read)
    while piece := read(_PIECE, decode_content=True):
        guard.count(len(piece))
        came, now = came + len(piece), time.monotonic()
        if now - started > _SLOW_S:
            if came < _SLOW_BYTES:
                raise TooMuch(f"sends less than {_SLOW_BYTES // 1000} kB in {now - started:.0f} s")
            started, came = now, 0
        last = (last + piece)[-256:]
        yield piece
    if (boundary := _boundary(response)) and f"--{boundary}--".encode() not in last:
        raise CutOff("ended its answer in the middle of an image")


def _boundary(response: Any) -> str | None:
    kind, *parameters = str(response.headers.get("Content-Type", "")).split(";")
    if kind.strip().lower() != "multipart/related":
        return None
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip('"')
    return None


def with_retries(server: Server, doing: str, call: Callable[[], T]) -> T:
    """What `call` returns, tried again where that may help. doing: for messages, e.g. "search".

    Raises InputError for whatever a server, a network or TLS can do wrong.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except InputError:
            raise
        except Exception as error:
            if wait is None or not _may_pass(error):
                # the texts of these errors hold addresses with keys of the search in them
                raise translated(error, server, doing) from None
            time.sleep(_asked_to_wait(error, wait))
    raise AssertionError  # the last round returns or raises


def _may_pass(error: Exception) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in _AGAIN
    if _tls_reason(error) is not None or isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return False
    return _was_cut(error)


def _was_cut(error: BaseException) -> bool:
    """Whether a connection that stood broke off."""
    kinds = (
        CutOff,
        ConnectionResetError,
        BrokenPipeError,
        urllib3.exceptions.IncompleteRead,
        requests.exceptions.ChunkedEncodingError,
    )
    return any(isinstance(one, kinds) or "Remote end closed" in str(one) for one in _chain(error))


def _asked_to_wait(error: Exception, wait: float) -> float:
    response = getattr(error, "response", None)
    asked = "" if response is None else str(response.headers.get("Retry-After", ""))
    return min(float(asked), 30.0) if asked.isdecimal() and len(asked) < 6 else wait


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those it was made of."""
    seen: list[BaseException] = []
    ahead = [error]
    while ahead:
        one = ahead.pop()
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        ahead += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def translated(error: Exception, server: Server, doing: str) -> InputError:
    """The error of a request, as a user can act on it; nothing of the request or of the answer's text is in it."""
    name, parts = server.name, urlsplit(server.dicomweb or "")
    where = f"{parts.hostname}:{parts.port or {'http': 80}.get(parts.scheme, 443)}"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _of_status(error.response.status_code, server, doing)
    if isinstance(error, requests.TooManyRedirects):
        return InputError(
            f"Server {name} sends to another address, which is not followed. Put the final address into `dicomweb`."
        )
    if (reason := _tls_reason(error)) is not None:
        return InputError(tls_message(server, where, reason))
    if (much := next((one for one in _chain(error) if isinstance(one, TooMuch)), None)) is not None:
        return InputError(f"Server {name} {much}. The {doing} was ended.")
    if (unreachable := _of_connection(error, server, where)) is not None:
        return unreachable
    if _was_cut(error):
        hint = " One that wants another client certificate may do that." if parts.scheme == "https" else ""
        return InputError(f"Server {name} ({where}) broke off the connection during the {doing}.{hint}")
    return InputError(
        f"Server {name} answers the {doing} with something that is not DICOMweb ({type(error).__name__}). Is "
        "`dicomweb` the root of its DICOMweb services (often .../dicom-web or .../rs), and no page to log in?"
    )


def _of_connection(error: Exception, server: Server, where: str) -> InputError | None:
    """The error of a connection that did not come about, or fell silent."""
    # these come wrapped in errors that are called time-outs, too
    causes = list(_chain(error))
    if any(isinstance(one, urllib3.exceptions.ProxyError | requests.exceptions.ProxyError) for one in causes):
        return InputError(
            f"Server {server.name} ({where}): the proxy that the environment names does not let us through. Correct "
            "HTTPS_PROXY or HTTP_PROXY, or name the host in NO_PROXY."
        )
    if any(isinstance(one, socket.gaierror) for one in causes):
        return InputError(f"Server {server.name}: there is no host {where.rpartition(':')[0]}. Correct `dicomweb`.")
    if any(isinstance(one, ConnectionRefusedError) for one in causes):
        return InputError(f"Server {server.name} cannot be reached: nothing listens at {where}. Is it running?")
    if any(isinstance(one, requests.Timeout | TimeoutError) for one in causes):
        return InputError(
            f"Server {server.name} ({where}) did not answer within {server.timeout_s:g} s. Is it running, and does a "
            "firewall lie between? (`timeout_s` in the settings file)"
        )
    # JSON that is none is an OSError to requests
    if isinstance(error, OSError) and not isinstance(error, ValueError) and not _was_cut(error):
        return InputError(f"Server {server.name} cannot be reached at {where} ({type(error).__name__}).")
    return None


def _of_status(status: int, server: Server, doing: str) -> InputError:
    name = server.name
    if status in (401, 403):
        shown = server.user is not None or credentials(server) is not None
        told = f"{server.variable('PASSWORD')} (with `user` in the settings file) or {server.variable('TOKEN')}"
        what = "does not accept the credentials" if shown else "wants credentials"
        if status == 403:
            what = "does not allow this to these credentials" if shown else "does not allow this without credentials"
        do = "Correct" if shown else "Set"
        return InputError(f"Server {name} {what} (HTTP {status}). {do} {told}, or use: medsam pacs login {name}.")
    if status == 404:
        return InputError(
            f"Server {name} does not have what the {doing} asks for (HTTP 404): the study or series is not there, or "
            "`dicomweb` is not the root of its DICOMweb services."
        )
    if status == 413:
        return InputError(
            f"Server {name} refuses so large a message (HTTP 413). Its administrator can raise the limit."
        )
    if status in _AGAIN:
        return InputError(f"Server {name} is overloaded or down (HTTP {status}), also after several tries.")
    return InputError(f"Server {name} refuses the {doing} (HTTP {status}).")


def _tls_reason(error: BaseException) -> ssl.SSLError | None:
    return next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None)
