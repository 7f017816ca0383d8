"""Requests to one server: who asks, what is tried again, and one kind of error for all that may go wrong.

A request is repeated where that cannot do a thing twice: when nothing was sent (no connection), when the server said
"too many" or "later", and, of requests that only read or say how something is to be, after a lost connection, too.
A step whose answer was lost is not repeated: it may have been taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from medsam import errors
from medsam._version import __version__
from medsam.errors import InputError, MedSAMError, printable
from medsam.pacs.settings import is_loopback

T = TypeVar("T")
API = "/api/v1"
# of the interface
VERSION = 1
# seconds before another try
WAITS = (0.2, 0.8, 2.0)
# the longest that a server may make us wait by "Retry-After"
_LONGEST_WAIT = 30.0
_REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LATER = (502, 503, 504)
# below the five seconds after which servers close a connection that nobody uses
_KEEP_ALIVE_S = 4.0
_KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, MedSAMError)}


class Connection:
    """A server and who asks it. See `Client` for the arguments. For any number of threads."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        verify: bool | str | Path = True,
        timeout_s: float = 60.0,
    ) -> None:
        self.url = _checked(url, secret=token is not None or password is not None)
        if token is not None and user is not None:
            raise InputError("Give a `token`, or a `user` and a `password`.", parameter=("token", "user"))
        if (user is None) != (password is None):
            raise InputError("A `user` and a `password` belong together.", parameter=("user", "password"))
        self._user, self._password, self._timeout_s = user, password, timeout_s
        headers = {"User-Agent": f"medsam/{__version__}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=self.url + API,
            headers=headers,
            verify=_verification(verify),
            # 20 threads and their streams of events
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=_KEEP_ALIVE_S),
            # neither proxies nor ~/.netrc: what is meant for this server goes nowhere else
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"

    def close(self) -> None:
        self._http.close()

    def greet(self) -> dict[str, Any]:
        """See that a server of our version answers, and log in. Returns what it says of who asks."""
        try:
            version = int(self.request("GET", "/version").json()["version"])
        except Refused as error:
            raise self._not_ours() if error.status == 404 else error from None
        except (ValueError, KeyError, TypeError):
            raise self._not_ours() from None
        if version < VERSION:
            raise InputError(f"The server at {self.url} speaks version {version}; this medsam needs {VERSION}.")
        if self._user is not None:
            self.login()
        return self.told(dict, "GET", "/me")

    def login(self) -> None:
        """Give name and password; the cookie is kept. Raises InputError where they are refused."""
        body = {"name": self._user, "password": self._password}
        csrf = self.told(lambda answer: str(answer["csrf"]), "POST", "/login", json=body, anew=False)
        self._http.headers["X-Medsam-Csrf"] = csrf

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        anew: bool = True,
        repeatable: bool = False,
    ) -> httpx.Response:
        """An answer that is a success, read to its end.

        path: below `API`. content: bytes, or an iterator of them (which cannot be sent again). wait_s: how long the
        server is asked to wait before it answers. anew: log in again where the login has ended. repeatable: asked
        twice it is done once, whatever the method.
        Raises the error the server names, and InputError for everything else that may go wrong.
        """
        once = content is not None and not isinstance(content, bytes)
        timeouts = self._timeouts(self._timeout_s + wait_s)

        def sent(waits: tuple[float, ...]) -> httpx.Response:
            # made anew each time: a login changes what goes with it
            request = self._http.build_request(
                method, path, json=json, content=content, params=params, headers=headers, timeout=timeouts
            )
            return self._send(request, waits, repeatable=repeatable or method in _REPEATABLE)

        response = sent(() if once else WAITS)
        may_renew = anew and self._user is not None and not once
        if response.status_code in (401, 423) and may_renew and self._again(response.status_code):
            response = sent(WAITS)
        if not response.is_success:
            raise self._refused(response)
        return response

    def told(self, make: Callable[[Any], T], method: str, path: str, **options: Any) -> T:
        """What `make` makes of the JSON of an answer. options: of `request`.

        Raises InputError also where the answer is another one than `make` knows.
        """
        answer = self.request(method, path, **options)
        try:
            return make(answer.json())
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(
                f"The server at {self.url} answered what this medsam does not know ({type(error).__name__}): it is of "
                "another version."
            ) from None

    @contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str], silent_s: float) -> Iterator[httpx.Response]:
        """An answer to a GET, to be read while it comes; errors as of `request`. Not tried again.

        silent_s: seconds without a byte after which the connection counts as lost.
        """
        try:
            with self._http.stream("GET", path, headers=headers, timeout=self._timeouts(silent_s)) as response:
                if not response.is_success:
                    response.read()
                    raise self._refused(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    # -- how ------------------------------------------------------------------------------------------------------

    def _timeouts(self, silent_s: float) -> httpx.Timeout:
        return httpx.Timeout(silent_s, connect=min(self._timeout_s, 10.0))

    def _again(self, status: int) -> bool:
        """The login has ended, or is locked: give the password again. False where it is none of these."""
        if status == 401:
            self.login()
            return True
        # an object may be locked, too; of a login that is everything is
        locked = self._send(self._http.build_request("GET", "/me"), WAITS, repeatable=True).status_code == 423
        if locked:
            self.request("POST", "/unlock", json={"password": self._password}, anew=False)
        return locked

    def _send(self, request: httpx.Request, waits: tuple[float, ...], *, repeatable: bool) -> httpx.Response:
        for wait in (*waits, None):
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                if wait is None or not (repeatable or isinstance(error, _NOTHING_SENT)):
                    raise self._unreachable(error) from None
            except httpx.HTTPError as error:
                raise InputError(f"The server at {self.url} answered what cannot be read: {_said(error)}.") from None
            else:
                again = response.status_code == 429 or (repeatable and response.status_code in _LATER)
                if wait is None or not again:
                    return response
                wait = max(wait, _retry_after(response))
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _unreachable(self, error: httpx.TransportError) -> Lost:
        said = _said(error)
        if isinstance(error, httpx.TimeoutException):
            text = f"The server at {self.url} did not answer in time. Is it busy, or is something in between?"
        elif "CERTIFICATE" in said.upper() or "SSL" in said.upper():
            text = (
                f"The certificate of {self.url} was not accepted ({said}). `verify` may name the file of the authority "
                "that signed it."
            )
            return Lost(text, parameter="verify")
        elif isinstance(error, httpx.ConnectError):
            text = f"No server answers at {self.url} ({said}). Is `medsam serve` running there?"
        else:
            text = f"The connection to {self.url} was lost ({said})."
        return Lost(text, parameter="url")

    def _not_ours(self) -> InputError:
        return InputError(
            f"What answers at {self.url} is no medsam server, or an older one: update it, or name another `url`.",
            parameter="url",
        )

    def _refused(self, response: httpx.Response) -> MedSAMError:
        """What the server says is wrong."""
        try:
            body = response.json()
            detail, parameters = str(body["detail"]), tuple(map(str, body.get("parameters", ())))
            kind = _KINDS.get(str(body.get("error")), InputError)
        except (ValueError, KeyError, TypeError, AttributeError):
            if response.status_code == 404:
                return self._not_ours()
            return InputError(f"The server at {self.url} answered with status {response.status_code}.")
        if response.status_code == 401:
            return Refused(f"The server at {self.url}: {detail}", parameter=("token", "password"))
        return (
            kind(detail, parameter=parameters)
            if kind is not InputError
            else Refused(detail, parameter=parameters, status=response.status_code)
        )


class Refused(InputError):
    """The server would not. status: of HTTP."""

    def __init__(self, message: str = "", *, parameter: Any = (), status: int = 401) -> None:
        super().__init__(message, parameter=parameter)
        self.status = status


class Lost(InputError):
    """No connection, or one that was lost: what was asked for may have been done."""


def _checked(url: str, *, secret: bool) -> str:
    """An address without what does not belong to it. Raises InputError for one that is none, or not safe."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise InputError(f"{printable(str(url))[:200]} is no address of a server.", parameter="url") from None
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query or parts.fragment:
        raise InputError(
            "The `url` of a server is http://HOST:PORT or https://HOST[:PORT], without a name or a password in it.",
            parameter="url",
        )
    if secret and parts.scheme == "http" and not is_loopback(parts.host):
        raise InputError(
            "Tokens and passwords are not sent over http:// to another machine: use https:// (`url`).", parameter="url"
        )
    return str(url).rstrip("/").removesuffix(API)


def _verification(verify: bool | str | Path) -> Any:
    if isinstance(verify, bool):
        return verify
    import ssl

    try:
        return ssl.create_default_context(cafile=str(verify))
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{verify} (`verify`) cannot be read as certificates: {error.strerror or error}.", parameter="verify"
        ) from None


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", 0)), 0.0), _LONGEST_WAIT)
    except ValueError:
        return 0.0


def _said(error: Exception) -> str:
    """What a library says of an error, in one line."""
    return printable(" ".join(str(error).split()))[:160] or type(error).__name__
