"""A manifest while a folder is indexed: the cases found so far, and what is to be said of the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medsam.data.label_contents import LabelContents, read_contents
from medsam.data.manifest import Case, Label, Split
from medsam.errors import InputError
from medsam.io.structure_names import plain_name


@dataclass
class Listing:
    name: str
    modality: str | None
    labels: dict[str, int]
    threshold: float | None = None
    unnamed: str = "mask"  # a structure of which neither a name nor a number says what it is
    cases: list[Case] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    contents: dict[Path, LabelContents | InputError] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _known: dict[str, str] = field(default_factory=dict)  # plain name -> the structure it became

    def structure(self, name: str) -> str:
        """A structure that comes by name, as it was first met; it gets a number."""
        plain = plain_name(name)
        if self._known.get(plain) not in self.labels:
            self._known[plain] = next((other for other in self.labels if plain_name(other) == plain), name)
            self.labels.setdefault(self._known[plain], 1 + max(self.labels.values(), default=0))
        return self._known[plain]

    def look(self, path: Path) -> LabelContents:
        """What a label file holds; opened once. Raises InputError."""
        if path not in self.contents:
            try:
                self.contents[path] = read_contents(path, self.threshold)
            except InputError as error:
                self.contents[path] = error
        held = self.contents[path]
        if isinstance(held, InputError):
            raise held
        return held

    def add(
        self,
        path: Path,
        image: Path,
        label: Label | None,
        *,
        patient: str | None = None,
        split: Split | None = None,
        modality: str | None = None,
        series: str | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """path: relative; it becomes the id."""
        base = re.sub(r'[\s\\/:*?"<>|]+', "_", clean_text(path.as_posix())).strip("._") or "case"
        name, count = base, 1
        while name.casefold() in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name.casefold())
        case = Case(
            id=name,
            patient=patient or name,
            image=image,
            label=label,
            split=split,
            modality=self.modality or modality,
            window=None,
            spacing_mm=None,
            labels=self.labels,
            dataset=self.name,
            series=series,
            aliases=dict(aliases or {}),
            patient_stated=patient is not None,
        )
        self.cases.append(case)


def clean_text(name: str) -> str:
    """A name that any file and screen takes, of one with bytes that are no UTF-8."""
    return re.sub("[\udc80-\udcff]", "_", name)
