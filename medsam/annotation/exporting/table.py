"""DIR/masks.csv: where every mask comes from, a row each. Readers are numbers, and no patient is in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medsam.annotation.exporting.content import Asked, ScanContent
from medsam.data.manifest import Case
from medsam.files import write_whole
from medsam.store.project_records import Annotation, StoredScan

COLUMNS = (
    *("mask", "scan", "side", "structure", "axis", "slice", "status", "at", "reader", "stage", "parent"),
    *("model", "weights", "clicks", "boxes", "strokes", "seconds", "predicted_iou", "expected_dice", "pixels"),
)


class TableLayout:
    """Provenance alone; no scan is read."""

    def suits(self, scan: StoredScan, case: Case) -> None:
        """Any."""

    def write(self, content: ScanContent, folder: Path) -> dict[str, Any]:
        return {"rows": [_row(content, row) for row in content.rows]}

    def finish(self, parts: Iterable[dict[str, Any]], asked: Asked, folder: Path) -> list[str]:
        with write_whole(folder / "masks.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for part in parts:
                writer.writerows(part["rows"])
        return []


def _row(content: ScanContent, row: Annotation) -> list[Any]:
    scan, maker = content.scan, content.makers[row.id]
    effort = maker.effort
    return [
        *(row.id, scan.name, scan.side, row.structure, row.axis, row.slice, row.status, row.at.isoformat()),
        *(maker.reader, maker.stage, row.parent, maker.model, maker.weights),
        *(effort.clicks, effort.boxes, effort.strokes, effort.seconds, row.predicted_iou, row.expected_dice),
        row.mask.area,
    ]
