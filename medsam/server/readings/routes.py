"""Sessions over HTTP. Masks are the frames of `medsam.wire`.

Every answer about a session says which revision it is of (`X-Medsam-Revision`) and when its objects last changed
(`X-Medsam-Objects`). A client that sends the revision it has as `since` gets all it has missed, too: an answer that was
lost on the way is made good by the next one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from medsam.errors import PromptError
from medsam.models.specs import takes_clicks
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.readings import looking, preview
from medsam.server.readings.follow import Following
from medsam.server.readings.opening import notes_of_start
from medsam.server.readings.present import CHANGED, FRAMES, Match, PresentReadings, Since, frames, head, revision_of
from medsam.server.readings.reading import Reading
from medsam.server.readings.schemas import (
    EventAnswer,
    InterpolateRequest,
    JobAnswer,
    ObjectAnswer,
    ObjectChange,
    ObjectRequest,
    PromptRequest,
    PropagateRequest,
    SessionAnswer,
    SessionChange,
    SessionLine,
    SessionRequest,
    TextRequest,
    View,
)
from medsam.store.records import StoredObject

router = APIRouter(prefix="/sessions", tags=["sessions"])

# seconds that a long poll waits at most
_LONGEST = 60.0


@router.post("", status_code=201, responses={200: {"model": SessionAnswer, "description": "it was open already"}})
async def open_session(
    asked: SessionRequest, reader: PresentReader, readings: PresentReadings, request: Request, response: Response
) -> SessionAnswer:
    """Open a session on a case; there is one for a reader and case. Answers when the scan has been read."""
    # held until the session has it
    scan = await while_connected(request, readings.scan(reader, asked.case))
    reading, new = await readings.begin(reader, asked.case, asked.opening())
    del scan
    request.state.audited = {"case": asked.case, "reading": reading.key}
    response.status_code = 201 if new else 200
    return _told(response, reading, True)


@router.get("")
async def list_sessions(
    reader: PresentReader,
    readings: PresentReadings,
    case: Annotated[str | None, Query(max_length=64, description="id of the only case wanted")] = None,
    closed: Annotated[bool, Query(description="those that were closed, too: another may begin from them")] = False,
    everyones: Annotated[bool, Query(description="of all readers, as far as you may see them")] = False,
) -> list[SessionLine]:
    """Your open sessions, the newest first; 200 at most."""
    return [
        SessionLine(
            id=one.key,
            case=one.case,
            case_name=one.case_name,
            owner=one.owner,
            axis=one.axis,
            model=one.model,
            began=one.began_at,
            closed=one.closed_at,
        )
        for one in await readings.list(reader, case, closed=closed, everyones=everyones)
    ]


@router.get("/{session}")
async def show_session(
    session: str, reader: PresentReader, readings: PresentReadings, request: Request, response: Response
) -> SessionAnswer:
    """A session as it stands, also one that was closed; it is read from the store where it was not in memory."""
    reading = await readings.get(reader, session)
    request.state.audited = {"case": reading.case}
    return _told(response, reading, reading.owner.id == reader.id)


@router.patch("/{session}")
async def change_session(
    session: str,
    asked: SessionChange,
    reader: PresentReader,
    readings: PresentReadings,
    response: Response,
    match: Match = None,
) -> SessionAnswer:
    """Keep masks to other values from now on; those that there are stay as they are. No step: undo leaves it."""
    reading = await readings.get(reader, session, change=True)
    await reading.keep_range(asked.values, revision_of(match))
    return _told(response, reading, True)


@router.delete("/{session}", status_code=204)
async def close_session(session: str, reader: PresentReader, readings: PresentReadings) -> None:
    """Close a session. What was confirmed stays in the store."""
    await readings.end(reader, session)


@router.post("/{session}/objects", status_code=201)
async def add_object(
    session: str,
    asked: ObjectRequest,
    reader: PresentReader,
    readings: PresentReadings,
    response: Response,
    match: Match = None,
) -> ObjectAnswer:
    """One more object."""
    reading = await readings.get(reader, session, change=True)
    one = await reading.add_object(asked.name, asked.colour, revision_of(match))
    head(response, reading)
    return _object(one)


@router.patch("/{session}/objects/{number}")
async def change_object(
    session: str,
    number: int,
    asked: ObjectChange,
    reader: PresentReader,
    readings: PresentReadings,
    response: Response,
    match: Match = None,
) -> ObjectAnswer:
    """Name, colour, whether it is shown, whether it is locked."""
    reading = await readings.get(reader, session, change=True)
    one = await reading.change_object(number, revision_of(match), **asked.model_dump(exclude_none=True))
    head(response, reading)
    return _object(one)


@router.delete("/{session}/objects/{number}", response_class=Response, responses=CHANGED)
async def remove_object(
    session: str,
    number: int,
    reader: PresentReader,
    readings: PresentReadings,
    since: Since = None,
    match: Match = None,
) -> Response:
    """Remove an object and all its masks; a step: undo brings both back."""
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.remove_object(number, since, revision_of(match)))


@router.put("/{session}/view", status_code=202)
async def look(session: str, asked: View, reader: PresentReader, readings: PresentReadings, response: Response) -> View:
    """The slice on screen: it is embedded at once, its neighbours while nothing else waits; a newer one replaces it.

    An event of kind "progress" with the state "embedded" says when a first answer on a slice costs a decode alone.
    """
    reading = await readings.get(reader, session, change=True)
    axis = reading.scan_encoder.plane.axis
    if asked.axis not in (None, axis):
        raise PromptError(
            f"This session is along `axis` {axis}: open another one along {asked.axis}.", parameter="axis"
        )
    reading.look(asked.slice)
    head(response, reading)
    return View(slice=asked.slice, axis=axis)


@router.post("/{session}/prompts", response_class=Response, responses=CHANGED)
async def prompt(
    session: str,
    asked: PromptRequest,
    reader: PresentReader,
    readings: PresentReadings,
    since: Since = None,
    match: Match = None,
) -> Response:
    """A step: the first answer, from the embeddings at hand, is in the frames.

    Where its status is "first", a refined one takes its place soon, which `changes` and `events` tell.
    """
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.prompt(asked.object, asked.entry(), since, revision_of(match)))


@router.post("/{session}/undo", response_class=Response, responses=CHANGED)
async def undo(
    session: str, reader: PresentReader, readings: PresentReadings, since: Since = None, match: Match = None
) -> Response:
    """Back to before the last step, whichever object it was about. No frames where there is none."""
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.walk("undo", since, revision_of(match)))


@router.post("/{session}/redo", response_class=Response, responses=CHANGED)
async def redo(
    session: str, reader: PresentReader, readings: PresentReadings, since: Since = None, match: Match = None
) -> Response:
    """Take the step again that `undo` took back."""
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.walk("redo", since, revision_of(match)))


@router.post("/{session}/reset", response_class=Response, responses=CHANGED)
async def reset(
    session: str, reader: PresentReader, readings: PresentReadings, since: Since = None, match: Match = None
) -> Response:
    """Forget all masks of all objects; a step, which can be undone."""
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.walk("reset", since, revision_of(match)))


@router.post("/{session}/interpolate", response_class=Response, responses=CHANGED)
async def interpolate(
    session: str,
    asked: InterpolateRequest,
    reader: PresentReader,
    readings: PresentReadings,
    since: Since = None,
    match: Match = None,
) -> Response:
    """Draw an object on the slices between those that it is on, from the outlines of these; one step, no network."""
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.interpolate(asked.object, since, revision_of(match)))


@router.post("/{session}/text", response_class=Response, responses=CHANGED)
async def text(
    session: str,
    asked: TextRequest,
    reader: PresentReader,
    readings: PresentReadings,
    since: Since = None,
    match: Match = None,
) -> Response:
    """Draw a structure by its name on every slice that it is on; one step, which encodes the whole scan once."""
    reading = await readings.get(reader, session, change=True)
    return frames(await reading.text(asked.object, asked.text, since, revision_of(match)))


@router.post("/{session}/propagate", status_code=202)
async def propagate(
    session: str,
    asked: PropagateRequest,
    reader: PresentReader,
    readings: PresentReadings,
    response: Response,
    match: Match = None,
) -> JobAnswer:
    """Follow an object through the volume. Its masks come slice by slice as changes, and are one step in the end."""
    reading = await readings.get(reader, session, change=True)
    reach = math.inf if asked.max_mm is None else asked.max_mm
    job = await reading.propagate(asked.object, reach, revision_of(match))
    head(response, reading)
    return _job(job)


@router.post("/{session}/organs", status_code=202)
async def find_organs(
    session: str, reader: PresentReader, readings: PresentReadings, response: Response, match: Match = None
) -> JobAnswer:
    """Look for every organ that `GET` names, without a prompt, and encode each slice once for all of them.

    Each that is found becomes an object, or the mask of one of its name that has none: a step each, once all were
    looked for. A job that is stopped before leaves nothing.
    """
    reading = await readings.get(reader, session, change=True)
    job = await reading.find_organs(revision_of(match))
    head(response, reading)
    return _job(job)


@router.get("/{session}/jobs/{job}")
async def show_job(session: str, job: str, reader: PresentReader, readings: PresentReadings) -> JobAnswer:
    """How far a job is."""
    reading = await readings.get(reader, session)
    return _job(reading.job(job))


@router.delete("/{session}/jobs/{job}")
async def stop_job(session: str, job: str, reader: PresentReader, readings: PresentReadings) -> JobAnswer:
    """Stop a job at its next slice. What a propagation has found stays, as one step; a search for organs leaves no
    mask."""
    reading = await readings.get(reader, session, change=True)
    return _job(reading.stop(job))


@router.get("/{session}/changes", response_class=Response, responses=FRAMES)
async def changes(
    session: str,
    reader: PresentReader,
    readings: PresentReadings,
    request: Request,
    since: Annotated[int, Query(ge=0, description="the revision that the client has; 0: none")] = 0,
    wait: Annotated[float, Query(ge=0, le=_LONGEST, description="seconds to wait where nothing is new")] = 0.0,
) -> Response:
    """All masks that changed since a revision, whatever has happened in between."""
    reading = await readings.get(reader, session)
    return frames(await reading.changes(since, wait, request.is_disconnected))


@router.get(
    "/{session}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "server-sent events without a name; `data` is as below, `id` the revision",
            "model": EventAnswer,
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "the session is closed: nothing happens in it any more, and nobody needs to ask again"},
    },
)
async def events(
    session: str,
    reader: PresentReader,
    readings: PresentReadings,
    since: Annotated[int | None, Query(ge=0, description="the revision that the client has; default: now")] = None,
    last: Annotated[
        str | None, Header(alias="Last-Event-ID", pattern="^[0-9]{1,18}$", description="sent by a browser by itself")
    ] = None,
) -> Response:
    """What happens, as it happens. Who was away too long, or reads too slowly, gets "resync": ask for `changes`."""
    reading = await readings.get(reader, session)
    if reading.closed:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(reading, since if last is None else int(last)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(reading: Reading, since: int | None) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    try:
        async with aclosing(reading.events.watch(since)) as events:
            async for event in events:
                yield ": alive\n\n" if event is None else event.to_text()
    finally:
        if not reading.events.watchers:
            reading.view.leave()


# -- answers ------------------------------------------------------------------------------------------------------


def _told(response: Response, reading: Reading, mine: bool) -> SessionAnswer:
    head(response, reading)
    scan_encoder = reading.scan_encoder
    objects = [_object(one) for one in reading.listed]
    algorithm, values = reading.algorithm, reading.limits.values
    return SessionAnswer(
        id=reading.key,
        case=reading.case,
        revision=reading.revision,
        axis=scan_encoder.plane.axis,
        geometry=scan_encoder.scan.geometry.to_dict(),
        slices=scan_encoder.plane.count,
        window=scan_encoder.window.to_dict(),
        label=objects[0].name if objects else "object",
        objects=objects,
        jobs=[_job(job) for job in reading.jobs.values()],
        undo=reading.undo,
        redo=reading.redo,
        view=reading.view.slice,
        notes=[*scan_encoder.notes, *notes_of_start(reading.stored)],
        mine=mine,
        closed=reading.stored.closed_at,
        model=algorithm.name,
        licence=algorithm.licence,
        knows_clicks=takes_clicks(scan_encoder.image_predictor.sam.spec),
        keep_range=values,
    )


def _object(one: StoredObject) -> ObjectAnswer:
    return ObjectAnswer(id=one.number, name=one.name, colour=one.colour, visible=one.visible, locked=one.locked)


def _job(job: Following) -> JobAnswer:
    return JobAnswer.model_validate(job.to_dict())


router.include_router(looking.router)
router.include_router(preview.router)
