"""Organs over HTTP: random heads beside a random network, everything between is real."""

from __future__ import annotations

import asyncio
import csv
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch
from named_heads import HIGH, learnt, name_network, named_head
from organ_heads import detector_head
from readings_house import house
from sqlalchemy import select

from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.masks import CompactMask
from medsam.models.build import build_model
from medsam.models.heads import renamed
from medsam.models.specs import tiny_spec
from medsam.store.tables import Revisions
from medsam.volume import Volume

SHAPE = (4, 20, 30)
DRAWN = np.zeros(SHAPE[1:], bool)
DRAWN[4:9, 6:20] = True
ENTRY = CompactMask.of(DRAWN).to_dict()


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    return build_model(tiny_spec()).eval()


@pytest.fixture(scope="module")
def heads(sam, tmp_path_factory):
    """By name: spleen (measured), left kidney and liver (not). A detector: left kidney (measured), spleen (not)."""
    there = tmp_path_factory.mktemp("heads")
    measured = {"Left Kidney": {"patients": 9, "dice": 0.9, "scans_without": 5}}
    names = named_head(there / "three.safetensors", sam, learnt(sam), name_network(sam))
    return names, detector_head(there / "boxes.safetensors", sam, measured=measured)


def scan(slices=SHAPE[0], modality="CT") -> Volume:
    array = np.random.default_rng(3).normal(100, 30, (slices, *SHAPE[1:])).clip(0).astype(np.float32)
    return Volume(array, VolumeGeometry(array.shape, np.diag([1.0, 1.0, 2.0, 1.0])), modality=modality)


@asynccontextmanager
async def served(folder, sam, heads):
    async with house(folder, sam) as there:
        there.predictor.heads = heads
        yield there


async def begun(reader, key):
    answer = await reader.post(f"/sessions/{key}/organs")
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def until(reader, key, job, *states):
    while True:
        told = (await reader.http.get(f"/sessions/{key}/jobs/{job}")).json()
        if told["state"] in states:
            return told
        await asyncio.sleep(0.01)


async def objects(reader, key):
    return {one["id"]: one["name"] for one in (await reader.http.get(f"/sessions/{key}")).json()["objects"]}


def test_organs_that_were_measured_are_offered_found_and_drawn_a_step_each(folder, sam, heads):
    volume = scan()
    own = Predictor(sam, "cpu", heads=heads)
    masks = own.organ_reader.answer(own.encoder_for(volume), own.organ_reader.offered("CT")).masks
    wanted = {(1, k): masks[0].mask[k] for k in range(4)} | {(2, k): masks[1].mask[k] for k in range(4)}
    wanted = {place: mask for place, mask in wanted.items() if mask.any()}

    async def play():
        async with served(folder, sam, heads) as there:
            reader, key = await there.opened(volume)
            offer = (await reader.http.get(f"/sessions/{key}/organs")).json()
            assert (offer["modality"], offer["modality_by"], offer["lack"]) == ("CT", "file", None)
            assert [(one["structure"], one["head"]) for one in offer["structures"]] == [
                ("spleen", "three"),
                ("left kidney", "boxes"),
            ]
            job = await begun(reader, key)
            told = await until(reader, key, job, "done", "failed")
            assert (told["state"], told["object"], told["detail"]) == ("done", None, None)
            await reader.changes(key)
            assert await objects(reader, key) == {1: "spleen", 2: "kidney_left"}
            assert reader.masks.keys() == wanted.keys()
            for place, mask in wanted.items():
                np.testing.assert_array_equal(reader.masks[place], mask)
            rows = told["structures"]
            assert [(row["outcome"], row["head"], row["tested_on_patients"]) for row in rows] == [
                ("found", "three", 3),
                ("found", "boxes", 9),
            ]
            table = await reader.http.get(f"/sessions/{key}/jobs/{job}/statistics")
            assert table.headers["content-disposition"].startswith('attachment; filename="organs-')
            lines = [*csv.DictReader(table.text.splitlines())]
            for number, (row, line) in enumerate(zip(rows, lines, strict=True), start=1):
                voxels = sum(np.count_nonzero(mask) for (n, _), mask in wanted.items() if n == number)
                assert row["voxels"] == int(line["voxels"]) == voxels
                assert row["ml"] == float(line["ml"]) == pytest.approx(voxels * 0.002)
            # a file says that a model made them, and not the reader's hand
            labelled = await there.readings.labels(reader.reader, key)
            assert labelled.algorithm.drawn == frozenset()
            with there.store._database.read() as connection:
                query = select(Revisions.model).where(Revisions.kind == "step").order_by(Revisions.revision)
                assert [row.model for row in connection.execute(query)] == [sam.spec.name] * 2
            await reader.step(key, "undo")
            assert {number for number, _ in reader.masks} == {1}
            await reader.step(key, "redo")
            return key

    async def again(key):
        async with served(folder, sam, heads) as there:
            reader = there.person("ann")
            there.case("a", volume)
            await reader.anew(key)
            assert reader.masks.keys() == wanted.keys()
            labelled = await there.readings.labels(reader.reader, key)
            assert labelled.algorithm.drawn == frozenset()
            # all that could be looked for is there
            offer = (await reader.http.get(f"/sessions/{key}/organs")).json()
            assert {one["structure"]: one["object"] for one in offer["structures"]} == {"spleen": 1, "left kidney": 2}
            answer = await reader.post(f"/sessions/{key}/organs")
            assert answer.status_code == 422
            assert "has a mask already" in answer.text

    asyncio.run(again(asyncio.run(play())))


def test_a_mask_that_is_there_is_kept_also_one_that_came_meanwhile(folder, sam, heads):
    async def play():
        async with served(folder, sam, heads) as there:
            reader, key = await there.opened(scan(), label="Milz")
            await reader.prompt(key, 1, drawn=ENTRY)
            await reader.post(f"/sessions/{key}/objects", {"name": "left kidney"})
            offer = (await reader.http.get(f"/sessions/{key}/organs")).json()
            assert {one["structure"]: one["object"] for one in offer["structures"]} == {
                "left kidney": None,
                "spleen": 1,
            }
            with there.held():
                job = await begun(reader, key)
                # drawn while the search waits for its turn
                await reader.prompt(key, 2, number=2, drawn=ENTRY)
            told = await until(reader, key, job, "done", "failed")
            outcomes = {row["structure"]: (row["object"], row["outcome"], row["voxels"]) for row in told["structures"]}
            assert outcomes == {"spleen": (1, "kept", None), "left kidney": (2, "kept", None)}
            await reader.changes(key)
            assert reader.masks.keys() == {(1, 1), (2, 2)}
            np.testing.assert_array_equal(reader.masks[2, 2], DRAWN)
            assert (await reader.http.get(f"/sessions/{key}/jobs/{job}/statistics")).text.count("\n") == 1

    asyncio.run(play())


def test_what_is_not_in_the_scan_makes_no_object_and_one_without_a_mask_is_drawn(folder, sam, tmp_path):
    names = named_head(tmp_path / "h.safetensors", sam, learnt(sam), name_network(sam), spleen=HIGH)
    boxes = detector_head(tmp_path / "b.safetensors", sam, measured={"Left Kidney": {"patients": 2, "dice": 0.4}})

    async def play():
        async with served(folder, sam, (names, boxes)) as there:
            reader, key = await there.opened(scan(), label="linke Niere")
            told = await until(reader, key, await begun(reader, key), "done", "failed")
            outcomes = {row["structure"]: (row["object"], row["outcome"]) for row in told["structures"]}
            assert outcomes == {"spleen": (None, "absent"), "left kidney": (1, "found")}
            assert await objects(reader, key) == {1: "linke Niere"}
            await reader.changes(key)
            assert {number for number, _ in reader.masks} == {1}

    asyncio.run(play())


def test_one_search_at_a_time_and_one_that_is_stopped_leaves_nothing(folder, sam, heads):
    async def play():
        async with served(folder, sam, heads) as there:
            reader, key = await there.opened(scan(60))
            with there.held():
                job = await begun(reader, key)
                assert (await reader.post(f"/sessions/{key}/organs")).status_code == 409
                await reader.http.delete(f"/sessions/{key}/jobs/{job}")
            assert (await until(reader, key, job, "done", "failed", "stopped"))["state"] == "stopped"
            job = await begun(reader, key)
            while not (await reader.http.get(f"/sessions/{key}/jobs/{job}")).json()["done"]:
                await asyncio.sleep(0.01)
            # a click is answered meanwhile
            await reader.post(f"/sessions/{key}/objects", {"name": "rib"})
            await reader.prompt(key, 1, drawn=ENTRY)
            await reader.http.delete(f"/sessions/{key}/jobs/{job}")
            told = await until(reader, key, job, "done", "failed", "stopped")
            assert (told["state"], told["structures"]) == ("stopped", None)
            assert 0 < told["done"] < 60
            assert (await reader.http.get(f"/sessions/{key}/jobs/{job}/statistics")).status_code == 404
            await reader.changes(key)
            assert (await objects(reader, key), reader.masks.keys()) == ({1: "rib"}, {(1, 1)})
            # a session that is closed does not wait for one that runs
            await begun(reader, key)
            assert (await reader.http.delete(f"/sessions/{key}")).status_code == 204

    asyncio.run(asyncio.wait_for(play(), 60))


def test_why_nothing_is_offered_is_said_and_others_may_not_look(folder, sam, heads):
    async def play():
        async with served(folder, sam, ()) as there:
            reader, key = await there.opened(scan())
            offer = (await reader.http.get(f"/sessions/{key}/organs")).json()
            assert (offer["structures"], offer["lack"]) == ([], "no head")
            answer = await reader.post(f"/sessions/{key}/organs")
            assert (answer.status_code, "No head here knows a structure" in answer.text) == (422, True)
            other = there.person("bob")
            assert (await other.http.get(f"/sessions/{key}/organs")).status_code == 404
            assert (await other.post(f"/sessions/{key}/organs")).status_code == 404
            match = {"If-Match": "99"}
            assert (await reader.http.post(f"/sessions/{key}/organs", headers=match)).status_code == 412
        async with served(folder, sam, heads[:1]) as there:
            there.back(reader, scan())
            there.predictor.organ_reader.names.heads[0] = renamed(there.predictor.names.heads[0], measured={})
            offer = (await reader.http.get(f"/sessions/{key}/organs")).json()
            assert (offer["structures"], offer["lack"]) == ([], "untested")
            answer = await reader.post(f"/sessions/{key}/organs")
            assert "was measured on unseen patients" in answer.text
            # a server has no such option
            assert "Say" not in answer.text

    asyncio.run(play())
