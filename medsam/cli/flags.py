"""Names of arguments, as errors and remarks give them, shown as options (`max_mm`: --max-mm); lists of names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from medsam.errors import InputError

# an argument in Python -> the option's name where it is another one
_OPTIONS = {"prompts": "prompt", "values": "keep_range", "locked": "lock", "spared": "lock"}
# an argument in Python -> the option that it is a part of, and how it is typed there
_PARTS = {"width_px": ("scribble", "@WIDTHpx")}


def with_flags(text: str, names: Iterable[str], arguments: argparse.Namespace) -> str:
    """`text` with those of the `names` in backquotes in it that are options of this command written as such."""
    for name in names:
        options = (option for option in (name, _OPTIONS.get(name)) if option and hasattr(arguments, option))
        if (option := next(options, None)) is not None:
            text = text.replace(f"`{name}`", f"--{option.replace('_', '-')}")
        elif name in _PARTS and hasattr(arguments, _PARTS[name][0]):
            text = text.replace(f"`{name}`", _PARTS[name][1])
    return text


def check_count(value: int | None, name: str) -> None:
    """Raise InputError where a number of things is asked for that is below 1. name: of the argument."""
    if value is not None and value < 1:
        raise InputError(f"`{name}` is a whole number from 1, not {value}.", parameter=name)


def comma_names(text: str) -> list[str]:
    """ "a,b" or "0018,0050" -> its names; the halves of a tag stay together."""
    parts = [part.strip() for part in re.split(r",(?![0-9a-fA-F]{4}\b)|(?<![0-9a-fA-F]{4}),", text)]
    return [part for part in parts if part]
