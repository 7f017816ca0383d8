"""A scan's slice in the middle as a small picture: of one in memory, or of what of its files that takes.

One at a time is read beside what readers open; pictures are kept in memory alone, as identities are.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import anyio
import numpy as np
from anyio import to_thread

from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.server.cases.found import ScanFiles
from medsam.server.cases.middle import middle_of, read_middle
from medsam.server.cases.pool import Pool
from medsam.transforms.intensity import IntensityWindow, resolve_window
from medsam.volume import Volume

# the longer side in pixels, and how many pictures are kept: 15 KB each
SIDE, _KEPT = 160, 1000


@dataclass
class Thumbnails:
    """PNGs by case and version of its files. most: bytes of a scan that is read for one."""

    pool: Pool
    most: int
    _made: OrderedDict[tuple[str, str], tuple[bytes, float]] = field(default_factory=OrderedDict)
    # others are for those who wait for more than a picture
    _one: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(1))

    async def get(self, case: str, files: ScanFiles, here: Volume | None, windows: Mapping[str, Any] | None) -> bytes:
        """The picture of a case; empty where there is none. here: its scan, if it is in memory, and then windows: the
        first of its presets."""
        key = case, files.version
        if (made := self._known(key)) is None:
            if here is not None:
                made = self._keep(key, await self._make(*middle_of(here), windows))
            else:
                async with self._one:
                    # somebody may have had it made while this waited
                    if (made := self._known(key)) is None:
                        made = self._keep(key, *(await self._read(files)))
        return made

    def _known(self, key: tuple[str, str]) -> bytes | None:
        made, until = self._made.get(key, (b"", 0.0))
        return made if time.monotonic() < until else None

    def _keep(self, key: tuple[str, str], made: bytes, seconds: float = math.inf) -> bytes:
        self._made[key] = made, time.monotonic() + seconds
        while len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return made

    async def _read(self, files: ScanFiles) -> tuple[bytes, float]:
        """The picture, and for how many seconds it is the one."""
        if math.prod(files.case.shape or (0,)) > self.most:
            return b"", math.inf
        try:
            return await self._make(*(await self.pool.beside(read_middle, files))), math.inf
        except InputError as error:
            # who opens it is told why
            return b"", getattr(error, "lasts", math.inf)

    async def _make(self, middle: Volume, axis: Axis, windows: Mapping[str, Any] | None = None) -> bytes:
        window = None if windows is None else IntensityWindow(windows["low"], windows["high"], windows["name"])
        return await to_thread.run_sync(picture_of, middle, axis, window)


def picture_of(middle: Volume, axis: Axis, window: IntensityWindow | None = None) -> bytes:
    """A slice as PNG: upright, pixels as wide as high in the patient, through a window, default the scan's own."""
    from PIL import Image

    plane = middle.geometry.plane(axis)
    pixels = plane.take(middle.array, 0)
    shown = np.ascontiguousarray(plane.view.apply((window or resolve_window(middle)).picture(pixels)))
    lengths = [count * pitch for count, pitch in zip(shown.shape, plane.upright_spacing_mm, strict=False)]
    height, width = (max(1, round(SIDE * length / max(lengths))) for length in lengths)
    buffer = BytesIO()
    Image.fromarray(shown).resize((width, height), Image.Resampling.BOX).save(buffer, format="PNG")
    return buffer.getvalue()
