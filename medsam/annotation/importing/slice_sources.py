"""Labels of single slices: COCO's instances and SA-1B's masks.

An image of a scan says on which slice it lies ("axis" and "slice", as `annotate export` writes them); one that does not
belongs to a picture, a scan of one slice. It is found by the scan's name ("scan"), or by the name of its file.

COCO: masks as run lengths or as polygons, whose points count from the upper left corner of the first pixel; a pixel is
inside where its centre is. Several masks of one structure on a slice are one. Source: Lin et al. 2014.
SA-1B: masks have no class, so that all of them are of one structure, which has to be named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsam.annotation.importing.label_sources import SliceMask, Source
from medsam.annotation.importing.matching import stem_of
from medsam.errors import InputError
from medsam.geometry import AXES, Axis
from medsam.io.contours import fill
from medsam.io.files import read_json
from medsam.io.sa1b import read_sa1b
from medsam.masks import RLE, CompactMask
from medsam.volume import Volume

# of a file's name, as `annotate export` writes it: SCAN_k0012
_PLACED = re.compile(r"(?P<scan>.+)_(?P<axis>[ijk])(?P<slice>\d{4,})")


@dataclass(frozen=True)
class SliceSource:
    """Masks of one slice. size: (rows, columns). axis, slice: None for a picture. shapes: (name, mask as JSON)."""

    where: str
    image: Path | None
    names: tuple[str, ...]
    size: tuple[int, int]
    axis: Axis | None
    slice: int | None
    shapes: tuple[tuple[str, Any], ...]

    @property
    def series(self) -> frozenset[str]:
        return frozenset()

    @property
    def whole(self) -> bool:
        """Of a picture alone."""
        return self.slice is None

    def masks(self, scan: Volume, axis: Axis | None) -> Iterator[SliceMask]:
        plane = scan.geometry.plane(axis)
        if self.axis not in (None, plane.axis):
            raise InputError(
                f"{self.where} is a slice across axis {self.axis}; in this project people draw across {plane.axis} and "
                "would never see it. Import a label map of the whole scan."
            )
        index = 0 if self.slice is None else self.slice
        if self.slice is None and plane.count > 1:
            raise InputError(
                f'{self.where}: the scan has {plane.count} slices, and the image does not say which it is ("slice").'
            )
        if index >= plane.count or self.size != plane.shape:
            raise InputError(
                f"{self.where} is slice {index} of {self.size[0]} x {self.size[1]} pixels; the scan has {plane.count} "
                f"of {plane.shape[0]} x {plane.shape[1]}."
            )
        joined: dict[str, CompactMask] = {}
        for name, shape in self.shapes:
            try:
                mask = CompactMask.of(_mask(shape, plane.shape))
            except InputError as error:
                raise error.within(self.where) from error
            joined[name] = joined[name] | mask if name in joined else mask
        for name, mask in joined.items():
            if mask:
                yield SliceMask(name, plane.axis, index, mask)


def coco_sources(path: Path) -> Iterator[Source]:
    """Images that have a mask."""
    document = read_json(path)
    lists = [document.get(key) for key in ("images", "annotations", "categories")] if isinstance(document, dict) else []
    if not lists or not all(isinstance(one, list) and all(isinstance(row, dict) for row in one) for one in lists):
        raise InputError(f'{path.name} is no file of COCO: it needs "images", "annotations" and "categories".')
    images, annotations, categories = ([*one] for one in lists if one is not None)
    names = {one.get("id"): one.get("name") for one in categories}
    shapes: dict[Any, list[tuple[str, Any]]] = {}
    for one in annotations:
        name = names.get(one.get("category_id"))
        if not isinstance(name, str):
            raise InputError(f"{path.name}: annotation {one.get('id')} is of no category that the file names.")
        shapes.setdefault(one.get("image_id"), []).append((name, one.get("segmentation")))
    for image in images:
        if image.get("id") in shapes:
            yield _coco_image(path, image, shapes[image["id"]])


def _coco_image(path: Path, image: Mapping[str, Any], shapes: list[tuple[str, Any]]) -> SliceSource:
    where = f"{path.name}, image {image.get('id')}"
    size = image.get("height"), image.get("width")
    file = image.get("file_name")
    if not all(isinstance(length, int) and length > 0 for length in size) or not isinstance(file, str):
        raise InputError(f'{where}: it needs "file_name", "height" and "width".')
    name, axis, index = placed(Path(file))
    if image.get("axis") in AXES and isinstance(image.get("slice"), int) and image["slice"] >= 0:
        axis, index = image["axis"], image["slice"]
    names = (image["scan"],) if isinstance(image.get("scan"), str) else ()
    beside = path.parent / file
    return SliceSource(where, beside, (*names, stem_of(Path(file)), name), size, axis, index, tuple(shapes))  # type: ignore[arg-type]


def sa1b_sources(paths: list[Path], structure: str | None) -> Iterator[Source]:
    """Slices of SA-1B's files. structure: what all masks are of; it has to be said."""
    if structure is None:
        raise InputError(
            "Masks of SA-1B have no class: name the one structure that they are of.", parameter="structures"
        )
    for path in paths:
        found = read_sa1b(path)
        name, axis, index = placed(Path(path.stem))
        names = (path.stem, stem_of(Path(found.file_name)), name)
        by_slice: dict[int | None, list[RLE]] = {}
        for mask in found.masks:
            by_slice.setdefault(index if mask.slice is None else mask.slice, []).append(mask.rle)
        for place, masks in by_slice.items():
            shapes = tuple((structure, mask.to_dict()) for mask in masks)
            image = path.parent / found.file_name if found.file_name else None
            size = (found.height, found.width)
            yield SliceSource(path.name, image, names, size, found.axis or axis, place, shapes)


def placed(path: Path) -> tuple[str, Axis | None, int | None]:
    """The scan, the axis and the slice that a name as of `annotate export` tells; else the name, and None."""
    found = _PLACED.fullmatch(stem_of(path))
    if found is None:
        return stem_of(path), None, None
    return found["scan"], found["axis"], int(found["slice"])  # type: ignore[return-value]


def _mask(shape: Any, size: tuple[int, int]) -> np.ndarray:
    """bool (rows, columns), of run lengths or polygons. Raises InputError for what is neither, or of another size."""
    if not isinstance(shape, list):
        rle = RLE.from_dict(shape)
        if rle.size != size:
            raise InputError(f"a mask has {rle.size[0]} x {rle.size[1]} pixels, its image {size[0]} x {size[1]}.")
        return rle.to_array()
    mask = np.zeros(size, dtype=bool)
    for polygon in shape:
        numbers = isinstance(polygon, list) and all(isinstance(value, int | float) for value in polygon)
        if not numbers or len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all():
            raise InputError("a polygon is a list of x, y, x, y, ... of at least three points.")
        # pixel centres lie at halves there, at whole numbers here
        mask |= fill([np.reshape(np.asarray(polygon, dtype=float), (-1, 2)) - 0.5], size)
    return mask
