"""When two names in a label file are one structure.

Several objects of one name (segments of a SEG, regions of an RTSTRUCT, files of a series) are one structure: a
lesion in three pieces is drawn as three segments called "lesion", and all of them are the lesion. Names are equal
when they are but for case, spaces, "-" and "_". Objects without a name have nothing in common; they stay apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def plain_name(name: str) -> str:
    """A name without what never distinguishes two structures: case, spaces, "-" and "_"."""
    return " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()


def one_line(text: str) -> str:
    """Without what a short text of DICOM cannot hold: control characters, and a backslash, which parts values."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text.replace("\\", "/")).split())


def structure_of_each(names: Iterable[str]) -> list[str]:
    """For each of the names in a file the structure it is a part of: the first name that is equal to it.

    The nameless are "unnamed", "unnamed (2)" and so on.
    """
    first: dict[str, str] = {}
    structures = []
    nameless = 0
    for raw in names:
        name = raw.strip()
        if plain_name(name):
            structures.append(first.setdefault(plain_name(name), name))
        else:
            nameless += 1
            structures.append("unnamed" if nameless == 1 else f"unnamed ({nameless})")
    return structures


def united(structures: Iterable[str], what: str) -> dict[str, list[str]]:
    """Notes on the structures that are made of several objects. what: they are, e.g. "segments"."""
    counts = Counter(structures)
    return {
        name: [f"{count} {what} named {name!r} are read as one structure."]
        for name, count in counts.items()
        if count > 1
    }
