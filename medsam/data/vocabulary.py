"""Names of segments and regions, brought to one vocabulary.

Each file calls its structures as its author did: "Lt Kidney", "kidney_left", "Nier links". Names that `medsam.labels`
knows to be one structure are one; a name it does not know stays what it is. What it is called in the manifest:

  written    the spelling that is met first (the default)
  standard   the name of `medsam.labels`; a name it does not know by its code, where it has one
  labels     the name in `labels` that is the same structure, by name or else by code; all others are left out

A code never overrules a name. Where the two contradict each other ("liver", coded as the spleen) neither is believed:
the structure gets a name of its own that says so. A code that several structures of a file share says nothing of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

from medsam.data.remarks import MOST, Remarks
from medsam.errors import InputError, counted, listed
from medsam.io.dicom.label_header import LabelHeader, PropertyCode
from medsam.io.structure_names import plain_name
from medsam.labels import CATEGORIES, canonical_name, side_of, structure, structure_of_code

Mode = Literal["written", "standard"]

_TYPE = "(0062,000F) Segmented Property Type or (3006,0086) RT ROI Identification"


@dataclass
class Vocabulary:
    """The names of a tree, a file at a time.

    mode: how structures are called. labels: structure -> value, a vocabulary of the user's own.
    """

    mode: Mode = "written"
    labels: Mapping[str, int] | None = None
    # what is said at the end, name -> files: those that became a structure, and those that stayed
    _became: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    _stayed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _coded: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    _first: dict[str, str] = field(default_factory=dict)

    def names_of(self, header: LabelHeader, file: str, remarks: Remarks) -> dict[str, str]:
        """Name in a file -> structure; without those that are not in `labels`. file: as remarks call it."""
        known = {name: _standard(name) for name in header.codes}
        coded = self._codes(header, known, file, remarks)
        found = {}
        for name, standard in known.items():
            code = coded.get(name)
            if code is not None and standard is not None and _contradict(standard, code):
                found[name] = own = f"{name} (coded as {code})"
                remarks.add(
                    "names that their codes contradict",
                    f"{file}: {name!r} is coded as {code} ({_TYPE}), which is another structure; it is called {own!r} "
                    "and united with neither",
                )
                continue
            chosen = self._chosen(name, standard, code, file)
            if chosen is not None:
                found[name] = chosen
                if plain_name(chosen) != plain_name(name):
                    self._became[chosen][name].append(file)
        return found

    def _chosen(self, name: str, standard: str | None, code: str | None, file: str) -> str | None:
        if self.labels is not None:
            found = self._in_labels(name, standard, code)
            if found is None:
                self._stayed[name].append(file)
            return found
        if self.mode == "standard":
            if standard is None and code is None:
                self._stayed[name].append(file)
            # a code may know the side that the name leaves out
            found = code if standard is None or (code or "").startswith(f"{standard}_") else standard
            return self._first.setdefault(plain_name(found or name), found or name)
        if standard is None and code is not None:
            self._coded.setdefault(name, (code, []))[1].append(file)
        return self._first.setdefault(standard or plain_name(name), name)

    def _in_labels(self, name: str, standard: str | None, code: str | None) -> str | None:
        found = self._written.get(plain_name(name))
        for wanted in (standard, code):
            fitting = self._known.get(wanted, []) if wanted is not None else []
            if found is None and len(fitting) == 1:
                found = fitting[0]
        return found

    @cached_property
    def _written(self) -> dict[str, str]:
        """How a label is written -> the label; without the background."""
        return {plain_name(label): label for label, value in (self.labels or {}).items() if value != 0}

    @cached_property
    def _known(self) -> dict[str, list[str]]:
        """Standard name -> the labels that mean it."""
        known: dict[str, list[str]] = defaultdict(list)
        for label in self._written.values():
            if (standard := _standard(label)) is not None:
                known[standard].append(label)
        return known

    def _codes(
        self, header: LabelHeader, known: Mapping[str, str | None], file: str, remarks: Remarks
    ) -> dict[str, str]:
        """Name -> the structure it is coded as, where one code says so of it alone or of what is called so."""
        coded = {name: code for name, codes in header.codes.items() if (code := _of_codes(codes)) is not None}
        sharing: dict[str, list[str]] = defaultdict(list)
        for name, code in coded.items():
            sharing[code].append(name)
        for code, names in sharing.items():
            if len({known[name] or plain_name(name) for name in names}) > 1:
                remarks.add(
                    "files with one code for several structures",
                    f"{file}: {listed(map(repr, names), 3)} are all coded as {code} ({_TYPE}): these codes are ignored",
                )
                coded = {name: other for name, other in coded.items() if other != code}
        return coded

    def report(self, remarks: Remarks) -> None:
        """Say which names became which structure, and which stayed as they are."""
        for chosen, names in sorted(self._became.items()):
            said = listed((f"{name!r} ({_files(files)})" for name, files in sorted(names.items())), MOST)
            # a kind each: all of them are told
            remarks.add(chosen, f"{said} {'is' if len(names) == 1 else 'are'} {chosen!r} here")
        for name, (code, files) in sorted(self._coded.items()):
            remarks.add(
                "names that only a code explains",
                f"{name!r} ({_files(files)}) is coded as {code}; `vocabulary` standard calls it so",
            )
        if self._stayed:
            stayed = [f"{name!r} ({_files(files)})" for name, files in sorted(self._stayed.items())]
            why = "no standard name is known, kept as written" if self.labels is None else "not in `labels`, left out"
            remarks.add("", f"{counted(len(stayed), 'structure')}, {listed(stayed, MOST)}: {why}")


def _files(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)} files, e.g. {files[0]}"


@lru_cache(maxsize=10_000)
def _standard(name: str) -> str | None:
    """The standard name of a structure, or None."""
    try:
        return canonical_name(name) if structure(name) is not None else None
    except InputError:  # of signs alone
        return None


def _of_codes(codes: Sequence[PropertyCode]) -> str | None:
    """What the objects of one name are coded as, if it is one thing."""
    found = {
        structure_of_code(code.scheme, code.value, code.modifier, code.region, code.region_modifier) for code in codes
    }
    return found.pop() if len(found) == 1 else None


def _contradict(named: str, coded: str) -> bool:
    """Whether a name and a code cannot both be right. Both are standard names.

    A lesion may be coded by the organ it is in, or as a neoplasm; a lobe by the lung; a side be left out by either.
    """
    one, other = structure(named), structure(coded)
    if one is None or other is None:
        return False
    (organ, side), (coded_organ, coded_side) = side_of(named), side_of(coded)
    if side and coded_side and side != coded_side:
        return True
    if one.category == CATEGORIES["abnormal"] or one.rt_type in ("GTV", "CTV", "PTV"):
        return False
    return not set(coded_organ.split("_")) <= set(organ.split("_"))
