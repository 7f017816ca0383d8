"""What structures are called in English, Latin, German and Korean, and which structure a typed name means.

`languages.csv` beside this module has a row a structure: `name` is canonical (`names.canonical_name`) and without its
side; the other columns hold further spellings, several in a cell with ";" between. A structure of `structures.csv` that
has sides has them in every language: "Niere links", "ren sinister", "좌신장". Two structures stand here that have no
code: the parts of the hippocampus.

A spelling means one structure. Case, accents, hyphens and the place of the side do not matter, nor blanks in Korean.
"""

from __future__ import annotations

import csv
import difflib
import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medsam.errors import InputError
from medsam.labels.names import canonical_name, has_words, joined, side_of
from medsam.labels.table import LEFT, RIGHT, rows

Language = Literal["english", "latin", "german", "korean"]

_FILE = Path(__file__).with_name("languages.csv")
_COLUMNS: tuple[Language, ...] = ("english", "latin", "german", "korean")
_SIDES = {
    LEFT: "left lt l sinister sinistra sinistrum sinistri sinistrae links linke linker linkes linken linkem li",
    RIGHT: "right rt r dexter dextra dextrum dextri dextrae rechts rechte rechter rechtes rechten rechtem re",
}
_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words.split()}
# longest first: 좌측 begins with 좌
_KOREAN_SIDES = (
    *(("왼쪽", LEFT), ("좌측", LEFT), ("왼", LEFT), ("좌", LEFT)),
    *(("오른쪽", RIGHT), ("우측", RIGHT), ("오른", RIGHT), ("우", RIGHT)),
)


@dataclass(frozen=True)
class Row:
    """One line of the table. sides: whether there is a left and a right one. spellings: by language."""

    name: str
    sides: bool
    spellings: dict[Language, tuple[str, ...]]


@functools.cache
def language_rows() -> tuple[Row, ...]:
    """The whole table, in the order of the file: by region of the body."""
    sided = {row.name for row in rows() if row.sides}
    with _FILE.open(encoding="utf-8", newline="") as lines:
        return tuple(
            Row(
                line["name"],
                line["name"] in sided,
                {column: tuple(filter(None, line[column].split(";"))) for column in _COLUMNS},
            )
            for line in csv.DictReader(lines)
        )


def nameable() -> tuple[str, ...]:
    """Every structure that can be asked for by name, each side by itself, e.g. "kidney", "kidney_left"."""
    return tuple(joined(row.name, side) for row in language_rows() for side in _sides_of(row))


def english(name: str) -> str:
    """A canonical name as English writes it: "kidney_left" -> "left kidney", "vertebrae_l1" -> "L1 vertebra"."""
    organ, side = side_of(name)
    row = _by_name().get(name)
    if row is not None and side is not None:  # "heart_atrium_left": the side is part of the name
        organ, side = name, None
    if vertebra := re.fullmatch(r"vertebrae_([ctls]\d+)", organ):
        return f"{vertebra[1].upper()} vertebra"
    known = _by_name().get(organ)
    plain = organ.replace("_", " ")
    if known is not None and known.spellings["english"] and _reads_badly(organ):
        plain = known.spellings["english"][0]
    return f"{side} {plain}" if side else plain


def english_phrases(name: str) -> tuple[str, ...]:
    """The ways English has for a canonical name, the usual one first: "left kidney"; "left suprarenal gland"."""
    organ, side = side_of(name)
    row = _by_name().get(name) or _by_name().get(organ)
    if row is None:
        return (english(name),)
    side = None if row.name == name else side
    others = (f"{side} {word}" if side else word for word in row.spellings["english"])
    return tuple(dict.fromkeys((english(name), *others)))


def named(text: str) -> str | None:
    """The canonical name of what is typed in any of the four languages; None where no structure is called so.

    "Left Kidney", "LK", "linke Niere", "ren sinister" and "좌측 신장" are "kidney_left". Only structures of
    `languages.csv` are found; what `canonical_name` knows of them counts, too.
    """
    if not has_words(text):
        return None
    known = frozenset(nameable())
    try:
        canonical = canonical_name(text)
    except InputError:
        return None
    if canonical in known:
        return canonical
    plain = fold(text)
    for key in dict.fromkeys((plain, plain.replace(" ", ""))):
        if key in _spellings():
            return _spellings()[key]
    for organ, side in _with_side(plain):
        found = _spellings().get(organ) or _spellings().get(organ.replace(" ", ""))
        if found is not None and joined(found, side) in known:
            return joined(found, side)
    return None


def sides_agree(text: str, name: str) -> bool:
    """Whether a text names the side of a structure and no other; one that has no other half may go without."""
    said = {_SIDE_OF[word] for word in fold(text).split() if word in _SIDE_OF}
    side = side_of(name)[1]
    return said == ({side} if side else set()) or (not said and name in _by_name())


def nearest(text: str, among: tuple[str, ...] | None = None, limit: int = 3, likeness: float = 0.6) -> tuple[str, ...]:
    """Structures whose name or spelling looks most like what was typed, the likeliest first; may be none.

    among: canonical names; default all of `nameable`. The side that was typed is kept where the structure has one.
    likeness: from 0 to 1, what a spelling must have at least (`difflib`'s ratio).
    """
    wanted = frozenset(among if among is not None else nameable())
    plain = fold(text)
    asked = [(plain, None), *_with_side(plain)]
    best: dict[str, float] = {}
    for organ, side in asked:
        for spelling, name in _spellings().items():
            full = joined(name, side)
            score = difflib.SequenceMatcher(None, organ, spelling).ratio()
            # a word of the name that was typed whole says more than letters in common
            score = max(score, 0.7 if len(organ) > 2 and organ in spelling.split() else 0.0)
            for one in {full, name} & wanted:
                best[one] = max(best.get(one, 0.0), score - (0.05 if one != full else 0.0))
    ranked = sorted((name for name in best if best[name] >= likeness), key=lambda name: (-best[name], len(name), name))
    return tuple(ranked[:limit])


def fold(text: str) -> str:
    """A name for comparing: lower case, words apart by one blank, letters without accents ("Ösophagus" is "osophagus").

    Hangul syllables stay whole; "ß" is "ss".
    """
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    plain = unicodedata.normalize("NFC", "".join(sign for sign in apart if not unicodedata.combining(sign)))
    return " ".join(re.findall(r"[^\W_]+", plain))


def _with_side(plain: str) -> Iterator[tuple[str, str | None]]:
    """A folded name without the one side that it names, and that; nothing for a name without a side, or with two."""
    words = plain.split()
    sides = [number for number, word in enumerate(words) if word in _SIDE_OF]
    if len(sides) == 1 and len(words) > 1:
        yield " ".join(words[: sides[0]] + words[sides[0] + 1 :]), _SIDE_OF[words[sides[0]]]
    together = plain.replace(" ", "")
    for word, side in _KOREAN_SIDES:
        if together.startswith(word) and len(together) > len(word):
            yield together.removeprefix(word), side
        if together.endswith(word) and len(together) > len(word) + 1:
            yield together.removesuffix(word), side


def _sides_of(row: Row) -> tuple[str | None, ...]:
    return (None, LEFT, RIGHT) if row.sides else (None,)


def _reads_badly(organ: str) -> bool:
    """Names whose words stand in the order of a list, not of a sentence."""
    return organ.startswith(("heart_", "lung_", "vertebrae_", "prostate_", "hippocampus_", "main_bronchus_"))


@functools.cache
def _by_name() -> dict[str, Row]:
    return {row.name: row for row in language_rows()}


@functools.cache
def _spellings() -> dict[str, str]:
    """Folded spelling -> canonical name without an added side; also without umlauts' "e" ("Oesophagus", "Luftroehre").

    Raises ValueError for a spelling of two structures: the table is wrong then.
    """
    found: dict[str, str] = {}
    for row in language_rows():
        written = [row.name.replace("_", " "), *(word for words in row.spellings.values() for word in words)]
        for word in written:
            for key in {fold(word), fold(word.translate(_SPELT_OUT))}:
                for one in {key, key.replace(" ", "")} if _is_korean(key) else {key}:
                    if found.setdefault(one, row.name) != row.name:
                        raise ValueError(f"{word!r} is {found[one]} and {row.name}")
    # what the table of codes calls them, too
    for code_row in rows():
        for word, side in code_row.synonyms:
            if side is None and code_row.name in _by_name():
                found.setdefault(fold(word), code_row.name)
    return found


_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})


def _is_korean(text: str) -> bool:
    return any("\uac00" <= sign <= "\ud7a3" for sign in text)
