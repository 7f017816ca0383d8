"""How large the objects of a reading are, as they are shown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medsam.geometry import SlicePlane
from medsam.masks import CompactMask
from medsam.metrics.structure import Measures, measures
from medsam.store.records import StoredObject
from medsam.transforms.intensity import is_hounsfield
from medsam.volume import Volume

_COLUMNS = (
    "case", "object", "name", "voxels", "volume_ml", "diameter_mm", "slice", "mean", "std", "minimum", "maximum",
    "units",
)  # fmt: skip
# what makes a formula of a cell, in programs that open such a file
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Measured:
    """An object and its measures. units: of the scan's values, where they are known."""

    object: StoredObject
    measures: Measures
    units: str | None


class Measuring:
    """Of one reading: what has not changed is not measured again. For any thread."""

    def __init__(self, scan: Volume, plane: SlicePlane) -> None:
        self._scan, self._plane = scan, plane
        self._known: dict[int, tuple[int, Measures]] = {}
        self._units: tuple[str | None] | None = None

    def of(self, objects: Iterable[tuple[StoredObject, int, Mapping[int, CompactMask]]]) -> list[Measured]:
        """objects: each with the revision and the masks (h, w) that it has by now."""
        if self._units is None:
            stated = "HU" if is_hounsfield(self._scan) else self._scan.units
            # DICOM says so where it says nothing
            self._units = (None if stated == "US" else stated,)
        found = []
        for one, revision, masks in objects:
            known = self._known.get(one.number)
            if known is None or known[0] != revision:
                known = self._known[one.number] = revision, measures(self._scan, self._plane, masks)
            found.append(Measured(one, known[1], self._units[0]))
        return found


def row_of(one: Measured) -> dict[str, object]:
    """An object's measures as they are told."""
    found = one.measures
    diameter, values = found.diameter, found.values
    return {
        "object": one.object.number,
        "name": one.object.name,
        "voxels": found.voxels,
        "volume_ml": found.volume_ml,
        "diameter_mm": None if diameter is None else diameter.mm,
        "slice": None if diameter is None else diameter.slice,
        "mean": None if values is None else values.mean,
        "std": None if values is None else values.std,
        "minimum": None if values is None else values.minimum,
        "maximum": None if values is None else values.maximum,
        "units": one.units,
    }


def ends_of(one: Measured) -> list[list[float]] | None:
    """The ends of the longest diameter as positions of pixels, [x, y] each, whose centres are whole numbers."""
    diameter = one.measures.diameter
    return None if diameter is None else [[x - 0.5, y - 0.5] for x, y in diameter.ends]


def to_csv(case: str, rows: Iterable[Measured]) -> str:
    """A table, a line an object. case: its id; nobody's name."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS)
    table.writeheader()
    for one in rows:
        row = {**row_of(one), "case": case}
        # what people and files say
        table.writerow(row | {column: _no_formula(row[column]) for column in ("name", "units")})
    return text.getvalue()


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
