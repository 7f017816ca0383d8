"""What is asked of a reading, and changes nothing in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from anyio import to_thread
from fastapi import HTTPException

from medsam.inference.session import Session
from medsam.inference.worker import Priority
from medsam.masks import CompactMask
from medsam.server.heavy import heavy
from medsam.server.readings.answers import Answer, Outlined, outlined, probabilities_of, prompts_file
from medsam.server.readings.measured import Measured
from medsam.server.readings.objects import label_of
from medsam.server.readings.reading import Reading
from medsam.wire import MaskFrame, write_frames


async def probabilities(reading: Reading, number: int, index: int) -> tuple[np.ndarray, Answer]:
    """What the network says of an object on a slice, float16 (h, w). 404 where it was not asked there."""
    _check_model(reading)
    reading.there(number)

    def ask(session: Session) -> np.ndarray | None:
        state = session.states.get(label_of(number), {}).get(index)
        if state is None or state.untouched:
            return None
        found = session.result(index, label_of(number))
        return None if found is None else found.logits

    logits, told = await reading.asked(ask, Priority.SLICE)
    if logits is None:
        raise HTTPException(404, "There is no prompt of this object on this slice.")
    return await to_thread.run_sync(probabilities_of, logits), told


async def prompts(reading: Reading) -> tuple[str, Answer]:
    """What was asked, as a prompts file that `medsam segment --prompts` reads (docs/prompts.md)."""
    given, told = await reading.asked(lambda session: session.prompts)
    names = {label_of(one.number): one.name for one in reading.objects.values()}
    return await to_thread.run_sync(prompts_file, given, names, reading.scan_encoder.plane.axis), told


async def masks(reading: Reading) -> tuple[int, Outlined]:
    """The masks of all objects, by their numbers and names, once every first answer is refined; and of which revision.

    Raises HTTPException 503 where that fails.
    """
    await reading.refined()
    state, told = await reading.asked(lambda session: session.state)
    listed = {one.number: one for one in reading.listed}
    return told.revision, await heavy(outlined, state, reading.scan_encoder, listed)


async def measures(reading: Reading) -> tuple[list[Measured], Answer]:
    """Every object as it is shown now."""
    # masks are as they are at this moment
    there = [(one, *reading.slate.of(one.number)) for one in reading.listed]
    told = Answer(reading.revision, reading.objects_revision)
    return await heavy(reading.measuring.of, there), told


async def candidates(reading: Reading, number: int, index: int) -> Answer:
    """Other answers to what was asked of an object on a slice, as frames, the best first. 404 for no such object."""
    _check_model(reading)
    reading.there(number)
    found, told = await reading.asked(lambda session: session.candidates(index, label_of(number)), Priority.SLICE)
    plane = reading.scan_encoder.plane

    def make() -> bytes:
        return write_frames(
            MaskFrame.whole(
                CompactMask.of(one.mask),
                object=number,
                axis=plane.axis,
                slice=index,
                revision=told.revision,
                status="candidate",
                predicted_iou=one.predicted_iou,
            )
            for one in found
        )

    return replace(told, body=await to_thread.run_sync(make))


def _check_model(reading: Reading) -> None:
    if not reading.same_model:
        raise HTTPException(404, f"The masks of this session are of another model, {reading.stored.model}.")
