"""One spelling for the many that data sets have for a structure.

A name is canonical when it is in lower case, its words joined by "_", the side last: "kidney_right". That is how
TotalSegmentator spells most of its classes. Data sets spell the same organ in many ways ("Right Kidney", "RK",
"kidney_r", "Kidney-Rt", "Glnd_Submand_L" in radiotherapy); `canonical_name` brings the common ones together and leaves
unknown ones readable.

Only spellings that mean one thing are listed: "LAD" is the left adrenal gland in BTCV and a coronary artery in
radiotherapy, "ventricle" is one of the brain or of the heart, "T1" a vertebra or the first tumour, "tooth 11" an
incisor by FDI and a canine of the other side in the USA.
"""

from __future__ import annotations

import functools
import re

from medsam.errors import InputError
from medsam.labels.table import LEFT, RIGHT, rows

_SIDES: dict[str, str] = {"left": LEFT, "lt": LEFT, "right": RIGHT, "rt": RIGHT}
# A single letter names a side only at either end: "Kidney_L", "r kidney", but not the L of "vertebra L 4".
_LETTERS: dict[str, str] = {"l": LEFT, "r": RIGHT}

# What an organ is called in front of a finding: "hepatic tumor", "renal cyst".
_ADJECTIVES: dict[str, str] = {
    "adrenal": "adrenal_gland",
    "cerebral": "brain",
    "colonic": "colon",
    "gastric": "stomach",
    "hepatic": "liver",
    "osseous": "bone",
    "ovarian": "ovary",
    "pancreatic": "pancreas",
    "prostatic": "prostate",
    "pulmonary": "lung",
    "renal": "kidney",
    "splenic": "spleen",
    "thyroid": "thyroid_gland",
    "uterine": "uterus",
}


def canonical_name(name: str) -> str:
    """The name in the spelling of this project, e.g. "Right Kidney", "RK" and "kidney-rt" -> "kidney_right".

    Case, separators, camel case and the place of the side do not matter; common synonyms are replaced, also in a
    finding ("Renal cysts, left" -> "kidney_cyst_left") and before a number ("Tumour 2" -> "tumor_2"). Unknown names
    come back tidied, and a name that is already canonical comes back as it is. Raises InputError for a name without
    a letter or digit.
    """
    words = _words(name)
    if not words:
        raise InputError(f"A structure needs a name with at least one letter or digit, {name!r} has none.")
    # "LKidney"; other words may begin so, too
    apart = _words(re.sub(r"^([LR])(?=[A-Z][a-z])", r"\1 ", name))
    if len(apart) > len(words):
        known = _listed(*_without_side(apart))
        if known and joined(*known) in names():
            return joined(*known)
    return joined(*_resolved(*_without_side(words)))


def has_words(name: str) -> bool:
    """Whether a name has a letter or digit, without which it names nothing."""
    return bool(_words(name))


def _words(name: str) -> list[str]:
    """In lower case. "SpinalCord_L" has a seam between a small and a capital letter."""
    return re.findall(r"\w+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower())


def joined(organ: str, side: str | None) -> str:
    """ "kidney", "left" -> "kidney_left"."""
    return f"{organ}_{side}" if side else organ


def side_of(name: str) -> tuple[str, str | None]:
    """A canonical name without its side, and that: "kidney_left" -> "kidney", "left"."""
    organ, _, last = name.rpartition("_")
    return (organ, last) if organ and last in (LEFT, RIGHT) else (name, None)


def number_of(organ: str) -> tuple[str, str]:
    """What a name counts, and its number as written or "": "lesion_2" -> "lesion", "_2"."""
    found = re.fullmatch(r"(.*\D)(_\d+)", organ)
    return (found[1], found[2]) if found else (organ, "")


@functools.cache
def names() -> frozenset[str]:
    """Every canonical name in the table, those of the sides too."""
    sides = {row.name: (None, LEFT, RIGHT) if row.sides else (None,) for row in rows()}
    return frozenset(joined(name, side) for name in sides for side in sides[name])


@functools.cache
def _spellings() -> dict[str, str]:
    """Spelling, tidied -> canonical name: without a side, or with one where the spelling says it."""
    found: dict[str, str] = {name: name for name in names()}
    for row in rows():
        for word, side in row.synonyms:
            found[joined(*_without_side(word.split("_")))] = joined(row.name, side)
    return found


@functools.cache
def _counted() -> frozenset[str]:
    """Those a scan may hold several of."""
    return frozenset(row.name for row in rows() if row.many)


@functools.cache
def _findings() -> dict[str, str]:
    """Word -> finding, for what may be found in any organ: "tumours" -> "tumor"."""
    plain = {row.name: row for row in rows() if row.many and row.category == "abnormal" and not row.region}
    words = {row.name: row.name for row in plain.values()}
    words |= {word: row.name for row in plain.values() for word, _ in row.synonyms}
    return {word: name for word, name in words.items() if "_" not in word}


def finding_in(organ: str) -> tuple[str, str] | None:
    """Where a finding is, and what: "kidney_cyst" -> "kidney", "cyst". None for a name that ends in no finding."""
    place, _, last = organ.rpartition("_")
    return (place, _findings()[last]) if place and last in _findings() else None


def _without_side(words: list[str]) -> tuple[str, str | None]:
    """The words of a name, joined, and the side they name."""
    ends = (0, len(words) - 1)
    sides = [n for n, word in enumerate(words) if word in _SIDES or (word in _LETTERS and n in ends)]
    # with two sides there is no telling which is meant, and a side alone is a name
    if len(sides) != 1 or len(words) == 1:
        return "_".join(words), None
    word = words[sides[0]]
    rest = words[: sides[0]] + words[sides[0] + 1 :]
    # "L 4" is a vertebra
    if word in _LETTERS and "".join(rest).isdigit():
        return "_".join(words), None
    return "_".join(rest), _SIDES.get(word) or _LETTERS[word]


def _resolved(organ: str, side: str | None) -> tuple[str, str | None]:
    """A tidied name in the spelling of the table; as it is where that has none."""
    known = _listed(organ, side)
    if known:
        return known
    stem, number = number_of(organ)
    if number:
        counted = _resolved(stem, side)
        if counted[0] in _counted() or finding_in(counted[0]):
            return f"{counted[0]}{number}", counted[1]
        return organ, side
    return _of_finding(organ, side) or (organ, side)


def _listed(organ: str, side: str | None) -> tuple[str, str | None] | None:
    """What the table calls a name, as it is or by a synonym."""
    spellings = _spellings()
    if joined(organ, side) in spellings:
        return side_of(spellings[joined(organ, side)])
    if organ not in spellings:
        return None
    base, own = side_of(spellings[organ])
    # "RML" says its side, "left RML" contradicts it
    return (base, own or side) if side in (None, own) or not own else None


def _of_finding(organ: str, side: str | None) -> tuple[str, str | None] | None:
    """ "hepatic_tumours", "tumour_of_the_liver" -> "liver_tumor"; None unless the place is a structure of the table."""
    found = finding_in(re.sub(r"^([^\W_]+)_(?:of|in)_(?:the_)?(.+)$", r"\2_\1", organ))
    if not found:
        return None
    place, finding = found
    place = _ADJECTIVES.get(place, place)
    for asked in dict.fromkeys((side, None)):
        base, own = _listed(place, asked) or ("", None)
        if joined(base, own) in names():
            return f"{base}_{finding}", own or side
    return None
