"""Everything of the protocol but masks and the data store: what is offered, sessions, log in, and what there is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse

from medsam.errors import InputError
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.gate.request import Asked
from medsam.server.gate.routes import verified
from medsam.server.monailabel import datastore, infer
from medsam.server.monailabel.images import only
from medsam.server.monailabel.models import info as info_of
from medsam.server.monailabel.room import PresentRoom
from medsam.server.monailabel.sent import SentImage
from medsam.server.services import PresentServices

router = APIRouter(include_in_schema=False)

# as a login at the page
_TOKEN = timedelta(hours=12)
_NO_TRAINING = "Nothing is trained here: no training is running, and none can be started. See `medsam fit`."


@router.get("/info")
@router.get("/info/")
async def info(reader: PresentReader, services: PresentServices, room: PresentRoom) -> dict[str, Any]:
    """What is offered."""
    total, completed = await datastore.counted(reader, room)
    return await services.cases.calls(info_of, services.predictor, room.settings, total, completed)


# -- sessions -----------------------------------------------------------------------------------------------------


@router.put("/session")
@router.put("/session/")
async def begin(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    room: PresentRoom,
    expiry: Annotated[float, Query(ge=0, le=1e7)] = 0.0,
) -> dict[str, Any]:
    """An image is sent; it is read at once, so that what is wrong with it, or too large, is said now."""
    rooms = services.cases
    async with room.form(request, sent=True) as form:
        sent = await room.alone(form, "files") or await room.alone(form, "file")
        if sent is None:
            raise InputError("The image is the file `files` of the form.", parameter="files")
        found = only((await rooms.sort(form.folder, [sent[0]])).cases)
        image = await rooms.calls(room.sent.keep, form.folder, found, found.name, reader, expiry or None)
    try:
        await while_connected(request, rooms.scans.get(f"sent/{image.token}", room.sent.files(image)))
    except BaseException:
        await rooms.calls(room.sent.remove, image.token)
        raise
    request.state.audited = {"sent": image.token[:8]}
    return {"session_id": image.token, "session_info": _told(image)}


@router.get("/session/{session}")
@router.get("/session/{session}/")
async def show(session: str, reader: PresentReader, services: PresentServices, room: PresentRoom) -> dict[str, Any]:
    """A session that is still there; asking is a use of it."""
    return _told(await services.cases.calls(room.sent.get, session, reader))


@router.delete("/session/{session}")
@router.delete("/session/{session}/")
async def end(session: str, reader: PresentReader, services: PresentServices, room: PresentRoom) -> dict[str, Any]:
    """Remove what was sent."""
    image = await services.cases.calls(room.sent.get, session, reader)
    await services.cases.calls(room.sent.remove, image.token)
    services.cases.scans.forget(f"sent/{image.token}")
    return _told(image)


def _told(image: SentImage) -> dict[str, Any]:
    return {
        "name": image.token,
        "image": image.name,
        "meta": {},
        "client_id": "",
        "creation_ts": int(image.used),
        "last_access_ts": int(image.used),
        "expiry": int(image.kept_s),
    }


# -- who asks -----------------------------------------------------------------------------------------------------


@router.get("/auth")
@router.get("/auth/")
async def auth(services: PresentServices) -> dict[str, Any]:
    """Whether a client has to log in; asked before every call."""
    return {"enabled": not await services.gate.is_open(), "realm": "medsam", "client_id": "medsam"}


@router.post("/auth/token")
async def token(request: Request, services: PresentServices) -> dict[str, Any]:
    """A token for name and password, which ends after 12 hours."""
    asked: Asked = request.state.asked
    form = await request.form()
    name, password = (str(form.get(key) or "") for key in ("username", "password"))
    reader = await verified(services, asked, name, password, "login", None)
    ends = datetime.now(UTC) + _TOKEN
    _, secret = await services.gate.calls(services.store.add_token, reader.id, "MONAI Label client", ends)
    return {"access_token": secret, "token_type": "Bearer", "expires_in": int(_TOKEN.total_seconds())}


@router.get("/auth/token/valid")
async def valid(reader: PresentReader) -> dict[str, Any]:
    """Whether a token still holds; the gate answers 401 where it does not."""
    return {"username": reader.name, "roles": [reader.role.name.lower()]}


# -- what there is not --------------------------------------------------------------------------------------------


@router.get("/train")
@router.get("/train/")
@router.get("/train/{model}")
async def training(reader: PresentReader, model: str = "") -> None:
    """404 is how clients are told that none is running."""
    raise HTTPException(404, _NO_TRAINING)


@router.post("/train")
@router.post("/train/")
@router.post("/train/{model}")
@router.delete("/train")
@router.delete("/train/")
async def train(reader: PresentReader, model: str = "") -> None:
    """Not offered."""
    raise HTTPException(404, _NO_TRAINING)


@router.get("/batch/infer")
@router.get("/batch/infer/")
@router.post("/batch/infer/{model}")
@router.delete("/batch/infer")
@router.delete("/batch/infer/")
async def batch(reader: PresentReader, model: str = "") -> None:
    """Not offered: see `medsam segment-many`."""
    raise HTTPException(404, "No batch is running, and none can be started here. See `medsam segment`.")


@router.get("/logs")
@router.get("/logs/")
async def logs(reader: PresentReader) -> PlainTextResponse:
    """Where the log is."""
    return PlainTextResponse("The log of this server is what it writes to stderr; its administrator has it.\n")


router.include_router(infer.router)
router.include_router(datastore.router)
