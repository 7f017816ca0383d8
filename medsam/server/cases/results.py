"""The routes of what leaves the server: the masks of a session as a file, and results sent back to a PACS."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response

from medsam.errors import MedSAMError
from medsam.io.algorithm import DicomOptions
from medsam.server.cases.exports import MEDIA_TYPES, Export, ExportFormat, encode, table
from medsam.server.cases.pixels import META, bytes_response, etag_of, meta_of, raw_response
from medsam.server.cases.rooms import NotAllowed
from medsam.server.cases.schemas import KEY, SendBody, SentInfo, binary
from medsam.server.gate.present import PresentReader
from medsam.server.heavy import heavy
from medsam.server.readings.answers import Labelled
from medsam.server.readings.asking import measures
from medsam.server.readings.measured import to_csv
from medsam.server.readings.present import REVISION
from medsam.server.services import PresentServices, Services
from medsam.store.readers import Reader

router = APIRouter(tags=["sessions"])
# letters of the names of structures in a header; GET /sessions/{session} has them all
_MOST_NAMES = 2000
# in these files the patient's name, id and dates are those of the images
_NAMED = ("seg", "seg-labelmap", "rtstruct")
SessionKey = Annotated[str, Path(pattern=KEY, description="id of a session")]


@router.get("/sessions/{session}/labels", response_class=Response, responses=binary(*MEDIA_TYPES))
async def labels(
    session: SessionKey,
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    format: Annotated[ExportFormat, Query(description="raw: voxels; the others are files")] = "nifti",  # noqa: A002
) -> Response:
    """The masks of a session, as `medsam segment` writes them for the same prompts; `csv`: their measures.

    `seg`, `seg-labelmap` and `rtstruct` need a case in DICOM; X-Medsam-Meta has the names of the numbers of the others,
    null where they are many, and says how many voxels are `shared` by objects (a label map gives each to one, `seg` and
    `rtstruct` hold all), and how many masks of slices are `first` answers still: of a closed session, where they could
    not be refined. 403 for `seg`, `seg-labelmap` and `rtstruct` where the reader is not told whose scans these are. 409
    when the case's files hold another scan by now."""
    if format in _NAMED and not services.cases.may_know(reader):
        raise NotAllowed(
            f"A file of `format` {format} names the patient, and whose scans these are is not for this role. Take "
            "nifti, nrrd or mha, or send it to the PACS.",
            parameter="format",
        )
    drawn = await _drawn(services, reader, session)
    names = {str(number): name for number, name in sorted(drawn.labels.names.items())}
    told = names if len(json.dumps(names)) <= _MOST_NAMES else None
    said = {"names": told, "shared": drawn.outlined.shared, "first": drawn.outlined.first}
    audited = {"case": drawn.case, "format": format}
    revision = {REVISION: str(drawn.revision)}
    if format == "raw":
        array = await heavy(_ready, drawn)
        digest = await heavy(lambda: hashlib.sha256(array.data).hexdigest())
        meta = meta_of(array, geometry=drawn.labels.geometry.to_dict(), **said)
        request.state.audited = audited
        return raw_response(array, meta, etag_of(digest, names), request.headers, revision)
    if format == "csv":
        # once every first answer is refined
        measured, of = await measures(await services.readings.get(reader, session))
        revision = {REVISION: str(of.revision)}
        export = table(to_csv(drawn.case, measured))
    else:
        export = await _export(services, drawn, format)
    request.state.audited = audited | {"sha256": export.digest}
    headers = export.headers(session) | revision | {META: json.dumps(said)}
    return bytes_response(memoryview(export.content), f'"{export.digest}"', request.headers, headers, export.media_type)


@router.post("/sessions/{session}/send")
async def send(
    session: SessionKey,
    body: SendBody,
    request: Request,
    response: Response,
    reader: PresentReader,
    services: PresentServices,
) -> SentInfo:
    """Store the masks of a session in a PACS, beside the images they were drawn on.

    It is looked up before that their study is there, and is the same patient's.
    """
    # who looks at another's session sends nothing in that reader's name
    await services.readings.get(reader, session, change=True)
    drawn = await _drawn(services, reader, session)
    export = await _export(services, drawn, body.format)
    sent = await services.cases.pacs.send(body.server, export.content)
    request.state.audited = {"case": drawn.case, "format": body.format, "sha256": export.digest}
    response.headers[REVISION] = str(drawn.revision)
    return SentInfo(stored=sent.stored, failures=list(sent.failures), notes=list(sent.notes))


async def _drawn(services: Services, reader: Reader, session: str) -> Labelled:
    """The masks of a session. Raises UnknownCase where its case is no longer the reader's to see, and OtherScan."""
    drawn = await services.readings.labels(reader, session)
    case = await services.cases.case(reader, drawn.case)
    if not await services.cases.same_scan(case, drawn.scan_encoder.scan):
        raise OtherScan(
            "The files of this case hold another scan than the one that these masks were drawn on. Put the former "
            "back, or begin a new session."
        )
    return drawn


async def _export(services: Services, drawn: Labelled, format: ExportFormat) -> Export:  # noqa: A002
    rooms = services.cases
    # what may overlap there does, as `medsam segment` writes it
    labels = drawn.labels
    overlapping = await heavy(lambda: drawn.structures) if format in ("seg", "rtstruct") else labels
    files = await rooms.files(drawn.case)
    options = DicomOptions(drawn.algorithm, remarks=drawn.outlined.remarks)
    return await rooms.pool.beside(encode, files, overlapping, labels.geometry, format, options)


class OtherScan(MedSAMError):
    """Masks are of a scan that is no longer there."""

    status = 409


def _ready(drawn: Labelled) -> np.ndarray:
    array = drawn.labels.array
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
