"""The model that answers, and its decoder as a file, with which a page shows what would be answered."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field

from medsam.errors import CheckpointError
from medsam.inference.segmentation import algorithm_of
from medsam.models.sam import Sam
from medsam.models.specs import takes_clicks
from medsam.models.structures import filled_structure, find_structure
from medsam.server.gate.present import PresentReader
from medsam.server.services import PresentServices

_log = logging.getLogger("medsam.server")

_ONNX = "application/octet-stream"

router = APIRouter(tags=["server"])


@dataclass(frozen=True)
class DecoderFile:
    """A model's decoder as ONNX (`decoder` in `medsam.models.export`). digest: of its bytes, hexadecimal."""

    content: bytes
    digest: str

    @classmethod
    def of(cls, sam: Sam) -> DecoderFile | None:
        """None for an architecture whose graph did not come with the package: pages do without."""
        structure = find_structure(sam.spec, "decoder") if isinstance(sam, Sam) else None
        if structure is None:
            return None
        try:
            content = filled_structure(structure, sam, "decoder")
        except CheckpointError as error:
            _log.warning("no decoder for pages", extra={"fields": {"reason": str(error)}})
            return None
        return cls(content, hashlib.sha256(content).hexdigest()[:32])


class _Kept:
    """Made when a page first asks, of a few MB; anew once another model answers."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._made: tuple[Sam, DecoderFile | None] | None = None

    async def get(self, sam: Sam) -> DecoderFile | None:
        async with self._lock:
            if self._made is None or self._made[0] is not sam:
                self._made = sam, await to_thread.run_sync(DecoderFile.of, sam)
            return self._made[1]


async def _kept_of(request: Request) -> _Kept:
    state = request.app.state
    if not hasattr(state, "decoder"):
        state.decoder = _Kept()
    return state.decoder


KeptDecoder = Annotated[_Kept, Depends(_kept_of)]


class ModelInfo(BaseModel):
    """The one model of this server."""

    name: str = Field(examples=["litemedsam"])
    licence: str | None = Field(description="of its weights; null where it is not known", examples=["Apache-2.0"])
    knows_clicks: bool = Field(description="trained with clicks; others find a box for a click first")
    input_size: int = Field(description="side of its input in pixels", examples=[256])
    decoder: str | None = Field(
        description="path, below /api/v1, of its decoder as ONNX; null where there is none",
        examples=["/model/decoder/0f3a9c5d7e1b2a4680f3a9c5d7e1b2a4.onnx"],
    )


@router.get("/model")
async def show_model(reader: PresentReader, services: PresentServices, kept: KeptDecoder) -> ModelInfo:
    """Which model answers here."""
    image_predictor = services.predictor.images
    sam = image_predictor.sam
    file = await kept.get(sam)
    algorithm = await to_thread.run_sync(algorithm_of, image_predictor)
    return ModelInfo(
        name=algorithm.name,
        licence=algorithm.licence or None,
        knows_clicks=takes_clicks(sam.spec),
        input_size=sam.spec.image_size,
        decoder=None if file is None else f"/model/decoder/{file.digest}.onnx",
    )


@router.get(
    "/model/decoder/{digest}.onnx",
    response_class=Response,
    responses={200: {"description": "inputs and outputs as `medsam export` describes them", "content": {_ONNX: {}}}},
)
async def decoder(digest: str, reader: PresentReader, services: PresentServices, kept: KeptDecoder) -> Response:
    """The decoder as ONNX: embedding, point_coords and point_labels to logits and predicted IoU."""
    file = await kept.get(services.predictor.images.sam)
    if file is None or file.digest != digest:
        raise HTTPException(404, "This is not the decoder of the model that answers here.")
    # weights are about nobody; what lies at this address never changes
    return Response(file.content, headers={"cache-control": "private, max-age=31536000, immutable"}, media_type=_ONNX)
