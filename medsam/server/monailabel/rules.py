"""What a request of these clients has to look like.

They cannot do two things that the page does. They send no `X-Medsam-Csrf` beside a cookie: what keeps other sites'
pages out is then the cookie itself (SameSite=Strict), and what browsers say of the page that asks (`Origin`,
`Sec-Fetch-Site`). And they announce bodies that never come: of GET and DELETE no body is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from medsam.server.gate.rules import PAGE_HEADERS, PrefixRules
from medsam.server.settings import Limits

_NO_BODY = frozenset({"GET", "HEAD", "DELETE"})
AUDITED: Mapping[str, str] = {
    "PUT /session": "send scan",
    "POST /infer/{model}": "look",
    "PUT /datastore": "upload",
    "PUT /datastore/image": "upload",
    "DELETE /datastore": "delete",
    "GET /datastore": "list scans",
    "GET /datastore/image": "read",
    "PUT /datastore/label": "submit",
    "GET /datastore/label": "export",
    "DELETE /datastore/label": "withdraw",
    "GET /proxy/dicom/{operation}/{path:path}": "read",
    "POST /proxy/dicom/{operation}/{path:path}": "send",
}

# OHIF as it is built: styles of its own inline, blobs as workers, WebAssembly, and code that is put together in the
# browser (vtk.js). Nothing of it may come from elsewhere, or go there.
OHIF_HEADERS = {
    **PAGE_HEADERS,
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' blob: data:; connect-src 'self' blob: data:; font-src 'self' data:; worker-src 'self' blob:; "
        "manifest-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
}


def rules_of_monailabel(limits: Limits, *, ohif: bool) -> tuple[PrefixRules, ...]:
    """ohif: whether its pages and the way to its PACS are served, too."""
    small = PrefixRules(
        "/info", csrf=False, unread=_NO_BODY, json_bytes=limits.json_bytes, body_bytes=limits.json_bytes
    )
    forms = {name: frozenset({f"PUT {path}" for path in paths}) for name, paths in _FORMS.items()}
    rules = [
        small,
        *(replace(small, prefix=path) for path in ("/activelearning", "/train", "/batch", "/logs")),
        replace(small, prefix="/auth", open=frozenset({"GET ", "GET /", "POST /token"}), body_bytes=4096),
        # bodies that are scans: the routes count them
        replace(small, prefix="/session", uncounted=forms["/session"]),
        # with a ticket in its address, which the route looks at
        replace(small, prefix="/datastore", uncounted=forms["/datastore"], open=frozenset({"GET /image"})),
        replace(small, prefix="/infer", unread=_NO_BODY | {"POST"}),
    ]
    if ohif:
        rules.append(PrefixRules("/ohif", public=True, linked=True, body_bytes=0, json_bytes=0, headers=OHIF_HEADERS))
        rules.append(
            replace(
                small,
                prefix="/proxy",
                unread=_NO_BODY,
                body_bytes=limits.body_bytes,
            )
        )
    return tuple(replace(one, audited=_audited(one.prefix)) for one in rules)


_FORMS = {"/session": ("", "/"), "/datastore": ("", "/", "/image", "/label")}


def _audited(prefix: str) -> dict[str, str]:
    """The lines of a prefix, by its routes' templates behind it."""
    found = dict[str, str]()
    for key, what in AUDITED.items():
        method, _, path = key.partition(" ")
        if path == prefix or path.startswith(f"{prefix}/"):
            rest = path.removeprefix(prefix)
            found[f"{method} {rest}"] = what
            # with a slash at the end it is the same route
            found[f"{method} {rest}/"] = what
    return found
