"""Sentences on what was left out or guessed: the first of each kind in full, and how many more there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

# remarks of one kind that are listed in full
MOST = 10


@dataclass
class Remarks:
    """kinds: what the sentences of a kind have in common, as words after a number -> its sentences."""

    kinds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, sentence: str) -> None:
        """kind: "labels that fit no series", as "and 3 more labels that fit no series" would say."""
        self.kinds.setdefault(kind, []).append(sentence)

    def __iter__(self) -> Iterator[str]:
        for kind, sentences in self.kinds.items():
            yield from sentences[:MOST]
            if len(sentences) > MOST:
                yield f"and {len(sentences) - MOST} more {kind}"
