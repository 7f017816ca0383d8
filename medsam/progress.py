"""Progress of long work, on stderr: stdout belongs to the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# told (done, in all); in all is None while nobody knows
Told = Callable[[int, int | None], None]


@contextmanager
def bars(*names: str) -> Iterator[tuple[Told, ...]]:
    """One bar a name, gone when the work is done; each of what it gives moves one of them.

    Away from a terminal there is nothing: even a bar that goes would leave an empty line behind.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def mover(name: str) -> Told:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield tuple(mover(name) for name in names)


@contextmanager
def status(text: str) -> Iterator[None]:
    """A line that is there while something is being done that nobody can say the length of."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield
