"""Structures by their name, over HTTP. The reader of names is given: what it answers is known."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
from readings_house import house, two_blocks

from medsam.errors import PromptError
from medsam.inference.by_name import KnownName, NamedMask

CARD = SimpleNamespace(card=SimpleNamespace(name="shapes", thresholds={}, licence="CC0"))


class Shapes:
    """Knows the spleen as the left block, and a liver that is nowhere."""

    def __init__(self, left: np.ndarray) -> None:
        self.masks = {"spleen": left, "liver": np.zeros_like(left)}

    def named(self, text, *, untested=False):
        if text not in self.masks:
            raise PromptError(f"No structure is known by the name {text!r}. Did you mean 'spleen'?", parameter="text")
        return KnownName(text, CARD, {"dice": 1.0}), ""

    def answer(self, scan_encoder, names, progress=None):
        return [NamedMask(one, self.masks[one.name], np.zeros(len(self.masks[one.name]))) for one in names]


def test_an_object_becomes_what_a_name_means_as_one_step(folder):
    scan, left, _ = two_blocks()
    left = left & (np.arange(len(left)) < 3)[:, None, None]

    async def play():
        async with house(folder) as there:
            vars(there.predictor)["names"] = Shapes(left)
            reader, key = await there.opened(scan, label="spleen")
            await reader.prompt(key, 3, box=[30, 8, 54, 34])
            frames = await reader.step(key, "text", {"object": 1, "text": "spleen"})
            assert sorted(frame.slice for frame in frames) == [0, 1, 2, 3]
            # drawn anew: what was on another slice is gone
            assert set(reader.masks) == {(1, 0), (1, 1), (1, 2)}
            for index in range(3):
                np.testing.assert_array_equal(reader.masks[1, index], left[index])
            await reader.step(key, "undo")
            assert set(reader.masks) == {(1, 3)}
            for text, what in (("liver", "is not in this scan, says shapes"), ("spleeen", "Did you mean 'spleen'?")):
                answer = await reader.post(f"/sessions/{key}/text", {"object": 1, "text": text})
                assert answer.status_code == 422
                assert what in answer.text
            assert set(reader.masks) == {(1, 3)}

    asyncio.run(play())
