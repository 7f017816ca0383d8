"""Which series is meant, and what a log says in place of its UIDs."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple


class SeriesKey(NamedTuple):
    """(0020,000D) and (0020,000E)."""

    study: str
    series: str


_IN_TEXT = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+){4,}")


def without_uids(text: str) -> str:
    """A message with short ids in place of UIDs, as in names of files."""
    return _IN_TEXT.sub(lambda match: short(match[0]), text)


def short(uid: str) -> str:
    """What a log says instead of a UID; who has the UID can work it out."""
    return hashlib.sha256(uid.encode()).hexdigest()[:10]
