"""Scans in memory, one for all readers.

A scan is read by a process (`pool`) when it is first asked for, once, however many ask; its voxels are mapped here,
read-only. Whoever holds the volume keeps it: the store counts what is alive and lets go of what was asked for longest
ago, which frees it as soon as no reading uses it. A scan that somebody uses is never in memory twice, since it is found
again also after the store has let go of it.

All of this runs on the event loop; nothing here waits for a file.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from medsam.data.manifest import respaced
from medsam.errors import InputError, MedSAMError
from medsam.io.dicom.series import read_dicom
from medsam.io.load import load_volume
from medsam.server.cases.found import ScanFiles, as_shown
from medsam.server.cases.pool import Defect, Pool
from medsam.volume import Volume

_LOG = logging.getLogger("medsam.server")

State = Literal["listed", "loading", "ready", "broken"]
# how long a scan that nobody waits for any more may take to come all the same
_GRACE = 1.0
# how many failures are remembered
_FAILURES = 2_000
_MOMENT = 0.05


@dataclass
class _Load:
    """A scan on its way. waiting: how many wait for it."""

    version: str
    task: asyncio.Task[Volume]
    waiting: int = 0


@dataclass(frozen=True)
class _Failure:
    """Why a case was not read. until: as `time.monotonic` says. size: bytes that it takes, as far as that is known."""

    version: str
    error: MedSAMError
    until: float = math.inf
    size: int = 0


@dataclass
class ScanStore:
    """Scans by case. files: where a case lies, as it is now; raises MedSAMError for one that is gone.

    limit: bytes. A scan is refused when it does not fit beside those that are in use; one larger than that, always.
    spare: asked where memory is full: has somebody who holds a scan and does not need it now let go of it, if there is
    one, and says whether there was.
    """

    pool: Pool
    files: Callable[[str], Awaitable[ScanFiles]]
    limit: int
    loaded: int = 0
    spare: Callable[[], Awaitable[bool]] | None = None
    _kept: OrderedDict[str, Volume] = field(default_factory=OrderedDict)
    _alive: weakref.WeakValueDictionary[tuple[str, str], Volume] = field(default_factory=weakref.WeakValueDictionary)
    _loads: dict[str, _Load] = field(default_factory=dict)
    _failures: OrderedDict[str, _Failure] = field(default_factory=OrderedDict)

    async def get(self, case: str, files: ScanFiles | None = None) -> Volume:
        """The scan of a case, whose array is read-only. files: where it lies, for who has asked for that already.

        Cancelling ends the load where nobody else waits for it. Raises the reader's MedSAMError for what cannot be
        read, until its files change; ForNow for half a minute; FullMemory where there is no room for it.
        """
        files = await self.files(case) if files is None else files
        if (found := self._alive.get((case, files.version))) is not None:
            self._keep(case, files.version, found)
            return found
        if isinstance(known := self._why_not(case, files.version), InputError):
            raise known
        load = self._loads.get(case)
        if load is None or load.version != files.version:
            load = self._loads[case] = _Load(files.version, asyncio.create_task(self._load(case, files)))
        load.waiting += 1
        try:
            return await asyncio.shield(load.task)
        finally:
            load.waiting -= 1
            if not load.waiting and not load.task.done():
                asyncio.get_running_loop().call_later(_GRACE, _end_unwanted, load)

    async def current(self, case: str, volume: Volume) -> bool:
        """Whether a scan that was got is of the case's files as they are now. MedSAMError where they are gone."""
        return self._alive.get((case, (await self.files(case)).version)) is volume

    def state(self, case: str, version: str) -> State:
        """What became of a case so far. version: of its files."""
        if (case, version) in self._alive:
            return "ready"
        if (load := self._loads.get(case)) is not None and load.version == version:
            return "loading"
        return "listed" if self.problem(case, version) is None else "broken"

    def problem(self, case: str, version: str) -> str | None:
        """Why a case that is broken cannot be read."""
        known = self._why_not(case, version)
        return str(known) if isinstance(known, InputError) else None

    def check(self, case: str, version: str) -> None:
        """Raise why a case could not be read lately, though nobody waited for that: see `get`."""
        if (known := self._why_not(case, version)) is not None:
            raise known

    def _why_not(self, case: str, version: str) -> MedSAMError | None:
        known = self._failures.get(case)
        if known is None or known.version != version or known.until < time.monotonic():
            return None
        # a new one each time: it takes up the traceback of whoever raises it
        return type(known.error)(*known.error.args, parameter=known.error.parameters)

    def here(self, case: str, version: str) -> Volume | None:
        """The scan of a case if it is in memory."""
        return self._alive.get((case, version))

    def forget(self, case: str) -> None:
        """A case was deleted, or its files have changed: what nobody uses goes."""
        self._kept.pop(case, None)
        self._failures.pop(case, None)

    @property
    def bytes(self) -> int:
        """In memory, of all scans that are kept or in use."""
        return sum(map(size_of, list(self._alive.values())))

    async def close(self) -> None:
        """End all loads."""
        for load in self._loads.values():
            load.task.cancel()
        await asyncio.gather(*(load.task for load in self._loads.values()), return_exceptions=True)
        self._kept.clear()

    async def _load(self, case: str, files: ScanFiles) -> Volume:
        # before it is read: what a header states takes a byte a voxel at least, and what was read before is known
        known, size = self._failures.get(case), math.prod(files.case.shape or (0,))
        if known is not None and known.version == files.version:
            size = max(size, known.size)
        try:
            self._check_size(size)
            await self._make_room(size)
            volume = await self._read(files)
            size = size_of(volume)
            self._check_size(size)
            await self._make_room(size)
        except (InputError, FullMemory) as error:
            self._remember(case, files.version, error, size)
            raise
        finally:
            if (load := self._loads.get(case)) is not None and load.task is asyncio.current_task():
                del self._loads[case]
        self._failures.pop(case, None)
        self.loaded += 1
        self._keep(case, files.version, volume)
        return volume

    async def _read(self, files: ScanFiles) -> Volume:
        try:
            return await self.pool.run(read_scan, files)
        except Defect as defect:
            # it would be the same the next time, and whoever opens a scan without waiting has to be told, too
            _LOG.error("a scan could not be read: %s", defect)
            raise InputError("This scan cannot be read by a defect in medsam, which the server's log has.") from None

    def _remember(self, case: str, version: str, error: MedSAMError, size: int) -> None:
        until = time.monotonic() + getattr(error, "lasts", math.inf)
        self._failures[case] = _Failure(version, error, until, size)
        self._failures.move_to_end(case)
        while len(self._failures) > _FAILURES:
            self._failures.popitem(last=False)

    def _keep(self, case: str, version: str, volume: Volume) -> None:
        self._alive[case, version] = volume
        self._kept[case] = volume
        self._kept.move_to_end(case)

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise InputError(
                f"The scan takes {size / 2**20:,.0f} MiB or more, and the server keeps {self.limit / 2**20:,.0f} MiB "
                "of scans in all. Ask its administrator."
            )

    async def _make_room(self, size: int) -> None:
        """Let go of the scans that were not asked for longest, as far as that is needed."""
        while self.bytes + size > self.limit:
            if self._kept:
                self._kept.popitem(last=False)
            elif self.spare is None or not await self.spare():
                break
        if self.bytes + size > self.limit:
            # the thread that has brought a scan holds it for a moment more
            await asyncio.sleep(_MOMENT)
        used = self.bytes
        if used and used + size > self.limit:
            raise FullMemory(
                f"The scan takes {size / 2**20:.0f} MiB or more, and those that are being read take {used / 2**20:.0f} "
                f"MiB of the {self.limit / 2**20:.0f} MiB that the server keeps for scans. Close one, or wait."
            )


class FullMemory(MedSAMError):
    """There is no room for a scan beside those in use. lasts: as of `ForNow`."""

    lasts = 5.0
    status, retry_after = 503, math.ceil(lasts)


def size_of(volume: Volume) -> int:
    """Bytes in memory."""
    return volume.array.nbytes + (0 if volume.no_signal is None else volume.no_signal.nbytes)


def _end_unwanted(load: _Load) -> None:
    if not load.waiting and not load.task.done():
        load.task.cancel()


def read_scan(files: ScanFiles) -> Volume:
    """Read a scan, in a process of its own: voxels in C order, little-endian, as they go to clients.

    Raises InputError in the readers' words, which name files without the folders above them.
    """
    try:
        volume = _read(files)
    except InputError as error:
        raise as_shown(error, files) from None
    said = files.case.said or {}
    if "spacing_mm" in said:
        volume = replace(volume, geometry=respaced(volume.geometry, said["spacing_mm"]))
    if "modality" in said:
        volume = replace(volume, modality=said["modality"])
    dtype = volume.array.dtype.newbyteorder("<")
    return replace(volume, array=np.ascontiguousarray(volume.array, dtype=dtype))


def _read(files: ScanFiles) -> Volume:
    case, paths = files.case, files.checked()
    if case.kind != "dicom":
        return load_volume(paths[0], frame=case.frame)
    if case.files is None:
        return load_volume(paths[0], series=case.series if paths[0].is_dir() else None)
    found = read_dicom(dict(zip(case.files, paths, strict=True)), case.series)
    return replace(found, source=files.path)
