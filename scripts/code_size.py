"""Sizes of one or several checkouts beside each other: lines, longest files and functions, most branches, hops.

    .venv/bin/python scripts/code_size.py CHECKOUT [CHECKOUT ...] [--top 8] [--hops] [--check]

Lines of a function run from `def` to its end. Branches are counted as McCabe does: if, for, while, except, with a
comprehension's `for` and `if`, `and`/`or`, conditional expressions, and cases of a match. --hops segments a made scan
with the torch engine and counts the calls of medsam from `Predictor.segment` to `MaskDecoder.forward` (torch's own and
nn.Module's are left out). --check exits with 1 when the last checkout exceeds 500 lines a file, 60 lines a function or
15 branches without a reason: a comment with "long:" or "branches:" on one of the lines around `def`.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_LINES, FUNCTION_LINES, BRANCHES = 500, 60, 15
_BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.match_case)


@dataclass(frozen=True)
class Function:
    where: str
    lines: int
    branches: int
    excused: bool


def functions(path: Path, name: str) -> Iterator[Function]:
    """Every function and method of a file; what is nested counts with the function around it and for itself."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()

    def walk(node: ast.AST, prefix: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                branches = 0
                for inner in ast.walk(child):
                    branches += isinstance(inner, _BRANCHES)
                    if isinstance(inner, ast.BoolOp):
                        branches += len(inner.values) - 1
                    elif isinstance(inner, ast.comprehension):
                        branches += len(inner.ifs)
                end = child.end_lineno or child.lineno
                reason = "\n".join(lines[max(0, child.lineno - 3) : child.lineno + 2])
                excused = re.search(r"#.*\b(long|branches):", reason) is not None
                yield Function(f"{name}:{prefix}{child.name}", end - child.lineno + 1, branches, excused)
                yield from walk(child, f"{prefix}{child.name}.")
            elif not isinstance(child, ast.expr):
                yield from walk(child, prefix)

    yield from walk(ast.parse(source), "")


@dataclass(frozen=True)
class Sizes:
    """Of one checkout. files: (name, lines), longest first."""

    files: list[tuple[str, int]]
    functions: list[Function]
    totals: dict[str, tuple[int, int]]


def measure(checkout: Path) -> Sizes:
    files: list[tuple[str, int]] = []
    found: list[Function] = []
    for path in sorted((checkout / "medsam").rglob("*.py")):
        name = path.relative_to(checkout / "medsam").as_posix()
        files.append((name, _lines(path)))
        found += functions(path, name)
    totals = {}
    for folder in ("medsam", "tests", "scripts", "docs"):
        paths = [path for path in (checkout / folder).rglob("*") if path.suffix in {".py", ".md"} and path.is_file()]
        totals[folder] = len(paths), sum(_lines(path) for path in paths)
    return Sizes(sorted(files, key=lambda one: -one[1]), found, totals)


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


_HOPS = """
import traceback
import numpy as np
import torch
import medsam
from medsam.models.mask_decoder import MaskDecoder
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec

seen = []
before = MaskDecoder.forward
def forward(self, *args, **kwargs):
    seen.append([frame for frame in traceback.extract_stack() if "/medsam/" in frame.filename])
    return before(self, *args, **kwargs)
MaskDecoder.forward = forward
torch.manual_seed(0)
sam = Sam.from_spec(tiny_spec())
scan = medsam.Volume.from_array(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
medsam.Predictor(sam, "cpu", engine="torch").segment(scan, medsam.Prompt(box=(10, 10, 40, 40)))
for frame in seen[0]:
    print(frame.filename.split("/medsam/")[-1], frame.name)
"""


def hops(checkout: Path) -> list[str]:
    """`file function` of the calls from `Predictor.segment` to the decoder's `forward`, both included."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-W", "ignore", "-c", _HOPS]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    calls = done.stdout.splitlines()
    return [*calls[next(n for n, call in enumerate(calls) if call.endswith(" segment")) :], "MaskDecoder.forward"]


def too_big(sizes: Sizes) -> list[str]:
    """What is over a limit without a reason beside it."""
    found = [f"{name}: {lines} lines" for name, lines in sizes.files if lines > FILE_LINES]
    return found + [
        f"{one.where}: {one.lines} lines, {one.branches} branches"
        for one in sizes.functions
        if not one.excused and (one.lines > FUNCTION_LINES or one.branches > BRANCHES)
    ]


def table(title: str, rows: list[list[str]], count: int) -> None:
    print(f"\n{title}\n\n" + "| " * count + "|\n" + "|---" * count + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="+", metavar="CHECKOUT")
    parser.add_argument("--top", type=int, default=8)
    parser.add_argument("--hops", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    sides = [measure(path.resolve()) for path in arguments.checkouts]
    count = len(sides)
    for folder in sides[0].totals:
        print(f"{folder}: " + " -> ".join("{} files, {} lines".format(*side.totals[folder]) for side in sides))
    over = [
        (
            sum(lines > FILE_LINES for _, lines in side.files),
            sum(one.lines > FUNCTION_LINES for one in side.functions),
            sum(one.branches > BRANCHES for one in side.functions),
        )
        for side in sides
    ]
    limits = (f"files over {FILE_LINES} lines", f"functions over {FUNCTION_LINES} lines", f"over {BRANCHES} branches")
    for number, title in enumerate(limits):
        print(f"{title}: " + " -> ".join(str(one[number]) for one in over))
    files = [[f"{name} {lines}" for name, lines in side.files[: arguments.top]] for side in sides]
    table("Longest files of medsam/ (lines)", [list(row) for row in zip(*files, strict=True)], count)
    for title, key in (("Longest functions (lines)", "lines"), ("Most branches", "branches")):
        columns = [
            [
                f"{one.where} {getattr(one, key)}"
                for one in sorted(side.functions, key=lambda one: -getattr(one, key))[: arguments.top]
            ]
            for side in sides
        ]
        table(title, [list(row) for row in zip(*columns, strict=True)], count)
    if arguments.hops:
        print("\nFrom Predictor.segment to MaskDecoder.forward")
        for path in arguments.checkouts:
            calls = hops(path.resolve())
            print(f"{len(calls) - 1} calls: " + " -> ".join(calls))
    if arguments.check and (found := too_big(sides[-1])):
        print("\nOver a limit without a reason:\n" + "\n".join(found))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
