"""Who has one of the places for nnInteractive's clients, and how long it stays theirs.

A lease has two clocks: what a person does keeps it from being idle, and its client's heartbeat says that it lives. It
ends when either has run down, its image leaves memory then, and its client is answered 410.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from medsam.errors import InputError, MedSAMError
from medsam.server.settings import MIB, NNInteractive

if TYPE_CHECKING:
    from medsam.server.nninteractive.answering import Interactions


# seconds between two looks at the clocks
EVERY_S = 5.0


def check_installed() -> None:
    """Raise InputError where arrays of clients could not be unpacked."""
    if find_spec("blosc2") is None:
        raise InputError(
            "nnInteractive's protocol needs blosc2: pip install 'medsam-framework[nninteractive]'.",
            parameter="nninteractive",
        )


class Full(MedSAMError):
    """Every place is taken. Clients take any 503 for this, so nothing else is answered so."""

    status, retry_after = 503, 30


class Expired(MedSAMError):
    """There is no such lease, or no longer."""

    status = 410


class NoRoom(MedSAMError):
    """An image that memory is not spent on."""

    status = 413


class Lease:
    """Of one client. reader: id of whom its key is of. held: bytes that are set aside for its image."""

    def __init__(self, reader: int, clock: Callable[[], float]) -> None:
        self.token, self.reader, self._clock = secrets.token_urlsafe(24), reader, clock
        self.lock = asyncio.Lock()
        self.held = 0
        self.work: Interactions | None = None
        self.acted = self.lived = clock()
        self._busy = 0

    def act(self) -> None:
        """Somebody has done something."""
        self.acted = self.lived = self._clock()

    def live(self) -> None:
        """The client has said that it is there."""
        self.lived = self._clock()

    @contextmanager
    def acting(self) -> Iterator[None]:
        """It does not end in this block, and is not idle after it."""
        self._busy += 1
        self.act()
        try:
            yield
        finally:
            self._busy -= 1
            self.act()

    @property
    def busy(self) -> bool:
        """Whether something is under way in it."""
        return self._busy > 0

    def seconds_left(self, idle: float) -> float:
        """Until it is idle."""
        return idle if self._busy else max(0.0, self.acted + idle - self._clock())

    def has_ended(self, settings: NNInteractive) -> bool:
        """Whether one of its clocks has run down."""
        silent = self._clock() - self.lived > settings.liveness_seconds
        return not self._busy and (silent or self.seconds_left(settings.idle_seconds) <= 0)


class Leases:
    """All of them. For the event loop. Raises InputError where a package is missing."""

    def __init__(self, settings: NNInteractive, clock: Callable[[], float] = time.monotonic) -> None:
        check_installed()
        self.settings, self._clock = settings, clock
        self._leases: dict[str, Lease] = {}
        # released while an image was on its way: that is in memory until its call ends
        self._ending: set[Lease] = set()

    def __len__(self) -> int:
        return len(self._leases)

    def claim(self, reader: int) -> Lease:
        """A place. Raises Full."""
        self.sweep()
        if len(self._leases) >= self.settings.sessions:
            raise Full(
                f"All {self.settings.sessions} places of this server for nnInteractive are taken. Try again later, or "
                "end a session elsewhere."
            )
        lease = Lease(reader, self._clock)
        self._leases[lease.token] = lease
        return lease

    def find(self, token: str | None, reader: int) -> Lease:
        """A reader's own. Raises Expired."""
        self.sweep()
        lease = self._leases.get(token or "")
        if lease is None or lease.reader != reader:
            raise Expired("This session has ended, or never was: claim a new one, and send the image again.")
        return lease

    def release(self, lease: Lease) -> None:
        """End one."""
        self._leases.pop(lease.token, None)
        if lease.work is not None:
            lease.work.stop()
        lease.work = None
        if lease.busy:
            self._ending.add(lease)
        else:
            lease.held = 0

    def check(self, lease: Lease) -> None:
        """Raises Expired for one that was released in the meantime."""
        if lease.token not in self._leases:
            raise Expired("This session was ended while its image was on the way.")

    async def swept(self) -> None:
        """`sweep`: memory of clients that are gone is given back without anybody who asks."""
        self.sweep()

    def sweep(self) -> None:
        """End those whose clocks have run down."""
        for lease in [one for one in self._leases.values() if one.has_ended(self.settings)]:
            self.release(lease)

    def close(self) -> None:
        """End all."""
        for lease in list(self._leases.values()):
            self.release(lease)

    def set_aside(self, lease: Lease, size: int) -> None:
        """Memory for a lease's image, in place of what it had. size: bytes. Raises NoRoom, Expired."""
        self.check(lease)
        self._ending = {one for one in self._ending if one.busy}
        held = sum(one.held for one in (*self._leases.values(), *self._ending) if one is not lease)
        needed, free, most = (n / MIB for n in (size, self.settings.image_bytes - held, self.settings.image_bytes))
        if needed > free:
            raise NoRoom(
                f"This image takes {needed:,.0f} MiB with its masks, and {free:,.0f} of the {most:,.0f} MiB that this "
                "server has for images of viewers are free. Crop it, or ask its administrator for more."
            )
        lease.held = size
