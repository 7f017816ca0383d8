"""A mask of a slice in the columns of a row: its bounds, its area, and its bits by zlib, which has a checksum."""

from __future__ import annotations

import zlib
from typing import Any

from medsam.masks import CompactMask


def bits_of(mask: CompactMask) -> dict[str, Any]:
    """The columns rows, columns, y0, y1, x0, x1, area, bits. mask: (rows, columns)."""
    rows, columns = mask.shape
    (y0, y1), (x0, x1) = mask.bounds
    bounds = {"rows": rows, "columns": columns, "y0": y0, "y1": y1, "x0": x0, "x1": x1, "area": mask.area}
    return {**bounds, "bits": zlib.compress(mask.bits, 1)}


def mask_of(rows: int, columns: int, y0: int, y1: int, x0: int, x1: int, bits: bytes, area: int) -> CompactMask:
    """The other way."""
    return CompactMask((rows, columns), ((y0, y1), (x0, x1)), zlib.decompress(bits), area)
