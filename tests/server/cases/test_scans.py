"""Scans in memory: read once, by processes that may die, and let go of when nobody uses them."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal

from medsam.errors import InputError
from medsam.io.load import load_volume
from medsam.server.cases.found import ForNow, FoundCase, ScanFiles
from medsam.server.cases.pool import Pool
from medsam.server.cases.scans import FullMemory, ScanStore, read_scan, size_of
from medsam.volume import Volume

SHAPE = (40, 60, 50)


def died() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def slept(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def broken() -> None:
    raise InputError("IM1 is damaged.", parameter="series")


def defect() -> None:
    raise KeyError("DOE^JANE")


def arrays() -> dict[str, np.ndarray]:
    return {"large": np.arange(50_000), "small": np.arange(3), "columns": np.asfortranarray(np.ones((300, 400)))}


def heavy() -> list[str]:
    """What a process has imported that costs memory or time and reads no scan."""
    for name in ("scans", "intake", "exports", "watch"):
        importlib.import_module(f"medsam.server.cases.{name}")
    return [name for name in ("torch", "monai", "fastapi", "sqlalchemy", "openvino") if name in sys.modules]


Run = Callable[[Callable[[Pool], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Has work done on an event loop, with one process for all tests here: it takes a second to start."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Pool(1, warm=())) as pool:
        yield lambda work: portal.call(work, pool)


def test_arrays_come_as_they_are_and_cannot_be_changed(run):
    async def work(pool: Pool) -> None:
        found = await pool.run(arrays)
        assert all(np.array_equal(array, arrays()[name]) for name, array in found.items())
        assert not found["large"].flags.writeable
        # the memory lives as long as one of its arrays
        columns = found.pop("columns")
        del found
        gc.collect()
        assert columns.sum() == 120_000
        assert await pool.run(heavy) == []

    run(work)


def test_a_process_that_dies_costs_its_work_alone(run):
    async def work(pool: Pool) -> None:
        with pytest.raises(InputError, match="signal SIGKILL"):
            await pool.run(died)
        with pytest.raises(InputError, match="IM1 is damaged") as caught:
            await pool.run(broken)
        assert caught.value.parameter == "series"
        with pytest.raises(RuntimeError, match="KeyError in a loader at .*defect") as defective:
            await pool.run(defect)
        assert "DOE" not in str(defective.value)
        with pytest.raises(InputError, match="longer than"):
            await pool.run(slept, 60, seconds=0.3)
        first = await pool.run(slept, 0)
        assert await pool.run(slept, 0) == first

    run(work)


def test_cancelling_ends_the_process_and_the_next_work_goes_on(run):
    async def work(pool: Pool) -> None:
        before = await pool.run(slept, 0)
        task = asyncio.create_task(pool.run(slept, 600))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.run(slept, 0) != before

    run(work)


def test_other_work_leaves_a_process_to_those_who_open_a_scan():
    async def work() -> None:
        async with Pool(2, warm=()) as pool:
            others = [asyncio.create_task(pool.beside(slept, 600)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for _ in range(2):
                await asyncio.wait_for(pool.run(slept, 0), 10)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(work())


class Shelf:
    """Files of cases."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder, self.asked, self.version = folder, 0, "1"
        voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        for n in range(count):
            nib.save(nib.Nifti1Image((voxels + n).transpose(2, 1, 0), np.eye(4)), folder / f"c{n}.nii")

    async def __call__(self, case: str) -> ScanFiles:
        self.asked += 1
        found = FoundCase(case, case, "nifti", None, SHAPE, f"{case}.nii", self.version)
        return ScanFiles(self.folder, found)


def test_a_scan_is_read_once_for_all_and_found_again_while_it_is_used(run, tmp_path):
    shelf = Shelf(tmp_path)

    async def work(pool: Pool) -> None:
        scans = ScanStore(pool, shelf, limit=10 * np.prod(SHAPE))
        assert scans.state("c0", shelf.version) == "listed"
        several = await asyncio.gather(*(scans.get("c0") for _ in range(5)))
        assert len({id(one) for one in several}) == scans.loaded == 1
        assert several[0] == load_volume(tmp_path / "c0.nii")
        assert not several[0].array.flags.writeable
        assert scans.state("c0", shelf.version) == "ready"
        shelf.version = "2"
        assert await scans.get("c0") is not several[0]
        await scans.close()

    run(work)


def test_the_oldest_goes_first_and_what_is_used_stays(run, tmp_path):
    shelf = Shelf(tmp_path)

    async def work(pool: Pool) -> None:
        first = await ScanStore(pool, shelf, limit=2**30).get("c0")
        size = size_of(first)
        scans = ScanStore(pool, shelf, limit=2 * size)
        held = await scans.get("c0")
        await scans.get("c1")
        await scans.get("c2")
        gc.collect()
        assert (
            scans.state("c0", shelf.version),
            scans.state("c1", shelf.version),
            scans.state("c2", shelf.version),
        ) == ("ready", "listed", "ready")
        assert scans.bytes == 2 * size
        assert await scans.get("c0") is held
        other = await scans.get("c1")
        with pytest.raises(FullMemory, match="Close one"):
            await scans.get("c2")
        assert scans.state("c2", shelf.version) == "listed"
        del other, held
        await scans.get("c2")

    run(work)


def test_who_needs_a_scan_no_more_makes_room_for_another(run, tmp_path):
    shelf = Shelf(tmp_path)

    async def work(pool: Pool) -> None:
        size = np.prod(SHAPE) * 2
        scans = ScanStore(pool, shelf, limit=2 * size)
        held = [await scans.get("c0"), await scans.get("c1")]

        async def spare() -> bool:
            if len(held) == 1:
                return False
            del held[0]
            return True

        scans.spare = spare
        await scans.get("c2")
        assert (len(held), scans.state("c0", shelf.version)) == (1, "listed")
        held.append(await scans.get("c2"))
        scans.spare = None
        with pytest.raises(FullMemory):
            await scans.get("c0")

    run(work)


def test_a_scan_larger_than_all_memory_is_not_read(run, tmp_path, monkeypatch):
    monkeypatch.setattr("medsam.server.cases.scans.read_scan", slept_instead)

    async def work(pool: Pool) -> None:
        scans = ScanStore(pool, Shelf(tmp_path, 1), limit=1000)
        with pytest.raises(InputError, match="keeps 0 MiB"):
            await scans.get("c0")

    run(work)


def test_what_cannot_be_read_is_said_again_until_its_file_changes(run, tmp_path):
    shelf = Shelf(tmp_path, 1)
    whole = (tmp_path / "c0.nii").read_bytes()
    (tmp_path / "c0.nii").write_bytes(whole[:5000])

    async def work(pool: Pool) -> None:
        scans = ScanStore(pool, shelf, limit=2**30)
        for _ in range(2):
            with pytest.raises(InputError, match="truncated") as caught:
                await scans.get("c0")
            assert str(tmp_path) not in str(caught.value)
        assert (scans.state("c0", shelf.version), scans.problem("c0", shelf.version)) == ("broken", str(caught.value))
        (tmp_path / "c0.nii").write_bytes(whole)
        shelf.version = "2"
        await scans.get("c0")
        assert (scans.state("c0", shelf.version), scans.problem("c0", shelf.version)) == ("ready", None)

    run(work)


def test_what_failed_by_no_fault_of_its_files_is_read_again_soon(run, tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, 1)
    monkeypatch.setattr("medsam.server.cases.scans.read_scan", died_once)
    monkeypatch.setattr(ForNow, "lasts", 0.3)

    async def work(pool: Pool) -> None:
        scans = ScanStore(pool, shelf, limit=2**30)
        for _ in range(2):
            # the second does not cost another process
            with pytest.raises(ForNow, match="memory was full"):
                await scans.get("c0")
        assert scans.state("c0", shelf.version) == "broken"
        await asyncio.sleep(0.3)
        assert (scans.state("c0", shelf.version), scans.problem("c0", shelf.version)) == ("listed", None)
        assert await scans.get("c0") == load_volume(tmp_path / "c0.nii")
        # a file that is away for a moment, as on a disk of another machine
        scans = ScanStore(pool, shelf, limit=2**30)
        (tmp_path / "c0.nii").rename(tmp_path / "away")
        with pytest.raises(ForNow, match="no longer there"):
            await scans.get("c0")
        (tmp_path / "away").rename(tmp_path / "c0.nii")
        await asyncio.sleep(0.3)
        await scans.get("c0")

    run(work)


def test_a_defect_is_told_whoever_opens_a_scan_and_stands_in_the_log(run, tmp_path, monkeypatch, caplog):
    shelf = Shelf(tmp_path, 1)
    monkeypatch.setattr("medsam.server.cases.scans.read_scan", defective)

    async def work(pool: Pool) -> None:
        scans = ScanStore(pool, shelf, limit=2**30)
        with pytest.raises(InputError, match="defect in medsam"):
            await scans.get("c0")
        with pytest.raises(InputError, match="defect in medsam"):
            scans.check("c0", shelf.version)
        assert scans.state("c0", shelf.version) == "broken"

    run(work)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "medsam.server"]
    assert line.startswith("a scan could not be read: KeyError in a loader at ")
    assert "DOE" not in line


def test_there_is_no_picture_for_a_while_of_what_failed_by_no_fault_of_its_files(run, tmp_path, monkeypatch):
    # not at the top: processes import this file
    from medsam.server.cases.thumbnails import Thumbnails

    shelf = Shelf(tmp_path, 1)
    monkeypatch.setattr(ForNow, "lasts", 0.2)

    async def work(pool: Pool) -> None:
        pictures, files = Thumbnails(pool, 2**30), await shelf("c0")
        (tmp_path / "c0.nii").rename(tmp_path / "away")
        assert await pictures.get("c0", files, None, None) == b""
        (tmp_path / "away").rename(tmp_path / "c0.nii")
        assert await pictures.get("c0", files, None, None) == b""
        await asyncio.sleep(0.2)
        assert (await pictures.get("c0", files, None, None)).startswith(b"\x89PNG")

    run(work)


def test_where_there_is_no_room_nothing_is_read_and_who_did_not_wait_is_told(run, tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)

    async def work(pool: Pool) -> None:
        size = np.prod(SHAPE) * 2
        scans = ScanStore(pool, shelf, limit=int(1.8 * size))
        held = await scans.get("c0")
        # a header states half the bytes, so once it is read
        with pytest.raises(FullMemory):
            await scans.get("c1")
        monkeypatch.setattr("medsam.server.cases.scans.read_scan", slept_instead)
        with pytest.raises(FullMemory):
            await asyncio.wait_for(scans.get("c1"), 5)
        assert scans.problem("c1", shelf.version) is None
        with pytest.raises(FullMemory):
            scans.check("c1", shelf.version)
        monkeypatch.setattr(FullMemory, "lasts", 0.0)
        scans.limit = int(1.4 * size)
        with pytest.raises(FullMemory):
            await asyncio.wait_for(scans.get("c2"), 5)
        scans.check("c2", shelf.version)
        assert size_of(held) == size

    run(work)


def test_a_load_that_nobody_wants_is_ended(run, tmp_path, monkeypatch):
    shelf = Shelf(tmp_path, 1)
    monkeypatch.setattr("medsam.server.cases.scans.read_scan", slept_instead)
    monkeypatch.setattr("medsam.server.cases.scans._GRACE", 0.1)

    async def work(pool: Pool) -> None:
        scans = ScanStore(pool, shelf, limit=2**30)
        both = [asyncio.create_task(scans.get("c0")) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert scans.state("c0", shelf.version) == "loading"
        both[0].cancel()
        await asyncio.sleep(0.3)
        assert scans.state("c0", shelf.version) == "loading"
        both[1].cancel()
        await asyncio.sleep(0.3)
        assert scans.state("c0", shelf.version) == "listed"

    run(work)


def died_once(files: ScanFiles) -> Volume:
    mark = files.root / "died"
    if not mark.exists():
        mark.touch()
        died()
    return read_scan(files)


def defective(files: ScanFiles) -> None:
    defect()


def slept_instead(files: ScanFiles) -> None:
    time.sleep(600)
