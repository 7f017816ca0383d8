"""Events over a real connection that is lost, long polls, and what is embedded while somebody looks."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import httpx
import numpy as np
import uvicorn
from phantoms import ThresholdSam
from readings_house import house, two_blocks

from medsam.inference.engines.torch import TorchEngine
from medsam.models.mask_decoder import ImageTokens


@asynccontextmanager
async def listening(app):
    """The address of the app on this machine."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve([plug]))
        yield f"http://127.0.0.1:{plug.getsockname()[1]}"
        server.should_exit = True
        await task


async def told(http, path, count, **head):
    """The next `count` events, as (id, data); then the connection is cut."""
    found, identity = [], None
    async with http.stream("GET", path, headers=head) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                identity = int(line[4:])
            if line.startswith("data: "):
                found.append((identity, json.loads(line[6:])))
                if len(found) == count:
                    break
    return found


def test_events_survive_a_lost_connection(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there, listening(there.app) as address:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            path = f"/sessions/{key}/events"
            async with httpx.AsyncClient(base_url=address, headers=dict(reader.http.headers)) as http:
                first = asyncio.create_task(told(http, f"{path}?since=1", 2))
                await reader.prompt(key, 1, box=[4, 8, 24, 28])
                await reader.post(f"/sessions/{key}/objects", {"name": "spleen"})
                seen = await first
                assert seen == [
                    (2, {"revision": 2, "kind": "mask", "object": 1, "slice": 1, "status": "refined"}),
                    (3, {"revision": 3, "kind": "objects", "object": 2}),
                ]
                # nobody listens meanwhile
                await reader.prompt(key, 2, box=[4, 8, 24, 28])
                await reader.step(key, "undo")
                missed = await told(http, path, 3, **{"Last-Event-ID": "3"})
                # the last one once more: there might have been more of its revision
                assert [(n, one["kind"], one.get("status")) for n, one in missed] == [
                    (3, "objects", None),
                    (4, "mask", "refined"),
                    (5, "mask", "removed"),
                ]
                # out of memory and back: what was before is to be asked for
                await there.readings._drop(key)
                assert await told(http, path, 1, **{"Last-Event-ID": "3"}) == [(5, {"revision": 5, "kind": "resync"})]
                reading = await there.readings.get(reader.reader, key)
                for _ in range(50):
                    if not reading.events.watchers:
                        break
                    await asyncio.sleep(0.02)
                assert reading.events.watchers == 0

    asyncio.run(play())


def test_a_server_that_ends_ends_all_watching(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there, listening(there.app) as address:
            reader, key = await there.opened(scan, label="liver")
            async with httpx.AsyncClient(base_url=address, headers=dict(reader.http.headers)) as http:
                watching = asyncio.create_task(told(http, f"/sessions/{key}/events", 99))
                polling = asyncio.create_task(
                    http.get(f"/sessions/{key}/changes", params={"since": 1, "wait": 30}, timeout=30)
                )
                reading = await there.readings.get(reader.reader, key)
                while not reading.events.watchers:
                    await asyncio.sleep(0.01)
                there.app.state.services.closing.set()
                assert await asyncio.wait_for(watching, 2) == []
                assert (await asyncio.wait_for(polling, 2)).status_code == 200

    asyncio.run(play())


def test_a_long_poll_answers_when_something_changes(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, page = there.person("ann"), there.person("ann")
            key = (await reader.open(there.case("a", scan), label="liver", zoom="off"))["id"]
            page.revision = 1
            waiting = asyncio.create_task(page.changes(key, wait=30))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            await asyncio.wait_for(waiting, 5)
            np.testing.assert_array_equal(page.masks[1, 1], left[1])
            assert await page.changes(key, wait=0.05) == []

    asyncio.run(play())


def test_a_long_poll_ends_when_its_client_has_gone(folder, monkeypatch):
    scan, *_ = two_blocks()
    monkeypatch.setattr("medsam.server.readings.reading._THERE", 0.02)

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            reading, asked = await there.readings.get(reader.reader, key), []

            async def gone():
                asked.append(True)
                return len(asked) == 3

            answer = await asyncio.wait_for(reading.changes(reading.revision, 60, gone), 5)
            assert (len(asked), answer.body) == (3, b"")

    asyncio.run(play())


def test_the_slice_on_screen_is_embedded_and_then_its_neighbours(folder, monkeypatch):
    scan, left, _ = two_blocks((30, 40, 60))
    monkeypatch.setattr("medsam.server.readings.view.QUIET", 0.05)

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            reading = await there.readings.get(reader.reader, key)
            view = f"/sessions/{key}/view"
            assert await embedded(reading, reader.http.put(view, json={"slice": 10}), 5) == [10, 11, 9, 12, 13]
            sam = there.predictor.sam
            assert sam.encoded == 5
            # a box on it costs a decode alone
            np.testing.assert_array_equal(await reader.prompt(key, 11, box=[4, 8, 24, 28]), left[11])
            assert sam.encoded == 5
            # going back, the ones before come first
            assert await embedded(reading, reader.http.put(view, json={"slice": 9}), 5) == [9, 8, 10, 7, 6]
            assert sam.encoded == 8
            # at the end of the scan
            assert await embedded(reading, reader.http.put(view, json={"slice": 29}), 2) == [29, 28]
            for body in ({"slice": 30}, {"slice": -1}, {"slice": 3, "axis": "j"}):
                assert (await reader.http.put(view, json=body)).status_code == 422
            assert (await reader.http.get(f"/sessions/{key}")).json()["view"] == 29

    asyncio.run(play())


class Shares(TorchEngine):
    """Makes something that prompts share, as the engine of a server does."""

    def precompute(self, features):
        return ImageTokens(*(features.new_zeros(1),) * 4)


def test_what_prompts_share_is_made_of_the_slice_on_screen_before_the_first(folder, monkeypatch):
    scan, *_ = two_blocks((30, 40, 60))
    monkeypatch.setattr("medsam.server.readings.view.QUIET", 0.05)

    async def play():
        async with house(folder) as there:
            images = there.predictor.images
            images._engine = Shares(images.sam, images.device)
            reader, key = await there.opened(scan, label="liver", zoom="off")
            reading = await there.readings.get(reader.reader, key)
            await embedded(reading, reader.http.put(f"/sessions/{key}/view", json={"slice": 10}), 5)
            ready = {n: reading.scan_encoder.encode(n).precomputed.nbytes > 0 for n in (9, 10, 11)}
            assert ready == {9: False, 10: True, 11: False}
            assert images.sam.encoded == 5

    asyncio.run(play())


async def embedded(reading, request, count):
    """Slices in the order in which they are embedded."""
    watch, found = reading.events.watch(alive=2), []
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    assert (await request).status_code == 202
    while len(found) < count:
        event = await waiting
        assert event is not None
        if event.kind == "progress":
            found.append(event.more["slice"])
        waiting = asyncio.ensure_future(anext(watch))
    waiting.cancel()
    return found


def test_neighbours_wait_for_a_reader_who_acts(folder, monkeypatch):
    scan, *_ = two_blocks((30, 40, 60))
    monkeypatch.setattr("medsam.server.readings.view.QUIET", 0.25)

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.http.put(f"/sessions/{key}/view", json={"slice": 10})
            for n in range(8):
                await asyncio.sleep(0.05)
                await reader.prompt(key, 10, box=[4, 8, 24 + n, 28])
            assert there.predictor.sam.encoded == 1
            while there.predictor.sam.encoded < 5:
                await asyncio.sleep(0.02)

    asyncio.run(play())


def test_a_newer_view_takes_the_place_of_an_older_and_leaving_ends_it(folder):
    scan, *_ = two_blocks((30, 40, 60))

    async def play():
        async with house(folder, ThresholdSam()) as there:
            reader, key = await there.opened(scan, label="liver")
            with there.held():
                for index in range(20):
                    assert (await reader.http.put(f"/sessions/{key}/view", json={"slice": index})).status_code == 202
            await asyncio.to_thread(there.worker.call, lambda _: None)
            while there.worker.waiting:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(there.worker.call, lambda _: None)
            # the last one of twenty
            assert there.predictor.sam.encoded == 1
            reading = await there.readings.get(reader.reader, key)
            with there.held():
                reading.look(2)
                reading.view.leave()
            encoded = there.predictor.sam.encoded
            await asyncio.to_thread(there.worker.call, lambda _: None)
            assert (there.predictor.sam.encoded, there.worker.waiting) == (encoded, 0)

    asyncio.run(play())
