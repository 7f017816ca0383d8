"""Boxes that another program found, as prompts.

    label map, SEG, RTSTRUCT     each structure's tight box on every slice (TotalSegmentator, nnU-Net, ...)
    COCO (JSON)                  "annotations" of "images", or a list of results; "bbox" is [x, y, width, height]
    MONAI (JSON)                 {"box": [...], "label": [...], "score" or "label_scores": [...]}, alone or in a list
                                 under "training", "validation" or "testing"; middle and size in LPS millimetres
                                 ("cccwhd"), as MONAI's LUNA16 example has them, unless "box_mode" and "space" say so
    nnDetection (JSON)           {"1": {"box": [...], "label": n, "score": s}, ...}, as nndet_boxes2nii writes it: array
                                 order (k, j, i), each box a voxel larger on all sides
    DICOM SR, GSPS               as of `medsam.prompts.measurements`

Numbers in a file are looked at before they are used: it may come from anywhere.
Letters: i, j, k voxels in the stored order of the scan; boxes are half-open.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import PromptError, counted, listed
from medsam.geometry import AXES, Axis, SlicePlane
from medsam.io.files import read_json
from medsam.io.structure_names import plain_name
from medsam.prompts.files import read_prompt_file
from medsam.prompts.prompt import Prompt
from medsam.prompts.simulate import tight_box
from medsam.volume import Volume

# more boxes are no answer of a detector, but a file that wants time
_MOST_BOXES = 20_000
_MONAI_LISTS = ("training", "validation", "testing", "test")
_MODES = ("cccwhd", "xyzxyz", "xyzwhd")
_SPACES = ("lps", "ras", "index")


@dataclass(frozen=True)
class FoundBox:
    """name: of its structure, or its number as text. corners: (i0, j0, k0, i1, j1, k1), or (x0, y0, x1, y1) on `slice`.

    score: nan where the file gives none.
    """

    name: str
    corners: tuple[float, ...]
    slice: int | None = None
    score: float = math.nan


@dataclass(frozen=True)
class BoxesFrom:
    """Prompts of boxes. axis: that they lie across, None where any will do. notes: what the user should know."""

    prompts: tuple[Prompt, ...]
    axis: Axis | None
    notes: tuple[str, ...]
    read: tuple[Path, ...]


def read_boxes(
    path: Path,
    scan: Volume,
    axis: Axis | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    loosen: float = 0.0,
    in_mm: bool = False,
    least_score: float = 0.5,
) -> BoxesFrom:
    """The boxes of a file on a scan.

    axis: of the slices. mapping: a file's name or number of a structure -> what it is called here; others are left out;
    None or {} keeps all by the file's names. loosen: how far each edge moves outwards, in pixels, or `in_mm`.
    least_score: lower boxes are left out; those without a score stay.
    Raises PromptError for a file without a box for this scan, InputError for one that cannot be read.
    """
    path, notes = Path(path), list[str]()
    plane = scan.geometry.plane(axis)
    if in_mm and loosen and not scan.geometry.calibrated:
        raise PromptError("The scan has no millimetres: say `loosen` in pixels.", parameter="loosen")
    if path.name.lower().endswith(".json"):
        boxes = list(_of_json(path, scan))
    else:
        file = read_prompt_file(path, scan, axis)
        if file.masks is None:
            called = _Names(mapping, [one.label for one in file.prompts], path)
            kept = [replace(one, label=name) for one in file.prompts if (name := called(one.label)) is not None]
            prompts = [_loosened(one, scan, plane.axis, loosen, in_mm) for one in kept]
            return _checked(path, prompts, file.axis, [*file.notes, *called.notes], file.read)
        boxes, notes = list(_of_masks(file.masks, plane)), list(file.notes)
    called = _Names(mapping, [one.name for one in boxes], path)
    placed = list(_placed(boxes, called, scan, plane.axis, least_score, notes, path.name))
    prompts = [_loosened(prompt, scan, plane.axis, loosen, in_mm) for prompt in placed]
    flat = any(prompt.box is not None for prompt in prompts)
    return _checked(path, prompts, plane.axis if flat else None, [*notes, *called.notes], (path,))


def _placed(
    boxes: Sequence[FoundBox], called: _Names, scan: Volume, axis: Axis, least_score: float, notes: list[str], file: str
) -> Iterator[Prompt]:
    """The boxes that are wanted, believed and on the scan; notes: receives how many are not."""
    left = Counter[str]()
    for box in boxes:
        name = called(box.name)
        if name is None:
            continue
        prompt = _prompt(box, name, scan, axis)
        if box.score < least_score:
            left[f"with a score below {least_score:g}"] += 1
        elif prompt is None:
            left["beyond the scan"] += 1
        else:
            yield prompt
    notes += [f"{file}: {counted(number, 'box', 'boxes')} {why} left out." for why, number in left.items()]


def _checked(
    path: Path, prompts: Sequence[Prompt], axis: Axis | None, notes: Sequence[str], read: Sequence[Path]
) -> BoxesFrom:
    if not prompts:
        raise PromptError(f"{path.name} holds no box for this scan. {' '.join(notes)}".strip())
    return BoxesFrom(tuple(prompts), axis, tuple(dict.fromkeys(notes)), tuple(read))


class _Names:
    """What structures of a file are called here, by the user's mapping. Raises PromptError for what is not there."""

    def __init__(self, mapping: Mapping[str, str] | None, there: Sequence[str], path: Path) -> None:
        self.names = {plain_name(theirs): ours for theirs, ours in (mapping or {}).items()}
        known = {plain_name(name) for name in there}
        missing = [theirs for theirs in mapping or {} if plain_name(theirs) not in known]
        if missing:
            raise PromptError(
                f"{path.name} holds no {listed(missing)}; it holds {listed(dict.fromkeys(there)) or 'nothing'}."
            )
        unused = [name for name in dict.fromkeys(there) if self.names and plain_name(name) not in self.names]
        self.notes = [f"{path.name}: {listed(unused)} left out, which the mapping does not name."] if unused else []

    def __call__(self, name: str) -> str | None:
        return self.names.get(plain_name(name)) if self.names else name


# -- masks ----------------------------------------------------------------------------------------------------------


def _of_masks(masks: Mapping[str, np.ndarray], plane: SlicePlane) -> Iterator[FoundBox]:
    for name, mask in masks.items():
        for index in range(plane.count):
            box = tight_box(plane.take(mask, index), 1)
            if box is not None:
                yield FoundBox(name, box, index)


# -- JSON -----------------------------------------------------------------------------------------------------------


def _of_json(path: Path, scan: Volume) -> Iterator[FoundBox]:
    """Boxes of a JSON file of any of the kinds. Raises PromptError for another."""
    document = read_json(path)
    kinds = {_is_coco: _of_coco, _is_monai: _of_monai, _is_nndetection: _of_nndetection}
    for is_kind, boxes_of in kinds.items():
        if is_kind(document):
            found = []
            for number, box in enumerate(boxes_of(path, document, scan)):
                if number >= _MOST_BOXES:
                    raise PromptError(f"{path.name} holds more than {_MOST_BOXES} boxes. Filter them by their scores.")
                found.append(box)
            return iter(found)
    raise PromptError(
        f"{path.name} is no file of boxes that is known: COCO has `annotations` with `bbox`, MONAI `box` and `label`, "
        "nnDetection an object of numbered boxes. A prompts file of medsam is for --prompts."
    )


def _is_coco(document: Any) -> bool:
    if isinstance(document, dict):
        return isinstance(document.get("annotations"), list)
    return isinstance(document, list) and bool(document) and isinstance(document[0], dict) and "bbox" in document[0]


def _of_coco(path: Path, document: Any, scan: Volume) -> Iterator[FoundBox]:
    about = document if isinstance(document, dict) else {}
    annotations = document["annotations"] if isinstance(document, dict) else document
    names = {
        one["id"]: str(one["name"])
        for one in _dicts(path, about.get("categories", []))
        if isinstance(one.get("id"), int) and isinstance(one.get("name"), str)
    }
    slices = _coco_slices(path, _dicts(path, about.get("images", [])), scan)
    for number, one in enumerate(_dicts(path, annotations)):
        where = f"{path.name}, annotation {number}"
        x, y, wide, high = _numbers(one.get("bbox"), 4, where)
        image, category = one.get("image_id"), one.get("category_id", 1)
        if isinstance(image, list | dict) or isinstance(category, list | dict):
            raise PromptError(f"{where}: `image_id` and `category_id` are numbers.")
        if slices is not None and image not in slices:
            continue
        index = None if slices is None else slices[image]
        score = _score(one.get("score"), where)
        yield FoundBox(names.get(category, str(category)), (x, y, x + wide, y + high), index or 0, score)


def _coco_slices(path: Path, images: Sequence[Mapping[str, Any]], scan: Volume) -> dict[Any, int] | None:
    """Image id -> the slice that it is; None where the only one needs no name."""
    count = scan.geometry.plane().count
    if count > 1:
        found = {
            one["id"]: one["slice"]
            for one in images
            if isinstance(one.get("slice"), int) and isinstance(one.get("id"), int | str)
        }
        if not found or not all(index >= 0 for index in found.values()):
            raise PromptError(
                f"{path.name}: COCO's images are pictures, and the scan has {count} slices. Say which slice each image "
                'is: {"id": 7, "file_name": ..., "slice": 41}.'
            )
        return found
    if len(images) <= 1:
        return None
    name = None if scan.source is None else scan.source.name
    mine = [one for one in images if isinstance(one.get("file_name"), str) and Path(one["file_name"]).name == name]
    if len(mine) != 1:
        raise PromptError(
            f"{path.name} is about {len(images)} images, and {len(mine)} of them are called as this picture."
        )
    return {mine[0].get("id"): 0}


def _is_monai(document: Any) -> bool:
    if not isinstance(document, dict):
        return isinstance(document, list) and bool(document) and isinstance(document[0], dict) and "box" in document[0]
    return "box" in document or any(isinstance(document.get(key), list) for key in _MONAI_LISTS)


def _of_monai(path: Path, document: Any, scan: Volume) -> Iterator[FoundBox]:
    cases = document if isinstance(document, list) else [document]
    if isinstance(document, dict) and "box" not in document:
        listed_cases = [document[key] for key in _MONAI_LISTS if isinstance(document.get(key), list)]
        cases = [case for some in listed_cases for case in some]
    case = _case_of(path, _dicts(path, cases), scan)
    boxes = case.get("box")
    if not isinstance(boxes, list):
        raise PromptError(f"{path.name}: `box` is a list of boxes.")
    labels = _as_many(path, case.get("label"), len(boxes))
    scores = _as_many(path, case.get("label_scores", case.get("score")), len(boxes))
    mode, space = str(case.get("box_mode", "cccwhd")), str(case.get("space", "lps")).lower()
    if mode not in _MODES or space not in _SPACES:
        raise PromptError(f"{path.name}: `box_mode` is one of {listed(_MODES)}, `space` one of {listed(_SPACES)}.")
    for number, box in enumerate(boxes):
        where = f"{path.name}, box {number}"
        low, high = _corners(_numbers(box, 6, where), mode)
        if space != "index":
            low, high = _voxels(low, high, space, scan)
        name = "1" if labels[number] is None else str(labels[number])
        yield FoundBox(name, (*low.tolist(), *high.tolist()), None, _score(scores[number], where))


def _as_many(path: Path, values: Any, count: int) -> list[Any]:
    """A list of one value a box; of None where there is none."""
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise PromptError(f"{path.name}: there are as many labels, and as many scores, as boxes, or none.")
    return values


def _case_of(path: Path, cases: Sequence[Mapping[str, Any]], scan: Volume) -> Mapping[str, Any]:
    if len(cases) == 1:
        return cases[0]
    name = None if scan.source is None else scan.source.name
    mine = [one for one in cases if isinstance(one.get("image"), str) and Path(one["image"]).name == name]
    if len(mine) != 1:
        raise PromptError(f"{path.name} is about {len(cases)} images, and {len(mine)} of them are called as this scan.")
    return mine[0]


def _corners(numbers: Sequence[float], mode: str) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.array(numbers[:3]), np.array(numbers[3:])
    if mode == "cccwhd":
        return first - second / 2, first + second / 2
    return (first, first + second) if mode == "xyzwhd" else (first, second)


def _voxels(low: np.ndarray, high: np.ndarray, space: str, scan: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Millimetres -> half-open voxels: of the box round the eight corners, which an oblique scan turns."""
    if not scan.geometry.calibrated:
        raise PromptError("The boxes are in millimetres, and this scan has none.")
    corners = np.array([[(low, high)[n >> axis & 1][axis] for axis in range(3)] for n in range(8)])
    if space == "ras":
        corners = corners * np.array([-1, -1, 1])
    # an index names a pixel's centre, an edge counts from its border
    edges = scan.geometry.to_voxel(corners) + 0.5
    return edges.min(axis=0), edges.max(axis=0)


def _is_nndetection(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and bool(document)
        and all(isinstance(one, dict) and "box" in one for one in document.values())
    )


def _of_nndetection(path: Path, document: Any, scan: Volume) -> Iterator[FoundBox]:
    for key, one in document.items():
        where = f"{path.name}, box {str(key)[:20]}"
        k0, j0, k1, j1, i0, i1 = _numbers(one["box"], 6, where)
        score, label = _score(one.get("score"), where), one.get("label", one.get("class", 1))
        yield FoundBox(str(label), (i0 + 1, j0 + 1, k0 + 1, i1, j1, k1), None, score)


# -- numbers ----------------------------------------------------------------------------------------------------------


def _dicts(path: Path, value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise PromptError(f"{path.name}: a list of objects is something else.")
    return value


def _numbers(value: Any, count: int, where: str) -> list[float]:
    good = isinstance(value, list) and len(value) == count
    if not good or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        raise PromptError(f"{where}: a box has {count} numbers.")
    numbers = [float(one) for one in value]
    if not all(math.isfinite(one) and abs(one) < 1e7 for one in numbers):
        raise PromptError(f"{where}: a box has finite numbers.")
    return numbers


def _score(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PromptError(f"{where}: a score lies between 0 and 1.")
    return float(value)


# -- onto the scan ----------------------------------------------------------------------------------------------------


def _prompt(box: FoundBox, name: str, scan: Volume, axis: Axis) -> Prompt | None:
    """A box inside the scan; None for one beyond it."""
    plane = scan.geometry.plane(axis)
    if box.slice is not None:
        sides, index = (plane.shape[1], plane.shape[0]), box.slice
        low, high = _inside(box.corners[:2], box.corners[2:], sides)
        if index >= plane.count or (high - low).min() < 1:
            return None
        return Prompt(name, box=(low[0], low[1], high[0], high[1]), slice=index)
    low, high = _inside(np.floor(box.corners[:3]), np.ceil(box.corners[3:]), scan.geometry.shape[::-1])
    if (high - low).min() < 1:
        return None
    if scan.geometry.shape[2 - AXES.index(axis)] == 1:
        # a picture
        number = AXES.index(axis)
        flat_low, flat_high = np.delete(low, number), np.delete(high, number)
        return Prompt(name, box=(flat_low[0], flat_low[1], flat_high[0], flat_high[1]), slice=0)
    return Prompt(name, box3d=(low[0], low[1], low[2], high[0], high[1], high[2]))


def _inside(low: Any, high: Any, sides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.clip(low, 0, sides).astype(float), np.clip(high, 0, sides).astype(float)


def _loosened(prompt: Prompt, scan: Volume, axis: Axis, by: float, in_mm: bool) -> Prompt:
    """A box with its edges moved outwards within its slices, as far as the scan goes."""
    if not by or (prompt.box is None and prompt.box3d is None):
        return prompt
    geometry, plane = scan.geometry, scan.geometry.plane(axis)
    if prompt.box is not None:
        pixel = plane.spacing_mm[::-1] if in_mm else (1.0, 1.0)
        step = np.array([by / length for length in pixel])
        low, high = _inside(prompt.box[:2] - step, prompt.box[2:] + step, (plane.shape[1], plane.shape[0]))
        return replace(prompt, box=(low[0], low[1], high[0], high[1]))
    if prompt.box3d is None:
        return prompt
    pixel3 = geometry.spacing_mm[::-1] if in_mm else (1.0, 1.0, 1.0)
    step = np.array([by / length for length in pixel3])
    step[AXES.index(axis)] = 0.0  # no more slices
    low, high = _inside(prompt.box3d[:3] - step, prompt.box3d[3:] + step, geometry.shape[::-1])
    return replace(prompt, box3d=(low[0], low[1], low[2], high[0], high[1], high[2]))
