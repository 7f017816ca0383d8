"""Structures by the beginning of what they are called: for who types a name."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from medsam.labels.names import joined
from medsam.labels.structures import Structure, structures
from medsam.labels.table import LEFT, RIGHT, rows


@dataclass(frozen=True)
class Completion:
    """A structure and what else it is called, as people write it: with spaces."""

    structure: Structure
    synonyms: tuple[str, ...]


def completions(text: str, limit: int = 20) -> list[Completion]:
    """Structures that are called so, the likeliest first: by a name that begins with `text`, by a synonym that does, by
    a word of them, by a part of one. Every word of `text` has to be found. Without text the first of the table.

    Case and separators do not count.
    """
    wanted = _words(text)
    if not wanted:
        return list(_all()[:limit])
    ranked = []
    for order, one in enumerate(_all()):
        spellings = [_words(name) for name in (one.structure.name, *one.synonyms)]
        fits = [_rank(wanted, words, first=number == 0) for number, words in enumerate(spellings)]
        best = min((rank for rank in fits if rank is not None), default=None)
        if best is not None:
            ranked.append((best, len(one.structure.name), order, one))
    return [one for *_, one in sorted(ranked, key=lambda found: found[:3])[:limit]]


def _rank(wanted: list[str], words: list[str], *, first: bool) -> int | None:
    """How well a spelling fits, 0 best; None where it does not. first: whether it is the name itself."""
    asked, said = " ".join(wanted), " ".join(words)
    if said.startswith(asked):
        return 0 if first else 1
    if all(any(word.startswith(part) for word in words) for part in wanted):
        return 2
    return 3 if all(part in said for part in wanted) else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.replace("_", " ").lower())


@functools.cache
def _all() -> tuple[Completion, ...]:
    synonyms: dict[str, list[str]] = {}
    for row in rows():
        for side in (None, LEFT, RIGHT) if row.sides else (None,):
            name = joined(row.name, side)
            for word, of_side in row.synonyms:
                if of_side in (None, side):
                    spelt = word.replace("_", " ")
                    synonyms.setdefault(name, []).append(f"{side} {spelt}" if side and of_side is None else spelt)
    return tuple(Completion(one, tuple(synonyms.get(one.name, ()))) for one in structures())
