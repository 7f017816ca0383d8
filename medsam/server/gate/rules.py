"""What a request has to look like, by the beginning of its path: other protocols come under prefixes of their own.

A path belongs to the longest prefix that it begins with; one that belongs to none is answered 404. Nothing is open but
what a rule opens: a route that forgets to ask who is there is closed all the same.

"POST /cases" is a method and the path behind the prefix; in `audited` it is the route's template ("/cases/{case}").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from medsam.server.settings import MIB, Limits

# how a reader says who they are: not at all on one's own machine, a cookie, `Authorization: Bearer`, a proxy's header
Way = Literal["local", "login", "token", "proxy"]
# those that a browser sends by itself, whatever page asks
AMBIENT: frozenset[Way] = frozenset({"local", "login", "proxy"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
# answers of the interface are data: as a page they may do nothing
DATA_HEADERS = {
    **_HEADERS,
    "content-security-policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
    ),
    "cache-control": "no-store",
}
# the page: files of its own alone, nothing inline, no plugins, in nobody's frame; WebAssembly computes previews
PAGE_HEADERS = {
    **_HEADERS,
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    # with the opener policy above: a process of its own, whose memory no other site shares
    "cross-origin-embedder-policy": "require-corp",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class PrefixRules:
    """ways: how readers may say who they are. open: what anybody may ask. unlocks: what a locked login may still ask.

    uncounted: whose routes read and count the body themselves; files: endings of paths of which that holds for all but
    JSON. bodies: limits of single routes, in bytes; body_bytes,
    and json_bytes for JSON: of all others. passive: endings of paths that a page asks for on its own: they are no sign
    of a reader, and only so many are answered at a time. origins: other pages that may call, as CORS has it; they have
    no use of cookies. audited: routes of which the audit has a line for each success.

    public: what lies there is the same for all and about nobody, so that nobody is asked who they are. linked: pages of
    other sites may lead here, by a link that fills the whole window, and not call. alone: the path itself, and none
    below it. unread: methods whose bodies the gate leaves alone, for clients that announce some and send none, and for
    routes that read them themselves. csrf: whether changes of who comes with a cookie need `X-Medsam-Csrf`; where not,
    the cookie's own SameSite and what browsers say of a request's page keep other pages out. unstored: what is answered
    where the store takes nothing, to clients that know 503 as something else.
    """

    prefix: str
    ways: frozenset[Way] = frozenset({"local", "login", "token", "proxy"})
    open: frozenset[str] = frozenset()
    unlocks: frozenset[str] = frozenset()
    uncounted: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    bodies: Mapping[str, int] = field(default_factory=dict)
    body_bytes: int = 64 * MIB
    json_bytes: int = 2 * MIB
    passive: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()
    audited: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: DATA_HEADERS)
    public: bool = False
    linked: bool = False
    alone: bool = False
    unread: frozenset[str] = frozenset()
    csrf: bool = True
    unstored: int = 503

    def covers(self, path: str) -> bool:
        """Whether a path is this prefix or below it."""
        return path == self.prefix or (not self.alone and path.startswith(self.prefix.rstrip("/") + "/"))


def rules_of_api(prefix: str, limits: Limits) -> tuple[PrefixRules, ...]:
    """Those of version 1 of the interface, and of what watches the server."""
    logins = ("POST /login", "POST /unlock", "POST /logout", "POST /me/password")
    api = PrefixRules(
        prefix,
        open=frozenset({"GET /version", "POST /login", "GET /health", "GET /health/live", "GET /metrics"}),
        unlocks=frozenset({"POST /login", "POST /unlock", "POST /logout"}),
        uncounted=frozenset({"POST /cases"}),
        files=("/compare",),
        bodies={**dict.fromkeys(logins, 4096), "POST /sessions": limits.start_bytes},
        body_bytes=limits.body_bytes,
        json_bytes=limits.json_bytes,
        passive=("/events", "/changes"),
        audited=AUDITED,
    )
    watching = tuple(
        PrefixRules(path, open=frozenset({"GET ", "GET /live"}), body_bytes=0) for path in ("/health", "/metrics")
    )
    # for administrators, who may follow a link to it
    return (api, *watching, PrefixRules("/status", body_bytes=0, alone=True, linked=True))


def rules_of_page() -> tuple[PrefixRules, ...]:
    """Those of the page: itself, to which others may link, and the files that it is made of."""
    files = PrefixRules("/assets", public=True, body_bytes=0, json_bytes=0, headers=PAGE_HEADERS)
    return (replace(files, prefix="/", alone=True, linked=True), files)


AUDITED = {
    "POST /cases": "upload",
    "GET /cases/{case}": "look",
    "DELETE /cases/{case}": "delete",
    "POST /cases/{case}/open": "open",
    "POST /cases/{case}/share": "share",
    "GET /cases/{case}/thumbnail": "list pictures",
    "GET /cases/{case}/volume": "read",
    "GET /cases/{case}/slices/{axis}/{index}": "read",
    "POST /pacs/{server}/find": "find",
    "POST /pacs/{server}/fetch": "fetch",
    "POST /sessions": "begin",
    "GET /sessions/{session}": "look",
    "GET /sessions/{session}/changes": "look",
    "GET /sessions/{session}/events": "look",
    "GET /sessions/{session}/prompts": "look",
    "GET /sessions/{session}/measures": "look",
    "GET /sessions/{session}/candidates": "look",
    "GET /sessions/{session}/probabilities": "look",
    "GET /sessions/{session}/organs": "look",
    "GET /sessions/{session}/jobs/{job}/statistics": "export",
    "GET /sessions/{session}/slices/{index}/embedding": "look",
    "DELETE /sessions/{session}": "close",
    "GET /sessions/{session}/labels": "export",
    "POST /sessions/{session}/send": "send",
    "POST /sessions/{session}/compare": "compare",
    "GET /sessions/{session}/compare/{reference}/masks": "look",
    "POST /annotate/next": "take task",
    "POST /annotate/tasks/{task}/open": "begin",
    "POST /annotate/tasks/{task}/submit": "hand in",
    "POST /annotate/tasks/{task}/leave": "leave task",
    "POST /annotate/tasks/{task}/skip": "skip task",
    "POST /annotate/tasks/{task}/reopen": "reopen task",
    "POST /annotate/tasks/{task}/review": "review",
    "POST /annotate/models/back": "change model",
    "POST /tokens": "token",
    "DELETE /tokens/{token}": "revoke",
    "POST /users": "add user",
    "PATCH /users/{user}": "change user",
    "POST /me/password": "change password",
    "POST /logout": "logout",
}

# one line an hour for a reader and a case, session or route: pages ask for these in many pieces; and one for the
# pictures of all lists
ONCE = frozenset({"look", "read", "refused", "list pictures", "list scans"})
# something may have left the house before they failed
FAILURES = frozenset({"send", "fetch", "find"})


def rules_for(path: str, table: tuple[PrefixRules, ...]) -> PrefixRules | None:
    """The rules of the longest prefix that `path` belongs to."""
    return max((one for one in table if one.covers(path)), key=lambda one: len(one.prefix), default=None)
