"""What a session tells while it works: server-sent events, across lost connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from medsam.client.connection import WAITS, Connection, Lost

# Seconds without a line, after which the connection is taken for dead: the server says something every 15.
_SILENT_S = 45.0
# states of a job that is over
ENDED = ("done", "stopped", "failed")


@dataclass(frozen=True)
class Event:
    """kind: "mask", "refined", "objects", "job", "progress", "error", or "resync" where some were missed.

    revision: of the session when it happened. Where they apply: object (its number) and slice; of a job its number,
    state ("queued", "running", "done", "stopped", "failed"), and the slices done and in all; detail: in words.
    more: everything the server said.
    """

    kind: str
    revision: int
    object: int | None = None
    slice: int | None = None
    job: str | None = None
    state: str | None = None
    done: int | None = None
    total: int | None = None
    detail: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ends_job(self) -> bool:
        """Whether a job has ended, one way or another."""
        return self.kind == "job" and self.state in ENDED

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> Event:
        known = {name: said.get(name) for name in ("object", "slice", "state", "done", "total", "detail")}
        job = said.get("job")
        return cls(str(said["kind"]), int(said["revision"]), job=None if job is None else str(job), more=said, **known)


def read_events(lines: Iterable[str]) -> Iterator[Event | None]:
    """Events of a stream of lines; None for a comment, which says that the connection stands. Others are left out.

    Source: the event stream format of the HTML standard (9.2.6).
    """
    data: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        if line.startswith(":"):
            yield None
        elif not line and data:
            text, data = "\n".join(data), []
            try:
                yield Event.from_dict(json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError):
                # of a later version
                continue
        elif name == "data":
            data.append(value.removeprefix(" "))


def follow(connection: Connection, path: str, since: int, seconds: float | None = None) -> Iterator[Event | None]:
    """The events after revision `since`, and None now and then while there are none; goes on after a lost connection.

    seconds: at most so long; None: until the caller stops, or the session is closed. Raises InputError where the server
    stays away.
    """
    end = None if seconds is None else time.monotonic() + seconds
    tries = iter(WAITS)
    while end is None or time.monotonic() < end:
        left = _SILENT_S if end is None else min(_SILENT_S, max(end - time.monotonic(), 0.1))
        try:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(since)}
            with connection.stream(path, headers=headers, silent_s=left) as response:
                if response.status_code == 204:
                    # nothing happens in it any more
                    return
                tries = iter(WAITS)
                for event in read_events(response.iter_lines()):
                    since = since if event is None else max(since, event.revision)
                    yield event
                    if end is not None and time.monotonic() >= end:
                        return
            # the server is ending, or the session was just closed
            yield None
            wait = next(tries, None)
        except Lost:
            wait = 0.0 if end is not None and time.monotonic() >= end else next(tries, None)
            if wait is None:
                raise
        time.sleep(wait or 0.0)
