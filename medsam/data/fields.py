"""Values of a manifest's keys, checked.

Each function takes what JSON holds, gives the value, None for a key that is left out, and raises InputError for
anything else. where, what: the place in the file, which opens each message.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from medsam.data.manifest import Label, Split
from medsam.data.words import split_word
from medsam.errors import InputError, printable
from medsam.io.files import is_whole
from medsam.io.label_map import Ignore

_MAX_LABEL = 2**32 - 1  # what the integers of any label format hold


def check_keys(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise InputError for a key that is not known, with the one that may be meant."""
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known are {', '.join(known)}."
            raise InputError(f"{where} has an unknown key {key!r}.{hint}")


def text(content: Mapping[str, Any], key: str, where: str) -> str | None:
    """Words of one line; `notes` may have several."""
    value = content.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: `{key}` is {kind(value)}, not a text.")
    if key != "notes":
        check_letters(value, f"{where}: `{key}`")
    return value.strip()


def check_letters(text: str, what: str) -> None:
    """Raise InputError for what is no letter: control characters, and halves of a character (no file can hold them)."""
    if printable(text) != text or "\n" in text:
        raise InputError(f"{what} holds control characters or broken letters: {printable(text)!r}.")


def count(value: object, what: str) -> int | None:
    """A whole number from 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_LABEL:
        raise InputError(f"{what} is {value!r}; expected a whole number from 0.")
    return value


def number(value: object, what: str) -> float | None:
    """A finite number."""
    if value is None:
        return None
    if not _is_number(value):
        raise InputError(f"{what} is {value!r}, not a number.")
    return float(value)


def spacing_mm(value: object, where: str) -> tuple[float, float, float] | None:
    """Three numbers above 0, for (i, j, k)."""
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 3 and all(_is_number(v) and v > 0 for v in value)):
        raise InputError(f"{where}: `spacing_mm` is {value!r}; expected three numbers above 0, for i, j, k.")
    return float(value[0]), float(value[1]), float(value[2])


def split_of(value: object, where: str) -> Split | None:
    """A word for a side of a split, as `split_word` knows them."""
    if value is None:
        return None
    split = split_word(value) if isinstance(value, str) else None
    if split is None:
        raise InputError(f"{where}: `split` is {value!r}; expected train, val or test.")
    return split


def case_id(value: object, where: str) -> str:
    """A text or a whole number that can be part of a file name."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InputError(f"{where}: its `id` is {kind(value)}, not a text.")
    check_id(value, where)
    return value


def check_id(name: str, where: str) -> None:
    """Raise InputError unless `name` can be part of a file name on every system."""
    check_letters(name, f"{where}: its `id`")
    if not name or name.startswith(".") or name != name.strip() or re.search(r'[\\/:*?"<>|]', name):
        raise InputError(f'{where}: its `id` must be fit for a file name: no / \\ : * ? " < > | and no leading dot.')


def patient(value: object, where: str) -> str:
    """A text or a whole number."""
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise InputError(f"{where}: `patient` is {kind(value)}; expected a name that tells patients apart.")
    check_letters(str(value), f"{where}: `patient`")
    return str(value)


def aliases_of(value: object, where: str) -> dict[str, str]:
    """Name in the file -> structure."""
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise InputError(f"{where}: `aliases` is no object of name in the file: structure.")
    for structure in value.values():
        check_letters(structure, f"{where}: a structure in `aliases`")
    return dict(value)


def attributes_of(value: object, where: str) -> dict[str, str | float]:
    """Name -> a text or a number; one that is null is left out."""
    if not isinstance(value, dict):
        raise InputError(f'{where}: `attributes` is {kind(value)}, not an object such as {{"sex": "F"}}.')
    found: dict[str, str | float] = {}
    for name, stated in value.items():
        what = f"{where}: {name!r} in `attributes`"
        check_letters(name, what)
        if stated is None:
            continue
        if not _is_number(stated) and not (isinstance(stated, str) and stated.strip()):
            raise InputError(f"{what} is {kind(stated)}; expected a text or a number.")
        if isinstance(stated, str):
            check_letters(stated, what)
        found[name] = " ".join(stated.split()) if isinstance(stated, str) else stated
    return found


def label_of(value: object, base: Path, where: str) -> Label | None:
    """A file, or structure -> file or files. base: what paths are relative to."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return path_of(value, base, f"{where}: `label`")
    if not value:
        raise InputError(f"{where}: `label` is empty. Leave it out for a case without a reference.")
    masks: dict[str, tuple[Path, ...]] = {}
    for name, files in value.items():
        listed = files if isinstance(files, list) else [files]
        if not listed:
            raise InputError(f"{where}: `label` lists no file for {name!r}.")
        masks[name] = tuple(path_of(file, base, f"{where}: `label` of {name!r}") for file in listed)
    return masks


def path_of(value: object, base: Path, what: str) -> Path:
    """A path that need not be there. base: what it is relative to."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{what} is {kind(value)}, not a path.")
    try:
        os.fsencode(value)  # bytes that are no UTF-8 come as surrogates and are a name on this disk; other ones are not
    except UnicodeEncodeError:
        raise InputError(f"{what} holds a letter that no file name can have: {value!r}.") from None
    return Path(os.path.normpath(base / value))


def labels_of(value: object, where: str) -> dict[str, int]:
    """Structure -> value, without the background.

    Decathlon has it the other way round ({"1": "liver"}); both are read.
    """
    if not isinstance(value, dict):
        raise InputError(f'{where}: `labels` is {kind(value)}, not an object such as {{"liver": 1}}.')
    if value and all(is_whole(str(key)) for key in value) and all(isinstance(name, str) for name in value.values()):
        value = _inverted(value, where)
    labels: dict[str, int] = {}
    for name, stated in value.items():
        number = _label_value(name, stated, where)
        check_letters(name, f"{where}: a label's name")
        if not name.strip():
            raise InputError(f"{where}: label {number} has no name.")
        if number == 0:
            continue
        twin = next((other for other, taken in labels.items() if taken == number), None)
        if twin is not None:
            raise InputError(f"{where}: {twin!r} and {name!r} have the same label value {number}.")
        labels[name] = number
    return labels


def _label_value(name: str, number: object, where: str) -> int:
    if isinstance(number, str) and is_whole(number):
        number = int(number)
    if isinstance(number, list):
        raise InputError(
            f"{where}: `labels` makes {name!r} a region of several values {number}; regions are not supported. "
            "Write a manifest that names each value."
        )
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_LABEL:
        shown = repr(number) if len(repr(number)) < 30 else f"{repr(number)[:30]}..."
        raise InputError(f"{where}: the label {name!r} has the value {shown}; expected a whole number from 0.")
    return number


def _inverted(value: Mapping[str, str], where: str) -> dict[str, int]:
    labels: dict[str, int] = {}
    for number, name in value.items():
        if name in labels and int(number) != 0:
            raise InputError(f"{where}: `labels` gives the name {name!r} to {labels[name]} and {number}.")
        labels[name] = int(number)
    return labels


def ignore_of(value: object, where: str) -> Ignore:
    """Label values that count as background, or "others"."""
    if value == "others":
        return "others"
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(v, int) and not isinstance(v, bool) and abs(v) <= _MAX_LABEL for v in listed):
        raise InputError(f'{where}: `ignore` is {value!r}; expected label values, or "others".')
    return tuple(listed)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def kind(value: object) -> str:
    """What JSON holds, for a message."""
    if value is None:
        return "missing"
    if isinstance(value, Collection) and len(value) == 0:
        return "empty"
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(type(value), repr(value))
