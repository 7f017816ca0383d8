"""Following an object through the volume: slice by slice, stopped on demand, behind everybody's clicks."""

import asyncio
import contextlib
import time

import numpy as np
import pytest
from phantoms import ThresholdSam
from readings_house import house, two_blocks

from medsam.inference.predictor import Predictor
from medsam.wire import read_frames


class SlowSam(ThresholdSam):
    """Takes its time for every slice."""

    seconds = 0.0

    def encode_image(self, images):
        time.sleep(self.seconds)
        return super().encode_image(images)


async def until(told, *states):
    """The next event of a job in one of these states; the others before it."""
    seen = []
    async for event in told:
        if event is not None:
            seen.append(event)
            if event.kind == "job" and event.more["state"] in states:
                return seen
    raise AssertionError("the reading was closed")


async def follow(reader, key, **body):
    answer = await reader.post(f"/sessions/{key}/propagate", {"object": 1, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def half_followed(there, scan, index, seen):
    """A reader, session and job: an object is followed, slowly, from a box on a slice, and `seen` slices are there."""
    reader, key = await there.opened(scan, label="liver", zoom="off")
    await reader.prompt(key, index, box=[4, 8, 24, 28])
    there.predictor.sam.seconds = 0.02
    job = await follow(reader, key)
    while len(reader.masks) < seen:
        await reader.changes(key, wait=1)
    return reader, key, job


def test_an_object_is_followed_slice_by_slice_and_is_one_step(folder):
    scan, left, _ = two_blocks((9, 40, 60))

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 4, box=[4, 8, 24, 28])
            reading = await there.readings.get(reader.reader, key)
            told = reading.events.watch()
            waiting = asyncio.ensure_future(until(told, "done"))
            await asyncio.sleep(0)
            job = await follow(reader, key)
            events = await waiting
            assert {event.more["job"] for event in events if event.kind == "job"} == {job}
            walked = [event.more["slice"] for event in events if event.kind == "mask"]
            # outwards both ways, each told when it was found
            assert set(walked) == set(range(9))
            done = [event.more["done"] for event in events if event.kind == "job"]
            assert (done[0], done == sorted(done), events[-1].more["total"]) == (0, True, 9)
            sure = {frame.slice: frame.confidence for frame in await reader.changes(key)}
            own = Predictor(ThresholdSam(), "cpu").session(scan)
            own.box(4, (4, 8, 24, 28))
            spread = own.propagate()
            assert sure == {**spread.confidence, 4: None}
            stopped = (await reader.http.get(f"/sessions/{key}/jobs/{job}")).json()["stopped"]
            assert stopped == {"-1": "end of scan", "9": "end of scan"}
            for index in range(9):
                np.testing.assert_array_equal(reader.masks[1, index], own.cleaned(index), err_msg=str(index))
                np.testing.assert_array_equal(reader.masks[1, index], left[index])
            statuses = {index: status for (_, index), status in reader.statuses.items()}
            assert statuses == {**dict.fromkeys(range(9), "propagated"), 4: "refined"}
            await reader.step(key, "undo")
            assert reader.masks.keys() == {(1, 4)}
            await reader.step(key, "redo")
            assert len(reader.masks) == 9
        async with house(folder) as there:
            there.back(reader, scan)
            assert await reader.changes(key) == []
            whole = await reader.http.get(f"/sessions/{key}/changes")
            assert {frame.slice: frame.confidence for frame in read_frames(whole.content)} == sure
            # a click on what was propagated corrects it
            np.testing.assert_array_equal(await reader.prompt(key, 7, points=[[0, 0, 0]]), left[7])
            for _ in range(2):
                await reader.step(key, "undo")
            assert reader.masks.keys() == {(1, 4)}

    asyncio.run(play())


def test_stopped_it_keeps_what_it_has_and_a_click_comes_in_between(folder):
    scan, left, right = two_blocks((60, 40, 60))
    sam = SlowSam()

    async def play():
        async with house(folder, sam) as there:
            ann, bob = there.person("ann"), there.person("bob")
            key = (await ann.open(there.case("a", scan), label="liver", zoom="off"))["id"]
            await ann.post(f"/sessions/{key}/objects", {"name": "spleen"})
            other = (await bob.open(there.case("b", scan), label="liver", zoom="off"))["id"]
            await ann.prompt(key, 0, box=[4, 8, 24, 28])
            await bob.prompt(other, 30, box=[4, 8, 24, 28])
            sam.seconds = 0.02
            begun = time.perf_counter()
            job = await follow(ann, key)
            seconds = []
            for n in range(5):
                clicked = time.perf_counter()
                # of another reader, and of another object and of the same one of the reader that waits
                np.testing.assert_array_equal(await bob.prompt(other, 30, box=[30, 8, 55 - n, 35]), right[30])
                np.testing.assert_array_equal(await ann.prompt(key, 0, 2, box=[30, 8, 55 - n, 35]), right[0])
                seconds.append(time.perf_counter() - clicked)
            at = (await ann.http.get(f"/sessions/{key}/jobs/{job}")).json()
            assert at["state"] == "running"
            # two slices each at most, not the volume
            assert min(seconds) < 0.3
            assert time.perf_counter() - begun < 60 * 0.02 + 3
            await ann.http.delete(f"/sessions/{key}/jobs/{job}")
            reading = await there.readings.get(ann.reader, key)
            while reading.jobs[job].runs:
                await asyncio.sleep(0.01)
            assert reading.jobs[job].state == "stopped"
            await ann.changes(key)
            found = {index for number, index in ann.masks if number == 1}
            assert 1 < len(found) < 60
            for index in found:
                np.testing.assert_array_equal(ann.masks[1, index], left[index])
            # one step, after the clicks on the spleen
            await ann.step(key, "undo")
            assert {index for number, index in ann.masks if number == 1} == {0}
            assert {index for number, index in ann.masks if number == 2} == {0}

    asyncio.run(play())


@pytest.mark.parametrize("what", ["undo", "reset"])
def test_what_is_taken_back_while_it_is_followed_does_not_come_again(folder, what):
    scan, *_ = two_blocks((60, 40, 60))

    async def play():
        async with house(folder, SlowSam()) as there:
            reader, key, job = await half_followed(there, scan, 0, seen=4)
            await reader.step(key, what)
            # undone is what was propagated; the box is there still
            left = {(1, 0)} if what == "undo" else set()
            assert reader.masks.keys() == left
            at = (await reader.http.get(f"/sessions/{key}/jobs/{job}")).json()
            assert at["state"] == "stopped"
            assert await reader.changes(key, wait=0.2) == []
            await reader.step(key, "redo" if what == "undo" else "undo")
            assert len(reader.masks) >= 4

    asyncio.run(play())


def test_one_that_waits_for_another_is_stopped_at_once(folder):
    scan, *_ = two_blocks((5, 40, 60))

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.prompt(key, 2, box=[4, 8, 24, 28])
            with there.held():
                job = await follow(reader, key)
                assert (await reader.post(f"/sessions/{key}/propagate", {"object": 1})).status_code == 409
                stopped = await reader.http.delete(f"/sessions/{key}/jobs/{job}")
                assert stopped.json()["state"] == "stopped"
            before = reader.revision
            await reader.changes(key)
            assert (reader.masks.keys(), reader.revision) == ({(1, 2)}, before)
            assert (await reader.http.delete(f"/sessions/{key}/jobs/nothing")).status_code == 404

    asyncio.run(play())


def test_there_has_to_be_something_to_follow(folder):
    scan, *_ = two_blocks((5, 40, 60))

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            answer = await reader.post(f"/sessions/{key}/propagate", {"object": 1})
            assert (answer.status_code, "'liver'" in answer.json()["detail"]) == (422, True)
            assert (await reader.post(f"/sessions/{key}/propagate", {"object": 9})).status_code == 404
            assert (await reader.post(f"/sessions/{key}/propagate", {"object": 1, "max_mm": -1})).status_code == 422

    asyncio.run(play())


def test_what_was_seen_of_a_propagation_outlives_a_server_that_was_killed(folder):
    scan, left, _ = two_blocks((40, 40, 60))

    async def play():
        there = house(folder, SlowSam())
        first = await there.__aenter__()
        reader, key, _ = await half_followed(first, scan, 20, seen=6)
        # nothing is stored from here on, as if the process were gone
        store = first.store
        store.append_step = store.append_masks = store.add_object = gone
        with contextlib.suppress(BaseException):
            await there.__aexit__(None, None, None)
        seen = {place: mask.copy() for place, mask in reader.masks.items()}
        async with house(folder) as again:
            again.back(reader, scan)
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert told["undo"] == 2
            await reader.anew(key)
            assert reader.masks.keys() >= seen.keys()
            for (_, index), mask in reader.masks.items():
                np.testing.assert_array_equal(mask, left[index])
            await reader.step(key, "undo")
            assert reader.masks.keys() == {(1, 20)}
        async with house(folder) as again:
            again.back(reader, scan)
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert (told["undo"], told["redo"]) == (1, 1)

    asyncio.run(play())


def gone(*_, **__):
    raise RuntimeError("killed")


def test_a_server_that_ends_keeps_what_a_propagation_has_found(folder):
    scan, *_ = two_blocks((60, 40, 60))

    async def play():
        async with house(folder, SlowSam()) as there:
            reader, key, _ = await half_followed(there, scan, 0, seen=4)
        async with house(folder) as there:
            there.back(reader, scan)
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert (told["undo"], there.store.reading_state(1).unended) == (2, ())
            await reader.changes(key)
            assert 4 <= len(reader.masks) < 60

    asyncio.run(play())


def test_a_slice_prompted_while_a_propagation_ran_that_was_cut_off_stays_as_prompted(folder, tmp_path):
    scan, *_ = two_blocks((40, 40, 60))

    async def play():
        async with house(folder, SlowSam()) as there:
            reader, key, _ = await half_followed(there, scan, 20, seen=1)
            while (1, 21) not in reader.masks:
                await reader.changes(key, wait=1)
            prompted = await reader.prompt(key, 21, box=[4, 8, 16, 28])
            # the disk as a server leaves it that is killed now
            there.store.backup(tmp_path / "medsam.db")
        # the first time makes a step of what was cut off, the second reads it
        revisions = []
        for _ in range(2):
            async with house(tmp_path) as again:
                again.back(reader, scan)
                await reader.anew(key)
                np.testing.assert_array_equal(reader.masks[1, 21], prompted)
                assert len(reader.masks) > 2
                revisions.append(dict(reader.revisions))
        # frames are cut against these
        assert revisions[0] == revisions[1]

    asyncio.run(play())


def test_slices_of_a_propagation_under_way_are_taken_along(folder):
    scan, left, _ = two_blocks((40, 40, 60))

    async def play():
        async with house(folder, SlowSam()) as there:
            reader, key, _ = await half_followed(there, scan, 20, 5)
            found = await there.readings.left(reader.reader, key, scan)
            seen = found.masks["liver"].to_array()
            taken = [index for index in range(40) if seen[index].any()]
            assert 5 <= len(taken) < 40
            for index in taken:
                np.testing.assert_array_equal(seen[index], left[index])

    asyncio.run(play())
