"""What a user may keep, beyond the profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsam.errors import InputError

# what --keep takes -> (code of DICOM PS3.16 CID 7050, its meaning)
KEEP = {
    "dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "patient": ("113108", "Retain Patient Characteristics Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
    "uids": ("113110", "Retain UIDs Option"),
    "descriptors": ("113105", "Clean Descriptors Option"),
    "private": ("113111", "Retain Safe Private Option"),
}
BASIC = ("113100", "Basic Application Confidentiality Profile")
CLEAN_PIXELS = ("113101", "Clean Pixel Data Option")
CLEAN_CONTENT = ("113104", "Clean Structured Content Option")
MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")


@dataclass(frozen=True)
class Options:
    """keep: keys of `KEEP`. shift_dates: by a number of days that is one patient's own. masks: a file of rules, see
    `pixels.read_rules`.
    """

    keep: frozenset[str] = frozenset()
    shift_dates: bool = False
    masks: Path | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(self.keep - KEEP.keys()):
            raise InputError(f"`keep` knows {', '.join(KEEP)}, not {', '.join(unknown)}.", parameter="keep")
        if self.shift_dates and "dates" in self.keep:
            raise InputError(
                "Dates are kept or shifted, not both: leave out `shift_dates`, or dates of `keep`.",
                parameter=("shift_dates", "keep"),
            )

    @property
    def dates(self) -> str:
        """(0028,0303) Longitudinal Temporal Information Modified."""
        return "MODIFIED" if self.shift_dates else "UNMODIFIED" if "dates" in self.keep else "REMOVED"

    def codes(self) -> list[tuple[str, str]]:
        """(code value, meaning) of the profile and of the options that hold for every file."""
        kept = [code for name, code in KEEP.items() if name in self.keep]
        return [BASIC, *kept, *([MODIFIED_DATES] if self.shift_dates else [])]
