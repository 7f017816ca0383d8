"""What the gate reads of a request: its line, its headers, and where it came from; and how it refuses one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Scope

from medsam.server.settings import TrustedProxy

_LONGEST_PATH = 1024
# names and values of all headers
_MOST_HEADERS = 16 * 1024
# what no path of ours holds: controls, backslashes, empty and dotted parts
_STRANGE_PATH = re.compile(r"[\x00-\x1f\x7f\\]|//|(^|/)\.{1,2}(/|$)")


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


@dataclass(frozen=True)
class Asked:
    """A request. path: decoded; headers: by name in lower case, all values of each.

    peer: the address that the connection came from; address: the client's, which a trusted proxy tells.
    """

    method: str
    path: str
    headers: Mapping[str, tuple[str, ...]]
    peer: str
    address: str
    through_proxy: bool

    @classmethod
    def of(cls, scope: Scope, proxy: TrustedProxy | None) -> Asked:
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            headers[key] = (*headers.get(key, ()), value.decode("latin-1"))
        peer = scope["client"][0] if scope.get("client") else ""
        trusted = proxy is not None and is_among(peer, proxy.addresses)
        address = peer
        if trusted and (told := headers.get("x-forwarded-for")):
            # its last entry is what the proxy itself saw
            last = told[-1].split(",")[-1].strip()
            address = last if _is_address(last) else peer
        return cls(scope["method"], scope["path"], headers, peer, address, trusted)

    def one(self, name: str) -> str | None:
        """A header that may come once. Raises Refused (400) for several."""
        values = self.headers.get(name, ())
        if len(values) > 1:
            raise Refused(400, f"The header {name} comes more than once.")
        return values[0] if values else None

    def cookie(self, name: str) -> str | None:
        """A cookie's value; None too where there are two, of which one may be another page's."""
        found = list[str]()
        for header in self.headers.get("cookie", ()):
            for part in header.split(";"):
                key, _, value = part.strip().partition("=")
                if key == name:
                    found.append(value)
        return found[0] if len(found) == 1 else None

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer TOKEN`."""
        kind, _, token = (self.one("authorization") or "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else None

    @property
    def from_this_machine(self) -> bool:
        """Whether the client runs on this machine, as far as can be known: nothing in between says otherwise."""
        forwarded = any(name in self.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
        return is_loopback(self.peer) and not forwarded and not self.through_proxy

    def key(self, prefix: str) -> str:
        """ "POST /cases", as rules name it."""
        return f"{self.method} {self.path[len(prefix.rstrip('/')) :]}"


def check_head(scope: Scope) -> None:
    """Refuse heads that are longer than any client's."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > _MOST_HEADERS or len(scope.get("query_string", b"")) > _MOST_HEADERS:
        raise Refused(431, f"The request's head has more than {_MOST_HEADERS} bytes.")


def check_path(asked: Asked) -> None:
    """Refuse paths that no route has, and that something on the way may read differently."""
    if not asked.path.startswith("/") or len(asked.path) > _LONGEST_PATH or _STRANGE_PATH.search(asked.path):
        raise Refused(404, "Not Found")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_among(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is one of some addresses or in one of some networks ("10.0.0.0/8")."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network, strict=False) for network in networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
