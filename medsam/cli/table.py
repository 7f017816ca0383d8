"""Tables and sentences on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Stdout, as wide as the terminal; a file or a pipe takes any width, and there neither names nor numbers are cut.

    Text is shown as it is: the names of files and structures may hold brackets, which rich would take for markup.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else 10_000
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    fold_last: bool = False,
    total: bool = False,
) -> None:
    """Print rows of as many cells as there are headings.

    left: how many columns, the first ones, are words and begin on the left; the others are numbers. fold_last: where
    the terminal is narrow, the last column alone is broken into lines. total: the last row stands out.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="left" if number < left else "right",
            overflow="fold",
            no_wrap=fold_last and number < len(headings) - 1,
        )
    rows = list(rows)
    for row in rows:
        table.add_row(*row, style="bold" if total and row is rows[-1] else None)
    console().print(table)


def print_line(text: str) -> None:
    """Print a sentence as one line, however long."""
    console().print(text, soft_wrap=True)
