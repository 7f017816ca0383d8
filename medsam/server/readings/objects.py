"""The objects of a reading: what is being outlined, as its reader names and shows it.

The store numbers them, from 1 on and none twice; the inference session knows them by number alone (`label_of`), so a
new name changes nothing there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import replace

from medsam.drawing.colours import label_colour
from medsam.errors import InputError, MedSAMError
from medsam.io.structure_names import plain_name
from medsam.labels import structure
from medsam.prompts.limits import Limits
from medsam.store.records import StoredObject

# characters of a name: what a DICOM segment label holds
_MOST_LETTERS = 64
# of one reading: what a label map of a byte holds
MOST_OBJECTS = 255

_LABEL = "object "


def label_of(number: int) -> str:
    """What the session of a reading calls an object."""
    return f"{_LABEL}{number}"


def number_of(label: str) -> int:
    """The other way."""
    return int(label.removeprefix(_LABEL))


def checked_new(
    objects: Iterable[StoredObject], name: str, colour: str | None = None, gone: Collection[int] = ()
) -> tuple[str, str]:
    """Name and colour of one more object. colour: default that of the vocabulary (`medsam.labels`), or of the palette.

    gone: numbers of those that were removed, whose names are free.

    Raises InputError for a name that cannot be one or is taken, and for too many objects.
    """
    there = list(objects)
    if len(there) >= MOST_OBJECTS:
        raise InputError(f"A session has at most {MOST_OBJECTS} objects.")
    name = checked_name(name, (one for one in there if one.number not in gone))
    return name, usual_colour(name, len(there) + 1) if colour is None else checked_colour(colour)


def usual_colour(name: str, number: int) -> str:
    """The vocabulary's, else one of the palette."""
    known = structure(name)
    if known is None or known.rgb is None:
        return label_colour(number).lower()
    return "#{:02x}{:02x}{:02x}".format(*known.rgb)


def checked_name(name: str, others: Iterable[StoredObject]) -> str:
    """A name, trimmed. Raises InputError for one that is empty, too long, or that of another object."""
    trimmed = name.strip()
    if not 0 < len(trimmed) <= _MOST_LETTERS or any(unicodedata.category(c).startswith("C") for c in trimmed):
        raise InputError(
            f"The `name` of an object has 1 to {_MOST_LETTERS} characters, and none that does not show.",
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


def in_readers_words(error: MedSAMError, objects: Iterable[StoredObject]) -> MedSAMError:
    """An error of the session, with the reader's names for its labels."""
    names = {label_of(one.number): one.name for one in objects}
    # all at once: an object may be called as the session calls another one
    text = re.sub(f"'({_LABEL}[0-9]+)'", lambda found: repr(names.get(found[1], found[1])), str(error))
    return type(error)(text, parameter=error.parameters)


def locking(limits: Limits, objects: Iterable[StoredObject]) -> Limits:
    """The limits of a session with what is locked now."""
    return replace(limits, locked=tuple(label_of(one.number) for one in objects if one.locked))
