"""DIR/README.md: what a data set holds, how it was made, how far it was checked. Readers are numbers, patients counted.

Source of the sections: Gebru et al. 2021, datasheets for datasets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medsam._version import __version__
from medsam.annotation.agreement import agreement
from medsam.annotation.exporting.content import Asked, Maker, ScanContent
from medsam.errors import counted
from medsam.store.project_records import Annotation

_EFFORT = ("clicks", "boxes", "strokes")
_NO_MODEL = "none: drawn by hand, or from elsewhere"
_NO_LICENCE = "**not stated**: whoever passes this on states it"


def marks_of(content: ScanContent) -> dict[str, Any]:
    """What a card counts of a scan, ready for JSON."""
    return {
        "scan": content.scan.name,
        # counted, and in no file as it is
        "patient": hashlib.sha256(content.scan.patient.encode()).hexdigest()[:16],
        "side": content.scan.side,
        "modality": content.scan.modality or content.case.modality or "not stated",
        "masks": [_mark(row, content.makers[row.id]) for row in content.rows],
    }


def _mark(row: Annotation, maker: Maker) -> dict[str, Any]:
    model, digest = maker.model, (maker.weights or "")[:12]
    return {
        "id": row.id,
        "structure": row.structure,
        "status": row.status,
        "reader": maker.reader,
        "stage": maker.stage,
        "model": f"{model} ({digest})" if model and digest else model or _NO_MODEL,
        "effort": {kind: getattr(maker.effort, kind) for kind in _EFFORT},
        "seconds": maker.effort.seconds,
    }


@dataclass
class Card:
    """Counts over scans, added one at a time. remarks: on the layout, as `finish` gave them."""

    asked: Asked
    remarks: Sequence[str] = ()
    patients: set[str] = field(default_factory=set)
    scans: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    by_structure: Counter[str] = field(default_factory=Counter)
    scans_with: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    readers: Counter[int] = field(default_factory=Counter)
    stages: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    effort: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    timed: int = 0
    ids: set[int] = field(default_factory=set)

    def add(self, scan: dict[str, Any]) -> None:
        """What `marks_of` gave."""
        self.patients.add(scan["patient"])
        self.scans[scan["side"]] += 1
        self.modalities[scan["modality"]] += 1
        self.scans_with.update({mark["structure"] for mark in scan["masks"]})
        for mark in scan["masks"]:
            self.by_structure[mark["structure"]] += 1
            self.statuses[mark["status"]] += 1
            self.stages[mark["stage"]] += 1
            self.models[mark["model"]] += 1
            if mark["reader"] is not None:
                self.readers[mark["reader"]] += 1
            self.effort.update(mark["effort"])
            if mark["seconds"] is not None:
                self.seconds, self.timed = self.seconds + mark["seconds"], self.timed + 1
            self.ids.add(mark["id"])

    def text(self) -> str:
        """Markdown."""
        project, request = self.asked.project.asked, self.asked.request
        masks = sum(self.by_structure.values())
        sides = ", ".join(f"{side} {self.scans[side]}" for side in ("train", "val", "test") if self.scans[side])
        lines = [
            f"# {project.name}",
            "",
            f"{counted(masks, 'mask')} of {counted(len(self.by_structure), 'structure')} on slices of "
            f"{counted(self.scans.total(), 'scan')} ({sides}) of {counted(len(self.patients), 'patient')}. "
            f"Layout: {request.layout}. Licence: {request.licence or _NO_LICENCE}.",
            "",
            "## What is in it",
            "",
            *_table(
                ("structure", "masks", "scans"),
                [(name, self.by_structure[name], self.scans_with[name]) for name in self.asked.numbers],
            ),
            "",
            *_table(("modality", "scans"), self.modalities.most_common()),
            "",
            "A patient is on one side of the split alone. Slices without a mask are not known to be empty unless the "
            "whole scan was drawn.",
            "",
            *(line for remark in self.remarks for line in (remark, "")),
            "## How it was made",
            "",
            f"People drew and a model helped, with medsam {__version__}: stage 1 is drawn with help, in stage 2 "
            "confident masks came filled in and were accepted or corrected, in stage 3 the model was left alone.",
            "",
            *_table(("stage", "masks"), sorted(self.stages.items())),
            "",
            *_table(("model", "masks"), self.models.most_common()),
            "",
            *_table(("reader", "masks"), sorted(self.readers.items())),
            "",
            self._effort(),
            "",
            "## How far it was checked",
            "",
            '"accepted": as the model proposed it. "edited": drawn or changed by a person. "approved": a reviewer '
            "agreed.",
            "",
            *_table(("status", "masks"), self.statuses.most_common()),
            "",
            *self._checks(),
            "",
            "## What it is not for",
            "",
            "Not for diagnosis, and not for measuring a model that was trained on any of it. Masks are of single "
            "slices and may jump between them.",
        ]
        return "\n".join(lines) + "\n"

    def _effort(self) -> str:
        said = ", ".join(f"{self.effort[kind]} {kind}" for kind in _EFFORT)
        if not self.timed:
            return f"Effort: {said}."
        return f"Effort: {said}; {self.seconds / self.timed:.1f} s of attention a mask, of {self.timed}."

    def _checks(self) -> list[str]:
        """Audits, and how far people agree on what both of them drew."""
        verdicts = [one for one in self.asked.project.store.verdicts() if one.annotation in self.ids]
        good = sum(one.verdict == "good" for one in verdicts)
        audited = f"Audited: {counted(len(verdicts), 'mask')}, {good} of them found good."
        lines = agreement(self.asked.project)
        rows = []
        for name in self.asked.numbers:
            mine = [line for line in lines if line["structure"] == name]
            if scans := sum(line["scans"] for line in mine):
                dice = sum(line["dice"] * line["scans"] for line in mine) / scans
                rows.append((name, scans, f"{dice:.3f}"))
        return [
            audited if verdicts else "Nothing was audited.",
            "" if rows else "No scan was drawn by two people.",
            *(_table(("structure", "scans that two people drew", "their mean Dice"), rows) if rows else ()),
        ]


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a table; names that would end a cell are shown otherwise."""
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    lines += [" | ".join(str(cell).replace("|", "/") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]
