"""The patient of each case: what a manifest states, what DICOM files say, and what names show (`names`).

A stated `patient` is never changed; where it contradicts the names, `doubts` says so. One (0010,0020) Patient ID is one
person, and files of different ones are not joined by their names.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from medsam.data.manifest import Case
from medsam.data.names import group_names, namesakes
from medsam.errors import counted, printable
from medsam.io.dicom.tree import patient_digest

_HOWS = {
    "number": "their Patient ID",
    "folder": "their folder",
    "name": "their name",
    "numbers": "the first of two numbers in their name (a guess)",
}


@dataclass(frozen=True)
class Assigned:
    """cases: in the order they were given, each with its patient. remarks: sentences on what was joined or guessed.

    joined: of cases that did not say whose they are, those that were put together: patient -> places.
    """

    cases: tuple[Case, ...]
    remarks: tuple[str, ...]
    joined: dict[str, tuple[int, ...]]


def assign(cases: Sequence[Case], folder: Path | None = None) -> Assigned:
    """Find a patient for every case that does not state one, by Patient ID (DICOM), folder and name.

    folder: paths are taken relative to it, and ids were made from paths; by default the deepest folder that holds all
    images, and ids count as names, too. A case that goes with stated ones joins their patient.
    Opens the first file of a DICOM image, no other.
    """
    if all(case.patient_stated for case in cases):
        return Assigned(tuple(cases), (), {})
    groups = _groups(cases, relative_images(cases, folder), ids=folder is None)
    sets = _joined(groups, len(cases))
    labelled = _labelled(groups, sets)
    taken = _stated(cases)
    found = [case.patient for case in cases]
    joined: dict[str, tuple[int, ...]] = {}
    hows: Counter[str] = Counter()
    everyone = sets.all().items()
    for first, members in sorted(everyone, key=lambda entry: min(cases[place].id for place in entry[1])):
        silent = [place for place in members if not cases[place].patient_stated]
        stated = _stated([cases[place] for place in members])
        if not silent:
            continue
        if len(members) == 1:
            found[first] = _free(cases[first].id, taken)
            continue
        label, how = labelled[first]
        name = min(stated) if stated else _free(label, taken)
        taken.add(name)
        for place in silent:
            found[place] = name
        joined[name] = tuple(members)
        hows[how] += len(silent)
    named = [replace(case, patient=who, patient_stated=True) for case, who in zip(cases, found, strict=True)]
    return Assigned(tuple(named), tuple(_remarks(cases, joined, hows)), joined)


def _stated(cases: Iterable[Case]) -> set[str]:
    """The patients that cases name themselves."""
    return {case.patient for case in cases if case.patient_stated}


def _joined(groups: Sequence[tuple[str, list[int], str]], count: int) -> _Sets:
    """Places that any group joins, in one set."""
    sets = _Sets(count)
    for _, members, _ in groups:
        for place in members:
            sets.join(members[0], place)
    return sets


def _labelled(groups: Sequence[tuple[str, list[int], str]], sets: _Sets) -> dict[int, tuple[str, str]]:
    """First place of a set -> its name and rule: of several, those of the most certain rule, first in the alphabet."""
    found: dict[int, tuple[str, str]] = {}
    for label, members, how in sorted(groups, key=lambda group: (list(_HOWS).index(group[2]), group[0])):
        found.setdefault(sets.first(members[0]), (label, how))
    return found


def doubts(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """What a person should check about the patients of a manifest: (case, sentence) each.

    Cases without a patient that look like one person; different patients that look like one person; namesakes in two
    splits.
    """
    if not cases:
        return []
    paths = relative_images(cases)
    silent = {name: [cases[place] for place in places] for name, places in assign(cases).joined.items()}
    silent = {name: members for name, members in silent.items() if _differ(members)}
    stated = _of_several_patients(cases, paths)
    alike = _in_several_splits(cases, paths)
    count = sum(not case.patient_stated for members in silent.values() for case in members)
    found = (
        (
            silent,
            f"{counted(count, 'case')} without `patient` look like scans of {counted(len(silent), 'person', 'people')}",
            "Each counts as a patient of its own. `medsam data split` joins them; `patient` in the manifest overrules.",
        ),
        (
            stated,
            f"{counted(len(stated), 'person', 'people')}, by folder and name, counted as several patients",
            "Right if these are different people; otherwise give them one `patient`.",
        ),
        (
            alike,
            f"{counted(len(alike), 'name')} in several modalities or in folders of several splits",
            "They count as different patients; where they are one, give them one `patient`.",
        ),
    )
    return [_doubt(people, what, then) for people, what, then in found if people]


def _of_several_patients(cases: Sequence[Case], paths: Sequence[PurePath]) -> dict[str, list[Case]]:
    """Name -> cases of one person by their names, whom the manifest counts as several."""
    found = {}
    for group in group_names(paths):
        members = [cases[place] for place in group.members if cases[place].patient_stated]
        if len({case.patient for case in members}) > 1 and _differ(members):
            found[group.label] = members
    return found


def _in_several_splits(cases: Sequence[Case], paths: Sequence[PurePath]) -> dict[str, list[Case]]:
    """First id -> namesakes that count as several patients and are in several splits."""
    found = {}
    for places in namesakes(paths):
        members = [cases[place] for place in places]
        if len({case.patient for case in members}) > 1 and len(_splits(members)) > 1:
            found[min(case.id for case in members)] = members
    return found


def _differ(members: Sequence[Case]) -> bool:
    """Whether these are several scans; an id or an image given twice is reported elsewhere."""
    return min(len({case.id for case in members}), len({case.image for case in members})) > 1


def namesake_remarks(cases: Sequence[Case], folder: Path) -> list[str]:
    """A sentence on cases that `namesakes` finds among those of an indexed folder."""
    alike = [[cases[place] for place in places] for places in namesakes(relative_images(cases, folder))]
    alike = [members for members in alike if len({case.patient for case in members}) > 1]
    if not alike:
        return []
    some = " and ".join(sorted(case.id for case in alike[0])[:2])
    return [
        f"{counted(len(alike), 'name')} in several modalities or splits, e.g. {some}: counted as different patients; "
        "where they are one, give them one `patient` in the manifest"
    ]


def relative_images(cases: Sequence[Case], folder: Path | None = None) -> list[PurePath]:
    """Where the images lie, from `folder` or the deepest folder that holds them all."""
    if folder is None:
        try:
            folder = Path(os.path.commonpath([case.image.absolute().parent for case in cases]))
        except ValueError:  # on several drives
            return [case.image for case in cases]
    return [PurePath(os.path.relpath(case.image.absolute(), folder)) for case in cases]


def _groups(cases: Sequence[Case], paths: Sequence[PurePath], *, ids: bool) -> list[tuple[str, list[int], str]]:
    """(label, places, rule) of what belongs together; ids: whether they count as names beside the paths."""
    numbers = {
        place: digest
        for place, case in enumerate(cases)
        if not case.patient_stated and (digest := patient_digest(case.image)) is not None
    }
    by_number: dict[str, list[int]] = defaultdict(list)
    for place, digest in numbers.items():
        by_number[digest].append(place)
    groups = [(min(cases[place].id for place in members), members, "number") for members in by_number.values()]
    named = [*group_names(paths), *(group_names([case.id for case in cases]) if ids else ())]
    groups += [
        (group.label, list(group.members), str(group.how))
        for group in named
        if len({numbers[place] for place in group.members if place in numbers}) < 2
    ]
    return [group for group in groups if len(group[1]) > 1]


def _remarks(cases: Sequence[Case], joined: dict[str, tuple[int, ...]], hows: Counter[str]) -> Iterator[str]:
    together = sum(hows.values())
    if joined:
        name, members = min(joined.items())
        some = ", ".join(sorted(cases[place].id for place in members)[:3])
        how = " and ".join(_HOWS[rule] for rule in _HOWS if hows[rule])
        yield (
            f"{counted(together, 'case')} joined by {how} to {counted(len(joined), 'patient')}, e.g. {name}: {some}; "
            "where that is wrong, write `patient` into the manifest"
        )
    alone = sum(not case.patient_stated for case in cases) - together
    if alone > 1:
        yield (
            f"{alone} cases do not say whose they are, so each counts as a patient of its own; where several are of "
            "one person, write `patient` into the manifest before splitting or measuring"
        )


def _doubt(people: dict[str, list[Case]], what: str, then: str) -> tuple[str, str]:
    """The first case of an example, and the sentence; one in two splits is shown before others."""
    apart = {name: members for name, members in people.items() if len(_splits(members)) > 1}
    name, members = min((apart or people).items())
    members = sorted(members, key=lambda case: case.id)
    if not apart:
        return members[0].id, f"{what}, e.g. {name}: {', '.join(case.id for case in members[:4])}. {then}"
    shown = [next(case for case in members if case.split == split) for split in sorted(_splits(members))]
    where = ", ".join(f"{case.id} ({case.split})" for case in shown)
    return shown[0].id, f"{what}; {len(apart)} of them in several splits, e.g. {name}: {where}. {then}"


def _splits(cases: Iterable[Case]) -> set[str]:
    return {case.split for case in cases if case.split is not None}


def _free(label: str, taken: set[str]) -> str:
    """A label as the name of a patient that is not taken."""
    base = printable(re.sub(r"\s*/\s*", "_", label)).strip() or "patient"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name


class _Sets:
    """Disjoint sets of places; each is known by its first."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def first(self, place: int) -> int:
        while self.parent[place] != place:
            place = self.parent[place]
        return place

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.first(one), self.first(other)))
        self.parent[high] = low

    def all(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        for place in range(len(self.parent)):
            found[self.first(place)].append(place)
        return found
