"""Whether a run passed, and its table; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_check.request import PARTS


def passed(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """No comparison is off, and no part that makes some broke. What was left out says nothing either way."""
    broken = any(found.get(part.name, {}).get("status") == "failed" for part in PARTS if part.checks)
    return not broken and all(row.get("passed", True) for part in found.values() for row in part["rows"])


def table(report: Mapping[str, Any]) -> str:
    """The report for people: a table a part."""
    lines = []
    for name, part in report["parts"].items():
        message = f": {part['message']}" if "message" in part else ""
        lines += [f"{name}  [{part['status']}, {part['seconds']:.1f} s]{message}", *_columns(part["rows"]), ""]
    weights = "networks of a few ten thousand weights, no numbers to quote; " if report["quick"] else ""
    verdict = "every comparison made passed" if report["passed"] else "NOT PASSED"
    return "\n".join([*lines, f"{weights}{report['seconds']:.0f} s in all, {verdict}"])


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """One line a row, under the names of all values; what a row does not have is blank."""
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "NO"
        case float():
            return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
