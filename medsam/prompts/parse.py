"""Prompts as people write them: on the command line, and in prompts files (JSON, see docs/prompts.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.files import write_text
from medsam.geometry import AXES, Axis
from medsam.io.files import read_json
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt, as_prompts

_BOX = re.compile(r"^(?:(?P<slice>-?\d{1,9}):)?(?P<corners>[^=:]+)(?:=(?P<label>.*))?$")


def parse_box(text: str) -> Prompt:
    """`[S:]X0,Y0,X1,Y1[=LABEL]`, as typed for one box. Raises PromptError showing what was typed."""
    match = _BOX.match(text.strip())
    try:
        corners = tuple(float(number) for number in match["corners"].split(",")) if match else ()
    except ValueError:
        corners = ()
    if match is None or len(corners) != 4:
        raise PromptError(
            f"`box` {text!r} is not [SLICE:]X0,Y0,X1,Y1[=LABEL], for example 41:120,88,212,176=spleen.", parameter="box"
        )
    label = DEFAULT_LABEL if match["label"] is None else match["label"].strip()
    index = None if match["slice"] is None else int(match["slice"])
    return Prompt(label, box=corners, slice=index)


_POINT = re.compile(r"^(?:(?P<slice>-?\d{1,9}):)?(?P<x>[^,=:]+),(?P<y>[^,=:]+?)(?P<side>[+-])?(?:=(?P<label>.*))?$")


def parse_point(text: str) -> Prompt:
    """`[S:]X,Y[+|-][=LABEL]`, as typed for one point; + (inside) when left out. PromptError showing what was typed."""
    match = _POINT.match(text.strip())
    try:
        if match is None:
            raise ValueError
        point = (float(match["x"]), float(match["y"]), 0 if match["side"] == "-" else 1)
    except ValueError:
        raise PromptError(
            f"`point` {text!r} is not [SLICE:]X,Y[+|-][=LABEL], for example 41:101,77=kidney, or 41:120,90-=kidney for "
            "a point outside it.",
            parameter="point",
        ) from None
    label = DEFAULT_LABEL if match["label"] is None else match["label"].strip()
    index = None if match["slice"] is None else int(match["slice"])
    return Prompt(label, slice=index, points=(point,))


def read_prompts(path: Path, load_mask: Callable[[Path], np.ndarray] | None = None) -> tuple[list[Prompt], Axis | None]:
    """A prompts file (JSON): `{"axis": "k", "prompts": [{"label", "slice", "box", "box3d", "points", "mask"}, ...]}`.

    "points" are [x, y, 1 or 0]; "mask" is a file, its path relative to the prompts file, or a mask as `write_prompts`
    writes it.
    load_mask: reads such a file as bool (K, J, I) on the grid of the scan; called once a file. Without it
        the name of one is refused.
    Returns the prompts and the axis, None when the file leaves it open. Raises PromptError naming the entry, and
    InputError naming it when its mask cannot be read.
    """
    try:
        document = read_json(Path(path))
    except InputError as error:
        raise PromptError(f"The prompts file {Path(path).name} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("prompts"), list):
        raise PromptError(f'The prompts file {Path(path).name} needs {{"axis": "k", "prompts": [...]}}.')
    unknown = document.keys() - {"axis", "prompts"}
    if unknown:
        raise PromptError(f"The prompts file {Path(path).name} has unknown keys: {', '.join(sorted(unknown))[:200]}.")
    axis = document.get("axis")
    if axis is not None and axis not in AXES:
        raise PromptError(f"The axis in {Path(path).name} is {str(axis)[:60]}; it is one of i, j, k.")
    loaded: dict[Path, np.ndarray] = {}

    def mask_of(name: str) -> np.ndarray:
        file = Path(path).parent / name
        if file not in loaded:
            loaded[file] = load_mask(file)  # type: ignore[misc]
        return loaded[file]

    prompts = []
    for number, entry in enumerate(document["prompts"]):
        try:
            prompts.append(Prompt.from_dict(entry, None if load_mask is None else mask_of))
        except (PromptError, InputError) as error:
            kind = PromptError if isinstance(error, PromptError) else InputError
            raise kind(f"Prompt {number} of {Path(path).name}: {error}") from error
    return prompts, axis


def prompts_document(prompts: Prompt | Iterable[Prompt], axis: Axis | None = None) -> dict[str, Any]:
    """What `write_prompts` writes, ready for JSON. Raises PromptError when there are no prompts."""
    entries = [prompt.to_dict() for prompt in as_prompts(prompts)]
    return ({} if axis is None else {"axis": axis}) | {"prompts": entries}


def prompts_text(prompts: Prompt | Iterable[Prompt], axis: Axis | None = None) -> str:
    """The text of a prompts file, an entry a line. Raises PromptError when there are no prompts."""
    document = prompts_document(prompts, axis)
    lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in document.pop("prompts"))
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in document.items())
    return f'{{{head}"prompts": [\n  {lines}\n]}}\n'


def write_prompts(
    path: str | Path, prompts: Prompt | Iterable[Prompt], axis: Axis | None = None, *, force: bool = False
) -> None:
    """Write a prompts file, which `read_prompts` and `medsam segment --prompts` read as these prompts on that axis.

    Masks are written inline. force: also over a file that holds something else, as a person may have edited it.
    Raises PromptError when there are no prompts or such a file is in the way, OSError when it cannot be written.
    """
    path, text = Path(path), prompts_text(prompts, axis)
    if not force and path.exists() and path.read_bytes() != text.encode():
        raise PromptError(f"{path} is there already and holds something else. Name another, or allow to overwrite it.")
    write_text(path, text)
