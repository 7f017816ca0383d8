"""Which series is meant, and what a log says in place of its UIDs."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class SeriesKey(NamedTuple):
    """(0020,000D) and (0020,000E)."""

    study: str
    series: str


def short(uid: str) -> str:
    """What a log says instead of a UID; who has the UID can work it out."""
    return hashlib.sha256(uid.encode()).hexdigest()[:10]
