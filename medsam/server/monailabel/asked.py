"""What an inference asks for: the `params` of a request as prompts of ours.

Positions are voxel indices [i, j, k] of the image as the client holds it, rounded by the client; a `roi` is
[i0, i1, j0, j1, k0, k1], voxels that are both in, descending where an axis runs against the patient's, and may reach
out of the image. Source: the clients of MONAI Label 0.8.5 (3D Slicer's module, its OHIF extension) and of MITK.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import AXES, Axis, VolumeGeometry
from medsam.inference.slice_request import Zoom
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt
from medsam.prompts.strokes import Scribble
from medsam.prompts.traced import traced
from medsam.server.monailabel.models import MODALITIES, OFFERED, WINDOWS, ZOOMS, Offered

# clicks of one request; letters of a name
_MOST_CLICKS, _LONGEST = 1000, 64
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
# of 3D Slicer, where a request names none
_USUAL = {"background_scribbles": 2, "foreground_scribbles": 3}


@dataclass(frozen=True)
class Wish:
    """What `Predictor.segment` is to be asked. follow: whether it goes through the scan."""

    prompts: tuple[Prompt, ...]
    label: str
    axis: Axis
    window: str
    modality: str | None
    zoom: Zoom
    follow: bool
    max_mm: float


@dataclass(frozen=True)
class Wanted:
    """How the answer is to come. suffix: None: as the image came. packed: whether a NRRD is compressed."""

    suffix: str | None
    packed: bool


def read_params(text: bytes) -> dict[str, Any]:
    """The `params` of a form. Raises PromptError for what is no JSON object."""
    try:
        found = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        raise PromptError("`params` is no JSON.", parameter="params") from None
    if not isinstance(found, dict):
        raise PromptError("`params` is a JSON object.", parameter="params")
    return found


def wanted(params: Mapping[str, Any]) -> Wanted:
    """Raises PromptError for an extension that nothing is written to."""
    suffix = params.get("result_extension")
    if suffix is not None and suffix not in _SUFFIXES:
        raise PromptError(f"`result_extension` is one of {', '.join(_SUFFIXES)}.", parameter="result_extension")
    return Wanted(suffix, params.get("result_compress") is not False)


def wish(
    name: str,
    params: Mapping[str, Any],
    geometry: VolumeGeometry,
    drawn: np.ndarray | None = None,
    *,
    mirrored: bool = False,
) -> Wish:
    """What model `name` of `OFFERED` is asked about an image. drawn: of scribbles, numbers (K, J, I).

    mirrored: the client counts slices k from the other end than the prompts are to.

    Raises PromptError for what says nothing, is malformed or lies outside.
    """
    model = OFFERED[name]
    axis: Axis = "k" if model.flat else _axis(params, geometry)
    last = geometry.shape[0] - 1 if mirrored else None
    label = _label(params)
    prompts: list[Prompt]
    if model.type == "scribbles":
        turned = drawn[::-1] if mirrored and drawn is not None else drawn
        prompts = _strokes(params, label, geometry, axis, turned)
        roi = None
    else:
        roi = _roi(params.get("roi"), geometry, last)
        inside, outside = (_clicks(params.get(key), key, geometry, last) for key in ("foreground", "background"))
        make = _flat if model.flat else _deep
        prompts = make(label, axis, inside, outside, roi)
    if not prompts:
        raise PromptError(f"There is nothing to go by: {_NEEDS[model.type]}.", parameter=("foreground", "roi"))
    return Wish(
        tuple(prompts),
        label,
        axis,
        _choice(params, "window", WINDOWS),
        None if (modality := _choice(params, "modality", MODALITIES)) == "auto" else modality,
        _choice(params, "zoom", ZOOMS),  # type: ignore[arg-type]
        follow=_follows(model, roi),
        max_mm=_max_mm(params, geometry),
    )


def named(structures: Sequence[str], geometry: VolumeGeometry) -> Wish:
    """Structures by name, of label values 1, 2 ... in this order. Raises PromptError for none."""
    if not structures:
        raise PromptError("No head of this server answers any structure without a prompt (medsam models list).")
    prompts = tuple(Prompt(name, text=name) for name in structures)
    return Wish(prompts, structures[0], geometry.acquired_axis, "auto", None, "auto", follow=False, max_mm=math.inf)


_NEEDS = {
    "deepgrow": "click inside the object, or put a box (ROI) round it",
    "scribbles": "draw a stroke inside the object",
}


def _follows(model: Offered, roi: object) -> bool:
    """A box through the volume has a box for each slice: nothing is left to follow."""
    return model.type == "deepgrow" and not model.flat and roi is None


# -- clicks and boxes ---------------------------------------------------------------------------------------------


def _flat(
    label: str,
    axis: Axis,
    inside: list[tuple[int, ...]],
    outside: list[tuple[int, ...]],
    roi: tuple[int, ...] | None,
) -> list[Prompt]:
    """On one slice: that of the last click inside, or outside; of a box alone the one in its middle."""
    if inside or outside:
        index = (inside or outside)[-1][2]
    elif roi is not None:
        # 3D Slicer's `slice` is then an offset in millimetres
        index = (roi[2] + roi[5] - 1) // 2
    else:
        return []
    box = None if roi is None else (roi[0], roi[1], roi[3], roi[4])
    clicks = _on_slices(inside, outside, axis).get(index, ())
    return [Prompt(label, box=box, slice=index, points=clicks)] if box or clicks else []


def _deep(
    label: str,
    axis: Axis,
    inside: list[tuple[int, ...]],
    outside: list[tuple[int, ...]],
    roi: tuple[int, ...] | None,
) -> list[Prompt]:
    """Through the scan: clicks on their slices, and the box on all of its own."""
    prompts = [] if roi is None else [Prompt(label, box3d=roi)]  # type: ignore[arg-type]
    by_slice = _on_slices(inside, outside, axis)
    return [*prompts, *(Prompt(label, slice=index, points=clicks) for index, clicks in sorted(by_slice.items()))]


def _on_slices(
    inside: Sequence[tuple[int, ...]], outside: Sequence[tuple[int, ...]], axis: Axis
) -> dict[int, tuple[tuple[float, float, int], ...]]:
    """Clicks by their slice along an axis."""
    number = AXES.index(axis)
    x, y = (n for n in range(3) if n != number)
    found: dict[int, tuple[tuple[float, float, int], ...]] = {}
    for side, clicks in ((1, inside), (0, outside)):
        for one in clicks:
            found[one[number]] = (*found.get(one[number], ()), (one[x], one[y], side))
    return {index: tuple(dict.fromkeys(clicks)) for index, clicks in found.items()}


def _clicks(value: Any, key: str, geometry: VolumeGeometry, last: int | None) -> list[tuple[int, ...]]:
    """Voxels. last: of the slices, where they are counted from the other end.

    Raises PromptError for what is none, or lies outside."""
    if value is None or value == []:
        return []
    if not isinstance(value, list) or len(value) > _MOST_CLICKS:
        raise PromptError(f"`{key}` is a list of at most {_MOST_CLICKS} voxels [i, j, k].", parameter=key)
    found = []
    sizes = geometry.shape[::-1]
    for one in value:
        numbers = _numbers(one, 3)
        if numbers is None:
            raise PromptError(f"`{key}` holds voxels [i, j, k], and {str(one)[:40]!r} is none.", parameter=key)
        voxel = tuple(math.floor(number + 0.5) for number in numbers)
        if not all(0 <= at < size for at, size in zip(voxel, sizes, strict=True)):
            raise PromptError(
                f"A click of `{key}` lies at {list(voxel)}, and the image has {list(sizes)} voxels (i, j, k).",
                parameter=key,
            )
        found.append(voxel if last is None else (*voxel[:2], last - voxel[2]))
    return found


def _roi(value: Any, geometry: VolumeGeometry, last: int | None) -> tuple[int, ...] | None:
    """(i0, j0, k0, i1, j1, k1), half-open, inside the image. Raises PromptError for what is none, or misses it."""
    if value is None or value == []:
        return None
    numbers = _numbers(value, 6)
    if numbers is None:
        raise PromptError("`roi` is [i0, i1, j0, j1, k0, k1].", parameter="roi")
    low, high = [], []
    for axis, size in enumerate(geometry.shape[::-1]):
        ends = sorted(math.floor(number + 0.5) for number in numbers[2 * axis : 2 * axis + 2])
        low.append(max(ends[0], 0))
        high.append(min(ends[1] + 1, size))
    if any(first >= last for first, last in zip(low, high, strict=True)):
        raise PromptError("The `roi` lies outside of the image.", parameter="roi")
    if last is not None:
        low[2], high[2] = last + 1 - high[2], last + 1 - low[2]
    return (*low, *high)


def _numbers(value: Any, count: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != count:
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < 2**31 for one in value):
        return None
    return [float(one) for one in value]


# -- scribbles ----------------------------------------------------------------------------------------------------


def _strokes(
    params: Mapping[str, Any], label: str, geometry: VolumeGeometry, axis: Axis, drawn: np.ndarray | None
) -> list[Prompt]:
    """Strokes on each slice that has some inside."""
    if drawn is None:
        raise PromptError("Scribbles come as a label map, the file `label` of the form.", parameter="label")
    plane = geometry.plane(axis)
    sides = _sides(params)
    prompts = []
    # along the last axis but two, whatever the slices' own is
    rest = tuple(n for n in range(3) if n != 2 - AXES.index(axis))
    for index in np.flatnonzero((drawn == sides[0]).any(axis=rest)).tolist():
        pixels = plane.take(drawn, index)
        strokes: list[Scribble] = []
        for inside, number in ((True, sides[0]), (False, sides[1])):
            strokes += [Scribble(points, inside) for points in traced(pixels == number)]
        prompts.append(Prompt(label, slice=index, scribbles=tuple(strokes)))
    return prompts


def _sides(params: Mapping[str, Any]) -> tuple[int, int]:
    """The numbers of strokes inside and outside in the label map."""
    found = dict(_USUAL)
    told = params.get("label_info")
    for one in told if isinstance(told, list) else ():
        if not isinstance(one, dict) or one.get("name") not in found:
            continue
        for key in ("id", "idx", "labelID"):
            if isinstance(one.get(key), int) and abs(one[key]) < 2**31:
                found[one["name"]] = one[key]
                break
    return found["foreground_scribbles"], found["background_scribbles"]


# -- the rest -----------------------------------------------------------------------------------------------------


def _label(params: Mapping[str, Any]) -> str:
    """What the client calls the object, where it says so."""
    told = params.get("label_info")
    only = told[0] if isinstance(told, list) and len(told) == 1 else None
    names = [params.get(key) for key in ("label", "selected_label_name")]
    for name in (*names, only.get("name") if isinstance(only, dict) else None):
        if isinstance(name, str) and name.strip() and name.isprintable():
            return name.strip()[:_LONGEST]
    return DEFAULT_LABEL


def _axis(params: Mapping[str, Any], geometry: VolumeGeometry) -> Axis:
    axis = _choice(params, "axis", ("auto", *AXES))
    return geometry.acquired_axis if axis == "auto" else axis  # type: ignore[return-value]


def _choice(params: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
    """One of some words, the first where nothing is said; a whole list is its first. Raises PromptError."""
    value = params.get(key)
    value = value[0] if isinstance(value, list) and value else value
    if value is None or value == "":
        return choices[0]
    if value not in choices:
        raise PromptError(f"`{key}` is one of {', '.join(choices)}.", parameter=key)
    return str(value)


def _max_mm(params: Mapping[str, Any], geometry: VolumeGeometry) -> float:
    """How far it is followed; 0 and nothing: as far as it goes. Raises PromptError."""
    value = params.get("max_mm")
    try:
        reach = float(value) if value not in (None, "") else 0.0
    except (TypeError, ValueError, OverflowError):
        reach = -1.0
    if not 0 <= reach < math.inf:
        raise PromptError("`max_mm` is a number of millimetres from 0, which is as far as it goes.", parameter="max_mm")
    return reach if reach and geometry.calibrated else math.inf
