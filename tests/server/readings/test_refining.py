"""Whatever takes masks from a session gets refined ones where they can be had, and is told where not."""

import asyncio

import numpy as np
import pytest
from fastapi import HTTPException
from phantoms import ThresholdSam
from readings_house import house, nodule, two_blocks

from medsam.inference.predictor import Predictor

BOX = [46, 56, 68, 71]


def whole():
    """The refined answer to BOX."""
    own = Predictor(ThresholdSam(64), "cpu").session(nodule())
    own.box(0, tuple(BOX))
    return own.cleaned(0)


async def half_answered(there, monkeypatch):
    """A reader, session and case, and the first answer to BOX: closed before it was refined."""
    monkeypatch.setattr("medsam.server.readings.registry._REFINED", 0.01)
    scan = nodule()
    reader, key = await there.opened(scan, label="nodule")
    with there.held():
        first = await reader.prompt(key, 0, box=BOX)
        assert reader.statuses == {(1, 0): "first"}
        assert (await reader.http.delete(f"/sessions/{key}")).status_code == 204
    return reader, key, there.case("a", scan), first


async def waits(awaitable):
    """Begun, and not done a moment later."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0.05)
    assert not task.done()
    return task


def test_a_session_is_refined_before_it_is_closed(folder):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(nodule(), label="nodule")
            with there.held():
                first = await reader.prompt(key, 0, box=BOX)
                assert (first != whole()).any()
                closing = await waits(reader.http.delete(f"/sessions/{key}"))
            assert (await closing).status_code == 204
            (mask,) = there.store.masks(1)
            assert (mask.status, (mask.mask.to_array() == whole()).all()) == ("refined", True)
            # who asked twice is told that it is no more
            assert (await reader.http.delete(f"/sessions/{key}")).status_code == 404

    asyncio.run(play())


def test_two_who_close_a_session_at_once(folder):
    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(two_blocks()[0], label="liver")
            answers = await asyncio.gather(*(reader.http.delete(f"/sessions/{key}") for _ in range(2)))
            assert sorted(answer.status_code for answer in answers) == [204, 404]

    asyncio.run(play())


def test_what_was_closed_with_a_first_answer_is_refined_when_it_is_looked_at_and_begun_from(folder, monkeypatch):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key, case, first = await half_answered(there, monkeypatch)
            assert (first != whole()).any()
            # also on the page that has the first answer
            await reader.changes(key)
            np.testing.assert_array_equal(reader.masks[1, 0], whole())
            labelled = await there.readings.labels(reader.reader, key)
            np.testing.assert_array_equal(labelled.labels.array[0] == 1, whole())
            assert labelled.outlined.first == 0
            told = await reader.open(case, start={"session": key}, axis="j")
            array = (await there.readings.labels(reader.reader, told["id"])).labels.array
            np.testing.assert_array_equal(array[0] == 1, whole())
            assert told["notes"] == []
            left = await there.readings.left(reader.reader, key, there.scans.by_key[case])
            np.testing.assert_array_equal(left.masks["nodule"].to_array()[0], whole())
            # what was closed is as it was on the disk
            assert [one.status for one in there.store.all_masks(1)] == ["first"]

    asyncio.run(play())


def test_first_answers_of_a_model_that_is_gone_are_told_of(folder, monkeypatch):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key, *_, first = await half_answered(there, monkeypatch)
        async with house(folder, ThresholdSam(64)) as there:
            there.back(reader, nodule())
            there.predictor.sam.spec.name = "another"
            labelled = await there.readings.labels(reader.reader, key)
            np.testing.assert_array_equal(labelled.labels.array[0] == 1, first)
            assert labelled.outlined.first == 1
            told = await reader.open(there.case("a", nodule()), start={"session": key})
            assert told["notes"][-1].startswith("1 of the masks that this session began from are first answers")

    asyncio.run(play())


def test_who_exports_while_a_session_leaves_memory_gets_no_first_answers(folder):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(nodule(), label="nodule")
            with there.held():
                await reader.prompt(key, 0, box=BOX)
                asking = asyncio.ensure_future(there.readings.labels(reader.reader, key))
                await asyncio.sleep(0.05)
                await there.readings._drop(key)
                with pytest.raises(HTTPException) as caught:
                    await asking
            assert caught.value.status_code == 503
            labels = (await there.readings.labels(reader.reader, key)).labels
            np.testing.assert_array_equal(labels.array[0] == 1, whole())

    asyncio.run(play())


def test_a_range_that_is_set_later_leaves_what_was_made_before(folder):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(nodule(), label="nodule")
            await reader.post(f"/sessions/{key}/objects", {"name": "other"})
            with there.held():
                # one that is seen, and one that was taken back, both to be refined
                await reader.prompt(key, 0, 1, box=BOX)
                await reader.prompt(key, 0, 2, box=BOX)
                await reader.step(key, "undo")
                assert (await reader.http.patch(f"/sessions/{key}", json={"keep_range": [0, 3]})).status_code == 200
                await reader.step(key, "redo")
                assert set(reader.statuses.values()) == {"first"}
            for high in (4, 5):
                await reader.refined(key)
                # those that were refined before, too
                await reader.http.patch(f"/sessions/{key}", json={"keep_range": [0, high]})
                for number in (1, 2):
                    np.testing.assert_array_equal(reader.masks[number, 0], whole())
                structures = (await there.readings.labels(reader.reader, key)).outlined.masks
                for number in (1, 2):
                    np.testing.assert_array_equal(structures[number][0].to_array(), whole())
                await there.readings._drop(key)
                await reader.anew(key)
            # what is asked from now on keeps to it
            array = nodule().array[0]
            mask = await reader.prompt(key, 0, 2, box=BOX)
            assert mask.any()
            assert (array[mask] <= 5).all()
            # and the steps before are as they were
            await reader.step(key, "undo")
            np.testing.assert_array_equal(reader.masks[2, 0], whole())

    asyncio.run(play())


def test_an_object_is_whole_before_it_is_locked(folder):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(nodule(), label="nodule")
            with there.held():
                await reader.prompt(key, 0, box=BOX)
                locking = await waits(reader.http.patch(f"/sessions/{key}/objects/1", json={"locked": True}))
            assert (await locking).status_code == 200
            await reader.changes(key)
            np.testing.assert_array_equal(reader.masks[1, 0], whole())
            assert (await reader.http.get(f"/sessions/{key}")).json()["revision"] == reader.revision

    asyncio.run(play())
