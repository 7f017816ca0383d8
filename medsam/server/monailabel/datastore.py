"""The cases that a reader may see, as a data store of MONAI Label; and the labels that readers submit."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse

from medsam.errors import InputError, printable
from medsam.io.itk import encode_nrrd
from medsam.server.connected import while_connected
from medsam.server.gate.identity import LOG_IN, Present
from medsam.server.gate.present import PresentReader
from medsam.server.heavy import heavy
from medsam.server.monailabel.answers import attached
from medsam.server.monailabel.asked import read_params
from medsam.server.monailabel.images import Image, file_name, image_id
from medsam.server.monailabel.labels import FINAL, ORIGINAL, Submitted, check_label, suffix_in
from medsam.server.monailabel.models import STRATEGIES
from medsam.server.monailabel.room import PresentRoom, Room
from medsam.server.services import PresentServices
from medsam.store.readers import Reader
from medsam.store.records import StoredCase
from medsam.volume import LabelVolume

router = APIRouter()
ImageId = Annotated[str, Query(max_length=1000)]
Tag = Annotated[str, Query(max_length=200)]


async def counted(reader: Reader, room: Room) -> tuple[int, int]:
    """How many scans a reader may see, and of how many there is a label of this reader."""
    cases = await room.images.all(reader)
    return len(cases), sum(_labelled(room, reader, case) for case in cases)


@router.get("/datastore")
@router.get("/datastore/")
async def datastore(reader: PresentReader, room: PresentRoom, output: Annotated[str, Query(max_length=20)] = "") -> Any:
    """How much there is; "all": what; "train": images with their labels, by name."""
    cases = await room.images.all(reader)
    if output == "all":
        return {"objects": {image_id(case, reader): _object(room, reader, case) for case in cases}}
    if output == "train":
        return [
            {"image": image_id(case, reader), "label": FINAL}
            for case in cases
            if FINAL in room.labels.of(case.key, reader)
        ]
    tags = [tag for case in cases for tag in room.labels.of(case.key, reader)]
    done = sum(_labelled(room, reader, case) for case in cases)
    return {
        "total": len(cases),
        "completed": done,
        "label_tags": {tag: tags.count(tag) for tag in dict.fromkeys(tags)},
        "train": [],
    }


@router.put("/datastore")
@router.put("/datastore/")
@router.put("/datastore/image")
async def put_image(
    request: Request, reader: PresentReader, services: PresentServices, room: PresentRoom, image: ImageId = ""
) -> dict[str, str]:
    """An image becomes a case of the reader's, who finds it by `image` from then on."""
    async with room.form(request) as form:
        sent = await room.alone(form, "file")
        if sent is None:
            raise InputError("The image is the file `file` of the form.", parameter="file")
        name = " ".join(image.split())
        cases, _ = await services.cases.take_in(form.folder, [sent[0]], reader, {"image": name} if name else None)
    request.state.audited = {"case": cases[0].key}
    room.images.remember(reader, image_id(cases[0], reader), cases[0])
    return {"image": image_id(cases[0], reader)}


@router.get("/datastore/image")
@router.get("/datastore/image/")
async def get_image(request: Request, services: PresentServices, room: PresentRoom, image: ImageId = "") -> Response:
    """The file of an image; of a DICOM series, and for who may not know whose it is, a NRRD of its voxels. For who is
    recognised, or has a ticket."""
    reader: Reader | None = request.state.reader
    if reader is None and (known := room.tickets.reader(image)) is not None:
        reader = await services.gate.calls(services.store.reader, known)
    if reader is None:
        raise HTTPException(401, LOG_IN)
    found = await while_connected(request, room.images.of_id(reader, image))
    assert found.case is not None  # noqa: S101 it was found by its id
    # of a ticket, too, the audit says whose it is
    request.state.audited = {"case": found.case.key, **({} if request.state.reader else {"ticket": reader.id})}
    whole = room.images.whole(reader, found.case)
    headers = attached(file_name(found.case, whole=whole))
    if found.path is not None and whole:
        return FileResponse(found.path, media_type="application/octet-stream", headers=headers)
    content = await heavy(_voxels, found)
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/datastore/image/info")
async def image_info(request: Request, reader: PresentReader, room: PresentRoom, image: ImageId = "") -> dict[str, Any]:
    """What is known of an image."""
    case = await room.images.case(reader, image)
    request.state.audited = {"case": case.key}
    return _about(room, reader, case)


@router.put("/datastore/label")
async def put_label(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    room: PresentRoom,
    image: ImageId = "",
    tag: Tag = "",
) -> dict[str, str]:
    """Submit a label: a label map on the grid of the image. The ones before it stay on the disk."""
    rooms = services.cases
    async with room.form(request) as form:
        found = await while_connected(request, room.images.of_id(reader, image))
        assert found.case is not None  # noqa: S101
        if "label" not in form.files:
            raise InputError("The label is the file `label` of the form.", parameter="label")
        name, path = form.files["label"]
        suffix = suffix_in(name)
        named = path.with_name(f"label{suffix}")
        await rooms.calls(path.rename, named)
        await rooms.pool.beside(check_label, named, found.geometry)
        names = _names(read_params(form.fields.get("params", b"")))
        label = await rooms.calls(room.labels.put, found.case.key, reader, tag or FINAL, named, suffix, names)
    request.state.audited = {"case": found.case.key, "label": label.number, "tag": label.tag}
    return {"image": image_id(found.case, reader), "label": label.tag}


@router.get("/datastore/label")
async def get_label(
    request: Request,
    reader: PresentReader,
    room: PresentRoom,
    label: ImageId = "",
    tag: Tag = FINAL,
) -> Response:
    """A label as it was submitted."""
    found = await _label(reader, room, label, tag)
    request.state.audited = {"case": found.case, "label": found.number}
    path: Path = room.labels.path(found)
    return FileResponse(
        path, media_type="application/octet-stream", headers=attached(f"{found.case}-{found.number}{found.suffix}")
    )


@router.get("/datastore/label/info")
async def label_info(reader: PresentReader, room: PresentRoom, label: ImageId = "", tag: Tag = FINAL) -> dict[str, Any]:
    """What its numbers are called, and who made it when."""
    return _told(await _label(reader, room, label, tag))


@router.delete("/datastore/label")
async def delete_label(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    room: PresentRoom,
    id: ImageId = "",  # noqa: A002
    tag: Tag = FINAL,
) -> dict[str, Any]:
    """Withdraw a label of one's own."""
    found = await _label(reader, room, id, tag)
    if found.reader != reader.id:
        raise HTTPException(403, "This label is another reader's.")
    await services.cases.calls(room.labels.change, found, withdrawn=True)
    request.state.audited = {"case": found.case, "label": found.number}
    return {}


@router.put("/datastore/updatelabelinfo")
async def update_label_info(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    room: PresentRoom,
    label: ImageId = "",
    tag: Tag = FINAL,
) -> dict[str, Any]:
    """What the numbers of a label of one's own are called (MONAI Label's Reviewer)."""
    found = await _label(reader, room, label, tag)
    if found.reader != reader.id:
        raise HTTPException(403, "This label is another reader's.")
    form = await request.form()
    text = form.get("params")
    names = _names(read_params(text.encode() if isinstance(text, str) else b""))
    if names:
        await services.cases.calls(room.labels.change, found, names=names)
    return {}


@router.delete("/datastore")
@router.delete("/datastore/")
async def delete_image(
    request: Request,
    reader: PresentReader,
    services: PresentServices,
    room: PresentRoom,
    id: ImageId = "",  # noqa: A002
) -> Any:
    """Delete an image that one put here."""
    case = await room.images.case(reader, id, fetch=False)
    request.state.audited = {"case": case.key}
    await services.cases.remove(reader, case.key)
    return {}


@router.post("/activelearning/{strategy}")
@router.post("/activelearning/{strategy}/")
async def next_sample(strategy: str, request: Request, reader: PresentReader, room: PresentRoom) -> dict[str, Any]:
    """The next scan that this reader has submitted no label for; {} where there is none."""
    if strategy not in STRATEGIES:
        raise HTTPException(404, f"There is no strategy of that name: {', '.join(STRATEGIES)}.")
    left = [case for case in await room.images.all(reader) if not _labelled(room, reader, case)]
    if not left:
        return {}
    case = left[0] if strategy == "first" else random.choice(left)
    present: Present = request.state.present
    name = image_id(case, reader)
    # whoever works on this machine without a login needs none
    name = name if present.way == "local" else room.tickets.given(name, reader.id)
    return {
        "id": name,
        "name": file_name(case, whole=room.images.whole(reader, case)),
        "weight": 1,
        **_dicom(room, reader, case),
    }


# -- what they share ----------------------------------------------------------------------------------------------


async def _label(reader: Reader, room: Room, image: str, tag: str) -> Submitted:
    case = await room.images.case(reader, image, fetch=False)
    return room.labels.get(case.key, reader, tag)


def _labelled(room: Room, reader: Reader, case: StoredCase) -> bool:
    return any("@" not in tag and tag != ORIGINAL for tag in room.labels.of(case.key, reader))


def _object(room: Room, reader: Reader, case: StoredCase) -> dict[str, Any]:
    labels = room.labels.of(case.key, reader)
    return {
        "image": {"ext": "", "info": _about(room, reader, case)},
        "labels": {tag: {"ext": one.suffix, "info": _told(one)} for tag, one in labels.items()},
    }


def _about(room: Room, reader: Reader, case: StoredCase) -> dict[str, Any]:
    """Never whose it is: names of cases are made of codes and numbers, or are files' names."""
    return {
        "name": file_name(case, whole=room.images.whole(reader, case)),
        "shown": case.name,
        "modality": case.modality,
        "ts": _seconds(case),
        **_dicom(room, reader, case),
    }


def _seconds(case: StoredCase) -> int:
    return int(case.added_at.timestamp())


def _dicom(room: Room, reader: Reader, case: StoredCase) -> dict[str, str]:
    """What OHIF finds it by, for who may know whose it is: a PACS tells by these numbers. The study is known of what
    came from a PACS."""
    if not room.images.whole(reader, case):
        return {}
    series = case.details["scan"].get("series")
    if case.kind != "pacs" or not series:
        return {"SeriesInstanceUID": series} if series else {}
    study = case.source.split("/")[-2]
    return {"StudyInstanceUID": study, "SeriesInstanceUID": series, "Modality": case.modality or ""}


def _told(label: Submitted) -> dict[str, Any]:
    return {"ts": label.at, "params": {"label_names": dict(label.names)}, "user": label.user}


def _names(params: Mapping[str, Any]) -> dict[str, int]:
    """`label_info`: the i-th name is the number i + 1 where it has none of its own."""
    told: Sequence[Any] = params.get("label_info") if isinstance(params.get("label_info"), list) else []  # type: ignore[assignment]
    found = dict[str, int]()
    for number, one in enumerate(told[:1000], start=1):
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            index = one.get("idx")
            # half of a letter of two (JSON may hold one) could not be sent again
            found[printable(one["name"])[:200]] = index if isinstance(index, int) else number
    return found


def _voxels(image: Image) -> bytes:
    """Of a DICOM series, as a NRRD on the grid that clients have of it."""
    scan = image.scan
    if scan.is_colour:
        raise InputError("A series in colour cannot be sent as a NRRD: open it in a viewer that reads DICOM.")
    voxels = image.turned(np.asarray(scan.array))
    return encode_nrrd(LabelVolume(voxels, image.geometry, {}), None)
