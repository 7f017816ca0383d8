"""`medsam annotate agreement PROJECT`: how far two readers of a scan agree, and where they differ most."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsam.cli.table import print_line, print_table
from medsam.errors import counted
from medsam.progress import progress_bars

# of a table and of a document
_SHOWN, _PLACES = 3, 20
_COLUMNS = ("structure", "reader", "other_reader", "scans", "masks", "dice", "dice_min", "hd95_mm")
_WORST = ("worst_scan", "worst_slice", "worst_dice")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate agreement`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table, a line a structure and two readers")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, with the places")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.agreement import agreement, decisions
    from medsam.annotation.project import AnnotationProject
    from medsam.files import write_text

    with AnnotationProject.open(arguments.project) as project, progress_bars("Scans") as (progress,):
        lines = agreement(project, distances=True, places=_PLACES, progress=progress)
        decided = decisions(project)
    if arguments.csv is not None:
        write_text(arguments.csv, _as_csv(lines))
    if arguments.json:
        print(json.dumps({"agreement": lines, **decided}, indent=2))
        return
    if not lines:
        print_line("No scan was drawn by two readers yet")
        return
    rows = [
        (
            one["structure"],
            " and ".join(one["readers"]),
            str(one["scans"]),
            str(one["masks"]),
            f"{one['dice']:.3f}",
            f"{one['dice_min']:.3f}",
            "-" if one["hd95_mm"] is None else f"{one['hd95_mm']:.1f}",
            ", ".join(f"{at['scan']} {at['slice']} ({at['dice']:.2f})" for at in one["places"][:_SHOWN]),
        )
        for one in lines
    ]
    headings = ("structure", "readers", "scans", "masks", "Dice", "least", "HD95 mm", "scan and slice (Dice)")
    print_table(headings, rows, left=2, fold_last=True)
    if decided["decisions"]:
        print_line("")
        own = f"; {decided['own']} of them by one of the two readers" if decided["own"] else ""
        print_line(f"{counted(decided['decisions'], 'decision')} by reviewers{own}")
    if arguments.csv is not None:
        print_line(f"wrote {arguments.csv}")


def _as_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """The place where the two differ most beside each line."""
    found = io.StringIO()
    writer = csv.writer(found, lineterminator="\n")
    writer.writerow((*_COLUMNS, *_WORST))
    for one in lines:
        worst, (reader, other) = one["places"][0], one["readers"]
        line = {**one, "reader": reader, "other_reader": other}
        writer.writerow([*(line[name] for name in _COLUMNS), worst["scan"], worst["slice"], worst["dice"]])
    return found.getvalue()
