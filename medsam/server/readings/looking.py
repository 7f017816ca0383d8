"""What is asked of a session over HTTP, and changes nothing in it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from medsam.server.gate.present import PresentReader
from medsam.server.readings import asking
from medsam.server.readings.measured import ends_of, row_of
from medsam.server.readings.present import FRAMES, PresentReadings, frames, head
from medsam.server.readings.schemas import Measure, SliceNumber

router = APIRouter()

_PROMPTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a prompts file (docs/prompts.md)",
        "content": {
            "application/json": {
                "example": {
                    "axis": "k",
                    "prompts": [{"label": "liver", "slice": 41, "box": [120, 88, 212, 176], "points": [[150, 130, 1]]}],
                }
            }
        },
    }
}


@router.get("/{session}/probabilities", response_class=Response)
async def probabilities(
    session: str,
    object: int,  # noqa: A002
    slice: Annotated[SliceNumber, Query()],  # noqa: A002
    reader: PresentReader,
    readings: PresentReadings,
) -> Response:
    """What the network says of each pixel of a slice: float16, little-endian, row by row; head: `X-Medsam-Meta`."""
    reading = await readings.get(reader, session)
    found, told = await asking.probabilities(reading, object, slice)
    meta = {"dtype": "<f2", "shape": list(found.shape), "object": object, "slice": slice, "revision": told.revision}
    response = Response(found.tobytes(), media_type="application/octet-stream")
    response.headers["X-Medsam-Meta"] = json.dumps(meta, separators=(",", ":"))
    head(response, told)
    return response


@router.get("/{session}/prompts", response_class=Response, responses=_PROMPTS)
async def prompts(session: str, reader: PresentReader, readings: PresentReadings) -> Response:
    """Everything that was asked, as a prompts file: `medsam segment --prompts` gives the same masks of it."""
    reading = await readings.get(reader, session)
    file, told = await asking.prompts(reading)
    response = Response(file, media_type="application/json")
    head(response, told)
    return response


@router.get("/{session}/measures")
async def measures(session: str, reader: PresentReader, readings: PresentReadings, response: Response) -> list[Measure]:
    """How large each object is as it is shown, and what the scan has in it."""
    reading = await readings.get(reader, session)
    found, told = await asking.measures(reading)
    head(response, told)
    return [Measure.model_validate({**row_of(one), "ends": ends_of(one)}) for one in found]


@router.get("/{session}/candidates", response_class=Response, responses=FRAMES)
async def candidates(
    session: str,
    object: int,  # noqa: A002
    slice: Annotated[SliceNumber, Query()],  # noqa: A002
    reader: PresentReader,
    readings: PresentReadings,
) -> Response:
    """Up to three answers to what was asked of an object on a slice, the best first, the one that stands among them.

    None where they hardly differ. Nothing changes: to take one, send it as `drawn`.
    """
    reading = await readings.get(reader, session)
    return frames(await asking.candidates(reading, object, slice))
