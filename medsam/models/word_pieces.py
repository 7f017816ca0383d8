"""Text -> numbers of word pieces, as BERT's uncased models take it.

Source: Devlin et al. 2018 (arXiv 1810.04805) and the published `vocab.txt`. A text is cleaned, put into small letters
without accents, parted at blanks, punctuation and Chinese characters; each word is then cut into the longest pieces
that the vocabulary has, those inside a word beginning with "##".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from medsam.errors import CheckpointError

_LONGEST_WORD = 100
# Chinese, Japanese and Korean ideographs; not Hangul, which is written with blanks
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieces:
    """A vocabulary, one piece a line. Raises CheckpointError for a file that is none."""

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text(encoding="utf-8").split("\n")
        self._numbers = {piece: number for number, piece in enumerate(lines) if piece}
        missing = [piece for piece in ("[UNK]", "[CLS]", "[SEP]") if piece not in self._numbers]
        if missing:
            raise CheckpointError(f"{vocabulary.name} is no vocabulary of word pieces: it lacks {', '.join(missing)}.")

    def encode(self, text: str, longest: int = 256) -> list[int]:
        """[CLS], the pieces, [SEP]: at most `longest` numbers."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        return [self._numbers["[CLS]"], *pieces[: longest - 2], self._numbers["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        unknown = [self._numbers["[UNK]"]]
        if len(word) > _LONGEST_WORD:
            return unknown
        found, start = [], 0
        while start < len(word):
            ends = range(len(word), start, -1)
            marks = "##" if start else ""
            end = next((end for end in ends if marks + word[start:end] in self._numbers), None)
            if end is None:
                return unknown
            found.append(self._numbers[marks + word[start:end]])
            start = end
        return found


def _words(text: str) -> Iterator[str]:
    cleaned = "".join(_cleaned(sign) for sign in unicodedata.normalize("NFC", text))
    plain = unicodedata.normalize("NFD", cleaned.lower())
    plain = "".join(sign for sign in plain if unicodedata.category(sign) != "Mn")
    yield from "".join(f" {sign} " if _stands_alone(sign) else sign for sign in plain).split()


def _cleaned(sign: str) -> str:
    if sign.isspace():
        return " "
    return "" if sign in "\x00\ufffd" or unicodedata.category(sign).startswith("C") else sign


def _stands_alone(sign: str) -> bool:
    code = ord(sign)
    if any(first <= code <= last for first, last in _IDEOGRAPHS):
        return True
    # all of ASCII that is no letter, digit or blank counts as punctuation
    ascii_sign = 33 <= code <= 126 and not sign.isalnum()
    return ascii_sign or unicodedata.category(sign).startswith("P")
