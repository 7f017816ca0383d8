"""The PACS that the settings file names: what there is, fetched to become a case, and results sent back.

All of this waits for another machine, so it runs in threads of its own; cancelling ends a transfer at its next image.
Only names of servers leave this module: no address, no user, no path of the settings file. What a search finds is about
patients and goes to who asked, in the body of the answer.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread

from medsam.errors import Cancelled, InputError
from medsam.pacs.client import find, get, store
from medsam.pacs.outbox import outgoing
from medsam.pacs.query import KEYS, LIMIT, Found, Level, Query
from medsam.pacs.settings import Server, read_settings, settings_path
from medsam.server.cases.disk import check_room
from medsam.server.cases.found import without_folders

if TYPE_CHECKING:
    # HTTP to servers is of an extra
    from medsam.pacs.forward import Answer, Forwarder

Result = TypeVar("Result")

# transfers and searches at a time
_THREADS = 4
# until a transfer reaches its next image
_GRACE = 30.0
# as `medsam pacs find` calls them
NAMES: Mapping[str, str] = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "accession": "AccessionNumber",
    "date": "StudyDate",
    "modality": "Modality",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
}


class UnknownServer(InputError):
    """The settings file names no such server."""

    status = 404


@dataclass(frozen=True)
class Sent:
    """What became of a result. failures: reasons of the server, each once."""

    stored: int
    failures: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SentResult:
    """What became of one file of several."""

    study: str
    sop_class: str
    instance: str
    stored: bool


class Pacs:
    """The servers, by name. For the event loop."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(_THREADS)
        # of viewers, which ask for many images at a time
        self._reading = anyio.CapacityLimiter(2 * _THREADS)
        self._forwarders: dict[Server, Forwarder] = {}

    def close(self) -> None:
        """Close the connections that viewers have used."""
        for one in self._forwarders.values():
            one.close()

    async def names(self) -> list[str]:
        """Of all servers; none without a settings file."""
        return await self._run(lambda stop: sorted(_servers()))

    async def find(self, server: str, level: Level, keys: Mapping[str, str], limit: int = LIMIT) -> Found:
        """What a server knows. keys: as DICOM names them, or as in `NAMES`. Raises UnknownServer, InputError."""
        query = Query(level, {NAMES.get(key, key): value for key, value in keys.items()}, limit)
        return await self._run(lambda stop: find(_server(server), query))

    async def fetch(self, server: str, study: str, series: str, folder: Path) -> list[Path]:
        """The files of a series, fetched to `folder`. Raises UnknownServer, InputError, DiskFull."""

        def work(stop: threading.Event) -> list[Path]:
            def progress(done: int, total: int | None, /) -> None:
                if stop.is_set():
                    raise Cancelled
                check_room(folder)

            got = get(_server(server), study, series, folder, progress)
            return sorted(path for one in got.folders for path in one.iterdir())

        return await self._run(work, folder)

    async def read(self, server: str, path: str, query: str, accept: str) -> Answer:
        """What a server answers to a viewer, see `Forwarder.read`. Raises UnknownServer, InputError."""

        def work() -> Answer:
            from medsam.pacs.forward import Forwarder

            found = _server(server)
            # another one where the settings file has changed
            forwarder = self._forwarders.get(found) or self._forwarders.setdefault(found, Forwarder(found))
            return forwarder.read(path, query, accept)

        return await to_thread.run_sync(lambda: _shown(work, ()), limiter=self._reading)

    async def send_results(self, server: str, contents: Sequence[bytes]) -> list[SentResult]:
        """Store results, DICOM files, by the rules of `medsam pacs store`. Raises UnknownServer, and InputError for
        what is no result (images are not taken), or does not belong there."""

        def work(stop: threading.Event) -> list[SentResult]:
            with tempfile.TemporaryDirectory(prefix="medsam-") as folder:
                paths = [Path(folder) / f"result-{number}.dcm" for number in range(1, 1 + len(contents))]
                for path, content in zip(paths, contents, strict=True):
                    path.write_bytes(content)
                files = outgoing(paths)
                if not all(file.derived for file in files):
                    raise InputError("Only results are stored here (SEG, RTSTRUCT, reports), and no images.")
                there = {file.instance for file in store(_server(server), paths).stored}
                return [SentResult(file.study, file.sop_class, file.instance, file.instance in there) for file in files]

        return await self._run(work)

    async def send(self, server: str, content: bytes) -> Sent:
        """Store a result, a DICOM file, by the rules of `medsam pacs store`. Raises UnknownServer, InputError."""

        def work(stop: threading.Event) -> Sent:
            with tempfile.TemporaryDirectory(prefix="medsam-") as folder:
                path = Path(folder) / "result.dcm"
                path.write_bytes(content)
                done = store(_server(server), [path])
            reasons = dict.fromkeys(failure.reason for failure in done.failures)
            return Sent(len(done.stored), tuple(reasons), done.notes)

        return await self._run(work)

    async def _run(self, work: Callable[[threading.Event], Result], *folders: Path) -> Result:
        """The result of `work` in a thread; cancelled, it is waited for until it stops."""
        stop = threading.Event()
        running = asyncio.ensure_future(
            to_thread.run_sync(lambda: _shown(lambda: work(stop), folders), limiter=self._limiter)
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([running], timeout=_GRACE)
            raise


def known_key(key: str) -> bool:
    """Whether a server may be asked for it."""
    return key in NAMES or key in KEYS


def _servers() -> Mapping[str, Server]:
    return read_settings().servers if settings_path().is_file() else {}


def _server(name: str) -> Server:
    found = _servers().get(name)
    if found is None:
        raise UnknownServer("There is no PACS of that name.", parameter="server")
    return found


def _shown(work: Callable[[], Result], folders: Sequence[Path]) -> Result:
    """The result; errors without the places on this machine that messages for its administrator have."""
    try:
        return work()
    except InputError as error:
        raise without_folders(error, *folders) from None
