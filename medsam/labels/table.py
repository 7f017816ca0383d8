"""The structures this project has a code for, as `structures.csv` beside this module lists them.

One row a structure; where `sides` says "left right" it is three: without a side, left, right. The columns:

  name         canonical, without the side where there are two
  many         of these there may be several in one scan: "lesion_1", "lesion_2"
  category     DICOM's segmented property category: anatomy, tissue, abnormal, object, spatial
  code         the segmented property type in SNOMED CT, with its `meaning` and, where it had one, its `old_code` (SRT)
  modifier     of the type, other than a side: code and meaning
  region       the code of another row: which structure a finding, vessel or device is in
  rgb          0 ... 255; `rgb_left`, `rgb_right` of the sides
  rt_type      RT ROI Interpreted Type, empty where none fits
  source       where code and meaning stand: "pydicom" is the dictionary of pydicom.sr (SCT), "totalsegmentator" the
               SNOMED table in the wheel of TotalSegmentator 2.18.0. Its colours are kept, the other colours are ours.
  synonyms     other spellings, without the side, "_" for spaces; "rk:right" is one that says its side
  also_coded   other SNOMED CT codes that are read as this structure; "80248007:left" as its left

**No code is made up.** A structure that stands in neither source is not in this table, and keeps its name alone.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

LEFT, RIGHT = "left", "right"
_FILE = Path(__file__).with_name("structures.csv")


@dataclass(frozen=True)
class Row:
    """One line of the table. rgb: without side, left, right; the last two are None for a structure without sides."""

    name: str
    sides: bool
    many: bool
    category: str
    code: str
    meaning: str
    old_code: str
    modifier: str
    region: str
    rgb: tuple[tuple[int, int, int] | None, tuple[int, int, int] | None, tuple[int, int, int] | None]
    rt_type: str
    source: str
    synonyms: tuple[tuple[str, str | None], ...]
    also_coded: tuple[tuple[str, str | None], ...]


def _rgb(text: str) -> tuple[int, int, int] | None:
    if not text:
        return None
    red, green, blue = (int(part) for part in text.split())
    return red, green, blue


def _sided(text: str) -> tuple[tuple[str, str | None], ...]:
    """ "rk:right kidneys" -> (("rk", "right"), ("kidneys", None))."""
    parts = (word.partition(":") for word in text.split())
    return tuple((word, side or None) for word, _, side in parts)


@functools.cache
def rows() -> tuple[Row, ...]:
    """The whole table, in the order of the file: by region of the body."""
    with _FILE.open(encoding="ascii", newline="") as lines:
        return tuple(
            Row(
                name=line["name"],
                sides=bool(line["sides"]),
                many=bool(line["many"]),
                category=line["category"],
                code=line["code"],
                meaning=line["meaning"],
                old_code=line["old_code"],
                modifier=line["modifier"],
                region=line["region"],
                rgb=(_rgb(line["rgb"]), _rgb(line["rgb_left"]), _rgb(line["rgb_right"])),
                rt_type=line["rt_type"],
                source=line["source"],
                synonyms=_sided(line["synonyms"]),
                also_coded=_sided(line["also_coded"]),
            )
            for line in csv.DictReader(lines)
        )
