"""`medsam annotate status PROJECT`: how a project stands, on one screen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from medsam.cli.table import print_line, print_table
from medsam.errors import counted

_STATES = ("open", "taken", "submitted", "approved", "skipped", "withdrawn")
_STATUSES = ("proposed", "accepted", "edited", "approved", "rejected")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate status`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.status import status_of

    with AnnotationProject.open(arguments.project) as project:
        found = status_of(project)
    if arguments.json:
        print(json.dumps(found, indent=2, default=str))
        return
    sides = ", ".join(
        f"{side} {counted(one['scans'], 'scan')} ({one['labelled']} with a reference)"
        for side, one in found["scans"].items()
    )
    print_line(f"{found['project']}: stage {found['stage']}, order {found['order']!r}; {sides}")
    model = found["model"]
    since = f"of round {model['round']}" if model["round"] else "the one it started with"
    print_line(f"answers: {model['path']}, {since}")
    _counts("tasks", _STATES, found["tasks"])
    _counts("masks", _STATUSES, found["masks"])
    for by in ("reader", "round", "stage"):
        _effort(by, found["effort"][by])
    if found["agreement"]:
        rows = [
            (one["structure"], " and ".join(one["readers"]), f"{one['dice']:.3f}", str(one["scans"]))
            for one in found["agreement"]
        ]
        print_line("")
        print_table(("structure", "readers", "Dice", "scans"), rows, left=2)
    if found["gold"]:
        gold = [(one["reader"], f"{one['dice']:.3f}", str(one["tasks"])) for one in found["gold"]]
        print_line("")
        print_table(("reader", "Dice with references", "gold tasks"), gold)
    _left(found)
    print_line("")
    for sentence in found["next"]:
        print_line(sentence)


def _counts(what: str, columns: tuple[str, ...], table: dict[str, dict[str, int]]) -> None:
    """A row for each kind, without columns in which nothing is."""
    used = [column for column in columns if any(column in row for row in table.values())]
    rows = [(name, *(str(row.get(column, 0)) for column in used)) for name, row in table.items()]
    if used:
        print_line("")
        print_table((what, *used), rows)


def _left(found: dict[str, Any]) -> None:
    """How much of what waits no model has found, and how different it is."""
    missing = [f"{name} on {100 * share:.0f} %" for name, share in found["missing"].items() if share]
    said = []
    if found["stage"] >= 2 and missing:
        said.append(f"not found by the model: {', '.join(missing)} of the scans that wait")
    if found["diversity"] is not None:
        said.append(
            f"what waits is {found['diversity']:.2f} from what is done (1: any two scans), when it was ordered last"
        )
    if said:
        print_line("")
    for sentence in said:
        print_line(sentence)


def _effort(by: str, lines: list[dict[str, Any]]) -> None:
    if not lines:
        return

    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        (
            one["key"],
            str(one["masks"]),
            f"{100 * one['share_untouched']:.0f} %",
            shown(one["clicks_per_mask"], 1),
            str(one["boxes"]),
            str(one["strokes"]),
            shown(one["masks_per_hour"], 0),
        )
        for one in lines
    ]
    print_line("")
    print_table((by, "masks", "untouched", "clicks a mask", "boxes", "strokes", "masks an hour"), rows)
