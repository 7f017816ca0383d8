"""What every reader checks before it trusts a file: that it is one, is JSON, lies where it should.

Reading is bounded by what is there, never by what a file says of itself: a number in a header costs nothing until as
many bytes have been counted.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from medsam.errors import InputError

# nested lists and objects; no file of ours needs ten
_MAX_DEPTH = 64
# digits of a whole number; 64 bits have 19
_MAX_DIGITS = 20


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False also where it cannot be reached, which `check_regular` then reports."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder; False also for what cannot be reached, as a name too long for the disk."""
    try:
        return path.exists()
    except OSError:
        return False


def check_regular(path: Path) -> None:
    """Raise InputError unless `path` is a file with bytes in it: opening a pipe or a device may block for ever."""
    try:
        mode = path.stat().st_mode
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:  # a folder above it may not be entered, or the name is too long or holds \0
        raise InputError(f"{path.name[:80]} cannot be reached: {getattr(error, 'strerror', error)}.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path.name} is a folder, not a file. Name the file in it.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path.name} is a pipe, a socket or a device, not a file. Save it as a file and name that.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path.name} cannot be read: permission denied.")
    if size == 0:
        raise InputError(f"{path.name} is empty (0 bytes). Copy or export it again.")


def beside(path: Path, name: str) -> Path:
    """The data file a header names, which has to lie in the header's folder or below. Raises InputError.

    Whoever writes a header could otherwise have any file of this machine read as voxels.
    """
    try:
        folder, file = path.parent.resolve(), (path.parent / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path.name} names a data file that cannot be reached ({name[:80]}).") from error
    if not file.is_relative_to(folder):
        raise InputError(
            f"{path.name} names a data file outside its own folder ({name[:80]}), which is not read. Put both into one "
            "folder, and the name alone into the header."
        )
    if not file.exists():
        raise InputError(f"{path.name} names the data file {name[:80]}, which is not there. Copy both.")
    check_regular(file)
    return file


def read_json(path: Path, *, unique: bool = False) -> Any:
    """A JSON document (UTF-8, with or without a mark of byte order). Raises InputError when it cannot be read as one.

    unique: a key that an object holds twice is an error, too, as in a file that people edit. Deep nesting and
    whole numbers of too many digits are refused, so that any part of the document can be computed with and printed.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        # Notepad puts a mark of byte order in front
        return parse_json(content.decode("utf-8-sig"), unique=unique)
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {str(error)[:200]}.") from error


def parse_json(text: str, *, unique: bool = False) -> Any:
    """`json.loads` for text from outside: ValueError, and nothing else, for whatever is wrong with it."""
    try:
        document = json.loads(text, parse_int=_whole, object_pairs_hook=_once if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return document
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")


def is_whole(word: str) -> bool:
    """Whether `int` takes a word: no superscripts, which count as digits, and no more digits than it parses."""
    return word.isdecimal() and len(word) <= _MAX_DIGITS


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {max(keys, key=keys.count)!r} twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits)} digits")
    return int(digits)
