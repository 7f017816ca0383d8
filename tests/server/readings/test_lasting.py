"""What is confirmed outlives the server, and goes on where it was."""

import asyncio
import gc
import time
import weakref

import numpy as np
import pytest
from fastapi import HTTPException
from phantoms import ThresholdSam
from readings_house import house, two_blocks

from medsam.inference.predictor import Predictor
from medsam.prompts.prompt import Prompt
from medsam.store.database import StoreError
from medsam.store.readers import Role
from medsam.volume import Volume

STEPS = [
    (1, {"box": [4, 8, 55, 35]}),
    (1, {"points": [[40, 20, 0]]}),
    (2, {"lasso": [[30, 8], [55, 8], [55, 35], [30, 35]]}),
    (2, {"points": [[10, 15, 1]]}),
    (2, {"scribbles": [{"points": [[36, 14], [46, 28]], "width_px": 2.0, "inside": False}]}),
]


def test_after_a_restart_the_next_click_gives_the_mask_it_would_have_given(folder):
    scan, *_ = two_blocks()

    async def before():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            for index, entry in STEPS:
                await reader.prompt(key, index, **entry)
            await reader.step(key, "undo")
            return key, reader

    async def after(key, page):
        async with house(folder) as there:
            there.case("a", scan)
            reader = there.person("ann")
            session = await reader.open(there.case("a", scan))
            assert (session["id"], session["revision"], session["undo"], session["redo"]) == (key, page.revision, 4, 1)
            sam = there.predictor.sam
            # a page that was open all the time has missed nothing; a new one gets everything
            reader.revision = page.revision
            assert await reader.changes(key) == []
            reader.revision = 0
            await reader.changes(key)
            assert {place: mask.tolist() for place, mask in reader.masks.items()} == {
                place: mask.tolist() for place, mask in page.masks.items()
            }
            await reader.step(key, "redo")
            await reader.step(key, "undo")
            assert (sam.encoded, sam.decoded) == (0, 0)
            return await reader.prompt(key, 2, points=[[0, 0, 0]]), await reader.prompt(key, 1, points=[[12, 12, 1]])

    own = Predictor(ThresholdSam(), "cpu").session(scan)
    for index, entry in STEPS[:-1]:
        own.prompt(Prompt.from_dict({"slice": index, **entry}))
    own.click(2, 0, 0, inside=False)
    own.click(1, 12, 12)
    found = asyncio.run(after(*asyncio.run(before())))
    np.testing.assert_array_equal(found[0], own.cleaned(2))
    np.testing.assert_array_equal(found[1], own.cleaned(1))


@pytest.mark.slow
def test_three_hundred_steps_of_two_objects_are_undone_and_taken_again_after_a_restart(folder):
    scan, *_ = two_blocks((2, 40, 60))

    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.post(f"/sessions/{key}/objects", {"name": "spleen"})
            reading = await there.readings.get(reader.reader, key)
            seen = [{}]
            for n in range(300):
                box = [4 + n % 5, 8, 24 + n % 30, 28]
                await reading.prompt(1 + n % 2, {"slice": n // 2 % 2, "box": box}, None, None)
                if n % 50 == 49:
                    await reader.changes(key)
                    seen.append({place: mask.copy() for place, mask in reader.masks.items()})
            ran = there.predictor.sam.decoded
            for wanted in reversed(seen[:-1]):
                for _ in range(50):
                    await reading.walk("undo", None, None)
                await reader.changes(key)
                assert alike(reader.masks, wanted)
            assert (reading.undo, reading.redo) == (0, 300)
            await there.readings._drop(key)
            for wanted in seen[1:2]:
                reading = await there.readings.get(reader.reader, key)
                for _ in range(50):
                    await reading.walk("redo", None, None)
                await reader.changes(key)
                assert alike(reader.masks, wanted)
            assert there.predictor.sam.decoded == ran

    asyncio.run(play())


def alike(masks, others):
    return masks.keys() == others.keys() and all((mask == others[place]).all() for place, mask in masks.items())


def test_a_removed_mask_is_told_of_after_a_restart_too(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            # the answer is lost on its way
            await reader.post(f"/sessions/{key}/undo")
        async with house(folder) as there:
            there.back(reader, scan)
            (frame,) = await reader.changes(key)
            assert (frame.status, reader.masks) == ("removed", {})

    asyncio.run(play())


def test_readings_nobody_uses_leave_memory_and_come_back(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder, most=2) as there:
            reader = there.person("ann")
            keys = []
            for n in range(4):
                keys.append((await reader.open(there.case(str(n), scan), label="liver", zoom="off"))["id"])
                await reader.post(f"/sessions/{keys[-1]}/prompts", {"object": 1, "slice": n, "box": [4, 8, 24, 28]})
            assert there.readings.live == 2
            other = there.person("bob")
            await other.open(there.case("0", scan))
            assert there.readings.live == 3
            for n, key in enumerate(keys):
                await reader.anew(key)
                assert reader.masks.keys() == {(1, n)}
                np.testing.assert_array_equal(reader.masks[1, n], left[n])
            used = [live.reading.used for live in there.readings._live.values()]
            await there.readings.reap(min(used) + 599)
            assert there.readings.live == 3
            await there.readings.reap(max(used) + 601)
            assert there.readings.live == 0

    asyncio.run(play())


def test_who_looks_at_sessions_puts_none_of_their_readers_out_of_memory(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder, most=2) as there:
            reader, reviewer = there.person("ann"), there.person("rev", Role.REVIEWER)
            closed, own = [], []
            for n in range(5):
                key = (await reader.open(there.case(str(n), scan), label="liver", zoom="off"))["id"]
                (closed if n < 3 else own).append(key)
                if n < 3:
                    await reader.http.delete(f"/sessions/{key}")
            kept = {key: there.readings._live[key] for key in own}
            for who in (reviewer, reader):
                for key in closed:
                    assert (await who.http.get(f"/sessions/{key}")).status_code == 200
                # as many as a reader may have, and none of another's
                guests = [live.guest for live in there.readings._live.values()]
                assert 1 <= guests.count(who.reader.id) <= 2
                assert {key: there.readings._live.get(key) for key in own} == kept
            # whom it belongs to goes on in it
            third = (await reader.open(there.case("5", scan), label="liver", zoom="off"))["id"]
            assert (await reviewer.http.get(f"/sessions/{own[0]}")).status_code == 200
            assert there.readings._live[own[0]].guest == reviewer.reader.id
            assert (await reader.http.get(f"/sessions/{own[0]}")).status_code == 200
            assert there.readings._live[own[0]].guest is None
            assert third in there.readings._live

    asyncio.run(play())


def test_what_the_store_refuses_is_not_answered_and_not_kept(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            append, there.store.append_step = there.store.append_step, full
            answer = await reader.post(f"/sessions/{key}/prompts", {"object": 1, "slice": 2, "box": [4, 8, 24, 28]})
            assert answer.status_code >= 422
            there.store.append_step = append
            # read from the store again: what was confirmed is there, what was not is not
            await reader.anew(key)
            assert reader.masks.keys() == {(1, 1)}
            np.testing.assert_array_equal(await reader.prompt(key, 2, box=[4, 8, 24, 28]), left[2])

    asyncio.run(play())


def full(*_, **__):
    raise StoreError("The disk is full.")


def test_a_scan_that_changed_or_went_is_not_mistaken_for_the_one_that_was_read(folder):
    scan, *_ = two_blocks()
    other, *_ = two_blocks((4, 40, 61))

    async def play():
        async with house(folder) as there:
            reader = there.person("ann")
            case = there.case("a", scan)
            key = (await reader.open(case, label="liver"))["id"]
            await there.readings._drop(key)
            there.case("a", other)
            answer = await reader.http.get(f"/sessions/{key}")
            assert (answer.status_code, "another scan" in answer.json()["detail"]) == (409, True)
            again = await reader.post("/sessions", {"case": case})
            assert (again.status_code, "`start`" in again.json()["detail"]) == (409, True)
            assert (await reader.http.delete(f"/sessions/{key}")).status_code == 204

    asyncio.run(play())


def test_a_case_that_is_taken_from_a_reader_is_gone_with_its_session(folder, monkeypatch):
    scan, *_ = two_blocks()
    monkeypatch.setattr("medsam.server.readings.registry._BELIEVED", 0.0)

    async def play():
        async with house(folder) as there:
            reader = there.person("ann")
            key = there.case("a", scan)
            session = (await reader.open(key, label="liver"))["id"]
            case = there.store.case(reader.reader, key)
            there.store.remove_case(case.id, None)
            assert (await reader.http.get(f"/sessions/{session}")).status_code == 404
            assert (await reader.http.get("/sessions")).json() == []
            assert there.readings.live == 0

    asyncio.run(play())


async def closed_slowly(there, reader, key):
    """A session that is being closed: no more in memory, and in the store a moment later."""
    close = there.store.close_reading

    def slowly(*given):
        time.sleep(0.05)
        return close(*given)

    there.store.close_reading = slowly
    closing = asyncio.create_task(reader.http.delete(f"/sessions/{key}"))
    while there.readings.live:
        await asyncio.sleep(0)
    return closing


def test_who_asks_while_a_session_is_closed_does_not_open_it_again(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            closing = await closed_slowly(there, reader, key)
            # the store has it open, and memory has it no more
            assert (await reader.http.get(f"/sessions/{key}")).json()["closed"] is not None
            assert (await closing).status_code == 204
            body = {"object": 1, "slice": 1, "box": [4, 8, 24, 28]}
            assert (await reader.post(f"/sessions/{key}/prompts", body)).status_code == 404
            assert len(there.readings._doors) == 0

    asyncio.run(play())


def test_another_model_goes_on_from_the_masks_of_the_last(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, case = there.person("ann"), there.case("a", scan)
            key = (await reader.open(case, label="liver", zoom="off"))["id"]
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
        async with house(folder, ThresholdSam(64)) as there:
            reader, case = there.person("ann"), there.case("a", scan)
            there.predictor.sam.spec.name = "another"
            refused = await reader.post("/sessions", {"case": case})
            assert (refused.status_code, "threshold" in refused.json()["detail"]) == (409, True)
            assert (await reader.http.delete(f"/sessions/{key}")).status_code == 204
            # what it left can be seen, and is said to be its own
            closed = (await reader.http.get(f"/sessions/{key}")).json()
            assert (closed["model"], (await there.readings.labels(reader.reader, key)).algorithm.name) == (
                "threshold",
                "threshold",
            )
            asked = {"object": 1, "slice": 1}
            assert (await reader.http.get(f"/sessions/{key}/candidates", params=asked)).status_code == 404
            told = await reader.open(case, zoom="off", start={"session": key})
            assert [one["name"] for one in told["objects"]] == ["liver"]
            await reader.changes(told["id"])
            np.testing.assert_array_equal(reader.masks[1, 1], left[1])
            await reader.prompt(told["id"], 2, box=[4, 8, 24, 28])

    asyncio.run(play())


def test_what_nobody_uses_makes_room_and_lets_go_of_its_scan_at_once(folder, monkeypatch):
    monkeypatch.setattr("medsam.server.readings.registry._SPARED", 0.0)

    async def play():
        async with house(folder) as there:
            reader = there.person("ann")
            scans = [two_blocks()[0] for _ in range(2)]
            cases = [there.case(str(n), scan) for n, scan in enumerate(scans)]
            keys = [(await reader.open(case, label="liver", zoom="off"))["id"] for case in cases]
            for key in reversed(keys):
                await reader.http.put(f"/sessions/{key}/view", json={"slice": 2})
                await reader.prompt(key, 1, box=[4, 8, 24, 28])
                await reader.post(f"/sessions/{key}/propagate", {"object": 1})
                reading = await there.readings.get(reader.reader, key)
                while reading.busy:
                    await asyncio.sleep(0.01)
                del reading
            gone = [weakref.ref(scan) for scan in scans]
            there.scans.by_key.clear()
            gc.disable()
            try:
                del scans
                # the one that was used longest ago
                assert await there.readings.spare()
                assert [one() is None for one in gone] == [False, True]
                # one at work is none of them
                with there.held():
                    asking = asyncio.create_task(reader.post(f"/sessions/{keys[0]}/propagate", {"object": 1}))
                    await asking
                    assert not await there.readings.spare()
            finally:
                gc.enable()

    asyncio.run(play())


def test_files_that_change_under_an_open_session_are_noticed(folder, monkeypatch):
    scan, left, _ = two_blocks()
    monkeypatch.setattr("medsam.server.readings.registry._BELIEVED", 0.0)

    async def play():
        async with house(folder) as there:
            reader, case = there.person("ann"), there.case("a", scan)
            key = (await reader.open(case, label="liver", zoom="off"))["id"]
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            # written again as they were: it is read again and goes on
            there.case("a", Volume(scan.array.copy(), scan.geometry))
            np.testing.assert_array_equal(await reader.prompt(key, 2, box=[4, 8, 24, 28]), left[2])
            # another scan on the same grid: masks of the one are not those of the other
            there.case("a", Volume(scan.array[:, :, ::-1].copy(), scan.geometry))
            box = {"object": 1, "slice": 1, "box": [4, 8, 24, 28]}
            for answer in (
                await reader.post(f"/sessions/{key}/prompts", box),
                await reader.post(f"/sessions/{key}/propagate", {"object": 1}),
                await reader.post("/sessions", {"case": case}),
            ):
                assert (answer.status_code, "other voxels" in answer.json()["detail"]) == (409, True)
            with pytest.raises(HTTPException) as caught:
                await there.readings.labels(reader.reader, key)
            assert caught.value.status_code == 409

    asyncio.run(play())


def test_who_opens_a_case_while_its_session_is_closed_begins_another(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            closing = await closed_slowly(there, reader, key)
            told = await reader.open(there.case("a", scan), label="liver")
            assert (told["id"] != key, told["closed"], (await closing).status_code) == (True, None, 204)
            body = {"object": 1, "slice": 1, "box": [4, 8, 24, 28]}
            assert (await reader.post(f"/sessions/{told['id']}/prompts", body)).status_code == 200

    asyncio.run(play())


def test_a_session_of_a_case_that_was_removed_is_not_there_whether_or_not_it_is_in_memory(folder, monkeypatch):
    scan, *_ = two_blocks()
    monkeypatch.setattr("medsam.server.readings.registry._BELIEVED", 0.0)

    async def play():
        async with house(folder) as there:
            reader, reviewer = there.person("ann"), there.person("rev", Role.REVIEWER)
            keys = [there.case(name, scan) for name in "ab"]
            sessions = [(await reader.open(key, label="liver"))["id"] for key in keys]
            await there.readings._drop(sessions[0])
            for key in keys:
                there.store.remove_case(there.store.case(reader.reader, key).id, None)
            for who in (reader, reviewer):
                for session in sessions:
                    assert (await who.http.get(f"/sessions/{session}")).status_code == 404

    asyncio.run(play())


def test_what_is_said_of_a_session_that_leaves_memory_meanwhile(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            reading = await there.readings.get(reader.reader, key)

            async def left():
                # by a DELETE beside it, which has not waited for this
                del there.readings._live[key]

            reading._limit = left
            answer = await reader.http.patch(f"/sessions/{key}", json={"keep_range": [0, 5]})
            assert (answer.status_code, answer.json()["case"]) == (200, there.case("a", scan))

    asyncio.run(play())


def test_a_session_takes_so_many_changes_of_whatever_kind(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder, most_prompts=4) as there:
            reader, key = await there.opened(scan, label="liver")
            path, box = f"/sessions/{key}", {"object": 1, "slice": 1, "box": [4, 8, 24, 28]}
            # what is refused is none
            for _ in range(5):
                assert (await reader.post(f"{path}/prompts", {**box, "slice": 99})).status_code == 422
            await reader.prompt(key, 1, box=box["box"])
            for what in ("undo", "redo", "reset"):
                await reader.step(key, what)
            for _ in range(2):
                for answer in (
                    await reader.post(f"{path}/prompts", box),
                    await reader.post(f"{path}/undo"),
                    await reader.post(f"{path}/interpolate", {"object": 1}),
                    await reader.post(f"{path}/objects", {"name": "spleen"}),
                    await reader.http.patch(f"{path}/objects/1", json={"colour": "#123456"}),
                    await reader.http.patch(path, json={"keep_range": [0, 5]}),
                ):
                    assert answer.status_code == 429
                await there.readings._drop(key)
            assert (await reader.http.delete(path)).status_code == 204

    asyncio.run(play())


def test_what_is_put_out_of_memory_is_what_was_meant_and_nobody_waits_for_it(folder, monkeypatch):
    monkeypatch.setattr("medsam.server.readings.registry._SPARED", 0.0)

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(two_blocks()[0], label="liver")
            readings = there.readings
            before = readings._live[key]
            await readings._drop(key)
            await reader.changes(key)
            # one came in its place
            await readings._put_away(before)
            assert readings.live == 1
            async with readings._door(key):
                # who is at its door may wait for the room that this makes
                assert not await asyncio.wait_for(readings.spare(), 1)
            assert await readings.spare()
            assert readings.live == 0

    asyncio.run(play())


def test_who_watches_a_session_of_a_case_that_is_taken_from_them_sees_no_more(folder):
    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(two_blocks()[0], label="liver")
            reading = await there.readings.get(reader.reader, key)

            async def watch():
                return [event async for event in reading.events.watch()]

            watching = asyncio.ensure_future(watch())
            await asyncio.sleep(0)
            await there.readings.reap(time.monotonic())
            assert there.readings.live == 1
            there.store.remove_case(there.store.case(reader.reader, there.case("a", two_blocks()[0])).id, None)
            await there.readings.reap(time.monotonic())
            assert (there.readings.live, await asyncio.wait_for(watching, 1)) == (0, [])

    asyncio.run(play())
