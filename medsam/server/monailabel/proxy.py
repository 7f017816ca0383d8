"""The PACS as OHIF reaches it: /proxy/dicom/{wado,qido,stow}/..., with the rights of the reader who asks.

Reading is passed on as it is; of what is stored only results are taken (SEG, RTSTRUCT, reports), and by the rules of
`medsam pacs store`: their study is there, and is the same patient's. The server's own credentials are used, and the
browser gets to see neither them nor the PACS's address.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from medsam.errors import InputError
from medsam.server.cases.pacs import SentResult
from medsam.server.cases.rooms import NotAllowed
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.monailabel.room import PresentRoom
from medsam.server.services import PresentServices

router = APIRouter(include_in_schema=False)

_READ = ("wado", "qido")
_STUDY = re.compile(r"studies/([0-9.]{1,64})(?:/|$)")
_ADDRESS = re.compile(rb'"https?://[^"\s]{1,300}?/((?:studies|series|instances)/[0-9.]+[/"])')
_DICOM_JSON = "application/dicom+json"
# results of one request; each becomes a file
_MOST_PARTS = 1000
# PS3.7: processing failure
_FAILED = 0x0110


@router.get("/proxy/dicom/{operation}/{path:path}")
async def read(
    operation: str, path: str, request: Request, reader: PresentReader, services: PresentServices, room: PresentRoom
) -> Response:
    """QIDO-RS and WADO-RS."""
    _check(operation in _READ, services.cases.may_know(reader))
    study = _STUDY.match(path)
    request.state.audited = {"study": study[1]} if study else {"what": "find"}
    query, accept = request.url.query, request.headers.get("accept", "")
    asked = services.cases.pacs.read(await room.images.server(), path, query, accept)
    found = await while_connected(request, asked)
    content = found.content
    if "json" in found.media_type:
        # the PACS's own addresses lead nowhere from a browser, and are nobody's concern
        content = _ADDRESS.sub(b'"/proxy/dicom/wado/\\1', content)
    headers = {"content-type": found.media_type or "text/plain"}
    if found.status == 200 and "/frames/" in path:
        # pixels of an image do not change; what there is does
        headers["cache-control"] = "private, max-age=600"
    return Response(content, found.status, headers=headers)


@router.post("/proxy/dicom/{operation}/{path:path}")
async def store(
    operation: str, path: str, request: Request, reader: PresentReader, services: PresentServices, room: PresentRoom
) -> Response:
    """STOW-RS: results alone."""
    _check(operation == "stow" or operation in _READ, services.cases.may_know(reader))
    if path.split("/")[0] != "studies":
        raise HTTPException(404, "Results are stored below /studies.")
    files = parts(await request.body(), request.headers.get("content-type", ""))
    sent = await services.cases.pacs.send_results(await room.images.server(), files)
    request.state.audited = {"stored": sum(one.stored for one in sent), "study": sent[0].study}
    failed = [one for one in sent if not one.stored]
    status = 200 if not failed else 409 if len(failed) == len(sent) else 202
    return JSONResponse(_answer(sent), status, media_type=_DICOM_JSON)


def _check(known: bool, may: bool) -> None:
    if not known:
        raise HTTPException(404, "Not Found")
    if not may:
        raise NotAllowed("Whose scans these are is not for this role.")


def parts(body: bytes, kind: str) -> list[bytes]:
    """The files of a multipart/related body (PS3.18). Raises InputError for a body that is none."""
    found = re.search(r'boundary="?([^";,]{1,200})"?', kind)
    if not kind.lower().startswith("multipart/related") or found is None:
        raise InputError("What is stored comes as multipart/related; type=application/dicom.")
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[1].encode("latin-1"), _MOST_PARTS + 2)
    if len(pieces) > _MOST_PARTS + 2:
        raise InputError(f"At most {_MOST_PARTS} files are stored at a time.")
    files = []
    for piece in pieces[1:-1]:
        _, gap, content = piece.partition(b"\r\n\r\n")
        if not gap:
            raise InputError("A part of the body has no end of its headers.")
        files.append(content)
    if not files or not pieces[-1].startswith(b"--"):
        raise InputError("The body holds no file, or ends before its last part does.")
    return files


def _answer(sent: list[SentResult]) -> dict[str, Any]:
    """The sequences of what was stored, and of what was not."""
    told: dict[str, Any] = {}
    for key, stored in (("00081199", True), ("00081198", False)):
        items = []
        for one in sent:
            if one.stored is stored:
                item: dict[str, Any] = {
                    "00081150": {"vr": "UI", "Value": [one.sop_class]},
                    "00081155": {"vr": "UI", "Value": [one.instance]},
                }
                if not stored:
                    item["00081197"] = {"vr": "US", "Value": [_FAILED]}
                items.append(item)
        if items:
            told[key] = {"vr": "SQ", "Value": items}
    return told
