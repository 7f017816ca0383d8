"""What names of files and folders say: scan or label, and the words that tell which scan.

A name is taken apart into words. Some say what a file is (`image`, `mask`, `seg`, ...), in its own name or in its
folder's; the others are its key, by which `pairs` finds what belongs together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Literal

from medsam.data.words import IMAGES, LABELS, split_word, stem

Role = Literal["image", "label", "either"]
Words = tuple[str, ...]

_ROLE_WORDS = LABELS | IMAGES
_TAILS = ("Tr", "Va", "Ts")


@dataclass
class Named:
    """One file. folders: what its folders say beside its role, (compared, verbatim); words: all, lower-case.

    key: without the words of a role. home: the folder that holds the folder of labels.
    """

    path: PurePath
    role: Role
    words: Words
    key: Words
    folders: tuple[tuple[str, str], ...]
    home: PurePath
    shared: PurePath
    by_folder: bool
    after: Words = ()  # of a label: what follows the word of its role, mask_1

    @property
    def place(self) -> Words:
        """What its folders say, to be compared."""
        return tuple(part for part, _ in self.folders)


def parse_names(paths: Sequence[PurePath]) -> list[Named]:
    """Every file of a folder. paths: relative to it, sorted; what one name says depends on the others."""
    beside: dict[PurePath, set[Words]] = defaultdict(set)
    for path in paths:
        words = words_of(stem(path))
        if LABELS.isdisjoint(words):
            beside[path.parent] |= {words, without(words, IMAGES)}
    roles = _folder_roles(paths)
    return [_parse(path, roles, beside[path.parent]) for path in paths]


def _folder_roles(paths: Sequence[PurePath]) -> dict[PurePath, Role]:
    """Folder -> its role by its own name; a name with further words is believed only where its files bear it out."""
    below: dict[PurePath, list[PurePath]] = defaultdict(list)
    for path in paths:
        for folder in list(path.parents)[:-1]:
            below[folder].append(path)
    roles: dict[PurePath, Role] = {}
    for folder, files in below.items():
        role, rest = _role_of_folder(folder.name)
        if role == "label" and rest and rest not in _TAILS and not split_word(rest):
            names = {(path.parent, words_of(stem(path))) for path in files}
            marked = {name for name in names if not LABELS.isdisjoint(name[1])}
            # Dataset_with_GT/X and X_mask: the folder holds both
            both = any((above, without(words, LABELS)) in names for above, words in marked)
            both = both or len(files) == len(paths)
            role = "either" if both else role
        roles[folder] = role
    return roles


@lru_cache(maxsize=10_000)
def _role_of_folder(name: str) -> tuple[Role, str]:
    tail = next((tail for tail in _TAILS if name.endswith(tail) and name[: -len(tail)].isalpha()), "")
    words = words_of(name.removesuffix(tail))
    found = [word for word in words if word in _ROLE_WORDS]
    if not found:
        return "either", name
    rest = " ".join(word for word in words if word not in _ROLE_WORDS)
    return ("label" if found[-1] in LABELS else "image"), tail or rest


def _parse(path: PurePath, roles: dict[PurePath, Role], beside: set[Words]) -> Named:
    role: Role = "either"
    home = path.parent
    folders: list[tuple[str, str]] = []
    shared: list[str] = []
    for folder in reversed(list(path.parents)[:-1]):
        its, rest = _role_of_folder(folder.name)
        if roles[folder] == "either":
            folders.append((folder.name.lower(), folder.name))
            shared.append(folder.name)
            continue
        if its == "label" and role != "label":
            home = folder.parent
        role = its
        # "1. Original Images" is in no folder 1
        if re.search(r"[A-Za-z]", rest):
            folders.append((rest.lower(), folder.name))
        shared += [rest] if rest in _TAILS else [] if not rest else [folder.name]
    by_folder = role != "either"
    role, words, key = _parse_name(stem(path), role, beside)
    last = max((place for place, word in enumerate(words) if word in _ROLE_WORDS), default=None)
    after = words[last + 1 :] if role == "label" and last is not None else ()
    return Named(path, role, words, key, tuple(folders), home, PurePath(*shared), by_folder, after)


def _parse_name(name: str, role: Role, beside: set[Words]) -> tuple[Role, Words, Words]:
    """Role, words and key of a file by its own name. role: by its folder; beside: names of scans in that folder."""
    if name.startswith("sub-"):  # BIDS: sub-01_seg-liver_msk; the last word says what it is
        words = tuple(name.lower().split("_"))
        if words[-1] in LABELS:
            return ("label" if role == "either" else role), words, words[:-1]
        return role, words, words
    words = words_of(name)
    key = without(words, _ROLE_WORDS)
    fused = re.fullmatch(r"(.+?)(?:masks?|seg|label|gt)", name.lower())
    if key == words and fused and words_of(fused.group(1)) in beside:  # Xmask beside X
        return "label", words, words_of(fused.group(1))
    says_label = not LABELS.isdisjoint(words)
    if role == "either" and key != words:
        return ("label" if says_label else "image"), words, key
    if role == "image" and says_label:
        # inside a folder of images "lung_mask" is a name, unless "lung" is there, too
        plain = without(words, LABELS)
        if any(plain[:size] in beside for size in range(1, len(plain) + 1)):
            return "label", words, key
    return role, words, key


@lru_cache(maxsize=100_000)
def words_of(name: str) -> Words:
    """The words of a name, lower-case; a role word is cut off the digits or the capitals beside it."""
    name = re.sub(r"(?i)ground[ _-]?truth", "groundtruth", name)
    words: list[str] = []
    for word in re.split(r"[^A-Za-z0-9\u0080-\uffff]+", name):
        pieces = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^A-Za-z0-9]+", word)
        if word.lower() not in _ROLE_WORDS and any(piece.lower() in _ROLE_WORDS for piece in pieces):
            run = ""
            for piece in pieces:
                if piece.lower() in _ROLE_WORDS:
                    words += [run, piece]
                    run = ""
                else:
                    run += piece
            words.append(run)
        else:
            words.append(word)
    return tuple(word.lower() for word in words if word)


def without(words: Words, out: frozenset[str]) -> Words:
    """Those that are not among `out`."""
    return tuple(word for word in words if word not in out)
