"""`medsam compare DIR_A DIR_B --out DIR`: is the second evaluation better, by how much, and how sure is that?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsam.evaluation.compare import Comparison

_METRICS = ("dice", "iou", "nsd", "hd95_mm", "assd_mm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam compare`."""
    parser.add_argument("a", type=Path, metavar="DIR_A", help="an evaluation: what `medsam evaluate --out` wrote")
    parser.add_argument(
        "b", type=Path, metavar="DIR_B", help="another one on the same cases, or the same with other models"
    )
    parser.add_argument("--model-a", metavar="NAME", help="model of DIR_A (default: the only one)")
    parser.add_argument("--model-b", metavar="NAME", help="model of DIR_B (default: the only one)")
    parser.add_argument("--prompt", metavar="P", help="prompt of both, such as box+5px (default: each one's first)")
    parser.add_argument("--metric", choices=_METRICS, default="dice", help="what to compare (default: dice)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap (default: 2000)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tables and compare.html")
    parser.add_argument("--json", action="store_true", help="print compare.json on stdout instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Compare, write, report. Raises InputError for everything a user can mend."""
    from medsam.evaluation.compare import compare
    from medsam.evaluation.report import write_comparison

    comparison = compare(
        arguments.a,
        arguments.b,
        model_a=arguments.model_a,
        model_b=arguments.model_b,
        prompt=arguments.prompt,
        metric=arguments.metric,
        seed=arguments.seed,
        resamples=arguments.resamples,
    )
    write_comparison(comparison, arguments.out)
    for warning in comparison.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(comparison.as_dict(), indent=2, allow_nan=False))
    else:
        _print_table(comparison, arguments.out)


def _print_table(comparison: Comparison, out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from medsam.evaluation.compare import cells_of, undefined_words

    # a file or pipe has no width: do not fold the numbers there
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        text = f"{letter}: {side.model}, {side.prompt} ({side.run})"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column(comparison.metric, overflow="fold")
    for heading in ("patients", "pairs", "A", "B", "B - A", "95 % CI", "p", "Holm", "r", "won/tied/lost"):
        table.add_column(heading, justify="right", overflow="fold")
    for name, row in (*comparison.structures.items(), ("overall", comparison.overall)):
        cells = [cell.replace("–", "-").replace(" / ", "/") for cell in cells_of(row, comparison.metric)]
        table.add_row(escape(name), *cells, style="bold" if row is comparison.overall else None)
    console.print(table)
    left_out = [
        f"{len(keys)} {what}"
        for what, keys in (
            ("only in A", comparison.only_in_a),
            ("only in B", comparison.only_in_b),
            (undefined_words(comparison.metric), comparison.undefined),
        )
        if keys
    ]
    if left_out:
        console.print(f"left out: {', '.join(left_out)} (listed in compare.json)", highlight=False)
    if comparison.overall.note:
        console.print(f"no overall p: {comparison.overall.note}", highlight=False)
    console.print(f"wrote {out}", highlight=False, markup=False, soft_wrap=True)
