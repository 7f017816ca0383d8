"""The calls of nnInteractive's clients (2.6), below a prefix of their own; see the package for how they are meant."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import anyio
import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from medsam._version import __version__
from medsam.errors import InputError, MedSAMError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.server.cases.receiving import pieces
from medsam.server.errors import refusal
from medsam.server.gate.present import PresentReader
from medsam.server.gate.rules import PrefixRules
from medsam.server.heavy import heavy
from medsam.server.nninteractive.answering import Diff, Interactions, Step
from medsam.server.nninteractive.drawing import Drawn
from medsam.server.nninteractive.leases import Expired, Lease, Leases
from medsam.server.nninteractive.outlining import Image, Outlining
from medsam.server.nninteractive.packed import Head, Unpacker, unpacked
from medsam.server.services import PresentServices, Services
from medsam.server.settings import Limits
from medsam.volume import Volume

PREFIX = "/nninteractive"

# of an image that is refused, how long the rest is read all the same: a client that still sends sees no answer
_DRAIN_S = 60.0
# a voxel of the image has these beside it: the mask a client has, the ones before and after, and two on the way
_MASKS = 5
_BINARY = "application/octet-stream"


def rules_of_nninteractive(limits: Limits) -> tuple[PrefixRules, ...]:
    """A key is a token; no browser calls here. Whether there is a server at all anybody may ask, as clients do."""
    return (
        PrefixRules(
            PREFIX,
            ways=frozenset({"local", "token"}),
            open=frozenset({"GET /healthz"}),
            uncounted=frozenset({"POST /set_image"}),
            body_bytes=limits.body_bytes,
            json_bytes=limits.json_bytes,
            passive=("/heartbeat", "/lease_status"),
            audited={"POST /set_image": "nninteractive image"},
            unstored=507,
        ),
    )


class _Route(APIRoute):
    """Clients know 400 for what cannot be asked."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except (RequestValidationError, ValidationError) as error:
                faults = [f"{'.'.join(map(str, one['loc'][-3:]))}: {one['msg']}" for one in error.errors()[:4]]
                return refusal(400, f"The request is none that is known here ({'; '.join(faults)}).")
            except MedSAMError as error:
                if hasattr(error, "status"):
                    raise
                return refusal(400, str(error), error.parameters, error=type(error))

        return answered


router = APIRouter(route_class=_Route, include_in_schema=False)


async def _leases(services: PresentServices) -> Leases:
    if services.nninteractive is None:
        raise HTTPException(404, "nnInteractive's protocol is switched off here.")
    return services.nninteractive


PresentLeases = Annotated[Leases, Depends(_leases)]


async def _lease(request: Request, reader: PresentReader, leases: PresentLeases) -> Lease:
    return leases.find(request.headers.get("x-lease-token"), reader.id)


PresentLease = Annotated[Lease, Depends(_lease)]

Number = Annotated[float, Field(allow_inf_nan=False)]
Ranges = Annotated[list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(min_length=3, max_length=3)]


class Flags(BaseModel):
    """Of an interaction. include_interaction: it is about what is inside."""

    include_interaction: bool = True
    run_prediction: bool = True
    override_capability_checks: bool = False


class PointBody(Flags):
    coordinates: Annotated[list[Number], Field(min_length=3, max_length=3)]


class BoxBody(Flags):
    bbox_coords: Ranges


class MaskMeta(Flags):
    interaction_bbox: Ranges | None = None


class StartMeta(Flags):
    run_prediction: bool = False


class ImageMeta(BaseModel):
    image_properties: dict[str, Any] = {}


class BufferBody(BaseModel):
    shape: Annotated[list[int], Field(min_length=3, max_length=3)]
    dtype: str = "uint8"


# -- places ----------------------------------------------------------------------------------------------------------


@router.get("/healthz")
async def healthz() -> dict[str, bool]:
    return {"ok": True}


@router.post("/claim")
async def claim(reader: PresentReader, leases: PresentLeases) -> dict[str, Any]:
    """A place, or 503."""
    lease, settings = leases.claim(reader.id), leases.settings
    return {
        "lease_token": lease.token,
        "idle_timeout_seconds": settings.idle_seconds,
        "liveness_timeout_seconds": settings.liveness_seconds,
        "max_sessions": settings.sessions,
    }


@router.get("/capabilities")
async def capabilities(lease: PresentLease, services: PresentServices) -> dict[str, Any]:
    """What the model that answers here can be asked."""
    lease.act()
    images = services.predictor.images
    channels = {
        "prev_seg": 0,
        "bbox2d": [1, 2],
        "bbox3d": [1, 2],
        "lasso": [1, 2],
        "points": [3, 4],
        "scribble": [5, 6],
    }
    return {
        "supported_interactions": {"points": True, "bbox2d": True, "bbox3d": False, "scribble": True, "lasso": True},
        # of networks of nnInteractive; viewers ask for the names alone
        "channel_mapping": channels,
        "num_interaction_channels": 7,
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": False,
        "supports_undo": True,
        "preferred_scribble_thickness": [1, 1, 1],
        "interaction_decay": 1.0,
        "do_autozoom": True,
        "inference_session_version": f"medsam {__version__}, {images.name}",
        # what clients show as a warning where nobody knows
        "license": getattr(images.sam.spec, "licence", "") or "!!MISSING!!",
    }


@router.post("/heartbeat")
async def heartbeat(lease: PresentLease, leases: PresentLeases) -> dict[str, float]:
    lease.live()
    return {"remaining_seconds": lease.seconds_left(leases.settings.idle_seconds)}


@router.get("/lease_status")
async def lease_status(lease: PresentLease, leases: PresentLeases) -> dict[str, float]:
    idle = leases.settings.idle_seconds
    return {"remaining_seconds": lease.seconds_left(idle), "idle_timeout_seconds": idle}


@router.post("/release")
async def release(request: Request, reader: PresentReader, leases: PresentLeases) -> dict[str, Any]:
    """Also of a lease that is no more."""
    with suppress(Expired):
        leases.release(leases.find(request.headers.get("x-lease-token"), reader.id))
    return {}


# -- images ----------------------------------------------------------------------------------------------------------


@router.post("/set_image")
async def set_image(
    request: Request, lease: PresentLease, leases: PresentLeases, services: PresentServices
) -> dict[str, Any]:
    """Everything that was there before is gone."""
    meta = _meta(request, ImageMeta)
    async with lease.lock:
        with lease.acting():
            if lease.work is not None:
                lease.work.stop()
            lease.work = None
            try:
                array = await _received(request, lambda head: leases.set_aside(lease, _needed(head)))
                scan = await heavy(_scan, array, meta.image_properties.get("spacing"))
                leases.check(lease)
            except BaseException:
                # others may have the room
                lease.held = 0
                raise
            # the first prompt would wait for it longer than clients do
            with suppress(Exception):
                await asyncio.shield(asyncio.wrap_future(services.pulse.warm))
            lease.work = Interactions(Image(scan, services.predictor), services.worker)
    return {"original_image_shape": list(array.shape)}


def _needed(head: Head) -> int:
    if len(head.shape) != 4:
        raise InputError(f"An image is of the shape (channels, X, Y, Z), not {head.shape}.")
    channels = head.shape[0]
    if channels != 1 and not (channels == 3 and head.dtype == np.uint8):
        raise InputError("An image has one channel, or three of uint8 in colour: send one of them.")
    return head.nbytes * (2 if head.dtype == np.float16 else 1) + _MASKS * math.prod(head.shape[1:])


async def _received(request: Request, check: Callable[[Head], None]) -> np.ndarray:
    """The array in a body that may be larger than memory. check: given its head."""
    unpacker, stream = Unpacker(check), pieces(request)
    try:
        async for piece in stream:
            await to_thread.run_sync(unpacker.feed, bytes(piece))
        return await to_thread.run_sync(unpacker.end)
    except MedSAMError:
        with anyio.move_on_after(_DRAIN_S), suppress(InputError):
            async for _ in stream:
                pass
        raise


def _scan(array: np.ndarray, spacing: Any) -> Volume:
    """An image (C, K, J, I), which is not copied. spacing: as the client says it; None where it does not."""
    if not array.any():
        raise InputError("The image is empty: every voxel is zero.")
    voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    voxels = voxels.astype(np.float32) if voxels.dtype == np.float16 else voxels
    k, j, i = voxels.shape[:3]
    if spacing is None:
        return Volume(voxels, VolumeGeometry.uncalibrated((k, j, i)))
    try:
        pitch = TypeAdapter(list[Number]).validate_python(spacing)
    except ValidationError:
        pitch = []
    if len(pitch) == 2 and k == 1:
        pitch = [max(pitch), *pitch]
    if len(pitch) != 3 or min(pitch) <= 0:
        raise InputError("The `spacing` of an image is three numbers in mm, one for each axis.", parameter="spacing")
    return Volume(voxels, VolumeGeometry((k, j, i), np.diag([*pitch[::-1], 1.0])))


@router.post("/set_target_buffer")
async def set_target_buffer(body: BufferBody, lease: PresentLease) -> dict[str, Any]:
    async with lease.lock:
        with lease.acting():
            _work(lease).set_buffer(body.shape, body.dtype)
    return {}


@router.post("/set_do_autozoom")
async def set_do_autozoom(lease: PresentLease) -> dict[str, Any]:
    """A closer look is taken where that is good, whatever is wanted."""
    lease.act()
    return {}


# -- what is said of an object -----------------------------------------------------------------------------------------


@router.post("/add_point_interaction")
async def add_point(body: PointBody, lease: PresentLease, services: PresentServices) -> Response:
    def say(work: Interactions) -> Step:
        shape = work.image.shape
        if not all(-0.5 <= at < length - 0.5 for at, length in zip(body.coordinates, shape, strict=True)):
            raise PromptError(f"The point {body.coordinates} is outside of the image of {shape} voxels.")
        return lambda found: found.point(body.coordinates, body.include_interaction)

    return await _asked(lease, services, say, body.run_prediction)


@router.post("/add_bbox_interaction")
async def add_box(body: BoxBody, lease: PresentLease, services: PresentServices) -> Response:
    def say(work: Interactions) -> Step:
        ranges = _ranges(body.bbox_coords, work.image.shape)
        if all(high - low > 1 for low, high in ranges):
            raise PromptError("A box through several slices cannot be asked for here: draw it on one of them.")
        return lambda found: found.box(ranges, body.include_interaction)

    return await _asked(lease, services, say, body.run_prediction)


@router.post("/add_scribble_interaction")
async def add_scribble(request: Request, lease: PresentLease, services: PresentServices) -> Response:
    return await _asked_drawn(request, lease, services, Outlining.stroke)


@router.post("/add_lasso_interaction")
async def add_lasso(request: Request, lease: PresentLease, services: PresentServices) -> Response:
    return await _asked_drawn(request, lease, services, Outlining.lasso)


@router.post("/add_initial_seg_interaction")
async def add_initial_seg(request: Request, lease: PresentLease) -> Response:
    meta, content = _meta(request, StartMeta), await request.body()
    if meta.run_prediction:
        raise PromptError("A mask alone is not refined here: begin from it, and mark what is wrong.")
    async with lease.lock:
        with lease.acting():
            work = _work(lease)
            mask = await heavy(_mask, content, work.image.shape)
            await work.begin(mask != 0)
    return _answered(Diff(ran=False))


@router.post("/predict")
async def predict(lease: PresentLease, services: PresentServices) -> Response:
    until = _until(services)
    async with lease.lock:
        with lease.acting():
            return _answered(await _work(lease).predict(until))


@router.post("/undo")
async def undo(lease: PresentLease, services: PresentServices) -> Response:
    until = _until(services)
    async with lease.lock:
        with lease.acting():
            return _answered(await _work(lease).undo(until))


@router.post("/reset_interactions")
async def reset_interactions(lease: PresentLease) -> dict[str, Any]:
    async with lease.lock:
        with lease.acting():
            await _work(lease).reset()
    return {}


# -- how -------------------------------------------------------------------------------------------------------------


def _work(lease: Lease) -> Interactions:
    if lease.work is None:
        raise InputError("There is no image: set one first.")
    return lease.work


def _until(services: Services) -> float:
    assert services.nninteractive is not None  # noqa: S101 there is a lease
    return asyncio.get_running_loop().time() + services.nninteractive.settings.answer_seconds


async def _asked(lease: Lease, services: Services, say: Callable[[Interactions], Step], run: bool) -> Response:
    """say: reads what was asked; raises what is wrong with it."""
    until = _until(services)
    async with lease.lock:
        with lease.acting():
            work = _work(lease)
            return _answered(await work.add(await heavy(say, work), run, until))


async def _asked_drawn(
    request: Request, lease: Lease, services: Services, do: Callable[[Outlining, Drawn, bool], None]
) -> Response:
    """do: what a mask in the body is to its object."""
    meta, content = _meta(request, MaskMeta), await request.body()

    def say(work: Interactions) -> Step:
        drawn = _drawn(content, meta, work.image.shape)
        return lambda found: do(found, drawn, meta.include_interaction)

    return await _asked(lease, services, say, meta.run_prediction)


def _answered(diff: Diff) -> Response:
    meta = {"ran_prediction": diff.ran, "bbox": diff.bounds, "dtype": diff.dtype, "shape": list(diff.shape)}
    return Response(diff.block, headers={"X-Meta": json.dumps(meta)}, media_type=_BINARY)


def _meta(request: Request, kind: type[Any]) -> Any:
    """What is said beside a binary body. Raises ValidationError."""
    return kind.model_validate_json(request.headers.get("x-meta") or "{}")


def _ranges(given: Sequence[Sequence[int]], shape: Sequence[int]) -> list[tuple[int, int]]:
    """A box in the image, half-open. Raises PromptError."""
    ranges = [(low, high) for low, high in given]
    if any(low >= high for low, high in ranges):
        raise PromptError(f"The box {ranges} is empty: each first number has to be below its second.")
    if any(low < 0 or high > length for (low, high), length in zip(ranges, shape, strict=True)):
        raise PromptError(f"The box {ranges} reaches outside of the image of {tuple(shape)} voxels.")
    return ranges


def _mask(content: bytes, shape: Sequence[int]) -> np.ndarray:
    """An array of a shape. Raises InputError for any other, before it is unpacked."""

    def check(head: Head) -> None:
        if head.shape != tuple(shape):
            raise InputError(f"A mask of the shape {head.shape} was sent where one of {tuple(shape)} is needed.")

    return unpacked(content, check)


def _drawn(content: bytes, meta: MaskMeta, shape: tuple[int, int, int]) -> Drawn:
    ranges = [(0, length) for length in shape]
    if meta.interaction_bbox is not None:
        ranges = _ranges(meta.interaction_bbox, shape)
    crop = _mask(content, [high - low for low, high in ranges])
    return Drawn.of(crop, [low for low, _ in ranges], shape)
