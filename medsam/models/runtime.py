"""OpenVINO: one a process, and what it changes of the process."""

from __future__ import annotations

import functools
import locale
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ONE_AT_A_TIME = threading.Lock()
# not the same one: a Core may be made while a locale is kept
_ONE_LOCALE = threading.Lock()


def openvino_core() -> Any:
    """The `openvino.Core` everything here shares; it is never given back. Raises ImportError where OpenVINO is missing.

    Every Core of OpenVINO 2026.4 lays out a stack for signals (sigaltstack) and frees it when it goes. Of two, the
    second puts the first one's stack back after that was freed: the next signal, say of a data loader's process that
    ends, is handled on memory that belongs to someone else by then, a batch of training data as likely as not.

    Threads are not bound to cores: OpenVINO would bind those of every process to the first ones, and two processes of
    one thread each would share a core whatever others there are (2.06 s for an image instead of 1.03).
    """
    with _ONE_AT_A_TIME:
        return _core()


@functools.cache
def _core() -> Any:
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"ENABLE_CPU_PINNING": False})
    return core


@contextmanager
def locale_kept() -> Iterator[None]:
    """The process's locale is afterwards what it was before.

    While OpenVINO reads a graph it sets the locale C and then the former one again; where two threads do so at once,
    the second may take C for the former, and files would be read as ASCII from then on.
    """
    with _ONE_LOCALE:
        before = locale.setlocale(locale.LC_ALL)
        try:
            yield
        finally:
            locale.setlocale(locale.LC_ALL, before)
