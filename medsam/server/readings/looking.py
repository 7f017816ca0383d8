"""What is asked of a session over HTTP, and changes nothing in it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

from medsam.inference.organs import statistics_csv, tested
from medsam.labels import english
from medsam.server.gate.present import PresentReader
from medsam.server.readings import asking
from medsam.server.readings.finding import statistics_of
from medsam.server.readings.measured import ends_of, row_of
from medsam.server.readings.present import FRAMES, PresentReadings, frames, head
from medsam.server.readings.schemas import Measure, OrganOffer, OrgansAnswer, SliceNumber

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

_STATISTICS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "structure, label, voxels, ml, found, head, tested_on_patients, tested_dice, "
        "tested_scans_without; a row a structure that a head answered",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    },
    404: {"description": "no such session or job, or one without statistics"},
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


@router.get("/{session}/organs")
async def organs(session: str, reader: PresentReader, readings: PresentReadings, response: Response) -> OrgansAnswer:
    """What `POST` would look for now, by whom, and as what the scan is taken. Nothing that was not measured."""
    reading = await readings.get(reader, session)
    offer = await reading.offer()
    head(response, reading)
    there = [*((one, None) for one in offer.organs), *((one, kept.number) for one, kept in offer.kept)]
    return OrgansAnswer(
        modality=offer.modality.name,
        modality_by=offer.modality.by,
        structures=[
            OrganOffer.model_validate({"structure": english(one.name), "object": number, **tested(one)})
            for one, number in there
        ],
        lack=None if offer.lack is None else offer.lack.why,
    )


@router.get("/{session}/jobs/{job}/statistics", response_class=Response, responses=_STATISTICS)
async def statistics(
    session: str, job: str, reader: PresentReader, readings: PresentReadings, request: Request
) -> Response:
    """What a search for organs has found, as CSV: as `medsam organs --statistics` writes it. 404 before it is done."""
    reading = await readings.get(reader, session)
    found = reading.job(job)
    if found.structures is None:
        raise HTTPException(404, "This job has no statistics: it is no search for organs, or is not done.")
    request.state.audited = {"case": reading.case, "format": "statistics"}
    headers = {"Content-Disposition": f'attachment; filename="organs-{session[:8]}.csv"'}
    return Response(statistics_csv(statistics_of(found)), media_type="text/csv; charset=utf-8", headers=headers)


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
