"""Everything about cases that a server keeps: where they come from, which are in memory, who may see whose they are.

Made once when the server starts. Methods are for the event loop and never block it: the store and files are asked in
threads, scans are read in processes. Who may see a case is said by the store, in one place; what is not a reader's to
see is not there for that reader (`UnknownCase`).
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anyio import CancelScope, to_thread

from medsam.errors import InputError, MedSAMError
from medsam.files import move
from medsam.io.dicom.identity import Identity, identity_of
from medsam.io.dicom.read import files_below
from medsam.io.dicom.tree import image_header
from medsam.server.cases.found import FoundCase, ScanFiles
from medsam.server.cases.index import PROJECT, CaseIndex, distinct, root_of
from medsam.server.cases.intake import Sorted, incoming, sort_scans
from medsam.server.cases.pacs import Pacs
from medsam.server.cases.pixels import described
from medsam.server.cases.pool import Pool
from medsam.server.cases.references import References
from medsam.server.cases.scans import ScanStore
from medsam.server.cases.thumbnails import Thumbnails
from medsam.server.cases.uploads import Uploads
from medsam.server.chores import repeated
from medsam.server.heavy import heavy
from medsam.server.settings import ServerSettings
from medsam.store.readers import Reader, Role
from medsam.store.records import CaseKind, NewCase, StoredCase
from medsam.store.store import Calls, Store
from medsam.volume import Volume

_LOG = logging.getLogger("medsam.server")
# the server itself, which looks for what a reader was let in to
_SERVER = Reader(0, "server", Role.ADMINISTRATOR)
_RETIRE_SECONDS, _FOR_EVER = 3600.0, 100 * 366 * 86400.0
# scans that wait for each loader
_WAITING = 4
# seconds within which who opens a scan asks again whether it is there
_ASKED = 15.0
# identities that are kept in memory
_KNOWN = 4000


class UnknownCase(MedSAMError):
    """There is none, or it is not this reader's to see."""

    status = 404

    def __init__(self, message: str = "There is no such case.", **options: Any) -> None:
        super().__init__(message, **options)


class Vanished(InputError):
    """The files of a case are gone. They may come back, and the case with them."""


class NotAllowed(MedSAMError):
    """A reader may see it, and no more."""

    status = 403


@dataclass
class CaseRooms:
    """See the top of the file. Made by `open`."""

    settings: ServerSettings
    store: Store
    pool: Pool
    scans: ScanStore
    index: CaseIndex
    uploads: Uploads
    pacs: Pacs
    calls: Calls
    thumbnails: Thumbnails
    references: References = field(default_factory=References)
    _people: OrderedDict[tuple[str, str], Identity | None] = field(default_factory=OrderedDict)
    _described: OrderedDict[tuple[str, str], asyncio.Future[dict[str, Any]]] = field(default_factory=OrderedDict)
    # by case: who reads it, and until when nobody has to ask again
    _opening: dict[str, tuple[asyncio.Task[None], asyncio.Timeout]] = field(default_factory=dict)
    # by source: a series is fetched once, however many ask; each lasts as long as somebody does
    _fetches: weakref.WeakValueDictionary[str, asyncio.Lock] = field(default_factory=weakref.WeakValueDictionary)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: ServerSettings, store: Store) -> AsyncIterator[CaseRooms]:
        """All of it, in this block. Raises InputError for a folder of `settings.data` that is none."""
        roots = await to_thread.run_sync(_checked_roots, settings.data)
        calls = Calls()
        uploads = await calls(Uploads, store.folder / "uploads")
        loop = asyncio.get_running_loop()

        async def files(key: str) -> ScanFiles:
            return await rooms.files(key)

        def changed(key: str) -> None:
            # the loop may have ended
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(rooms.scans.forget, key)

        async with Pool(settings.loaders) as pool:
            scans = ScanStore(pool, files, settings.scan_bytes)
            index = CaseIndex(store, roots, (store.folder,), settings.poll_seconds, changed)
            pictures = Thumbnails(pool, settings.scan_bytes)
            rooms = cls(replace(settings, data=roots), store, pool, scans, index, uploads, Pacs(), calls, pictures)
            await calls(rooms._sweep)
            await calls(index.start)
            retiring = asyncio.create_task(repeated(_RETIRE_SECONDS, rooms._retire, "removing old uploads"))
            try:
                yield rooms
            finally:
                ending = [retiring, *(task for task, _ in rooms._opening.values())]
                for task in ending:
                    task.cancel()
                await asyncio.gather(*ending, return_exceptions=True)
                await scans.close()
                rooms.pacs.close()
                await calls(index.close)

    # -- which cases ------------------------------------------------------------------------------------------

    async def case(self, reader: Reader, key: str) -> StoredCase:
        """A case that a reader may see. Raises UnknownCase."""
        found = await self.calls(self.store.case, reader, key)
        if found is None:
            raise UnknownCase(parameter="case")
        return found

    async def cases(
        self,
        reader: Reader,
        q: str,
        after: str | None,
        limit: int,
        *,
        newest: bool = False,
        kind: CaseKind | None = None,
        mine: bool = False,
    ) -> list[StoredCase]:
        """Those a reader may see, see `Store.cases`. Raises UnknownCase for an `after` that is none."""
        if after is not None:
            await self.case(reader, after)
        return await self.calls(self.store.cases, reader, q, after, limit, newest=newest, kind=kind, mine=mine)

    async def files(self, key: str) -> ScanFiles:
        """Where a case lies. Raises UnknownCase, and Vanished."""
        found = await self.calls(self.store.case, _SERVER, key)
        if found is None:
            raise UnknownCase(parameter="case")
        return await self.place(found)

    async def place(self, case: StoredCase) -> ScanFiles:
        """The same of a case that is known."""
        return await self.calls(self._place, case)

    def _place(self, case: StoredCase) -> ScanFiles:
        scan = FoundCase.from_dict(case.details["scan"])
        if PROJECT in case.details:
            if self.settings.project is None:
                raise Vanished("This case is of a project, which is not served now.", parameter="case")
            return ScanFiles(Path(root_of(case.source)), scan)
        if case.kind != "data":
            return ScanFiles(self.uploads.place(case.details["folder"]), scan)
        root = Path(root_of(case.source))
        if case.vanished_at is not None or root not in self.settings.data:
            raise Vanished("The files of this case are no longer in the server's folder.", parameter="case")
        return ScanFiles(root, scan)

    async def scan(self, reader: Reader, key: str) -> tuple[ScanFiles, Volume]:
        """A scan that a reader may see, and the files that it was read from. Raises UnknownCase, and as `ScanStore`."""
        files = await self.place(await self.case(reader, key))
        return files, await self.scans.get(key, files)

    async def same_scan(self, case: StoredCase, volume: Volume) -> bool:
        """Whether a case's files still hold this scan; they are read again where they are not as they were."""
        if await self.scans.current(case.key, volume):
            return True
        there = await self.scans.get(case.key)
        if there is volume:
            return True
        if there.geometry != volume.geometry or there.array.dtype != volume.array.dtype:
            return False
        one, other = await asyncio.gather(*(heavy(scan.voxel_digest) for scan in (there, volume)))
        return one == other

    # -- opening ----------------------------------------------------------------------------------------------

    def begin_open(self, key: str) -> None:
        """Have a case read, though nobody waits for it, as long as somebody asks again now and then; what goes wrong is
        in its state.

        Nothing is begun while so many are read that this one would only wait: who asks will ask again.
        """
        if (known := self._opening.get(key)) is not None:
            # it has not begun, or is ending
            with suppress(RuntimeError):
                known[1].reschedule(asyncio.get_running_loop().time() + _ASKED)
            return
        if len(self._opening) >= _WAITING * self.settings.loaders:
            return
        until = asyncio.timeout(_ASKED)

        async def read() -> None:
            try:
                # a scan is kept by the store; here is nobody to tell
                with suppress(MedSAMError, TimeoutError):
                    async with until:
                        await self.scans.get(key)
            finally:
                del self._opening[key]

        self._opening[key] = asyncio.create_task(read()), until

    async def described(self, key: str, version: str, volume: Volume) -> dict[str, Any]:
        """`pixels.described` of a scan, computed once: windows read its voxels."""
        found = self._described.get((key, version))
        if found is None or (found.done() and (found.cancelled() or found.exception() is not None)):
            found = self._described[key, version] = asyncio.ensure_future(heavy(described, volume))
            while len(self._described) > _KNOWN:
                self._described.popitem(last=False)
        return await asyncio.shield(found)

    async def thumbnail(self, reader: Reader, key: str) -> tuple[str, bytes]:
        """The version of a case's files that a reader may see, and a PNG of the slice in its middle; an empty one where
        there is none. Raises UnknownCase."""
        case = await self.case(reader, key)
        try:
            files = await self.place(case)
        except Vanished:
            # a list shows cases whose files are gone, too
            return "", b""
        here = self.scans.here(key, files.version)
        windows = None if here is None else (await self.described(key, files.version, here))["windows"][0]
        return files.version, await self.thumbnails.get(key, files, here, windows)

    # -- whose it is ------------------------------------------------------------------------------------------

    def may_know(self, reader: Reader) -> bool:
        """Whether a reader is told whose the cases are that it may see."""
        return reader.role >= self.settings.patients_from

    async def identities(self, cases: Sequence[StoredCase]) -> list[Identity | None]:
        """Whose they are, read from the files and kept in memory alone; None where that is not stated."""
        return await to_thread.run_sync(self._identities, list(cases))

    def _identities(self, cases: Sequence[StoredCase]) -> list[Identity | None]:
        found: list[Identity | None] = []
        folders: dict[Path, _FirstImages] = {}
        for case in cases:
            key = case.key, str(case.details["scan"]["version"])
            if key not in self._people:
                self._people[key] = self._identity(case, folders)
                while len(self._people) > _KNOWN:
                    self._people.popitem(last=False)
            found.append(self._people.get(key))
        return found

    def _identity(self, case: StoredCase, folders: dict[Path, _FirstImages]) -> Identity | None:
        # who draws for a project is not told whose scans they are
        if case.details["scan"]["kind"] != "dicom" or PROJECT in case.details:
            return None
        try:
            files = self._place(case)
            path = files.checked()[0]
            if not path.is_dir():
                return identity_of(path)
            if path not in folders:
                folders[path] = _FirstImages(path)
            first = folders[path].of(files.case.series)
            return None if first is None else identity_of(first)
        except (MedSAMError, OSError):
            return None

    # -- what comes and goes ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def arriving(self, uploads: Uploads | None = None) -> AsyncIterator[Path]:
        """A folder for what comes, see `uploads`; gone when the block ends, unless its cases were made. DiskFull.

        uploads: where it lies, by default beside those of cases."""
        uploads = uploads or self.uploads
        part = await self.calls(uploads.begin)
        try:
            yield part
        finally:
            with CancelScope(shield=True):
                await self.calls(uploads.discard, part)

    async def take_in(
        self, part: Path, names: Sequence[str], owner: Reader, details: Mapping[str, Any] | None = None
    ) -> tuple[list[StoredCase], Sorted]:
        """Make cases of an upload that has come to `part`. details: what else the store is to know of each.

        Raises InputError where it holds no scan."""
        found = await self.sort(part, names)
        token = await self.calls(self.uploads.keep, part)

        def new_case(number: int, case: FoundCase) -> NewCase:
            return _brought("upload", f"upload/{token}/{number}", case, owner, {"folder": token, **(details or {})})

        new = [new_case(number, case) for number, case in enumerate(found.cases)]
        cases = await self.calls(self.store.put_cases, new)
        await self.calls(self.uploads.known, token)
        return cases, found

    async def fetch(self, reader: Reader, server: str, study: str, series: str) -> StoredCase:
        """A series of a PACS as this reader's case; the one that is there already, where it was fetched before.

        Raises UnknownServer, InputError, DiskFull.
        """
        source = f"pacs/{reader.id}/{server}/{study}/{series}"
        async with self._fetches.setdefault(source, asyncio.Lock()):
            before = [row for row in await self.calls(self.store.case_sources, source) if row.source == source]
            if before:
                return before[0]
            async with self.arriving() as part:
                files = await self.pacs.fetch(server, study, series, part / "fetched")
                names = await self.calls(_numbered, part, files)
                found = await self.sort(part, names)
                token = await self.calls(self.uploads.keep, part)
                new = _brought("pacs", source, found.cases[0], reader, {"folder": token, "server": server})
                case = await self.calls(self.store.put_case, new)
                await self.calls(self.uploads.known, token)
                return case

    async def sort(self, part: Path, names: Sequence[str]) -> Sorted:
        """The scans of what has come to `part`. Raises InputError where there is none."""
        limits = self.settings.limits
        return await self.pool.beside(sort_scans, part, tuple(names), limits.unpacked_bytes, limits.upload_files)

    async def remove(self, reader: Reader, key: str) -> StoredCase:
        """Delete an upload, or what was fetched: its files, not what was made of it.

        Raises UnknownCase, and NotAllowed for what lies in a folder of the server, or is another's.
        """
        case = await self.case(reader, key)
        if case.kind == "data":
            raise NotAllowed("This case lies in a folder of the server, which deletes nothing there.", parameter="case")
        if case.owner != reader.id and reader.role < Role.ADMINISTRATOR:
            raise NotAllowed("Who brought a case, and administrators, delete it.", parameter="case")
        await self.calls(self.store.remove_case, case.id, reader)
        self.scans.forget(key)
        await self.calls(self._remove_files, case)
        await self.calls(self.store.files_removed, case.id)
        return case

    async def share(self, reader: Reader, key: str, user: str, *, may: bool) -> None:
        """Let another reader see a case, or no longer. Raises UnknownCase, NotAllowed, and InputError."""
        case = await self.case(reader, key)
        if case.owner != reader.id and reader.role < Role.ADMINISTRATOR:
            raise NotAllowed("Who brought a case, and administrators, say who may see it.", parameter="case")
        other = await self.calls(self.store.user_named, user)
        if other is None:
            raise InputError("There is no user of that name.", parameter="user")
        await self.calls(self.store.share_case if may else self.store.unshare_case, case.id, other.id, reader)

    def _remove_files(self, case: StoredCase) -> None:
        folder = case.details.get("folder")
        # several series of one upload lie in one folder, and what was fetched in one of its own
        if folder and not self.store.case_sources(f"upload/{folder}/"):
            self.uploads.remove(folder)

    def _sweep(self) -> None:
        """Remove what a server that was killed has left."""
        rows = [*self.store.case_sources("upload/"), *self.store.case_sources("pacs/"), *self.store.files_left()]
        strange = self.uploads.sweep({str(row.details.get("folder")) for row in rows})
        if strange:
            _LOG.warning("uploads of which the store knows nothing, kept: %d", strange)

    async def _retire(self) -> None:
        """Remove uploads that nobody has used for long; also what was removed when the server died."""
        kept = self.settings.uploads_kept
        await self.calls(self.store.retire_uploads, _FOR_EVER if kept is None else kept, self._remove_files)


def _brought(kind: CaseKind, source: str, case: FoundCase, owner: Reader, details: Mapping[str, Any]) -> NewCase:
    scan = replace(case, source=source).to_dict()
    return NewCase(source, kind, case.name, owner.id, case.modality, {"scan": scan, **details})


def _numbered(part: Path, files: Sequence[Path]) -> list[str]:
    """Put fetched files where uploads come to; their names."""
    for number, file in enumerate(files):
        move(file, incoming(part, number))
    return [file.name for file in files]


class _FirstImages:
    """The first image of each series in a folder; no more files are read than it takes to find it, and none twice."""

    def __init__(self, folder: Path) -> None:
        self._rest = iter(files_below(folder))
        self._found: dict[str | None, Path] = {}

    def of(self, series: str | None) -> Path | None:
        """Of a series, or of any, in order of their names; None where there is none."""
        while series not in self._found and (path := next(self._rest, None)) is not None:
            with suppress(InputError):
                header = image_header(path)
                if header is not None:
                    self._found.setdefault(header.series, path)
                    self._found.setdefault(None, path)
        return self._found.get(series)


def _checked_roots(data: Sequence[Path]) -> tuple[Path, ...]:
    for root in data:
        if not root.is_dir():
            raise InputError(f"`data` {root} is no folder.", parameter="data")
    return distinct(data)
