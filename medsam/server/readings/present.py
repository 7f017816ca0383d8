"""What routes of sessions share: arguments, and heads of answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response

from medsam.server.readings.answers import Answer
from medsam.server.readings.reading import Reading
from medsam.server.readings.registry import Readings
from medsam.wire import MEDIA_TYPE

REVISION = "X-Medsam-Revision"
FRAMES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "frames (`medsam/wire.py`), which may be none. `predicted_iou` in a frame is what the network "
        "says of its own answer: it is not calibrated. `expected_dice` is estimated by a model that was, with the "
        "interval `expected_dice_low` to `expected_dice_high`, of answers to boxes alone; null of others.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            REVISION: {"schema": {"type": "integer"}, "description": "that the client has with this"},
            "X-Medsam-Objects": {"schema": {"type": "integer"}, "description": "when the objects last changed"},
        },
    },
    404: {"description": "no such session, or not yours"},
}
CHANGED: dict[int | str, dict[str, Any]] = {
    **FRAMES,
    412: {"description": "the session is at another revision than `If-Match` says"},
    423: {"description": "the object is locked"},
}


async def readings_of(request: Request) -> Readings:
    """Those of the app that a request came to."""
    return request.app.state.services.readings


PresentReadings = Annotated[Readings, Depends(readings_of)]
Since = Annotated[
    int | None, Query(ge=0, description="the revision that the client has; default: that before the step")
]
Match = Annotated[
    str | None,
    Header(alias="If-Match", pattern='^"?[0-9]{1,18}"?$', description="the revision that there has to be"),
]


def revision_of(match: str | None) -> int | None:
    """The one that `If-Match` names."""
    return None if match is None else int(match.strip('"'))


def head(response: Response, of: Reading | Answer) -> None:
    """Say which revision an answer is of."""
    response.headers[REVISION] = str(of.revision)
    response.headers["X-Medsam-Objects"] = str(of.objects_revision)


def frames(answer: Answer) -> Response:
    """An answer of frames."""
    response = Response(answer.body, media_type=MEDIA_TYPE)
    head(response, answer)
    return response
