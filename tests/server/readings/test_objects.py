import asyncio
from dataclasses import replace

import numpy as np
import pytest
from readings_house import house, two_blocks

from medsam.errors import InputError, PromptError
from medsam.masks import CompactMask
from medsam.prompts.limits import Limits
from medsam.server.readings.objects import (
    MOST_OBJECTS,
    checked_colour,
    checked_name,
    checked_new,
    in_readers_words,
    label_of,
    locking,
    number_of,
)
from medsam.store.records import StoredObject


def stored(number, name, **more):
    return StoredObject(number, name, "#000000", True, more.pop("locked", False), revision=number)


def test_a_name_of_the_vocabulary_brings_its_colour_and_any_other_one_of_the_palette():
    assert checked_new([], "Liver") == ("Liver", "#288c28")
    assert checked_new([stored(1, "Liver")], "  what the resident saw ") == ("what the resident saw", "#56b4e9")
    assert checked_new([], "x", "#A0B0c0") == ("x", "#a0b0c0")


def test_two_objects_never_share_a_name():
    with pytest.raises(InputError, match="already") as caught:
        checked_new([stored(1, "left kidney")], "Left_Kidney")
    assert caught.value.parameter == "name"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65, "a\u202eb"])
def test_a_name_is_something_that_shows(name):
    with pytest.raises(InputError, match="`name`"):
        checked_name(name, [])


@pytest.mark.parametrize("colour", ["red", "#12345", "#12345g", "#1234567", "url(x)"])
def test_a_colour_is_six_digits(colour):
    with pytest.raises(InputError, match="#rrggbb"):
        checked_colour(colour)


def test_a_label_map_of_a_byte_holds_all_objects():
    objects = [stored(n, f"lesion {n}") for n in range(1, MOST_OBJECTS + 1)]
    assert checked_new(objects[1:], "one more")
    with pytest.raises(InputError, match="255"):
        checked_new(objects, "one more")


def test_a_session_knows_objects_by_number_and_readers_by_name():
    assert number_of(label_of(12)) == 12
    said = PromptError("The point 3,4 for 'object 1' lies in 'object 12'.", parameter="locked")
    told = in_readers_words(said, [stored(1, "liver"), stored(12, "spleen")])
    assert str(told) == "The point 3,4 for 'liver' lies in 'spleen'."
    assert (type(told), told.parameters) == (PromptError, ("locked",))
    # one may be called as the session calls another
    names = [stored(1, "object 2"), stored(2, "liver")]
    assert str(in_readers_words(PromptError("'object 1' is locked."), names)) == "'object 2' is locked."


def test_what_is_locked_is_so_for_the_session():
    objects = [stored(1, "liver"), replace(stored(2, "spleen"), locked=True)]
    assert locking(Limits((0, None)), objects) == Limits((0, None), locked=("object 2",))


def test_a_removed_object_goes_with_its_masks_and_comes_back_by_undo(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.post(f"/sessions/{key}/objects", {"name": "spleen"})
            await reader.prompt(key, 1, box=[4, 8, 24, 28])
            await reader.prompt(key, 2, box=[4, 8, 24, 28])
            await reader.prompt(key, 1, 2, box=[30, 8, 55, 35])

            async def listed():
                return [one["name"] for one in (await reader.http.get(f"/sessions/{key}")).json()["objects"]]

            async def remove(number):
                since = reader.revision
                answer = await reader.http.delete(f"/sessions/{key}/objects/{number}", params={"since": since})
                frames = reader.take(answer)
                assert int(answer.headers["X-Medsam-Objects"]) > since
                return frames

            assert [frame.status for frame in await remove(1)] == ["removed", "removed"]
            assert (set(reader.masks), await listed()) == ({(2, 1)}, ["spleen"])
            labels = (await there.readings.labels(reader.reader, key)).labels
            assert labels.names == {2: "spleen"}
            # its name is free, and it is not prompted by accident
            assert (await reader.post(f"/sessions/{key}/objects", {"name": "liver"})).json()["id"] == 3
            await reader.step(key, "undo")
            np.testing.assert_array_equal(reader.masks[1, 1], left[1])
            assert await listed() == ["liver", "spleen", "liver"]
            await reader.step(key, "redo")
            assert await listed() == ["spleen", "liver"]
            # one that was never outlined
            assert await remove(3) == []
            assert await listed() == ["spleen"]
            await reader.http.patch(f"/sessions/{key}/objects/2", json={"locked": True})
            assert (await reader.http.delete(f"/sessions/{key}/objects/2")).status_code == 423
            assert (await reader.http.delete(f"/sessions/{key}/objects/9")).status_code == 404
            return key

    async def again(key):
        async with house(folder) as there:
            there.case("a", scan)
            reader = there.person("ann")
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert [one["id"] for one in told["objects"]] == [2]
            await reader.step(key, "undo")
            await reader.step(key, "undo")
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert [one["id"] for one in told["objects"]] == [1, 2, 3]

    asyncio.run(again(asyncio.run(play())))


def test_a_range_of_values_holds_from_now_on_and_after_a_restart(folder):
    scan, left, right = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            whole = np.ones((40, 60), bool)
            entry = CompactMask.of(whole).to_dict()
            np.testing.assert_array_equal(await reader.prompt(key, 1, drawn=entry), whole)
            told = (await reader.http.get(f"/sessions/{key}")).json()
            assert (told["keep_range"], told["model"], told["knows_clicks"]) == (None, there.predictor.name, True)
            assert told["licence"] == ""
            answer = await reader.http.patch(f"/sessions/{key}", json={"keep_range": [100, None]})
            assert answer.json()["keep_range"] == [100, None]
            assert int(answer.headers["X-Medsam-Objects"]) == answer.json()["revision"] == reader.revision + 1
            # what there is stays as it is
            await reader.changes(key)
            np.testing.assert_array_equal(reader.masks[1, 1], whole)
            np.testing.assert_array_equal(await reader.prompt(key, 2, drawn=entry), (left | right)[2])
            wrong = await reader.http.patch(f"/sessions/{key}", json={"keep_range": [5, 2]})
            assert (wrong.status_code, wrong.json()["parameters"]) == (422, ["values"])
            return key

    async def again(key):
        async with house(folder) as there:
            reader = there.person("ann")
            case = there.case("a", scan)
            session = await reader.open(case, limits={"values": [100, None]})
            assert (session["id"], session["keep_range"]) == (key, [100, None])
            assert (await reader.post("/sessions", {"case": case, "limits": {"values": [1, 2]}})).status_code == 409
            await reader.anew(key)
            entry = CompactMask.of(np.ones((40, 60), bool)).to_dict()
            np.testing.assert_array_equal(await reader.prompt(key, 3, drawn=entry), (left | right)[3])
            answer = await reader.http.patch(f"/sessions/{key}", json={"keep_range": None})
            assert answer.json()["keep_range"] is None
            assert (await reader.prompt(key, 3, drawn=entry)).all()
            await reader.step(key, "undo")

    asyncio.run(again(asyncio.run(play())))


def test_undo_alone_brings_a_removed_object_back(folder):
    scan, left, _ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver", zoom="off")
            await reader.post(f"/sessions/{key}/objects", {"name": "spleen"})
            for number in (1, 2):
                await reader.prompt(key, 1, number, box=[4, 8, 24, 28])
            reader.take(await reader.http.delete(f"/sessions/{key}/objects/1"))

            async def listed():
                return [one["id"] for one in (await reader.http.get(f"/sessions/{key}")).json()["objects"]]

            # by another tab, which has it still
            path = f"/sessions/{key}"
            for answer in (
                await reader.post(f"{path}/prompts", {"object": 1, "slice": 1, "points": [[10, 15, 1]]}),
                await reader.post(f"{path}/propagate", {"object": 1}),
                await reader.http.patch(f"{path}/objects/1", json={"name": "heart"}),
                await reader.http.delete(f"{path}/objects/1"),
            ):
                assert answer.status_code == 404
            await reader.step(key, "reset")
            assert await listed() == [2]
            # there is nothing left to be forgotten
            assert (await reader.step(key, "reset"), (await reader.http.get(path)).json()["undo"]) == ([], 4)
            await there.readings._drop(key)
            assert await listed() == [2]
            await reader.step(key, "undo")
            assert await listed() == [2]
            await reader.step(key, "undo")
            assert await listed() == [1, 2]
            np.testing.assert_array_equal(reader.masks[1, 1], left[1])

    asyncio.run(play())


def test_limits_and_looks_go_on_in_a_session_that_begins_from_another(folder):
    scan, left, right = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, case = there.person("ann"), there.case("a", scan)
            key = (await reader.open(case, label="liver", zoom="off"))["id"]
            for name in ("spleen", "heart"):
                await reader.post(f"/sessions/{key}/objects", {"name": name})
            for number, box in ((1, [4, 8, 24, 28]), (2, [30, 8, 55, 35]), (3, [4, 8, 24, 28])):
                await reader.prompt(key, 1, number, box=box)
            await reader.http.patch(f"/sessions/{key}/objects/1", json={"colour": "#123456", "visible": False})
            await reader.http.patch(f"/sessions/{key}/objects/2", json={"locked": True})
            await reader.http.patch(f"/sessions/{key}", json={"keep_range": [100, None]})
            await reader.http.delete(f"/sessions/{key}/objects/3")
            await reader.http.delete(f"/sessions/{key}")
            told = await reader.open(case, axis="j", start={"session": key})
            liver, spleen = told["objects"]
            assert (liver["colour"], liver["visible"], liver["locked"]) == ("#123456", False, False)
            assert (spleen["name"], spleen["visible"], spleen["locked"]) == ("spleen", True, True)
            assert told["keep_range"] == [100, None]
            await reader.anew(told["id"])
            whole = CompactMask.of(np.ones((4, 60), bool)).to_dict()
            drawn = await reader.prompt(told["id"], 20, 1, drawn=whole)
            wanted = left[:, 20] | right[:, 20]
            wanted[1] &= ~right[1, 20]
            np.testing.assert_array_equal(drawn, wanted)
            # where something is said of limits, that holds
            await reader.http.delete(f"/sessions/{told['id']}")
            told = await reader.open(case, start={"session": key}, limits={})
            assert (told["keep_range"], told["objects"][1]["locked"]) == (None, False)

    asyncio.run(play())
