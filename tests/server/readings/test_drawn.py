"""Masks that readers draw themselves, over HTTP."""

import asyncio
import json

import numpy as np
from phantoms import ThresholdSam
from readings_house import house, two_blocks
from sqlalchemy import select

from medsam.inference.predictor import Predictor
from medsam.masks import CompactMask
from medsam.prompts.prompt import Prompt
from medsam.store.tables import Revisions
from medsam.wire import read_frames

DRAWN = np.zeros((40, 60), bool)
DRAWN[4:14, 8:30] = True
DRAWN[6, 10] = False
ENTRY = CompactMask.of(DRAWN).to_dict()
EMPTY = CompactMask.of(DRAWN & False).to_dict()


def test_a_drawn_mask_is_stored_corrected_and_equals_segment(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            np.testing.assert_array_equal(await reader.prompt(key, 1, drawn=ENTRY), DRAWN)
            assert reader.statuses[1, 1] == "drawn"
            (frame,) = await reader.step(key, "undo")
            assert frame.status == "restored"
            np.testing.assert_array_equal(reader.masks[1, 1], left[1])
            await reader.step(key, "redo")
            mask = await reader.prompt(key, 1, points=[[10, 8, 0]])
            assert (reader.statuses[1, 1], mask[8, 10], DRAWN[8, 10]) == ("refined", False, True)
            await reader.prompt(key, 2, drawn=ENTRY)
            given = json.loads((await reader.http.get(f"/sessions/{key}/prompts")).text)["prompts"]
            assert [sorted(one) for one in given] == [
                ["drawn", "label", "points", "slice"],
                ["drawn", "label", "slice"],
            ]
            labels = (await there.readings.labels(reader.reader, key)).labels
            prompts = [Prompt.from_dict(one, shape=scan.shape) for one in given]
            found = Predictor(ThresholdSam(), "cpu").segment(scan, prompts).labels
            np.testing.assert_array_equal(labels.array, found.array)
            return key, mask

    async def again(key, mask):
        async with house(folder) as there:
            reader = there.person("ann")
            there.case("a", scan)
            await reader.anew(key)
            np.testing.assert_array_equal(reader.masks[1, 1], mask)
            assert (reader.statuses[1, 2], reader.statuses[1, 1]) == ("drawn", "refined")
            await reader.step(key, "undo")
            await reader.step(key, "undo")
            np.testing.assert_array_equal(reader.masks[1, 1], DRAWN)

    key, mask = asyncio.run(play())
    asyncio.run(again(key, mask))


def test_an_empty_one_takes_the_mask_away_and_it_stays_so(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            (frame,) = await reader.step(key, "prompts", {"object": 1, "slice": 1, "drawn": EMPTY})
            assert (frame.status, reader.masks) == ("removed", {})
            assert await reader.step(key, "prompts", {"object": 1, "slice": 2, "drawn": EMPTY}) == []
            assert not (await there.readings.labels(reader.reader, key)).labels.array.any()
            await reader.step(key, "undo")
            assert reader.masks[1, 1].any()
            await reader.step(key, "redo")
            return key

    async def again(key):
        async with house(folder) as there:
            reader = there.person("ann")
            there.case("a", scan)
            await reader.anew(key)
            assert reader.masks == {}
            assert (await reader.prompt(key, 1, points=[[10, 15, 1]])).any()

    key = asyncio.run(play())
    asyncio.run(again(key))


def test_what_is_locked_or_of_another_size_is_refused(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.post(f"/sessions/{key}/objects", {"name": "other"})
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            await reader.http.patch(f"/sessions/{key}/objects/1", json={"locked": True})
            body = {"object": 1, "slice": 1, "drawn": ENTRY}
            assert (await reader.post(f"/sessions/{key}/prompts", body)).status_code == 423
            np.testing.assert_array_equal(await reader.prompt(key, 1, 2, drawn=ENTRY), DRAWN & ~left[1])
            small = {"object": 2, "slice": 1, "drawn": {"size": [4, 5], "counts": "5220003"}}
            refused = await reader.post(f"/sessions/{key}/prompts", small)
            assert (refused.status_code, "size [4, 5]" in refused.json()["detail"]) == (422, True)

    asyncio.run(play())


def test_clicks_come_before_slices_between(folder):
    scan, *_ = two_blocks((6, 40, 60))

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 1, drawn=ENTRY)
            await reader.prompt(key, 4, drawn=ENTRY)
            other = there.person("ben")
            theirs = (await other.open(there.case("a", scan), label="liver"))["id"]
            with there.held():
                drawing = asyncio.create_task(reader.step(key, "interpolate", {"object": 1}))
                await asyncio.sleep(0.05)
                await asyncio.wait_for(other.prompt(theirs, 1, box=[4, 8, 24, 28]), 5)
                assert not drawing.done()
            assert [frame.slice for frame in await drawing] == [2, 3]

    asyncio.run(play())


def test_slices_between_are_drawn_as_one_step(folder):
    scan, *_ = two_blocks((6, 40, 60))

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            assert (await reader.post(f"/sessions/{key}/interpolate", {"object": 1})).status_code == 422
            await reader.prompt(key, 1, drawn=ENTRY)
            await reader.prompt(key, 4, drawn=ENTRY)
            frames = await reader.step(key, "interpolate", {"object": 1})
            assert [(frame.slice, frame.status) for frame in frames] == [(2, "drawn"), (3, "drawn")]
            np.testing.assert_array_equal(reader.masks[1, 2], DRAWN)
            await reader.step(key, "undo")
            assert set(reader.masks) == {(1, 1), (1, 4)}
            await reader.step(key, "redo")
            return key

    async def again(key):
        async with house(folder) as there:
            there.case("a", scan)
            reader = there.person("ann")
            await reader.anew(key)
            assert {place: reader.statuses[place] for place in reader.masks} == dict.fromkeys(
                ((1, 1), (1, 2), (1, 3), (1, 4)), "drawn"
            )

    asyncio.run(again(asyncio.run(play())))


def test_other_answers_are_shown_and_one_of_them_is_drawn(folder):
    scan, *_ = two_blocks()
    sam = ThresholdSam()
    sam.spec.prompts = ("box",)

    async def play():
        async with house(folder, sam) as there:
            reader, key = await there.opened(scan, label="liver")
            path = f"/sessions/{key}/candidates"
            await reader.prompt(key, 1, box=[4, 8, 14, 28])
            await reader.refined(key)
            before = reader.revision
            answer = await reader.http.get(path, params={"object": 1, "slice": 1})
            frames = list(read_frames(answer.content))
            assert (len(frames) > 1, {frame.status for frame in frames}) == (True, {"candidate"})
            said = [frame.predicted_iou for frame in frames]
            assert said == sorted(said, reverse=True)
            masks = []
            for frame in frames:
                masks.append(np.ones(frame.shape, bool))
                frame.paint(masks[-1])
            assert any((mask == reader.masks[1, 1]).all() for mask in masks)
            await reader.changes(key)
            assert reader.revision == before
            chosen = max(masks, key=np.count_nonzero)
            np.testing.assert_array_equal(await reader.prompt(key, 1, drawn=CompactMask.of(chosen).to_dict()), chosen)
            assert (await reader.http.get(path, params={"object": 1, "slice": 1})).content == b""
            assert (await reader.http.get(path, params={"object": 9, "slice": 1})).status_code == 404

    asyncio.run(play())


def test_no_model_is_stored_of_what_a_hand_drew(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.prompt(key, 0, drawn=ENTRY)
            await reader.prompt(key, 2, drawn=ENTRY)
            await reader.step(key, "interpolate", {"object": 1})
            await reader.prompt(key, 2, points=[[10, 8, 0]])
            with there.store._database.read() as connection:
                query = select(Revisions.model).where(Revisions.kind == "step").order_by(Revisions.revision)
                assert [row.model for row in connection.execute(query)] == [None, None, None, "threshold"]

    asyncio.run(play())
