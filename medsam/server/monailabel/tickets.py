"""Tickets for one image: 3D Slicer fetches the next sample by a plain address, without the token it logged in with.

So the id of a sample that a reader is given carries a ticket: KEY~TICKET. Whoever has it may fetch that one image for
an hour, as that reader; for everything else the ticket is passed over, and who asks has to be recognised as always.
The key that signs them is of this process: after a restart a sample is asked for anew.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable

_MARK = "~"
_TICKET = re.compile(r"([0-9]{1,18})\.([0-9]{1,12})\.([0-9a-f]{64})")
LASTS_S = 3600.0


class Tickets:
    """clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key, self._clock = secrets.token_bytes(32), clock

    def given(self, image: str, reader: int) -> str:
        """The id of an image, with a ticket for a reader, by id."""
        ends = int(self._clock() + LASTS_S)
        return f"{image}{_MARK}{reader}.{ends}.{self._signed(image, reader, ends)}"

    def reader(self, text: str) -> int | None:
        """Whose ticket an id carries; None where it carries none that holds."""
        image, _, ticket = text.rpartition(_MARK)
        found = _TICKET.fullmatch(ticket)
        if found is None:
            return None
        reader, ends = int(found[1]), int(found[2])
        holds = hmac.compare_digest(self._signed(image, reader, ends), found[3])
        return reader if holds and ends > self._clock() else None

    def _signed(self, image: str, reader: int, ends: int) -> str:
        return hmac.new(self._key, f"{reader}.{ends}.{image}".encode(), "sha256").hexdigest()


def without_ticket(text: str) -> str:
    """The id of an image alone."""
    image, _, ticket = text.rpartition(_MARK)
    return image if _TICKET.fullmatch(ticket) else text
