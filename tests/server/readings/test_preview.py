"""What a page gets to show what would be answered: a slice's embedding, and where its pixels are in it."""

import asyncio
import json

import numpy as np
import torch
from readings_house import house, two_blocks

from medsam.models.build import build_model
from medsam.models.specs import tiny_spec


def test_an_embedding_is_that_of_the_whole_slice_and_says_where_it_lies(folder):
    scan, _, _ = two_blocks()
    torch.manual_seed(5)

    async def play():
        async with house(folder, build_model(tiny_spec("vit"))) as there:
            reader, key = await there.opened(scan)
            answer = await reader.http.get(f"/sessions/{key}/slices/2/embedding")
            assert answer.status_code == 200
            wanted = there.predictor.encoder_for(scan, axis="k").encode(2)
            meta = json.loads(answer.headers["X-Medsam-Meta"])
            assert meta == {
                "dtype": "<f2",
                "shape": list(wanted.features.shape[1:]),
                "slice": 2,
                "input_size": 64,
                # 40 x 60 pixels of one size in 64 x 64
                "resized": [43, 64],
            }
            assert list(wanted.frame.resized) == meta["resized"]
            found = np.frombuffer(answer.content, "<f2").reshape(meta["shape"])
            np.testing.assert_array_equal(found, wanted.features[0].numpy().astype("<f2"))
            # as of the pixels of a slice that there is not
            assert (await reader.http.get(f"/sessions/{key}/slices/4/embedding")).status_code == 422
            other = there.person("ben")
            assert (await other.http.get(f"/sessions/{key}/slices/2/embedding")).status_code == 404

    asyncio.run(play())


def test_an_embedding_that_is_at_hand_waits_for_nobody(folder):
    scan, _, _ = two_blocks()

    async def play():
        async with house(folder, build_model(tiny_spec("vit"))) as there:
            reader, key = await there.opened(scan)
            path = f"/sessions/{key}/slices/2/embedding"
            first = await reader.http.get(path)
            with there.held():
                again = await asyncio.wait_for(reader.http.get(path), 5)
            assert again.content == first.content

    asyncio.run(play())
