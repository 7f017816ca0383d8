"""What was done, counted: by action, by reason and by new series. No name, number, date or path of a file is in it.

Files are numbered in the order of their paths, for a file's name is often a patient's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from medsam._version import __version__
from medsam.io.dicom.deidentify.options import Options
from medsam.io.dicom.deidentify.table import EDITION

State = Literal["written", "copied before", "duplicate", "refused", "damaged", "not DICOM", "index of files"]


@dataclass(frozen=True)
class Outcome:
    """One file. why: for a refused or damaged one. series: its new UID; path: where it lies, below the output folder.

    remarks: what a person should look at.
    """

    number: int
    state: State
    why: str = ""
    series: str = ""
    patient: str = ""
    modality: str = ""
    path: str = ""
    actions: Counter[str] = field(default_factory=Counter)
    kept_texts: Counter[str] = field(default_factory=Counter)
    remarks: tuple[str, ...] = ()


@dataclass
class SeriesDone:
    patient: str
    modality: str
    files: int = 0
    remarks: set[str] = field(default_factory=set)


@dataclass
class Report:
    """All files of a run. reasons: why files were left out -> their numbers."""

    files: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    kept_texts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    series: dict[str, SeriesDone] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.files[outcome.state] += 1
        if outcome.state in ("refused", "damaged"):
            self.reasons[outcome.why].append(outcome.number)
        if outcome.state not in ("written", "copied before"):
            return
        self.actions += outcome.actions
        self.kept_texts += outcome.kept_texts
        series = self.series.setdefault(outcome.series, SeriesDone(outcome.patient, outcome.modality))
        series.files += 1
        series.remarks |= set(outcome.remarks)

    @property
    def left_out(self) -> int:
        """How many DICOM files were not copied."""
        return self.files["refused"] + self.files["damaged"]

    def remarks(self) -> dict[str, list[str]]:
        """What a person should look at -> the new UIDs of the series."""
        found: dict[str, list[str]] = defaultdict(list)
        for uid, series in sorted(self.series.items()):
            for remark in sorted(series.remarks):
                found[remark].append(uid)
        return dict(found)


def settings(options: Options, fingerprint: str, masks: str | None) -> dict[str, Any]:
    """What must be the same for a run to be resumed. masks: the digest of the rules."""
    return {
        "program": f"medsam {__version__}",
        "profile": "DICOM PS3.15 Basic Application Level Confidentiality Profile",
        "rules": EDITION,
        "options": [{"code": code, "meaning": meaning} for code, meaning in options.codes()],
        "dates": options.dates,
        "masks": masks,
        "key": fingerprint,
    }


def document(report: Report, run: dict[str, Any], *, complete: bool) -> dict[str, Any]:
    """The report as JSON has it."""
    return {
        "settings": run,
        "complete": complete,
        "files": dict(sorted(report.files.items())),
        "elements": dict(sorted(report.actions.items())),
        "texts_kept": dict(sorted(report.kept_texts.items())),
        "left_out": [{"why": why, "files": numbers} for why, numbers in sorted(report.reasons.items())],
        "look_at": [{"what": what, "series": uids} for what, uids in report.remarks().items()],
        "series": [
            {"uid": uid, "patient": one.patient, "modality": one.modality, "files": one.files}
            for uid, one in sorted(report.series.items())
        ],
    }
