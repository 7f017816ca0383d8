"""The log: one JSON object a line.

Lines of this server and of uvicorn are whole. Of other libraries it says which logger, how bad and where in the code:
what readers of files, the network and databases write may hold a patient's name, and no traceback has its messages.
"""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

from medsam.server.errors import module_of, places

_OURS = ("medsam.server", "uvicorn")


class JsonLines(logging.Formatter):
    """A record as a line. What a record has as `fields` become keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if any(f"{record.name}.".startswith(f"{name}.") for name in _OURS):
            line["event"] = record.getMessage()
        else:
            line["event"] = f"at {module_of(record.pathname)}:{record.lineno}"
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = places(record.exc_info[1])
        # ASCII: no line end, and nothing that a terminal obeys
        return json.dumps(line, ensure_ascii=True, default=str)


def log_to_stderr() -> None:
    """From now on everything of this process that logs or warns writes such lines to stderr.

    It changes the whole process, for good: for one that does nothing but serve, once it does.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": {"()": JsonLines}},
            "handlers": {
                "lines": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stderr"}
            },
            "root": {"level": "WARNING", "handlers": ["lines"]},
            "loggers": {"medsam.server": {"level": "INFO"}, "uvicorn.error": {"level": "INFO"}},
        }
    )
    logging.captureWarnings(True)
