"""What a receiver says of itself: one line for a thing that happened, with no more in it than numbers and short ids."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from medsam.errors import printable
from medsam.pacs.listen.names import without_uids


class Events:
    """Lines for a terminal or a log, or JSON objects, one a line. For all threads.

    write: takes a line without its end; by default stderr for text, stdout for JSON.
    """

    def __init__(self, *, as_json: bool = False, write: Callable[[str], None] | None = None) -> None:
        self._json = as_json
        self._write = write or (_to_stdout if as_json else _to_stderr)
        self._lock = threading.Lock()

    def __call__(self, event: str, text: str, **fields: Any) -> None:
        """Say that something happened. event: its name. text: a sentence, in which {name} is one of the fields.

        Nothing of a header goes in: neither names, numbers and dates of patients, nor descriptions. UIDs are shortened.
        """
        fields = {key: without_uids(value) if isinstance(value, str) else value for key, value in fields.items()}
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self._json:
            line = json.dumps({"time": time, "event": event, **fields}, default=str)
        else:
            line = f"{time} {text.format_map(fields)}"
        with self._lock:
            self._write(printable(line))


def _to_stderr(line: str) -> None:
    # the receiver goes on when its log is closed
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _to_stdout(line: str) -> None:
    with suppress(OSError, ValueError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
