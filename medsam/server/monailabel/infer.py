"""`POST /infer/{model}`: a mask of an image, from clicks, a box, strokes or names.

Nothing is kept of it but embeddings. It runs on the worker, beside readers' sessions: one slice as a step of theirs,
what goes through the scan as a propagation, which lets more urgent work in between; who hangs up ends it.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response

from medsam.errors import InputError, PromptError
from medsam.files import move
from medsam.inference.segmentation import Segmentation
from medsam.inference.worker import Priority
from medsam.io.algorithm import DicomOptions
from medsam.io.load import load_volume
from medsam.server.cases.exports import encode
from medsam.server.cases.headers import stated_in
from medsam.server.cases.rooms import NotAllowed
from medsam.server.connected import while_connected
from medsam.server.gate.present import PresentReader
from medsam.server.heavy import heavy
from medsam.server.monailabel.answers import as_file, as_form, as_json, attached, mask_file
from medsam.server.monailabel.asked import Wish, named, read_params, wanted, wish
from medsam.server.monailabel.images import Image
from medsam.server.monailabel.labels import suffix_in
from medsam.server.monailabel.models import OFFERED, STRUCTURES, structures
from medsam.server.monailabel.room import Form, PresentRoom, Room
from medsam.server.services import PresentServices, Services
from medsam.store.readers import Reader
from medsam.volume import LabelVolume

router = APIRouter()
OUTPUTS = ("all", "image", "json", "dicom_seg")


@router.post("/infer/{model}")
@router.post("/infer/{model}/")
async def infer(
    model: str,
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    room: PresentRoom,
    image: Annotated[str, Query(max_length=1000)] = "",
    session_id: Annotated[str, Query(max_length=100)] = "",
    output: Annotated[str, Query(max_length=20)] = "all",
) -> Response:
    """A mask on the grid of the client's image."""
    if model not in OFFERED:
        raise HTTPException(404, f"There is no model of that name: {', '.join(OFFERED)}.")
    if output not in OUTPUTS:
        raise InputError(f"`output` is one of {', '.join(OUTPUTS)}.", parameter="output")
    began = time.perf_counter()
    async with room.form(request) as form:
        with room.place():
            params = read_params(form.fields.get("params", b""))
            how = wanted(params)
            found = await while_connected(request, _image(reader, room, form, image, session_id))
            request.state.audited = {"case": None if found.case is None else found.case.key}
            drawn = await _drawn(services, room, form, found)
            if model == STRUCTURES:
                asked = named(await heavy(structures, services.predictor), found.geometry)
            else:
                # strokes are looked for in all voxels, and thinned
                asked = await heavy(wish, model, params, found.geometry, drawn, mirrored=found.mirrored)
            read = time.perf_counter()
            made = await while_connected(request, _segmented(services, found, asked, flat=OFFERED[model].flat))
            done = time.perf_counter()
            told = _told(made)
            if output == "json":
                return as_json(told | _latencies(began, read, done))
            if output == "dicom_seg":
                return await _as_seg(services, reader, found, made)
            content, suffix = await heavy(mask_file, made.labels, found, how)
            told |= _latencies(began, read, done)
            return as_file(content, suffix) if output == "image" else as_form(told, content, suffix)


async def _image(reader: Reader, room: Room, form: Form, image: str, session: str) -> Image:
    if session:
        return await room.images.of_session(reader, session)
    if (sent := await room.alone(form, "file")) is not None:
        return await room.images.of_file(reader, form.folder, *sent)
    return await room.images.of_id(reader, image)


async def _drawn(services: Services, room: Room, form: Form, image: Image) -> np.ndarray | None:
    """The label map of a form, on the grid of the client. Raises InputError for one of another."""
    if "label" not in form.files:
        return None
    name, path = form.files["label"]
    named = form.folder / f"drawn{suffix_in(name)}"
    await services.cases.calls(move, path, named)
    return await services.cases.pool.run(read_drawn, named, image.geometry.shape)


def read_drawn(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The numbers of a label map, in a process. Raises InputError for one of another shape."""
    # before memory is taken for it
    _check_shape(stated_in(path).shape or shape, shape)
    found = load_volume(path)
    _check_shape(found.array.shape, shape)
    return np.ascontiguousarray(found.array)


def _check_shape(found: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    if found != shape:
        raise PromptError(
            f"The label map of the scribbles has {found} voxels (k, j, i), and the image {shape}.", parameter="label"
        )


async def _segmented(services: Services, image: Image, asked: Wish, *, flat: bool) -> Segmentation:
    predictor = services.predictor
    work = partial(
        predictor.segment,
        image.scan,
        asked.prompts,
        axis=asked.axis,
        window=asked.window,
        modality=asked.modality,
        zoom=asked.zoom,
        propagate=asked.follow,
        max_mm=asked.max_mm if asked.follow else math.inf,
    )
    # several slices: others' clicks come in between
    priority = Priority.SLICE if flat else Priority.PROPAGATE
    return await services.worker.run(lambda progress: work(progress=progress), priority=priority)


def _told(made: Segmentation) -> dict[str, Any]:
    """What a client is told beside the mask."""
    return {
        "label_names": {name: number for number, name in made.labels.names.items()},
        "model": made.model,
        "licence": made.algorithm.licence,
        "notes": list(made.notes),
        "predicted_iou": [one.predicted_iou for one in made.results if math.isfinite(one.predicted_iou)][:100],
    }


def _latencies(began: float, read: float, done: float) -> dict[str, Any]:
    now = time.perf_counter()
    parts = {"pre": read - began, "infer": done - read, "invert": 0.0, "post": 0.0, "write": now - done}
    return {"latencies": {name: round(seconds, 3) for name, seconds in {**parts, "total": now - began}.items()}}


async def _as_seg(services: Services, reader: Reader, image: Image, made: Segmentation) -> Response:
    """A DICOM SEG, of a case that is DICOM."""
    rooms = services.cases
    if not rooms.may_know(reader):
        raise NotAllowed("A DICOM SEG names the patient, and whose scans these are is not for this role.")
    labels = LabelVolume(made.labels.array.astype(np.uint8), made.labels.geometry, made.labels.names)
    options = DicomOptions(made.algorithm, remarks=made.remarks)
    export = await rooms.pool.beside(encode, image.files, labels, labels.geometry, "seg", options)
    return Response(export.content, media_type=export.media_type, headers=attached(f"mask{export.suffix}"))
