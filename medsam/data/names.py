"""Which scans are of one person, as far as names of files and folders show.

Scans of one person must stay on one side of a split, and few data sets name patients. Two rules join names; both
need what a name says before a number, never the number alone:

  a name     up to a word for a modality, sequence, side, view, time or slice: patient001_frame01 and patient001_ED,
             BraTS20_Training_001_flair and ..._t1, bus_0001-l and bus_0001-r, P12_slice_034
  a folder   that is called like a patient (P12, sub-01), or is one of several numbered alike (STS_002, STS_003): all in
             it; and files called only CT, PET, T1, ... are of the person their folder stands for

A class, a site, a split, a fold, a modality or `images` is no patient, and plain numbers (img_0001, case10,
hippocampus_001, benign (1)) are different ones. CT/1 and MR/1 stay two: in some sets they are one person (paired
scans), in others not (CHAOS), and a number alone does not decide. Where two numbers follow each other (12_034) and the
second starts anew under several first ones, the first is taken for the patient's. `Grouped.how` says which rule
joined a group, so that a guess can be reported.

A group depends on the set of names, not on their order; every name is in exactly one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath, PurePosixPath
from typing import Literal

from medsam.data.words import MODALITIES, SEQUENCES, SPLIT_FOLDERS, SPLITS, word_set
from medsam.io.formats import suffix_of

How = Literal["alone", "folder", "name", "numbers"]

_VIEWS = SEQUENCES | word_set(
    # sides, planes and views
    "left right l r lt rt od os ax axial tra transversal cor coronal sag sagittal sax lax ap pa lat lateral frontal"
    " mlo cc ml 2ch 3ch 4ch midslice maxslice"
    # times and phases
    " pre post baseline bl follow up followup fu ed es diastole systole enddiastole endsystole 3d 4d arterial venous"
    " portal delayed nephrographic preop postop pretreatment posttreatment before after prior current"
    # what a file is
    " image images img scan scans volume vol data raw orig original resampled preprocessed registered"
)
# before a number: a time, and what counts views of one person, or is a data set's own word (img_0001)
_TIMES = word_set("week wk day month mo year yr visit time timepoint tp ses session followup fu")
_COUNTED = word_set(
    "frame frames fr slice slices sl slc phase ph scan run echo acq view series ser se image img im axis lesion nodule"
    " tumor tumour polyp roi crop patch tile part bvalue b z s t m d w y v f"
)
_PEOPLE = word_set(
    "p pt pat patient patients sub subj subject case vol volume study person participant animal mouse rat"
)
_ROLES = word_set("images image imgs img scans scan data raw nifti dicom anat func")
_SPLITS = SPLIT_FOLDERS | SPLITS.keys()
_CONTAINERS = _SPLITS | word_set(
    "site centre center hospital clinic institution vendor scanner cohort country fold folds split part batch subset"
    " set group grp dataset database db task class cat category label grade stage level type birads score kind version"
    " release challenge year domain benign malignant normal abnormal positive negative healthy disease"
)
_GENERIC = word_set("img image im scan case s vol volume slice series study frame")

_TOKEN = re.compile(r"[^\W_]+")
_WORD_AND_NUMBER = re.compile(r"([^\W\d_]+)(\d+)")
_NUMBER_AND_WORD = re.compile(r"(.*\d)([^\W\d_]+)")
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])")
_YEAR = re.compile(r"(19|20)\d\d")
_UID = re.compile(r"\d+(\.\d+){3,}")
_SUBJECT = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)")


@dataclass(frozen=True)
class Grouped:
    """Names of one person. label: what to call them; members: places in the list that was given; how: the rule."""

    label: str
    members: tuple[int, ...]
    how: How


def group_names(paths: Sequence[PurePath | str]) -> tuple[Grouped, ...]:
    """Which scans are of which person. paths: of scans, from the folder they share; a name without folders will do.

    Groups are in order of their first member.
    """
    seen = [PurePosixPath(PurePath(path).as_posix()) for path in paths]
    names = _Names(seen)
    by_key: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, path in enumerate(seen):
        by_key[names.found(path)[0]].append(place)
    groups = []
    for members in by_key.values():
        # of several spellings the first in the alphabet, so that the order of the paths does not matter
        _, label, how = names.found(min(seen[place] for place in members))
        groups.append(Grouped(label, tuple(members), how if len(members) > 1 else "alone"))
    return tuple(groups)


def namesakes(paths: Sequence[PurePath | str]) -> tuple[tuple[int, ...], ...]:
    """Places of names that differ in a modality alone, or of one patient's name in two splits: CT/1 and MR/1,
    ct_train_1001 and mr_train_1001, train/P12 and test/P12.

    They may be one person or two; `group_names` keeps them apart.
    """
    seen = [PurePosixPath(PurePath(path).as_posix()) for path in paths]
    names = _Names(seen)
    keys: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, path in enumerate(seen):
        key = names.found(path)[0]
        words = [word for part in key for word in _split(part)]
        ignored = MODALITIES | _SPLITS if _is_person(words) else MODALITIES
        bare = tuple(word for word in words if word not in ignored)
        keys[bare].add(key)
        places[bare].append(place)
    return tuple(
        tuple(places[bare])
        for bare, found in keys.items()
        if len(found) > 1 and any(any(map(str.isdigit, word)) for word in bare)
    )


@dataclass(frozen=True)
class _Token:
    """A word of a name, in small letters, and where it ends there."""

    text: str
    end: int


@lru_cache(maxsize=100_000)
def _tokens(name: str) -> tuple[_Token, ...]:
    """patient01ED_4d -> patient01, ed, 4d. A UID is one word."""
    if (uid := _UID.search(name)) is not None:
        return (*_tokens(name[: uid.start()]), _Token(uid[0], uid.end()))
    found = []
    for match in _TOKEN.finditer(name):
        text = match[0].casefold()
        glued = _NUMBER_AND_WORD.fullmatch(text)
        if glued and glued[2] in _VIEWS | MODALITIES and text not in _VIEWS:
            found.append(_Token(glued[1], match.start() + len(glued[1])))
            text = glued[2]
        found.append(_Token(text, match.end()))
    return tuple(found)


def _split(name: str) -> list[str]:
    return [token.text for token in _tokens(name)]


def _plain(name: str) -> str:
    """A file's name without its ending; folders of DICOM files keep theirs."""
    return name.removesuffix(suffix_of(PurePath(name)))


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name.casefold())


def _numbered(tokens: Sequence[str]) -> tuple[str, int] | None:
    """The word that the number at the end belongs to, and how many tokens the two take: frame01, (slice, 034)."""
    if not tokens:
        return None
    if match := _WORD_AND_NUMBER.fullmatch(tokens[-1]):
        return match[1], 1
    if tokens[-1].isdigit() and len(tokens) > 1 and tokens[-2].isalpha():
        return tokens[-2], 2
    return None


def _is_person(tokens: Sequence[str]) -> bool:
    """P12, patient_12, sub-01."""
    found = _numbered(tokens)
    return found is not None and found[0] in _PEOPLE


def _is_identity(tokens: Sequence[str]) -> bool:
    """Whether these words identify a person: a number ends them, and it counts no sites, years or parts."""
    tokens = tokens[: _without_words(tokens)]
    if not tokens or not any(map(str.isdigit, tokens[-1])):
        return False
    found = _numbered(tokens)
    if found is not None and (found[0] in _CONTAINERS or _YEAR.fullmatch(tokens[-1].removeprefix(found[0]))):
        return False
    return not _YEAR.fullmatch(tokens[-1])


def _without_words(tokens: Sequence[str]) -> int:
    """How many there are without the words for modalities and views at the end."""
    end = len(tokens)
    while end and tokens[end - 1] in _VIEWS | MODALITIES:
        end -= 1
    return end


def _first_numbers(tokens: Sequence[str]) -> int:
    """How many tokens there are up to the first of the numbers at the end; 0 when fewer than two stand there."""
    end = len(tokens)
    while end and tokens[end - 1].isdigit():
        end -= 1
    if end and end < len(tokens) and _WORD_AND_NUMBER.fullmatch(tokens[end - 1]):
        end -= 1
    return end + 1 if len(tokens) - end >= 2 else 0


class _Names:
    """All names of a set: whether a folder or a number is a patient's shows beside the others."""

    def __init__(self, paths: Iterable[PurePosixPath]) -> None:
        self.paths = frozenset(paths)
        self.siblings: dict[tuple[PurePosixPath, str], set[str]] = defaultdict(set)
        self.below: dict[PurePosixPath, set[str]] = defaultdict(set)  # folder -> names in it
        self.heads: dict[tuple[PurePosixPath, str], set[str]] = defaultdict(set)  # beginnings of one pattern
        self.seconds: dict[tuple[PurePosixPath, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.repeated: dict[tuple[PurePosixPath, str], bool] = {}
        self.odd: set[PurePosixPath] = set()
        self.patients: dict[PurePosixPath, bool] = {}
        for path in self.paths:
            for folder in list(path.parents)[:-1]:
                self.siblings[folder.parent, _pattern(folder.name)].add(folder.name.casefold())
                self.below[folder].add(_plain(path.name).casefold())
            words = _split(_plain(path.name))
            for end in range(1, len(words)):
                head = " ".join(words[:end])
                self.heads[path.parent, _pattern(head)].add(head)
            if count := _first_numbers(words[: _without_words(words)]):
                first = " ".join(words[:count])
                self.seconds[path.parent, _pattern(first)][first].add(words[count])
            if re.fullmatch(r"t(0|[3-9]|\d\d+)", "".join(words[: _without_words(words)]) or "-"):
                self.odd.add(path.parent)  # t1, t2 among t3, t4 count something; they are no sequences

    def found(self, path: PurePosixPath) -> tuple[tuple[str, ...], str, How]:
        """Key, label and rule of a name."""
        if (subject := _SUBJECT.search(path.as_posix())) is not None:  # BIDS: the entity that names the person
            sites = [part.casefold() for part in path.parts[:-1] if _is_site(part)]
            return (*sites, subject[1].casefold()), subject[1], "name"
        around: list[str] = []
        for folder in list(path.parents)[-2::-1]:
            words = _split(folder.name)
            if self._is_patient(folder):
                kept, _ = self._kept_words(folder.parent, words)
                return (*_named(around, folder.name, kept), "folder")
            if not _is_ignored(words):
                around.append(folder.name)
        name = _plain(path.name)
        words = _split(name)
        kept, how = self._kept_words(path.parent, words)
        if kept == 0 and words:
            # called CT or T1 alone: the folder names the person
            whose = [part for part in around if not _is_modality(part)]
            return tuple(part.casefold() for part in whose), "/".join(whose) or "patient", "folder"
        return (*_named(around, name, kept), how)

    def _is_patient(self, folder: PurePosixPath) -> bool:
        if folder not in self.patients:
            self.patients[folder] = self._holds_one(folder, _split(folder.name))
        return self.patients[folder]

    def _holds_one(self, folder: PurePosixPath, words: Sequence[str]) -> bool:
        """Whether all below a folder is of one person."""
        if _is_person(words[: _without_words(words)]):
            return True
        if not _is_identity(words) or _is_time(words):
            return False
        siblings = self.siblings[folder.parent, _pattern(folder.name)]
        if len(siblings) < 2:
            return False
        if not all(word.isdigit() for word in words):
            return True
        # a bare number may be a class: its files must be named as those of a neighbour are, or by a view alone
        names = self.below[folder]
        if all(self._views_end(folder, _split(name), bare=True) == 0 for name in names):
            return True
        return any(
            other.casefold() != folder.name.casefold() and names & self.below[folder.parent / other]
            for other in siblings
        )

    def _kept_words(self, folder: PurePosixPath, words: Sequence[str]) -> tuple[int, How]:
        """How many words of a file's name are the person's; 0 when none is."""
        kept = self._views_end(folder, words)
        counted = any(word not in _VIEWS and _numbered([word]) for word in words)
        if kept == 0 and (counted or folder in self.odd):
            return len(words), "name"
        count = _first_numbers(words[:kept])
        if count and self._is_nested(folder, words[:count]):
            return count, "numbers"
        return kept, "name"

    def _views_end(self, folder: PurePosixPath, words: Sequence[str], *, bare: bool = False) -> int:
        """How many words are left without those for modalities, views, times and slices at the end.

        bare: words that count are views although nothing stands before them, as inside a patient's folder.
        """
        end = len(words)
        while end and (count := self._view_at_end(folder, words[:end], bare)):
            end -= count
        return end

    def _view_at_end(self, folder: PurePosixPath, words: Sequence[str], bare: bool) -> int:
        """How many words at the end are no person's: one for a modality or a view, more for a time or a slice; or 0."""
        word, numbered = words[-1], _numbered(words)
        without = _without_words(words[:-1])
        if word in _VIEWS | MODALITIES:
            return 1
        if numbered and numbered[0] in _TIMES | _COUNTED and (bare or self._tells(folder, words[: -numbered[1]])):
            return numbered[1]
        if len(words) > 1 and _DATE.fullmatch(word) and _is_identity(words[:-1]):
            return 1
        if word.isdigit() and len(words) > 2 and _DATE.fullmatch(words[-2]) and _is_identity(words[:-2]):
            return 2  # a slice of a dated scan
        if word.isdigit() and without < len(words) - 1 and _is_person(words[:without]):
            return len(words) - without  # P12_CT_3
        return 0

    def _tells(self, folder: PurePosixPath, words: Sequence[str]) -> bool:
        """Whether these words are a person's: BraTS20 in BraTS20_img_3 is no more than a set's name."""
        head = words[: _without_words(words)]
        if not _is_identity(head):
            return False
        return _is_person(head) or head[-1].isdigit() or len(self.heads[folder, _pattern(" ".join(head))]) > 1

    def _is_nested(self, folder: PurePosixPath, first: Sequence[str]) -> bool:
        """Whether the second of two numbers is counted anew for each first one."""
        if not _is_identity(first):
            return False
        if _is_person(first):
            return True
        key = folder, _pattern(" ".join(first))
        found = self.seconds[key]
        if key not in self.repeated:  # once, not for every name
            self.repeated[key] = len(set().union(*found.values())) < sum(map(len, found.values()))
        return self.repeated[key] and len(found) >= (2 if len(re.sub(r"\D", "", first[-1])) >= 3 else 3)


def _named(around: Sequence[str], name: str, kept: int) -> tuple[tuple[str, ...], str]:
    """Key and label of who is called by the first `kept` words of a name, in the folders around it.

    A modality's folder is left out where the name is one of its own kind (STS_002), not where it is a number (CT/1).
    """
    tokens = _tokens(name)[:kept]
    words = [token.text for token in tokens]
    own = any(word.isalpha() and word not in _GENERIC | MODALITIES | _VIEWS for word in words) or any(
        (match := _WORD_AND_NUMBER.fullmatch(word)) and match[1] not in _GENERIC for word in words
    )
    folders = [folder for folder in around if not (own and _is_modality(folder))]
    label = name[: tokens[-1].end].strip(" -_.()") if tokens else name
    key = " ".join(words) or name.casefold()  # a name of signs alone
    return (*(folder.casefold() for folder in folders), key), "/".join([*folders, label])


def _is_modality(folder: str) -> bool:
    words = _split(folder)
    return bool(words) and all(word in MODALITIES | _VIEWS for word in words)


def _is_time(words: Sequence[str]) -> bool:
    numbered = _numbered(words)
    return (bool(words) and all(word in _VIEWS for word in words)) or (numbered is not None and numbered[0] in _TIMES)


def _is_site(part: str) -> bool:
    words = _split(part)
    return any(word in _CONTAINERS and word not in _SPLITS for word in words) or (
        (found := _numbered(words)) is not None and found[0] in _CONTAINERS
    )


def _is_ignored(words: Sequence[str]) -> bool:
    """A folder that does not identify a person: images, T1, left, week4."""
    return not words or all(word in _ROLES or word in _VIEWS for word in words) or _is_time(words)
