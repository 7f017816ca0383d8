"""What Dice is expected of an answer: told with it, kept through undo and a restart, and of boxes alone."""

import asyncio
import json

import numpy as np
import pytest
from phantoms import ThresholdSam
from readings_house import house, nodule, two_blocks

from medsam.inference.predictor import Predictor
from medsam.inference.session_state import SessionState
from medsam.inference.signs import NAMES
from medsam.inference.trust import Familiar, TrustModel
from medsam.server.readings.asking import masks

BOX = [4, 8, 24, 28]


@pytest.fixture
def learnt(monkeypatch):
    """What is learnt of the network of this number of pixels: 0.5 of every answer, and no picture is familiar."""
    one = np.ones(1)
    strange = Familiar(0 * one, np.ones((1, 1)), one, np.full((1, 1), 1e6), 1.0, 1.0)
    model = TrustModel(NAMES[:1], one, one, 0 * one, 0 * one, bias=0.0, familiar=strange)
    digests = [Predictor(ThresholdSam(64), "cpu").images.weights, Predictor(ThresholdSam(), "cpu").images.weights]
    monkeypatch.setattr("medsam.inference.combine.shipped", lambda: dict.fromkeys(digests, model))
    return model


def told(frames):
    (frame,) = frames
    return frame.expected_dice, frame.expected_dice_low, frame.expected_dice_high, frame.unfamiliar


def test_a_box_tells_it_and_a_click_takes_it_back(folder, learnt):
    half, nothing = (0.5, *learnt.interval(0.5), True), (None, None, None, False)
    scan, *_ = two_blocks()

    async def play():
        async with house(folder) as there:
            reader, key = await there.opened(scan, label="liver")
            entry = {"object": 1, "slice": 1}
            assert told(await reader.step(key, "prompts", {**entry, "box": BOX})) == half
            assert told(await reader.step(key, "prompts", {**entry, "points": [[10, 15, 0]]})) == nothing
            assert told(await reader.step(key, "undo")) == half
            other = {"object": 1, "slice": 2, "points": [[10, 15, 1]]}
            assert told(await reader.step(key, "prompts", other)) == nothing
            await reader.step(key, "undo")
        async with house(folder) as there:
            there.back(reader, scan)
            reader.revision = 0
            assert told(await reader.changes(key)) == half
            assert {one.slice: one.expected_dice for one in there.store.masks(1)} == {1: 0.5, 2: None}
            # a file says it of the structure
            reading = await there.readings.get(reader.reader, key)
            _, outlined = await masks(reading)
            assert outlined.remarks.keys() == {"liver"}
            assert outlined.remarks["liver"].startswith("Expected Dice 0.50 (0.30 to 0.70): estimated by a model")

    asyncio.run(play())


def test_a_first_answer_says_nothing_and_the_refined_one_does(folder, learnt):
    async def play():
        async with house(folder, ThresholdSam(64)) as there:
            reader, key = await there.opened(nodule(), label="nodule")
            with there.held():
                first = await reader.step(key, "prompts", {"object": 1, "slice": 0, "box": [46, 56, 68, 71]})
                assert (first[0].status, *told(first)) == ("first", None, None, None, False)
            refined = await reader.changes(key, wait=5)
            assert (refined[0].status, told(refined)[0]) == ("refined", 0.5)
            await there.readings._drop(key)
            reader.revision = 0
            assert told(await reader.changes(key))[0] == 0.5

    asyncio.run(play())


def test_where_nothing_was_learnt_nothing_is_said(folder):
    async def play():
        async with house(folder) as there:
            scan, *_ = two_blocks()
            reader, key = await there.opened(scan, label="liver")
            frames = await reader.step(key, "prompts", {"object": 1, "slice": 1, "box": BOX})
            assert told(frames) == (None, None, None, False)
            assert (await masks(await there.readings.get(reader.reader, key)))[1].remarks == {}

    asyncio.run(play())


def test_a_session_as_data_keeps_it(learnt):
    scan, *_ = two_blocks()
    session = Predictor(ThresholdSam(), "cpu").session(scan)
    found = session.box(1, tuple(BOX), label="liver")
    assert found.expected_dice == learnt.expected(found.signs, np.zeros(1))
    session.click(1, 10, 15, label="liver")
    document = json.loads(json.dumps(session.state.to_dict()))
    # who does not know it reads the rest
    assert document["version"] == 1
    boxed, clicked = (step.after[1] for step in SessionState.from_dict(document).steps)
    assert (boxed.expected_dice, clicked.expected_dice) == (found.expected_dice, None)
