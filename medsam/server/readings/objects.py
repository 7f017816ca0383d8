"""The objects of a reading: what is being outlined, as its reader names and shows it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from medsam.drawing.colours import label_colour
from medsam.errors import InputError
from medsam.io.structure_names import plain_name
from medsam.labels import structure

# Characters of a name: what a DICOM segment label holds.
MOST_LETTERS = 64
# Objects of one reading: what a label map of a byte holds.
MOST_OBJECTS = 255


@dataclass(frozen=True)
class ReadingObject:
    """number: from 1 on, never given twice, the value in exported label maps. name: as the reader has it now.

    label: what the inference session calls it, from its first day on. colour: "#rrggbb". locked: it refuses prompts and
    keeps its pixels.
    """

    number: int
    name: str
    label: str
    colour: str
    visible: bool = True
    locked: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "name": self.name,
            "colour": self.colour,
            "visible": self.visible,
            "locked": self.locked,
        }


def new_object(objects: Iterable[ReadingObject], name: str, colour: str | None = None) -> ReadingObject:
    """One more object. colour: default that of the vocabulary (`medsam.labels`), or of the palette for other names.

    Raises InputError for a name that cannot be one or is taken, and for too many objects.
    """
    there = list(objects)
    if len(there) >= MOST_OBJECTS:
        raise InputError(f"A session has at most {MOST_OBJECTS} objects.")
    number = max((one.number for one in there), default=0) + 1
    name = checked_name(name, there)
    labels = {plain_name(one.label) for one in there}
    label = name if plain_name(name) not in labels else f"{name} ({number})"
    return ReadingObject(number, name, label, usual_colour(name, number) if colour is None else checked_colour(colour))


def usual_colour(name: str, number: int) -> str:
    """The vocabulary's, else one of the palette."""
    known = structure(name)
    if known is None or known.rgb is None:
        return label_colour(number).lower()
    return "#{:02x}{:02x}{:02x}".format(*known.rgb)


def checked_name(name: str, others: Iterable[ReadingObject]) -> str:
    """A name, trimmed. Raises InputError for one that is empty, too long, or that of another object."""
    trimmed = name.strip()
    if not trimmed or len(trimmed) > MOST_LETTERS or any(unicodedata.category(c).startswith("C") for c in trimmed):
        raise InputError(
            f"The `name` of an object has 1 to {MOST_LETTERS} characters, and none that does not show.",
            parameter="name",
        )
    if taken := next((one.name for one in others if plain_name(one.name) == plain_name(trimmed)), None):
        raise InputError(
            f"There is an object with the `name` {taken!r} already. Give this one another, such as {trimmed + ' 2'!r}.",
            parameter="name",
        )
    return trimmed


def checked_colour(colour: str) -> str:
    """ "#rrggbb" in lower case. Raises InputError for anything else."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
        raise InputError('The `colour` of an object is written as "#rrggbb".', parameter="colour")
    return colour.lower()
