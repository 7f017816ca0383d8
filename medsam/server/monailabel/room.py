"""What this room keeps, and how its routes come by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from medsam.errors import InputError, MedSAMError, printable
from medsam.files import move
from medsam.server.cases.intake import incoming
from medsam.server.cases.receiving import received_in
from medsam.server.cases.rooms import CaseRooms
from medsam.server.chores import repeated
from medsam.server.monailabel.images import Images
from medsam.server.monailabel.labels import SubmittedLabels
from medsam.server.monailabel.sent import Sent
from medsam.server.monailabel.tickets import Tickets
from medsam.server.services import Services
from medsam.server.settings import MonaiLabel

_ORDER_S = 60.0
# inferences that run or wait at a time: each holds its scan and its mask
_MOST = 24


class FullServer(MedSAMError):
    """So much is asked for at once that one more would only wait."""

    status, retry_after = 503, 5


@dataclass(frozen=True)
class Form:
    """A request's form. folder: where its files lie. files: by part, what each is called and where it lies."""

    folder: Path
    fields: Mapping[str, bytes]
    files: dict[str, tuple[str, Path]]


class Room:
    """Made by `open`."""

    def __init__(self, services: Services, settings: MonaiLabel, sent: Sent, labels: SubmittedLabels) -> None:
        self.settings, self.sent, self.labels = settings, sent, labels
        self.images = Images(services.cases, sent, settings.pacs)
        self.tickets = Tickets()
        self.running = 0
        self._services = services

    @classmethod
    @asynccontextmanager
    async def open(cls, services: Services, settings: MonaiLabel) -> AsyncIterator[Room]:
        """For as long as this block lasts."""
        calls, folder = services.cases.calls, services.store.folder
        sent = await calls(Sent, folder / "sent", settings.session_s)
        labels = await calls(SubmittedLabels, folder / "labels")
        room = cls(services, settings, sent, labels)
        retiring = asyncio.create_task(repeated(_ORDER_S, room._retire, "removing images that were sent"))
        try:
            yield room
        finally:
            retiring.cancel()
            await asyncio.wait([retiring])

    @contextmanager
    def place(self) -> Iterator[None]:
        """One more inference. Raises FullServer."""
        if self.running >= _MOST:
            raise FullServer(f"{self.running} masks are being made or wait for that: try again in a few seconds.")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    @asynccontextmanager
    async def form(self, request: Request, *, sent: bool = False) -> AsyncIterator[Form]:
        """The form of a request, while this block lasts. sent: its folder may become a session.

        Raises TooLarge, DiskFull, and InputError for what is no form.
        """
        rooms: CaseRooms = self._services.cases
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise InputError("The body is multipart/form-data here.")
        async with rooms.arriving(self.sent.uploads if sent else None) as folder:
            receiver = await received_in(folder, request, rooms, self._services.settings.limits)
            names = await rooms.calls(receiver.end, 0)
            files = dict[str, tuple[str, Path]]()
            for number, (part, name) in enumerate(zip(receiver.parts, names, strict=True)):
                if part in files:
                    raise InputError(
                        f"The file `{printable(part[:40])}` comes more than once: an image is one file, slices one zip."
                    )
                # the full path of the client's own machine, from some
                files[part] = name, incoming(folder, number)
            yield Form(folder, receiver.fields, files)

    async def alone(self, form: Form, part: str) -> tuple[str, Path] | None:
        """The file of a part as the only one that has come, as it is sorted; None where there is none."""
        if part not in form.files:
            return None
        name, path = form.files[part]
        first = incoming(form.folder, 0)
        if path != first:
            beside = form.folder / "beside"
            await self._services.cases.calls(_swapped, path, first, beside)
            form.files.update({one: (name, beside) for one, (name, at) in form.files.items() if at == first})
        return name, first

    async def _retire(self) -> None:
        for token in await self._services.cases.calls(self.sent.retire):
            self._services.cases.scans.forget(f"sent/{token}")


def _swapped(path: Path, first: Path, beside: Path) -> None:
    move(first, beside)
    move(path, first)


async def room_of(request: Request) -> Room:
    """That of the app that a request came to."""
    return request.app.state.monailabel


PresentRoom = Annotated[Room, Depends(room_of)]
