"""What comes back from an inference: a mask as a file, its parameters as JSON, or both as a form.

A form has the parameters first, and in each part `Content-Type` is the last header: MITK cuts the text there. A mask
is uint8 on the grid of the client's image.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import numpy as np
from fastapi import Response
from fastapi.responses import JSONResponse

from medsam.io.itk import encode_nrrd
from medsam.io.save import encode_labels
from medsam.server.monailabel.asked import Wanted
from medsam.server.monailabel.images import Image
from medsam.volume import LabelVolume

_BINARY = "application/octet-stream"


def mask_file(made: LabelVolume, image: Image, wanted: Wanted) -> tuple[bytes, str]:
    """Labels on the grid of the scan in memory as a file for the client, and its suffix."""
    suffix = wanted.suffix or image.suffix
    labels = LabelVolume(np.ascontiguousarray(image.turned(made.array), dtype=np.uint8), image.geometry, made.names)
    if suffix == ".nrrd":
        return encode_nrrd(labels, image.path, packed=wanted.packed), suffix
    return encode_labels(labels, suffix, image.path), suffix


def as_file(content: bytes, suffix: str) -> Response:
    """The file alone."""
    return Response(content, media_type=_BINARY, headers=attached(f"mask{suffix}"))


def as_form(params: dict[str, Any], content: bytes, suffix: str) -> Response:
    """The parameters and the file. Clients save it under its name, so each has another."""
    boundary = secrets.token_hex(16)
    name = f"mask-{secrets.token_hex(6)}{suffix}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(params)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: {_BINARY}\r\n\r\n"
    )
    body = b"".join((head.encode(), content, f"\r\n--{boundary}--\r\n".encode()))
    return Response(body, headers={"content-type": f"multipart/form-data; boundary={boundary}"})


def as_json(params: dict[str, Any]) -> Response:
    """The parameters alone."""
    return JSONResponse(params)


def attached(name: str) -> dict[str, str]:
    """The name of a file, by whose suffix clients choose a reader. name: of ASCII, without quotes."""
    return {"content-disposition": f'attachment; filename="{name}"'}
