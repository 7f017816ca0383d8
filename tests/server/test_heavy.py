"""Work on whole scans has few threads of its own."""

from __future__ import annotations

import asyncio
import threading

from anyio import to_thread

from medsam.server.heavy import AT_ONCE, heavy


def test_so_much_at_once_and_others_do_not_wait_for_it():
    running, most, go = [], [], threading.Event()

    def work(number: int) -> int:
        running.append(number)
        most.append(len(running))
        go.wait(5)
        running.remove(number)
        return number

    async def play() -> None:
        go.clear()
        most.clear()
        tasks = [asyncio.create_task(heavy(work, number)) for number in range(AT_ONCE + 2)]
        while len(running) < AT_ONCE:
            await asyncio.sleep(0.001)
        assert await to_thread.run_sync(lambda: len(running)) == AT_ONCE
        go.set()
        assert await asyncio.gather(*tasks) == list(range(AT_ONCE + 2))
        assert max(most) == AT_ONCE

    asyncio.run(play())
    # a limiter belongs to its event loop
    asyncio.run(play())
