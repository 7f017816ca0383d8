"""The routes of what leaves the server: the masks of a session as a file, and results sent back to a PACS."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response

from medsam.server.cases.exports import MEDIA_TYPES, Export, ExportFormat, encode
from medsam.server.cases.pixels import META, bytes_response, etag_of, meta_of, raw_response
from medsam.server.cases.schemas import SendBody, SentInfo, binary
from medsam.server.gate.present import PresentReader
from medsam.server.readers import Reader
from medsam.server.readings.answers import Labelled
from medsam.server.services import PresentServices, Services

router = APIRouter(tags=["sessions"])
SessionKey = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="id of a session")]


@router.get("/sessions/{session}/labels", response_class=Response, responses=binary(*MEDIA_TYPES))
async def labels(
    session: SessionKey,
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    format: Annotated[ExportFormat, Query(description="raw: voxels; the others are files")] = "nifti",  # noqa: A002
) -> Response:
    """The masks of a session, as `medsam segment` writes them for the same prompts. `seg`, `seg-labelmap` and
    `rtstruct` need a case in DICOM; X-Medsam-Meta has the names of the numbers of the others."""
    drawn = await services.readings.labels(reader, session)
    names = {str(number): name for number, name in sorted(drawn.labels.names.items())}
    audited = {"case": drawn.case.key, "format": format}
    if format == "raw":
        array = await services.cases.calls(_ready, drawn)
        digest = await services.cases.calls(lambda: hashlib.sha256(array.data).hexdigest())
        meta = meta_of(array, geometry=drawn.labels.geometry.to_dict(), names=names)
        request.state.audited = audited
        return raw_response(array, meta, etag_of(digest, names), request.headers)
    export = await _export(services, reader, drawn, format)
    request.state.audited = audited | {"sha256": export.digest}
    headers = export.headers(session) | {META: json.dumps({"names": names})}
    return bytes_response(memoryview(export.content), f'"{export.digest}"', request.headers, headers, export.media_type)


@router.post("/sessions/{session}/send")
async def send(
    session: SessionKey, body: SendBody, request: Request, reader: PresentReader, services: PresentServices
) -> SentInfo:
    """Store the masks of a session in a PACS, beside the images they were drawn on.

    It is looked up before that their study is there, and is the same patient's.
    """
    drawn = await services.readings.labels(reader, session)
    export = await _export(services, reader, drawn, body.format)
    sent = await services.cases.pacs.send(body.server, export.content)
    request.state.audited = {"case": drawn.case.key, "format": body.format, "sha256": export.digest}
    return SentInfo(stored=sent.stored, failures=list(sent.failures), notes=list(sent.notes))


async def _export(services: Services, reader: Reader, drawn: Labelled, format: ExportFormat) -> Export:  # noqa: A002
    rooms = services.cases
    # also whether the case is still the reader's to see
    files = await rooms.place(await rooms.case(reader, drawn.case.key))
    return await rooms.pool.run(encode, files, drawn.labels, format, drawn.algorithm)


def _ready(drawn: Labelled) -> np.ndarray:
    array = drawn.labels.array
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
