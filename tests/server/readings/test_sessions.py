"""Sessions over HTTP, with a network whose answers can be worked out by hand."""

import asyncio
import json
import time

import numpy as np
import pytest
from fastapi import HTTPException
from phantoms import ThresholdSam
from readings_house import AXES, house, nodule, two_blocks

from medsam.inference.predictor import Predictor
from medsam.masks import CompactMask
from medsam.prompts.parse import read_prompts
from medsam.prompts.prompt import Prompt
from medsam.store.readers import Role
from medsam.volume import LabelVolume, Volume

# one of every kind, on a slice (40, 60)
ENTRIES = {
    "box": {"box": [4, 8, 24, 28]},
    "click": {"points": [[10, 15, 1]]},
    "clicks": {"points": [[10, 15, 1], [40, 20, 1], [0, 0, 0]]},
    "scribble": {"scribbles": [{"points": [[8, 12], [16, 20]], "width_px": 2.5, "inside": True}]},
    "lasso": {"lasso": [[4, 8], [24, 8], [24, 28], [4, 28]]},
    "line": {"line": [[6, 17], [20, 17]]},
    "lines": {"lines": [[[6, 17], [20, 17]], [[13, 10], [13, 24]]]},
    "ellipse": {"ellipse": [2, 6, 26, 30]},
    "mask": {"mask": CompactMask.of(np.pad(np.ones((14, 14), bool), ((8, 18), (5, 41)))).to_dict()},
    "box and clicks": {"box": [4, 8, 55, 35], "points": [[10, 15, 1], [40, 20, 0]]},
}


def test_boxes_and_clicks_get_what_they_ask_for(folder):
    scan, left, right = two_blocks()

    async def play():
        async with house(folder) as there:
            reader = there.person("ann")
            session = await reader.open(there.case("a", scan), label="liver", zoom="off")
            key = session["id"]
            assert (session["revision"], session["axis"], session["slices"]) == (1, "k", 4)
            assert session["objects"] == [
                {"id": 1, "name": "liver", "colour": "#288c28", "visible": True, "locked": False}
            ]
            np.testing.assert_array_equal(await reader.prompt(key, 1, box=[4, 8, 24, 28]), left[1])
            assert (reader.revision, reader.statuses[1, 1]) == (2, "refined")
            np.testing.assert_array_equal(await reader.prompt(key, 2, box=[4, 8, 55, 35]), (left | right)[2])
            np.testing.assert_array_equal(await reader.prompt(key, 2, points=[[40, 20, 0]]), left[2])
            # the frame holds the block that comes back, and nothing of the other
            (frame,) = await reader.step(key, "undo")
            assert (frame.rectangle, frame.base, frame.status) == ((34, 12, 50, 30), 4, "restored")
            np.testing.assert_array_equal(reader.masks[1, 2], (left | right)[2])
            await reader.step(key, "undo")
            assert set(reader.masks) == {(1, 1)}
            await reader.step(key, "redo")
            np.testing.assert_array_equal(reader.masks[1, 2], (left | right)[2])
            await reader.step(key, "reset")
            assert reader.masks == {}
            assert await reader.step(key, "redo") == []
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert (told["undo"], told["redo"], told["revision"]) == (3, 0, reader.revision)

    asyncio.run(play())


@pytest.mark.parametrize("axis", AXES)
def test_every_kind_of_prompt_is_answered_as_by_a_session_of_ones_own(folder, axis):
    scan, *_ = two_blocks((40, 40, 60)) if axis == "k" else two_blocks((12, 40, 60))
    if axis != "k":
        # seen along the others the same blocks, on slices (40, 60)
        turned = np.moveaxis(two_blocks((5, 40, 60))[0].array, 0, {"j": 1, "i": 2}[axis])
        scan = Volume.from_array(np.ascontiguousarray(turned), spacing_mm=(1, 1, 1))

    async def play():
        async with house(folder) as there:
            reader = there.person("ann")
            own = Predictor(ThresholdSam(), "cpu").session(scan, axis=axis)
            key = (await reader.open(there.case("a", scan), axis=axis))["id"]
            for number, (name, entry) in enumerate(ENTRIES.items(), start=1):
                assert (await reader.post(f"/sessions/{key}/objects", {"name": name})).status_code == 201
                mask = await reader.prompt(key, 3, number, **entry)
                own.prompt(Prompt.from_dict({**entry, "label": name, "slice": 3}))
                np.testing.assert_array_equal(mask, own.cleaned(3, name), err_msg=name)
                assert mask.any()
            labels = (await there.readings.labels(reader.reader, key)).labels
            assert labels.names == dict(enumerate(ENTRIES, start=1))
            file = folder.parent / "prompts.json"
            file.write_text((await reader.http.get(f"/sessions/{key}/prompts")).text)
            given, along = read_prompts(file, shape=scan.geometry.shape)
            assert (given, along) == (own.prompts, axis)
            expected = own.labels
            for number, name in expected.names.items():
                if name in ENTRIES:
                    mine = labels.array == list(ENTRIES).index(name) + 1
                    np.testing.assert_array_equal(mine, expected.array == number, err_msg=name)

    asyncio.run(play())


def test_a_first_answer_is_refined_and_then_equals_segment(folder):
    # the network sees 64 pixels of 200: a closer look differs
    rng = np.random.default_rng(1)
    array = rng.uniform(0, 10, (3, 200, 200)).astype(np.float32)
    array[:, 60:67, 50:63] = array[:, 120:123, 40:150] = 200
    scan = Volume.from_array(array, spacing_mm=(1, 1, 1))
    boxes = {0: [46, 56, 68, 71], 1: [36, 116, 154, 127], 2: [46, 56, 68, 71]}

    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(scan, label="nodule")
            first = {index: await reader.prompt(key, index, box=box) for index, box in boxes.items()}
            assert "first" in reader.statuses.values()
            await reader.refined(key)
            assert any((first[index] != reader.masks[1, index]).any() for index in boxes)
            labels = (await there.readings.labels(reader.reader, key)).labels
            prompts = [Prompt("nodule", box=tuple(box), slice=index) for index, box in boxes.items()]
            whole = Predictor(ThresholdSam(64), "cpu").segment(scan, prompts).labels
            assert labels.names == whole.names
            np.testing.assert_array_equal(labels.array, whole.array)
            for index in boxes:
                np.testing.assert_array_equal(reader.masks[1, index], whole.array[index] == 1)

    asyncio.run(play())


def test_what_is_undone_before_it_was_refined_does_not_come_back(folder):
    array = np.random.default_rng(1).uniform(0, 10, (1, 200, 200)).astype(np.float32)
    array[:, 60:67, 50:63] = 200
    scan = Volume.from_array(array, spacing_mm=(1, 1, 1))

    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(scan, label="nodule")
            with there.held():
                await reader.prompt(key, 0, box=[46, 56, 68, 71])
                assert reader.statuses == {(1, 0): "first"}
                await reader.step(key, "undo")
            before = reader.revision
            await there.readings.labels(reader.reader, key)
            assert await reader.changes(key) == []
            assert (reader.masks, reader.revision) == ({}, before)
            # taken again it is refined
            await reader.step(key, "redo")
            await reader.refined(key)
            assert reader.statuses == {(1, 0): "refined"}
            kinds = [step.kind for step in there.store.reading_state(1).steps]
            assert kinds == ["prompt"]

    asyncio.run(play())


class Tiring(ThresholdSam):
    """A network that may be stopped in the middle, at its next image, and may fail there."""

    def __init__(self):
        super().__init__(64)
        self.images, self.fails = [], False

    def encode_image(self, images):
        if self.fails:
            raise RuntimeError("out of memory")
        self.images.append(images)
        return super().encode_image(images)


def test_a_first_answer_that_left_memory_is_refined_when_it_is_back_and_stored_so(folder):
    own = Predictor(ThresholdSam(64), "cpu").session(nodule())
    own.box(0, (46, 56, 68, 71))
    own.click(0, 54, 62)

    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(nodule(), label="nodule")
            with there.held():
                await reader.prompt(key, 0, box=[46, 56, 68, 71])
                first = await reader.prompt(key, 0, points=[[54, 62, 1]])
                assert reader.statuses == {(1, 0): "first"}
                await there.readings._drop(key)
            # once as the first answer was stored, and then as the refined one was
            for _ in range(2):
                await reader.anew(key)
                await reader.refined(key)
                np.testing.assert_array_equal(reader.masks[1, 0], own.cleaned(0))
                assert (first != reader.masks[1, 0]).any()
                given = json.loads((await reader.http.get(f"/sessions/{key}/prompts")).text)["prompts"]
                assert [(one["box"], one["points"]) for one in given] == [([46, 56, 68, 71], [[54, 62, 1]])]
                await there.readings._drop(key)

    asyncio.run(play())


def test_a_rough_mask_stays_what_was_asked_when_its_first_answer_is_the_same_and_is_refined(folder):
    scan = Volume.from_array(np.repeat(nodule().array, 3, axis=0), spacing_mm=(1, 1, 1))
    box = [46, 56, 68, 71]

    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(scan, label="nodule")
            with there.held():
                rough = [await reader.prompt(key, 0, box=box)]
                for index in (1, 2):
                    mask = CompactMask.of(rough[-1]).to_dict()
                    rough.append(await reader.prompt(key, index, box=box, mask=mask))
                assert set(reader.statuses.values()) == {"first"}
                assert (rough[1] == rough[2]).all()
            await reader.refined(key)
            assert (reader.masks[1, 2] != rough[2]).any()
            given = (await reader.http.get(f"/sessions/{key}/prompts")).json()
            await there.readings._drop(key)
            assert (await reader.http.get(f"/sessions/{key}/prompts")).json() == given
            assert CompactMask.from_dict(given["prompts"][2]["mask"]) == CompactMask.of(rough[1])

    asyncio.run(play())


def test_what_cannot_be_refined_is_not_exported_as_if_it_were(folder):
    sam = Tiring()

    async def play():
        async with house(folder, sam) as there:
            reader = there.person("ann")
            key = (await reader.open(there.case("a", nodule()), label="nodule"))["id"]
            await reader.http.put(f"/sessions/{key}/view", json={"slice": 0})
            while not sam.images:
                await asyncio.sleep(0.01)
            sam.fails = True
            await reader.prompt(key, 0, box=[46, 56, 68, 71])
            reading = await there.readings.get(reader.reader, key)
            async for event in reading.events.watch(1):
                if event is not None and event.kind == "error":
                    break
            with pytest.raises(HTTPException) as caught:
                await there.readings.labels(reader.reader, key)
            assert caught.value.status_code == 503
            sam.fails = False
            labels = (await there.readings.labels(reader.reader, key)).labels
            await reader.refined(key)
            np.testing.assert_array_equal(labels.array[0] == 1, reader.masks[1, 0])

    asyncio.run(play())


def test_a_click_comes_in_between_the_looks_of_a_refinement(folder):
    sam, order = Tiring(), []
    encode = sam.encode_image

    async def play():
        async with house(folder, sam) as there:
            reader = there.person("ann")
            key = (await reader.open(there.case("a", nodule()), label="nodule"))["id"]
            clicked = []

            def slowly(images):
                # asked for a closer look, the reader clicks: the worker gives way before it
                order.append("encode")
                time.sleep(0.05)
                return encode(images)

            sam.encode_image = slowly
            await reader.prompt(key, 0, box=[46, 56, 68, 71])
            assert reader.statuses == {(1, 0): "first"}
            for n in range(6):
                body = {"object": 1, "slice": 0, "points": [[52 + n, 62, 1]]}
                clicked.append(asyncio.ensure_future(reader.post(f"/sessions/{key}/prompts", body)))
                await asyncio.sleep(0.01)
            assert {answer.status_code for answer in await asyncio.gather(*clicked)} == {200}
            await reader.refined(key)
            labels = (await there.readings.labels(reader.reader, key)).labels
            own = Predictor(ThresholdSam(64), "cpu").session(nodule())
            own.box(0, (46, 56, 68, 71))
            for n in range(6):
                own.click(0, 52 + n, 62)
            np.testing.assert_array_equal(labels.array[0] == 1, own.labels.array[0] == 1)
            np.testing.assert_array_equal(reader.masks[1, 0], own.cleaned(0))

    asyncio.run(play())


def test_two_readers_at_once_never_see_each_others_masks(folder):
    scan, left, right = two_blocks()

    async def play():
        async with house(folder) as there:
            case = there.case("a", scan)
            people = [there.person("ann"), there.person("bob")]
            keys = [(await one.open(case, label="x", zoom="off"))["id"] for one in people]
            assert keys[0] != keys[1]
            boxes = [[4, 8, 24, 28], [30, 8, 55, 35]]

            async def work(person, key, box):
                for n in range(12):
                    await person.prompt(key, n % 4, box=box)
                    if n % 3 == 0:
                        await person.step(key, "undo")
                        await person.step(key, "redo")

            await asyncio.gather(*(work(*one) for one in zip(people, keys, boxes, strict=True)))
            for person, wanted in zip(people, (left, right), strict=True):
                for (_, index), mask in person.masks.items():
                    np.testing.assert_array_equal(mask, wanted[index])
                assert len(person.masks) == 4
            # the other's session is not there, whatever is asked of it
            for person, key in zip(people, reversed(keys), strict=True):
                for answer in [
                    await person.http.get(f"/sessions/{key}"),
                    await person.http.get(f"/sessions/{key}/changes"),
                    await person.http.get(f"/sessions/{key}/events"),
                    await person.http.get(f"/sessions/{key}/probabilities", params={"object": 1, "slice": 0}),
                    await person.post(f"/sessions/{key}/undo"),
                    await person.post(f"/sessions/{key}/prompts", {"object": 1, "slice": 0, "box": boxes[0]}),
                    await person.http.put(f"/sessions/{key}/view", json={"slice": 0}),
                    await person.http.delete(f"/sessions/{key}"),
                ]:
                    assert answer.status_code == 404
                assert [line["id"] for line in (await person.http.get("/sessions")).json()] == [
                    other for other in keys if other != key
                ]

    asyncio.run(play())


def test_a_reviewer_looks_at_every_session_and_changes_none(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, reviewer = there.person("ann"), there.person("rev", Role.REVIEWER)
            key = (await reader.open(there.case("a", scan), label="x", zoom="off"))["id"]
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            assert (await reviewer.http.get(f"/sessions/{key}")).json()["mine"] is False
            await reviewer.changes(key)
            np.testing.assert_array_equal(reviewer.masks[1, 1], left[1])
            box = {"object": 1, "slice": 1, "box": [4, 8, 24, 28]}
            assert (await reviewer.post(f"/sessions/{key}/prompts", box)).status_code == 403
            assert (await reviewer.http.delete(f"/sessions/{key}")).status_code == 403
            await reviewer.open(there.case("b", scan))
            await reader.http.delete(f"/sessions/{key}")

            async def listed(who, **params):
                lines = (await who.http.get("/sessions", params=params)).json()
                return [(line["case_name"], line["owner"], line["closed"] is not None) for line in lines]

            assert await listed(reviewer) == [("b", "rev", False)]
            assert await listed(reviewer, everyones=True, closed=True) == [("b", "rev", False), ("a", "ann", True)]
            assert await listed(reviewer, everyones=True, closed=True, case=there.case("a", scan)) == [
                ("a", "ann", True)
            ]
            assert await listed(reviewer, case="nothing") == []
            # a reader has their own, whatever they ask for
            assert await listed(reader, everyones=True, closed=True) == [("a", "ann", True)]

    asyncio.run(play())


def test_a_locked_object_refuses_prompts_and_keeps_its_pixels(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.post(f"/sessions/{key}/objects", {"name": "lesion"})
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            change = await reader.http.patch(f"/sessions/{key}/objects/1", json={"locked": True})
            assert change.json()["locked"] is True
            for what, body in (
                ("prompts", {"object": 1, "slice": 1, "points": [[10, 15, 0]]}),
                ("undo", None),
                ("reset", None),
                ("propagate", {"object": 1}),
            ):
                answer = await reader.post(f"/sessions/{key}/{what}", body)
                assert (answer.status_code, "liver" in answer.json()["detail"]) == (423, True)
            await reader.prompt(key, 1, 2, box=[4, 8, 55, 35])
            labels = (await there.readings.labels(reader.reader, key)).labels
            np.testing.assert_array_equal(labels.array[1] == 1, left[1])
            # its own step can be undone, the one before not
            await reader.step(key, "undo")
            assert (await reader.post(f"/sessions/{key}/undo")).status_code == 423
            await reader.http.patch(f"/sessions/{key}/objects/1", json={"locked": False})
            await reader.step(key, "undo")
            assert reader.masks == {}

    asyncio.run(play())


def test_objects_are_named_in_messages_as_their_reader_names_them(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.http.patch(f"/sessions/{key}/objects/1", json={"name": "spleen", "colour": "#ABCDEF"})
            told = (await reader.http.get(f"/sessions/{key}")).json()["objects"]
            assert [(one["name"], one["colour"]) for one in told] == [("spleen", "#abcdef")]
            answer = await reader.post(f"/sessions/{key}/prompts", {"object": 1, "slice": 1, "box": [24, 8, 4, 28]})
            assert answer.status_code == 422
            assert "'spleen'" in answer.json()["detail"]
            # refused, so nothing changed
            assert int((await reader.http.get(f"/sessions/{key}/changes")).headers["X-Medsam-Revision"]) == 3

    asyncio.run(play())


REFUSED = [
    ({"object": 7, "slice": 1, "box": [4, 8, 24, 28]}, 404),
    ({"object": 1, "slice": 99, "box": [4, 8, 24, 28]}, 422),
    ({"object": 1, "slice": -1, "box": [4, 8, 24, 28]}, 422),
    ({"object": 1, "slice": 1}, 422),
    ({"object": 1, "slice": 1, "box": [4, 8, 24]}, 422),
    ({"object": 1, "slice": 1, "points": [[10, 15, 0]]}, 422),
    ({"object": 1, "slice": 1, "points": [[10, 15, 2]]}, 422),
    ({"object": 1, "slice": 1, "mask": {"size": [9, 9], "counts": "0"}}, 422),
    ({"object": 1, "slice": 1, "mask": {"size": [2**20, 2**20], "counts": [0]}}, 422),
    ({"object": 1, "slice": 1, "box3d": [0, 0, 0, 1, 1, 1]}, 422),
    ({"object": 1, "slice": 1, "text": "the liver"}, 422),
    ({"object": 1, "slice": 1, "box": [1e308, 1, 1e309, 2]}, 422),
]


def test_a_prompt_that_cannot_be_answered_says_why_and_changes_nothing(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            for body, status in REFUSED:
                content = json.dumps(body).replace("Infinity", "1e999")
                head = {"Content-Type": "application/json"}
                answer = await reader.http.post(f"/sessions/{key}/prompts", content=content, headers=head)
                assert answer.status_code == status, body
                assert answer.json()["detail"]
            assert (await reader.http.get(f"/sessions/{key}")).json()["revision"] == 1

    asyncio.run(play())


def test_who_has_not_seen_the_latest_can_ask_to_be_refused(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            stale = await reader.http.post(f"/sessions/{key}/undo", headers={"If-Match": "1"})
            assert (stale.status_code, stale.headers["X-Medsam-Revision"]) == (412, "2")
            fresh = await reader.http.post(f"/sessions/{key}/undo", headers={"If-Match": '"2"'})
            assert fresh.status_code == 200

    asyncio.run(play())


def test_there_is_one_session_for_a_reader_and_case(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, case = there.person("ann"), there.case("a", scan)
            first = await reader.post("/sessions", {"case": case, "label": "liver", "zoom": "off"})
            again = await reader.post("/sessions", {"case": case})
            assert (first.status_code, again.status_code) == (201, 200)
            assert first.json()["id"] == again.json()["id"]
            masks = {"names": {"1": "liver"}, "masks": {"liver": CompactMask.of(left).to_dict()}}
            for more in (
                {"axis": "j"},
                {"zoom": "on"},
                {"window": "30,70"},
                {"modality": "MR"},
                {"limits": {"values": [0, None]}},
                {"start": masks},
                {"start": {"session": first.json()["id"]}},
            ):
                assert (await reader.post("/sessions", {"case": case, **more})).status_code == 409, more
            assert (await reader.post("/sessions", {"case": case, "window": "auto"})).status_code == 200
            assert (await reader.post("/sessions", {"case": "nothing"})).status_code == 404
            named = await reader.post("/sessions", {"case": case, "label": "Spleen", "limits": {}})
            assert [one["name"] for one in named.json()["objects"]] == ["liver", "Spleen"]
            key = first.json()["id"]
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            assert (await reader.http.delete(f"/sessions/{key}")).status_code == 204
            # it can be looked at, and takes no steps
            reader.revision = 0
            await reader.changes(key)
            np.testing.assert_array_equal(reader.masks[1, 1], left[1])
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert (told["closed"] is not None, told["undo"]) == (True, 1)
            assert (await reader.http.get(f"/sessions/{key}/measures")).json()[0]["voxels"] == left[1].sum()
            assert (await reader.http.get(f"/sessions/{key}/events")).status_code == 204
            step = {"object": 1, "slice": 2, "box": [4, 8, 24, 28]}
            for refused in (
                await reader.post(f"/sessions/{key}/prompts", step),
                await reader.post(f"/sessions/{key}/undo"),
                await reader.http.put(f"/sessions/{key}/view", json={"slice": 0}),
                await reader.http.delete(f"/sessions/{key}"),
            ):
                assert refused.status_code == 404
            assert (await there.readings.labels(reader.reader, key)).labels.array.any()
            # another one, along another axis, goes on from its masks
            begun = await reader.open(case, axis="j", start={"session": key})
            assert (begun["axis"], [one["name"] for one in begun["objects"]]) == ("j", ["liver"])
            labels = (await there.readings.labels(reader.reader, begun["id"])).labels
            np.testing.assert_array_equal(labels.array[1] == 1, left[1])
            assert not labels.array[[0, 2, 3]].any()

    asyncio.run(play())


def test_a_session_that_begins_from_masks_corrects_them(folder):
    scan, left, right = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, case = there.person("ann"), there.case("a", scan)
            start = {
                "names": {"10": "right", "2": "left"},
                "masks": {"right": CompactMask.of(right).to_dict(), "left": CompactMask.of(left | right).to_dict()},
            }
            told = await reader.open(case, zoom="off", start=start, limits={"locked": ["right"]})
            assert [(one["id"], one["name"], one["locked"]) for one in told["objects"]] == [
                (1, "left", False),
                (2, "right", True),
            ]
            await reader.changes(told["id"])
            np.testing.assert_array_equal(reader.masks[1, 2], (left | right)[2])
            assert set(reader.statuses.values()) == {"restored"}
            await reader.prompt(told["id"], 2, 1, points=[[40, 20, 0]])
            np.testing.assert_array_equal(reader.masks[1, 2], left[2])
            own = Predictor(ThresholdSam(), "cpu").session(scan, zoom="off")
            own.start(LabelVolume((left + 2 * right).astype(np.uint8), scan.geometry, {1: "left", 2: "right"}))
            labels = (await there.readings.labels(reader.reader, told["id"])).labels
            np.testing.assert_array_equal(labels.array == 2, right)
            np.testing.assert_array_equal(labels.array[2] == 1, left[2])

    asyncio.run(play())


def test_probabilities_are_what_the_network_says(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.prompt(key, 1, points=[[10, 15, 1]])
            where = f"/sessions/{key}/probabilities"
            answer = await reader.http.get(where, params={"object": 1, "slice": 1})
            meta = json.loads(answer.headers["X-Medsam-Meta"])
            assert (meta["dtype"], meta["shape"], meta["revision"]) == ("<f2", [40, 60], 2)
            found = np.frombuffer(answer.content, meta["dtype"]).reshape(meta["shape"])
            own = Predictor(ThresholdSam(), "cpu").session(scan, zoom="off").click(1, 10, 15)
            np.testing.assert_allclose(found, 1 / (1 + np.exp(-own.logits)), atol=1e-3)
            np.testing.assert_array_equal(found > 0.5, left[1])
            assert (await reader.http.get(where, params={"object": 1, "slice": 2})).status_code == 404
            assert (await reader.http.get(where, params={"object": 2, "slice": 1})).status_code == 404

    asyncio.run(play())
