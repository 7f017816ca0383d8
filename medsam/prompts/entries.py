"""An entry of a prompts file: a prompt as JSON has it, and back (docs/prompts.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.masks import CompactMask
from medsam.prompts.strokes import Scribble
from medsam.prompts.values import Box, Line, Position

if TYPE_CHECKING:
    from medsam.prompts.prompt import Prompt

_KEYS = {
    "label", "box", "box3d", "slice", "points", "mask", "drawn", "scribbles", "lasso", "line", "lines", "ellipse",
    "text",
}  # fmt: skip


def to_entry(prompt: Prompt) -> dict[str, Any]:
    """Ready for JSON: what is left out is not there, and a mask is written inline."""
    entry: dict[str, Any] = {"label": prompt.label}
    if prompt.text is not None:
        return {**entry, "text": prompt.text}
    if prompt.slice is not None:
        entry["slice"] = prompt.slice
    for name in ("box", "box3d"):
        if (corners := getattr(prompt, name)) is not None:
            entry[name] = [_plain(number) for number in corners]
    if prompt.points:
        entry["points"] = [[_plain(x), _plain(y), inside] for x, y, inside in prompt.points]
    entry |= drawn_entry(prompt)
    for name in ("mask", "drawn"):
        if (mask := getattr(prompt, name)) is not None:
            entry[name] = CompactMask.of(mask).to_dict()
    return entry


class Drawn(Protocol):
    """What may have been drawn on a slice."""

    @property
    def ellipse(self) -> Box | None: ...
    @property
    def lasso(self) -> tuple[Position, ...] | None: ...
    @property
    def lines(self) -> tuple[Line, ...]: ...
    @property
    def scribbles(self) -> tuple[Scribble, ...]: ...


def drawn_entry(drawn: Drawn) -> dict[str, Any]:
    """The part of an entry that is drawn by hand."""
    entry: dict[str, Any] = {}
    if drawn.ellipse is not None:
        entry["ellipse"] = [_plain(number) for number in drawn.ellipse]
    if drawn.lasso is not None:
        entry["lasso"] = _rows(drawn.lasso)
    if drawn.lines:
        lines = [_rows(line) for line in drawn.lines]
        entry |= {"line": lines[0]} if len(lines) == 1 else {"lines": lines}
    if drawn.scribbles:
        entry["scribbles"] = [_scribble_entry(one) for one in drawn.scribbles]
    return entry


def from_drawn_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of what is drawn by hand in an entry, whose other keys do not count. PromptError as `from_entry`."""
    if "line" in entry and "lines" in entry:
        raise PromptError('it has both "line", for one of them, and "lines", for a long and a short axis.')
    return {
        "ellipse": _numbers(entry, "ellipse", 4),
        "lasso": _numbers_each(entry, "lasso", 2, "[x, y]"),
        "lines": _stated_lines(entry),
        "scribbles": _stated_scribbles(entry.get("scribbles")),
    }


def from_entry(
    entry: Any, load_mask: Callable[[str], np.ndarray] | None, shape: tuple[int, int, int] | None
) -> dict[str, Any]:
    """The fields of a prompt. See `Prompt.from_dict`."""
    if not isinstance(entry, dict):
        raise PromptError(f"it is {type(entry).__name__}, not an object.")
    unknown = entry.keys() - _KEYS
    if unknown:
        raise PromptError(f"it has unknown keys: {', '.join(sorted(map(str, unknown)))[:200]}.")
    label, index = entry.get("label"), entry.get("slice")
    if "label" in entry and not isinstance(label, str):
        raise PromptError(f'"label" is {str(label)[:100]}, not a text.')
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise PromptError(f'"slice" is {str(index)[:100]}, not a whole number.')
    text = entry.get("text")
    if "text" in entry and not (isinstance(text, str) and text.strip()):
        raise PromptError(f'"text" is {str(text)[:100]}, not the name of a structure.')
    fields = {
        "text": text,
        "slice": index,
        "box": _numbers(entry, "box", 4),
        "box3d": _numbers(entry, "box3d", 6),
        "points": tuple(_numbers_each(entry, "points", 3, "[x, y, 1 or 0]") or ()),
        "mask": _stated_mask(entry, "mask", load_mask, shape),
        "drawn": _stated_mask(entry, "drawn", load_mask, shape),
        **from_drawn_entry(entry),
    }
    return fields if label is None else {"label": label, **fields}


def _plain(number: float) -> float:
    """The same number, whole ones without a point, as people write them."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _rows(positions: tuple[tuple[float, float], ...]) -> list[list[float]]:
    return [[_plain(x), _plain(y)] for x, y in positions]


def _scribble_entry(scribble: Scribble) -> dict[str, Any]:
    widths = {name: getattr(scribble, name) for name in ("width_mm", "width_px")}
    given = {name: _plain(width) for name, width in widths.items() if width is not None}
    return {"points": _rows(scribble.points), **given, "inside": scribble.inside}


def _stated_scribbles(value: Any) -> tuple[Scribble, ...]:
    if value is None:
        return ()
    if not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
        raise PromptError(f'"scribbles" is {str(value)[:100]}, not a list of {{"points": [[x, y], ...], "inside"}}.')
    found = []
    for one in value:
        if unknown := one.keys() - {"points", "inside", "width_mm", "width_px"}:
            raise PromptError(f"a scribble has unknown keys: {', '.join(sorted(map(str, unknown)))[:200]}.")
        points, inside = _numbers_each(one, "points", 2, "[x, y]"), one.get("inside", True)
        if not isinstance(inside, bool):
            raise PromptError(f'"inside" is {str(inside)[:100]}, not true or false.')
        for name in ("width_mm", "width_px"):
            if one.get(name) is not None and not _is_numbers([one[name]], 1):
                raise PromptError(f'"{name}" is {str(one[name])[:100]}, not a number.')
        found.append(Scribble(tuple(points or ()), inside, one.get("width_mm"), one.get("width_px")))
    return tuple(found)


def _stated_lines(entry: Mapping[str, Any]) -> Any:
    if entry.get("line") is not None:
        return [_numbers_each(entry, "line", 2, "[x, y], from end to end")]
    lines = entry.get("lines")
    if lines is None:
        return ()
    if not isinstance(lines, list):
        raise PromptError(f'"lines" is {str(lines)[:100]}, not a list of lines [[x, y], [x, y]].')
    return [_numbers_each({"lines": line}, "lines", 2, "lines [[x, y], [x, y]]") for line in lines]


def _stated_mask(
    entry: Mapping[str, Any],
    key: str,
    load_mask: Callable[[str], np.ndarray] | None,
    shape: tuple[int, int, int] | None,
) -> np.ndarray | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, dict):
        size = value.get("size")
        # some bytes of run lengths may stand for a gigabyte
        fitting = None if shape is None else [list(shape), *(list(shape[:n] + shape[n + 1 :]) for n in range(3))]
        if fitting is not None and size not in fitting:
            raise PromptError(
                f'"{key}" has the size {str(size)[:60]}, and the scan has the shape {list(shape or ())} (K, J, I). '
                "Draw it on the grid of the scan, or resample it."
            )
        try:
            return CompactMask.from_dict(value).to_array()
        except InputError as error:
            raise PromptError(f'"{key}": {error}') from error
    if not (isinstance(value, str) and value.strip()):
        raise PromptError(f'"{key}" is {str(value)[:100]!r}, not the name of a file.')
    if load_mask is None:
        raise PromptError(f'"{key}" names a file, and masks in files are not read here; give a box or points.')
    return load_mask(value)


def _numbers(entry: Mapping[str, Any], key: str, count: int) -> Any:
    values = entry.get(key)
    if values is not None and not _is_numbers(values, count):
        raise PromptError(f'"{key}" is {str(values)[:100]}, not a list of {count} numbers.')
    return values


def _numbers_each(entry: Mapping[str, Any], key: str, count: int, what: str) -> Any:
    """A list of lists of `count` numbers. what: each of them, for messages."""
    rows = entry.get(key)
    if rows is not None and not (isinstance(rows, list) and all(_is_numbers(row, count) for row in rows)):
        raise PromptError(f'"{key}" is {str(rows)[:100]}, not a list of {what}.')
    return rows


def _is_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    )
