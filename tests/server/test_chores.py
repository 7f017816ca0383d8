"""What a server does now and then goes on after a failure."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from stores import upload

from medsam.server.cases.rooms import CaseRooms
from medsam.server.chores import repeated
from medsam.server.settings import ServerSettings
from medsam.store.store import Store


def test_old_uploads_go_at_the_next_time_where_the_disk_refuses_at_first(tmp_path, monkeypatch, caplog):
    settings = ServerSettings(tmp_path / "store", loaders=1, uploads_kept=0)
    monkeypatch.setattr("medsam.server.cases.rooms._RETIRE_SECONDS", 0.01)
    failures = [OSError(28, "No space left on device: DOE^JANE"), OSError(5, "Input/output error")]
    retire = Store.retire_uploads

    def refused(*given):
        if failures:
            raise failures.pop()
        return retire(*given)

    async def play() -> None:
        with Store.open(settings.store) as store:
            store.put_case(upload(details={"folder": "a" * 16}))
            monkeypatch.setattr(Store, "retire_uploads", refused)
            async with CaseRooms.open(settings, store):
                async with asyncio.timeout(10):
                    while store.case_sources("upload:"):
                        await asyncio.sleep(0.01)

    with caplog.at_level(logging.ERROR, "medsam.server"):
        asyncio.run(play())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.startswith("removing old uploads failed, and will be tried again: OSError at") for line in lines)
    assert "DOE" not in "".join(lines)


def test_being_cancelled_is_no_failure(caplog):
    async def play() -> None:
        begun = asyncio.Event()

        async def chore() -> None:
            begun.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(repeated(0, chore, "this"))
        await begun.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(play())
    assert not caplog.records
