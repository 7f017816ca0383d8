"""The routes of what a session is compared with: another session, or a file of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import ValidationError

from medsam.errors import InputError
from medsam.geometry import SlicePlane
from medsam.inference.whole_objects import packed
from medsam.masks import CompactMask
from medsam.server.cases.receiving import FILES, received
from medsam.server.cases.references import Grid, Reference, compared, matched, read_reference, usual_name
from medsam.server.cases.rooms import UnknownCase
from medsam.server.cases.schemas import KEY, CompareBody, Compared, ComparedStructure
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.heavy import heavy
from medsam.server.joining import joined
from medsam.server.readings.opening import told_of_first
from medsam.server.readings.present import FRAMES
from medsam.server.readings.reading import Reading
from medsam.server.services import PresentServices, Services
from medsam.wire import MEDIA_TYPE, MaskFrame, write_frames

router = APIRouter(tags=["sessions"])
SessionKey = Annotated[str, Path(pattern=KEY, description="id of a session")]
ReferenceKey = Annotated[str, Path(pattern=KEY, description="that `compare` gave, within an hour")]


@router.post(
    "/sessions/{session}/compare",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": CompareBody.model_json_schema(),
                    "example": {"session": "3m0Vh1dG9bYqLxTz"},
                },
                **FILES,
            },
        }
    },
)
async def compare(
    session: SessionKey,
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    x_filename: Annotated[str, Header(max_length=2000, description="what a raw body is called, percent-encoded")] = "",
) -> Compared:
    """How far the objects of a session, as they are shown, are from those of another session on the same scan (JSON).

    Or of a file of labels in any format that is read (`multipart/form-data` or a raw body; with a label map a JSON of
    the names of its numbers, as `medsam segment` writes it)."""
    reading = await services.readings.get(reader, session)
    audited = {"case": reading.case}
    # what is compared is what is exported
    await reading.refined()
    notes: tuple[str, ...] = ()
    masks: Mapping[str, CompactMask]
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        audited["other"] = await _asked(request)
        left = await services.readings.left(reader, audited["other"], reading.scan_encoder.scan)
        masks = await heavy(joined, left.masks, usual_name)
        notes = (told_of_first(left.first, "the other session left"),) if left.first else ()
    else:
        masks, notes = await _of_file(services, request, reading, x_filename)
    request.state.audited = audited
    names = {one.number: one.name for one in reading.listed}
    own = {number: reading.slate.of(number)[1] for number in names}
    pairs, geometry = matched(names, masks), reading.scan_encoder.scan.geometry
    ours = await heavy(_solid, own, reading.scan_encoder.plane, geometry.shape)
    told = [
        (names.get(number or 0, name or ""), ours.get(number or 0), None if name is None else masks[name])
        for number, name in pairs
    ]
    rows = await while_connected(request, services.cases.pool.beside(compared, told, geometry))
    kept = {number: masks[name] for number, name in pairs if number is not None and name is not None}
    key = services.cases.references.keep(reader.id, session, kept)
    structures = [ComparedStructure(object=number, **row) for (number, _), row in zip(pairs, rows, strict=True)]
    return Compared(reference=key, structures=structures, notes=list(notes))


def _solid(
    objects: Mapping[int, Mapping[int, CompactMask]], plane: SlicePlane, shape: tuple[int, int, int]
) -> dict[int, CompactMask]:
    """Masks by slice as masks (K, J, I)."""
    found = packed({str(number): masks for number, masks in objects.items()}, plane, shape)
    return {number: found.compact(str(number)) for number in objects}


@router.get("/sessions/{session}/compare/{reference}/masks", response_class=Response, responses=FRAMES)
async def reference_masks(
    session: SessionKey,
    reference: ReferenceKey,
    reader: PresentReader,
    services: PresentServices,
    object: Annotated[int | None, Query(ge=1, description="of this one alone")] = None,  # noqa: A002
) -> Response:
    """The masks of what a session was compared with, along its axis, as frames of the objects that they were matched
    with."""
    reading = await services.readings.get(reader, session)
    found = services.cases.references.get(reference, reader.id, session)
    if found is None:
        raise UnknownCase("There is no such comparison any more: compare again.", parameter="reference")
    plane, revision = reading.scan_encoder.plane, reading.revision
    body = await heavy(_frames, found, plane, revision, object)
    headers = {"X-Medsam-Revision": str(revision), "X-Medsam-Objects": str(reading.objects_revision)}
    return Response(body, media_type=MEDIA_TYPE, headers=headers)


def _frames(found: Reference, plane: SlicePlane, revision: int, wanted: int | None) -> bytes:
    frames = []
    for number, mask in found.masks.items():
        if wanted is not None and number != wanted:
            continue
        solid = mask.to_array()
        for index in plane.touched(solid):
            flat = CompactMask.of(plane.take(solid, index))
            head = {"object": number, "axis": plane.axis, "slice": index, "revision": revision}
            frames.append(MaskFrame.whole(flat, **head, status="candidate"))
    return write_frames(frames)


async def _asked(request: Request) -> str:
    try:
        return CompareBody.model_validate_json(await request.body()).session
    except ValidationError as error:
        what = error.errors()[0]
        raise InputError(f"`session` names the session to compare with: {what['msg']}.", parameter="session") from None


async def _of_file(
    services: Services, request: Request, reading: Reading, name: str
) -> tuple[dict[str, CompactMask], tuple[str, ...]]:
    async with received(request, services.cases, services.settings.limits, name) as (folder, names):
        return await while_connected(
            request, services.cases.pool.beside(read_reference, folder, names, Grid.of(reading.scan_encoder.scan))
        )
