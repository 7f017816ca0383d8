"""Keeping what other libraries warn and log from the user, without taking it from anyone else in the process.

`warnings.catch_warnings` and `Logger.setLevel` change the whole process: two threads that use them at once leave the
filters of one behind for good, and lose each other's lines. Here a block says what is to be kept quiet in its own
context alone (`contextvars`): filters that match nothing outside such a block stay in their lists, and nothing is ever
put back. File descriptors are not touched: what a decoder prints past Python and matters is read from a process of
its own (`io/dicom/pixels/gdcm.py`).

A thread begins with an empty context: who hands work to threads hands over `contextvars.copy_context()` with it.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

# louder than any record
ALL = logging.CRITICAL + 1


@dataclass(frozen=True)
class Rule:
    """Which warnings are ignored, or raised. message, module: patterns of their beginnings, as of `filterwarnings`."""

    action: Literal["ignore", "error"] = "ignore"
    message: str = ""
    category: type[Warning] = Warning
    module: str = ""


_RULES: ContextVar[frozenset[Rule]] = ContextVar("rules", default=frozenset())
_LEVELS: ContextVar[tuple[tuple[str, int], ...]] = ContextVar("levels", default=())
_LOCK = threading.Lock()


@contextmanager
def silence(*rules: Rule, loggers: Sequence[str] = (), below: int = ALL) -> Iterator[None]:
    """In this block, and in this thread alone, warnings follow `rules`, and `loggers` drop records under a level.

    Blocks may be nested. loggers: names, of which those below them are meant, too.
    """
    _put_in_front(rules)
    for name in loggers:
        _watch(name)
    active = _RULES.set(_RULES.get() | set(rules))
    levels = _LEVELS.set((*_LEVELS.get(), *((name, below) for name in loggers)))
    try:
        yield
    finally:
        _LEVELS.reset(levels)
        _RULES.reset(active)


def silence_libtiff(library: str) -> None:
    """Have the libtiff that a library is linked with print nothing, for good; what it fails at, its caller raises.

    It prints to file descriptor 2 itself. Nothing happens where it cannot be reached (linked statically).
    """
    with suppress(OSError, AttributeError):
        linked = ctypes.CDLL(library)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(linked, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


@dataclass(frozen=True)
class _InBlock:
    """Stands in a warning filter for the pattern of a module: it matches only in blocks that name its rule."""

    rule: Rule

    def match(self, module: str) -> Any:
        return self.rule in _RULES.get() and re.match(self.rule.module, module)


def _put_in_front(rules: Sequence[Rule]) -> None:
    """Have the filters of `rules` precede all others, so that they count in their blocks whatever else is set.

    They are never taken out: another thread may be going through the list, and would miss the filter that moved up.
    """
    wanted = {
        (rule.action, re.compile(rule.message, re.I) if rule.message else None, rule.category, _InBlock(rule), 0)
        for rule in rules
    }
    with _LOCK:
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        ours = 0
        while ours < len(filters) and isinstance(filters[ours][3], _InBlock):
            ours += 1
        for one in wanted.difference(filters[:ours]):
            # others have been put before it since, as `warnings.simplefilter` does with one it has
            with suppress(ValueError):
                filters.remove(one)
            # "error" before "ignore": it is the narrower one
            filters.insert(0 if one[0] == "error" else sum(f[0] == "error" for f in filters[:ours]), one)
            ours += 1


class _Levels(logging.Filter):
    """Drops the records of loggers that the present block keeps quiet."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(
            record.levelno < level and f"{record.name}.".startswith(f"{name}.") for name, level in _LEVELS.get()
        )


_FILTER = _Levels()


def _watch(name: str) -> None:
    """Give every handler that records of a logger and those below it reach the filter.

    Handlers, not loggers: a library makes loggers while it is at work, and a logger does not pass on its filters.
    """
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in logger.handlers:
            handler.addFilter(_FILTER)
        logger = logger.parent
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_FILTER)
