"""Prompts as people write them: on the command line, and in prompts files (JSON, see docs/prompts.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.files import write_text
from medsam.geometry import AXES, Axis
from medsam.io.files import read_json
from medsam.io.save import check_target
from medsam.prompts.masks import chosen, mask_prompts
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt, as_prompts
from medsam.prompts.strokes import Scribble

_TYPED = re.compile(r"^(?:(?P<slice>-?\d{1,9}):)?(?P<numbers>[^=:]+)(?:=(?P<label>.*))?$")
_SIDE = re.compile(r"^(?P<numbers>.*?)(?P<side>[+-])?(?:@(?P<width>[^@]*?)(?P<unit>px|mm)?)?$")


def parse_box(text: str) -> Prompt:
    """`[S:]X0,Y0,X1,Y1[=LABEL]`, as typed for one box. Raises PromptError showing what was typed."""
    found = _typed(text, "box", "[SLICE:]X0,Y0,X1,Y1[=LABEL], for example 41:120,88,212,176=spleen")
    return Prompt(found.label, box=found.row(4), slice=found.slice)


def parse_ellipse(text: str) -> Prompt:
    """`[S:]X0,Y0,X1,Y1[=LABEL]`, the box it is inscribed in. Raises PromptError showing what was typed."""
    found = _typed(text, "ellipse", "[SLICE:]X0,Y0,X1,Y1[=LABEL], for example 12:30,40,52,66=lens")
    return Prompt(found.label, ellipse=found.row(4), slice=found.slice)


def parse_line(text: str) -> Prompt:
    """`[S:]X0,Y0,X1,Y1[=LABEL]`, from end to end. Raises PromptError showing what was typed."""
    found = _typed(text, "line", "[SLICE:]X0,Y0,X1,Y1[=LABEL], for example 12:30,40,52,66=node")
    x0, y0, x1, y1 = found.row(4)
    return Prompt(found.label, lines=(((x0, y0), (x1, y1)),), slice=found.slice)


def parse_lasso(text: str) -> Prompt:
    """`[S:]X,Y;X,Y;X,Y...[=LABEL]`. Raises PromptError showing what was typed."""
    found = _typed(text, "lasso", '[SLICE:]X,Y;X,Y;X,Y...[=LABEL], for example "33:30,40;52,41;50,66;31,60=cyst"')
    return Prompt(found.label, lasso=found.rows(2), slice=found.slice)


def parse_point(text: str) -> Prompt:
    """`[S:]X,Y[+|-][=LABEL]`, as typed for one point; + (inside) when left out. PromptError showing what was typed."""
    how = "[SLICE:]X,Y[+|-][=LABEL], for example 41:101,77=kidney, or 41:120,90-=kidney for a point outside it"
    found = _typed(text, "point", how)
    if found.width is not None:
        raise found.wrong()
    x, y = found.row(2)
    return Prompt(found.label, slice=found.slice, points=((x, y, found.inside),))


def parse_scribble(text: str) -> Prompt:
    """`[S:]X,Y;X,Y;...[+|-][@WIDTH_MM|@WIDTHpx][=LABEL]`, as typed for one stroke; + (inside) when left out.

    Raises PromptError showing what was typed.
    """
    how = (
        '[SLICE:]X,Y;X,Y;...[+|-][@WIDTH_MM][=LABEL], for example "33:10,12;14,15;20,15@2=vessel", with - before the '
        "@ for a stroke outside it, and @3px for a pen 3 pixels wide"
    )
    found = _typed(text, "scribble", how)
    width_px = found.width if found.unit == "px" else None
    width_mm = found.width if found.unit != "px" else None
    points = found.rows(2)
    try:
        scribble = Scribble(points, bool(found.inside), width_mm, width_px)
    except PromptError as error:
        # which of several it is
        raise PromptError(f"`scribble` {text!r}: {error}", parameter="scribble") from error
    return Prompt(found.label, slice=found.slice, scribbles=(scribble,))


def parse_text(text: str) -> Prompt:
    """`NAME`, of a structure. Raises PromptError for none."""
    return Prompt(text=text)


# what is typed -> how it is read
PARSERS: Mapping[str, Callable[[str], Prompt]] = {
    "box": parse_box,
    "point": parse_point,
    "scribble": parse_scribble,
    "lasso": parse_lasso,
    "line": parse_line,
    "ellipse": parse_ellipse,
    "text": parse_text,
}


@dataclass(frozen=True)
class _Typed:
    """What was typed for an argument, in its parts. how: it is to be typed."""

    text: str
    argument: str
    how: str
    slice: int | None
    label: str
    numbers: str
    inside: int = 1
    width: float | None = None
    unit: str | None = None

    def wrong(self) -> PromptError:
        return PromptError(f"`{self.argument}` {self.text!r} is not {self.how}.", parameter=self.argument)

    def rows(self, count: int) -> tuple[Any, ...]:
        """`count` numbers each, with a semicolon between them."""
        try:
            rows = [tuple(float(number) for number in row.split(",")) for row in self.numbers.split(";")]
        except ValueError:
            raise self.wrong() from None
        if any(len(row) != count for row in rows):
            raise self.wrong()
        return tuple(rows)

    def row(self, count: int) -> Any:
        rows = self.rows(count)
        if len(rows) != 1:
            raise self.wrong()
        return rows[0]


def _typed(text: str, argument: str, how: str) -> _Typed:
    """The parts of an argument. Points and scribbles say a side, scribbles a width. Raises PromptError."""
    match = _TYPED.match(text.strip())
    if match is None:
        raise PromptError(f"`{argument}` {text!r} is not {how}.", parameter=argument)
    label = DEFAULT_LABEL if match["label"] is None else match["label"].strip()
    index = None if match["slice"] is None else int(match["slice"])
    found = _Typed(text, argument, how, index, label, match["numbers"])
    if argument not in ("point", "scribble"):
        return found
    side = _SIDE.match(match["numbers"])
    if side is None:
        raise found.wrong()
    try:
        width = None if side["width"] is None else float(side["width"])
    except ValueError:
        raise found.wrong() from None
    found = replace(found, numbers=side["numbers"], inside=0 if side["side"] == "-" else 1)
    return replace(found, width=width, unit=side["unit"])


def read_prompts(
    path: Path,
    load_mask: Callable[[Path], np.ndarray] | None = None,
    load_masks: Callable[[Path], Mapping[str, np.ndarray]] | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
) -> tuple[list[Prompt], Axis | None]:
    """A prompts file (JSON): `{"axis": "k", "prompts": [{"label", "slice", "box", "points", "mask", ...}, ...]}`.

    Every key is in docs/prompts.md. "mask" is a file, its path relative to the prompts file, or a mask as
    `write_prompts` writes it. Of a file with several structures "structure" names one; "structures", a list of names or
    "all", makes a prompt of each, labelled by its name.
    load_mask: reads such a file as bool (K, J, I) on the grid of the scan; called once a file. Without it
        the name of one is refused. load_masks: reads its structures by name, likewise.
    shape: (K, J, I) of the scan; a mask written inline that cannot fit it is refused before memory is taken for it.
    Returns the prompts and the axis, None when the file leaves it open. Raises PromptError naming the entry, and
    InputError naming it when its mask cannot be read.
    """
    path = Path(path)
    try:
        document = read_json(path)
    except InputError as error:
        raise PromptError(f"The prompts file {path.name} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("prompts"), list):
        raise PromptError(f'The prompts file {path.name} needs {{"axis": "k", "prompts": [...]}}.')
    unknown = document.keys() - {"axis", "prompts"}
    if unknown:
        raise PromptError(f"The prompts file {path.name} has unknown keys: {', '.join(sorted(unknown))[:200]}.")
    axis = document.get("axis")
    if axis is not None and axis not in AXES:
        raise PromptError(f"The axis in {path.name} is {str(axis)[:60]}; it is one of i, j, k.")
    mask_of, masks_of = _once_a_file(path.parent, load_mask), _once_a_file(path.parent, load_masks)
    prompts = []
    for number, entry in enumerate(document["prompts"]):
        try:
            for part, load in _each_structure(entry, mask_of, masks_of):
                prompts.append(Prompt.from_dict(part, load, shape))
        except (PromptError, InputError) as error:
            kind = PromptError if isinstance(error, PromptError) else InputError
            raise kind(f"Prompt {number} of {path.name}: {error}") from error
    return prompts, axis


Loaded = TypeVar("Loaded")


def _once_a_file(folder: Path, load: Callable[[Path], Loaded] | None) -> Callable[[str], Loaded] | None:
    """`load` by the name of a file in `folder`, called once for each."""
    loaded: dict[Path, Loaded] = {}

    def by_name(name: str) -> Loaded:
        file = folder / name
        if file not in loaded:
            loaded[file] = load(file)  # type: ignore[misc]
        return loaded[file]

    return None if load is None else by_name


MaskByName = Callable[[str], np.ndarray]


def _each_structure(
    entry: Any, mask_of: MaskByName | None, masks_of: Callable[[str], Mapping[str, np.ndarray]] | None
) -> Iterator[tuple[Any, MaskByName | None]]:
    """An entry, or one for each structure that it asks of a file, and what reads the mask of it."""
    if not (isinstance(entry, dict) and entry.keys() & {"structure", "structures"}):
        yield entry, mask_of
        return
    name, wanted = _asked(entry)
    if masks_of is None:
        raise PromptError('"mask" names a file, and masks in files are not read here; give a box or points.')
    masks, file = masks_of(name), Path(name).name
    if wanted is None:
        wanted = [prompt.label for prompt in mask_prompts(masks, file, [])]
    rest = {key: value for key, value in entry.items() if key not in ("structure", "structures")}
    for theirs, label in chosen(masks, wanted, file).items():
        yield {"label": label, **rest}, partial(_mask_in, masks, theirs)


def _mask_in(masks: Mapping[str, np.ndarray], structure: str, name: str) -> np.ndarray:
    """One of the masks; the name of their file is known already."""
    return masks[structure]


def _asked(entry: Mapping[str, Any]) -> tuple[str, list[str] | None]:
    """The file in "mask", and which of its structures are asked for; None for all. PromptError for anything else."""
    name = entry.get("mask")
    if "structure" in entry and "structures" in entry:
        raise PromptError('it has both "structure", for one of them, and "structures", for several.')
    if not (isinstance(name, str) and name.strip()):
        raise PromptError('"structure" and "structures" say which ones of the file in "mask" are meant.')
    if "structure" in entry:
        if not isinstance(entry["structure"], str):
            raise PromptError(f'"structure" is {str(entry["structure"])[:100]}, not a name.')
        return name, [entry["structure"]]
    wanted = entry["structures"]
    if entry.keys() - {"mask", "slice", "structures"}:
        raise PromptError('"structures" are labelled by their names, and go with "mask" and "slice" alone.')
    if wanted == "all":
        return name, None
    if not (isinstance(wanted, list) and wanted and all(isinstance(one, str) for one in wanted)):
        raise PromptError(f'"structures" is {str(wanted)[:100]}, not "all" or a list of names.')
    return name, wanted


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
    Raises PromptError when there are no prompts or such a file is in the way, InputError when it cannot be written.
    """
    path, text = Path(path), prompts_text(prompts, axis)
    check_target(path)
    try:
        if not force and path.exists() and path.read_bytes() != text.encode():
            raise PromptError(
                f"{path} is there already and holds something else. Name another, or allow to overwrite it."
            )
        write_text(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
