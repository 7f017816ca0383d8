"""What a page needs to show what would be answered while the hand still moves: the slice as the decoder takes it.

Positions lead from the stored slice to the model's input as in `medsam.transforms.frame`: the slice is stood upright
(the `view` of its plane in the geometry), scaled to `resized`, and padded right and bottom to `input_size`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Path, Request, Response

from medsam.inference.image_predictor import Crop, Embedding
from medsam.inference.worker import Priority
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.readings.present import PresentReadings

router = APIRouter()

_EMBEDDING: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "float16, little-endian, (C, h, w); head: `X-Medsam-Meta`",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    404: {"description": "no such session, or not yours"},
}


@router.get("/{session}/slices/{index}/embedding", response_class=Response, responses=_EMBEDDING)
async def embedding(
    session: str,
    index: Annotated[int, Path(ge=0, le=2**31)],
    request: Request,
    reader: PresentReader,
    readings: PresentReadings,
) -> Response:
    """What the encoder makes of a whole slice in the session's window. It is computed where it is not at hand."""
    reading = await readings.get(reader, session)
    scan_encoder = reading.scan_encoder
    reading.check_slice(index)
    if scan_encoder.at_hand(Crop(index)):
        # nothing is computed: the worker is not waited for
        found = await to_thread.run_sync(scan_encoder.encode, index)
    else:
        computed = reading.ask(lambda _: scan_encoder.encode(index), Priority.SLICE)
        found = await while_connected(request, computed)
    features = await to_thread.run_sync(_halves, found)
    meta = {
        "dtype": "<f2",
        "shape": list(features.shape),
        "slice": index,
        "input_size": found.frame.preprocess.size,
        "resized": list(found.frame.resized),
    }
    response = Response(features.tobytes(), media_type="application/octet-stream")
    response.headers["X-Medsam-Meta"] = json.dumps(meta, separators=(",", ":"))
    return response


def _halves(found: Embedding) -> np.ndarray:
    return found.features[0].float().cpu().numpy().astype("<f2")
