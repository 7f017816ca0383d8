"""Files of automatic masks, as SA-1B has them.

    {"image": {"image_id", "width", "height", "file_name"},
     "annotations": [{"id", "segmentation": COCO RLE, "bbox": [x, y, w, h], "area", "predicted_iou",
                      "stability_score", "crop_box": [x, y, w, h], "point_coords": [[x, y], ...]}, ...]}

All in stored pixels of the slice; x counts columns. As in SA-1B, `bbox` runs from the first to the last column and row
inside, so its w and h are one less than the number of columns and rows; `crop_box` is half-open. Masks that people drew
have no `stability_score`.

For a scan the format grows and stays readable as it was: `image` says on which axis its slices lie and how many there
are ("axis", "slices"); every annotation says on which it is ("slice") and, where masks of neighbouring slices were
linked, to which object it belongs ("object", from 1). A mask that answers a box and no point has an empty
`point_coords` and "prompt_box": [x, y, w, h].
Source: Kirillov et al. 2023, the data set's description.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsam.errors import InputError
from medsam.files import write_whole
from medsam.geometry import AXES, Axis
from medsam.io.files import read_json
from medsam.io.save import check_target
from medsam.masks import RLE, AutomaticMask


@dataclass(frozen=True)
class MaskFile:
    """What an SA-1B file holds. axis, slices: of a scan; None and 1 for a picture."""

    width: int
    height: int
    masks: tuple[AutomaticMask, ...]
    file_name: str = ""
    image_id: int = 1
    axis: Axis | None = None
    slices: int = 1


def check_masks_target(path: Path, inputs: Collection[Path] = ()) -> None:
    """Raise InputError now for what `write_sa1b` would refuse later. inputs: files that must not be written over."""
    if path.suffix.lower() != ".json":
        raise InputError(f"Masks are written as JSON; name the file {path.name}.json or *.json.")
    check_target(path, inputs)
    if path.exists() and not _is_masks(path):
        raise InputError(
            f"{path.name} is there and holds something else than masks, perhaps a manifest or prompts. "
            "Name another file."
        )


def _is_masks(path: Path) -> bool:
    """Whether a file may hold masks of an earlier run; an empty file may be replaced, too."""
    try:
        document = read_json(path)
    except InputError:
        return path.stat().st_size == 0
    return isinstance(document, dict) and {"image", "annotations"} <= document.keys()


def write_sa1b(content: MaskFile, path: str | Path) -> Path:
    """Write the file under a temporary name and rename it. Masks without an id are numbered from 1.

    Raises InputError when the name is no .json, the place cannot be written, or two masks have one id.
    """
    path = Path(path)
    check_masks_target(path)
    image: dict[str, Any] = {
        "image_id": content.image_id,
        "width": content.width,
        "height": content.height,
        "file_name": content.file_name,
    }
    if content.axis is not None:
        image |= {"axis": content.axis, "slices": content.slices}
    ids = [number if mask.id is None else mask.id for number, mask in enumerate(content.masks, start=1)]
    if len(set(ids)) < len(ids):
        raise InputError("Two masks have the same id. Leave the ids out and they are numbered.")
    document = {
        "image": image,
        "annotations": [mask_to_dict(mask, n) for mask, n in zip(content.masks, ids, strict=True)],
    }
    try:
        with write_whole(path) as part, part.open("w", encoding="utf-8") as file:
            json.dump(document, file, allow_nan=False)
            file.write("\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def read_sa1b(path: str | Path) -> MaskFile:
    """Read and check a file of masks, of SA-1B itself or of `write_sa1b`.

    Raises InputError, naming the annotation, for what is not there or contradicts itself.
    """
    path = Path(path)
    document = read_json(path)
    if not (
        isinstance(document, dict)
        and isinstance(document.get("image"), dict)
        and isinstance(document.get("annotations"), list)
    ):
        raise InputError(f'{path.name} is no file of masks: it needs "image" and "annotations".')
    image = document["image"]
    try:
        width, height, slices = (_whole(image, key, 1) for key in ("width", "height", "slices"))
        image_id = _whole(image, "image_id", 0)
        axis = image.get("axis")
        if axis is not None and axis not in AXES:
            raise InputError(f'"axis" is {str(axis)[:60]!r}, not i, j or k.')
        name = image.get("file_name", "")
        if not isinstance(name, str):
            raise InputError('"file_name" is not a text.')
        if width is None or height is None:
            raise InputError('"width" and "height" are needed.')
    except InputError as error:
        raise InputError(f'The "image" of {path.name}: {error}') from error
    masks = []
    for number, entry in enumerate(document["annotations"]):
        try:
            masks.append(mask_from_dict(entry, (height, width), slices or 1))
        except InputError as error:
            raise InputError(f"Annotation {number} of {path.name}: {error}") from error
    return MaskFile(width, height, tuple(masks), name, 1 if image_id is None else image_id, axis, slices or 1)


def mask_to_dict(mask: AutomaticMask, number: int) -> dict[str, Any]:
    """A mask as an annotation, ready for JSON. number: its id."""
    entry = {
        "id": number,
        "segmentation": mask.rle.to_dict(),
        "bbox": list(mask.bbox),
        "area": mask.area,
        "predicted_iou": mask.predicted_iou,
        **({} if mask.stability_score is None else {"stability_score": mask.stability_score}),
        "crop_box": list(mask.crop_box),
        "point_coords": [list(point) for point in mask.point_coords],
    }
    box = None if mask.prompt_box is None else list(mask.prompt_box)
    grown = {"slice": mask.slice, "object": mask.object, "prompt_box": box}
    return entry | {key: value for key, value in grown.items() if value is not None}


def mask_from_dict(entry: Any, size: tuple[int, int], slices: int) -> AutomaticMask:
    """The other way. size: (h, w) of the image. slices: how many it has. Raises InputError when it is no mask of it."""
    if not isinstance(entry, dict):
        raise InputError(f"it is {type(entry).__name__}, not an object.")
    rle = RLE.from_dict(entry.get("segmentation"))
    if rle.size != size:
        raise InputError(f"its mask is {rle.size[0]} x {rle.size[1]} pixels, the image {size[0]} x {size[1]}.")
    area = _whole(entry, "area", 0)
    if area is not None and area != rle.area:
        raise InputError(f'"area" is {area}, its mask has {rle.area} pixels.')
    index = _whole(entry, "slice", 0)
    if index is not None and index >= slices:
        raise InputError(f'"slice" is {index}, the scan has {slices}.')
    points = entry.get("point_coords", [])
    if not isinstance(points, list):
        raise InputError('"point_coords" is not a list of [x, y].')
    return AutomaticMask(
        rle,
        _numbers(entry.get("bbox"), "bbox", 4),
        _number(entry, "predicted_iou"),
        _number(entry, "stability_score") if "stability_score" in entry else None,
        _numbers(entry.get("crop_box", [0, 0, size[1], size[0]]), "crop_box", 4),
        tuple(_numbers(point, "point_coords", 2) for point in points),
        index,
        _whole(entry, "object", 1),
        _whole(entry, "id", 0),
        _numbers(entry["prompt_box"], "prompt_box", 4) if entry.get("prompt_box") is not None else None,
    )


def _whole(entry: dict[str, Any], key: str, least: int) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f'"{key}" is {str(value)[:60]}, not a whole number from {least} on.')
    return value


def _number(entry: dict[str, Any], key: str) -> float:
    return _numbers([entry.get(key)], key, 1)[0]


def _numbers(values: Any, key: str, count: int) -> Any:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
        )
    ):
        what = "a finite number" if count == 1 else f"a list of {count} finite numbers"
        raise InputError(f'"{key}" is {str(values)[:60]}, not {what}.')
    return tuple(values)
