"""`medsam compare`: evaluations side by side, or two in pairs.

medsam compare DIR...                   one number for each data set, run, model and prompt
medsam compare DIR_A DIR_B --out DIR    is the second better, by how much, and how sure is that?
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.table import print_line, print_table
from medsam.errors import PromptError, counted

if TYPE_CHECKING:
    from medsam.evaluation.compare import Comparison
    from medsam.evaluation.side_by_side import SideBySide

_METRICS = ("dice", "iou", "nsd", "hd95_mm", "assd_mm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam compare`."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="DIR",
        help="evaluations: what `medsam evaluate --out` wrote, on the same cases or with other models. Side by side, "
        "NAME=DIR names one in the table, and NAME=DIR,DIR is one evaluated in parts",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="compare two in pairs: folder for tables, statistics and compare.html"
    )
    parser.add_argument(
        "--prompt",
        nargs="+",
        action="extend",
        metavar="P",
        help="prompts such as box+5px (default: all; in pairs: one, and each one's first)",
    )
    parser.add_argument("--metric", choices=_METRICS, default="dice", help="what to compare (default: dice)")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout instead of a table")
    beside = parser.add_argument_group("side by side")
    beside.add_argument("--by-structure", action="store_true", help="a row for each structure of each data set")
    beside.add_argument("--csv", type=Path, metavar="FILE", help="write the table, a line for each number")
    pairs = parser.add_argument_group("two in pairs, with --out")
    pairs.add_argument("--model-a", metavar="NAME", help="model of the first DIR (default: the only one)")
    pairs.add_argument("--model-b", metavar="NAME", help="model of the second DIR (default: the only one)")
    pairs.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    pairs.add_argument("--resamples", type=int, default=2000, metavar="N", help="of the bootstrap (default: 2000)")


def run(arguments: argparse.Namespace) -> None:
    """Compare, write, report. Raises InputError for everything a user can fix."""
    if arguments.out is None:
        if arguments.model_a or arguments.model_b:
            raise PromptError("--model-a and --model-b are of a comparison in pairs: name its folder with --out.")
        _side_by_side(arguments)
        return
    if len(arguments.runs) != 2:
        raise PromptError(f"--out is for a comparison of two evaluations, not of {len(arguments.runs)}.")
    if arguments.csv or arguments.by_structure:
        raise PromptError("--csv and --by-structure are of evaluations side by side: leave --out out.")
    if len(arguments.prompt or []) > 1:
        raise PromptError("Two evaluations are compared by one --prompt at a time.")
    _in_pairs(arguments)


def _side_by_side(arguments: argparse.Namespace) -> None:
    from medsam.evaluation.side_by_side import side_by_side
    from medsam.files import write_text
    from medsam.io.save import check_target

    runs = _named(arguments.runs)
    if arguments.csv is not None:
        folders = [folder for parts in runs.values() for folder in parts if folder.is_dir()]
        check_target(arguments.csv, [file for folder in folders for file in folder.iterdir() if file.is_file()])
    found = side_by_side(
        runs,
        metric=arguments.metric,
        prompts=arguments.prompt or (),
        by_structure=arguments.by_structure,
    )
    if arguments.csv is not None:
        write_text(arguments.csv, found.as_csv())
    if found.left_out:
        what = counted(found.left_out, "case is", "cases are")
        print(f"Note: {what} not in every run and left out.", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=2, allow_nan=False))
    else:
        _print_side_by_side(found)
        if arguments.csv is not None:
            print(f"wrote {arguments.csv}")


def _named(texts: list[str]) -> dict[str, list[Path]]:
    """Name -> folders, of "DIR", "NAME=DIR" and "NAME=DIR,DIR". Raises PromptError for one name of two runs."""
    found: dict[str, list[Path]] = {}
    for text in texts:
        name, equals, folders = text.partition("=")
        if Path(text).exists() or not equals:
            name, folders, parts = Path(text).resolve().name, text, [Path(text)]
        else:
            parts = [Path(folder) for folder in folders.split(",")]
        if not name:
            raise PromptError(f"{text} names no evaluation: write NAME=DIR.")
        if name in found:
            raise PromptError(f"Two evaluations are called {name}: name them, as in NAME={folders}.")
        found[name] = parts
    return found


def _print_side_by_side(found: SideBySide) -> None:
    words = ["structure"] if any(structure for _, structure in found.rows) else []
    # a line for each word: many columns fit beside each other
    columns = [
        "\n".join(word for word in (one.run, one.model, one.prompt) if word is not None) for one in found.columns
    ]
    gains = [f"gain\n{found.columns[first].model}\n{found.columns[first].prompt}" for first, _ in found.gains]
    named = [((name or "all", structure), values) for (name, structure), values in found.rows.items()]
    several = len({name for name, _ in found.rows}) > 1
    if several:
        named.append((("mean of sets", ""), found.means))
    rows = [(*names[: 1 + len(words)], *_cells(found, values)) for names, values in named]
    print_table((f"{found.metric}: set", *words, *columns, *gains), rows, left=1 + len(words), total=several)
    for one in found.columns:
        if not math.isnan(one.encoder_calls):
            seconds = "" if math.isnan(one.seconds) else f", {one.seconds:.1f} s"
            print_line(f"{one.name}: {one.encoder_calls:.0f} encoder calls{seconds}, {one.prompts} prompts")


def _cells(found: SideBySide, values: Sequence[float]) -> list[str]:
    digits = 2 if found.metric.endswith("_mm") else 3
    gains = [values[second] - values[first] for first, second in found.gains]
    cells = [(value, f"{value:.{digits}f}") for value in values] + [(gain, f"{gain:+.{digits}f}") for gain in gains]
    return ["-" if math.isnan(value) else text for value, text in cells]


def _in_pairs(arguments: argparse.Namespace) -> None:
    from medsam.evaluation.compare import compare
    from medsam.evaluation.report import write_comparison

    comparison = compare(
        *map(Path, arguments.runs),
        model_a=arguments.model_a,
        model_b=arguments.model_b,
        prompt=arguments.prompt[0] if arguments.prompt else None,
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
    from medsam.evaluation.compare import cells_of, undefined_words

    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        print_line(f"{letter}: {side.model}, {side.prompt} ({side.run})")
    rows = [
        (name, *(cell.replace("–", "-").replace(" / ", "/") for cell in cells_of(row, comparison.metric)))
        for name, row in (*comparison.structures.items(), ("overall", comparison.overall))
    ]
    numbers = ("patients", "pairs", "A", "B", "B - A", "95 % CI", "p", "Holm", "r", "won/tied/lost")
    print_table((comparison.metric, *numbers), rows, total=True)
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
        print_line(f"left out: {', '.join(left_out)} (listed in compare.json)")
    if comparison.overall.note:
        print_line(f"no overall p: {comparison.overall.note}")
    print_line(f"wrote {out}")
