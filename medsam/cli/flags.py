"""Names of arguments, as errors and remarks give them, shown as options: `max_mm` becomes --max-mm."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

# an argument in Python -> the option's name where it is another one
_OPTIONS = {"prompts": "prompt"}


def with_flags(text: str, names: Iterable[str], arguments: argparse.Namespace) -> str:
    """`text` with those of the `names` in backquotes in it that are options of this command written as such."""
    for name in names:
        options = (option for option in (name, _OPTIONS.get(name)) if option and hasattr(arguments, option))
        if (option := next(options, None)) is not None:
            text = text.replace(f"`{name}`", f"--{option.replace('_', '-')}")
    return text
