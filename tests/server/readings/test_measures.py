"""How large objects are, over HTTP."""

import asyncio
import csv
import io
import math
import threading
from dataclasses import replace

import numpy as np
from readings_house import house, two_blocks

from medsam.masks import CompactMask
from medsam.server.readings.asking import measures
from medsam.server.readings.measured import Measured, to_csv


def entry(x0, y0, x1, y1):
    mask = np.zeros((40, 60), bool)
    mask[y0:y1, x0:x1] = True
    return CompactMask.of(mask).to_dict()


def test_objects_are_measured_as_they_are_shown(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.post(f"/sessions/{key}/objects", {"name": "=1+1"})

            async def told():
                return (await reader.http.get(f"/sessions/{key}/measures")).json()

            assert [(one["name"], one["voxels"], one["diameter_mm"]) for one in await told()] == [
                ("liver", 0, None),
                ("=1+1", 0, None),
            ]
            await reader.prompt(key, 1, drawn=entry(10, 10, 13, 14))
            await reader.prompt(key, 2, drawn=entry(10, 10, 16, 18))
            one = (await told())[0]
            voxel = scan.geometry.voxel_ml
            high, wide = scan.geometry.plane("k").spacing_mm
            assert (one["voxels"], one["slice"], one["volume_ml"]) == (60, 2, 60 * voxel)
            assert math.isclose(one["diameter_mm"], math.hypot(6 * wide, 8 * high))
            # corners of the outermost pixels, whose centres are whole numbers
            assert sorted(one["ends"]) in ([[9.5, 9.5], [15.5, 17.5]], [[9.5, 17.5], [15.5, 9.5]])
            inside = np.concatenate([scan.array[1, 10:14, 10:13].ravel(), scan.array[2, 10:18, 10:16].ravel()])
            assert math.isclose(one["mean"], inside.mean(dtype=float), rel_tol=1e-6)
            assert math.isclose(one["std"], inside.std(dtype=float), rel_tol=1e-5)
            reading = await there.readings.get(reader.reader, key)
            before, _ = await measures(reading)
            await reader.prompt(key, 1, 2, drawn=entry(1, 1, 2, 2))
            after, _ = await measures(reading)
            # what has not changed is not measured again
            assert after[0].measures is before[0].measures
            assert after[1].measures.voxels == 1
            await reader.http.delete(f"/sessions/{key}/objects/1")
            assert [one["object"] for one in await told()] == [2]
            table = list(csv.DictReader(io.StringIO(to_csv("thecase", after))))
            assert [one["case"] for one in table] == ["thecase", "thecase"]
            # no program takes it for a formula
            assert (table[1]["name"], table[1]["voxels"], table[1]["slice"]) == ("'=1+1", "1", "1")
            assert isinstance(after[0], Measured)
            (odd,) = csv.DictReader(io.StringIO(to_csv("thecase", [replace(after[0], units="@SUM(1)")])))
            assert odd["units"] == "'@SUM(1)"

    asyncio.run(play())


def test_an_answer_says_of_which_revision_it_is(folder):
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            await reader.prompt(key, 1, drawn=entry(10, 10, 13, 14))
            reading = await there.readings.get(reader.reader, key)
            measure, append, go = reading.measuring.of, there.store.append_step, threading.Event()

            def measured(objects):
                go.wait(5)
                return measure(objects)

            reading.measuring.of = measured
            asking = asyncio.ensure_future(reader.http.get(f"/sessions/{key}/measures"))
            await asyncio.sleep(0.05)
            await reader.prompt(key, 1, drawn=entry(10, 10, 20, 20))
            go.set()
            answer = await asking
            # a step came meanwhile, which is not in it
            assert (answer.json()[0]["voxels"], answer.headers["X-Medsam-Revision"]) == (12, "2")

            begun, go = threading.Event(), threading.Event()

            def slowly(*given, **more):
                begun.set()
                go.wait(5)
                return append(*given, **more)

            there.store.append_step = slowly
            body = {"object": 1, "slice": 2, "drawn": entry(1, 1, 2, 2)}
            step = asyncio.ensure_future(reader.post(f"/sessions/{key}/prompts", body))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_later(0.05, go.set)
            answer = await reader.http.get(f"/sessions/{key}/prompts")
            # the step is in it, which was not stored when this was asked
            assert ([one["slice"] for one in answer.json()["prompts"]], (await step).status_code) == ([1, 2], 200)
            assert answer.headers["X-Medsam-Revision"] == "4"

    asyncio.run(play())
