"""What `medsam segment` prints of its result: a table of labels, and where to look first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medsam.cli.table import print_line, print_table
from medsam.errors import printable

if TYPE_CHECKING:
    from medsam.inference.segmentation import Segmentation
    from medsam.inference.trust import ExpectedDice


def print_report(report: dict[str, Any], found: Segmentation) -> None:
    """report: as `--json` has it, of `found`."""
    from medsam.inference.trust import doubt_note

    _print_labels(report, found.expected)
    for (name, doubt), slices in found.doubtful.items():
        print_line(printable(doubt_note(name, doubt, slices)))
    seconds = report["seconds"]
    print_line(
        f"window {report['window']['name']}; load {seconds['load']:.2f} s, "
        f"prepare {seconds['prepare']:.2f} s, embed {seconds['embed']:.2f} s, decode {seconds['decode']:.2f} s"
    )
    for path in (report["out"], *report.get("alternatives", []), report["preview"]):
        if path:
            print_line(f"wrote {printable(str(path))}")
    if report["sent"]:
        print_line(f"sent to {report['sent']}")


def _print_labels(report: dict[str, Any], expected: Mapping[str, Sequence[ExpectedDice]]) -> None:
    from medsam.inference.trust import over_slices

    picture = report["scan"]["spacing_mm"] is None
    flat = picture and report["scan"]["shape"][2] == 1
    ranked = any("candidates" in prompt for prompt in report["prompts"])
    # a picture without millimetres has no millilitres either
    headings = ("pixels" if flat else "voxels", *([] if picture else ["ml"]), "slices", "predicted IoU")
    headings += ("expected Dice",) * bool(expected)
    rows = []
    for label in report["labels"]:
        candidates = [p["candidates"] for p in report["prompts"] if p["label"] == label["name"] and "candidates" in p]
        rows.append(
            (
                label["name"],
                str(label["voxels"]),
                *([] if picture else [f"{label['ml']:.2f}"]),
                str(len(label["slices"])),
                "-" if label["predicted_iou"] is None else f"{label['predicted_iou']:.2f}",
                *([over_slices(expected.get(label["name"], ())) or "-"] if expected else []),
                *(f"{sum(rank) / len(rank):.2f}" for rank in zip(*candidates, strict=True)),
            )
        )
    print_table(("label", *headings, *([".1", ".2", ".3"] if ranked else [])), rows)
