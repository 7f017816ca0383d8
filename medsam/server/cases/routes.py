"""The routes of cases: lists, voxels, uploads. Thin: what they do is in `rooms` and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response

from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.io.dicom.identity import Identity
from medsam.server.cases.pixels import bytes_response, etag_of, meta_of, plane_of, raw_response
from medsam.server.cases.receiving import FILES, received
from medsam.server.cases.rooms import CaseRooms
from medsam.server.cases.schemas import (
    KEY,
    CaseInfo,
    Geometry,
    Opening,
    Patient,
    Share,
    Uploaded,
    binary,
)
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.services import PresentServices
from medsam.store.readers import Reader
from medsam.store.records import StoredCase

router = APIRouter(tags=["cases"])

CaseKey = Annotated[str, Path(pattern=KEY, description="id of a case")]


@router.get("/cases")
async def list_cases(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    q: Annotated[str, Query(max_length=100, description="part of the name or modality")] = "",
    after: Annotated[str | None, Query(pattern=KEY, description="id of the last one seen")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    order: Annotated[Literal["oldest", "newest"], Query(description="which comes first")] = "oldest",
    kind: Annotated[Literal["data", "upload", "pacs"] | None, Query(description="of these alone")] = None,
    mine: Annotated[bool, Query(description="that the reader brought")] = False,
    patients: Annotated[bool, Query(description="also whose they are, for those who may know")] = False,
) -> list[CaseInfo]:
    """The scans that the reader may open, by time of arrival."""
    rooms = services.cases
    found = await rooms.cases(reader, q, after, limit, newest=order == "newest", kind=kind, mine=mine)
    known: Sequence[Identity | None] = [None] * len(found)
    if patients and rooms.may_know(reader):
        known = await rooms.identities(found)
        request.state.audited = {"what": "list patients", "count": sum(person is not None for person in known)}
    return [case_info(rooms, reader, case, person) for case, person in zip(found, known, strict=True)]


@router.post("/cases", status_code=201, openapi_extra={"requestBody": {"required": True, "content": FILES}})
async def upload(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    x_filename: Annotated[str, Header(max_length=2000, description="what a raw body is called, percent-encoded")] = "",
) -> Uploaded:
    """Make cases of a file (a raw body), or of files (multipart/form-data, each a part with a filename).

    NIfTI, NRRD, MHA, pictures, `.npz`, DICOM files, and zips of these. What is no scan is left out.
    """
    rooms, limits = services.cases, services.settings.limits
    async with received(request, rooms, limits, x_filename) as (part, names):
        cases, found = await rooms.take_in(part, names, reader)
    request.state.audited = {"case": cases[0].key, "cases": ", ".join(case.key for case in cases[:20])}
    return Uploaded(cases=[case_info(rooms, reader, case, None) for case in cases], notes=list(found.notes))


@router.get("/cases/{case}")
async def show_case(case: CaseKey, reader: PresentReader, services: PresentServices) -> CaseInfo:
    """One scan; with whose it is, for those who may know."""
    rooms = services.cases
    found = await rooms.case(reader, case)
    person = (await rooms.identities([found]))[0] if rooms.may_know(reader) else None
    return case_info(rooms, reader, found, person)


@router.delete("/cases/{case}", status_code=204)
async def delete_case(case: CaseKey, reader: PresentReader, services: PresentServices) -> None:
    """Delete an upload or a fetched series: its files. What was drawn on it stays in the store."""
    await services.cases.remove(reader, case)


@router.post("/cases/{case}/share", status_code=204)
async def share_case(case: CaseKey, body: Share, reader: PresentReader, services: PresentServices) -> None:
    """Let another reader see a case, or no longer."""
    await services.cases.share(reader, case, body.user, may=body.may)


@router.post("/cases/{case}/open", responses={202: {"model": Opening, "description": "it is being read: ask again"}})
async def open_case(
    case: CaseKey, request: Request, response: Response, reader: PresentReader, services: PresentServices
) -> Geometry | Opening:
    """Have a scan read into memory. 202 while it is, 200 and its grid when it is there."""
    rooms = services.cases
    found = await rooms.case(reader, case)
    files = await rooms.place(found)
    if rooms.scans.here(case, files.version) is None:
        rooms.scans.check(case, files.version)
        rooms.begin_open(case)
        response.status_code = 202
        # there will be a line when it is open
        request.state.audited = {"what": None}
        return Opening()
    volume = await rooms.scans.get(case, files)
    await rooms.calls(rooms.store.open_case, found.id, reader)
    return Geometry(**await rooms.described(case, files.version, volume))


@router.get("/cases/{case}/geometry")
async def geometry(case: CaseKey, request: Request, reader: PresentReader, services: PresentServices) -> Geometry:
    """The grid of a scan, its slices and the windows to see them through; it is read for that."""
    rooms = services.cases
    files, scan = await while_connected(request, rooms.scan(reader, case))
    return Geometry(**await rooms.described(case, files.version, scan))


@router.get(
    "/cases/{case}/thumbnail",
    response_class=Response,
    responses={
        200: {
            "description": "a PNG, its longer side 160 pixels",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        204: {"description": "there is none: the scan cannot be read, or is too large to be read for that"},
        304: {"description": "as `If-None-Match` has it"},
    },
)
async def thumbnail(case: CaseKey, request: Request, reader: PresentReader, services: PresentServices) -> Response:
    """The slice in the middle of a scan, upright and windowed; it is not read into memory for that."""
    version, picture = await while_connected(request, services.cases.thumbnail(reader, case))
    # a list shows those of cases that nobody opens
    request.state.audited = {"case": None}
    if not picture:
        return Response(status_code=204)
    return bytes_response(memoryview(picture), etag_of(case, version, "thumbnail"), request.headers, {}, "image/png")


@router.get("/cases/{case}/volume", response_class=Response, responses=binary())
async def volume(case: CaseKey, request: Request, reader: PresentReader, services: PresentServices) -> Response:
    """All voxels of a scan, (K, J, I), in colour (K, J, I, 3). Parts of them by `Range`."""
    rooms = services.cases
    files, scan = await while_connected(request, rooms.scan(reader, case))
    known = await rooms.described(case, files.version, scan)
    said = {name: known[name] for name in ("modality", "units", "windows", "spacing_mm")}
    meta = meta_of(scan.array, geometry=scan.geometry.to_dict(), **said)
    return raw_response(scan.array, meta, etag_of(case, files.version), request.headers)


@router.get("/cases/{case}/slices/{axis}/{index}", response_class=Response, responses=binary())
async def slice_pixels(
    case: CaseKey,
    axis: Axis,
    index: Annotated[int, Path(ge=0, le=2**31)],
    request: Request,
    reader: PresentReader,
    services: PresentServices,
) -> Response:
    """The pixels of one slice as it is stored, (rows, columns), in colour (rows, columns, 3). `view` says how it is
    turned to stand upright."""
    files, scan = await while_connected(request, services.cases.scan(reader, case))
    plane = scan.geometry.plane(axis)
    if index >= plane.count:
        raise InputError(f"There are {plane.count} slices along {axis}, from 0.", parameter="index")
    pixels = await to_thread.run_sync(lambda: np.ascontiguousarray(plane.take(scan.array, index)))
    described_plane = plane_of(plane)
    meta = meta_of(
        pixels, axis=axis, index=index, **{name: described_plane[name] for name in ("count", "spacing_mm", "view")}
    )
    return raw_response(pixels, meta, etag_of(case, files.version, axis, index), request.headers)


# -- what they share ------------------------------------------------------------------------------------------


def case_info(rooms: CaseRooms, reader: Reader, case: StoredCase, person: Identity | None) -> CaseInfo:
    """A case as a reader sees it."""
    scan = case.details["scan"]
    volume = rooms.scans.here(case.key, scan["version"])
    shape = scan["shape"] if volume is None else volume.shape
    return CaseInfo(
        id=case.key,
        name=case.name,
        kind=case.kind,
        format=scan["kind"],
        modality=case.modality if volume is None else volume.modality or case.modality,
        shape=None if shape is None else tuple(shape),
        files=scan["count"],
        state="gone" if case.vanished_at is not None else rooms.scans.state(case.key, scan["version"]),
        problem=rooms.scans.problem(case.key, scan["version"]),
        mine=case.owner is not None and case.owner == reader.id,
        added=case.added_at,
        patient=None if person is None else _patient(person),
    )


def _patient(person: Identity) -> Patient:
    return Patient(
        name=person.name,
        id=person.number,
        study_date=person.study_date,
        study_description=person.study_description,
        series_description=person.series_description,
    )
