"""Voxels as bytes of an answer: raw, with what they are in the header X-Medsam-Meta, whole or a range of them.

The bytes are the scan's as it is in memory, C order and little-endian, and never windowed: what a viewer shows them
through is its own choice, for which the header has presets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.responses import Response, StreamingResponse

from medsam.geometry import AXES, SlicePlane
from medsam.transforms.intensity import CT_WINDOWS, is_hounsfield, resolve_window
from medsam.volume import Volume

META = "X-Medsam-Meta"
_PIECE = 2**19
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def meta_of(array: np.ndarray, **more: Any) -> dict[str, Any]:
    """What is needed to read an array back. more: what else is said of it."""
    return {"dtype": array.dtype.newbyteorder("<").str, "shape": list(array.shape), "order": "C", **more}


def described(volume: Volume) -> dict[str, Any]:
    """A scan but for its voxels: grid, slices, windows. Reads voxels, so not on the event loop; ready for JSON."""
    return {
        **volume.geometry.to_dict(),
        "spacing_mm": volume.spacing_mm,
        "axcodes": volume.geometry.axcodes if volume.geometry.calibrated else None,
        "axis": volume.geometry.acquired_axis,
        "planes": {axis: plane_of(volume.geometry.plane(axis)) for axis in AXES},
        "modality": volume.modality,
        "units": volume.units,
        "colour": volume.is_colour,
        "dtype": volume.array.dtype.str,
        "windows": windows_of(volume),
        "notes": list(volume.notes),
    }


def plane_of(plane: SlicePlane) -> dict[str, Any]:
    """Slices along an axis. view: how a stored slice is turned to stand upright, transposed first."""
    return {
        "count": plane.count,
        "shape": list(plane.shape),
        "spacing_mm": list(plane.spacing_mm),
        "view": asdict(plane.view),
    }


def windows_of(volume: Volume) -> list[dict[str, Any]]:
    """Presets: the one a network sees through first, then the file's, then those of CT where its units apply."""
    auto = resolve_window(volume)
    found = [{"name": "auto", "low": auto.low, "high": auto.high}]
    if volume.window is not None:
        level, width = volume.window
        found.append({"name": "file", "low": level - width / 2, "high": level + width / 2})
    if not volume.is_colour and is_hounsfield(volume):
        found += [
            {"name": name, "low": level - width / 2, "high": level + width / 2}
            for name, (level, width) in CT_WINDOWS.items()
        ]
    return found


def etag_of(*parts: object) -> str:
    """A strong tag of what never changes while these do not."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def raw_response(
    array: np.ndarray,
    meta: Mapping[str, Any],
    etag: str,
    asked: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer with an array, C-contiguous. asked: headers of the request, of which ranges and tags count."""
    return bytes_response(
        array.data.cast("B"),
        etag,
        asked,
        {META: json.dumps(meta, separators=(",", ":")), **(headers or {})},
    )


def bytes_response(
    content: memoryview,
    etag: str,
    asked: Mapping[str, str],
    headers: Mapping[str, str],
    media_type: str = "application/octet-stream",
) -> Response:
    """An answer with bytes: 200, 206 with a part of them, 304 where the client has them, 416 for a part beyond them."""
    common = {"ETag": etag, "Accept-Ranges": "bytes", **headers}
    if etag in (tag.strip().removeprefix("W/") for tag in asked.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=common)
    size = len(content)
    span = None
    if asked.get("if-range", etag) == etag:
        span = _span(asked.get("range", ""), size)
    if span is None:
        begin, end, status = 0, size, 200
    elif span[0] >= span[1]:
        return Response(status_code=416, headers={**common, "Content-Range": f"bytes */{size}"})
    else:
        (begin, end), status = span, 206
        common["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    common["Content-Length"] = str(end - begin)
    return StreamingResponse(_pieces(content[begin:end]), status, common, media_type)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """The half-open part that is asked for; None for all, and for what is no single range, which may be ignored."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]) or max(map(len, match.groups())) > 18:
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    end = int(match[2]) + 1 if match[2] else size
    return None if end <= int(match[1]) < size else (int(match[1]), min(end, size))


async def _pieces(content: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]
