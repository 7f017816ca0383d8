"""Results as JSON: what every document says of itself, and one error for those that cannot be read.

A document is a dict of text, numbers, lists and dicts, ready for `json.dumps`, with "kind" and "version". A version
is raised when a reader of the one before would misunderstand it; keys may be added without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from medsam.errors import InputError, PromptError


def headed(kind: str, version: int, content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` as a document of a kind and version."""
    return {"kind": kind, "version": version, **content}


def whole(value: Any, low: int, below: int) -> int:
    """A whole number of a document, from `low` on and below `below`. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < below:
        raise ValueError(f"{str(value)[:30]} is no whole number from {low} to {below - 1}")
    return value


@contextmanager
def reading(document: object, kind: str, version: int, *later: int) -> Iterator[dict[str, Any]]:
    """The document, for a block that takes its fields.

    kind: in words, as in "medsam session". later: versions that are read as well.
    Raises InputError for another kind or version, and for a damaged document.
    """
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise InputError(f"This is no {kind}.")
    if document.get("version") not in (version, *later):
        known = " and ".join(map(str, (version, *later)))
        raise InputError(
            f"This {kind} is of version {str(document.get('version'))[:20]}, and this medsam reads version {known}. "
            "Use the medsam that wrote it."
        )
    try:
        yield document
    except (KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError, PromptError) as error:
        raise InputError(f"This {kind} is damaged: {type(error).__name__} {str(error)[:80]}.") from error
