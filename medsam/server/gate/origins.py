"""Which names the server answers to, and which pages may call it.

A page of another site can send requests to this server from the reader's own browser. Three things keep it out: the
name that it calls the server by (a name of its own that now leads here: DNS rebinding), the page that the browser says
the request comes from, and a token that no other page can read. Reading answers is kept from it by the browser, since
no answer allows it.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from medsam.server.gate.request import Asked, Refused, is_loopback
from medsam.server.gate.rules import SAFE_METHODS, PrefixRules
from medsam.server.settings import ServerSettings

CSRF_HEADER = "x-medsam-csrf"
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")


def check_host(asked: Asked, settings: ServerSettings) -> None:
    """Refuse names that are not this server's: 400 for what is no name, 421 for another's."""
    found = _AUTHORITY.fullmatch((asked.one("host") or "").lower())
    if found is None:
        raise Refused(400, "The header Host is missing or malformed.")
    name = found[1].strip("[]")
    # a wildcard is an address to listen at, and no name
    named = {one.lower() for one in (*settings.hosts, settings.host)} - {"0.0.0.0", "::", ""}
    if name not in named and not is_loopback(name):
        raise Refused(421, "This server is not known by that name: its administrator can add it to `hosts`.")


def check_origin(asked: Asked, rules: PrefixRules, https: bool) -> None:
    """Refuse what a page of another site asks, by what its browser says of it; programs say nothing."""
    origin = asked.one("origin")
    if origin in rules.origins and origin is not None:
        return
    led = rules.linked and _fills_the_window(asked)
    if not led and asked.headers.get("sec-fetch-site", ("none",))[0] not in ("same-origin", "none"):
        raise Refused(403, "Pages of other sites may not call this server.")
    if origin is None:
        return
    scheme, _, name = origin.lower().partition("://")
    if name != (asked.one("host") or "").lower() or scheme not in (("https",) if https else ("http", "https")):
        raise Refused(403, "Pages of other sites may not call this server.")


def _fills_the_window(asked: Asked) -> bool:
    """Whether somebody followed a link: no frame, no script, nothing that another page gets to see."""
    told = tuple(asked.one(f"sec-fetch-{name}") for name in ("mode", "dest"))
    return asked.method == "GET" and told == ("navigate", "document")


def check_csrf(asked: Asked, expected: str | None) -> None:
    """Refuse changes whose token is not that of the login. expected: None where none is needed."""
    if asked.method in SAFE_METHODS or expected is None:
        return
    if not hmac.compare_digest((asked.one(CSRF_HEADER) or "").encode(), expected.encode()):
        raise Refused(403, "The header X-Medsam-Csrf is missing or of another login: ask /me for it.")


def csrf_of(secret: str) -> str:
    """The token of a login, from its cookie's secret, which it does not tell: a page loaded anew can have it again."""
    return hmac.new(secret.encode(), b"medsam csrf", hashlib.sha256).hexdigest()
