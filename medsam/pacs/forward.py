"""Reading from a DICOMweb server on behalf of a viewer: its questions as they are, the answers as they come.

Only what reads, and only below studies, series and instances: the address is made of the server's root and of parts
that were checked. Of the answer its status, its type and its bytes go on, which are counted.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from dataclasses import dataclass

import requests

from medsam.errors import InputError
from medsam.pacs.dicomweb import quiet
from medsam.pacs.settings import Server
from medsam.pacs.web_session import Guard, open_session, with_retries

# of one answer: a multi-frame image, or all frames of a series
ANSWER_BYTES = 512 * 2**20
_PATH = re.compile(r"(?:studies|series|instances)(?:/[A-Za-z0-9._,-]+){0,12}")
_LONGEST_QUERY = 4096


@dataclass(frozen=True)
class Answer:
    """status: of HTTP, as the server said it."""

    status: int
    media_type: str
    content: bytes


class Forwarder:
    """Of one server. Any thread may ask; connections are used again."""

    def __init__(self, server: Server) -> None:
        if server.dicomweb is None:
            raise InputError(f"Server {server.name} has no `dicomweb` in the settings file, which viewers need.")
        self._server, self._lock = server, threading.Lock()
        self._idle: deque[tuple[Guard, requests.Session]] = deque()

    def read(self, path: str, query: str, accept: str) -> Answer:
        """What the server answers to GET of `path` below its root. Raises InputError for no path of DICOMweb, and where
        no answer comes."""
        if not _PATH.fullmatch(path) or ".." in path or len(query) > _LONGEST_QUERY:
            raise InputError("This is no path of DICOMweb that is read here.")
        address = f"{self._server.dicomweb}/{path}" + (f"?{query}" if query else "")
        with self._lock:
            guard, session = self._idle.pop() if self._idle else self._opened()
        guard.allow(ANSWER_BYTES)

        def ask() -> Answer:
            with quiet():
                headers = {"Accept": accept} if accept else {}
                timeout = self._server.timeout_s
                found = session.get(address, headers=headers, timeout=timeout, allow_redirects=False)
            return Answer(found.status_code, str(found.headers.get("Content-Type", "")), found.content)

        try:
            return with_retries(self._server, "reading", ask)
        finally:
            with self._lock:
                self._idle.append((guard, session))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            while self._idle:
                self._idle.pop()[1].close()

    def _opened(self) -> tuple[Guard, requests.Session]:
        guard = Guard()
        return guard, open_session(self._server, guard)
