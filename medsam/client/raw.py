"""Arrays as a server sends them, raw, with what they are in the header `X-Medsam-Meta`; and scans as it takes them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import httpx
import numpy as np

from medsam.errors import InputError
from medsam.volume import Volume

META = "X-Medsam-Meta"
_KINDS = "biuf"


def read_raw(answer: httpx.Response, shape: Sequence[int] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """An array, and all the header says of it. shape: that it has to have; default: any.

    Raises InputError for one that is not what its header says.
    """
    try:
        meta = json.loads(answer.headers[META])
        dtype, lengths = np.dtype(meta["dtype"]).newbyteorder("<"), tuple(int(length) for length in meta["shape"])
        fits = min(lengths, default=0) > 0 and math.prod(lengths) * dtype.itemsize == len(answer.content)
        if dtype.kind not in _KINDS or not fits or (shape is not None and lengths != tuple(shape)):
            raise ValueError("shape")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The server sent an array that does not fit its header ({type(error).__name__}).") from None
    array = np.frombuffer(answer.content, dtype=dtype).reshape(lengths)
    return array.astype(dtype.newbyteorder("="), copy=False), meta


def file_of(scan: Volume) -> tuple[str, bytes]:
    """A scan in memory as the suffix and content of a file: a compressed NRRD, or a PNG of a picture of bytes.

    Raises InputError for one that neither holds as it is.
    """
    if not scan.geometry.calibrated:
        return ".png", _png_of(scan)
    return ".nrrd", nrrd_of(scan)


def _png_of(scan: Volume) -> bytes:
    from PIL import Image

    if len(scan.array) > 1 or scan.array.dtype != np.uint8:
        # NRRD has no word for it: each voxel would be a millimetre
        raise InputError(
            f"A scan without millimetres is uploaded where it is one slice of bytes, not {scan.shape} of "
            f"{scan.array.dtype}. Give the volume its `spacing_mm`, or upload the file it came from.",
            parameter="scan",
        )
    buffer = BytesIO()
    Image.fromarray(scan.array[0]).save(buffer, format="PNG")
    return buffer.getvalue()


def nrrd_of(scan: Volume) -> bytes:
    """A scan with millimetres as the content of a compressed NRRD: voxels and grid; colour as three bytes a voxel.

    Raises InputError for a type of voxels that NRRD has not.
    """
    import nrrd

    array = scan.array.astype(np.float32) if scan.array.dtype == np.float16 else scan.array
    if scan.is_colour and array.dtype != np.uint8:
        raise InputError(f"Colours are uploaded as bytes, 0 ... 255; these are {array.dtype}.")
    affine = scan.geometry.affine
    directions = affine[:3, :3].T
    header: dict[str, Any] = {
        "encoding": "gzip",
        "kinds": ["domain"] * 3,
        "space": "left-posterior-superior",
        "space origin": affine[:3, 3],
        "space directions": directions,
    }
    voxels = array.transpose(2, 1, 0) if array.ndim == 3 else array.transpose(3, 2, 1, 0)
    if array.ndim == 4:
        header["kinds"] = ["RGB-color", *header["kinds"]]
        header["space directions"] = np.vstack([np.full((1, 3), np.nan), directions])
    buffer = BytesIO()
    nrrd.write(buffer, voxels, header, index_order="F", compression_level=1)
    return buffer.getvalue()
